"""A construction in attention kernels that this project did not write."""

import dataclasses
import re

import numpy as np
import pytest
from scipy.special import softmax

import jl_attention as jla
from jl_attention import files
from jl_attention.attention import row_blocks
from jl_attention.errors import PrecisionWarning
from jl_attention.interop import formats
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


def test_bfloat16_is_rounded_from_float32_as_hardware_does():
    pytest.importorskip("ml_dtypes")
    # Above the middle of two neighbours by less than float32 sees: to the middle, then to even.
    assert rounded(1 + 2.0**-8 + 2.0**-40, "bfloat16") == 1
    assert rounded(1 + 2.0**-8 + 2.0**-20, "bfloat16") == 1 + 2.0**-7
    assert rounded(1 + 2.0**-11 + 2.0**-40, "float16") == 1 + 2.0**-10


def test_what_is_out_of_range_is_infinite():
    assert rounded(1e5, "float16") == np.inf
    assert rounded(-1e39, "float32") == -np.inf
    assert rounded(65504.0, "float16") == 65504


def test_unknown_formats_are_refused():
    with pytest.raises(jla.ParameterError, match="number_format='int8'"):
        rounded(np.ones(1), "int8")


# --- What a format costs -------------------------------------------------------------------------


def moved_by_hand(built, Q, K):
    before = softmax(built.queries.astype(float) @ built.keys.astype(float).T, axis=1)
    return 0.5 * np.abs(softmax(Q @ K.T / np.sqrt(built.dim), axis=1) - before).sum(axis=1)


@pytest.mark.parametrize("number_format", ["float32", "float16"])
def test_a_format_moves_the_attention_by_what_is_said(number_format, monkeypatch):
    monkeypatch.setattr(
        formats, "row_blocks", lambda rows, columns: row_blocks(rows, columns, 9000)
    )
    Q, K = (rounded(ARRAYS[letter], number_format) for letter in "QK")
    by_row = moved_by_hand(BUILT, Q, K)
    moved, row = formats.attention_moved(BUILT, Q / BUILT.dim**0.25, K / BUILT.dim**0.25)
    assert moved == pytest.approx(by_row.max(), rel=1e-6)
    assert row == np.argmax(by_row)
    unit = {"float32": 2.0**-24, "float16": 2.0**-11}[number_format]
    assert unit / 100 < moved < expected_error(BUILT, unit)
    with pytest.warns(PrecisionWarning, match=f"float9 moves .* row {row} by {moved:.3g} in"):
        formats.check_export(BUILT, [(Q, K)], "float9", tolerance=0.99 * moved)
    formats.check_export(BUILT, [(Q, K)], "float9", tolerance=1.01 * moved)
    formats.check_export(BUILT, [(Q, K)], "float9", "ignore", tolerance=0)
    with pytest.raises(jla.ParameterError, match="more than 0;"):
        formats.check_export(BUILT, [(Q, K)], "float9", "raise", tolerance=0)
    # The worst of several pairs counts.
    exact = ARRAYS["Q"], ARRAYS["K"]
    for pairs in ([exact, (Q, K)], [(Q, K), exact]):
        with pytest.warns(PrecisionWarning):
            formats.check_export(BUILT, pairs, "float9", tolerance=0.99 * moved)


def test_the_tolerance_is_what_was_asked_for():
    for asked in ({"leak": 0.25}, {"total_variation": 0.25}):
        built = jla.construct(TARGET, dim=LENGTH, rng=0, **asked)
        built = dataclasses.replace(built, leak=0.25 if "leak" in asked else 1e-9)
        shifted = built.K.copy()
        shifted[7] += built.Q[3] * 5  # a token that a row sees more of than before
        moved, _ = formats.attention_moved(built, built.queries, shifted / built.dim**0.25)
        assert moved > 0.26
        with pytest.warns(PrecisionWarning, match=r"more than 0\.25;"):
            formats.check_export(built, [(built.Q, shifted)], "float9")
        formats.check_export(built, [(built.Q, built.K)], "float9")


def test_numbers_beyond_a_format_are_refused_whatever_is_asked():
    for name, at in (("Q", 0), ("K", 1)):
        pair = [ARRAYS["Q"].copy(), ARRAYS["K"].copy()]
        pair[at][5, 2] = np.inf
        with pytest.raises(jla.ParameterError, match=f"float9: {name}: row 5: beyond the range"):
            formats.check_export(BUILT, [tuple(pair)], "float9", "ignore")
    with pytest.raises(jla.ParameterError, match="on_loss='shout'"):
        formats.check_export(BUILT, [], "float9", "shout")


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
    tensors = built.to_torch(dtype=getattr(torch, name), on_loss="ignore")
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


def test_an_export_is_measured_again():
    torch = pytest.importorskip("torch")
    target = jla.targets.causal_window(64, 3, max_ratio=4.0, rng=0)
    built = jla.construct(target, "moment_curve")
    built.to_torch()
    built.to_torch(dtype=torch.float64)
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.warns(PrecisionWarning, match=rf"{dtype} moves the attention of row \d+ by"):
            tensors = built.to_torch(dtype=dtype)
        X, W_Q, W_K = (tensors[name].double() for name in ("X", "W_Q", "W_K"))
        logits = ((X @ W_Q).to(dtype).double() @ (X @ W_K).to(dtype).double().T) / built.dim**0.5
        moved = 0.5 * np.abs(softmax(logits.numpy(), axis=1) - built.attention()).sum(axis=1)
        with pytest.raises(jla.ParameterError) as refused:
            built.to_torch(dtype=dtype, on_loss="raise")
        said = float(re.search(r"by (\S+) in total", str(refused.value))[1])
        assert said >= moved.max() * 0.99
        with pytest.warns(PrecisionWarning):
            multihead_attention(built, dtype)
    with pytest.raises(jla.ParameterError, match="float16: Q: row"):
        built.to_torch(dtype=torch.float16, on_loss="ignore")
    with pytest.raises(jla.ParameterError, match="dtype=torch.int32"):
        built.to_torch(dtype=torch.int32)


def test_a_harmless_export_says_nothing():
    torch = pytest.importorskip("torch")
    BUILT.to_torch(dtype=torch.float32)
    multihead_attention(BUILT, torch.float32)
    narrow = jla.construct(TARGET, dim=DIM, rng=0, dtype=np.float32)
    narrow.to_torch(dtype=torch.float32, on_loss="raise", tolerance=0)
