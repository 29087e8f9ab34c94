"""The laws and bounds of `concentration` against independent references.

References: SciPy's distributions where they keep their digits, closed forms (m = 2, Student with
1 and 2 degrees of freedom), decimal arithmetic with 60 digits, and adaptive quadrature.
"""

import itertools
import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from jl_attention import concentration as con
from jl_attention.errors import ParameterError

getcontext().prec = 60

dims = st.integers(1, 10_000)
epsilons = st.floats(1e-4, 5.0)
correlations = st.floats(-0.999, 0.999) | st.sampled_from([-1.0, 0.0, 1.0])


def log_chi_square_sf(dim, x):
    """Log of P(chi2_dim > x) for even dim in decimal arithmetic, by its Poisson sum."""
    half, term, total = Decimal(x) / 2, Decimal(1), Decimal(1)
    for k in range(1, dim // 2):
        term *= half / k
        total += term
    return float(total.ln() - half)


# --- Distances -------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 3, 10, 61, 500, 100_000])
def test_chi_square_exact_agrees_with_scipy(dim):
    eps = np.array([1e-3, 0.1, 0.5, 0.9, 1.0, 1.5, 5.0])
    expected = stats.chi2.sf(dim * (1 + eps), dim) + stats.chi2.cdf(dim * (1 - eps), dim)
    expected[expected < 1e-290] = 0
    actual = con.chi_square_failure(dim, eps)
    np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-290)


@pytest.mark.parametrize(("dim", "eps"), [(2, 400.0), (100, 50.0), (4000, 0.4), (4000, 2.0)])
def test_chi_square_is_right_far_beyond_underflow(dim, eps):
    # Upper tail alone: the lower one is empty or smaller by far more than the tolerance.
    expected = log_chi_square_sf(dim, dim * (1 + Decimal(eps)))
    assert con.chi_square_log_failure(dim, eps) == pytest.approx(expected, rel=1e-13)


def test_chi_square_is_right_at_ten_billion():
    # Temme's uniform expansion; its next term is of relative order 1/m.
    dim, eps = 10**10, 1e-4
    a, expected = dim / 2, 0.0
    for mu in (eps, -eps):
        eta = math.copysign(math.sqrt(4 * con.inner_product_exponent(eps)), mu)
        if mu < 0:
            eta = -math.sqrt(-2 * (eps + math.log1p(-eps)))
        tail = 0.5 * math.erfc(abs(eta) * math.sqrt(a / 2))
        correction = math.exp(-a * eta**2 / 2) / math.sqrt(2 * math.pi * a) * (1 / mu - 1 / eta)
        expected += tail + math.copysign(1, mu) * correction
    assert con.chi_square_failure(dim, eps) == pytest.approx(expected, rel=1e-8)


@given(dims, st.floats(1e-4, 0.999))
def test_chi_square_bounds_are_ordered(dim, eps):
    exact, chernoff, textbook = (
        con.chi_square_log_failure(dim, eps, bound) for bound in ("exact", "chernoff", "textbook")
    )
    assert exact <= chernoff + 1e-10
    assert chernoff <= textbook + 1e-10


def test_chi_square_chernoff_is_the_sum_of_two_sides():
    dim, eps = 50, 0.4
    upper = (math.exp(-eps) * (1 + eps)) ** (dim / 2)
    lower = (math.exp(eps) * (1 - eps)) ** (dim / 2)
    assert con.chi_square_failure(dim, eps, "chernoff") == pytest.approx(upper + lower)
    upper = (math.exp(-1.5) * 2.5) ** (dim / 2)
    assert con.chi_square_failure(dim, 1.5, "chernoff") == pytest.approx(upper)


# --- Exponents -------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [1e-8, 1e-5, 1e-3, 0.1, 0.29, 0.31, 1.0, 30.0, 1e6])
def test_exponents_keep_their_digits(eps):
    e = Decimal(eps)
    root = (1 + 4 * e * e).sqrt()
    inner = (e - (1 + e).ln()) / 2
    orthogonal = (root - 1 - ((1 + root) / 2).ln()) / 2
    assert con.inner_product_exponent(eps) == pytest.approx(float(inner), rel=1e-13)
    assert con.orthogonal_exponent(eps) == pytest.approx(float(orthogonal), rel=1e-13)
    assert con.correlated_exponent(eps, 0.0) == pytest.approx(float(orthogonal), rel=1e-13)
    assert con.correlated_exponent(eps, 1.0) == pytest.approx(float(inner), rel=1e-13)


