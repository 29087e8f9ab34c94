"""Exact laws of lengths and directions: chi-square (L1), Student and cap lemmas (L0).

- Distances (L1): ||Gx||^2/||x||^2 is chi2_m/m for an m x n matrix G of independent N(0, 1/m)
  entries. `chi_square_failure`, `chi_square_log_failure`.
- Student and cap lemmas (L0): `student_tail`, `student_log_tail`, `student_bound`, `cap_tail`,
  `cap_bound`.

Everything broadcasts over arrays.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from ..errors import check_array, check_choice

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "BETA_UNDERFLOW",
    "NEGLIGIBLE",
    "cap_bound",
    "cap_tail",
    "chi_square_failure",
    "chi_square_log_failure",
    "polarisation_exponent",
    "student_bound",
    "student_log_tail",
    "student_tail",
]

NEGLIGIBLE = 50.0
"""Quadrature stops where the integrand has fallen by the factor exp(-NEGLIGIBLE)."""

BETA_UNDERFLOW = 500.0
"""Student tails are computed on the logarithmic scale where exp(-BETA_UNDERFLOW) is passed."""


# --- Distances -------------------------------------------------------------------------------


def chi_square_failure(
    dim: ArrayLike, distortion: ArrayLike, bound: str = "exact"
) -> float | np.ndarray:
    """Return P(|chi2_m/m - 1| > eps), or an upper bound on it.

    This is the probability that one squared distance changes by more than the factor 1 +- eps
    under a Gaussian projection to m dimensions (L1).

    Parameters
    ----------
    dim : int or array_like of int
        m >= 1.
    distortion : float or array_like
        eps > 0; below 1 for ``bound="textbook"``.
    bound : {"exact", "chernoff", "textbook"}, optional
        - "exact": the law itself;
        - "chernoff": exp(-(m/2)(eps - log(1+eps))) + exp(-(m/2)(-eps - log(1-eps))), one term a
          side; the second is 0 for eps >= 1;
        - "textbook": 2 exp(-m (eps^2/4 - eps^3/6)).

    Returns
    -------
    float or ndarray
        At most 1.

    Raises
    ------
    ParameterError
        An argument is out of range.

    Notes
    -----
    Each entry of Gx is N(0, ||x||^2/m), so ||Gx||^2/||x||^2 is chi2_m/m. Chernoff with
    E exp(s chi2_m) = (1-2s)^(-m/2) and the best s gives one exponent a side, and
    log(1+eps) <= eps - eps^2/2 + eps^3/3 the textbook form (Dasgupta and Gupta 2003).
    """
    return np.exp(chi_square_log_failure(dim, distortion, bound))


def polarisation_exponent(epsilon: ArrayLike) -> float | np.ndarray:
    """Return eps^2/4 - eps^3/6, the exponent of L2(a).

    P(|<Gx,Gy> - <x,y>| > eps ||x|| ||y||) <= 4 exp(-m (eps^2/4 - eps^3/6)), 0 < eps < 1, by
    4<Gx,Gy> = ||G(x+y)||^2 - ||G(x-y)||^2 and `chi_square_failure` for x+y and x-y.

    Parameters
    ----------
    epsilon : float or array_like
        In (0, 1).

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        `epsilon` is out of range.
    """
    eps = check_array("epsilon", epsilon, above=0, below=1)
    return (eps**2 * (1 / 4 - eps / 6))[()]


def chi_square_log_failure(
    dim: ArrayLike, distortion: ArrayLike, bound: str = "exact"
) -> float | np.ndarray:
    """Return the logarithm of `chi_square_failure`; it does not underflow.

    The exact law is integrated on the logarithmic scale; its relative accuracy is about 1e-12,
    at large m about 1e-15/eps if that is more, for every m.
    """
    check_choice("bound", bound, ("exact", "chernoff", "textbook"))
    dim = _check_dim(dim)
    eps = check_array("distortion", distortion, above=0)
    if bound == "textbook":
        check_array("distortion", distortion, below=1)
        log_failure = np.log(2) - dim * polarisation_exponent(eps)
    elif bound == "chernoff":
        below_one = np.where(eps < 1, eps, 0.5)
        lower = np.where(eps < 1, -dim * _excess(-below_one) / 2, -np.inf)
        log_failure = np.logaddexp(-dim * _excess(eps) / 2, lower)
    else:
        log_failure = np.logaddexp(
            _chi_square_log_tail(dim, eps, "upper"), _chi_square_log_tail(dim, eps, "lower")
        )
    return np.minimum(log_failure, 0.0)[()]


def _chi_square_log_tail(dim, eps, side):
    """Return log P(chi2_m/m > 1 + eps), or log P(chi2_m/m < 1 - eps), as an integral over u.

    u = log(chi2_m/m) has density C exp(-a (e^u - 1 - u)), a = m/2, falling away from u = 0; so
    beyond the edge it is integrated until it is negligible.
    """
    dim, eps = np.broadcast_arrays(dim, eps)
    a = dim / 2
    possible = eps < 1 if side == "lower" else np.ones(eps.shape, dtype=bool)
    if side == "upper":
        edge, direction = np.log1p(eps), 1.0
        width = np.sqrt(2 * NEGLIGIBLE / a)
    else:
        edge, direction = np.log1p(-np.where(possible, eps, 0.5)), -1.0
        width = _lower_width(a)
    # The density falls from the edge at least as fast as exp(-a eps v), and as from u = 0.
    width = np.minimum(width, NEGLIGIBLE / (a * eps))
    nodes, weights = _gauss_legendre(128)
    u = edge[..., None] + direction * width[..., None] * (nodes + 1) / 2
    logs = -a[..., None] * (np.expm1(u) - u)
    top = logs.max(axis=-1)
    integral = (np.exp(logs - top[..., None]) @ weights) * width / 2
    return np.where(possible, _log_density_peak(a) + top + np.log(integral), -np.inf)


def _log_density_peak(a):
    """Return log(a^a e^-a / Gamma(a)), the log-density of u = log(chi2_2a/(2a)) at u = 0."""
    with np.errstate(over="ignore"):
        stirling = 1 / (12 * a) - 1 / (360 * a**3) + 1 / (1260 * a**5) - 1 / (1680 * a**7)
    large = 0.5 * np.log(a / (2 * np.pi)) - stirling
    small = np.minimum(a, 30.0)
    return np.where(a > 30, large, special.xlogy(small, small) - small - special.gammaln(small))


def _lower_width(a):
    """Return v with a (e^-v - 1 + v) >= NEGLIGIBLE, by e^-v - 1 + v >= v^2/(2(1+v))."""
    c = NEGLIGIBLE / a
    return c + np.sqrt(c * (c + 2))


# --- Student and cap lemmas ------------------------------------------------------------------


def student_tail(nu: ArrayLike, theta: ArrayLike) -> float | np.ndarray:
    """Return the exact P(t_nu >= sqrt(nu) theta), Student's t with nu degrees of freedom.

    Parameters
    ----------
    nu : float or array_like
        Positive.
    theta : float or array_like
        Any finite number.

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        An argument is out of range.
    """
    return np.exp(student_log_tail(nu, theta))


def student_log_tail(nu: ArrayLike, theta: ArrayLike) -> float | np.ndarray:
    """Return the logarithm of `student_tail`, accurate however small the tail is.

    For theta >= 0 the tail is I_x(nu/2, 1/2)/2, a regularised incomplete beta function at
    x = 1/(1+theta^2). Where that would underflow, it is written as

        x^a/(2 B(a, 1/2)) times the integral of e^(-a v) (1 - x e^(-v))^(-1/2) over v > 0,

    a = nu/2, and the integral taken by Gauss-Laguerre quadrature.
    """
    nu = check_array("nu", nu, above=0)
    theta = check_array("theta", theta)
    # log(1 + theta^2), also where theta^2 would overflow
    rate = 2 * np.log(np.hypot(1, theta))
    rate = np.where(abs(theta) < 1, np.log1p(np.minimum(abs(theta), 1) ** 2), rate)
    log_tail = _half_beta_log(nu / 2, rate)
    with np.errstate(divide="ignore"):
        return np.where(theta < 0, np.log1p(-np.exp(log_tail)), log_tail)[()]


def student_bound(nu: ArrayLike, theta: ArrayLike) -> float | np.ndarray:
    """Return (1 + theta^2)^(-nu/2)/2, at least P(t_nu >= sqrt(nu) theta) for theta >= 0.

    t_nu/sqrt(nu) = N/chi_nu with independent N and chi_nu; P(N > x) <= exp(-x^2/2)/2, and
    E exp(-theta^2 chi2_nu/2) = (1+theta^2)^(-nu/2) (L0).

    Parameters
    ----------
    nu : float or array_like
        Positive.
    theta : float or array_like
        At least 0.

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        An argument is out of range.
    """
    nu = check_array("nu", nu, above=0)
    theta = check_array("theta", theta, at_least=0)
    return (np.exp(-nu * np.log(np.hypot(1, theta))) / 2)[()]


def cap_tail(dim: ArrayLike, height: ArrayLike) -> float | np.ndarray:
    """Return the exact P(u_1 >= s) for u uniform on the unit sphere of R^m.

    u_1/sqrt(1-u_1^2) is t_nu/sqrt(nu) with nu = m - 1.

    Parameters
    ----------
    dim : int or array_like of int
        m >= 2.
    height : float or array_like
        s in [0, 1].

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        An argument is out of range.
    """
    dim, height = _check_cap(dim, height)
    return np.exp(_half_beta_log((dim - 1) / 2, _cap_rate(height)))[()]


def cap_bound(dim: ArrayLike, height: ArrayLike) -> float | np.ndarray:
    """Return (1-s^2)^((m-1)/2)/2, at least `cap_tail`: the Student lemma with nu = m - 1.

    Parameters and errors as in `cap_tail`.
    """
    dim, height = _check_cap(dim, height)
    return (np.exp(-(dim - 1) / 2 * _cap_rate(height)) / 2)[()]


def _cap_rate(height):
    with np.errstate(divide="ignore"):
        return -np.log1p(-(height**2))


def _half_beta_log(a, rate):
    """Return log(I_x(a, 1/2)/2) at x = exp(-rate), rate >= 0."""
    a, rate = np.broadcast_arrays(a, rate)
    depth = a * rate
    deep = np.maximum(depth, rate) > BETA_UNDERFLOW
    x, y = np.exp(-rate), -np.expm1(-rate)
    # Each form of the same function where its argument keeps its digits.
    tail = np.where(y < 0.5, special.betaincc(0.5, a, y), special.betainc(a, 0.5, x))
    with np.errstate(divide="ignore"):
        log_tail = np.array(np.log(tail / 2))
    if deep.any():
        nodes, weights = _gauss_laguerre(32)
        a, rate, depth = a[deep, None], rate[deep, None], depth[deep]
        integral = (-np.expm1(-rate - nodes / a)) ** -0.5 @ weights
        a = a[:, 0]
        log_tail[deep] = np.log(integral / 2) - depth - np.log(a) - _log_half_beta_function(a)
    return log_tail


def _log_half_beta_function(a):
    """Return log B(a, 1/2) = log(Gamma(a) Gamma(1/2)/Gamma(a + 1/2))."""
    large = np.maximum(a, 20.0)
    series = (
        np.log(large) / 2
        - 1 / (8 * large)
        + 1 / (192 * large**3)
        - 1 / (640 * large**5)
        + 17 / (14336 * large**7)
        - 31 / (18432 * large**9)
    )
    return np.where(a > 20, np.log(np.pi) / 2 - series, special.betaln(np.minimum(a, 20.0), 0.5))


# --- Shared ----------------------------------------------------------------------------------


def _excess(x):
    """Return x - log(1+x), x > -1, without cancellation near 0.

    With y = x/(2+x), log(1+x) = 2(y + y^3/3 + y^5/5 + ...) and x - 2y = x y.
    """
    x = np.asarray(x, dtype=float)
    near = abs(x) < 0.3
    small = np.where(near, x, 0.0)
    y = small / (2 + small)
    y2 = y * y
    series = np.zeros_like(y)
    for power in range(23, 1, -2):  # y^2 < 0.032: eleven terms reach double precision
        series = series * y2 + 1 / power
    with np.errstate(divide="ignore"):
        return np.where(near, small * y - 2 * y * y2 * series, x - np.log1p(x))


def _check_dim(dim, minimum=1):
    return check_array("dim", dim, at_least=minimum, integer=True).astype(float)


def _check_cap(dim, height):
    return _check_dim(dim, 2), check_array("height", height, at_least=0, at_most=1)


@cache
def _gauss_legendre(count):
    return np.polynomial.legendre.leggauss(count)


@cache
def _gauss_laguerre(count):
    return np.polynomial.laguerre.laggauss(count)
