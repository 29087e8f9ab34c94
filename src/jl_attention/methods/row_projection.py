"""T2: project the trivial factorisation B = B I; only rows need be sparse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from .projected import Projected

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from numpy.typing import DTypeLike
    from scipy import sparse

    from ..codes.base import Codes, Seed
    from .base import TargetClass

__all__ = [
    "RowProjection",
]


@dataclass(frozen=True)
class RowProjection(Projected):
    """Keys are random codes; a query is the B-weighted sum of the codes it wants (Theorem T2).

    Attributes as in `Projected`.

    Examples
    --------
    >>> RowProjection("orthogonal").required_dim(256, 2, ratio_error=1.0, leak=0.5)
    256
    """

    name: ClassVar[str] = "row_projection"
    theorem: ClassVar[str] = "T2"
    hypotheses: ClassVar[str] = "Rows are sparse; the target does not depend on the projection."
    sides: ClassVar[int] = 1  # only a rise leaks

    def norm(self, asked: TargetClass) -> float | np.ndarray:
        """Return sqrt(k) beta."""
        return asked.max_logit * np.sqrt(asked.row_nnz)

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
        """X2 = P^T, X1 = B P^T; costs O(nnz(B) m), and columns may be dense."""
        keys = self.projected_identity(B.shape[0], dim, rng, dtype)
        return B.astype(dtype) @ keys.array(), keys
