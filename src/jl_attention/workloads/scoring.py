"""What a method found of a workload: recall, mass, output error and the share of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from ..attention import row_blocks
from ..errors import ParameterError, check_int
from .selectors import Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike

    from .workload import Workload

__all__ = [
    "MAX_ROWS",
    "Score",
    "as_selection",
    "score",
    "scores",
]

MAX_ROWS = 1024
"""Rows of a head that are scored unless asked otherwise, evenly spaced among those that ask."""


@dataclass(frozen=True)
class Score:
    """How well a selection does, over the rows scored of all heads.

    Attributes
    ----------
    recall : float
        Share of the planted entries that are kept.
    mass : float
        Mean over rows of the share of the true attention, that of Q and K, on the keys kept.
    output_error : float
        Root mean square over rows of |M_i - A_i|, M the softmax over the keys kept and A the
        truth: what a coordinate of M V - A V is for independent standard normal values V.
    pairs : float
        Share of the visible pairs of these rows that are kept.
    rows : int
        Number of rows scored.
    """

    recall: float
    mass: float
    output_error: float
    pairs: float
    rows: int


def score(
    selection: Selection | Callable | ArrayLike | sparse.sparray | Sequence,
    workload: Workload,
    *,
    rows: ArrayLike | None = None,
    max_rows: int = MAX_ROWS,
) -> Score:
    """Score a selection on a workload.

    Costs O(n L m) for n rows scored.

    Parameters
    ----------
    selection : Selection, callable, ndarray or sparse array, or a list of these
        One for each query head (or the one of the only head): a `selectors.Selection`, a function
        ``keep(rows)`` that returns a bool array (n, L), a bool array (L, L), or a sparse array
        (L, L) whose stored nonzeros are the pairs kept. What lies above the diagonal is ignored.
    workload : Workload
    rows : array_like of int, optional
        Score these rows of every head. If None, rows with a planted entry.
    max_rows : int, optional
        Of those with a planted entry take at most so many, evenly spaced.

    Returns
    -------
    Score

    Raises
    ------
    ParameterError
        The selections are not one a head, or not of the workload's length; a row keeps nothing.

    Examples
    --------
    >>> from jl_attention import workloads as wl
    >>> w = wl.make("needles", 1024, head_dim=64, count=1, rng=0)
    >>> window = lambda rows: np.arange(1024) > rows[:, None] - 256
    >>> found = wl.score(window, w)
    >>> found.recall < 0.7, found.rows
    (True, 1022)
    >>> wl.score(wl.selectors.exact_top_k(w.Q, w.K, budget=3), w).recall
    1.0
    """
    return scores({"": selection}, workload, rows=rows, max_rows=max_rows)[""]


def scores(
    selections: Mapping[str, Selection | Callable | ArrayLike | sparse.sparray | Sequence],
    workload: Workload,
    *,
    rows: ArrayLike | None = None,
    max_rows: int = MAX_ROWS,
) -> dict[str, Score]:
    """Score several selections; the logits of the rows are computed once for all of them.

    Parameters
    ----------
    selections : dict
        From a name to what `score` takes.
    workload, rows, max_rows
        As in `score`.

    Returns
    -------
    dict of str to Score

    Raises
    ------
    ParameterError
        As `score`.
    """
    heads = {name: _per_head(one, workload) for name, one in selections.items()}
    sums = {name: np.zeros(6) for name in heads}
    count = 0
    for head, pattern in enumerate(workload.patterns):
        some = _rows(rows, pattern, check_int("max_rows", max_rows))
        count += len(some)
        for block in row_blocks(len(some), 2 * workload.length, 2**26):
            reference = _Reference(workload, head, some[block])
            for name, of_heads in heads.items():
                sums[name] += reference.score(of_heads[head])
    found = {}
    for name, (planted, kept_planted, mass, error, kept, visible) in sums.items():
        found[name] = Score(
            recall=float(kept_planted / planted) if planted else 1.0,
            mass=float(mass / count),
            output_error=float(np.sqrt(error / count)),
            pairs=float(kept / visible),
            rows=count,
        )
    return found


def as_selection(
    value: Selection | Callable | ArrayLike | sparse.sparray, length: int
) -> Selection:
    """Return what `score` takes for one head as a `selectors.Selection`."""
    if isinstance(value, Selection):
        selection = value
    elif callable(value):
        selection = Selection(length, value)
    else:
        matrix = sparse.csr_array(value) if sparse.issparse(value) else np.asarray(value)
        if matrix.shape != (length, length):
            raise ParameterError(f"selection of shape {matrix.shape}: expected {(length, length)}")
        dense = (
            (lambda rows: matrix[rows].toarray()) if sparse.issparse(value) else matrix.__getitem__
        )
        selection = Selection(length, lambda rows: dense(rows) != 0)
    if selection.length != length:
        raise ParameterError(f"selection for {selection.length} tokens; the workload has {length}")
    return selection


def _rows(rows, pattern, max_rows):
    """Return the rows of a head to score."""
    if rows is not None:
        rows, last = np.unique(np.asarray(rows)), pattern.length - 1
        if rows.dtype.kind not in "iu" or not len(rows) or rows[0] < 0 or rows[-1] > last:
            raise ParameterError(f"rows: must be integers between 0 and {last}")
        return rows
    asking = pattern.planted_rows()
    at = np.linspace(0, len(asking) - 1, min(max_rows, len(asking))).round().astype(np.int64)
    return asking[at]


def _per_head(selection, workload):
    """Return the `Selection` of each query head."""
    selections = selection if isinstance(selection, (list, tuple)) else [selection]
    if len(selections) != workload.heads:
        raise ParameterError(f"selection: {len(selections)} for {workload.heads} query heads")
    return [as_selection(one, workload.length) for one in selections]


class _Reference:
    """Rows of a workload, with all that every selection is compared with."""

    def __init__(self, workload, head, rows):
        pattern = workload.patterns[head]
        self.head, self.rows, self.logits = head, rows, workload.logits(head, rows)
        self.weights = _softmax(self.logits)
        self.truth = pattern.truth[rows]
        self.at = np.repeat(np.arange(len(rows)), np.diff(self.truth.indptr)), self.truth.indices
        start, stop = pattern.truth.indptr[rows], pattern.truth.indptr[rows + 1]
        parts = [pattern.planted[a:b] for a, b in zip(start, stop, strict=True)]
        self.planted = np.concatenate(parts)

    def score(self, selection):
        """Return sums over rows: planted, found, mass, squared error, kept and visible pairs."""
        kept = selection.mask(self.rows)
        if not kept.any(axis=1).all():
            row = self.rows[np.argmin(kept.any(axis=1))]
            raise ParameterError(f"selection: row {row} of head {self.head} keeps no visible key")
        mass = self.weights[kept].sum()
        M = _softmax(np.where(kept, self.logits, -np.inf))
        M[self.at] -= self.truth.data
        found = kept[self.at][self.planted].sum()
        visible = (self.rows + 1).sum()
        return self.planted.sum(), found, mass, np.einsum("ij,ij->", M, M), kept.sum(), visible


def _softmax(logits):
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
