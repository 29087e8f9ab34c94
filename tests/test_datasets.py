"""The extracts of real attention: their arrays, their promises, and how their parts agree."""

import itertools

import numpy as np
import pytest

import jl_attention as jla
from jl_attention import targets
from jl_attention_book import attention_statistics as stats
from jl_attention_book import datasets

MODELS = {"minilm": datasets.load_minilm(), "smollm2": datasets.load_smollm2()}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]


@pytest.fixture
def minilm():
    return MODELS["minilm"]


@pytest.fixture
def smollm2():
    return MODELS["smollm2"]


def every_stored_head(model):
    return [(text, *head) for text, head in itertools.product(model.texts, model.heads)]


# --- Names, shapes, texts -------------------------------------------------------------------------


def test_names_and_shapes(model):
    layers, heads = model.shape
    rows = model.length - model.first_row
    assert model.length == 128
    assert model.texts == ("story", "biology", "code")
    assert model.all_texts == tuple(datasets.load_texts())
    assert len(model.heads) == 5
    assert all(layer < layers and head < heads for layer, head in model.heads)
    assert model.query.shape == model.key.shape == model.value.shape
    assert model.query.shape[:3] == (3, 5, 128)
    assert model.top_column.shape == (len(model.top_texts), layers, heads, rows, 8)
    assert model.top_column.shape == model.top_value.shape
    assert model.controls.shape == (3, 5, layers, heads)
    assert model.control_name == stats.CONTROLS
    assert model.long_texts == tuple(datasets.load_long_texts())
    assert model.entries_by_length.shape == (2, 2, len(model.lengths), layers, heads)
    own_axes = {"entries": (3,), "column_rows": (2,), "column_mass": (2,)}
    own_axes |= {"dropped": (2,), "output_error": (2,)}
    for name, array in model.statistics.items():
        assert array.shape == (12, *own_axes.get(name, ()), layers, heads), name


def test_each_model_is_what_the_book_says(minilm, smollm2):
    assert minilm.name == "all-MiniLM-L6-v2"
    assert (minilm.shape, minilm.query.shape[-1]) == ((6, 12), 32)
    assert (minilm.causal, minilm.first_row) == (False, 0)
    assert minilm.heads == ((0, 2), (1, 4), (2, 0), (4, 9), (0, 1))
    assert minilm.top_texts == minilm.texts
    assert minilm.lengths == (32, 64, 128, 256, 512)
    assert smollm2.name == "SmolLM2-135M-Instruct"
    assert (smollm2.shape, smollm2.query.shape[-1]) == ((30, 9), 64)
    assert (smollm2.causal, smollm2.first_row) == (True, 64)
    assert smollm2.top_texts == ("story",)
    assert smollm2.lengths == (64, 128, 256, 512, 1024)


