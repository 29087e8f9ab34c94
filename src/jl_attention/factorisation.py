"""Balanced factors of a matrix, free of bases and signs."""

import numpy as np
from scipy import linalg

CUTOFF = 1e-12


def balanced_factors(B):
    """Return F = U Sigma^(1/2) V^T and H = V Sigma^(1/2) V^T with B = F H^T."""
    U, sigma, Vt = linalg.svd(B, full_matrices=False)
    root = np.sqrt(np.where(sigma > CUTOFF * sigma[0], sigma, 0.0))
    return (U * root) @ Vt, (Vt.T * root) @ Vt
