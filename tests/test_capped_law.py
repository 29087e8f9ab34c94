"""The exact law of a row without a query at a given logit scale, from both sides."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

import jl_attention as jla
from jl_attention import blocks, patterns
from jl_attention.blocks import BlockSpec
from jl_attention.theory import absorption
from jl_attention.theory.capped import log_no_query, no_query_probability

FALSE_FAILURES = 1e-9
"""How often a test of a true law may fail."""


def agrees(count, draws, probability):
    """Return whether a count of independent events is within the binomial law's 1e-9 tails."""
    low = stats.binom.ppf(FALSE_FAILURES / 2, draws, probability)
    high = stats.binom.isf(FALSE_FAILURES / 2, draws, probability)
    return low <= count <= high


@pytest.mark.parametrize("theta", [0.1, 0.5, 1.0, 3.0])
def test_one_point_on_a_line_is_cauchys_law(theta):
    wanted = 0.5 - math.atan(theta) / math.pi
    assert no_query_probability(1, 1, theta) == pytest.approx(wanted, rel=1e-10)
    # Two points on a line: not both below.
    both = stats.t.cdf(theta, 1)
    assert both > 1 - no_query_probability(2, 1, theta) > both**2


@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_points_on_a_line(n):
    """E[1 - Phi(theta |g|)^n]: there is a query if all points are below the level."""
    theta = 0.7
    nodes, weights = np.polynomial.legendre.leggauss(300)
    g = 6 * (nodes + 1)
    law = (6 * weights * 2 * stats.norm.pdf(g) * stats.norm.cdf(theta * g) ** n).sum()
    assert no_query_probability(n, 1, theta) == pytest.approx(1 - law, rel=1e-9)


def test_fewer_points_than_dimensions_are_never_in_the_way():
    assert no_query_probability([0, 1, 4], 5, 0.01).tolist() == [0, 0, 0]
    assert 0 < no_query_probability(5, 5, 0.01) < 2.0**-4
    assert log_no_query(500, 125, 0.3) < -60


@given(st.integers(1, 12), st.integers(1, 60), st.floats(0.05, 3))
@settings(max_examples=40)
def test_it_is_a_probability_that_grows_with_the_others(nu, n, theta):
    p = no_query_probability([n, n + 3, n], [nu, nu, nu + 1], theta)
    assert (p >= 0).all()
    assert (p <= 1).all()
    assert p[2] <= p[0] * (1 + 1e-9) + 1e-15
    assert p[0] <= p[1] * (1 + 1e-9) + 1e-15
    assert no_query_probability(n, nu, theta * 1.3) <= p[0] * (1 + 1e-9) + 1e-15
    # At most Student's law for each of them, which is what T3 fails by.
    assert p[0] <= n * stats.t.sf(theta * math.sqrt(nu), nu) * (1 + 1e-9)


@pytest.mark.parametrize(("dim", "length", "row_nnz"), [(20, 256, 2), (28, 256, 4), (52, 1024, 4)])
def test_at_a_large_scale_it_is_the_law_of_max_margin_queries(dim, length, row_nnz):
    free = absorption.infeasible_probability(dim, length, row_nnz)
    pinned = no_query_probability(length - row_nnz, dim - row_nnz + 1, row_nnz**-0.5)
    assert pinned == pytest.approx(free, rel=1e-6)


@pytest.mark.parametrize(
    ("n", "nu", "theta"), [(3, 3, 0.3), (5, 3, 0.3), (9, 6, 0.1), (12, 4, 0.5), (30, 8, 0.3)]
)
def test_the_law_is_what_points_do(n, nu, theta):
    rng = np.random.default_rng(n)
    draws, count = 3000, 0
    for _ in range(draws):
        points, g = rng.standard_normal((n, nu)), rng.standard_normal(nu)
        # A convex combination of the points at or above theta g on the axis of g?
        system = np.column_stack([(points - theta * g).T, -g])
        system = np.vstack([system, np.append(np.ones(n), 0.0)])
        count += optimize.nnls(system, np.append(np.zeros(nu), 1.0))[1] < 1e-9
    assert agrees(count, draws, no_query_probability(n, nu, theta))
    assert not agrees(count, draws, no_query_probability(n, nu + 1, theta))


@pytest.mark.parametrize(("dim", "level"), [(24, 2.0), (16, 6.0)])
def test_rows_without_a_query_follow_it(dim, level):
    """One row a draw of codes, so that draws are independent; weights are not equal."""
    length, draws = 120, 200
    tau = level * math.log(10)
    pattern = patterns.row_sparse(length, 3, max_ratio=5.0, rng=0)
    wanted = jla.logits.target_logits(pattern, tau)[:1]
    theta = (tau - math.log(10)) / np.linalg.norm(wanted.data)
    p = no_query_probability(length - 3, dim - 2, theta)
    assert 0.1 < p < 0.9
    count = 0
    for seed in range(draws):
        codes = np.random.default_rng(seed).standard_normal((length, dim))
        ceiling = np.full((1, length), tau - math.log(10))
        queries, _ = blocks.queries.capped_queries(codes, wanted, lambda rows, c=ceiling: c.copy())
        count += np.isnan(queries[0, 0])
    assert agrees(count, draws, p)


def test_what_a_block_expects():
    spec = BlockSpec(100, 1, 1, 48)
    window = patterns.causal_window(160, 3)
    scale = 3 * math.log(100)
    by_hand = sum(
        no_query_probability(
            row + 1 - min(row + 1, 3),
            16 - min(row + 1, 3) + 1,
            (scale - math.log(100) - 0.01) / (scale * math.sqrt(min(row + 1, 3))),
        )
        for row in range(4, 160, 8)
    )
    found = blocks.expected_failures(spec, [window], dim=16, logit_scale=scale)
    assert 8 * by_hand <= found <= 8 * by_hand * 1.6
    both = [window, window]
    twice = blocks.expected_failures(BlockSpec(200, 2, 1, 48), both, dim=16, logit_scale=scale)
    assert twice == pytest.approx(2 * found, rel=1e-12)
    assert blocks.expected_failures(spec, [window]) < 1e-3  # dim 48 and any scale
    assert blocks.expected_failures(spec, [window], dim=2) > 150  # fewer than the support
    capped = BlockSpec(100, 1, 1, 48, softcap=20.0)
    assert blocks.expected_failures(capped, [window], dim=16, logit_scale=scale) > found
    with pytest.raises(jla.ConstructionError, match="wants token"):
        blocks.expected_failures(spec, [patterns.banded(160, 1)])


@pytest.mark.parametrize("bad", [(-1, 1, 1.0), (1, 0, 1.0), (1, 1, 0.0), (1.5, 1, 1.0)])
def test_bad_arguments_are_refused(bad):
    with pytest.raises(jla.ParameterError):
        no_query_probability(*bad)
