"""From the pattern of a head to its queries, for given key codes: the block's inside, undone.

What a head adds to s <q, k> and how it bends it is undone on the wanted logits and on the ceiling
alike: ALiBi by adding what it takes, a softcap by c atanh(z/c), the scale by division.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ConstructionError
from ..logits import target_logits
from . import reference
from .queries import capped_queries

if TYPE_CHECKING:
    from scipy import sparse

    from .spec import BlockSpec

__all__ = [
    "FREE_LEVEL",
    "GAP_MARGIN",
    "LARGEST_CAPPED",
    "LEVELS",
    "LOW_LEVELS",
    "equal_rows",
    "head_queries",
    "inside",
]

LEVELS = (3.0, 6.0, 12.0, 24.0)
"""Logit scales that are tried for a row, in units of the gap; the first that works is taken."""

LOW_LEVELS = (2.0, 1.5)
"""More of them under a softcap, for rows whose logits at 3 would not fit."""

GAP_MARGIN = 0.01
"""By how much the gap exceeds log(1/leak), for rounding."""

LARGEST_CAPPED = 0.999
"""Share of the softcap that a wanted logit may reach: atanh(0.999) is 3.8."""

FREE_LEVEL = 10.0
"""With QK-norm: one more coordinate of every code, in units of its length.

What a query has there shifts a row's logits, costs little, and is dropped: the softmax does not see
it. So the row finds the level at which its query is shortest.
"""


def head_queries(
    spec: BlockSpec,
    codes: np.ndarray,
    pattern: sparse.csr_array,
    head: int,
    leak: float,
    logit_scale: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the queries of one head in the space of the codes.

    Parameters
    ----------
    spec : BlockSpec
    codes : ndarray, shape (L, m)
    pattern : scipy.sparse.csr_array, shape (L, L)
    head : int
    leak : float
    logit_scale : float, optional
        tau of every row; `LEVELS` if None.

    Returns
    -------
    queries : ndarray, shape (L, m)
    corrected : ndarray of bool, shape (L,)
        Rows whose query is not Theorem T3's.

    Raises
    ------
    ConstructionError
        A row has no query, or with QK-norm too long a one.
    """
    gap = GAP_MARGIN - math.log(leak)
    free = equal_rows(spec, pattern, codes.shape[1])
    if free.any() and math.exp(spec.sink_logit) > leak:
        row = int(np.argmax(free))
        raise ConstructionError(
            f"head {head}, row {row}: attends equally to all {np.diff(pattern.indptr)[row]} tokens "
            f"it sees, more than the {codes.shape[1]} code dimensions; its logits are 0 then, and "
            f"a sink of logit {spec.sink_logit:g} gets more than leak={leak:g}"
        )
    if spec.qk_norm and spec.softcap is None and spec.sink is False:
        return _shortest(spec, codes, pattern, head, gap, free)
    queries = np.zeros(codes.shape)
    corrected = np.zeros(len(codes), dtype=bool)
    tried = np.zeros(len(codes), dtype=bool)
    left = np.nonzero(~free)[0]
    levels = LEVELS if spec.softcap is None else LEVELS + LOW_LEVELS
    levels = [level * gap for level in levels] if logit_scale is None else [logit_scale]
    for level in levels:
        tau = max(level, spec.sink_logit + gap)
        wanted = target_logits(pattern, tau)[left]
        fits = np.ones(len(left), dtype=bool)
        if spec.softcap is not None:  # which comes before ALiBi
            distance = np.repeat(left, np.diff(wanted.indptr)) - wanted.indices
            before = wanted.data + spec.slopes[head] * distance
            largest = np.maximum.reduceat(before, wanted.indptr[:-1])
            fits = largest <= LARGEST_CAPPED * spec.softcap
        rows = left[fits]
        tried[rows] = True
        found, more = capped_queries(
            codes,
            *_inside(spec, wanted[fits], rows, head, tau - gap),
            certain=level == levels[-1],
        )
        good = np.isfinite(found[:, 0])
        queries[rows[good]], corrected[rows[good]] = found[good], more[good]
        left = np.setdiff1d(left, rows[good])
        if not len(left):
            return _check_length(spec, queries, head), corrected
    if not tried[left].all():
        row = left[np.argmin(tried[left])]
        raise ConstructionError(
            f"head {head}, row {row}: softcap={spec.softcap:g} has no room for logits of "
            f"{min(levels):.3g} and more above 0, which random codes need, and for what ALiBi "
            "takes; ask for a larger leak"
        )
    raise _no_query(head, left, codes, gap)


