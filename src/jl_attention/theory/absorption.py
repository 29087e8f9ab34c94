"""Exact law of feasibility (Theorem T9): can a query put this support above all other tokens?

Key codes are independent standard Gaussian vectors of R^m. A row with a support S of k tokens and
equal weights has a query of any gap at all iff the hull of the other n = L - k codes does not meet
the affine hull of the codes of S. Projecting along the latter leaves nu = m - k + 1 dimensions;
the support becomes one point x with N(0, 1/k) coordinates, independent of the n projected codes,
which stay standard Gaussian. So

    p(L, m, k) = P(x lies in the hull of n standard Gaussian points of R^nu).

`log_infeasible` computes it. Three couplings say how it moves: p falls as m grows (drop a
coordinate), rises with L (drop a token) and rises with k (a face of a face is a face). So it also
bounds rows with fewer tokens. With unequal weights a row that is feasible for equal ones stays
feasible (add a long query of the equal kind), so there p is an upper bound; it is the exact law in
the limit of a large gap.

The law is that of Affentranger and Schneider for projected polytopes, in the form of
Kabluchko and Zaporozhets, *Absorption probabilities for Gaussian polytopes* (arXiv 1704.04968).

Unit codes have the directions of Gaussian ones, but not their law: for them p is not exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from ..errors import ParameterError, check_array, check_choice, check_real
from .search import doubling_search, log_binomial, log_sum

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "NEGLIGIBLE",
    "SCOPES",
    "STEPS",
    "TERMS",
    "expected_failures",
    "failure_probability",
    "infeasible_probability",
    "log_expected_failures",
    "log_expected_failures_for_counts",
    "log_infeasible",
    "required_dim",
    "required_dim_for_counts",
    "threshold_dim",
]

SCOPES = ("row", "pattern", "every_support")

NEGLIGIBLE = 45.0
"""Sums and integrals end where their terms have fallen by the factor exp(-NEGLIGIBLE)."""

TERMS = 64
"""Terms of the first block of the sum; every later block is twice as long."""

STEPS = 1 / 4
"""Step of the trapezoidal rule, in units of the integrand's width: errors below 1e-15."""


def infeasible_probability(
    dim: ArrayLike, length: ArrayLike, row_nnz: ArrayLike
) -> float | np.ndarray:
    """Return p(L, m, k): how likely Gaussian codes leave one support of k tokens without a query.

    Parameters
    ----------
    dim, length, row_nnz : int or array_like of int
        m, L and k <= L; they broadcast.

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        An argument is out of range.

    Notes
    -----
    See the module's head for the event and `log_infeasible` for the formula. Exact for equal
    weights, an upper bound for others and for supports of fewer than k tokens.

    Examples
    --------
    One point among two others on a line lies between them with probability 1/3:

    >>> float(round(infeasible_probability(1, 3, 1), 12))
    0.333333333333
    """
    return np.exp(log_infeasible(dim, length, row_nnz))


def log_infeasible(dim: ArrayLike, length: ArrayLike, row_nnz: ArrayLike) -> float | np.ndarray:
    """Return the logarithm of `infeasible_probability`; it does not underflow.

    Parameters
    ----------
    dim, length, row_nnz : int or array_like of int
        m, L and k <= L; they broadcast. L may be a million or more.

    Returns
    -------
    float or ndarray
        -inf where there is always a query: n = L - k <= nu = m - k + 1. 0 where m < k and there
        are other tokens.

    Raises
    ------
    ParameterError
        An argument is out of range.

    Notes
    -----
    With g_n(r) = E Phi(sqrt(r) X)^n, X standard normal, continued analytically to r < 0,

        p = 2 sum over j = nu+1, nu+3, ... <= n of C(n,j) g_j(-1/(k+j)) g_(n-j)(1/(k+j)).

    x is in the hull iff the kernel of the projection, a uniform subspace of R^(n+1) of codimension
    nu, meets the cone C of e_1 - e_0/sqrt(k), ..., e_n - e_0/sqrt(k). By the conic Crofton formula
    that has probability 2 (v_(nu+1) + v_(nu+3) + ...), v_j the intrinsic volumes of C: the sum
    over its C(n,j) faces of internal times external angle. The generators have the Gram matrix
    I + J/k. The coefficients of a Gaussian vector in j of them have covariance I - J/(k+j), which
    gives the internal angle g_j(-1/(k+j)); projected off these j the others have the Gram matrix
    I + J/(k+j), which gives the external angle g_(n-j)(1/(k+j)).

    Every term is positive. Relative accuracy of p is about 1e-12, at L = 10^6 about 1e-9: the
    binomial coefficient's. Costs some 64 to a few thousand terms of 300 nodes each.

    Examples
    --------
    >>> log_infeasible([28, 52], [256, 1024], 4).round(2)
    array([ -4.41, -11.94])
    """
    dim, length, row_nnz = _check_sizes(dim, length, row_nnz)
    return _log_infeasible(dim, length, row_nnz)[()]


