"""The NumPy forward pass of MiniLM."""

import math
from importlib import metadata

import numpy as np
import pytest

from jl_attention_book import datasets, minilm


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
                    [[row[c] for c in part] for row in v],
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
        np.array([[head[part] for head in heads] for heads in layers]) for part in range(4)
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
        return minilm.forward(tensors, np.array([0, 3, 6, 3, 1]), 3)[3][-1]

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
        *heads, attention = minilm.forward(tensors, np.arange(5), 3)
        assert {array.dtype for array in (*heads, attention)} == {np.dtype(dtype)}
        np.testing.assert_allclose(attention.sum(axis=-1), 1, rtol=1e-6)


# --- The model itself, where it is installed ------------------------------------------------------


@pytest.fixture(scope="module")
def weights():
    require_model()
    return minilm.load_weights()


def test_every_text_is_long_enough(weights):
    for text in datasets.load_texts().values():
        token_ids, tokens = minilm.tokenize(text)
        assert len(token_ids) == len(tokens) == minilm.LENGTH
        assert "[UNK]" not in tokens


def test_attention_of_the_model_is_the_softmax_of_its_queries_and_keys(weights):
    token_ids, _ = minilm.tokenize(datasets.load_texts()["weather"], 32)
    queries, keys, _, attention = minilm.forward(weights, token_ids)
    assert queries.shape == keys.shape == (6, 12, 32, 32)
    np.testing.assert_allclose(attention.sum(axis=-1), 1, rtol=1e-5)
    expected = np.exp(np.einsum("lhim,lhjm->lhij", queries, keys, dtype=np.float64) / 32**0.5)
    expected /= expected.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(attention, expected, rtol=1e-4)
