"""Exact laws and exponents of the inner product <Gx, Gy> of two projected vectors (L2).

G is an m x n matrix with independent N(0, 1/m) entries; the error is epsilon ||x|| ||y||, rho the
correlation of x and y. Exact law: `inner_product_tail`, `inner_product_log_tail`. Exponents a with
P <= 2 exp(-m a) (4 for the first): `polarisation_exponent` and `inner_product_exponent` for every
rho, `orthogonal_exponent` for rho = 0, `correlated_exponent` for one rho and one side.

Everything broadcasts over arrays. Exponents are per dimension: a tail is exp(-m * exponent).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from ..errors import ParameterError, check_array, check_choice
from .tails import (
    NEGLIGIBLE,
    _check_dim,
    _chi_square_log_tail,
    _excess,
    _gauss_legendre,
    _log_density_peak,
    _lower_width,
    polarisation_exponent,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "correlated_exponent",
    "inner_product_exponent",
    "inner_product_log_tail",
    "inner_product_tail",
    "orthogonal_exponent",
    "polarisation_exponent",
]

SIDES = ("upper", "lower", "two-sided")

LARGEST_CORRELATION = 1 - 1e-8
"""Correlations between this and 1 are refused: the quadrature would need millions of nodes."""


def inner_product_exponent(epsilon: ArrayLike) -> float | np.ndarray:
    """Return (eps - log(1+eps))/2, the exponent of L2(a').

    P(|<Gx,Gy> - <x,y>| > eps ||x|| ||y||) <= 2 exp(-m (eps - log(1+eps))/2) for every eps > 0 and
    every correlation of x and y. Among all correlations the cumulant function of the error is
    largest at +1 and -1, where the error is that of a chi-square.

    Parameters
    ----------
    epsilon : float or array_like
        Positive; relative accuracy near 1e-15 however small.

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        `epsilon` is out of range.
    """
    return (_excess(check_array("epsilon", epsilon, above=0)) / 2)[()]


def orthogonal_exponent(epsilon: ArrayLike) -> float | np.ndarray:
    """Return I0(eps) = (sqrt(1+4 eps^2) - 1 - log((1+sqrt(1+4 eps^2))/2))/2, for <x,y> = 0.

    P(<Gx,Gy> > eps ||x|| ||y||) <= exp(-m I0(eps)) for every eps > 0, and the same for the lower
    tail. It may be used only where x and y are orthogonal. About eps^2/2: twice the exponent of
    parallel vectors.

    Parameters
    ----------
    epsilon : float or array_like
        Positive.

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        `epsilon` is out of range.

    Notes
    -----
    m <Gx,Gy> is a sum of m products g h of independent standard normals, E exp(s g h) =
    (1-s^2)^(-1/2), and sup over s of s eps + log(1-s^2)/2 is reached where s^2 + s/eps = 1.
    """
    eps = check_array("epsilon", epsilon, above=0)
    z = 2 * eps**2 / (1 + np.sqrt(1 + 4 * eps**2))  # (sqrt(1+4 eps^2) - 1)/2 without cancellation
    return (z - np.log1p(z) / 2)[()]


def correlated_exponent(
    epsilon: ArrayLike, correlation: ArrayLike, side: str = "upper"
) -> float | np.ndarray:
    """Return the best Chernoff exponent for unit vectors with <x,y> = rho.

    P(<Gx,Gy> - rho > eps) <= exp(-m I) for the upper side, P(<Gx,Gy> - rho < -eps) <= exp(-m I)
    for the lower one. Equal to `inner_product_exponent` at rho = 1 (upper side), to
    `orthogonal_exponent` at rho = 0; infinite where the tail is empty.

    Parameters
    ----------
    epsilon : float or array_like
        Positive.
    correlation : float or array_like
        rho in [-1, 1].
    side : {"upper", "lower"}, optional

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        An argument is out of range.

    Notes
    -----
    Per coordinate E exp(s g h) = ((1-(1+rho)s)(1+(1-rho)s))^(-1/2) =: D(s)^(-1/2). With
    t = rho + eps the best s solves t q s^2 + (q + 2 rho t) s = eps, q = 1 - rho^2, whose
    discriminant is q^2 + 4 t^2. The lower side is the upper one of x and -y.
    """
    check_choice("side", side, ("upper", "lower"))
    eps = check_array("epsilon", epsilon, above=0)
    rho = check_array("correlation", correlation, at_least=-1, at_most=1)
    eps, rho = np.broadcast_arrays(eps, rho if side == "upper" else -rho)
    possible = (rho > -1) | (eps < 1)
    s = _saddle(np.where(possible, eps, 0.5), rho)
    exponent = s * eps - (_excess(-(1 + rho) * s) + _excess((1 - rho) * s)) / 2
    return np.where(possible, exponent, np.inf)[()]


def _saddle(eps, rho):
    """Return the s that maximises s (rho + eps) + log(D(s))/2; see `correlated_exponent`."""
    q, t = (1 - rho) * (1 + rho), rho + eps
    linear, root = q + 2 * rho * t, np.hypot(q, 2 * t)
    # Two forms of the same root: each is used where it adds numbers of one sign.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(linear >= 0, 2 * eps / (linear + root), (root - linear) / (2 * t * q))


def inner_product_tail(
    dim: ArrayLike, epsilon: ArrayLike, correlation: ArrayLike, side: str = "two-sided"
) -> float | np.ndarray:
    """Return the exact P(|<Gx,Gy> - rho| > eps) for unit x, y with <x,y> = rho.

    m <Gx,Gy> is (1+rho)/2 chi2_m - (1-rho)/2 chi2'_m with independent chi-squares; its variance
    is m (1 + rho^2).

    Parameters
    ----------
    dim : int or array_like of int
        m >= 1.
    epsilon : float or array_like
        Positive.
    correlation : float or array_like
        rho in [-1, 1]; 1 - |rho| must be 0 or at least 1e-8.
    side : {"two-sided", "upper", "lower"}, optional

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        An argument is out of range.

    Notes
    -----
    Given Gx, <Gx,Gy> is normal with mean rho ||Gx||^2 and variance (1-rho^2) ||Gx||^2/m. So the
    upper tail is the mean of Q(sqrt(m) (t - rho w)/sqrt((1-rho^2) w)) over w = chi2_m/m, t = rho
    + eps and Q the normal tail: one integral of a positive smooth function, taken by
    Gauss-Legendre panels about the saddle point, on the logarithmic scale. Relative accuracy is
    about 1e-11 also far in the tail.
    """
    return np.exp(inner_product_log_tail(dim, epsilon, correlation, side))


def inner_product_log_tail(
    dim: ArrayLike, epsilon: ArrayLike, correlation: ArrayLike, side: str = "two-sided"
) -> float | np.ndarray:
    """Return the logarithm of `inner_product_tail`; it does not underflow."""
    check_choice("side", side, SIDES)
    dim = _check_dim(dim)
    eps = check_array("epsilon", epsilon, above=0)
    rho = check_array("correlation", correlation, at_least=-1, at_most=1)
    if ((abs(rho) < 1) & (abs(rho) > LARGEST_CORRELATION)).any():
        raise ParameterError(
            f"correlation={correlation!r}: its modulus must be 1 or at most 1 - 1e-8"
        )
    logs = [
        _inner_product_log_upper(dim, eps, rho) if side != "lower" else -np.inf,
        _inner_product_log_upper(dim, eps, -rho) if side != "upper" else -np.inf,
    ]
    return np.minimum(np.logaddexp(*logs), 0.0)[()]


@np.vectorize(otypes=[float])
def _inner_product_log_upper(dim, eps, rho):
    """Return log P(<Gx,Gy> - rho > eps), scalars in and out."""
    if abs(rho) == 1:
        return _chi_square_log_tail(dim, eps, "upper" if rho == 1 else "lower")
    a, q = dim / 2, (1 - rho) * (1 + rho)
    s = _saddle(eps, rho)
    D = (1 - (1 + rho) * s) * (1 + (1 - rho) * s)
    # Tilted by s, w is 1/D times a chi2_m/m, and the pair has 1 - (correlation)^2 = q D: the
    # integrand is centred at u = log w = -log D and as narrow as sqrt(q D/m).
    centre = -np.log(D)
    low, high = centre - _lower_width(a), centre + np.sqrt(2 * NEGLIGIBLE / a)
    panel = 6 * min(1.0, np.sqrt(q * D / dim))
    edges = np.linspace(low, high, int(np.ceil((high - low) / panel)) + 1)
    nodes, weights = _gauss_legendre(32)
    half = (edges[1] - edges[0]) / 2
    u = edges[:-1, None] + half * (nodes + 1)
    # t e^(-u/2) - rho e^(u/2), t = rho + eps, without cancellation
    z = np.sqrt(dim / q) * (eps * np.exp(-u / 2) - 2 * rho * np.sinh(u / 2))
    logs = special.log_ndtr(-z) - a * (np.expm1(u) - u)
    top = logs.max()
    integral = half * (np.exp(logs - top) @ weights).sum()
    return _log_density_peak(a) + top + np.log(integral)
