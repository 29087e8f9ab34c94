"""Orthogonal projections: what they inherit from Gaussian ones (S1), and their own exact law.

P is sqrt(n/m) times m orthonormal rows in R^n, uniformly distributed (Haar), m <= n; G is the
Gaussian map with variance 1/m. Write G = S Q with S = (G G^T)^(1/2). The rows of Q are
orthonormal, uniformly distributed and independent of S, and E S^2 = (n/m) I. So sqrt(n/m) Q is a P,
and

    P^T P = E[G^T G | Q].

By Jensen's inequality E f(P^T P) <= E f(G^T G) for every convex f: **every bound that was proved
for G by Markov's inequality for a convex function of G^T G holds word for word for P**, where
m <= n. Such are all Chernoff bounds on lengths and inner products: L1, L2a, L2a', the exponents of
`concentration`, hence T1 and T2 in closed form, sharp and in differences. At m = n the error is 0.
So min(m, n) dimensions always do (`dim_with_rotation`).

The exact tails of G are not bounds for P, and need not be: P has its own law,
`inner_product_log_tail`. That 1/m_P = 1/m_G + 1/n (`matching_dim`) is a prediction: equal
variances, not equal tails.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from ..errors import ParameterError, check_array, check_choice
from . import tails
from .inner_products import SIDES
from .tails import NEGLIGIBLE

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "GRID",
    "PANELS",
    "ROUNDING",
    "TINY",
    "dim_with_rotation",
    "inner_product_log_tail",
    "inner_product_tail",
    "inner_product_variance",
    "matching_dim",
]

GRID = 513
"""Points on which the peak of an integrand is looked for."""

TINY = 1e-300
"""In place of a product that underflows to 0."""

ROUNDING = 1e-12
"""Relative distance from the edge of the support within which a tail counts as empty."""

PANELS = 8
"""Gauss-Legendre panels on each smooth piece of an integrand."""


def inner_product_variance(
    dim_out: ArrayLike, dim_in: ArrayLike, correlation: ArrayLike
) -> float | np.ndarray:
    """Return Var <Px,Py> for unit vectors with <x,y> = rho.

    It is (n-m)/(m(n+2)) (2 rho^2 + (1-rho^2) n/(n-1)), below the Gaussian (1+rho^2)/m.

    Parameters
    ----------
    dim_out, dim_in : int or array_like of int
        m and n, 1 <= m <= n and n >= 2.
    correlation : float or array_like
        rho in [-1, 1].

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        An argument is out of range.

    Notes
    -----
    ||Px||^2 is (n/m) Beta(m/2, (n-m)/2), which gives the first term. For z orthogonal to x,
    m = E tr (P^T P m/n)^2 gives the variance of <Px,Pz>, the second. <Px,Px> and <Px,Pz> are
    uncorrelated, as -z does as well as z.

    Examples
    --------
    >>> float(inner_product_variance(64, 64, 0.5))
    0.0
    """
    m, n = _check_dims(dim_out, dim_in)
    rho = check_array("correlation", correlation, at_least=-1, at_most=1)
    return ((n - m) / (m * (n + 2)) * (2 * rho**2 + (1 - rho**2) * n / (n - 1)))[()]


def inner_product_tail(
    dim_out: ArrayLike,
    dim_in: ArrayLike,
    epsilon: ArrayLike,
    correlation: ArrayLike,
    side: str = "two-sided",
) -> float | np.ndarray:
    """Return the exact P(|<Px,Py> - rho| > eps) for unit x, y with <x,y> = rho.

    Parameters
    ----------
    dim_out, dim_in : int or array_like of int
        m and n, 1 <= m <= n and n >= 3.
    epsilon : float or array_like
        Positive.
    correlation : float or array_like
        rho in [-1, 1].
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
    Let Pi = (m/n) P^T P, the projector. a = ||Pi x||^2 is Beta(m/2, (n-m)/2); Pi x = a x + w with
    w orthogonal to x, ||w||^2 = a - a^2, and the direction of w is uniform. So, with
    y = rho x + sqrt(1-rho^2) z,

        <Pi x, y> = rho a + sqrt(1-rho^2) sqrt(a(1-a)) u,

    u one coordinate of a uniform point of the unit sphere of R^(n-1), independent of a. The tail
    is the mean over a of a cap's share, `tails.cap_tail`: one integral, taken on the
    logarithmic scale between the points where the cap's share reaches 0 and 1. At |rho| = 1 it is
    a Beta tail.

    Examples
    --------
    The error is smaller than a Gaussian map's, and 0 at m = n:

    >>> round(float(inner_product_tail(64, 128, 0.25, 0.0)), 5)
    0.00413
    >>> from jl_attention.theory import inner_products
    >>> round(float(inner_products.inner_product_tail(64, 0.25, 0.0)), 5)
    0.04633
    """
    return np.exp(inner_product_log_tail(dim_out, dim_in, epsilon, correlation, side))


def inner_product_log_tail(
    dim_out: ArrayLike,
    dim_in: ArrayLike,
    epsilon: ArrayLike,
    correlation: ArrayLike,
    side: str = "two-sided",
) -> float | np.ndarray:
    """Return the logarithm of `inner_product_tail`; it does not underflow."""
    check_choice("side", side, SIDES)
    m, n = _check_dims(dim_out, dim_in, 3)
    eps = check_array("epsilon", epsilon, above=0)
    rho = check_array("correlation", correlation, at_least=-1, at_most=1)
    with np.errstate(divide="ignore"):  # np.vectorize reports what its function ignored
        logs = [
            _log_upper(m, n, eps, rho) if side != "lower" else -np.inf,
            _log_upper(m, n, eps, -rho) if side != "upper" else -np.inf,
        ]
    return np.minimum(np.logaddexp(*logs), 0.0)[()]


@np.vectorize(otypes=[float])
def _log_upper(m, n, eps, rho):
    """Return log P(<Px,Py> - rho > eps), scalars in and out."""
    level = m / n * (rho + eps)  # what <Pi x, y> has to exceed
    largest = (1 + rho) / 2  # of <Pi x, y>, for every projector Pi
    if m == n or level >= largest * (1 - ROUNDING):
        return -np.inf
    shapes = m / 2, (n - m) / 2
    with np.errstate(divide="ignore"):
        if rho == 1:
            return np.log(special.betaincc(*shapes, level))
        if rho == -1:
            return np.log(special.betainc(*shapes, -level))
    log_beta = special.betaln(*shapes)

    def log_integrand(v):
        """Return the log-density of v = log(a/(1-a)) times the share of the cap."""
        a, b = special.expit(v), special.expit(-v)
        height = (level - rho * a) / np.sqrt((1 - rho**2) * np.maximum(a * b, TINY))
        density = shapes[0] * special.log_expit(v) + shapes[1] * special.log_expit(-v)
        return density - log_beta + _log_cap(n - 1, height)

    # The cap is empty, or everything, from where |height| = 1: a^2 - linear a + level^2 = 0.
    linear = 1 - rho**2 + 2 * rho * level
    root = np.sqrt(max(0.0, (linear - 2 * level) * (linear + 2 * level)))
    high = (linear + root) / 2
    low = level**2 / high
    corners = [special.logit(x) for x in (low, high) if 0 < x < 1]
    # Where nearly all of the Beta law is, and where the tail is made.
    centre, width = np.log(m / (n - m)), 15 * np.sqrt(2 / m + 2 / (n - m)) + 60 / min(m, n - m)
    span = np.array([centre - width, centre + width, *corners])
    grid = np.linspace(span.min(), span.max(), GRID)
    if len(corners) == 2:  # they may be closer than two points of the grid
        grid = np.unique(np.concatenate([grid, np.linspace(*corners, GRID)]))
    logs = log_integrand(grid)
    for _ in range(3):  # close in on the part that matters
        matters = np.nonzero(logs > logs.max() - NEGLIGIBLE)[0]
        first, last = max(matters[0] - 1, 0), min(matters[-1] + 1, len(grid) - 1)
        grid = np.linspace(grid[first], grid[last], GRID)
        logs = log_integrand(grid)
    ends = [grid[0], *sorted(c for c in corners if grid[0] < c < grid[-1]), grid[-1]]
    edges = np.concatenate([np.linspace(*pair, PANELS + 1) for pair in pairwise(ends)])
    nodes, weights = tails._gauss_legendre(64)
    half = np.diff(edges)[:, None] / 2
    logs = log_integrand(edges[:-1, None] + half * (nodes + 1))
    top = logs.max()
    return top + np.log((half * np.exp(logs - top) @ weights).sum())


def _log_cap(dim, height):
    """Return log P(u_1 > s) for u uniform on the unit sphere of R^dim and any s."""
    inside = np.clip(abs(height), 0.0, 1.0)
    with np.errstate(divide="ignore"):
        log_tail = tails._half_beta_log((dim - 1) / 2, tails._cap_rate(inside))
        return np.where(height < 0, np.log1p(-np.exp(log_tail)), log_tail)


def dim_with_rotation(gaussian_dim: ArrayLike, length: ArrayLike) -> int | np.ndarray:
    """Return min(m, L): what an orthogonal projection needs where a Gaussian one is promised m.

    Every Chernoff bound holds for P too where m <= L, and at m = L an orthogonal matrix keeps all
    inner products as they are. With it T1 and T2 never ask for more than L.

    Parameters
    ----------
    gaussian_dim, length : int or array_like of int
        m, from a bound proved by Markov's inequality, and L, the dimension projected from.

    Returns
    -------
    int or ndarray of int64

    Raises
    ------
    ParameterError
        An argument is not a positive integer.

    Examples
    --------
    >>> dim_with_rotation([508, 30_000], 1024).tolist()
    [508, 1024]
    """
    m = check_array("gaussian_dim", gaussian_dim, at_least=1, integer=True)
    n = check_array("length", length, at_least=1, integer=True)
    least = np.minimum(m, n)
    return least if least.ndim else least.item()


def matching_dim(gaussian_dim: ArrayLike, length: ArrayLike) -> float | np.ndarray:
    """Return m_G L/(m_G + L), where an orthogonal map errs like a Gaussian one at m_G.

    A prediction, not a bound: for large L the two variances are then equal, whatever the
    correlation, as (n-m)/(m n) = 1/m - 1/n is the factor that 1/m becomes.

    Parameters
    ----------
    gaussian_dim, length : float or array_like
        m_G and L, positive.

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        An argument is out of range.

    Examples
    --------
    >>> round(matching_dim(429, 1024))
    302
    """
    m = check_array("gaussian_dim", gaussian_dim, above=0)
    n = check_array("length", length, above=0)
    return (m * n / (m + n))[()]


def _check_dims(dim_out, dim_in, least=2):
    n = check_array("dim_in", dim_in, at_least=least, integer=True)
    m = check_array("dim_out", dim_out, at_least=1, integer=True)
    if (m > n).any():
        raise ParameterError(f"dim_out={dim_out!r}: must be at most dim_in={dim_in!r}")
    return m.astype(float), n.astype(float)
