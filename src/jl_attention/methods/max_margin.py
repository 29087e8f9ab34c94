"""T9: for given codes, the shortest query with exact ratios and a given gap.

Whether a row has such a query depends on the codes alone, and for Gaussian codes the probability
that it has none is known exactly (`theory.absorption`). So the dimension is a theorem's: the least
m at which the expected number of rows without a query is at most eta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from .. import codes
from ..errors import ConstructionError, check_choice
from ..logits import exact_gap_scale, target_logits
from ..targets import check_target, row_counts
from ..theory import absorption
from ..theory.margin_bounds import predicted_scale_ratio
from .base import Method
from .margin_solver import shortest_queries

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from typing import Any

    from numpy.typing import ArrayLike, DTypeLike
    from scipy import sparse

    from ..codes.base import Codes, Seed
    from .base import TargetClass
    from .margin_solver import MaxMarginResult

__all__ = [
    "MaxMargin",
]


@dataclass(frozen=True)
class MaxMargin(Method):
    """The shortest queries on random codes (Theorem T9).

    Attributes
    ----------
    codes : {"gaussian", "unit", "tight", "orthogonal"}, optional
        What keys are made of. The dimension is exact for Gaussian codes.
    logit_scale : float, optional
        tau, the gap; log(1/eps2) and a little if None.

    Examples
    --------
    >>> MaxMargin().required_dim(1024, 4), MaxMargin().required_dim(1024, 4, scope="every_support")
    (52, 74)
    """

    name: ClassVar[str] = "max_margin"
    theorem: ClassVar[str] = "T9"
    hypotheses: ClassVar[str] = (
        "Gaussian codes; the target is chosen without looking at them, or, with "
        "scope='every_support', by whomever."
    )
    keeps_keys: ClassVar[bool] = True
    bounds: ClassVar[tuple] = ("sharp",)
    standing: ClassVar[str] = "law"
    logit_standing: ClassVar[str] = "prediction"
    scopes: ClassVar[tuple] = absorption.SCOPES

    codes: str = "gaussian"
    logit_scale: float | None = None

    def __post_init__(self):
        """Check the name of the codes."""
        check_choice("codes", self.codes, codes.KINDS)

    def default_logit_scale(self, ratio_error: float, leak: float) -> float:
        """Return log(1/eps2) and a little."""
        return exact_gap_scale(leak)

    def largest_logit(self, asked: TargetClass, dim: int | np.ndarray) -> float | np.ndarray:
        """Return the predicted product of the norms of a typical row's query and of a key."""
        if (asked.row_nnz >= asked.length).any():
            return asked.max_logit
        ratio = predicted_scale_ratio(dim, asked.length, asked.row_nnz)
        return asked.logit_scale * ratio

    def least_dim(self, row_nnz: int | np.ndarray) -> np.ndarray:
        """Return 1."""
        return np.ones_like(row_nnz)

    def log_failure(
        self, dim: int | np.ndarray, asked: TargetClass, bound: str, scope: str
    ) -> float | np.ndarray:
        """Return the log of the expected number of rows without a query, exactly."""
        return absorption.log_expected_failures(dim, asked.length, asked.row_nnz, scope)

    def _least_dim(self, asked, log_eta, bound, scope):
        dims = absorption.required_dim(asked.length, asked.row_nnz, np.exp(log_eta), scope)
        shape = np.broadcast_shapes(np.shape(dims), asked.max_ratio.shape)
        return dims if not shape else np.broadcast_to(dims, shape).copy()

    def required_dim_for_target(
        self,
        target: sparse.csr_array,
        precision: tuple[float, float, float],
        failure_prob: float = 0.01,
    ) -> int:
        """Return the least m for the support sizes of the target."""
        return absorption.required_dim_for_counts(target.shape[0], row_counts(target), failure_prob)

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
        """Draw codes, unless they are given, and find the shortest query of each row."""
        if keys is None:
            keys = codes.draw(self.codes, B.shape[0], dim, rng, dtype)
        result = shortest_queries(B, keys, executor=executor, progress=progress)
        missing = np.sort(np.append(result.infeasible, result.unresolved))
        if len(missing):
            listed = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            raise ConstructionError(
                f"row {listed}: no query of dim={keys.dim} separates the support from the other "
                f"tokens ({len(result.infeasible)} of {B.shape[0]} rows proved, "
                f"{len(result.unresolved)} unresolved)"
            )
        return result.queries.astype(dtype), keys

    def queries(
        self,
        target: ArrayLike | sparse.sparray,
        keys: ArrayLike | Codes,
        *,
        leak: float = 0.01,
        logit_scale: float | None = None,
        **options: Any,
    ) -> MaxMarginResult:
        """Return the shortest query of each row for given keys, or why there is none.

        Parameters
        ----------
        target : array_like or scipy.sparse array, shape (L, L)
        keys : array_like or codes.Codes, shape (L, m)
        leak : float, optional
            eps2; the gap is log(1/eps2) and a little.
        logit_scale : float, optional
            The gap itself.
        **options : optional
            Of `margin_solver.shortest_queries`.

        Returns
        -------
        margin_solver.MaxMarginResult
            Rows are found, infeasible with a convex combination that proves it, or unresolved.

        Raises
        ------
        TargetError, ParameterError
        """
        _, _, gap = self.precision(0.0, leak, logit_scale)
        return shortest_queries(target_logits(check_target(target), gap), keys, gap, **options)
