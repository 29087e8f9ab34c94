"""T8's joint bound against brute force over rows, its inverse, and the outputs."""

import numpy as np
import pytest
from conftest import sparse_targets
from hypothesis import given
from hypothesis import strategies as st

import jl_attention as jla
from jl_attention.errors import ParameterError
from jl_attention.theory import total_variation as tv


def two_point(c, s):
    """Return the largest total variation of a row that takes two values, over a fine grid."""
    u = np.linspace(1 / c, 1, 400_001)
    weight = (c * u - 1) / (u * (c - 1))
    return (weight * np.maximum(1 - s * u, 0) + (1 - weight) * np.maximum(1 - s * c * u, 0)).max()


@pytest.mark.parametrize("ratio_error", [1e-3, 0.1, 0.5, 3.0, 100.0])
@pytest.mark.parametrize("off_mass", [0.0, 1e-3, 0.09, 0.4, 2.9, 50.0])
def test_the_joint_bound_is_the_extremal_row(ratio_error, off_mass):
    extremal = two_point(1 + ratio_error, 1 / (1 + off_mass))
    assert tv.joint_bound(ratio_error, off_mass) == pytest.approx(extremal, rel=1e-6)


def test_the_joint_bound_is_a_known_number():
    # c = 4, s = 1: (2-1)^2/3. c = 4, s = 1/4: 1 - s, from either side. c = 2.25, s = 1/1.21.
    assert tv.joint_bound(3.0, 0.0) == pytest.approx(1 / 3)
    assert tv.joint_bound(3.0, 3.0) == pytest.approx(3 / 4)
    assert tv.joint_bound(3.0, 3.0 - 1e-9) == pytest.approx(3 / 4)
    assert tv.joint_bound(1.25, 0.21) == pytest.approx((1.5 - 1 / 1.1) ** 2 / 1.25)
    assert tv.joint_bound(0.0, 0.25) == pytest.approx(0.2)
    assert tv.joint_bound(1e-12, 0.0) == pytest.approx(2.5e-13)


@given(st.floats(0, 1e3), st.floats(0, 1e3))
def test_the_joint_bound_lies_between_its_parts_and_their_sum(ratio_error, off_mass):
    ratios, leak = tv.joint_bound(ratio_error, 0.0), tv.joint_bound(0.0, off_mass)
    both = tv.joint_bound(ratio_error, off_mass)
    assert max(ratios, leak) * (1 - 1e-9) <= both <= (ratios + leak) * (1 + 1e-9) + 1e-15
    if off_mass >= ratio_error:
        assert both == pytest.approx(leak)


@given(sparse_targets(), st.floats(0.01, 3.0), st.floats(1e-4, 0.9), st.integers(0, 2**32 - 1))
def test_no_matrix_of_this_precision_is_further_away(target, ratio_error, leak, seed):
    """Random and extreme matrices M with (P1) and (P2), the leak used up everywhere."""
    rng = np.random.default_rng(seed)
    A = target.toarray()
    for extreme in (False, True):
        factors = rng.uniform(0, 1, A.shape)
        factors = np.round(factors) if extreme else factors
        M = A * (1 + ratio_error) ** factors
        smallest = np.where(A > 0, M, np.inf).min(axis=1, keepdims=True)
        M = np.where(A > 0, M, leak * smallest)
        M /= M.sum(axis=1, keepdims=True)
        distance = abs(M - A).sum(axis=1) / 2
        assert (distance <= tv.total_variation_bound(target, ratio_error, leak) + 1e-12).all()


def test_a_uniform_row_attains_the_bound_when_the_leak_is_large():
    # |S| = 2 of L = 4 and leak 0.9: x = 2 * 0.9 * 0.5 = 0.9, more than eps1 = 0.1.
    A = jla.check_target(np.array([[0.5, 0.5, 0, 0]] * 4))
    M = np.array([1, 1, 0.9, 0.9]) / 3.8
    assert tv.total_variation_bound(A, 0.1, 0.9)[0] == pytest.approx(
        abs(M - [0.5, 0.5, 0, 0]).sum() / 2
    )