def _shortest(spec, codes, pattern, head, gap, free):
    """Return what `head_queries` does, each row at the level where its query is shortest."""
    rows = np.nonzero(~free)[0]
    wanted = target_logits(pattern, 1.0)[rows]
    wanted.data -= 1.0
    lifted = np.column_stack([codes, np.full(len(codes), FREE_LEVEL * spec.qk_length)])
    found, more = capped_queries(lifted, *_inside(spec, wanted, rows, head, -gap))
    queries, corrected = np.zeros(codes.shape), np.zeros(len(codes), dtype=bool)
    queries[rows], corrected[rows] = found[:, :-1], more
    lost = np.isnan(queries[:, 0])
    if lost.any():
        raise _no_query(head, np.nonzero(lost)[0], codes, gap)
    return _check_length(spec, queries, head), corrected


def inside(
    spec: BlockSpec, head: int, z: float | np.ndarray, distance: int | np.ndarray
) -> float | np.ndarray:
    """Return <q, c> of a token at this distance whose logit is to be z: ALiBi, cap, scale undone.

    Infinite where z is at the softcap or beyond: a ceiling there is none.
    """
    z = z + spec.slopes[head] * distance
    if spec.softcap is not None:
        with np.errstate(divide="ignore"):
            z = spec.softcap * np.arctanh(np.clip(z / spec.softcap, -1, 1))
    return z / spec.logit_factor


def _inside(spec, wanted, rows, head, ceiling):
    """Return (wanted, ceiling) for <q, c> itself, as `capped_queries` takes them."""
    inner = wanted.copy()
    distance = np.repeat(rows, np.diff(wanted.indptr)) - inner.indices
    inner.data = inside(spec, head, inner.data, distance)
    length = wanted.shape[1]

    def below(some):
        some = rows[some]
        level = inside(spec, head, ceiling, some[:, None] - np.arange(length))
        return np.where(reference.visible(spec, some, length), level, np.inf)

    return inner, below


def equal_rows(spec: BlockSpec, pattern: sparse.csr_array, dim: int) -> np.ndarray:
    """Return where the zero query does: rows that give all tokens they see the same.

    ALiBi leaves none, and a sink takes too much of such a row; with one, only rows of more than
    `dim` tokens are meant, which have no other query.
    """
    counts, start = np.diff(pattern.indptr), pattern.indptr[:-1]
    low, high = (f.reduceat(pattern.data, start) for f in (np.minimum, np.maximum))
    equal = (counts == spec.visible_counts(pattern.shape[0])) & (high <= low * (1 + 1e-12))
    if spec.alibi:
        return np.zeros(len(counts), dtype=bool)
    return equal if spec.sink is False else equal & (counts > dim)


def _check_length(spec, queries, head):
    """Return the queries if QK-norm allows their length."""
    if not spec.qk_norm:
        return queries
    lengths = np.linalg.norm(queries, axis=1)
    lost = np.nonzero(lengths > spec.qk_length)[0]
    if not len(lost):
        return queries
    worst = lost[np.argmax(lengths[lost])]
    product = spec.logit_factor * spec.qk_length
    raise ConstructionError(
        f"head {head}, row {worst}: needs scale |q| |k| = {product * lengths[worst]:.4g} with "
        f"these codes, but qk_norm makes it at most {product * spec.qk_length:.4g}; {len(lost)} of "
        f"{len(queries)} rows ask for more than that: the leak is too small, or head_dim"
    )


def _no_query(head, lost, codes, gap):
    length, dim = codes.shape
    return ConstructionError(
        f"head {head}, row {lost[0]}: no query of {dim} dimensions keeps the tokens off its "
        f"support log(1/leak) = {gap - GAP_MARGIN:.3g} below those on it, with these codes; "
        f"{len(lost)} of {length} rows have none: more dimensions (hidden_size, head_dim) or "
        "another seed may do"
    )
