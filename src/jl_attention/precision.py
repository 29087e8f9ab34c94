"""How well an attention matrix M meets a target A: (P1), (P2) and total variation, in blocks.

For row i with support S_i, everything follows from the logits Lambda_i.:

- ratio error, (P1): the largest |(M_ij/M_ij') / (A_ij/A_ij') - 1| over j, j' in S_i. With
  r_j = Lambda_ij - log A_ij it is exp(max r - min r) - 1.
- leak, (P2): the largest M_ij0 / M_ij over j in S_i, j0 not in S_i; it is
  exp(max off the support - min on it), and 0 for a full row.
- total variation: (1/2) sum_j |M_ij - A_ij|.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from .codes import GivenCodes
from .engine import in_this_process, run
from .errors import ParameterError
from .interop.arrays import real_array
from .result import Result
from .targets import opened_or_checked
from .theory.total_variation import (
    leak_for_total_variation,
    output_error_bound,
    total_variation_bound,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from typing import Any

    from numpy.typing import ArrayLike

    from .interop.mapped import MappedTarget

__all__ = [
    "PrecisionReport",
    "leak_for_total_variation",
    "measure",
    "measure_checked",
    "output_error_bound",
    "total_variation_bound",
]

BLOCK_ROWS = 256
"""Rows of one block, the unit that is mapped."""

TILE_COLUMNS = 1024
"""Columns of one tile of a block: it stays in a core's cache while it is looked at."""


@dataclass(frozen=True, eq=False)
class PrecisionReport(Result):
    """What `measure` found. Scalars are the worst over the measured rows.

    Attributes
    ----------
    ratio_error : float
        Smallest eps1 for which (P1) holds.
    leak : float
        Smallest eps2 for which (P2) holds.
    total_variation : float
        Largest total variation distance between a row of M and of A, in [0, 1].
    max_abs_logit : float
        Largest |Lambda_ij|.
    logit_spread : float
        omega: the largest spread max_j Lambda_ij - min_j Lambda_ij of a row, which is the scale
        that softmax sees, whatever row shift the logits carry.
    rows : ndarray of int, shape (n,)
        The measured rows.
    row_ratio_error, row_leak, row_total_variation : ndarray, shape (n,)
        The same, row by row.
    """

    ratio_error: float
    leak: float
    total_variation: float
    max_abs_logit: float
    logit_spread: float
    rows: np.ndarray = field(repr=False)
    row_ratio_error: np.ndarray = field(repr=False)
    row_leak: np.ndarray = field(repr=False)
    row_total_variation: np.ndarray = field(repr=False)

    def __post_init__(self):
        """Make the arrays read-only."""
        self._freeze("rows", "row_ratio_error", "row_leak", "row_total_variation")

    @property
    def logit_scale(self) -> float:
        """`logit_spread` under its old name, which elsewhere means tau; deprecated."""
        return self.logit_spread

    def meets(self, ratio_error: float, leak: float) -> bool:
        """Return whether (P1) holds with eps1 = `ratio_error` and (P2) with eps2 = `leak`.

        Word for word; `Construction.meets` allows for rounding.
        """
        return self.ratio_error <= ratio_error and self.leak <= leak


