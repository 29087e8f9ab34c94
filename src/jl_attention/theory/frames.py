"""How far an interpolating query's logits rise off the support, for three kinds of key codes (T3).

The least-norm query of a row takes the values b on its support S, s = |S|. Its logit at one token
off S is, in law,

- Gaussian codes: ||b|| t_nu/sqrt(nu), nu = m - s + 1: the Student law of T3;
- tight codes, C -> C (C^T C)^(-1/2): ||b|| sqrt((1-beta)/beta) w, with beta of the law
  Beta(nu/2, (L-m)/2) and w an independent coordinate of a uniform point of the sphere of R^(L-s);
- unit codes, uniform on the sphere: b u/h for equal values b, with h^2 of the law
  Beta(nu/2, (s-1)(m-1)/2) and u an independent coordinate of a uniform point of the sphere of R^m.

Everything is counted in theta: the event is that the logit exceeds theta ||b||, where for unit
codes ||b|| stands for sqrt(s) max b. `level` is the theta that a leak allows at worst; it rises
with tau. For the same m and theta tight codes never leak more often than Gaussian ones, and at
m = L never: m is always at most L. They need every token in advance.

Why, in brief (the book has the proofs). The logits of a row are a vector of the column space E of
the codes, a uniform subspace of R^L for Gaussian and tight codes alike; with tight codes the
least-norm query is that whose logits have the least sum of squares. Rotations of the tokens off S
keep the law of E, so the direction off S is uniform; a rotation of the tokens in S takes b to
||b|| e_1, and then the logits are the projection of e_1 onto a uniform subspace of dimension nu of
R^(L-s+1), scaled. For unit codes h is the distance of the affine hull of s uniform points of the
sphere from the origin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from ..errors import ParameterError, check_array, check_choice, check_real
from ..logits import check_precision, interpolation_scale, max_logit, off_support_tolerance
from .search import doubling_search, log_of, log_sum
from .tails import student_log_tail

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "CODES",
    "FARTHEST",
    "INTERPOLATED",
    "NEGLIGIBLE",
    "NODES",
    "failure_probability",
    "level",
    "log_expected_leaks",
    "log_expected_leaks_for_rows",
    "off_support_log_tail",
    "off_support_tail",
    "required_dim",
]

CODES = ("gaussian", "tight", "unit")

NEGLIGIBLE = 50.0
"""Integrals end where the integrand has fallen by the factor exp(-NEGLIGIBLE)."""

NODES = 321
"""Nodes of the trapezoidal rule."""

INTERPOLATED = 20
"""Tails computed for the rows of one support size; the others are interpolated."""

FARTHEST = 400.0
"""Peaks are looked for in [-FARTHEST, FARTHEST], on the logistic scale."""


def off_support_tail(
    dim: ArrayLike, length: ArrayLike, row_nnz: ArrayLike, theta: ArrayLike, codes: str = "gaussian"
) -> float | np.ndarray:
    """Return the probability that the logit at one token off the support exceeds theta ||b||.

    Parameters
    ----------
    dim, length, row_nnz : int or array_like of int
        m, L and s = |S| < L; they broadcast. Only tight codes depend on L.
    theta : float or array_like
        Positive.
    codes : {"gaussian", "tight", "unit"}, optional

    Returns
    -------
    float or ndarray
        1 where m < s. For "unit" exact where the values on the support are equal, and for m > s a
        bound where they are at most max b and not negative.

    Raises
    ------
    ParameterError
        An argument is out of range.

    Notes
    -----
    See the module's head for the laws. For unit codes the bound for unequal values is this. Given
    the other codes of the support, {||q||^2 <= x} is the event that the part of c_1 in their span,
    whose law is rotation invariant and log-concave for m > s, lies in an ellipsoid that shrinks
    and moves away from the origin as b_1 grows. By Anderson's inequality ||q|| increases
    stochastically with each b_i.

    Examples
    --------
    >>> for codes in CODES:
    ...     print(f"{codes:8s} {off_support_tail(130, 1024, 4, 0.5, codes):.1e}")
    gaussian 5.4e-08
    tight    9.0e-09
    unit     7.8e-09
    """
    return np.exp(off_support_log_tail(dim, length, row_nnz, theta, codes))


def off_support_log_tail(
    dim: ArrayLike, length: ArrayLike, row_nnz: ArrayLike, theta: ArrayLike, codes: str = "gaussian"
) -> float | np.ndarray:
    """Return the logarithm of `off_support_tail`; it does not underflow.

    Parameters, errors and notes as there. -inf where such a rise is impossible: tight codes with
    m >= L, unit codes with one token and theta above 1. The quadrature's relative accuracy is
    about 1e-10.
    """
    check_choice("codes", codes, CODES)
    dim = check_array("dim", dim, at_least=1, integer=True)
    length = check_array("length", length, at_least=2, integer=True)
    row_nnz = check_array("row_nnz", row_nnz, at_least=1, integer=True)
    if (row_nnz >= length).any():
        raise ParameterError(f"row_nnz={row_nnz[()]}: must be below length={length[()]}")
    theta = check_array("theta", theta, above=0)
    dim, length, row_nnz, theta = np.broadcast_arrays(dim, length, row_nnz, theta)
    log_tail = np.zeros(dim.shape)  # log 1, where there is no query at all
    solvable = dim >= row_nnz
    law = {"gaussian": _gaussian, "tight": _tight, "unit": _unit}[codes]
    log_tail[solvable] = law(*(x[solvable] for x in (dim, length, row_nnz, theta)))
    return log_tail[()]


def level(
    row_nnz: ArrayLike,
    max_ratio: ArrayLike = 1.0,
    leak: float = 0.01,
    logit_scale: float | None = None,
) -> float | np.ndarray:
    """Return theta = (tau - log(1/eps2))/(sqrt(k) beta), the least rise that makes a row leak.

    Parameters
    ----------
    row_nnz : int or array_like of int
        k.
    max_ratio : float or array_like, optional
        gamma >= 1; beta = tau + log gamma.
    leak : float, optional
        eps2 in (0, 1).
    logit_scale : float, optional
        tau > log(1/eps2), 3 log(1/eps2) if None; ``numpy.inf`` for the limit 1/sqrt(k).

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        An argument is out of range.

    Notes
    -----
    It rises with tau, and so does every row's own (tau - l)/||b||, b_j = tau + a_j, a_j >= 0,
    l = log(1/eps2): its logarithmic derivative in tau has the sign of
    sum_j (tau + a_j)(a_j + l) > 0. Adding a constant to a row's logits is a change of tau, so no
    shift of rows gains more.

    Examples
    --------
    >>> level([4, 9]).round(3), level([4, 9], logit_scale=np.inf).round(3)
    (array([0.333, 0.222]), array([0.5  , 0.333]))
    """
    row_nnz = check_array("row_nnz", row_nnz, at_least=1, integer=True)
    max_ratio = check_array("max_ratio", max_ratio, at_least=1)
    leak = check_real("leak", leak, above=0, below=1)
    tau = interpolation_scale(leak) if logit_scale is None else logit_scale
    if np.isposinf(tau):
        return (1 / np.sqrt(row_nnz) + 0.0 * max_ratio)[()]
    _, leak, tau = check_precision(0.0, leak, tau)
    rise = off_support_tolerance(0.0, leak, tau)
    return (rise / (np.sqrt(row_nnz) * max_logit(tau, max_ratio)))[()]


def log_expected_leaks(
    dim: ArrayLike, length: ArrayLike, row_nnz: ArrayLike, theta: ArrayLike, codes: str = "gaussian"
) -> float | np.ndarray:
    """Return log of the expected number of entries that leak, L (L-1) times the worst tail.

    For patterns independent of the codes, with at most k tokens in a row: a smaller support has a
    smaller tail. A bound on the probability that any leaks.

    Parameters
    ----------
    dim, length, row_nnz : int or array_like of int
        m, L and k <= L.
    theta : float or array_like
        See `level`.
    codes : {"gaussian", "tight", "unit"}, optional

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        An argument is out of range.
    """
    length = check_array("length", length, at_least=1, integer=True)
    row_nnz = check_array("row_nnz", row_nnz, at_least=1, integer=True)
    if (row_nnz > length).any():
        raise ParameterError(f"row_nnz={row_nnz[()]}: must be at most length={length[()]}")
    # A row that attends to all tokens has none to leak to; the next smaller ones are the worst.
    others = np.maximum(length - 1, 1)
    tail = off_support_log_tail(dim, others + 1, np.minimum(row_nnz, others), theta, codes)
    return log_of(length * (length - 1.0)) + tail


def log_expected_leaks_for_rows(
    dim: int,
    length: int,
    counts: ArrayLike,
    theta: ArrayLike,
    codes: str = "gaussian",
    weights: ArrayLike | None = None,
) -> float:
    """Return log of the expected number of entries that leak, for the rows of one pattern.

    The sum of (L - |S_i|) times the tail over the rows i.

    Parameters
    ----------
    dim, length : int
        m and L.
    counts : array_like of int, shape (n,)
        |S_i|, at most L.
    theta : array_like, shape (n,)
        The rise that each row allows, by ||b_i||; for "unit" by sqrt(|S_i|) max b_i.
    codes : {"gaussian", "tight", "unit"}, optional
    weights : array_like, shape (n,), optional
        How often each row counts.

    Returns
    -------
    float

    Raises
    ------
    ParameterError
        An argument is out of range.

    Notes
    -----
    Costs one quadrature a row, or `INTERPOLATED` for all rows of one size: the log tail is a smooth
    function of log theta, and interpolated at Chebyshev points.
    """
    counts, theta = np.broadcast_arrays(counts, np.asarray(theta, dtype=float))
    weights = np.ones(counts.shape) if weights is None else np.asarray(weights, dtype=float)
    logs = [-np.inf]
    for size in np.unique(counts[counts < length]):
        rows = counts == size
        tails = _log_tails(dim, length, int(size), theta[rows], codes)
        logs.append(np.log(length - size) + log_sum(np.log(weights[rows]) + tails))
    return float(log_sum(np.array(logs)))


def _log_tails(dim, length, row_nnz, theta, codes):
    """Return the log tails of many theta for one support size."""
    low, high = np.log(theta.min()), np.log(theta.max())
    if len(theta) <= INTERPOLATED or high - low < 1e-12:
        return off_support_log_tail(dim, length, row_nnz, theta, codes)
    nodes = np.polynomial.chebyshev.chebpts1(INTERPOLATED)
    at = np.exp(low + (high - low) * (nodes + 1) / 2)
    values = off_support_log_tail(dim, length, row_nnz, at, codes)
    if not np.isfinite(values).all():
        return off_support_log_tail(dim, length, row_nnz, theta, codes)
    fit = np.polynomial.chebyshev.chebfit(nodes, values, INTERPOLATED - 1)
    return np.polynomial.chebyshev.chebval(2 * (np.log(theta) - low) / (high - low) - 1, fit)


def failure_probability(
    dim: ArrayLike,
    length: ArrayLike,
    row_nnz: ArrayLike,
    max_ratio: ArrayLike = 1.0,
    leak: float = 0.01,
    logit_scale: float | None = None,
    codes: str = "tight",
) -> float | np.ndarray:
    """Return the failure probability that T3 leaves at query dimension m with these codes.

    Parameters and errors as in `required_dim`.

    Returns
    -------
    float or ndarray
        At most 1.

    Examples
    --------
    >>> failure_probability([134, 135], 256, 4).round(4)
    array([0.0111, 0.0092])
    """
    log_failure = log_expected_leaks(
        dim, length, row_nnz, level(row_nnz, max_ratio, leak, logit_scale), codes
    )
    return np.exp(np.minimum(log_failure, 0.0))


def required_dim(
    length: ArrayLike,
    row_nnz: ArrayLike,
    max_ratio: ArrayLike = 1.0,
    leak: float = 0.01,
    failure_prob: ArrayLike = 0.01,
    logit_scale: float | None = None,
    codes: str = "tight",
) -> int | np.ndarray:
    """Return the least m for which T3 promises the leak, with these codes.

    Parameters
    ----------
    length, row_nnz : int or array_like of int
        L and k.
    max_ratio : float or array_like, optional
        gamma >= 1.
    leak : float, optional
        eps2 in (0, 1).
    failure_prob : float or array_like, optional
        eta in (0, 1).
    logit_scale : float, optional
        tau, 3 log(1/eps2) if None; ``numpy.inf`` for the limit.
    codes : {"tight", "gaussian", "unit"}, optional

    Returns
    -------
    int, or ndarray of int64 when an argument is an array
        With tight codes at most L.

    Raises
    ------
    ParameterError
        An argument is out of range.

    Examples
    --------
    >>> for codes in CODES:
    ...     print(codes, required_dim([128, 256, 1024], 4, codes=codes).tolist())
    gaussian [227, 253, 304]
    tight [90, 135, 239]
    unit [214, 237, 285]
    """
    length = check_array("length", length, at_least=1, integer=True)
    theta = level(row_nnz, max_ratio, leak, logit_scale)
    row_nnz = check_array("row_nnz", row_nnz, at_least=1, integer=True)
    log_eta = np.log(check_array("failure_prob", failure_prob, above=0, below=1))

    def log_failure(dim):
        return log_expected_leaks(dim, length, row_nnz, theta, codes)

    # At m = k >= 2, where the bound of unit codes is not proved, their tail is 1/4 or more anyway.
    return doubling_search(log_failure, log_eta, row_nnz)


# --- The laws ----------------------------------------------------------------------------------


def _gaussian(dim, length, row_nnz, theta):
    return student_log_tail(dim - row_nnz + 1.0, theta)


def _tight(dim, length, row_nnz, theta):
    """Return the log tail of sqrt((1-beta)/beta) w as a mean over x = beta/(1-beta)."""
    leaks = dim < length
    dim, length = dim[leaks], length[leaks]
    row_nnz, theta = row_nnz[leaks], theta[leaks]
    a, b = (dim - row_nnz + 1) / 2, (length - dim) / 2

    def log_density(log_x, log_rest):
        return a * log_x - (a + b) * np.logaddexp(0, log_x) - special.betaln(a, b)

    log_tail = np.full(leaks.shape, -np.inf)
    log_tail[leaks] = _log_mean_cap(length - row_nnz, theta**2, np.inf, log_density)
    return log_tail


def _unit(dim, length, row_nnz, theta):
    """Return the log tail of u/h as a mean over x = h^2; a single code has h = 1."""
    factor = row_nnz * theta**2
    one = row_nnz == 1
    log_tail = np.full(factor.shape, -np.inf)
    short = one & (factor < 1)
    log_tail[short] = _log_cap(dim[short], np.log(factor[short]), np.log1p(-factor[short]))
    log_tail[one & (factor == 1) & (dim == 1)] = np.log(0.5)  # codes are 1 or -1
    dim, row_nnz, factor = dim[~one], row_nnz[~one], factor[~one]
    a, b = (dim - row_nnz + 1) / 2, (row_nnz - 1) * (dim - 1) / 2

    def log_density(log_x, log_rest):
        log_one_minus_x = np.where(factor <= 1, log_rest, _log_one_minus_exp(log_x))
        return a * log_x + (b - 1) * log_one_minus_x - special.betaln(a, b)

    log_tail[~one] = _log_mean_cap(dim, factor, 1.0, log_density)
    return log_tail


def _log_mean_cap(dim, factor, largest, log_density):
    """Return log of the mean of P(u_1^2 >= factor x, u_1 > 0) over x, u uniform in R^dim's sphere.

    x lies in (0, largest) and has `log_density` with respect to log x. On the logistic scale,
    x = end/(1 + e^-v) with end = min(largest, 1/factor), both ends of the integral are at
    infinity, where the integrand falls exponentially: the trapezoidal rule is exact up to
    rounding. First find, with a bound of the cap, the peak and how far to go on either side.
    """
    log_factor = np.log(factor)
    capped = factor * largest >= 1
    log_end = np.where(capped, -log_factor, np.log(largest))

    def integrand(v, log_cap):
        log_share, log_rest = -np.logaddexp(0, -v), -np.logaddexp(0, v)
        log_x = log_end + log_share
        log_square = np.minimum(log_factor + log_x, -1e-300)
        # 1 - s^2 of the cap: known without cancellation where x reaches the largest cap
        log_below = np.where(capped, log_rest, _log_one_minus_exp(log_square))
        return log_density(log_x, log_rest) + log_rest + log_cap(dim, log_square, log_below)

    low, high = np.full(factor.shape, -FARTHEST), np.full(factor.shape, FARTHEST)
    columns = np.arange(factor.size)
    for _ in range(5):
        v = np.linspace(low, high, 33)
        best = np.argmax(integrand(v, _log_cap_bound), axis=0)
        low, high = v[np.maximum(best - 1, 0), columns], v[np.minimum(best + 1, 32), columns]
    peak = (low + high) / 2
    least = integrand(peak, _log_cap_bound) - NEGLIGIBLE
    distance = 2.0 ** np.arange(-16, 9.25, 0.25)[:, None]
    left, right = (
        distance[np.argmax(integrand(peak + side * distance, _log_cap_bound) < least, axis=0), 0]
        for side in (-1, 1)
    )
    v = np.linspace(peak - left, peak + right, NODES)
    return log_sum(integrand(v, _log_cap)) + np.log((left + right) / (NODES - 1))


def _log_cap(dim, log_square, log_rest):
    """Return log P(u_1 >= s), u uniform on the sphere of R^dim, from log s^2 and log(1 - s^2)."""
    ratio = np.exp((log_square - log_rest) / 2)  # u_1/sqrt(1 - u_1^2) is t_nu/sqrt(nu)
    log_cap = student_log_tail(np.maximum(dim - 1.0, 1.0), ratio)
    return np.where(dim == 1, np.log(0.5), log_cap)


def _log_cap_bound(dim, log_square, log_rest):
    """Return the bound log (1 - s^2)^((n-1)/2): as good where only the shape matters."""
    return (dim - 1) / 2 * log_rest


def _log_one_minus_exp(log_x):
    return np.log(-np.expm1(log_x))