def test_the_mass_off_the_support_is_bounded_by_the_smallest_weight():
    # eps1 = 0.5, eps2 = 0.2: x = 2 * 0.2 * min(1.5 * 0.1, 1/2) = 0.06; with eps1 = 9, 0.2.
    A = np.tile([0.9, 0.1, 0, 0], (4, 1))
    assert tv.total_variation_bound(A, 0.5, 0.2) == pytest.approx(tv.joint_bound(0.5, 0.06))
    assert tv.total_variation_bound(A, 9.0, 0.2) == pytest.approx(tv.joint_bound(9.0, 0.2))


@given(st.integers(2, 10**6), st.floats(0, 1), st.floats(0.001, 0.99), st.floats(0, 2))
def test_the_leak_asked_for_gives_the_total_variation(length, share, wanted, ratio_error):
    row_nnz = max(1, int(share * (length - 1)))
    floor = tv.joint_bound(ratio_error, 0.0)
    if wanted <= floor:
        with pytest.raises(ParameterError, match="ratio_error"):
            tv.leak_for_total_variation(length, row_nnz, wanted, ratio_error)
        return
    leak = tv.leak_for_total_variation(length, row_nnz, wanted, ratio_error)
    reached = tv.joint_bound(ratio_error, (length - row_nnz) * leak / row_nnz)
    if leak < tv.LARGEST_LEAK:
        assert reached == pytest.approx(wanted, rel=1e-6)
    else:
        assert reached <= wanted * (1 + 1e-9)


def test_the_leak_is_a_known_number():
    # Exact ratios: k t/((L-k)(1-t)) = 4 * 0.01/(1020 * 0.99).
    assert tv.leak_for_total_variation(1024, 4, 0.01) == pytest.approx(3.96118e-5, rel=1e-5)
    # c = 1.21, t = 0.1: sqrt(s) = 1.1 - sqrt(0.021) = 0.955086, x = 1/s - 1 = 0.096267.
    assert tv.leak_for_total_variation(4, 2, 0.1, 0.21) == pytest.approx(0.096267, rel=1e-4)
    # t = 0.5 > 1 - 1/1.21: x = 1, and the leak is capped below 1.
    assert 0.999 < tv.leak_for_total_variation(4, 2, 0.5, 0.21) < 1
    assert tv.leak_for_total_variation(5, 5, 0.5) == tv.LARGEST_LEAK


@given(sparse_targets(), st.floats(0.2, 0.9), st.floats(0, 0.3))
def test_a_target_never_needs_a_smaller_leak_than_its_class(target, wanted, ratio_error):
    least = int(jla.targets.row_counts(target).min())
    leak = tv.leak_for_target(target, wanted, ratio_error)
    of_class = tv.leak_for_total_variation(target.shape[0], least, wanted, ratio_error)
    assert leak >= of_class * (1 - 1e-12)
    bound = tv.total_variation_bound(target, ratio_error, leak)
    assert bound.max() <= wanted * (1 + 1e-9)
    if leak < tv.LARGEST_LEAK:
        assert bound.max() == pytest.approx(wanted, rel=1e-6)


def test_outputs_move_by_at_most_the_range():
    rng = np.random.default_rng(0)
    M, A = rng.dirichlet(np.ones(6), (2, 40))
    V = rng.standard_normal((6, 3)) + [0.0, 1e6, -5.0]
    distance = abs(M - A).sum(axis=1) / 2
    bound = tv.output_error_bound(distance, V)
    assert bound.shape == (40, 3)
    assert (abs(M @ V - A @ V) <= bound * (1 + 1e-6)).all()
    # All mass moved from the smallest to the largest value: attained.
    values = np.array([[1.0], [5.0], [2.0]])
    assert tv.output_error_bound(1.0, values) == pytest.approx([4.0])
    assert tv.output_error_bound(1.0, values + 7) == pytest.approx([4.0])


@pytest.mark.parametrize(
    "call",
    [
        lambda: tv.joint_bound(-0.1, 0.0),
        lambda: tv.joint_bound(0.1, -1.0),
        lambda: tv.leak_for_total_variation(4, 5, 0.1),
        lambda: tv.leak_for_total_variation(4, 2, 1.0),
        lambda: tv.leak_for_total_variation(4, 2, 0.1, -0.5),
        lambda: tv.output_error_bound(1.5, np.eye(2)),
        lambda: tv.output_error_bound(0.5, np.ones(3)),
        lambda: tv.total_variation_bound(np.eye(3), 0.1, -1.0),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(ParameterError):
        call()
