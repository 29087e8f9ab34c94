"""T3: keys are codes drawn without a look at the target; queries solve for the logits wanted.

Row i's query is the least-norm solution of <q_i, c_j> = B_ij on its support, so the ratios are
exact. What leaks is luck of the codes, and its law is known: for Gaussian codes an off-support
logit is ||b|| times Student's t over sqrt(nu), and tight frames make it smaller.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from .. import codes
from ..errors import ParameterError, check_choice, check_real
from ..interop.mapped import blocks_of
from ..logits import (
    all_alike,
    interpolation_scale,
    off_support_tolerance,
    row_norms,
    target_logits,
)
from ..targets import row_counts
from ..theory import frames
from ..theory.search import doubling_search
from .base import Method, merge_rows
from .least_norm import interpolating_queries

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from numpy.typing import DTypeLike
    from scipy import sparse

    from ..codes.base import Codes, Seed
    from ..interop.mapped import MappedLogits, MappedTarget
    from .base import TargetClass

__all__ = [
    "Interpolate",
]


@dataclass(frozen=True)
class Interpolate(Method):
    """Interpolation on random codes (Theorem T3).

    Attributes
    ----------
    codes : {"gaussian", "unit", "tight", "orthogonal"}, optional
        What keys are made of. If None, the best that the use allows: a tight frame where all keys
        are drawn at once, Gaussian codes in the answers of `dimensions`, which then hold for a
        stream of tokens as well (a tight frame never needs more).
    logit_scale : float, optional
        tau; 3 log(1/eps2) if None.

    Examples
    --------
    >>> Interpolate().required_dim(1024, 4)
    304
    """

    name: ClassVar[str] = "interpolate"
    theorem: ClassVar[str] = "T3"
    hypotheses: ClassVar[str] = "The target is chosen without looking at the codes."
    keeps_keys: ClassVar[bool] = True
    reads_blocks: ClassVar[bool] = True

    codes: str | None = None
    logit_scale: float | None = None

    def __post_init__(self):
        """Check the name of the codes."""
        if self.codes is not None:
            check_choice("codes", self.codes, codes.KINDS)

    def default_logit_scale(self, ratio_error: float, leak: float) -> float:
        """Return 3 log(1/eps2)."""
        return interpolation_scale(leak)

    def least_dim(self, row_nnz: int | np.ndarray) -> int | np.ndarray:
        """Return k: more codes than dimensions are linearly dependent."""
        return row_nnz

    def log_failure(
        self, dim: int | np.ndarray, asked: TargetClass, bound: str, scope: str
    ) -> float | np.ndarray:
        """Return the log of L (L-1) times the tail of a row of k weights beta, or of its bound."""
        theta = _rise(asked)
        if bound == "closed_form":
            self._check_closed_form()
            rate = np.log1p(theta**2) / 2
            return 2 * np.log(asked.length) - np.log(2) - (dim - asked.row_nnz + 1) * rate
        # A row with fewer than k nonzeros has a smaller tail but up to L - 1 places to leak to.
        return frames.log_expected_leaks(dim, asked.length, asked.row_nnz, theta, self._law)

    def closed_form(self, asked: TargetClass, log_eta: float | np.ndarray) -> float | np.ndarray:
        """Return k - 1 + 2 ln(L^2/(2 eta))/ln(1 + theta^2): for Gaussian codes, and tight ones."""
        self._check_closed_form()
        rate = np.log1p(_rise(asked) ** 2) / 2
        log_pairs = 2 * np.log(asked.length)
        return asked.row_nnz - 1 + np.maximum(1, (log_pairs - np.log(2) - log_eta) / rate)

    def required_dim_for_target(
        self,
        target: sparse.csr_array | MappedTarget,
        precision: tuple[float, float, float],
        failure_prob: float = 0.01,
    ) -> int:
        """Return the least m by the exact tails, summed over the rows of the target."""
        _, leak, tau = precision
        length, counts = target.shape[0], row_counts(target).astype(np.int64)
        rows = [self._norms(target_logits(block, tau)) for block in blocks_of(target)]
        norms, solved = (np.concatenate(part) for part in zip(*rows, strict=True))
        if not solved.any():
            return 1
        allowed = off_support_tolerance(0.0, leak, tau)

        least = int(counts[solved].max())
        counts, norms, weights = merge_rows(counts[solved], norms[solved])

        def log_failure(dim):
            return frames.log_expected_leaks_for_rows(
                dim, length, counts, allowed / norms, self._law, weights
            )

        log_eta = np.log(check_real("failure_prob", failure_prob, above=0, below=1))
        return doubling_search(log_failure, log_eta, least)

    def _norms(self, B):
        """Return what the law needs of each row: ||b||, or what bounds it, and if it is solved."""
        norms = row_norms(B)
        if self._law == "unit":  # whose law knows the largest value only
            norms = np.sqrt(np.diff(B.indptr)) * np.maximum.reduceat(B.data, B.indptr[:-1])
        return norms, ~_uniform(B)

    def in_batch(self) -> Interpolate:
        """Return it with tight codes where none were named: all keys are drawn at once."""
        return replace(self, codes="tight") if self.codes is None else self

    @property
    def _law(self):
        """The codes whose law `theory.frames` has."""
        return {None: "gaussian", "orthogonal": "tight"}.get(self.codes, self.codes)

    def _check_closed_form(self):
        if self._law == "unit":
            raise ParameterError('bound="closed_form": not known for codes="unit"')

    def within_length(self, length: int, dim: int) -> tuple[Interpolate, int]:
        """Return at most m = L for a tight frame, which is then orthogonal: nothing leaks."""
        return self, dim if self.codes in ("gaussian", "unit") else min(dim, length)

    def build(
        self,
        B: sparse.csr_array | MappedLogits,
        dim: int,
        rng: Seed,
        dtype: DTypeLike,
        *,
        keys: Codes | None = None,
        executor: Executor | None = None,
        progress: Callable | None = None,
    ) -> tuple[np.ndarray, Codes]:
        """Draw codes, unless they are given, and solve for the queries; costs O(L k^2 m)."""
        if keys is None:
            keys = codes.draw(self.codes or "tight", B.shape[0], dim, rng, dtype)
        return interpolating_queries(B, keys, executor=executor, progress=progress), keys


def _rise(asked):
    """Return theta = (tau - l)/(sqrt(k) beta): the rise that the leak allows, by the norm of b."""
    allowed = off_support_tolerance(0.0, asked.leak, asked.logit_scale)
    return allowed / (asked.max_logit * np.sqrt(asked.row_nnz))


def _uniform(B):
    """Return which rows want the same logit at every token: they take the zero query."""
    start = B.indptr[:-1]
    full = np.diff(B.indptr) == B.shape[1]
    smallest, largest = np.minimum.reduceat(B.data, start), np.maximum.reduceat(B.data, start)
    return full & all_alike(smallest, largest)
