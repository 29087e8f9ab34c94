"""Queries that interpolate on the support and stay below a ceiling off it.

For codes c_1..c_L, row i asks for the shortest q with

    <q, c_j> = z_ij for j in S_i,      <q, c_j> <= a_ij for the visible j outside S_i.

Without the second part this is the query of Theorem T3. Where that one meets the ceiling it is the
answer; where it does not, the tokens that rise above are held at the ceiling, the query is solved
for again, and so on. A token is let go when its multiplier has the wrong sign: the primal-dual
active-set method (Hintermüller, Ito and Kunisch 2002). When it ends, its answer satisfies the
Karush-Kuhn-Tucker conditions, which prove it shortest. It need not end; a row that is still open
is solved as non-negative least squares (Lawson and Hanson 1974), whose residual is zero exactly if
no query exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls

if TYPE_CHECKING:
    from collections.abc import Callable

    from scipy import sparse

__all__ = [
    "BLOCK_BYTES",
    "NNLS_ROUNDS",
    "SMALLEST_RESIDUAL",
    "TOLERANCE",
    "capped_queries",
]

BLOCK_BYTES = 2**25
"""Memory for one block of rows of an L x L matrix."""

ROUNDS, CAREFUL = 40, 8
"""Rounds of the active-set method; after `CAREFUL` of them only the worst half is added a round."""

TOLERANCE = 1e-9
"""Accepted rise above the ceiling, relative to the row's largest wanted logit, or 1."""

SMALLEST_RESIDUAL = 1e-7
"""A smaller residual means no query, or one over 1e7 times as long as T3's."""

NNLS_ROUNDS = 60