def test_the_heads_of_smollm2_are_those_of_the_rule(smollm2):
    """The quartiles of the entries that hold 90%, in the mean over texts; ties by position."""
    entries = smollm2.statistic("entries")[:, 1].mean(axis=0).ravel()
    order = np.argsort(entries, kind="stable")
    chosen = [divmod(int(order[269 * quarter // 4]), 9) for quarter in range(5)]
    assert list(smollm2.heads) == chosen


def test_tokens_are_those_of_the_texts(minilm, smollm2):
    """Tokens put together again are the text's beginning: wordpieces in lower case, spaces lost."""
    for text, content in datasets.load_texts().items():
        if text not in minilm.texts:
            continue
        tokens = minilm.tokens(text)
        assert (len(tokens), tokens[0], tokens[-1]) == (128, "[CLS]", "[SEP]")
        spelled = "".join(token.removeprefix("##") for token in tokens[1:-1])
        assert "".join(content.lower().split()).startswith(spelled)
        assert content.startswith("".join(smollm2.tokens(text)))
    assert smollm2.tokens("story")[:4] == ["The", " lighthouse", " keeper", " had"]


def test_the_long_texts_are_long():
    texts = datasets.load_long_texts()
    assert list(texts) == ["bridge", "twelve"]
    assert texts["bridge"].startswith("The old ferry at Marrow Bend")
    assert all(one in texts["twelve"] for one in datasets.load_texts().values())
    assert min(len(text.split()) for text in texts.values()) > 950


# --- Attention ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "columns", "values"),
    [
        ("story", [0, 23, 2, 3], [0.420514, 0.20101, 0.0452727, 0.0340607]),
        ("biology", [113, 20, 87, 28], [0.252057, 0.137344, 0.0899674, 0.0373899]),
        ("code", [0, 118, 1, 101], [0.338384, 0.0348151, 0.0267977, 0.017115]),
    ],
)
def test_rows_known_from_pytorch(minilm, text, columns, values):
    """Row 64 of layer 5, head 3 of MiniLM, as PyTorch computes it in float32."""
    stored_columns, stored_values = minilm.top_k(text, 5, 3, 4)
    assert stored_columns[64].tolist() == columns
    np.testing.assert_allclose(stored_values[64], values, rtol=2.0**-11 + 1e-5)


@pytest.mark.parametrize(
    ("layer", "head", "columns", "values"),
    [
        (7, 2, [18, 0, 28, 58], [0.548849, 0.239994, 0.102987, 0.0533335]),
        (19, 4, [0, 97, 98, 95], [0.256335, 0.152136, 0.130588, 0.106608]),
        (28, 8, [0, 92, 98, 93], [0.759139, 0.0388474, 0.0183904, 0.0178586]),
    ],
)
def test_rows_known_from_transformers(smollm2, layer, head, columns, values):
    """Row 100 of the story, as LlamaForCausalLM computes it with the same weights in float32."""
    stored_columns, stored_values = smollm2.top_k("story", layer, head, 4)
    assert stored_columns[100 - 64].tolist() == columns
    np.testing.assert_allclose(stored_values[100 - 64], values, rtol=2.0**-11 + 1e-4)


def test_attention_is_a_target_and_follows_from_the_logits(model):
    for text, layer, head in every_stored_head(model):
        attention = model.attention(text, layer, head)
        assert attention.dtype == np.float64
        targets.check_target(attention)
        np.testing.assert_allclose(attention.sum(axis=1), 1, rtol=1e-13)
        queries, keys = model.queries(text, layer, head), model.keys(text, layer, head)
        weights = np.exp(np.einsum("im,jm->ij", queries, keys) / queries.shape[1] ** 0.5)
        if model.causal:
            weights = np.tril(weights)
        weights /= weights.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(attention, weights, rtol=1e-9)


def test_queries_and_keys_give_the_stored_entries(model):
    """Two independent parts of the file, queries and keys and the largest entries, agree."""
    for text, (layer, head) in itertools.product(model.top_texts, model.heads):
        attention = model.attention(text, layer, head)[model.first_row :]
        columns, values = model.top_k(text, layer, head)
        assert np.abs(np.take_along_axis(attention, columns, axis=1) - values).max() < 1e-3
        largest = -np.sort(-attention, axis=1)[:, :8]
        assert np.abs(largest - values).max() < 1e-3


def test_largest_entries_are_sorted_distinct_and_within_the_row(model):
    assert (np.diff(model.top_value, axis=-1) <= 0).all()
    assert (model.top_value >= 0).all()
    assert (model.top_value.sum(axis=-1) < 1 + 8 * 2.0**-12).all()
    assert (np.diff(np.sort(model.top_column, axis=-1), axis=-1) > 0).all()
    rows = np.arange(model.first_row, model.length)[:, None]
    last = rows if model.causal else model.length - 1
    assert (model.top_column <= last).all()


# --- Statistics -----------------------------------------------------------------------------------


def test_statistics_follow_from_the_stored_heads(model):
    """What queries, keys and values say of the five heads on three texts is what is recorded."""
    close = {"entries": 1, "entries_rest": 1, "column_rows": 2, "rank": 1}
    for text, (layer, head) in itertools.product(model.texts, model.heads):
        found = stats.head_statistics(
            model.attention(text, layer, head), model.values(text, layer, head), model.first_row
        )
        at = model.all_texts.index(text)
        for name, value in found.items():
            recorded = model.statistic(name)[at][..., layer, head]
            tolerance = close.get(name, 2e-3 * max(1, np.max(recorded)))
            np.testing.assert_allclose(recorded, value, rtol=0, atol=tolerance, err_msg=name)


def test_statistics_follow_from_the_stored_entries(model):
    """What the largest entries of every head say is what is recorded."""
    texts = [model.all_texts.index(text) for text in model.top_texts]
    use = stats.column_use(model.top_column[..., :5], model.length)
    np.testing.assert_array_equal(use.max(axis=-1), model.statistic("column_rows")[texts, 0])
    held = np.cumsum(model.top_value, axis=-1)
    for which, k in enumerate((4, 8)):
        dropped = 1 - held[..., k - 1].mean(axis=-1)
        np.testing.assert_allclose(dropped, model.statistic("dropped")[texts, which], atol=2e-3)
    few = np.median((held < 0.9).sum(axis=-1) + 1, axis=-1)
    within = few <= 8
    assert within.sum() >= 30
    np.testing.assert_allclose(
        few[within], model.statistic("entries")[texts, 1][within], rtol=0, atol=1
    )


def test_overlap_and_variation_are_those_of_the_stored_texts_but_for_the_others(minilm):
    """For each text 9 of 11 pairs are not stored; theirs can only lie between 0 and 1."""
    tops = list(zip(minilm.top_column, minilm.top_value, strict=True))
    for name, known in stats.text_statistics(tops).items():
        rest = (11 * minilm.statistic(name)[:3] - 2 * known) / 9
        assert (rest >= -1e-3).all()
        assert (rest <= 1 + 1e-3).all()
        # Rows of a head look alike in all texts or in none, so the few pairs predict the mean.
        recorded = minilm.statistic(name)[:3].mean(axis=0).ravel()
        assert np.corrcoef(known.mean(axis=0).ravel(), recorded)[0, 1] > 0.95


def test_controls_follow_from_the_stored_keys(model):
    """The deterministic ones: own keys, and those of another text (for a text, the one before)."""
    for t, (h, (layer, head)) in itertools.product(range(3), enumerate(model.heads)):
        M = model.attention(model.texts[t], layer, head)
        target = targets.from_attention(M, 8)
        sets = stats.control_keys(model.key[t, h], model.key[t - 1, h], rng=0)
        for c, name in enumerate(("own", "other text")):
            found = stats.best_distance(
                target, M, sets[name], first_row=model.first_row, causal=model.causal
            )
            assert found == pytest.approx(model.controls[t, c, layer, head], abs=5e-3)


def test_entries_by_length_are_within_the_rows(model):
    with_first, without = model.entries_by_length[:, 0], model.entries_by_length[:, 1]
    lengths = np.array(model.lengths)[:, None, None]
    assert (with_first >= 1).all()
    assert (with_first <= lengths).all()
    assert (without <= lengths - 1).all()


# --- Targets --------------------------------------------------------------------------------------


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
            np.testing.assert_allclose(kept, expected, rtol=1e-12)
    # A few rows have an entry that is zero in half precision: 13 of 27 648.
    assert 0 < fewer == (minilm.top_value[..., 7] == 0).sum()


def test_target_of_a_stored_head_is_the_top_of_its_attention(model):
    for text, (layer, head) in itertools.product(model.top_texts, model.heads):
        stored = model.target(text, layer, head, 4).toarray()
        computed = targets.from_attention(model.attention(text, layer, head), 4).toarray()
        # Half precision may swap two nearly equal entries; elsewhere the supports are the same.
        same = (stored > 0) == (computed[model.first_row :] > 0)
        assert same.all(axis=1).mean() > 0.95


# --- Errors ---------------------------------------------------------------------------------------


def test_arrays_are_read_only(model):
    with pytest.raises(ValueError, match="read-only"):
        model.top_value[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        model.keys("story", *model.heads[0])[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        model.statistic("rank")[0] = 0
    with pytest.raises(AttributeError):
        model.texts = ()


def test_unknown_names_are_refused_by_name(minilm, smollm2):
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
    with pytest.raises(jla.ParameterError, match=r"text='code'.*'story'"):
        smollm2.top_k("code", 0, 0)
    with pytest.raises(jla.ParameterError, match=r"name='gini'.*'entries'"):
        minilm.statistic("gini")
