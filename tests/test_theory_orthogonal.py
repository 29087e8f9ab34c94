"""Haar projections: their exact law against independent references, and what they inherit."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

from jl_attention import concentration as con
from jl_attention.errors import ParameterError
from jl_attention.projections import Orthogonal
from jl_attention.theory import orthogonal

correlations = st.floats(-0.99, 0.99) | st.sampled_from([-1.0, 0.0, 1.0])


def adaptive_tail(m, n, eps, rho):
    """P(<Px,Py> - rho > eps) by adaptive quadrature over a = ||Pi x||^2."""
    level = m / n * (rho + eps)

    def integrand(a):
        height = (level - rho * a) / np.sqrt((1 - rho**2) * a * (1 - a))
        share = special.betaincc(0.5, (n - 2) / 2, min(height**2, 1.0)) / 2
        return stats.beta.pdf(a, m / 2, (n - m) / 2) * (share if height > 0 else 1 - share)

    linear = 1 - rho**2 + 2 * rho * level
    root = np.sqrt(linear**2 - 4 * level**2)
    ends = [0.0, *((linear + sign * root) / 2 for sign in (-1, 1)), 1.0]
    parts = (
        integrate.quad(integrand, *pair, limit=400, epsabs=0, epsrel=1e-11)[0]
        for pair in itertools.pairwise(ends)
    )
    return sum(parts)


@pytest.mark.parametrize(
    ("m", "n", "eps", "rho"),
    [
        (64, 128, 0.25, 0.0),
        (64, 128, 0.25, 0.5),
        (64, 128, 0.3, -0.5),
        (20, 256, 0.4, -0.9),
        (3, 8, 0.5, 0.2),
        (7, 8, 0.2, -0.3),
        (100, 1024, 0.25, -0.5),
        (127, 128, 0.02, 0.7),
    ],
)
def test_the_exact_law_agrees_with_adaptive_quadrature(m, n, eps, rho):
    expected = adaptive_tail(m, n, eps, rho)
    assert orthogonal.inner_product_tail(m, n, eps, rho, "upper") == pytest.approx(
        expected, rel=1e-9
    )


def test_the_exact_law_is_a_known_number():
    # By hand: n = 4, m = 2, rho = 0. (m/n) <Px,Py> = sqrt(a(1-a)) u with a uniform on [0, 1] and
    # u uniform on [-1, 1], so P(sqrt(a(1-a)) u > s) is an integral over a between the roots of
    # a(1-a) = s^2 of (1 - s/sqrt(a(1-a)))/2, that is r/2 - s arcsin(r), r = sqrt(1 - 4 s^2).
    for s in (0.2, 0.45, 0.4999):
        r = np.sqrt(1 - 4 * s**2)
        expected = r / 2 - s * np.arcsin(r)
        tail = orthogonal.inner_product_tail(2, 4, 2 * s, 0.0, "upper")
        assert tail == pytest.approx(expected, rel=1e-6)


def test_the_law_is_there_up_to_the_edge_of_its_support():
    # The cap is not empty on an interval of a that is far narrower than its law.
    dims = np.arange(1, 32)
    logs = orthogonal.inner_product_log_tail(dims[:, None], 32, 0.3, [1.0, 0.5, 0.0, -0.5, -0.99])
    assert not np.isnan(logs).any()
    assert (np.diff(logs, axis=0)[np.isfinite(logs[1:])] < 0.5).all()
    # 16/24 (0.6 + 0.6) is the largest value there is, (1 + 0.6)/2.
    assert orthogonal.inner_product_log_tail(16, 24, 0.6, 0.6, "upper") == -np.inf
    assert -130 < orthogonal.inner_product_log_tail(10, 20, 1 - 1e-6, 0.0, "upper") < -125


@pytest.mark.parametrize("rho", [1.0, -1.0])
def test_lengths_have_a_beta_law(rho):
    m, n, eps = 30, 100, 0.3
    law = stats.beta(m / 2, (n - m) / 2, scale=n / m)
    upper, lower = law.sf(1.3), law.cdf(0.7)
    if rho < 0:
        upper, lower = lower, upper
    actual = [
        orthogonal.inner_product_tail(m, n, eps, rho, side)
        for side in ("upper", "lower", "two-sided")
    ]
    assert actual == pytest.approx([upper, lower, upper + lower], rel=1e-12)


def test_nearly_parallel_vectors_have_nearly_the_beta_law():
    values = orthogonal.inner_product_log_tail(30, 100, 0.3, [1.0, 1 - 1e-7], "upper")
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_in_a_large_space_the_law_is_the_gaussian_one():
    for rho, eps in ((0.0, 0.3), (0.5, 0.4), (-0.7, 0.6), (1.0, 0.3)):
        expected = con.inner_product_log_tail(100, eps, rho)
        assert orthogonal.inner_product_log_tail(100, 10**9, eps, rho) == pytest.approx(
            expected, rel=1e-6
        )


def test_the_law_does_not_underflow():
    value = orthogonal.inner_product_log_tail(3000, 16_384, 0.9, -0.5, "upper")
    chernoff = -3000 * con.correlated_exponent(0.9, -0.5)
    assert 1.1 * chernoff > value > 3 * chernoff  # about 1/(1 - m/n) times the exponent


@pytest.mark.parametrize(("m", "n"), [(1, 3), (2, 5), (3, 4), (40, 64)])
def test_the_law_is_that_of_the_maps_drawn(m, n):
    """Dvoretzky-Kiefer-Wolfowitz with Massart's constant: false alarm at most 1e-9 a case."""
    draws, rng = 8000, np.random.default_rng(m)
    vectors = np.eye(n)[:, :2]
    images = np.array([Orthogonal().sample(m, n, rng) @ vectors for _ in range(draws)])
    limit = np.sqrt(np.log(2 / 1e-9) / (2 * draws))
    for rho in (-0.7, 0.0, 0.4):
        y = rho * images[..., 0] + np.sqrt(1 - rho**2) * images[..., 1]
        errors = np.sum(images[..., 0] * y, axis=1) - rho
        eps = np.linspace(0.02, 1.5, 40) * np.sqrt(n / m - 1)
        measured = np.mean(errors[:, None] > eps, axis=0)
        law = orthogonal.inner_product_tail(m, n, eps, rho, "upper")
        assert abs(measured - law).max() < limit
        measured = np.mean(errors[:, None] < -eps, axis=0)
        law = orthogonal.inner_product_tail(m, n, eps, rho, "lower")
        assert abs(measured - law).max() < limit


