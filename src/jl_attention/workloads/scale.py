"""How strong the planted entries must be: what the other tokens hold against them.

With codes that do not depend on the support, a logit off the support of the query of least variance
(`geometry.whitening`) has mean 0 and, by Theorem S5, variance

    v_i = |b_i|^2 (L - m)/((L - k)(m - k - 1)),    about |b_i|^2/m,

b_i the logits wanted on the support, k = |S_i|. Taking it as normal, n tokens off the support hold
n exp(v_i/2) against the sum of exp(b_ij) on it. As all b_ij grow by tau the first exponent grows
like k tau^2/(2 m) and the second like tau: the best ratio is at tau = m/k, where it is
n/k exp(-m/(2k)). So a head of query dimension m shows k equal entries among L tokens with total
variation t only for

    k <= m / (2 log(L (1 - t)/(k t))).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ConstructionError, check_real
from ..targets import check_target

if TYPE_CHECKING:
    from scipy import sparse

__all__ = [
    "expected_background",
    "logit_scale_for",
]

_GRID = 400


def expected_background(truth: sparse.csr_array, dim: int, logit_scale: float) -> np.ndarray:
    """Return what a causal row is expected to hold off its support, relative to what it holds on.

    Parameters
    ----------
    truth : scipy.sparse.csr_array, shape (L, L)
        Causal: row i sees i + 1 tokens.
    dim : int
        m.
    logit_scale : float
        tau, the logit of a row's smallest entry, against a mean of 0 off the support.

    Returns
    -------
    ndarray, shape (L,)
        x_i; the expected total variation is about x_i/(1 + x_i). Infinite where m < k + 2.
    """
    return _background(_row_moments(truth), truth.shape[0], dim, logit_scale)


def logit_scale_for(truth: sparse.csr_array, dim: int, total_variation: float) -> float:
    """Return the least tau at which every row's expected total variation is as asked.

    Parameters
    ----------
    truth : scipy.sparse.csr_array, shape (L, L)
        Causal.
    dim : int
        m.
    total_variation : float
        t in (0, 1), of the row where the other tokens hold most.

    Returns
    -------
    float
        tau, rounded up to a multiple of 1/64.

    Raises
    ------
    ParameterError
        `total_variation` is out of range.
    ConstructionError
        No tau does it: the rows have too many entries for this dimension.

    Examples
    --------
    >>> from jl_attention.workloads import patterns
    >>> truth = patterns.needles(4096, 0).truth
    >>> logit_scale_for(truth, 128, 0.05)
    12.25
    >>> logit_scale_for(truth, 32, 0.05)
    Traceback (most recent call last):
    ...
    jl_attention.errors.ConstructionError: row 4095: 4 entries among 4096 tokens need head_dim \
above 32 for a total variation of 0.05; it is 0.97 at best. Ask for fewer entries or a larger \
total_variation
    """
    t = check_real("total_variation", total_variation, above=0, below=1)
    truth = check_target(truth)
    length, moments = truth.shape[0], _row_moments(truth)
    allowed = t / (1 - t)
    scales = np.linspace(0.0, 1.0, _GRID + 1)[1:] * max(dim, -2 * np.log(allowed / length))
    worst = np.array([_background(moments, length, dim, scale).max() for scale in scales])
    enough = worst <= allowed
    if not enough.any():
        best = scales[np.argmin(worst)]
        row = int(np.argmax(_background(moments, length, dim, best)))
        least = worst.min() / (1 + worst.min()) if np.isfinite(worst.min()) else 1.0
        raise ConstructionError(
            f"row {row}: {int(moments[0][row])} entries among {row + 1} tokens need head_dim above "
            f"{dim} for a total variation of {t:g}; it is {least:.2g} at best. Ask for fewer "
            "entries or a larger total_variation"
        )
    at = int(np.argmax(enough))
    low, high = (scales[at - 1] if at else 0.0), scales[at]
    while high - low > 1 / 128:
        middle = (low + high) / 2
        if _background(moments, length, dim, middle).max() <= allowed:
            high = middle
        else:
            low = middle
    return float(np.ceil(64 * high) / 64)


def _row_moments(truth):
    """Return per row k and, for r_j = log(A_ij/min): sum r, sum r^2 and log sum exp r."""
    start, counts = truth.indptr[:-1], np.diff(truth.indptr)
    log_truth = np.log(truth.data)
    r = log_truth - np.repeat(np.minimum.reduceat(log_truth, start), counts)
    sums = (np.add.reduceat(term, start) for term in (r, r**2, np.exp(r)))
    first, second, total = sums
    return counts, first, second, np.log(total)


def _background(moments, length, dim, tau):
    counts, first, second, log_total = moments
    others = np.arange(1, length + 1) - counts
    norm = counts * tau**2 + 2 * tau * first + second
    freedom = dim - counts - 1.0
    share = max(length - dim, 0) / np.maximum(length - counts, 1)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        variance = np.where(freedom > 0, norm * share / freedom, np.inf if length > dim else 0.0)
        exponent = variance / 2 - log_total - tau
        return np.where(others > 0, others * np.exp(np.minimum(exponent, 700.0)), 0.0)