def threshold_dim(length: ArrayLike, row_nnz: ArrayLike) -> float | np.ndarray:
    """Return the dimension at which about half of the rows have a query.

    k - 1 + min over t of k t^2 + (L - k) psi(t), psi(t) = E max(X - t, 0)^2: to within 1, the
    statistical dimension of the cone of `log_infeasible`, where such probabilities fall from 1 to 0
    (Amelunxen, Lotz, McCoy, Tropp 2014). The exact median, interpolated between integers, was
    above it by 0.07 to 0.6 for all L from 64 to 10^6 and k from 1 to L/2 that were tried. Its
    leading order for L much larger than m is the solution of m = 2 k ln(L/m).

    Parameters
    ----------
    length, row_nnz : int or array_like of int
        L and k <= L; they broadcast.

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        An argument is out of range.

    Examples
    --------
    >>> threshold_dim([256, 1024, 4096], 4).round(1)
    array([17.7, 24.9, 32.8])
    """
    _, length, row_nnz = _check_sizes(1, length, row_nnz)
    return _threshold(length, row_nnz)[()]


def log_expected_failures(
    dim: ArrayLike, length: ArrayLike, row_nnz: ArrayLike, scope: str = "pattern"
) -> float | np.ndarray:
    """Return the logarithm of `expected_failures`; it does not overflow.

    Parameters, returns and errors as there.

    Examples
    --------
    >>> float(round(log_expected_failures(74, 1024, 4, "every_support"), 1))
    -5.3
    """
    check_choice("scope", scope, SCOPES)
    dim, length, row_nnz = _check_sizes(dim, length, row_nnz)
    return (_log_rows(length, row_nnz, scope) + _log_infeasible(dim, length, row_nnz))[()]


def expected_failures(
    dim: ArrayLike, length: ArrayLike, row_nnz: ArrayLike, scope: str = "pattern"
) -> float | np.ndarray:
    """Return the expected number of supports that Gaussian codes leave without a query.

    Parameters
    ----------
    dim, length, row_nnz : int or array_like of int
        m, L and k; they broadcast.
    scope : {"pattern", "row", "every_support"}, optional
        Which supports of k tokens: the L rows of one pattern chosen independently of the codes,
        one row of it, or all C(L, k).

    Returns
    -------
    float or ndarray
        A bound on the probability that there is any, also where supports have at most k tokens.

    Raises
    ------
    ParameterError
        An argument is out of range.

    Examples
    --------
    >>> float(round(expected_failures(28, 256, 4), 2))
    3.12
    """
    with np.errstate(over="ignore"):
        return np.exp(log_expected_failures(dim, length, row_nnz, scope))


def failure_probability(
    dim: ArrayLike, length: ArrayLike, row_nnz: ArrayLike, scope: str = "pattern"
) -> float | np.ndarray:
    """Return a bound on the probability that some support has no query: min(1, expected failures).

    Parameters and errors as in `expected_failures`. For ``scope="row"`` it is that probability.

    Examples
    --------
    >>> failure_probability([28, 52], [256, 1024], 4).round(4)
    array([1.    , 0.0067])
    """
    return np.exp(np.minimum(log_expected_failures(dim, length, row_nnz, scope), 0.0))


