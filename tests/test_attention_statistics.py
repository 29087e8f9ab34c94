"""The measures of real attention, against loops and definitions."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

import jl_attention as jla
from jl_attention import targets
from jl_attention.targets import top_columns
from jl_attention_book import attention_statistics as stats
from jl_attention_book.attention_statistics import (
    column_use,
    entries_for_mass,
    jaccard,
    top_entries,
    top_variation,
)
from jl_attention_book.extracts import Reading

# --- Rows, columns, ranks -------------------------------------------------------------------------


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
    np.testing.assert_allclose(overlap, expected, rtol=1e-12)


def test_columns_that_are_not_rows_are_counted_too():
    np.testing.assert_array_equal(column_use(np.array([[0, 4], [4, 2]]), 5), [1, 0, 1, 0, 2])


@given(attention_matrices(), st.integers(1, 9))
def test_variation_of_the_largest_entries_is_that_of_the_dense_rows(stack, row_nnz):
    row_nnz = min(row_nnz, stack.shape[-1])
    dense = []
    for matrix in stack:
        dense.append(targets.from_attention(matrix, row_nnz).toarray())
    expected = np.abs(dense[0] - dense[1]).sum(axis=1) / 2
    tops = [top_entries(matrix, row_nnz) for matrix in stack]
    np.testing.assert_allclose(top_variation(*tops[0], *tops[1]), expected, rtol=0, atol=1e-12)


def test_the_first_token_is_taken_out():
    matrix = np.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.2, 0.0, 0.8]])
    expected = [[0.5, 0.5], [0.0, 0.0], [0.0, 1.0]]
    np.testing.assert_allclose(stats.without_first_token(matrix), expected, atol=1e-12)


def test_ranks_of_known_matrices():
    rank, stable_rank = stats.ranks(np.array([np.eye(4), np.ones((4, 4)), np.diag([1, 0.5, 0, 0])]))
    np.testing.assert_array_equal(rank, [4, 1, 2])
    np.testing.assert_allclose(stable_rank, [4, 1, 1.25], rtol=1e-12)
    weak = np.diag([1.0, 0.1, 0.001])
    assert [int(stats.ranks(weak, tolerance)[0]) for tolerance in (0.5, 0.01, 1e-4)] == [1, 2, 3]


# --- What the extracts record ---------------------------------------------------------------------


def causal_attention(rng, *stack, length):
    logits = 3 * rng.standard_normal((*stack, length, length))
    return softmax(np.where(np.tri(length, dtype=bool), logits, -np.inf), axis=-1)


@pytest.mark.parametrize("first_row", [1, 7])
def test_head_statistics_agree_with_their_definitions(first_row):
    rng = np.random.default_rng(first_row)
    attention = causal_attention(rng, 2, 3, length=24)
    values = rng.standard_normal((2, 3, 24, 5))
    found = stats.head_statistics(attention, values, first_row)
    for at in np.ndindex(2, 3):
        M, V = attention[at][first_row:], values[at]
        value = {name: np.moveaxis(array, (-2, -1), (0, 1))[at] for name, array in found.items()}
        for p, mass in enumerate((0.8, 0.9, 0.95)):
            assert value["entries"][p] == np.median(entries_for_mass(M, mass))
        rest = M[:, 1:] / M[:, 1:].sum(axis=1, keepdims=True)
        assert value["entries_rest"] == np.median(entries_for_mass(rest, 0.9))
        assert value["first_mass"] == pytest.approx(M[:, 0].mean())
        for which, part in enumerate((M, M[:, 1:])):
            supports = [set(np.argsort(-row, kind="stable")[:5].tolist()) for row in part]
            rows = [sum(j in support for support in supports) for j in range(part.shape[1])]
            assert value["column_rows"][which] == max(rows)
            assert value["column_mass"][which] == pytest.approx(part.mean(axis=0).max())
        for which, k in enumerate((4, 8)):
            kept = np.array([np.where(row >= np.sort(row)[-k], row, 0) for row in M])
            assert value["dropped"][which] == pytest.approx(1 - kept.sum(axis=1).mean())
            A = kept / kept.sum(axis=1, keepdims=True)
            error = np.linalg.norm((A - M) @ V) / np.linalg.norm(M @ V)
            assert value["output_error"][which] == pytest.approx(error)
        sigma = np.linalg.svd(attention[at], compute_uv=False)
        assert value["rank"] == (sigma > 0.01 * sigma[0]).sum()
        assert value["stable_rank"] == pytest.approx((sigma**2).sum() / sigma[0] ** 2)


def test_text_statistics_average_over_the_other_texts():
    rng = np.random.default_rng(0)
    texts = [softmax(2 * rng.standard_normal((2, 3, 10, 20)), axis=-1) for _ in range(4)]
    tops = [top_entries(attention, 8) for attention in texts]
    found = stats.text_statistics(tops)
    for t in range(4):
        others = [top for u, top in enumerate(tops) if u != t]
        overlap = [
            jaccard(tops[t][0][..., :5], other[0][..., :5]).mean(axis=-1) for other in others
        ]
        variation = [top_variation(*tops[t], *other).mean(axis=-1) for other in others]
        np.testing.assert_allclose(found["overlap"][t], np.mean(overlap, axis=0), rtol=1e-12)
        np.testing.assert_allclose(found["variation"][t], np.mean(variation, axis=0), rtol=1e-12)


def test_entries_by_length_reads_the_rows_of_a_shorter_text():
    attention = causal_attention(np.random.default_rng(1), 3, length=32)
    found = stats.entries_by_length(attention, (8, 32))
    assert found.shape == (2, 2, 3)
    for at, length in enumerate((8, 32)):
        rows = attention[:, length // 2 : length, :length]
        np.testing.assert_allclose(rows.sum(axis=-1), 1, rtol=1e-12)
        np.testing.assert_array_equal(found[0, at], np.median(entries_for_mass(rows), axis=-1))
        rest = rows[..., 1:] / rows[..., 1:].sum(axis=-1, keepdims=True)
        np.testing.assert_array_equal(found[1, at], np.median(entries_for_mass(rest), axis=-1))


# --- Keys that know the text, or do not -----------------------------------------------------------


def test_interpolation_distance_is_that_of_a_construction_at_each_scale():
    rng = np.random.default_rng(2)
    attention = causal_attention(rng, length=20)
    keys = rng.standard_normal((20, 12))
    target = targets.from_attention(attention, 3)
    found = stats.interpolation_distance(target, attention, keys, (2.0, 5.0))
    seen = stats.interpolation_distance(
        target, attention, keys, (2.0, 5.0), first_row=4, causal=True
    )
    for scale, distances, causal in zip((2.0, 5.0), found, seen, strict=True):
        built = jla.construct(target, keys=keys, leak=0.5, logit_scale=scale)
        M = built.attention()
        np.testing.assert_allclose(distances, np.abs(M - attention).sum(axis=1) / 2, atol=1e-9)
        M = np.tril(M)
        M /= M.sum(axis=1, keepdims=True)
        expected = np.abs(M - attention).sum(axis=1)[4:] / 2
        np.testing.assert_allclose(causal, expected, atol=1e-9)


def test_control_keys_share_what_they_say():
    rng = np.random.default_rng(3)
    keys = rng.standard_normal((400, 6)) @ rng.standard_normal((6, 6)) + 5
    other = rng.standard_normal((400, 6))
    sets = stats.control_keys(keys, other, rng=1)
    assert tuple(sets) == stats.CONTROLS
    centred = keys - keys.mean(axis=0)
    np.testing.assert_allclose(sets["own"], centred)
    np.testing.assert_allclose(sets["other text"], other - other.mean(axis=0))
    assert sorted(map(tuple, sets["permuted"])) == sorted(map(tuple, centred))
    assert (sets["permuted"] != centred).any(axis=1).mean() > 0.9
    # Sample covariances of 400 Gaussian rows are within 6 standard errors, about 6 sqrt(2/400).
    covariance = np.cov(centred.T)
    half = np.linalg.inv(np.linalg.cholesky(covariance))
    alike = half @ np.cov(sets["same covariance"].T) @ half.T
    np.testing.assert_allclose(alike, np.eye(6), atol=0.45)
    assert np.abs(sets["same covariance"] - centred).max() > 1
    np.testing.assert_allclose(6 * np.cov(sets["random"].T), np.eye(6), atol=0.45)


def test_controls_are_one_distance_a_head():
    rng = np.random.default_rng(4)
    attention = causal_attention(rng, 2, 1, length=16)
    queries, keys, other = rng.standard_normal((3, 2, 1, 16, 9))
    reading = Reading(None, None, queries, keys, None, attention)
    found = stats.control_distances(reading, other, 3, first_row=2, causal=True)
    assert found.shape == (5, 2, 1)
    for layer, c in itertools.product(range(2), range(5)):
        one = stats.control_keys(keys[layer, 0], other[layer, 0], rng=[layer, 0])
        target = targets.from_attention(attention[layer, 0], 3)
        distances = [
            stats.interpolation_distance(
                target, attention[layer, 0], one[stats.CONTROLS[c]], [tau], first_row=2, causal=True
            ).mean()
            for tau in (1, 2, 3, 4, 6, 8, 12, 16)
        ]
        assert found[c, layer, 0] == pytest.approx(min(distances))