def test_polarisation_exponent():
    np.testing.assert_allclose(con.polarisation_exponent([0.1, 0.5]), [7 / 3000, 1 / 24])


@given(st.floats(1e-3, 3.0), st.floats(-0.99, 0.99), st.sampled_from(["upper", "lower"]))
def test_correlated_exponent_is_the_best_chernoff_exponent(eps, rho, side):
    sign = 1 if side == "upper" else -1
    mean = sign * rho

    def minus_exponent(s):
        return -(s * (mean + eps) + 0.5 * math.log((1 - mean * s) ** 2 - s**2))

    end = 1 / (1 + mean)
    best = optimize.minimize_scalar(
        minus_exponent, bounds=(0, end), method="bounded", options={"xatol": 1e-12 * end}
    )
    assert con.correlated_exponent(eps, rho, side) == pytest.approx(-best.fun, rel=1e-6, abs=1e-12)


@given(epsilons, correlations, st.sampled_from(["upper", "lower"]))
def test_parallel_vectors_have_the_smallest_exponent(eps, rho, side):
    # The step of L2(a'): the cumulant function is largest at rho = 1.
    assert con.correlated_exponent(eps, rho, side) >= con.inner_product_exponent(eps) * (1 - 1e-12)


def test_an_empty_tail_has_an_infinite_exponent():
    assert con.correlated_exponent(1.5, 1.0, "lower") == np.inf
    assert con.inner_product_tail(5, 1.5, 1.0, "lower") == 0


# --- Inner products --------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [-0.9999, -0.9, -0.3, 0.0, 0.2, 0.7, 0.99, 0.999999])
def test_inner_product_tail_in_two_dimensions(rho):
    # At m = 2 the law is that of (1+rho) E - (1-rho) E', E and E' standard exponential.
    eps = np.array([0.01, 0.5, 3.0, 40.0])
    a, b, x = 1 + rho, 1 - rho, 2 * (rho + eps)
    upper = np.log(a / 2) - x / a
    below_zero = np.log1p(-b / 2 * np.exp(np.minimum(x, 0) / b))
    expected = np.where(x > 0, upper, below_zero)
    actual = con.inner_product_log_tail(2, eps, rho, "upper")
    np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("dim", "eps", "rho"),
    [(1, 0.5, 0.0), (1, 2.0, -0.5), (3, 0.5, 0.0), (50, 0.3, 0.3), (50, 0.3, -0.9), (200, 0.4, 0)],
)
def test_inner_product_tail_agrees_with_the_difference_of_chi_squares(dim, eps, rho):
    a, b, t = 1 + rho, 1 - rho, rho + eps

    def integrand(y):
        return stats.chi2.pdf(y, dim) * stats.chi2.sf(max((2 * dim * t + b * y) / a, 0), dim)

    parts = [0, dim / 4, dim, 3 * dim, 20 * dim + 200]
    if dim == 1:  # a singular density at 0
        parts[0] = 1e-30
    expected = sum(
        integrate.quad(integrand, low, high, epsabs=0, epsrel=1e-11, limit=200)[0]
        for low, high in itertools.pairwise(parts)
    )
    actual = con.inner_product_tail(dim, eps, rho, "upper")
    assert actual == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("dim", [1, 7, 300])
def test_parallel_vectors_have_the_chi_square_law(dim):
    eps = np.array([0.05, 0.3, 0.9])
    both = con.inner_product_tail(dim, eps, 1.0)
    np.testing.assert_allclose(both, con.chi_square_failure(dim, eps), rtol=1e-12)
    np.testing.assert_allclose(con.inner_product_tail(dim, eps, -1.0), both, rtol=1e-12)
    near = con.inner_product_tail(dim, eps, 1 - 1e-6)
    np.testing.assert_allclose(near, both, rtol=1e-3)


