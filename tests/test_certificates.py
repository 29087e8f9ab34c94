"""Proofs in exact arithmetic."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import jl_attention as jla
from jl_attention.certificates import prove_feasible, prove_infeasible, radon, solve_exactly
from jl_attention.codes import unit_codes
from jl_attention.methods.margin_solver import ConvexCombination, shortest_queries


def check_exactly(proof, keys, values=None, gap=1):
    """Check a proof with integers of Python only."""
    dim = keys.shape[1]
    pairs = [*zip(proof.weights, proof.competitors, strict=True)]
    pairs += [(-a, j) for a, j in zip(proof.coefficients, proof.support, strict=True)]
    for column in range(dim):
        assert sum(weight * Fraction(keys[j, column]) for weight, j in pairs) == 0
    assert all(u >= 0 for u in proof.weights)
    assert sum(proof.weights) == sum(proof.coefficients) == bool(proof.weights)
    b = [Fraction(0)] * len(proof.support) if values is None else [Fraction(x) for x in values]
    contradiction = sum(proof.weights) * Fraction(gap)
    contradiction += sum(a * (x - min(b)) for a, x in zip(proof.coefficients, b, strict=True))
    assert contradiction == proof.contradiction > 0


@pytest.mark.parametrize("max_ratio", [1.0, 3.0])
def test_infeasible_rows_are_proved(max_ratio):
    B = jla.logits.target_logits(jla.targets.row_sparse(120, 3, max_ratio, rng=0), 1.0)[:30]
    keys = unit_codes(120, 10, 0)
    result = shortest_queries(B, keys)
    assert len(result.infeasible) >= 5
    for row in result.infeasible:
        values = B.data[B.indptr[row] : B.indptr[row + 1]]
        check_exactly(prove_infeasible(result.certificates[row], keys, values), keys, values)


def test_dependent_codes_are_proved():
    keys = np.array([[1.0, 0], [2.0, 0], [3.0, 0], [0, 1.0]])
    values = [1.0, 2.0, 1.0]
    B = sparse.csr_array((values, ([0, 0, 0], [0, 1, 2])), (1, 4))
    proof = prove_infeasible(shortest_queries(B, keys, 1.0).certificates[0], keys, values)
    check_exactly(proof, keys, values)
    assert proof.contradiction == 1


def claim(competitors, support):
    """Return a certificate that names these tokens; its weights are a guess at most."""
    u, a = np.full(len(competitors), 0.5), np.eye(len(support))[0]
    return ConvexCombination(0, np.array(competitors), u, np.array(support), a, 1.0, 0.0)


def test_a_wrong_combination_proves_nothing():
    vertex = np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0], [0.0, -1.0]])
    with pytest.raises(jla.ConstructionError, match="no common point"):
        prove_infeasible(claim([1, 2], [0]), vertex)
    outside = np.array([[3.0], [0.0], [1.0]])  # c_0 = 3 c_2 - 2 c_1: affine, not convex
    with pytest.raises(jla.ConstructionError, match="not convex"):
        prove_infeasible(claim([1, 2], [0]), outside)
    free = np.array([[0.0], [4.0], [1.0], [-1.0]])  # one unknown is free
    check_exactly(prove_infeasible(claim([2, 3], [0, 1]), free), free)
    line = np.array([[0.0], [1.0], [-0.9]])  # c_2 = 1.9 c_0 - 0.9 c_1
    check_exactly(prove_infeasible(claim([2], [0, 1]), line, [0.0, 1.0]), line, [0.0, 1.0])
    with pytest.raises(jla.ConstructionError, match="proves nothing"):  # a query of gap 1 exists
        prove_infeasible(claim([2], [0, 1]), line, [0.0, 1.2])
    with pytest.raises(jla.ParameterError, match="values: 1 of them for a support of 2"):
        prove_infeasible(claim([2, 3], [0, 1]), free, [1.0])


def test_feasible_rows_are_proved():
    B = jla.logits.target_logits(jla.targets.row_sparse(80, 3, rng=0), 1.0)[:6]
    keys = unit_codes(80, 16, 0)
    result = shortest_queries(B, keys)
    assert len(result.found) == 6
    for row in range(6):
        support = B.indices[B.indptr[row] : B.indptr[row + 1]]
        proof = prove_feasible(result.queries[row], keys, support)
        logits = [
            sum(Fraction(x) * y for x, y in zip(key, proof.query, strict=True)) for key in keys
        ]
        assert len({logits[j] for j in support}) == 1
        off = max(logits[j] for j in range(80) if j not in support)
        assert proof.gap == logits[support[0]] - off
        assert abs(proof.gap - 1) < 1e-8


def test_ratios_are_made_exact_or_refused():
    keys = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    proof = prove_feasible([0.9, 1.8], keys, [0, 1], [0.0, 1.0], visible=2)
    assert proof.query[1] - proof.query[0] == 1
    assert proof.gap is None
    with pytest.raises(jla.ConstructionError, match="no query has these ratios"):
        prove_feasible([0.0, 0.0], np.array([[1.0, 0.0], [1.0, 0.0]]), [0, 1], [0.0, 1.0])


@given(st.integers(1, 5), st.integers(0, 2**32))
def test_radon_splits_points_exactly(dim, seed):
    points = np.random.default_rng(seed).standard_normal((dim + 2, dim))
    positive, negative, weights = radon(points)
    assert sorted(positive + negative) == list(range(dim + 2))
    assert sum(weights) == 0
    for column in range(dim):
        assert sum(w * Fraction(x) for w, x in zip(weights, points[:, column], strict=True)) == 0


def test_radon_needs_enough_points():
    with pytest.raises(jla.ParameterError, match="too few"):
        radon([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


def test_exact_systems():
    third = Fraction(1, 3)
    assert solve_exactly([[2, 1], [1, 3]], [Fraction(1), third]) == [
        Fraction(8, 15),
        -Fraction(1, 15),
    ]
    assert solve_exactly([[1, 1], [2, 2]], [Fraction(1), Fraction(1)]) is None
    assert solve_exactly([[1, 1], [2, 2]], [Fraction(1), Fraction(2)], [0, third]) == [
        2 * third,
        third,
    ]
    assert solve_exactly([[0, 1], [1, 0]], [Fraction(5), Fraction(7)]) == [7, 5]


@pytest.mark.parametrize("k", [1, 2])
def test_moment_curve_serves_every_support_and_one_dimension_less_does_not(k):
    n = 2 * k + 1
    angles = 2 * np.pi * np.outer(np.arange(n), np.arange(1, k + 1)) / n
    curve = np.hstack([np.cos(angles), np.sin(angles)])
    supports = [list(s) for size in range(1, k + 1) for s in combinations(range(n), size)]
    B = sparse.csr_array(
        (
            np.ones(sum(map(len, supports))),
            np.concatenate(supports),
            np.cumsum([0, *map(len, supports)]),
        ),
        (len(supports), n),
    )
    result = shortest_queries(B, curve)
    for row, support in enumerate(supports):
        assert prove_feasible(result.queries[row], curve, support).gap > 0
    keys = np.random.default_rng(0).standard_normal((n, 2 * k - 1))
    result = shortest_queries(B, keys)
    small = min(radon(keys)[:2], key=len)
    lost = [row for row, support in enumerate(supports) if set(support) == set(small)]
    assert set(lost) <= set(result.infeasible)
    for row in result.infeasible:
        check_exactly(prove_infeasible(result.certificates[row], keys), keys)