@given(st.integers(3, 400), st.floats(0, 1), st.floats(0.01, 2.0), correlations)
def test_chernoff_bounds_are_inherited(n, share, eps, rho):
    m = max(1, int(share * n))
    for side in ("upper", "lower"):
        tail = orthogonal.inner_product_log_tail(m, n, eps, rho, side)
        assert tail <= -m * con.correlated_exponent(eps, rho, side) + np.log(0.7)


def test_the_exact_gaussian_tail_is_not_inherited():
    # m = 1, n = 3: <Px,Py> is bounded by 1.5, and more often near it than a normal product is.
    haar = orthogonal.inner_product_tail(1, 3, 0.5, 0.0, "upper")
    assert haar > 1.1 * con.inner_product_tail(1, 0.5, 0.0, "upper")


@pytest.mark.parametrize("rho", [-1.0, -0.4, 0.0, 0.8])
def test_the_variance_is_the_integral_of_the_tails(rho):
    m, n = 12, 40
    nodes, weights = np.polynomial.legendre.leggauss(200)
    eps = 2 * n / m * (nodes + 1) / 2
    tails = orthogonal.inner_product_tail(m, n, eps, rho)
    second_moment = n / m * weights @ (2 * eps * tails)
    variance = orthogonal.inner_product_variance(m, n, rho)
    assert variance == pytest.approx(second_moment, rel=1e-4)


def test_the_variance_is_a_known_number():
    # n = 2, m = 1, x = y: ||Px||^2 = 2 cos^2 of a uniform angle, of variance 1/2.
    assert orthogonal.inner_product_variance(1, 2, 1.0) == pytest.approx(0.5)
    # n = 2, m = 1, orthogonal: 2 cos sin = sin of a uniform angle, of variance 1/2.
    assert orthogonal.inner_product_variance(1, 2, 0.0) == pytest.approx(0.5)
    # 28/(36 * 66) * (2/4 + 3/4 * 64/63)
    assert orthogonal.inner_product_variance(36, 64, 0.5) == pytest.approx(0.0148709, rel=1e-5)


@given(st.integers(2, 10**6), st.floats(0, 1), st.floats(-1, 1))
def test_the_variance_is_below_the_gaussian_one(n, share, rho):
    m = max(1, int(share * n))
    assert orthogonal.inner_product_variance(m, n, rho) < (1 + rho**2) / m


def test_a_square_map_makes_no_error():
    assert orthogonal.inner_product_variance(50, 50, 0.3) == pytest.approx(0.0)
    assert orthogonal.inner_product_tail(50, 50, 1e-9, 0.3) == pytest.approx(0.0)


def test_dim_with_rotation():
    assert orthogonal.dim_with_rotation(2000, 1024) == 1024
    assert orthogonal.dim_with_rotation(508, 1024) == 508
    assert orthogonal.dim_with_rotation([1, 1024, 5000], [9, 1024, 64]).tolist() == [1, 1024, 64]


def test_matching_dim_makes_the_variances_equal():
    assert orthogonal.matching_dim(222, 64) == pytest.approx(49.678, rel=1e-4)
    gaussian, n = 3000, 10**6
    matched = orthogonal.matching_dim(gaussian, n)
    for rho in (0.0, 0.5, 1.0):
        variance = orthogonal.inner_product_variance(round(matched), n, rho)
        assert variance == pytest.approx((1 + rho**2) / gaussian, rel=1e-3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: orthogonal.inner_product_variance(5, 4, 0.0),
        lambda: orthogonal.inner_product_variance(1, 1, 0.0),
        lambda: orthogonal.inner_product_tail(2, 2, 0.1, 0.0),
        lambda: orthogonal.inner_product_tail(0, 9, 0.1, 0.0),
        lambda: orthogonal.inner_product_tail(3, 9, 0.0, 0.0),
        lambda: orthogonal.inner_product_tail(3, 9, 0.1, 1.1),
        lambda: orthogonal.inner_product_tail(3, 9, 0.1, 0.0, "both"),
        lambda: orthogonal.dim_with_rotation(0, 5),
        lambda: orthogonal.matching_dim(1.0, 0.0),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(ParameterError):
        call()
