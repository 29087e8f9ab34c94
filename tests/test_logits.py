"""Target logits and tolerances: what a precision leaves for the logits to be wrong by."""

import numpy as np
import pytest
from conftest import sparse_targets
from hypothesis import given
from hypothesis import strategies as st

import jl_attention as jla
from jl_attention import logits, methods


@given(target=sparse_targets(), logit_scale=st.floats(0.1, 50))
def test_target_logits_lie_between_tau_and_beta(target, logit_scale):
    B = logits.target_logits(target, logit_scale)
    gamma = jla.targets.row_ratios(target)
    np.testing.assert_array_equal(B.indices, target.indices)
    assert B.data.min() == logit_scale
    beta = logits.max_logit(logit_scale, gamma.max())
    np.testing.assert_allclose(B.data.max(), beta, rtol=1e-12)
    dense = np.where(target.toarray() > 0, B.toarray(), -np.inf)
    softmax = np.exp(dense - logit_scale)
    softmax /= softmax.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax, target.toarray(), rtol=1e-9)
    norms = np.linalg.norm(B.toarray(), axis=1)
    np.testing.assert_allclose(logits.row_norms(B), norms, rtol=1e-12)


@given(
    target=sparse_targets(),
    ratio_error=st.floats(0.01, 2),
    leak=st.floats(1e-3, 0.9),
    seed=st.integers(0, 2**32),
)
def test_logits_within_delta_meet_the_precision(target, ratio_error, leak, seed):
    # Step 1 of Theorem T1, with the errors at their two extremes.
    tau = logits.smallest_logit_scale(ratio_error, leak)
    delta = logits.logit_tolerance(ratio_error)
    B = logits.target_logits(target, tau).toarray()
    sign = np.random.default_rng(seed).choice([-1, 1], B.shape)
    report = jla.measure(B + delta * sign, target)
    assert report.meets(ratio_error * (1 + 1e-9), leak * (1 + 1e-9))


def test_the_bound_of_step_1_is_attained():
    target = np.array([[0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]])
    tau, delta = logits.smallest_logit_scale(0.3, 0.1), logits.logit_tolerance(0.3)
    B = logits.target_logits(jla.check_target(target), tau).toarray()
    error = delta * np.array([[-1, 1, 1], [1, 1, -1], [1, 1, -1]])
    report = jla.measure(B + error, target)
    np.testing.assert_allclose([report.ratio_error, report.leak], [0.3, 0.1], rtol=1e-12)


def test_split_tolerance_is_delta_at_the_default_scale():
    for method in (methods.SVDProjection(), methods.RowProjection()):
        eps1, eps2, tau = method.precision(0.2, 0.05)
        delta = logits.logit_tolerance(eps1)
        np.testing.assert_allclose(logits.off_support_tolerance(eps1, eps2, tau), delta)
    assert methods.Interpolate().precision(0, 0.01)[2] == pytest.approx(3 * np.log(100))


@pytest.mark.parametrize("scale", [0, -1, 1.01e12, 1e308, np.nan])
def test_logit_scale_must_be_positive_and_leave_the_ratios_digits(scale):
    target = jla.targets.permutation(3)
    for method in jla.methods.METHODS:
        with pytest.raises(jla.ParameterError, match="logit_scale="):
            jla.construct(target, method, ratio_error=0.1, logit_scale=scale)
    with pytest.raises(jla.ParameterError, match="logit_scale="):
        logits.target_logits(target, scale)
