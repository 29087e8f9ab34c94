"""Theorem T9: the shortest query with exact ratios and a given gap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import null_space
from scipy.optimize import nnls

import jl_attention as jla
from jl_attention.codes import unit_codes
from jl_attention.max_margin import TOLERANCE, max_margin_queries


def distance_to_optimality(query, keys, support, values, gap):
    """Return how far a feasible query is from the conditions of Karush, Kuhn and Tucker.

    The shortest feasible query, and only it, is a combination of the equalities' normals and a
    nonnegative one of those of the constraints that it meets with equality.
    """
    weakest = support[np.argmin(values)]
    off = np.setdiff1d(np.arange(len(keys)), support)
    margins = (keys[weakest] - keys[off]) @ query
    assert margins.min() >= gap * (1 - TOLERANCE)
    equal = keys[support] - keys[weakest]
    np.testing.assert_allclose(equal @ query, values - values.min(), atol=1e-8)
    active = keys[weakest] - keys[off[margins < gap * (1 + 1e-6)]]
    return nnls(np.vstack([equal, -equal, active]).T, query)[1] / np.linalg.norm(query)


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
    assert built.dim >= 2 * row_nnz


def null_direction(keys, support):
    """Return a unit vector that changes none of the logits' differences on the support."""
    return null_space(keys[support] - keys[support[0]])[:, 0]


@pytest.mark.parametrize("seed", range(4))
def test_queries_are_the_shortest(seed):
    target = jla.targets.row_sparse(20, 3, 4.0, rng=seed)
    B = jla.logits.target_logits(target, 2.0)
    keys = unit_codes(20, 10, seed)
    queries, infeasible = max_margin_queries(B, keys)
    feasible = np.setdiff1d(np.arange(20), infeasible)
    assert len(feasible) > 5
    for row in feasible[:6]:
        at = slice(B.indptr[row], B.indptr[row + 1])
        problem = keys, B.indices[at], B.data[at], B.data.min()
        assert distance_to_optimality(queries[row], *problem) < 1e-6
        longer = queries[row] + 0.01 * np.linalg.norm(queries[row]) * null_direction(*problem[:2])
        with pytest.raises(AssertionError):
            assert distance_to_optimality(longer, *problem) < 1e-6


def test_candidates_do_not_change_the_result():
    target = jla.targets.regular(300, 3, 2.0, rng=0)
    B = jla.logits.target_logits(target, 5.0)[:40]
    keys = unit_codes(300, 24, 0)
    queries, infeasible = max_margin_queries(B, keys)
    all_at_once, none = max_margin_queries(B, keys, candidates=300)
    np.testing.assert_array_equal(infeasible, none)
    kept = np.setdiff1d(np.arange(40), infeasible)
    np.testing.assert_allclose(
        np.linalg.norm(queries[kept], axis=1),
        np.linalg.norm(all_at_once[kept], axis=1),
        rtol=1e-6,
    )


def test_long_queries_keep_their_digits():
    angles = 2 * np.pi * np.arange(2000) / 2000
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    B = jla.logits.target_logits(jla.check_target(np.eye(2000)), 1.0)[:64]
    queries, infeasible = max_margin_queries(B, circle)
    assert not len(infeasible)
    exact = 1 / (1 - np.cos(angles[1]))  # about 200 000 gaps
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), exact, rtol=1e-6)


def test_shorter_than_interpolation_with_the_same_gap():
    target = jla.targets.regular(200, 3, 2.0, rng=0)
    shortest = jla.construct(target, "max_margin", leak=0.01, dim=48, rng=0)
    solved = jla.construct(target, leak=0.01, dim=48, logit_scale=shortest.logit_scale, rng=0)
    assert jla.measure(shortest, target).leak <= 0.01 < jla.measure(solved, target).leak


def test_a_point_inside_the_hull_is_reported():
    # Key 0 is the mean of the others: whatever the query, some other logit is as large.
    keys = unit_codes(6, 4, 0)
    keys[0] = keys[1:].mean(axis=0)
    target = jla.check_target(np.eye(6))
    queries, infeasible = max_margin_queries(jla.logits.target_logits(target, 1.0), keys)
    assert 0 in infeasible
    assert np.isnan(queries[infeasible]).all()


def test_infeasible_rows_are_not_returned():
    with pytest.raises(jla.ConstructionError, match=r"row \d+.*no query of dim=3 separates"):
        jla.construct(jla.targets.regular(60, 3, rng=0), "max_margin", dim=3, rng=0)


def test_full_rows_have_nothing_to_separate():
    full = np.array([[0.2, 0.8], [0.6, 0.4]])
    report = jla.measure(jla.construct(full, "max_margin", ratio_error=0.0, rng=0), full)
    assert report.leak == 0
    assert report.ratio_error < 1e-9


def test_the_estimate_is_not_a_theorem():
    # m = 2k ln(L/m): 28.6 at L = 1024, 37.5 at L = 4096, k = 4; and half as much again.
    assert jla.required_dim([1024, 4096], 4, "max_margin").tolist() == [43, 57]
    with pytest.raises(jla.ParameterError, match="no theorem"):
        jla.failure_probability(50, 1024, 4, "max_margin")
