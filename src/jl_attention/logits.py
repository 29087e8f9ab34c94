"""Target logits B of a target A, and the tolerances that a precision (eps1, eps2) leaves.

The precision of an attention matrix M against a target A is, for every row i,

- (P1) ratios: |(M_ij / M_ij') / (A_ij / A_ij') - 1| <= eps1 for j, j' in S_i,
- (P2) leak:   M_ij0 / M_ij <= eps2 for j in S_i and j0 not in S_i.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from .errors import ParameterError, check_real

__all__ = [
    "MAX_LOGIT_SCALE",
    "SCALE_FACTOR",
    "SCALE_MARGIN",
    "all_alike",
    "check_precision",
    "exact_gap_scale",
    "interpolation_scale",
    "logit_tolerance",
    "logits_of_rows",
    "max_logit",
    "off_support_tolerance",
    "row_norms",
    "smallest_logit_scale",
    "target_logits",
]

SCALE_FACTOR = 3.0
"""Default tau of interpolation, in units of log(1/eps2)."""

MAX_LOGIT_SCALE = 1e12
"""Largest tau: near 1e12 a logit of float64 is rounded by 1e-4, and with it each ratio."""

SCALE_MARGIN = 0.01
"""By how much the tau of an exact gap exceeds log(1/eps2), for rounding."""


def target_logits(target: sparse.csr_array, logit_scale: float) -> sparse.csr_array:
    """Return B: B_ij = tau + log(A_ij / min over S_i of A_i.) on S_i and 0 elsewhere.

    Softmax ignores a shift of a row, so softmax(B_i.) restricted to S_i is proportional to A_i.;
    tau is the gap between the weakest entry of the support and everything off it. Every stored
    entry lies in [tau, beta], beta = tau + log gamma.

    Parameters
    ----------
    target : scipy.sparse.csr_array, shape (L, L)
        A checked target (`targets.check_target`).
    logit_scale : float
        tau > 0, at most `MAX_LOGIT_SCALE`.

    Returns
    -------
    scipy.sparse.csr_array, shape (L, L)
        With the support of the target.
    """
    logit_scale = check_real("logit_scale", logit_scale, above=0, at_most=MAX_LOGIT_SCALE)
    log_target = np.log(target.data)
    smallest = np.minimum.reduceat(log_target, target.indptr[:-1])
    data = logit_scale + (log_target - np.repeat(smallest, np.diff(target.indptr)))
    return sparse.csr_array((data, target.indices, target.indptr), shape=target.shape)


def logits_of_rows(weights: np.ndarray, logit_scale: float) -> np.ndarray:
    """Return the logits, as `target_logits` has them, of whole rows of s weights, shape (n, s)."""
    logs = np.log(weights)
    return logit_scale + (logs - logs.min(axis=1, keepdims=True))


def row_norms(target_logits: sparse.csr_array) -> np.ndarray:
    """Return the Euclidean norm of each row of B, shape (L,); at most sqrt(k) beta."""
    return np.sqrt(np.add.reduceat(target_logits.data**2, target_logits.indptr[:-1]))


def max_logit(logit_scale: float, max_ratio: float | np.ndarray) -> float | np.ndarray:
    """Return beta = tau + log gamma, the largest entry of B (arrays broadcast)."""
    return logit_scale + np.log(max_ratio)


def all_alike(smallest: float | np.ndarray, largest: float | np.ndarray) -> bool | np.ndarray:
    """Return whether logits between these are equal up to the rounding of their logarithms."""
    return largest - smallest <= 8 * np.finfo(float).eps * largest


def logit_tolerance(ratio_error: float) -> float:
    """Return delta = log(1 + eps1)/2: |Lambda - B| <= delta on the support gives (P1).

    Two logits of a row are then off by at most 2 delta against each other, so a ratio by a factor
    of at most e^(2 delta) = 1 + eps1.
    """
    return 0.5 * np.log1p(ratio_error)


def smallest_logit_scale(ratio_error: float, leak: float) -> float:
    """Return tau = log((1 + eps1)/eps2): with |Lambda - B| <= delta everywhere it gives (P2).

    Off the support Lambda_ij0 - Lambda_ij <= 2 delta - tau = log eps2.
    """
    return np.log1p(ratio_error) - np.log(leak)


def interpolation_scale(leak: float) -> float:
    """Return 3 log(1/eps2), the tau that interpolation takes where none is given.

    The dimension that interpolation needs falls as tau grows, to a limit; at this tau it is within
    a factor (3/2)^2 of that limit for small thresholds, and the logits are still small.
    """
    return -SCALE_FACTOR * np.log(leak)


def exact_gap_scale(leak: float) -> float:
    """Return log(1/eps2) and a little, the tau of methods whose gap is exactly tau."""
    return SCALE_MARGIN - np.log(leak)


def off_support_tolerance(ratio_error: float, leak: float, logit_scale: float) -> float:
    """Return tau - log(1/eps2) - delta: how far off-support logits may rise (P2 split from P1).

    With eps1 = 0 this is tau - log(1/eps2), the level that the leak of Theorem T3 allows.
    """
    return logit_scale + np.log(leak) - logit_tolerance(ratio_error)


def check_precision(
    ratio_error: float, leak: float, logit_scale: float
) -> tuple[float, float, float]:
    """Check (eps1, eps2, tau) and return them as floats.

    Raises
    ------
    ParameterError
        eps1 < 0; eps2 not in (0, 1); tau so small that (P2) would not follow even from exact
        logits, or so large that rounding takes the ratios.
    """
    ratio_error = check_real("ratio_error", ratio_error, at_least=0)
    leak = check_real("leak", leak, above=0, below=1)
    logit_scale = check_real("logit_scale", logit_scale, above=0, at_most=MAX_LOGIT_SCALE)
    if off_support_tolerance(0.0, leak, logit_scale) <= 0:
        raise ParameterError(
            f"logit_scale={logit_scale:g}: must exceed log(1/leak) = {-np.log(leak):.6g}, or exact "
            "logits would leak more than asked"
        )
    return ratio_error, leak, logit_scale
