"""Target logits B of a target A, and the tolerances that a precision (eps1, eps2) leaves.

The precision of an attention matrix M against a target A is, for every row i,

- (P1) ratios: |(M_ij / M_ij') / (A_ij / A_ij') - 1| <= eps1 for j, j' in S_i,
- (P2) leak:   M_ij0 / M_ij <= eps2 for j in S_i and j0 not in S_i.
"""

import numpy as np
from scipy import sparse

from .errors import ParameterError, check_real

SCALE_FACTOR = 3.0
"""Default tau of "interpolate", in units of log(1/eps2)."""

SCALE_MARGIN = 0.01
"""By how much the default tau of `EXACT_GAP_METHODS` exceeds log(1/eps2), for rounding."""

EXACT_GAP_METHODS = ("moment_curve", "max_margin")
"""The methods that leave a gap of exactly tau between the support and the rest (T5 and T9)."""


def target_logits(target, logit_scale):
    """Return B: B_ij = tau + log(A_ij / min over S_i of A_i.) on S_i and 0 elsewhere.

    Softmax ignores a shift of a row, so softmax(B_i.) restricted to S_i is proportional to A_i.;
    tau is the gap between the weakest entry of the support and everything off it. Every stored
    entry lies in [tau, beta], beta = tau + log gamma.

    Parameters
    ----------
    target : scipy.sparse.csr_array, shape (L, L)
        A checked target (`targets.check_target`).
    logit_scale : float
        tau > 0.

    Returns
    -------
    scipy.sparse.csr_array, shape (L, L)
        With the support of the target.
    """
    logit_scale = check_real("logit_scale", logit_scale, above=0)
    log_target = np.log(target.data)
    smallest = np.minimum.reduceat(log_target, target.indptr[:-1])
    data = logit_scale + (log_target - np.repeat(smallest, np.diff(target.indptr)))
    return sparse.csr_array((data, target.indices, target.indptr), shape=target.shape)


def row_norms(target_logits):
    """Return the Euclidean norm of each row of B, shape (L,); at most sqrt(k) beta."""
    return np.sqrt(np.add.reduceat(target_logits.data**2, target_logits.indptr[:-1]))


def max_logit(logit_scale, max_ratio):
    """Return beta = tau + log gamma, the largest entry of B (arrays broadcast)."""
    return logit_scale + np.log(max_ratio)


def logit_tolerance(ratio_error):
    """Return delta = log(1 + eps1)/2: |Lambda - B| <= delta on the support gives (P1).

    Two logits of a row are then off by at most 2 delta against each other, so a ratio by a factor
    of at most e^(2 delta) = 1 + eps1.
    """
    return 0.5 * np.log1p(ratio_error)


def smallest_logit_scale(ratio_error, leak):
    """Return tau = log((1 + eps1)/eps2): with |Lambda - B| <= delta everywhere it gives (P2).

    Off the support Lambda_ij0 - Lambda_ij <= 2 delta - tau = log eps2.
    """
    return np.log1p(ratio_error) - np.log(leak)


def off_support_tolerance(ratio_error, leak, logit_scale):
    """Return tau - log(1/eps2) - delta: how far off-support logits may rise (P2 split from P1).

    With eps1 = 0 this is tau - log(1/eps2), the level that the leak of Theorem T3 allows.
    """
    return logit_scale + np.log(leak) - logit_tolerance(ratio_error)


def default_logit_scale(method, ratio_error, leak):
    """Return the tau used where none is given.

    The smallest tau that its theorem allows, log((1 + eps1)/eps2), for the two projection methods,
    whose dimension grows with tau; 3 log(1/eps2) for "interpolate", whose dimension falls as tau
    grows; log(1/eps2) and a little for "moment_curve" and "max_margin", whose gap is exactly tau.
    """
    if method in PROJECTION_METHODS:
        return smallest_logit_scale(ratio_error, leak)
    if method in EXACT_GAP_METHODS:
        return SCALE_MARGIN - np.log(leak)
    return -SCALE_FACTOR * np.log(leak)


PROJECTION_METHODS = ("svd_projection", "row_projection")
"""The methods that approximate the ratios (Theorems T1 and T2), so that eps1 > 0 is needed."""


def check_precision(method, ratio_error, leak, logit_scale=None):
    """Check (eps1, eps2, tau) for a method and return them as floats, tau filled in.

    Raises
    ------
    ParameterError
        eps1 < 0, or eps1 = 0 for a projection method; eps2 not in (0, 1); tau so small that (P2)
        would not follow even from exact logits.
    """
    ratio_error = check_real("ratio_error", ratio_error, at_least=0)
    leak = check_real("leak", leak, above=0, below=1)
    if method in PROJECTION_METHODS and ratio_error == 0:
        raise ParameterError(
            f"ratio_error=0.0: method {method!r} only approximates the ratios and needs "
            "ratio_error > 0; 'interpolate' makes them exact"
        )
    if logit_scale is None:
        return ratio_error, leak, float(default_logit_scale(method, ratio_error, leak))
    logit_scale = check_real("logit_scale", logit_scale, above=0)
    if off_support_tolerance(0.0, leak, logit_scale) <= 0:
        raise ParameterError(
            f"logit_scale={logit_scale:g}: must exceed log(1/leak) = {-np.log(leak):.6g}, or exact "
            "logits would leak more than asked"
        )
    return ratio_error, leak, logit_scale
