"""The simulations that chapters 7, 8 and 11 share."""

import itertools

import numpy as np
import pytest
from scipy import integrate, stats

from jl_attention_book import interpolation as page


def test_rows_share_nothing_and_follow_student():
    rng = np.random.default_rng(0)
    queries, norms, off = page.independent_rows(4000, 3, 7, rng, others=5)
    assert queries.shape == (4000, 7)
    assert off.shape == (4000, 5)
    assert ((norms > 10 * np.sqrt(3)) & (norms < 12 * np.sqrt(3))).all()
    scaled = np.sqrt(5) * off[:, 2] / norms
    assert stats.ks_1samp(scaled, stats.t(5).cdf).statistic < stats.kstwo.isf(1e-9, 4000)


@pytest.mark.parametrize(("length", "dim"), [(12, 3), (30, 6), (40, 20)])
@pytest.mark.parametrize("unit", [False, True])
def test_the_worst_pair_is_that_of_all_pairs(length, dim, unit):
    codes = np.random.default_rng(length).standard_normal((length, dim))
    if unit:
        codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    worst = -np.inf
    for a, b in itertools.combinations(range(length), 2):
        query = np.linalg.pinv(codes[[a, b]]) @ np.ones(2)
        worst = max(worst, np.delete(codes @ query, [a, b]).max())
    assert page.worst_pair(codes) == pytest.approx(worst, rel=1e-9)


def test_seven_patterns_are_targets():
    for name, target in page.seven_patterns().items():
        assert target.shape == (1024, 1024), name
        np.testing.assert_allclose(target.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("height", "nu", "others"), [(0.5, 20, 1), (0.8, 13, 40), (0.3, 100, 1000)]
)
def test_the_chance_that_a_row_holds(height, nu, others):
    def integrand(x):
        return stats.chi(nu).pdf(x) * stats.norm.cdf(height * x) ** others

    expected = integrate.quad(integrand, 0, 2 * np.sqrt(nu) + 10, limit=200)[0]
    assert page.rows_hold(height, nu, others) == pytest.approx(expected, rel=2e-3)
    one = page.rows_hold([height], nu, 1)[0]
    assert one == pytest.approx(stats.t(nu).cdf(np.sqrt(nu) * height), rel=1e-4)


def test_the_median_of_the_largest():
    x = page.median_largest(4, 64, 256)
    share = page.rows_hold(x / 2, 61, 252) ** 256
    assert share == pytest.approx(0.5, rel=1e-6)
