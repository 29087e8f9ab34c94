"""The extract of real attention: its arrays, its promises and the measures computed on it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

import jl_attention as jla
from jl_attention import targets
from jl_attention_book import datasets
from jl_attention_book.datasets import column_use, entries_for_mass, jaccard, top_columns


@pytest.fixture(scope="module")
def minilm():
    return datasets.load_minilm()


def every_stored_head(minilm):
    return [
        (text, layer, head) for text, (layer, head) in itertools.product(minilm.texts, minilm.heads)
    ]


# --- What an attention matrix is like ------------------------------------------------------------


@st.composite
def attention_matrices(draw):
    length = draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return softmax(draw(st.floats(0, 8)) * rng.standard_normal((2, length, length)), axis=-1)


@given(attention_matrices(), st.floats(0.01, 0.99))
def test_entries_for_mass_counts_the_entries_that_a_greedy_loop_takes(stack, mass):
    counts = entries_for_mass(stack, mass)
    assert counts.shape == stack.shape[:2]
    for matrix, expected in zip(stack, counts, strict=True):
        for row, count in zip(matrix, expected, strict=True):
            held = np.cumsum(sorted(row, reverse=True))
            assert held[count - 1] >= mass or count == len(row)
            assert count == 1 or held[count - 2] < mass


def test_entries_for_mass_of_known_rows():
    matrix = np.array([[0.5, 0.25, 0.25, 0], [1, 0, 0, 0], [0.25] * 4, [0, 0, 0.125, 0.875]])
    np.testing.assert_array_equal(entries_for_mass(matrix, 0.75), [2, 1, 3, 1])
    np.testing.assert_array_equal(entries_for_mass(matrix, 0.9), [3, 1, 4, 2])


@pytest.mark.parametrize("mass", [0, 1, -0.1, np.nan, "all"])
def test_entries_for_mass_refuses_a_mass_out_of_range(mass):
    with pytest.raises(jla.ParameterError, match="mass"):
        entries_for_mass(np.eye(2), mass)


def test_top_columns_are_sorted_and_ties_go_to_the_lower_column():
    matrix = np.array([[0.2, 0.3, 0.3, 0.2], [0.1, 0.2, 0.3, 0.4], [0.25] * 4, [0, 0, 1, 0]])
    expected = [[1, 2, 0], [3, 2, 1], [0, 1, 2], [2, 0, 1]]
    np.testing.assert_array_equal(top_columns(matrix, 3), expected)
    for bad in (0, 5):
        with pytest.raises(jla.ParameterError, match="row_nnz"):
            top_columns(matrix, bad)


@given(attention_matrices(), st.integers(1, 9))
def test_supports_agree_with_sets(stack, row_nnz):
    length = stack.shape[-1]
    columns = top_columns(stack, min(row_nnz, length))
    use = column_use(columns)
    overlap = jaccard(columns[0], columns[1])
    supports = [[set(row) for row in matrix.tolist()] for matrix in columns]
    for matrix, counts in zip(supports, use, strict=True):
        assert counts.tolist() == [sum(j in row for row in matrix) for j in range(length)]
    expected = [len(a & b) / len(a | b) for a, b in zip(*supports, strict=True)]
    np.testing.assert_allclose(overlap, expected, rtol=1e-15)


# --- The extract ---------------------------------------------------------------------------------


def test_names_and_shapes(minilm):
    assert minilm.texts == ("story", "biology", "code")
    assert minilm.all_texts[:3] == minilm.texts
    assert minilm.all_texts == tuple(datasets.load_texts())
    assert minilm.length == 128
    assert minilm.heads == ((0, 2), (1, 4), (2, 0), (4, 9), (0, 1))
    for text in minilm.texts:
        tokens = minilm.tokens(text)
        assert len(tokens) == minilm.length
        assert (tokens[0], tokens[-1]) == ("[CLS]", "[SEP]")
    assert minilm.tokens("story")[1:4] == ["the", "lighthouse", "keeper"]


def test_tokens_are_those_of_the_texts(minilm):
    """Wordpieces put together again, without spaces, are the text's beginning in lower case."""
    texts = datasets.load_texts()
    for text in minilm.texts:
        spelled = "".join(token.removeprefix("##") for token in minilm.tokens(text)[1:-1])
        assert "".join(texts[text].lower().split()).startswith(spelled)


@pytest.mark.parametrize(
    ("text", "columns", "values"),
    [
        ("story", [0, 23, 2, 3], [0.420514, 0.20101, 0.0452727, 0.0340607]),
        ("biology", [113, 20, 87, 28], [0.252057, 0.137344, 0.0899674, 0.0373899]),
        ("code", [0, 118, 1, 101], [0.338384, 0.0348151, 0.0267977, 0.017115]),
    ],
)
def test_rows_known_from_pytorch(minilm, text, columns, values):
    """Row 64 of layer 5, head 3, as PyTorch computes it in float32."""
    stored_columns, stored_values = minilm.top_k(text, 5, 3, 4)
    assert stored_columns[64].tolist() == columns
    np.testing.assert_allclose(stored_values[64], values, rtol=2.0**-11 + 1e-5)


