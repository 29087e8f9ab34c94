"""Theorem T9 as a construction: exact ratios, a given gap, and the rows that have no query."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jl_attention as jla
from jl_attention.codes import unit_codes
from jl_attention.max_margin import max_margin, max_margin_queries


@given(
    length=st.integers(4, 30),
    row_nnz=st.integers(1, 3),
    max_ratio=st.floats(1, 10),
    leak=st.floats(1e-3, 0.9),
    seed=st.integers(0, 2**32),
)
def test_ratios_are_exact_and_the_gap_is_met(length, row_nnz, max_ratio, leak, seed):
    target = jla.targets.row_sparse(length, row_nnz, max_ratio, rng=seed)
    built = jla.construct(target, "max_margin", leak=leak, rng=seed)
    report = jla.measure(built, target)
    assert report.ratio_error < 1e-6
    assert report.leak <= leak


def test_the_default_dimension_is_the_laws_and_keeps_every_row():
    target = jla.targets.row_sparse(1024, 4, rng=0)
    assert jla.required_dim(1024, 4, "max_margin") == 52
    built = jla.construct(target, "max_margin", leak=0.01, rng=0)
    assert built.dim == 52
    assert jla.measure(built, target).leak <= 0.01


def test_shorter_than_interpolation_with_the_same_gap():
    target = jla.targets.regular(200, 3, 2.0, rng=0)
    shortest = jla.construct(target, "max_margin", leak=0.01, dim=48)
    solved = jla.construct(target, leak=0.01, dim=48, logit_scale=shortest.logit_scale)
    assert jla.measure(shortest, target).leak <= 0.01 < jla.measure(solved, target).leak


def test_a_point_inside_the_hull_is_reported():
    # Key 0 is the mean of the others: whatever the query, some other logit is as large.
    keys = unit_codes(6, 4, 0)
    keys[0] = keys[1:].mean(axis=0)
    result = jla.methods.MaxMargin().queries(np.eye(6), keys, leak=0.1)
    assert 0 in result.infeasible
    weights = np.zeros(6)
    weights[result.certificates[0].competitors] = result.certificates[0].weights
    np.testing.assert_allclose(weights @ keys, keys[0], atol=1e-12)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1, rel=1e-12)
    queries, missing = max_margin_queries(
        jla.logits.target_logits(jla.check_target(np.eye(6)), 1.0), keys
    )
    np.testing.assert_array_equal(missing, result.infeasible)
    assert np.isnan(queries[missing]).all()


def test_queries_have_the_gap_of_the_leak():
    keys = np.eye(5)
    result = jla.methods.MaxMargin().queries(np.eye(5), keys, leak=0.01)
    logits = result.queries @ keys.T
    gaps = np.diag(logits) - np.where(np.eye(5), -np.inf, logits).max(axis=1)
    assert np.log(100) <= gaps.min() <= gaps.max() <= np.log(100) + 0.011
    causal = np.tril(np.ones((5, 5))) / np.arange(1, 6)[:, None]
    seen = jla.methods.MaxMargin().queries(causal, keys, visible=np.arange(1, 6))
    assert not seen.queries.any()


def test_infeasible_rows_are_not_returned():
    with pytest.raises(jla.ConstructionError, match=r"row \d+, .*no query of dim=3 separates"):
        jla.construct(jla.targets.regular(60, 3, rng=0), "max_margin", dim=3)


def test_full_rows_have_nothing_to_separate():
    full = np.array([[0.2, 0.8], [0.6, 0.4]])
    report = jla.measure(jla.construct(full, "max_margin", ratio_error=0.0), full)
    assert report.leak == 0
    assert report.ratio_error < 1e-9


def test_the_first_names_still_work():
    B = jla.logits.target_logits(jla.targets.regular(40, 2, rng=0), 3.0)
    queries, keys = max_margin(B, 16, rng=0, dtype=np.float32)
    assert queries.dtype == keys.dtype == np.float32
    again, missing = max_margin_queries(B, keys.astype(float))
    assert not len(missing)
    np.testing.assert_allclose(queries, again, rtol=1e-3, atol=1e-3)
