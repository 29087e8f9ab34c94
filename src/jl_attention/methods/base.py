"""What every construction method answers: its theorem, its dimension, its queries and keys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..errors import ParameterError, check_array, check_choice, check_real
from ..interop.mapped import MappedTarget
from ..logits import check_precision, max_logit
from ..targets import opened_or_checked
from ..theory.search import as_int, doubling_search

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from numpy.typing import ArrayLike, DTypeLike
    from scipy import sparse

    from ..codes.base import Codes, Seed
    from ..interop.mapped import MappedLogits

__all__ = [
    "Method",
    "TargetClass",
    "merge_rows",
]


@dataclass(frozen=True)
class TargetClass:
    """Targets with at most k nonzeros a row and ratio bound gamma, and the precision asked for.

    Attributes
    ----------
    length, row_nnz : ndarray of int
        L and k; they broadcast with `max_ratio`.
    max_ratio : ndarray
        gamma.
    ratio_error, leak, logit_scale : float
        eps1, eps2 and tau.
    """

    length: np.ndarray
    row_nnz: np.ndarray
    max_ratio: np.ndarray
    ratio_error: float
    leak: float
    logit_scale: float

    @property
    def max_logit(self) -> float | np.ndarray:
        """Beta = tau + log gamma."""
        return max_logit(self.logit_scale, self.max_ratio)


class Method(ABC):
    """A way to choose queries and keys, and all that its theorem says of it.

    A further method is one subclass in one file, a frozen dataclass, and one line in
    `methods.METHODS`. It names itself and its theorem, says which tau it takes where none is given,
    answers for the probability that it fails (`log_failure`), and builds queries and keys.

    Attributes
    ----------
    name : str
        What strings call it.
    theorem : str
        Its id in the book and in the claims ledger.
    hypotheses : str
        What the theorem assumes, in words.
    approximates_ratios : bool
        Whether it needs eps1 > 0; the others make the ratios exact.
    keeps_keys : bool
        Whether it solves for queries only, so that keys may be given.
    reads_blocks : bool
        Whether its target may stay on disk, a `targets.MappedTarget`.
    bounds : tuple of str
        The forms in which its dimension can be had, the default first.
    scopes : tuple of str
        "pattern": one pattern chosen without looking at the codes; "every_support": all at once.
    standing : {"theorem", "law", "prediction"}
        What its dimension rests on: a proof, an exact distribution that is computed, or an estimate
        that promises nothing.
    logit_standing : {"theorem", "law", "prediction"}
        The same of `largest_logit`.
    """

    name: ClassVar[str]
    theorem: ClassVar[str]
    hypotheses: ClassVar[str]
    approximates_ratios: ClassVar[bool] = False
    keeps_keys: ClassVar[bool] = False
    reads_blocks: ClassVar[bool] = False
    bounds: ClassVar[tuple] = ("sharp", "closed_form")
    scopes: ClassVar[tuple] = ("pattern",)
    standing: ClassVar[str] = "theorem"
    logit_standing: ClassVar[str] = "theorem"

    logit_scale: float | None

    # --- What a subclass says ----------------------------------------------------------------

    @abstractmethod
    def default_logit_scale(self, ratio_error: float, leak: float) -> float:
        """Return the tau taken where none is given."""

    @abstractmethod
    def least_dim(self, row_nnz: int | np.ndarray) -> int | np.ndarray:
        """Return the dimension below which the method cannot work at all."""

    @abstractmethod
    def log_failure(
        self, dim: int | np.ndarray, asked: TargetClass, bound: str, scope: str
    ) -> float | np.ndarray:
        """Return the log of (a bound on) the probability that the method fails at m = `dim`."""

    def closed_form(self, asked: TargetClass, log_eta: float | np.ndarray) -> float | np.ndarray:
        """Return the m that the theorem's statement displays, as a float."""
        raise NotImplementedError

    @abstractmethod
    def required_dim_for_target(
        self,
        target: sparse.csr_array | MappedTarget,
        precision: tuple[float, float, float],
        failure_prob: float = 0.01,
    ) -> int:
        """Return the least m for one checked target at (eps1, eps2, tau) from `precision`."""

    @abstractmethod
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
        """Choose queries and keys for target logits B.

        Parameters
        ----------
        B : scipy.sparse.csr_array or interop.mapped.MappedLogits, shape (L, L)
            Target logits (`logits.target_logits`); those of a target on disk, where the method
            `reads_blocks`.
        dim : int
            m.
        rng : int, numpy.random.SeedSequence, numpy.random.Generator or None
        dtype : numpy.dtype
            float64 or float32.
        keys : codes.Codes, optional
            Codes to keep; only where `keeps_keys`.
        executor, progress : optional
            As in `engine.run`.

        Returns
        -------
        queries : ndarray, shape (L, m)
        keys : codes.Codes, shape (L, m)

        Raises
        ------
        ConstructionError
            It cannot work at this dimension; names the row and the reason.
        """

    # --- What follows from it ------------------------------------------------------------------

    def read(
        self, target: ArrayLike | sparse.sparray | MappedTarget
    ) -> sparse.csr_array | MappedTarget:
        """Return a target as `targets.check_target` does, or one that stays on disk as it is.

        Raises
        ------
        TargetError
        ParameterError
            It is on disk, and the method needs it in memory.
        """
        target = opened_or_checked(target)
        if isinstance(target, MappedTarget) and not self.reads_blocks:
            raise ParameterError(
                f"method={self.name!r}: needs its target in memory, target.load(); 'interpolate' "
                "reads it block by block"
            )
        return target

    def precision(
        self, ratio_error: float, leak: float, logit_scale: float | None = None
    ) -> tuple[float, float, float]:
        """Return (eps1, eps2, tau) as floats, tau filled in, or raise `ParameterError`."""
        ratio_error = check_real("ratio_error", ratio_error, at_least=0)
        leak = check_real("leak", leak, above=0, below=1)
        if self.approximates_ratios and ratio_error == 0:
            raise ParameterError(
                f"ratio_error=0.0: method {self.name!r} only approximates the ratios and needs "
                "ratio_error > 0; 'interpolate' makes them exact"
            )
        if logit_scale is None:
            logit_scale = self.logit_scale
        if logit_scale is None:
            logit_scale = float(self.default_logit_scale(ratio_error, leak))
        return check_precision(ratio_error, leak, logit_scale)

    def required_dim(
        self,
        length: ArrayLike,
        row_nnz: ArrayLike,
        max_ratio: ArrayLike = 1.0,
        ratio_error: float = 0.0,
        leak: float = 0.01,
        failure_prob: ArrayLike = 0.01,
        logit_scale: float | None = None,
        bound: str | None = None,
        scope: str = "pattern",
    ) -> int | np.ndarray:
        """Return the least m that the theorem allows; see `dimensions.required_dim`."""
        asked, bound = self._asked(
            length, row_nnz, max_ratio, ratio_error, leak, logit_scale, bound, scope
        )
        log_eta = np.log(check_array("failure_prob", failure_prob, above=0, below=1))
        if bound == "closed_form":
            return as_int(self.closed_form(asked, log_eta))
        return self._least_dim(asked, log_eta, bound, scope)

    def _least_dim(self, asked, log_eta, bound, scope):
        def log_failure(dim):
            return self.log_failure(dim, asked, bound, scope)

        parts = asked.length, asked.row_nnz, asked.max_ratio, log_eta
        shape = np.broadcast_shapes(*(part.shape for part in parts))
        low = np.broadcast_to(self.least_dim(asked.row_nnz), shape)
        return doubling_search(log_failure, log_eta, low)

    def log_failure_probability(
        self,
        dim: ArrayLike,
        length: ArrayLike,
        row_nnz: ArrayLike,
        max_ratio: ArrayLike = 1.0,
        ratio_error: float = 0.0,
        leak: float = 0.01,
        logit_scale: float | None = None,
        bound: str | None = None,
        scope: str = "pattern",
    ) -> np.ndarray:
        """Return the log of the expected number of failures; see `dimensions`."""
        asked, bound = self._asked(
            length, row_nnz, max_ratio, ratio_error, leak, logit_scale, bound, scope
        )
        dim = check_array("dim", dim, at_least=1, integer=True)
        least = self.least_dim(asked.row_nnz)
        log_failure = self.log_failure(np.maximum(dim, least), asked, bound, scope)
        return np.where(dim < least, np.maximum(log_failure, 0.0), log_failure)

    def in_batch(self) -> Method:
        """Return the method as it is where all keys are drawn at once."""
        return self

    def largest_logit(self, asked: TargetClass, dim: int | np.ndarray) -> float | np.ndarray:
        """Return how large the |logits| of a row at m = `dim` are, up to a shift of the row."""
        return asked.max_logit

    def within_length(self, length: int, dim: int) -> tuple[Method, int]:
        """Return the method and dimension to build with where its theorem asks for m = `dim`."""
        return self, dim

    def _asked(self, length, row_nnz, max_ratio, ratio_error, leak, logit_scale, bound, scope):
        bound = self.bounds[0] if bound is None else bound
        check_choice("bound", bound, self.bounds)
        check_choice("scope", scope, self.scopes)
        length = check_array("length", length, at_least=1, integer=True)
        row_nnz = check_array("row_nnz", row_nnz, at_least=1, integer=True)
        if (row_nnz > length).any():
            raise ParameterError(
                f"row_nnz={row_nnz.tolist()}: must be at most length={length.tolist()}"
            )
        max_ratio = check_array("max_ratio", max_ratio, at_least=1)
        eps1, eps2, tau = self.precision(ratio_error, leak, logit_scale)
        eps1 = eps1 if self.approximates_ratios else 0.0  # exact, whatever was asked for
        return TargetClass(length, row_nnz, max_ratio, eps1, eps2, tau), bound

    def __str__(self):
        """Return the name and the settings that are not the default."""
        chosen = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{self.name}({', '.join(chosen)})" if chosen else self.name


def merge_rows(counts: np.ndarray, norms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct pairs (count, norm) and how often each occurs: equal rows fail alike."""
    order = np.lexsort((norms, counts))
    counts, norms = counts[order], norms[order]
    first = np.append(True, (np.diff(counts) != 0) | (np.diff(norms) != 0))
    weights = np.diff(np.append(np.nonzero(first)[0], len(counts)))
    return counts[first], norms[first], weights.astype(float)
