"""The simulations that chapters 7, 8 and 11 share."""

import numpy as np
import pytest
from scipy import integrate, stats

from jl_attention_book import interpolation as page


def test_rows_share_nothing_and_are_solved():
    queries, norms, off = page.independent_rows(40, 3, 7, np.random.default_rng(0), others=5)
    assert queries.shape == (40, 7)
    assert off.shape == (40, 5)
    assert ((norms > 10 * np.sqrt(3)) & (norms < 12 * np.sqrt(3))).all()
    # Each logit is one of a row's own: their spread is that of Student's law, not larger.
    assert 0.2 < np.std(np.sqrt(5) * off / norms[:, None]) / np.sqrt(5 / 3) < 3


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
