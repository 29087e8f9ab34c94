"""What a method found of a workload: recall, mass, output error and the share of pairs."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ..attention import row_blocks
from ..errors import ParameterError, check_int
from .selectors import Selection

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


def score(selection, workload, *, rows=None, max_rows=MAX_ROWS):
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
    selections = selection if isinstance(selection, (list, tuple)) else [selection]
    if len(selections) != workload.heads:
        raise ParameterError(f"selection: {len(selections)} for {workload.heads} query heads")
    parts = []
    for head, one in enumerate(selections):
        one = as_selection(one, workload.length)
        some = _rows(rows, workload.patterns[head], check_int("max_rows", max_rows))
        for block in row_blocks(len(some), 2 * workload.length, 2**26):
            parts.append(_score_block(one, workload, head, some[block]))
    planted, found, mass, error, kept, visible = np.sum(parts, axis=0)
    count = sum(len(_rows(rows, pattern, max_rows)) for pattern in workload.patterns)
    return Score(
        recall=float(found / planted) if planted else 1.0,
        mass=float(mass / count),
        output_error=float(np.sqrt(error / count)),
        pairs=float(kept / visible),
        rows=count,
    )


def as_selection(value, length):
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


def _score_block(selection, workload, head, rows):
    """Return sums over rows: planted, found, mass, squared error, kept and visible pairs."""
    kept = selection.mask(rows)
    if not kept.any(axis=1).all():
        row = rows[np.argmin(kept.any(axis=1))]
        raise ParameterError(f"selection: row {row} of head {head} keeps no visible key")
    pattern, logits = workload.patterns[head], workload.logits(head, rows)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    mass = (np.where(kept, weights, 0).sum(axis=1) / weights.sum(axis=1)).sum()
    # Shifted by its own maximum: what is kept may be far below the largest logit.
    logits = np.where(kept, logits, -np.inf)
    M = np.exp(logits - logits.max(axis=1, keepdims=True))
    M /= M.sum(axis=1, keepdims=True)
    truth = pattern.truth[rows]
    row = np.repeat(np.arange(len(rows)), np.diff(truth.indptr))
    M[row, truth.indices] -= truth.data
    entries = _entries(pattern, rows)
    found = kept[row, truth.indices][entries].sum()
    return entries.sum(), found, mass, np.einsum("ij,ij->", M, M), kept.sum(), (rows + 1).sum()


def _entries(pattern, rows):
    """Return which stored entries of these rows of the truth are planted."""
    start, stop = pattern.truth.indptr[rows], pattern.truth.indptr[rows + 1]
    return np.concatenate([pattern.planted[a:b] for a, b in zip(start, stop, strict=True)])