def test_inner_product_sides():
    upper = con.inner_product_tail(20, 0.3, 0.6, "upper")
    lower = con.inner_product_tail(20, 0.3, 0.6, "lower")
    assert con.inner_product_tail(20, 0.3, 0.6) == pytest.approx(upper + lower)
    assert con.inner_product_tail(20, 0.3, -0.6, "lower") == pytest.approx(upper)


@pytest.mark.parametrize("rho", [0.0, 0.5, 1.0])
def test_the_variance_is_one_plus_rho_squared_over_m(rho):
    dim = 12
    # E Z^2 is the integral of 2 eps P(|Z| > eps).
    variance, _ = integrate.quad(
        lambda eps: 2 * eps * con.inner_product_tail(dim, eps, rho), 0, 8, epsabs=1e-12, limit=200
    )
    assert variance == pytest.approx((1 + rho**2) / dim, rel=1e-9)


@given(st.integers(1, 3000), epsilons, correlations)
def test_inner_product_bounds_hold(dim, eps, rho):
    upper = con.inner_product_log_tail(dim, eps, rho, "upper")
    lower = con.inner_product_log_tail(dim, eps, rho, "lower")
    both = con.inner_product_log_tail(dim, eps, rho)
    assert upper <= -dim * con.correlated_exponent(eps, rho) + 1e-9
    assert lower <= -dim * con.correlated_exponent(eps, rho, "lower") + 1e-9
    assert both <= np.log(2) - dim * con.inner_product_exponent(eps) + 1e-9
    if eps < 1:
        assert both <= np.log(4) - dim * con.polarisation_exponent(eps) + 1e-9


def test_the_orthogonal_exponent_is_wrong_on_parallel_vectors():
    # L2(b)'s exponent may be used at rho = 0 only; here it would promise far too much.
    dim, eps = 400, 0.3
    assert con.inner_product_tail(dim, eps, 1.0) > 100 * 2 * np.exp(
        -dim * con.orthogonal_exponent(eps)
    )


# --- Student and cap -------------------------------------------------------------------------


def test_student_tail_agrees_with_closed_forms_and_scipy():
    theta = np.array([0.0, 0.1, 2.0, 1e5, 1e12])
    np.testing.assert_allclose(con.student_tail(1, theta), np.arctan2(1, theta) / np.pi, rtol=1e-12)
    root = np.hypot(1, theta)
    two = 1 / (2 * root * (root + theta))  # (1 - theta/root)/2 without cancellation
    np.testing.assert_allclose(con.student_tail(2, theta), two, rtol=1e-12)
    nu, theta = np.array([[0.5], [3.0], [61.0], [4000.0]]), np.array([-1.0, 0.02, 0.3])
    expected = stats.t.sf(np.sqrt(nu) * theta, nu)
    np.testing.assert_allclose(con.student_tail(nu, theta), expected, rtol=1e-11)


@pytest.mark.parametrize(
    ("nu", "theta"), [(1, 1e200), (3, 1e120), (50, 1e6), (3000, 0.7), (1e6, 0.04), (1e9, 2e-3)]
)
def test_student_log_tail_far_out(nu, theta):
    # The density c (1 + y^2)^(-(nu+1)/2) with y = theta e^v, scaled by its value at theta.
    rate = nu * theta**2 / (1 + theta**2) if theta < 1e100 else nu

    def scaled(w):
        v = w / rate
        lift = theta * theta * math.expm1(2 * v) / (1 + theta * theta) if theta < 1e100 else None
        growth = math.log1p(lift) if lift is not None else 2 * v
        return math.exp(v - (nu + 1) / 2 * growth)

    integral, _ = integrate.quad(scaled, 0, 60, epsabs=0, epsrel=1e-12, limit=200)
    log_square = math.log1p(theta**2) if theta < 1e100 else 2 * math.log(theta)
    log_density = -0.5 * math.log(math.pi) - (nu + 1) / 2 * log_square
    # Gamma((nu+1)/2)/Gamma(nu/2) by Stirling's series where math.lgamma loses digits.
    if nu < 1000:
        log_density += math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2)
    else:
        log_density += 0.5 * math.log(nu / 2) - 1 / (4 * nu) + 1 / (24 * nu**3)
    expected = log_density + math.log(theta) - math.log(rate) + math.log(integral)
    assert expected < -400
    assert con.student_log_tail(nu, theta) == pytest.approx(expected, abs=1e-8, rel=1e-12)


