"""T1, the paper's way: project the balanced halves of B's singular value decomposition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy import sparse

from ..codes import GivenCodes
from ..factorisation import balanced_factors
from .projected import Projected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor

    from numpy.typing import DTypeLike

    from ..codes.base import Codes, Seed
    from .base import TargetClass

__all__ = [
    "SVDProjection",
    "connected_blocks",
]


@dataclass(frozen=True)
class SVDProjection(Projected):
    """X1 = F P^T and X2 = H P^T with B = F H^T balanced (Theorem T1).

    F = U Sigma^(1/2) V^T and H = V Sigma^(1/2) V^T, see `factorisation`. Attributes as in
    `Projected`.
    """

    name: ClassVar[str] = "svd_projection"
    theorem: ClassVar[str] = "T1"
    hypotheses: ClassVar[str] = (
        "Rows and columns are sparse; the target does not depend on the projection."
    )
    sides: ClassVar[int] = 2

    def norm(self, asked: TargetClass) -> float | np.ndarray:
        """Return k beta, at least sqrt(||B||_1 ||B||_inf)."""
        return asked.max_logit * asked.row_nnz

    def build(
        self,
        B: sparse.csr_array,
        dim: int,
        rng: Seed,
        dtype: DTypeLike,
        *,
        keys: Codes | None = None,
        executor: Executor | None = None,
        progress: Callable | None = None,
    ) -> tuple[np.ndarray, Codes]:
        """Factor B, in blocks where it has some, and project; costs O(L^3) if it is connected."""
        projection = self.projected_identity(B.shape[0], dim, rng, dtype).array()
        queries = np.zeros((B.shape[0], dim), dtype=dtype)
        keys = np.zeros((B.shape[0], dim), dtype=dtype)
        for rows, columns in connected_blocks(B):
            left, right = balanced_factors(B[rows][:, columns].toarray())
            codes = projection[columns[: left.shape[1]]]  # a block's own: columns are disjoint
            queries[rows] = left.astype(dtype) @ codes
            keys[columns] = right.astype(dtype) @ codes
        return queries, GivenCodes(keys)


def connected_blocks(B: sparse.csr_array) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (rows, columns) of the connected components of B's bipartite graph of nonzeros."""
    from scipy.sparse import csgraph  # takes a while to import, and only this needs it

    length = B.shape[0]
    graph = sparse.block_array([[None, B], [B.T, None]], format="csr")
    count, labels = csgraph.connected_components(graph, directed=False)
    row_order, column_order = (np.argsort(part, kind="stable") for part in np.split(labels, 2))
    row_ends = np.searchsorted(labels[:length][row_order], np.arange(count + 1))
    column_ends = np.searchsorted(labels[length:][column_order], np.arange(count + 1))
    for block in range(count):
        rows = row_order[row_ends[block] : row_ends[block + 1]]
        columns = column_order[column_ends[block] : column_ends[block + 1]]
        if len(rows):  # a column without nonzeros is a component of its own; its key stays zero
            yield rows, columns