def required_dim(
    length: ArrayLike, row_nnz: ArrayLike, failure_prob: ArrayLike = 0.01, scope: str = "pattern"
) -> int | np.ndarray:
    """Return the least m with `failure_probability` at most eta (Theorem T9).

    With probability at least 1 - eta over Gaussian codes each support of at most k tokens has a
    max-margin query: exact ratios and a leak as small as is wanted. How long the queries are is
    another matter, see `margin_bounds`.

    Parameters
    ----------
    length, row_nnz : int or array_like of int
        L and k.
    failure_prob : float or array_like, optional
        eta in (0, 1).
    scope : {"pattern", "row", "every_support"}, optional
        As in `expected_failures`: supports independent of the codes, or all of them at once.

    Returns
    -------
    int, or ndarray of int64 when an argument is an array
        At most max(L - 1, 1): L affinely independent codes serve every pattern.

    Raises
    ------
    ParameterError
        An argument is out of range.

    Examples
    --------
    >>> required_dim([256, 1024, 4096], 4).tolist()
    [37, 52, 68]
    >>> required_dim(1024, [2, 4, 8], scope="every_support").tolist()
    [44, 74, 124]
    """
    check_choice("scope", scope, SCOPES)
    _, length, row_nnz = _check_sizes(1, length, row_nnz)
    log_eta = np.log(check_array("failure_prob", failure_prob, above=0, below=1))
    log_rows = _log_rows(length, row_nnz, scope)

    def log_failure(dim):
        return log_rows + _log_infeasible(dim, length, row_nnz)

    return doubling_search(log_failure, log_eta, _least_dim(length, row_nnz))


def log_expected_failures_for_counts(dim: int, length: int, counts: ArrayLike) -> float:
    """Return log of the expected number of rows without a query, for rows of mixed support sizes.

    The sum of p(L, m, |S_i|) over the rows i of one pattern, in place of L p(L, m, k).

    Parameters
    ----------
    dim, length : int
        m and L.
    counts : array_like of int, shape (n,)
        The sizes |S_i| of the supports, between 1 and L.

    Returns
    -------
    float

    Raises
    ------
    ParameterError
        An argument is out of range, or `counts` is empty.
    """
    sizes, log_rows = _merge_counts(dim, length, counts)
    return float(log_sum(log_rows + _log_infeasible(dim, length, sizes)))


def required_dim_for_counts(
    length: ArrayLike, counts: ArrayLike, failure_prob: ArrayLike = 0.01
) -> int:
    """Return the least m at which a pattern with these support sizes fails at most with eta.

    Parameters and errors as in `log_expected_failures_for_counts`; eta in (0, 1).

    Returns
    -------
    int

    Examples
    --------
    >>> required_dim_for_counts(1024, [4] * 1024), required_dim_for_counts(1024, [4] + [1] * 1023)
    (52, 39)
    """
    sizes, log_rows = _merge_counts(1, length, counts)
    log_eta = np.log(check_real("failure_prob", failure_prob, above=0, below=1))

    def log_failure(dim):
        return log_sum(log_rows + _log_infeasible(dim, length, sizes))

    return doubling_search(log_failure, log_eta, _least_dim(length, sizes[-1]))


# --- Sizes -------------------------------------------------------------------------------------


def _check_sizes(dim, length, row_nnz):
    dim = check_array("dim", dim, at_least=1, integer=True)
    length = check_array("length", length, at_least=1, integer=True)
    nnz = check_array("row_nnz", row_nnz, at_least=1, integer=True)
    if (nnz > length).any():
        raise ParameterError(f"row_nnz={row_nnz!r}: must be at most length={length!r}")
    return dim, length, nnz


def _log_rows(length, row_nnz, scope):
    if scope == "row":
        return np.zeros(np.broadcast_shapes(length.shape, row_nnz.shape))
    if scope == "pattern":
        return np.log(length) + 0.0 * row_nnz
    return log_binomial(length, row_nnz)


def _merge_counts(dim, length, counts):
    """Return the distinct support sizes, and the logs of how often each occurs."""
    counts = np.ravel(check_array("counts", counts, at_least=1, integer=True))
    if not counts.size:
        raise ParameterError("counts: expected at least one row")
    _check_sizes(dim, length, counts)
    sizes, rows = np.unique(counts, return_counts=True)
    return sizes, np.log(rows)


def _least_dim(length, row_nnz):
    """Return the dimension below which nothing separates: k, or L - 1 if that is less."""
    return np.clip(row_nnz, 1, np.maximum(np.asarray(length) - 1, 1))


# --- The law -----------------------------------------------------------------------------------


@np.vectorize(otypes=[float])
def _log_infeasible(dim, length, row_nnz):
    """Return log p(L, m, k), scalars in and out."""
    n, nu = length - row_nnz, dim - row_nnz + 1
    if nu < 1:
        return 0.0 if n or nu < 0 else -np.inf
    total, first, terms = -np.inf, nu + 1, TERMS
    while first <= n:
        j = np.arange(first, min(first + 2 * terms, n + 1), 2, dtype=float)
        logs = _log_intrinsic_volume(n, row_nnz, j)
        total = np.logaddexp(total, log_sum(logs))
        if len(j) > 1 and logs[-1] < min(logs[-2], total - NEGLIGIBLE):
            break
        first, terms = first + 2 * terms, 2 * terms
    return min(np.log(2) + total, 0.0)


