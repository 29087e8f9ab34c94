"""Universal key codes: codes of small coherence serve every sparse target at once (Theorem T4).

Let c_1..c_L be unit vectors with coherence mu = max |<c_i, c_j>| over i != j, and
alpha = k mu/(1 - (k-1) mu) < 1, that is mu < 1/(2k-1). The least-norm query with <q, c_j> = b_j on
a support of k tokens, 0 <= b_j <= beta, then has |<q, c_j0>| <= alpha beta at every other token:
q = sum of w_j c_j with w = (C C^T)^(-1) b, and the Gram matrix C C^T is the identity up to row sums
(k-1) mu, so that ||w||_1 <= k beta/(1 - (k-1) mu).

Nothing here is random once the codes are drawn: the target may depend on them. Compare
`dimensions.universal_dim` with `dimensions.required_dim`, where it may not. The query is the dual
certificate of sparse recovery (Fuchs 2004; Tropp 2004 for all signs).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..attention import BLOCK_BYTES, row_blocks
from ..errors import ParameterError, check_array, check_int, check_real
from ..logits import max_logit
from .base import draw

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from ..codes.base import Seed

__all__ = [
    "coherence",
    "unit_codes",
    "universal_leak",
    "welch_bound",
]


def unit_codes(
    length: int, dim: int, rng: Seed = None, dtype: DTypeLike = np.float64
) -> np.ndarray:
    """Draw independent codes, uniform on the unit sphere of R^m, as an array (L, m)."""
    return draw("unit", length, dim, rng, dtype)[:]


def coherence(codes: ArrayLike, block_bytes: int = BLOCK_BYTES) -> float:
    """Return the largest |<c_i, c_j>|/(||c_i|| ||c_j||) over i != j, streaming over blocks.

    Costs O(L^2 m) time and one block of rows of the Gram matrix.

    Parameters
    ----------
    codes : array_like, shape (L, m)
        L >= 2 nonzero rows.
    block_bytes : int, optional

    Returns
    -------
    float
        At most 1, up to rounding; at least `welch_bound`.

    Raises
    ------
    ParameterError
        Fewer than two codes, or a row that is zero or not finite.
    """
    codes = np.asarray(codes, dtype=np.float64)
    if codes.ndim != 2 or len(codes) < 2:
        raise ParameterError(f"codes of shape {codes.shape}: expected (L, m) with L >= 2")
    norms = np.linalg.norm(codes, axis=1, keepdims=True)
    usable = np.isfinite(norms[:, 0]) & (norms[:, 0] > 0)
    if not usable.all():
        raise ParameterError(f"codes: row {int(np.argmin(usable))}: is zero or not finite")
    codes = codes / norms
    largest = 0.0
    for rows in row_blocks(len(codes), block_bytes=block_bytes):
        products = np.abs(codes[rows] @ codes[rows.start :].T)
        np.fill_diagonal(products, 0)
        largest = max(largest, float(products.max()))
    return largest


def welch_bound(length: ArrayLike, dim: ArrayLike) -> float | np.ndarray:
    """Return the least coherence that L unit vectors of R^m can have, by Welch (1974).

    sqrt((L - m)/(m (L - 1))) for L > m, else 0; reached by equiangular tight frames only.

    Parameters
    ----------
    length, dim : int or array_like of int
        L >= 2 and m; they broadcast.

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        An argument is out of range.
    """
    length = check_array("length", length, at_least=2, integer=True).astype(float)
    dim = check_array("dim", dim, at_least=1, integer=True).astype(float)
    return np.sqrt(np.maximum(length - dim, 0) / (dim * (length - 1)))[()]


def universal_leak(
    coherence: float, row_nnz: int, logit_scale: float, max_ratio: float = 1.0
) -> float:
    """Return the leak eps2 that codes of this coherence promise every target (Theorem T4).

    exp(alpha beta - tau), alpha = k mu/(1 - (k-1) mu), beta = tau + log gamma: exact ratios, and
    this leak, for each target with at most k nonzeros in a row and ratio bound gamma, also for one
    that was chosen with the codes in hand.

    Parameters
    ----------
    coherence : float
        mu in [0, 1/(2k-1)).
    row_nnz : int
        k.
    logit_scale : float
        tau.
    max_ratio : float, optional
        gamma >= 1.

    Returns
    -------
    float
        It may exceed 1, and then says little; raise `logit_scale`.

    Raises
    ------
    ParameterError
        An argument is out of range; the coherence is too large for this k.
    """
    row_nnz = check_int("row_nnz", row_nnz)
    mu = check_real("coherence", coherence, at_least=0)
    logit_scale = check_real("logit_scale", logit_scale, above=0)
    max_ratio = check_real("max_ratio", max_ratio, at_least=1)
    if mu * (2 * row_nnz - 1) >= 1:
        raise ParameterError(
            f"coherence={mu:.3g}: must be below 1/(2 row_nnz - 1) = {1 / (2 * row_nnz - 1):.3g}"
        )
    alpha = row_nnz * mu / (1 - (row_nnz - 1) * mu)
    return float(np.exp(alpha * max_logit(logit_scale, max_ratio) - logit_scale))
