"""How often Gaussian codes leave a row without a query at a given logit scale: an exact law.

A row asks for <q, c_j> = b_j on its support, of s tokens, and for <q, c_j> <= a on the n other
tokens that it sees. With the query p of Theorem T3 and y orthogonal to the codes of the support,
q = p + y. Let w = <p, c>/|p| for each of the n codes, and v its m - s coordinates orthogonal to the
support: independent standard normal all of them, a point of R^nu, nu = m - s + 1. The row asks for
|p| w + <y, v> <= a. By Farkas' lemma there is no y exactly if a convex combination of the n points
lies on the axis of w at a height of a/|p| or more.

|p|^2 = b^T (C C^T)^(-1) b has the law of |b|^2/chi^2_nu, independent of the n points, whose law is
the same in every direction. So let g be standard normal in R^nu: the axis may be that of g, and
a/|p| = theta |g| with theta = a/|b|. The row then has no query if and only if the kernel of
(g, G_1, ..., G_n), a uniform subspace of R^(n+1) of codimension nu, meets the cone of
e_1 - theta e_0, ..., e_n - theta e_0 and -e_0. By the conic Crofton formula that has the
probability 2 (v_(nu+1) + v_(nu+3) + ...), v_j the intrinsic volumes of the cone: sums over its
faces of internal times external angle. With k = 1/theta^2, g_n as in `absorption` and Z, N_1, N_2,
... independent standard normal, these are

- for j of the first n generators: g_j(-1/(k+j)), and E[Phi(z)^(n-j); z >= 0] for a normal z of
  variance 1/(k+j);
- for these and -e_0: 2^(-j) P(Z >= theta (|N_1| + ... + |N_j|)), and 2^(j-n).

For theta = 1/sqrt(k), s = k and many tokens this is the law of max-margin queries (`absorption`),
whose logit scale is free: there theta g has to lie in the hull. T3 itself fails as soon as one of
the n points is higher than theta |g|, with the probability of Student's law.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from ..errors import check_array
from .absorption import NEGLIGIBLE, STEPS, TERMS, _log_internal_angle, _log_slope, _newton
from .search import log_binomial, log_sum

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "NODES",
    "log_no_query",
    "no_query_probability",
]

NODES = 200
"""Nodes of the quadrature over a half line."""


def no_query_probability(
    others: ArrayLike, freedom: ArrayLike, threshold: ArrayLike
) -> float | np.ndarray:
    """Return p(n, nu, theta): how likely Gaussian codes leave a row without a query.

    Parameters
    ----------
    others : int or array_like of int
        n, the tokens that the row sees off its support.
    freedom : int or array_like of int
        nu = m - s + 1 for a support of s tokens.
    threshold : float or array_like
        theta = a/|b| > 0: what a token off the support may have over the norm of the wanted logits.
        They broadcast.

    Returns
    -------
    float or ndarray
        0 for n < nu.

    Raises
    ------
    ParameterError
        An argument is out of range.

    Examples
    --------
    One other token on a line is too high with the probability of Cauchy's law:

    >>> float(round(no_query_probability(1, 1, 1.0), 12))
    0.25
    >>> no_query_probability([100, 200, 400], 30, 0.3).round(3)
    array([0.004, 0.198, 0.745])
    """
    return np.exp(log_no_query(others, freedom, threshold))


def log_no_query(others: ArrayLike, freedom: ArrayLike, threshold: ArrayLike) -> float | np.ndarray:
    """Return the logarithm of `no_query_probability`; it does not underflow."""
    others = check_array("others", others, at_least=0, integer=True)
    freedom = check_array("freedom", freedom, at_least=1, integer=True)
    threshold = check_array("threshold", threshold, above=0)
    return _log_no_query(others, freedom, threshold)[()]


@np.vectorize(otypes=[float])
def _log_no_query(n, nu, theta):
    k = 1 / theta**2
    first = _log_series(nu + 1, n, lambda j: _log_without(n, k, j))
    return min(np.log(2) + np.logaddexp(first, _log_series(nu, n, lambda j: _log_with(n, k, j))), 0)


def _log_series(first, last, log_terms):
    """Return the log of the sum of terms at first, first + 2, ..., which end by falling."""
    total, terms = -np.inf, TERMS
    while first <= last:
        logs = log_terms(np.arange(first, min(first + 2 * terms, last + 1), 2, dtype=float))
        total = np.logaddexp(total, log_sum(logs))
        if len(logs) > 1 and logs[-1] < min(logs[-2], total - NEGLIGIBLE):
            break
        first, terms = first + 2 * terms, 2 * terms
    return total


def _log_without(n, k, j):
    """Return log of C(n,j) times the angles of a face of j generators without -e_0."""
    return log_binomial(n, j) + _log_internal_angle(k, j) + _log_external_angle(n - j, k + j)


def _log_with(n, k, j):
    """Return log of C(n,j) times the angles of a face of j generators and -e_0."""
    return log_binomial(n, j) + _log_internal_angle_with(k, j) + (j - n) * np.log(2)


def _log_external_angle(n, a):
    """Return log E[Phi(z)^n; z >= 0], z of variance 1/a."""
    peak = np.maximum(_newton(lambda z: _log_slope(n, a, z), np.zeros(len(a))), 0)
    width = 1 / np.sqrt(-_log_slope(n, a, peak)[1])
    low = np.maximum(peak - np.sqrt(2 * NEGLIGIBLE) * width, 0)
    high = peak + np.sqrt(2 * NEGLIGIBLE / a)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    z = low + (high - low) * (nodes[:, None] + 1) / 2
    logs = n * special.log_ndtr(z) - a * z**2 / 2 + np.log(weights[:, None])
    return log_sum(logs) + np.log((high - low) / 2) + np.log(a / (2 * np.pi)) / 2


def _log_internal_angle_with(k, j):
    """Return log of 2^(-j) P(Z >= theta (|N_1| + ... + |N_j|)), theta = 1/sqrt(k).

    exp(-t |N|) has the mean 2 exp(t^2/2) Phi(-t) = erfcx(t/sqrt(2)), so by Laplace's inversion it
    is the integral of exp(k t^2/2) (erfcx(t/sqrt(2))/2)^j / (2 pi i t) along a vertical line with
    t > 0, best through the least value on the real axis.
    """

    def log_integrand(t):
        return k * t**2 / 2 + j * np.log(special.wofz(1j * t / np.sqrt(2)) / 2) - np.log(t)

    low, high = np.full(len(j), -20.0), np.full(len(j), 20.0)  # of log t
    for _ in range(60):  # its logarithm is convex in log t
        middle = np.exp((low + high) / 2)
        mills = np.sqrt(2 / np.pi) / special.erfcx(middle / np.sqrt(2))
        falls = (k + j) * middle**2 - j * mills * middle < 1  # t times its slope is below 0
        low, high = np.where(falls, np.log(middle), low), np.where(falls, high, np.log(middle))
    t0 = np.exp(low)
    top = log_integrand(t0 + 0j).real
    mills = np.sqrt(2 / np.pi) / special.erfcx(t0 / np.sqrt(2))
    width = 1 / np.sqrt(k + j - j * mills * (mills - t0) + 1 / t0**2)
    # Equal steps find the whole integral of an analytic function where they are below the width.
    reach = np.sqrt(2 * NEGLIGIBLE / k)
    nodes = int(np.ceil((reach / width).max() / STEPS)) + 1
    y = np.linspace(np.zeros(len(j)), reach, nodes)
    values = np.exp(log_integrand(t0 + 1j * y) - top).real
    integral = (2 * values.sum(axis=0) - values[0]) * reach / (nodes - 1)
    return top + np.log(integral) - np.log(2 * np.pi)
