"""T5's construction as a function, `methods.MomentCurve` as it was called before."""

import numpy as np

from .methods.moment_curve import MomentCurve

__all__ = ["moment_curve"]


def moment_curve(B, dim, rng=None, dtype=np.float64):
    """Return queries and keys for target logits B; see `methods.moment_curve`."""
    queries, codes = MomentCurve().build(B, dim, rng, np.dtype(dtype))
    return queries, codes.array()
