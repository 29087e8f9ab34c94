"""The balanced factorisation of a matrix, free of signs and bases (for Theorem T1).

T1 splits the target logits B = U Sigma V^T into halves of equal singular values and projects both.
The singular vectors are not unique: each pair has a sign, and equal singular values share a
subspace, of which any orthonormal basis will do. Two LAPACKs take two bases, and the same G then
gives other logits. Multiplying both halves by the same isometry, V^T or U^T, removes the choice,

    B = left right^T,    left = U Sigma^(1/2) V^T,    right = V Sigma^(1/2) V^T = (B^T B)^(1/4),

for both are functions of B alone: left = B (B^T B)^(-1/4), with the pseudo-inverse.

*The law is the same.* Let G have independent N(0, 1/m) entries. The columns of the stacked queries
and keys F G^T, for any F = [F1; F2], are independent and normal with mean 0 and covariance F F^T/m.
An isometry W leaves F W^T (F W^T)^T = F F^T as it is. So (left G^T, right G^T) has the law of
(U Sigma^(1/2) H, V Sigma^(1/2) H), H Gaussian: what is proved of the one holds of the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "ZERO",
    "balanced_factors",
]

ZERO = 1e-12
"""Singular values below this share of the largest are rounding, and count as zero.

The square root of rounding is not small: a zero that a LAPACK returns as 1e-16 would enter the
halves as 1e-8, in a direction of its choice.
"""


def balanced_factors(matrix: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Split a matrix into two halves that carry the square roots of its singular values.

    matrix = left @ right.T with left = U Sigma^(1/2) W^T and right = V Sigma^(1/2) W^T, where W is
    the smaller one of U and V (V of the two if the matrix is square). Both halves have the singular
    values Sigma^(1/2), and no choice of singular vectors enters them. Costs one SVD.

    Parameters
    ----------
    matrix : array_like, shape (n, p)
        B, finite.

    Returns
    -------
    left : ndarray, shape (n, s)
        s = min(n, p). The positive semidefinite square root of (B B^T)^(1/2) if n < p.
    right : ndarray, shape (p, s)
        The positive semidefinite square root of (B^T B)^(1/2) if n >= p.

    Notes
    -----
    Singular values below `ZERO` times the largest are left out: left @ right.T differs from the
    matrix by at most that in the spectral norm. An error of relative size e in the matrix moves the
    halves by about e/sqrt(ZERO) at the worst, by about e where no singular value is small; only a
    singular value at the threshold itself is kept or not by chance, and then 1e-6 is at stake.

    Examples
    --------
    >>> import numpy as np
    >>> from jl_attention.factorisation import balanced_factors
    >>> left, right = balanced_factors([[0.0, 4.0], [9.0, 0.0]])
    >>> bool(np.allclose(left, [[0, 2], [3, 0]])), bool(np.allclose(right, [[3, 0], [0, 2]]))
    (True, True)
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.shape[0] < matrix.shape[1]:
        return balanced_factors(matrix.T)[::-1]
    U, sigma, Vt = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(np.where(sigma > ZERO * sigma.max(initial=0), sigma, 0))
    return (U * root) @ Vt, (Vt.T * root) @ Vt