def measure(
    built: Any,
    target: ArrayLike | sparse.sparray | MappedTarget,
    rows: ArrayLike | None = None,
    *,
    executor: Executor | None = None,
    progress: Callable | None = None,
) -> PrecisionReport:
    """Measure the precision of a construction against a target, streaming over blocks of rows.

    Exact: every pair of every measured row is looked at. Costs O(L^2 m) time and one tile of
    logits of memory, never an L x L array.

    Parameters
    ----------
    built : Construction, or ndarray of shape (L, L)
        Anything with `queries` and `keys`, or with a method ``logits(rows)`` that returns rows of
        Lambda, or Lambda itself: logits, not attention.
    target : array_like or scipy.sparse array, shape (L, L), or targets.MappedTarget
        Checked by `targets.check_target`.
    rows : array_like of int, optional
        Measure these rows only; all of them if None.
    executor : concurrent.futures.Executor, optional
        Maps blocks of rows, see `engine.run`; the report is the same bit for bit.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of rows.

    Returns
    -------
    PrecisionReport

    Raises
    ------
    TargetError
        The target is not right-stochastic.
    ParameterError
        Lambda is not of the target's size, not finite, or an attention matrix; or a row index is
        out of range.

    Notes
    -----
    Logits and the largest and smallest of them are those of the construction's own dtype. In single
    precision exponentials are single too, which leaves an error of about 1e-6 of itself in the
    total variation; the ratio error and the leak come from single logits in double precision.
    """
    return measure_checked(built, opened_or_checked(target), rows, executor, progress)


def measure_checked(
    built: Any,
    target: sparse.csr_array | MappedTarget,
    rows: ArrayLike | None = None,
    executor: Executor | None = None,
    progress: Callable | None = None,
) -> PrecisionReport:
    """Return what `measure` does, for a target that has been checked."""
    rows = np.arange(target.shape[0]) if rows is None else _check_rows(rows, target.shape[0])
    blocks = (rows[start : start + BLOCK_ROWS] for start in range(0, len(rows), BLOCK_ROWS))
    if hasattr(built, "queries"):
        codes = getattr(built, "codes", None) or GivenCodes(built.keys)
        if not len(built.queries) == codes.length == target.shape[0]:
            raise ParameterError(
                f"logits of shape {(len(built.queries), codes.length)}: expected {target.shape}"
            )
        tasks = (_Task(some, target[some], built.queries[some]) for some in blocks)
        measured = partial(_measure_factors, codes)
        # Made once, and held until all rows are measured.
        held = codes.array() if in_this_process(executor) else None
    else:
        logits = built.logits if hasattr(built, "logits") else _check_logits(built).__getitem__
        tasks = (_Task(some, target[some], logits(_as_slice(some))) for some in blocks)
        measured, held = _measure_logits, None
    parts = list(
        run(measured, tasks, executor, progress, len(rows), size=lambda task: len(task.rows))
    )
    del held
    ratio_error, leak, total_variation, largest, spread = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    return PrecisionReport(
        ratio_error=float(ratio_error.max()),
        leak=float(leak.max()),
        total_variation=float(total_variation.max()),
        max_abs_logit=float(largest.max()),
        logit_spread=float(spread.max()),
        rows=rows,
        row_ratio_error=ratio_error,
        row_leak=leak,
        row_total_variation=total_variation,
    )


class _Task(NamedTuple):
    """A block of rows: their numbers, their target (csr), and their queries or logits."""

    rows: np.ndarray
    target: sparse.csr_array
    carried: np.ndarray


def _check_rows(rows, length):
    rows = np.asarray(rows)
    if rows.ndim != 1 or rows.size == 0 or rows.dtype.kind not in "iu":
        raise ParameterError("rows: expected a nonempty one-dimensional array of integers")
    if rows.min() < 0 or rows.max() >= length:
        raise ParameterError(f"rows: must lie between 0 and {length - 1}")
    return rows.astype(np.int64)


def _check_logits(logits):
    """Return an array of logits, or say what it looks like instead."""
    if sparse.issparse(logits):
        raise ParameterError("logits: a sparse matrix is not one of logits; expected an array")
    logits = real_array(logits, "logits", ParameterError)
    if logits.ndim != 2:
        raise ParameterError(f"logits of shape {logits.shape}: expected real (L, L)")
    if _is_attention(logits):
        raise ParameterError(
            "logits: nonnegative rows that sum to 1 are attention, not logits; pass its logarithm"
        )
    return logits


def _is_attention(matrix):
    if len(matrix) < 2 or matrix.size == 0 or not matrix.min() >= 0:
        return False
    return bool(np.abs(matrix.sum(axis=1, dtype=np.float64) - 1).max() < 1e-3)


