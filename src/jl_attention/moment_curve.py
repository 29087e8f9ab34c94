"""T5's construction as a function, `methods.MomentCurve` as it was called before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .methods.moment_curve import MomentCurve

if TYPE_CHECKING:
    from numpy.typing import DTypeLike
    from scipy import sparse

    from .codes.base import Seed

__all__ = ["moment_curve"]


def moment_curve(
    B: sparse.csr_array, dim: int, rng: Seed = None, dtype: DTypeLike = np.float64
) -> tuple[np.ndarray, np.ndarray]:
    """Return queries and keys for target logits B; see `methods.moment_curve`."""
    queries, codes = MomentCurve().build(B, dim, rng, np.dtype(dtype))
    return queries, codes.array()