def capped_queries(
    codes: np.ndarray, wanted: sparse.csr_array, ceiling: Callable, certain: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shortest queries that meet `wanted` and stay below `ceiling`.

    Parameters
    ----------
    codes : ndarray of float64, shape (L, m)
    wanted : scipy.sparse.csr_array, shape (n, L)
        The logits z_ij; explicit zeros count.
    ceiling : callable
        ``ceiling(rows)`` returns the a_ij of an array of rows, shape (len(rows), L), infinite for
        tokens that are not visible; what it says on the support is not looked at.
    certain : bool, optional
        Whether to settle rows that the active-set method leaves open, one by one.

    Returns
    -------
    queries : ndarray, shape (n, m)
        Rows of NaN where there is none.
    corrected : ndarray of bool, shape (n,)
        Where T3's query was not enough.
    """
    total, length = wanted.shape
    queries = np.full((total, codes.shape[1]), np.nan)
    corrected = np.zeros(total, dtype=bool)
    size = max(1, BLOCK_BYTES // (8 * length))
    for start in range(0, total, size):
        rows = np.arange(start, min(start + size, total))
        queries[rows], corrected[rows] = _block(codes, wanted[rows], ceiling(rows), certain)
    return queries, corrected


def _block(codes, wanted, level, certain):
    """Solve one block; `level` (n, L) is the ceiling, and is overwritten with the wanted logits."""
    support = np.zeros(level.shape, dtype=bool)
    at = np.repeat(np.arange(len(level)), np.diff(wanted.indptr)), wanted.indices
    support[at] = True
    level[at] = wanted.data
    room = codes.shape[1] - support.sum(axis=1)
    slack = TOLERANCE * np.maximum(
        np.maximum.reduceat(np.abs(wanted.data), wanted.indptr[:-1]), 1.0
    )
    active = support.copy()
    queries = np.full((len(level), codes.shape[1]), np.nan)
    corrected = np.zeros(len(level), dtype=bool)
    open_rows = np.nonzero(room >= 0)[0]
    stuck = np.empty(0, dtype=int)
    for round_number in range(ROUNDS):
        if not len(open_rows):
            break
        solved, wrong, met = _solve(codes, active[open_rows], level[open_rows], slack[open_rows])
        stuck = np.append(stuck, open_rows[~met])
        open_rows, solved, wrong = open_rows[met], solved[met], wrong[met]
        wrong &= ~support[open_rows]
        rise = solved @ codes.T - level[open_rows]
        rise[active[open_rows]] = -np.inf
        above = rise > slack[open_rows, None]
        settled = ~(above.any(axis=1) | wrong.any(axis=1))
        queries[open_rows[settled]] = solved[settled]
        left = ~settled
        open_rows, rise, above, wrong = open_rows[left], rise[left], above[left], wrong[left]
        corrected[open_rows] = True
        active[open_rows] &= ~wrong
        spare = room[open_rows] - (active[open_rows] & ~support[open_rows]).sum(axis=1)
        for row, count, high, up in zip(open_rows, spare, rise, above, strict=True):
            new = np.nonzero(up)[0]
            most = count if round_number < CAREFUL else min(count, -(-len(new) // 2))
            if len(new) > most:
                new = new[np.argsort(-high[new], kind="stable")[:most]]
            active[row, new] = True
    for row in np.append(stuck, open_rows) if certain else ():
        queries[row] = _one_row(codes, support[row], level[row], slack[row])
        corrected[row] = True
    return queries, corrected


def _solve(codes, active, level, slack):
    """Return least-norm queries with <q, c_j> = level on `active`, and what is wrong with them.

    A query is C^T y with C C^T y = level; a token held at its ceiling pushes down, so y_j > 0 is
    wrong for it. The last array says which rows meet their equations.
    """
    queries = np.empty((len(active), codes.shape[1]))
    wrong = np.zeros(active.shape, dtype=bool)
    met = np.empty(len(active), dtype=bool)
    counts = active.sum(axis=1)
    for count in np.unique(counts):
        rows = np.nonzero(counts == count)[0]
        at = np.nonzero(active[rows])[1].reshape(len(rows), count)
        chosen = codes[at]
        values = level[rows[:, None], at][:, :, None]
        gram = chosen @ chosen.transpose(0, 2, 1)
        try:
            multipliers = np.linalg.solve(gram, values)
            multipliers += np.linalg.solve(gram, values - gram @ multipliers)
        except np.linalg.LinAlgError:
            multipliers = np.full_like(values, np.nan)
        error = np.abs(gram @ multipliers - values).max(axis=(1, 2))
        for row in np.nonzero(~(error <= slack[rows]))[0]:  # equal codes, say: any y will do
            multipliers[row] = np.linalg.lstsq(gram[row], values[row], rcond=1e-12)[0]
            error[row] = np.abs(gram[row] @ multipliers[row] - values[row]).max()
        queries[rows] = (chosen.transpose(0, 2, 1) @ multipliers)[:, :, 0]
        wrong[rows[:, None], at] = multipliers[:, :, 0] > 0
        met[rows] = error <= slack[rows]
    return queries, wrong, met


def _one_row(codes, support, level, slack):
    """Return one row's query by non-negative least squares, or NaN.

    With p the query of T3, l a length of its size and P the projector onto what is orthogonal to
    the support's codes, q = p + l y: the shortest y with <y, P c_j> <= (a_j - <p, c_j>)/l.
    """
    none = np.full(codes.shape[1], np.nan)
    on = codes[support]
    inverse = np.linalg.pinv(on)
    p = inverse @ level[support]
    if np.abs(on @ p - level[support]).max() > slack:
        return none
    rise = codes @ p - level
    rise[support] = -np.inf
    if rise.max() <= slack:
        return p
    length = max(np.linalg.norm(p), rise.max() / np.linalg.norm(codes, axis=1).max())
    chosen = np.argsort(-rise)[: 2 * codes.shape[1]]
    chosen = chosen[np.isfinite(rise[chosen])]
    for _ in range(NNLS_ROUNDS):
        part = codes[chosen] - (codes[chosen] @ inverse) @ on
        wall = rise[chosen] / length
        system = np.vstack([-part.T, wall])
        last = np.zeros(len(system))
        last[-1] = 1.0
        multipliers, residual = nnls(system, last)
        if residual < SMALLEST_RESIDUAL:
            return none
        tight = multipliers > 0
        query = p - length * np.linalg.lstsq(part[tight], wall[tight], rcond=None)[0]
        above = codes @ query - level
        above[support] = -np.inf
        more = np.nonzero(above > slack)[0]
        if not len(more):
            return query
        more = np.setdiff1d(more[np.argsort(-above[more])[: codes.shape[1]]], chosen)
        if not len(more):
            return none  # beyond the digits of the solver
        chosen = np.append(chosen, more)
    return none
