"""Edge logits: the answers are right, and kernels with the known faults are caught."""

import numpy as np
import pytest

import jl_attention as jla
from jl_attention.workloads import backends, edge_case
from jl_attention.workloads.edges import EDGES, TOLERANCE
from jl_attention.workloads.formats import FORMATS, exact_formats


def kernel(case, dtype=np.float32, mask_value=-np.inf, shift=True):
    """Attention as it is often written: scores in `dtype`, a number added where masked."""
    with np.errstate(all="ignore"):
        scores = (case.Q @ case.K.T / np.sqrt(case.Q.shape[1], dtype=np.float32)).astype(dtype)
        scores = scores + np.where(case.mask, 0, mask_value).astype(dtype)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True) if shift else scores)
        weights /= weights.sum(axis=1, keepdims=True)
        return np.nan_to_num(weights) @ case.V.astype(dtype)


@pytest.mark.parametrize("name", EDGES)
def test_inputs_are_exact_and_the_answer_adds_up(name):
    case = edge_case(name)
    assert exact_formats(case.Q, case.K, case.V) == FORMATS
    assert np.array_equal(case.scores, case.Q.astype(float) @ case.K.T.astype(float) / 8)
    sums = case.output.sum(axis=1)
    seen = case.mask.any(axis=1)
    np.testing.assert_allclose(sums, seen.astype(float), rtol=1e-12)
    assert case.error(kernel(case)) <= TOLERANCE["float32"]


def test_answers_by_hand():
    assert edge_case("ties").output == pytest.approx(np.full((4, 64), 1 / 64), rel=1e-12)
    near = edge_case("near_ties").output[0]
    assert near[1] / near[0] == pytest.approx(np.exp(0.125), rel=1e-12)
    for name in ("far_negative", "beyond_half"):
        far = edge_case(name)
        weights = np.exp(-np.arange(4.0))
        expected = np.tile(weights / weights.sum() / 16, 16)
        assert far.output[2] == pytest.approx(expected, rel=1e-9)
    assert edge_case("far_negative").scores.max() == pytest.approx(-51200, rel=1e-12)
    assert edge_case("beyond_half").scores.max() == pytest.approx(-81920, rel=1e-12)
    masked = edge_case("masked_high")
    assert not masked.mask[:, 1::2].any()
    assert masked.output[0] == pytest.approx(np.tile([1 / 32, 0], 32), rel=1e-12)
    assert np.abs(edge_case("all_masked").output[0]).max() < 1e-300
    assert edge_case("sink").output[0, 0] == pytest.approx(1, rel=1e-12)
    many = edge_case("one_against_many", 131_072)
    gap = many.scores[0, 0]
    assert abs(gap - np.log(131_071)) <= 1 / 32
    one = np.exp(gap) / (np.exp(gap) + 131_071)
    assert many.output[0, 0] == pytest.approx(one + (1 - one) * 2047 / 131_071, rel=1e-9)


def test_a_mask_of_minus_ten_thousand_is_caught():
    case = edge_case("masked_high")
    assert case.error(kernel(case, mask_value=-1e4)) > 0.03
    assert case.error(kernel(case, mask_value=-1e4)) > TOLERANCE["float32"]


def test_scores_in_half_precision_are_caught():
    for name in ("near_ties", "far_negative", "beyond_half"):
        case = edge_case(name)
        assert case.error(kernel(case, np.float16)) > TOLERANCE["float16"], name


def test_a_softmax_without_the_shift_is_caught():
    for name in ("far_negative", "sink"):
        case = edge_case(name)
        assert case.error(kernel(case, shift=False)) > TOLERANCE["float32"], name


def test_a_partition_function_in_half_precision_is_caught():
    case = edge_case("one_against_many", 131_072)
    weights = np.exp(case.scores - case.scores.max()).astype(np.float16)
    total = np.add.accumulate(weights, axis=1, dtype=np.float16)[:, -1:]
    assert case.error((weights / total) @ case.V) > TOLERANCE["float16"]


def test_an_output_that_is_not_finite_is_infinitely_wrong():
    case = edge_case("ties")
    assert case.error(np.full((4, 64), np.nan)) == float("inf")
    with pytest.raises(jla.ParameterError, match=r"shape \(4, 63\)"):
        case.error(np.zeros((4, 63)))


@pytest.mark.parametrize("name", EDGES)
def test_onnx_runtime_in_single_precision(name):
    pytest.importorskip("onnxruntime")
    case = edge_case(name)
    output = backends.onnx_runtime("float32", case.Q, case.K, case.V, case.mask)
    assert case.error(output) <= TOLERANCE["float32"]


@pytest.mark.parametrize("backend", ["MATH", "FLASH_ATTENTION"])
@pytest.mark.parametrize("number_format", FORMATS)
def test_pytorch(backend, number_format):
    pytest.importorskip("torch")
    for name in EDGES:
        case = edge_case(name)
        output = backends.torch_sdpa(backend, number_format, case.Q, case.K, case.V, case.mask)
        assert case.error(output) <= TOLERANCE[number_format], name


def test_what_is_installed_is_listed():
    pytest.importorskip("onnxruntime")
    found = backends.installed()
    assert ("ONNX Runtime", "float16") in found
    case = edge_case("ties", 16, 16)
    for (_, number_format), run in found.items():
        assert case.error(run(case.Q, case.K, case.V, case.mask)) <= TOLERANCE[number_format]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cliff"}, "name='cliff'"),
        ({"length": 7}, "length=7"),
        ({"head_dim": 32}, "head_dim=32: must be a power of 4"),
        ({"head_dim": 2}, "head_dim=2"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(jla.ParameterError, match=message):
        edge_case(**{"name": "ties", **arguments})