def test_attention_is_a_target_and_follows_from_the_logits(minilm):
    for text, layer, head in every_stored_head(minilm):
        attention = minilm.attention(text, layer, head)
        assert attention.dtype == np.float64
        targets.check_target(attention)
        np.testing.assert_allclose(attention.sum(axis=1), 1, rtol=1e-13)
        queries, keys = minilm.queries(text, layer, head), minilm.keys(text, layer, head)
        weights = np.exp(np.einsum("im,jm->ij", queries, keys) / 32**0.5)
        np.testing.assert_allclose(
            attention, weights / weights.sum(axis=1, keepdims=True), rtol=1e-9
        )


def test_queries_and_keys_give_the_stored_entries(minilm):
    """Two independent parts of the file, queries and keys and the largest entries, agree."""
    for text, layer, head in every_stored_head(minilm):
        attention = minilm.attention(text, layer, head)
        columns, values = minilm.top_k(text, layer, head)
        assert np.abs(np.take_along_axis(attention, columns, axis=1) - values).max() < 1e-3
        largest = -np.sort(-attention, axis=1)[:, :8]
        assert np.abs(largest - values).max() < 1e-3


def test_largest_entries_are_sorted_distinct_and_within_the_row(minilm):
    assert (np.diff(minilm.top_value, axis=-1) <= 0).all()
    assert (minilm.top_value >= 0).all()
    assert (minilm.top_value.sum(axis=-1) < 1 + 8 * 2.0**-12).all()
    assert (np.diff(np.sort(minilm.top_column, axis=-1), axis=-1) > 0).all()
    assert minilm.top_column.max() < minilm.length


def test_statistics_follow_from_the_stored_entries(minilm):
    """What the three texts' entries determine of the statistics is what is stored."""
    columns = minilm.top_column[..., :5]
    np.testing.assert_array_equal(column_use(columns).max(axis=-1), minilm.busiest_column[:3])
    held = np.cumsum(minilm.top_value, axis=-1)
    few = np.median((held < 0.9).sum(axis=-1) + 1, axis=-1)
    within = few <= 8
    assert within.sum() >= 30
    np.testing.assert_allclose(few[within], minilm.entries_for_90[:3][within], atol=1)
    for t, (layer, head) in itertools.product(range(3), minilm.heads):
        attention = minilm.attention(minilm.texts[t], layer, head)
        median = np.median(entries_for_mass(attention))
        assert abs(median - minilm.entries_for_90[t, layer, head]) <= 1
        assert abs(attention[:, 0].mean() - minilm.cls_mass[t, layer, head]) < 1e-3


def test_overlap_is_that_of_the_three_stored_texts_but_for_the_other_pairs(minilm):
    """63 of the 66 pairs are not stored; their overlap can only lie between 0 and 1."""
    pairs = itertools.combinations(minilm.top_column[..., :5], 2)
    known = sum(jaccard(a, b).mean(axis=-1) for a, b in pairs)
    rest = (66 * minilm.support_overlap - known) / 63
    assert (rest >= 0).all()
    assert (rest <= 1).all()
    # Rows of a head look alike in all texts or in none, so the few pairs predict the mean.
    assert np.corrcoef(known.ravel(), minilm.support_overlap.ravel())[0, 1] > 0.95


def test_target_holds_the_largest_entries(minilm):
    fewer = 0
    for text, layer, head in itertools.product(minilm.texts, range(6), range(12)):
        for row_nnz in (1, 8):
            columns, values = minilm.top_k(text, layer, head, row_nnz)
            target = minilm.target(text, layer, head, row_nnz)
            counts = targets.row_counts(target)
            np.testing.assert_array_equal(counts, (values > 0).sum(axis=1))
            fewer += (counts < row_nnz).sum()
            expected = values / values.sum(axis=1, keepdims=True)
            kept = np.take_along_axis(target.toarray(), columns, axis=1)
            np.testing.assert_allclose(kept, expected, rtol=1e-14)
    # A few rows have an entry that is zero in half precision: 13 of 27 648.
    assert 0 < fewer == (minilm.top_value[..., 7] == 0).sum()


def test_target_of_a_stored_head_is_the_top_of_its_attention(minilm):
    for text, layer, head in every_stored_head(minilm):
        stored = minilm.target(text, layer, head, 4)
        computed = targets.from_attention(minilm.attention(text, layer, head), 4)
        # Half precision may swap two nearly equal entries; elsewhere the supports are the same.
        same = (stored.toarray() > 0) == (computed.toarray() > 0)
        assert same.all(axis=1).mean() > 0.95


def test_arrays_are_read_only(minilm):
    with pytest.raises(ValueError, match="read-only"):
        minilm.top_value[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        minilm.keys("story", 0, 2)[0] = 0
    with pytest.raises(AttributeError):
        minilm.texts = ()


def test_unknown_names_are_refused_by_name(minilm):
    with pytest.raises(jla.ParameterError, match=r"text='novel'.*'story', 'biology', 'code'"):
        minilm.attention("novel", 0, 2)
    with pytest.raises(jla.ParameterError, match=r"layer=5, head=0.*\(0, 2\)"):
        minilm.attention("story", 5, 0)
    with pytest.raises(jla.ParameterError, match="layer=6"):
        minilm.top_k("story", 6, 0)
    with pytest.raises(jla.ParameterError, match="head=-1"):
        minilm.target("story", 0, -1)
    with pytest.raises(jla.ParameterError, match="row_nnz=9"):
        minilm.top_k("story", 0, 0, 9)
