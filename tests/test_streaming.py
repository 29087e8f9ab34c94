"""A streaming head agrees with the batch construction and never changes what it said."""

import numpy as np
import pytest

import jl_attention as jla
from jl_attention.concentration import student_tail
from jl_attention.logits import row_norms, target_logits
from jl_attention.methods import Interpolate
from jl_attention.streaming import StreamingHead


def stream(target, head):
    """Append the rows of a causal target; return what the head said, row by row."""
    rows = (target[[i]] for i in range(target.shape[0]))
    return [head.append(row.indices, row.data) for row in rows]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_streaming_is_the_batch_construction(dtype):
    target = jla.targets.vertical_slash(90, 2, 3, 4.0, rng=0)
    head = StreamingHead(120, rng=3, dtype=dtype)
    said = stream(target, head)
    built = jla.construct(target, Interpolate("gaussian"), dim=120, rng=3, dtype=dtype)
    np.testing.assert_array_equal(head.keys, built.keys)
    tolerance = {np.float64: 1e-10, np.float32: 1e-5}[dtype]
    np.testing.assert_allclose(head.queries, built.queries, rtol=0, atol=tolerance)
    np.testing.assert_allclose(head.target().toarray(), target.toarray(), atol=1e-15)
    logits = np.where(np.tri(90, dtype=bool), built.logits(), -np.inf)
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    for row, attention in enumerate(said):
        np.testing.assert_allclose(attention, expected[row, : row + 1], atol=1e-5)


def test_what_was_said_stays_bit_for_bit():
    target = jla.targets.causal_window(300, 4, 3.0, rng=0)
    head = StreamingHead(150, leak=0.05, rng=0)
    said, held = [], {}
    for row in range(300):  # past several reallocations
        said.append(head.append(target[[row]].indices, target[[row]].data))
        if row in (10, 63, 64, 200):
            held[row] = head.keys, head.queries, head.keys.copy(), head.queries.copy()
    for row, (keys, queries, keys_then, queries_then) in held.items():
        for now, then in ((keys, keys_then), (queries, queries_then)):
            np.testing.assert_array_equal(now, then)
        np.testing.assert_array_equal(head.keys[: row + 1], keys_then)
        np.testing.assert_array_equal(head.queries[: row + 1], queries_then)
    for row, attention in enumerate(said):
        np.testing.assert_array_equal(head.attention(row), attention)


def test_the_future_does_not_matter():
    # Two streams that part at row 50 have said the same until then.
    one, other = StreamingHead(60, rng=1), StreamingHead(60, rng=1)
    first = stream(jla.targets.causal_window(50, 3, rng=0), one)
    again = stream(jla.targets.causal_window(50, 3, rng=0), other)
    one.append([50])
    other.append([0, 7, 12], [1, 2, 3])
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.keys[:50], other.keys[:50])


def test_the_head_keeps_its_own_account():
    # eta = 1e-9 over all rows; the measured leak is that of the rows it said.
    target = jla.targets.causal_window(200, 3, 2.0, rng=0)
    dim = jla.required_dim(200, 3, max_ratio=2.0, leak=0.1, failure_prob=1e-9)
    head = StreamingHead(dim, leak=0.1, rng=0)
    worst = 0.0
    for row, attention in enumerate(stream(target, head)):
        support = target[[row]].indices
        off = np.delete(attention, support)
        worst = max(worst, off.max(initial=0) / attention[support].min())
    assert head.measured_leak == pytest.approx(worst, rel=1e-9)
    assert head.measured_leak <= 0.1
    assert 0 < head.expected_violations <= 1e-9


def test_expected_violations_sums_the_student_tails():
    target = jla.targets.causal_window(40, 3, 5.0, rng=0)
    head = StreamingHead(20, leak=0.2, rng=0)
    stream(target, head)
    counts = jla.targets.row_counts(target)
    norms = row_norms(target_logits(target, head.logit_scale))
    tails = student_tail(20 - counts + 1, 2 * np.log(5) / norms)
    expected = ((np.arange(1, 41) - counts) * tails).sum()
    assert head.expected_violations == pytest.approx(expected)


def test_only_ratios_of_weights_matter_and_order_does_not():
    one, other = StreamingHead(20, rng=0), StreamingHead(20, rng=0)
    for head in (one, other):
        head.append([0])
        head.append([1])
    a = one.append([2, 0], [3, 1])
    b = other.append([0, 2], [0.25, 0.75])
    np.testing.assert_allclose(a, b, rtol=1e-14)
    assert a[2] / a[0] == pytest.approx(3)
    assert StreamingHead(20, rng=0).append([0]).tolist() == [1.0]


@pytest.mark.parametrize(
    ("support", "weights", "message"),
    [
        ([], None, "row 3: support: expected a nonempty list"),
        ([4], None, "row 3: support: positions must lie between 0 and 3"),
        ([-1], None, "between 0 and 3"),
        ([1, 1], None, "a position occurs twice"),
        ([0.5], None, "row 3: support"),
        ([[0, 1]], None, "row 3: support"),
        ([0, 1], [1.0], "row 3: weights: expected one number"),
        ([0, 1], ["a", "b"], "row 3: weights: expected one number"),
        ([0, 1], [1.0, 0.0], "row 3: weights: must be positive"),
        ([0, 1], [1.0, np.nan], "row 3: weights: must be positive"),
        ([0, 1], [1e300, 5e-324], "row 3: weights: must be positive"),
    ],
)
def test_bad_rows_are_refused_and_leave_no_trace(support, weights, message):
    head, clean = StreamingHead(10, rng=0), StreamingHead(10, rng=0)
    for token in range(3):
        head.append([token])
        clean.append([token])
    with pytest.raises(jla.TargetError, match=message):
        head.append(support, weights)
    np.testing.assert_array_equal(head.append([3, 0]), clean.append([3, 0]))


def test_a_support_larger_than_dim_is_refused_and_leaves_no_trace():
    head, clean = StreamingHead(3, rng=0), StreamingHead(3, rng=0)
    for token in range(4):
        head.append([token])
        clean.append([token])
    with pytest.raises(jla.ConstructionError, match=r"row 4: .* dim >= 4"):
        head.append([0, 1, 2, 4])
    np.testing.assert_array_equal(head.append([4, 0]), clean.append([4, 0]))
    assert len(head) == 5


def test_views_are_read_only_and_arguments_checked():
    head = StreamingHead(4, leak=0.2, rng=0)
    head.append([0])
    with pytest.raises(ValueError, match="read-only"):
        head.keys[0] = 0
    with pytest.raises(jla.ParameterError, match="row=1"):
        head.logits(1)
    with pytest.raises(jla.ParameterError, match="dim"):
        StreamingHead(0, rng=0)
    with pytest.raises(jla.ParameterError, match="dtype"):
        StreamingHead(4, dtype=np.float16, rng=0)
    with pytest.raises(jla.ParameterError, match="logit_scale"):
        StreamingHead(4, leak=0.01, logit_scale=1.0, rng=0)
    assert (head.dim, len(head)) == (4, 1)
    assert StreamingHead(4, rng=0).target().shape == (0, 0)