def test_student_log_tail_is_continuous_where_the_method_changes():
    for nu in (0.5, 5, 60, 1e6):
        rate = min(con.BETA_UNDERFLOW, con.BETA_UNDERFLOW / (nu / 2))
        theta = np.sqrt(np.expm1(rate))
        below, above = con.student_log_tail(nu, theta * np.array([1 - 1e-12, 1 + 1e-12]))
        slope = nu * theta**2 / (1 + theta**2)
        assert below - above == pytest.approx(2e-12 * slope, abs=1e-9)


@given(st.floats(0.5, 1e6), st.floats(0, 1e3))
def test_student_bound_holds(nu, theta):
    assert con.student_log_tail(nu, theta) <= np.log(0.5) - nu / 2 * np.log1p(theta**2) + 1e-9
    assert con.student_tail(nu, theta) <= con.student_bound(nu, theta) * (1 + 1e-9)


@given(st.floats(0.5, 1e4), st.floats(1e-3, 1e3))
def test_student_tail_falls_in_theta_and_in_nu(nu, theta):
    here = con.student_log_tail(nu, theta)
    assert con.student_log_tail(nu, theta * 1.01) < here
    assert con.student_log_tail(nu * 1.01, theta) < here


def test_cap_tail():
    height = np.array([0.0, 0.3, 0.9, 1.0])
    np.testing.assert_allclose(con.cap_tail(2, height), np.arccos(height) / np.pi, atol=1e-16)
    np.testing.assert_allclose(con.cap_tail(3, height), (1 - height) / 2, atol=1e-16)
    dim = np.array([[2], [3], [40], [1000]])
    assert (con.cap_tail(dim, height) <= con.cap_bound(dim, height) * (1 + 1e-12)).all()
    theta = height[:3] / np.sqrt(1 - height[:3] ** 2)
    np.testing.assert_allclose(con.cap_tail(40, height[:3]), con.student_tail(39, theta))


# --- Arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda: con.chi_square_failure(0, 0.1),
        lambda: con.chi_square_failure(2.5, 0.1),
        lambda: con.chi_square_failure(10, 0.0),
        lambda: con.chi_square_failure(10, 1.0, "textbook"),
        lambda: con.chi_square_failure(10, 0.1, "sharp"),
        lambda: con.polarisation_exponent(1.0),
        lambda: con.inner_product_exponent(-0.1),
        lambda: con.orthogonal_exponent([0.1, np.nan]),
        lambda: con.correlated_exponent(0.1, 1.1),
        lambda: con.correlated_exponent(0.1, 0.5, "two-sided"),
        lambda: con.inner_product_tail(10, 0.1, 1 - 1e-12),
        lambda: con.inner_product_tail(10, 0.1, 0.5, "left"),
        lambda: con.student_tail(0, 1.0),
        lambda: con.student_tail(3, np.inf),
        lambda: con.student_bound(3, -1.0),
        lambda: con.cap_tail(1, 0.5),
        lambda: con.cap_bound(5, 1.5),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(ParameterError):
        call()


def test_everything_broadcasts():
    dim, eps = np.array([[10], [20], [30]]), np.array([0.1, 0.2])
    for bound in ("exact", "chernoff", "textbook"):
        assert con.chi_square_failure(dim, eps, bound).shape == (3, 2)
    assert con.inner_product_tail(dim, eps, 0.5).shape == (3, 2)
    assert con.correlated_exponent(eps, np.array([[0.0], [1.0]])).shape == (2, 2)
    assert con.student_log_tail(dim, eps).shape == (3, 2)
    assert con.cap_tail(dim, eps).shape == (3, 2)
    for value in (con.chi_square_failure(10, 0.1), con.student_tail(10, 0.1)):
        assert isinstance(value, float)