def _log_intrinsic_volume(n, k, j):
    """Return log of C(n,j) g_j(-1/(k+j)) g_(n-j)(1/(k+j)), j an array."""
    return log_binomial(n, j) + _log_internal_angle(k, j) + _log_external_angle(n - j, k + j)


def _log_external_angle(n, a):
    """Return log g_n(1/a) = log of the mean of Phi(z)^n over z with variance 1/a.

    The integrand exp(n log Phi(z) - a z^2/2) is log-concave, its curvature falls in z and is
    never below a: that says how far to integrate on either side of its peak.
    """
    peak = _newton(lambda z: _log_slope(n, a, z), np.zeros(len(a)))
    _, slope = _log_slope(n, a, peak)
    width = 1 / np.sqrt(-slope)
    reach = np.sqrt(2 * NEGLIGIBLE)
    low, high = peak - reach * width, peak + reach / np.sqrt(a)
    nodes = int(np.ceil(np.max((high - low) / width) / STEPS)) + 1
    z = np.linspace(low, high, nodes)
    logs = n * special.log_ndtr(z) - a * z**2 / 2
    step = (high - low) / (nodes - 1)
    return log_sum(logs) + np.log(step) + np.log(a / (2 * np.pi)) / 2


def _log_slope(n, a, z):
    """Return the first two derivatives of n log Phi(z) - a z^2/2."""
    # phi/Phi, where each form keeps its digits
    below = np.sqrt(2 / np.pi) / special.erfcx(-np.minimum(z, 0.0) / np.sqrt(2))
    mills = np.where(z < 0, below, _density(z) / special.ndtr(np.maximum(z, 0.0)))
    return n * mills - a * z, -n * mills * (mills + z) - a


def _log_internal_angle(k, j):
    """Return log g_j(-1/(k+j)), the probability that a Gaussian vector of R^j with covariance
    I - J/(k+j) is positive.

    With a = k + j it is sqrt(a/(2 pi)) times the integral of Phi(z)^j exp(a z^2/2) along a
    vertical line of the plane, best through the saddle point z0 < 0. There
    Phi(z) = exp(-z^2/2) w/2 with w = erfcx(-z/sqrt(2)), so that only k z^2/2 is left of the
    exponent. |w| is largest on the real axis, so the integrand falls at least like exp(-k y^2/2).
    """
    a = k + j
    z0 = _newton(lambda z: _log_slope(j, -a, z), -np.sqrt(j / k))
    _, curvature = _log_slope(j, -a, z0)
    width = 1 / np.sqrt(curvature)
    reach = np.sqrt(2 * NEGLIGIBLE / k)
    nodes = int(np.ceil(np.max(reach / width) / STEPS)) + 1
    y = np.linspace(np.zeros(len(j)), reach, nodes)
    z = z0 + 1j * y
    # scipy's wofz(i x) is erfcx(x), for complex x too
    log_w = np.log(special.wofz(-1j * z / np.sqrt(2)) / 2)
    logs = j * log_w + k * z**2 / 2
    top = logs[0].real
    # The integrand at -y is the conjugate of that at y.
    integrand = np.exp(logs - top).real
    integral = (2 * integrand.sum(axis=0) - integrand[0]) * reach / (nodes - 1)
    return top + np.log(integral) + np.log(a / (2 * np.pi)) / 2


def _newton(derivatives, z, steps=60):
    """Return the zeros of a function from its value and slope, started at z."""
    for _ in range(steps):
        value, slope = derivatives(z)
        move = value / slope
        z = z - move
        if np.all(np.abs(move) <= 1e-9 * (1 + np.abs(z))):
            break
    return z


@np.vectorize(otypes=[float])
def _threshold(length, row_nnz):
    """Return k - 1 + min over t of k t^2 + (L - k) psi(t), scalars in and out."""
    n, k = length - row_nnz, row_nnz
    if n == 0:
        return k - 1.0

    def slope(t):  # half the derivative, k t - n E max(X - t, 0)
        return k * t - n * (_density(t) - t * special.ndtr(-t))

    from scipy import optimize  # slow to import, and only this needs it

    t = optimize.brentq(slope, 0, 40, xtol=1e-13)
    psi = (1 + t**2) * special.ndtr(-t) - t * _density(t)
    return k - 1 + k * t**2 + n * psi


def _density(t):
    return np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)