def _as_slice(rows):
    """Return consecutive rows as a slice, which reads without copying."""
    consecutive = rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all()
    return slice(rows[0], rows[-1] + 1) if consecutive else rows


def _measure_factors(codes, task):
    """Measure rows of Lambda = X1 X2^T, tile by tile."""
    keys = codes.array()
    tile = np.empty((len(task.rows), min(TILE_COLUMNS, len(keys))), dtype=keys.dtype)

    def tiles():
        for start in range(0, len(keys), TILE_COLUMNS):
            stop = min(start + TILE_COLUMNS, len(keys))
            part = tile if stop - start == tile.shape[1] else np.empty_like(tile[:, : stop - start])
            with np.errstate(invalid="ignore"):  # a row that is not finite is named below
                logits = np.matmul(task.carried, keys[start:stop].T, out=part)
            yield start, logits

    return _measure_tiles(tiles(), task)


def _measure_logits(task):
    """Measure rows of logits that are there."""
    logits = np.array(task.carried, dtype=np.float64)
    if logits.shape != task.target.shape:
        raise ParameterError(f"logits of shape {logits.shape}: expected {task.target.shape}")
    return _measure_tiles([(0, logits)], task)


def _measure_tiles(tiles, task):
    """Return five arrays, one entry a row: ratio error, leak, TV, max |logit|, spread.

    One pass over tiles (first column, logits), which are overwritten. The mass off the support is
    summed as softmax is computed online: relative to the largest logit so far.
    """
    target, count = task.target, len(task.rows)
    start, row_of = target.indptr[:-1], np.repeat(np.arange(count), np.diff(target.indptr))
    by_column = np.argsort(target.indices, kind="stable")
    columns = target.indices[by_column]
    support = np.empty(target.nnz)
    low, off_high = np.full(count, np.inf), np.full(count, -np.inf)
    off_mass = np.zeros(count)  # in units of exp(off_high)
    for first, tile in tiles:
        here = by_column[slice(*np.searchsorted(columns, [first, first + tile.shape[1]]))]
        at = row_of[here], target.indices[here] - first
        support[here] = tile[at]
        low = np.minimum(low, tile.min(axis=1))
        tile[at] = -np.inf
        high = np.maximum(off_high, tile.max(axis=1))
        shift = np.where(np.isfinite(high), high, 0.0)
        np.subtract(tile, shift.astype(tile.dtype)[:, None], out=tile)
        np.exp(tile, out=tile)
        with np.errstate(invalid="ignore"):
            fallen = np.exp(off_high - shift)
        off_mass = np.where(off_mass > 0, off_mass * fallen, 0.0) + tile.sum(axis=1)
        off_high = high
    finite = np.isfinite(low) & ~np.isnan(off_high) & (off_high < np.inf)
    finite &= np.isfinite(np.add.reduceat(support, start))
    if not finite.all():
        raise ParameterError(f"logits: row {task.rows[np.argmin(finite)]}: is not finite")
    support_low = np.minimum.reduceat(support, start)
    high = np.maximum(np.maximum.reduceat(support, start), off_high)

    deviation = support - np.log(target.data)
    ratio = np.maximum.reduceat(deviation, start) - np.minimum.reduceat(deviation, start)
    weights = np.exp(support - high[row_of])
    off_mass = off_mass * np.exp(off_high - high)
    partition = np.add.reduceat(weights, start) + off_mass
    moved = np.add.reduceat(np.abs(weights / partition[row_of] - target.data), start)
    with np.errstate(over="ignore"):
        ratio_error, leak = np.expm1(ratio), np.exp(off_high - support_low)
    total_variation = 0.5 * (moved + off_mass / partition)
    return ratio_error, leak, total_variation, np.maximum(np.abs(high), np.abs(low)), high - low
