"""A construction in attention kernels that this project did not write."""

import numpy as np
import pytest

import jl_attention as jla
from jl_attention import files
from jl_attention.kernels import multihead_attention, onnx_attention, rounded

LENGTH, DIM = 48, 64
TARGET = jla.targets.row_sparse(LENGTH, 3, max_ratio=3.0, rng=0)
BUILT = jla.construct(TARGET, dim=DIM, rng=0)
ARRAYS = files.arrays(BUILT)
CAUSAL_TARGET = jla.targets.causal_window(LENGTH, 3, max_ratio=3.0, rng=0)
CAUSAL = jla.construct(CAUSAL_TARGET, dim=DIM, rng=0)


def causal_softmax(logits):
    masked = np.where(np.tri(len(logits), dtype=bool), logits, -np.inf)
    weights = np.exp(masked - masked.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def expected_error(built, unit):
    """Return a bound on the error of softmax(Lambda) in arithmetic of the given unit roundoff.

    Rounding Q, K and the stored scores moves a logit by at most about (2 sum |q||k| + |Lambda|)
    unit roundoffs; a probability p(1 - p) <= 1/4 moves by no more than half of that.
    """
    moved = 2 * np.abs(built.queries) @ np.abs(built.keys).T + np.abs(built.logits())
    return unit * moved.max()


# --- Rounding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number_format", "digits"),
    [("float64", 53), ("float32", 24), ("float16", 11), ("bfloat16", 8)],
)
def test_rounding_keeps_the_digits_of_the_format(number_format, digits):
    pytest.importorskip("ml_dtypes")
    values = np.random.default_rng(0).uniform(1, 2, 1000)
    error = np.abs(rounded(values, number_format) - values).max()
    assert error <= 2.0**-digits
    assert number_format == "float64" or error > 2.0 ** -(digits + 1)
    assert rounded(1 + 2.0 ** (1 - digits), number_format) == 1 + 2.0 ** (1 - digits)


def test_unknown_formats_are_refused():
    with pytest.raises(jla.ParameterError, match="number_format='int8'"):
        rounded(np.ones(1), "int8")


# --- ONNX Runtime --------------------------------------------------------------------------------


@pytest.mark.parametrize(("number_format", "unit"), [("float32", 2.0**-24), ("float16", 2.0**-11)])
def test_onnx_runtime_has_the_attention_that_was_built(number_format, unit):
    pytest.importorskip("onnxruntime")
    M = onnx_attention(ARRAYS["Q"], ARRAYS["K"], number_format)
    error = np.abs(M - BUILT.attention()).max()
    assert unit / 100 < error < expected_error(BUILT, unit)
    total_variation = jla.measure(BUILT, TARGET).total_variation
    assert np.abs(M - TARGET.toarray()).max() <= total_variation + error


def test_onnx_runtime_masks_the_future():
    pytest.importorskip("onnxruntime")
    arrays = files.arrays(CAUSAL)
    M = onnx_attention(arrays["Q"], arrays["K"], causal=True)
    assert np.array_equal(np.triu(M, 1), np.zeros_like(M))
    assert np.allclose(M, causal_softmax(CAUSAL.logits()), atol=1e-5)
    assert not np.allclose(M, CAUSAL.attention(), atol=1e-5)


def test_a_wrong_scale_is_seen():
    pytest.importorskip("onnxruntime")
    M = onnx_attention(BUILT.queries, BUILT.keys)  # not Q and K: sqrt(m) is not made up for
    assert np.abs(M - BUILT.attention()).max() > 0.1


def test_what_a_kernel_cannot_take_is_refused():
    pytest.importorskip("onnxruntime")
    with pytest.raises(jla.ParameterError, match="number_format='bfloat16'"):
        onnx_attention(ARRAYS["Q"], ARRAYS["K"], "bfloat16")
    with pytest.raises(jla.ParameterError, match="shape"):
        onnx_attention(ARRAYS["Q"], ARRAYS["K"][1:])
    with pytest.raises(jla.ParameterError, match="not finite in float16"):
        onnx_attention(1e6 * ARRAYS["Q"], ARRAYS["K"], "float16")


# --- PyTorch -------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("name", "unit"), [("float64", 2.0**-53), ("float32", 2.0**-24), ("bfloat16", 2.0**-8)]
)
def test_torch_attention(name, unit, causal):
    torch = pytest.importorskip("torch")
    built = CAUSAL if causal else BUILT
    tensors = built.to_torch(dtype=getattr(torch, name))
    Q, K = (tensors[letter][None, None] for letter in "QK")
    V = torch.eye(LENGTH, dtype=Q.dtype)[None, None]
    M = torch.nn.functional.scaled_dot_product_attention(Q, K, V, is_causal=causal)
    expected = causal_softmax(built.logits()) if causal else built.attention()
    error = np.abs(M[0, 0].double().numpy() - expected).max()
    assert error < expected_error(built, unit)


@pytest.mark.parametrize("causal", [False, True])
def test_torch_module_with_the_fixed_parameters(causal):
    torch = pytest.importorskip("torch")
    built = CAUSAL if causal else BUILT
    module = multihead_attention(built)
    X = built.to_torch()["X"][None]
    mask = torch.triu(torch.ones(LENGTH, LENGTH, dtype=torch.bool), 1) if causal else None
    with torch.no_grad():
        output, M = module(X, X, X, attn_mask=mask, need_weights=True)
    expected = causal_softmax(built.logits()) if causal else built.attention()
    assert np.abs(M[0].numpy() - expected).max() < 1e-12
    assert np.allclose(output[0].numpy(), expected @ built.X, atol=1e-10)


def test_one_torch_module_serves_every_target():
    torch = pytest.importorskip("torch")
    first, second = (multihead_attention(built) for built in (BUILT, CAUSAL))
    assert torch.equal(first.in_proj_weight, second.in_proj_weight)
