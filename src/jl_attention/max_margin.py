"""T9's construction as functions, `methods.max_margin` as it was called before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .codes import draw
from .methods.margin_solver import shortest_queries
from .methods.max_margin import MaxMargin

if TYPE_CHECKING:
    from numpy.typing import DTypeLike
    from scipy import sparse

    from .codes.base import Seed

__all__ = ["max_margin", "max_margin_queries"]


def max_margin(
    B: sparse.csr_array, dim: int, rng: Seed = None, dtype: DTypeLike = np.float64
) -> tuple[np.ndarray, np.ndarray]:
    """Return queries and keys on random unit codes; see `methods.max_margin`."""
    keys = draw("unit", B.shape[0], dim, rng, dtype)
    queries, codes = MaxMargin().build(B, dim, rng, np.dtype(dtype), keys=keys)
    return queries, codes.array()


def max_margin_queries(B: sparse.csr_array, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the shortest queries for given keys, and the rows for which none was found.

    Returns
    -------
    queries : ndarray, shape (n, m)
        Rows of NaN where there is none; writable.
    missing : ndarray of int
        These rows, infeasible or unresolved: `margin_solver.shortest_queries` tells which.
    """
    result = shortest_queries(B, keys)
    return result.queries.copy(), np.sort(np.append(result.infeasible, result.unresolved))
