"""Many least-distance problems at once, one a row: the shortest q with E q = e and V q >= 1.

E has orthonormal rows; a row of V is the normal v_j = c_s - c_j of candidate j. For a set A of
candidates with linearly independent normals let N have the rows of E and those v_j, and let
q = N^T u be the shortest with N q = (e, 1). If u >= 0 on A, then q is also the shortest with
N q >= 1 on A, and if no candidate is violated, it solves the problem: these are the conditions of
Karush, Kuhn and Tucker.

`LeastDistance` finds such a set by Goldfarb and Idnani's dual active-set method (1983), on all rows
in lockstep. It has u >= 0 at any time and adds the most violated candidate. Rank-one updates keep

    H = I - N^+ N, the projector onto the null space of N,   and   W = (N^+)^T.

Let v be the candidate's normal, z = H v and r = W v, so that v = z + N^T r. Along q + t z the
multipliers are u - t r, and that of v is t. Either t reaches (1 - <v, q>)/||z||^2 first, and the
candidate enters, or a multiplier reaches 0, and its candidate leaves. Each entry makes q longer, so
no set comes back. If z = 0 and r <= 0 on A, then v - N^T r = 0 proves that there is no q.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dposv

__all__ = [
    "CERTAIN",
    "CLOSE",
    "COMPRESS",
    "HAIR",
    "LONGEST",
    "ROUNDING",
    "STEPS",
    "LeastDistance",
    "Rows",
    "is_shortest",
    "largest_error",
    "least_norm",
    "rounding",
]

FREE, EQUALITY = -1, -2
"""What a slot of an active set holds, if not a token."""

SOLVED, BLOCKED, CUT_OFF = 0, 1, 2
"""How a row ends: nothing violated; no longer query to be had; too many steps."""

CERTAIN = 1e-10
"""Violation of V q >= 1 below which a candidate is left alone; what rounding adds comes on top."""

LONGEST = 1e9
"""Length of q beyond which a row is given up."""

STEPS = 50
"""Most steps of a row, in units of m."""

CLOSE = 1e-10
"""A normal this close to the span of the others, relative to its length, lies in it."""

ROUNDING = 4 * np.finfo(float).eps
"""What a term of an inner product loses to rounding, at the most."""

COMPRESS = 0.6
"""Settled rows are taken out of the arrays when fewer than this share is left."""

HAIR = 1e-14
"""Relative change of a Gram matrix's diagonal, without which twins would make it singular."""


def rounding(dim: int, length: float | np.ndarray) -> float | np.ndarray:
    """Return what rounding leaves of <v, q>, for a query of this length."""
    return ROUNDING * dim * length


def least_norm(
    normals: np.ndarray, values: np.ndarray, scratch: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shortest queries with N q = values, and u with q = N^T u.

    Parameters
    ----------
    normals : ndarray, shape (n, s, m)
        N; a row of zeros, with value 0, says nothing.
    values : ndarray, shape (n, s)
    scratch : ndarray, shape (n, s, s), optional
        Memory to work in.

    Returns
    -------
    queries : ndarray, shape (n, m)
    multipliers : ndarray, shape (n, s)
        Wrong, and the query with them, where the rows of N are dependent: see `largest_error`.
    """
    gram = np.matmul(normals, normals.swapaxes(1, 2), out=scratch)
    diagonal = np.arange(normals.shape[1])
    entries = gram[:, diagonal, diagonal]
    gram[:, diagonal, diagonal] = np.where(entries > 0, entries * (1 + HAIR), 1.0)
    u = values.copy()
    for matrix, vector in zip(gram, u, strict=True) if u.size else ():
        dposv(matrix.T, vector, overwrite_a=True, overwrite_b=True)
    return _combine(u, normals), u


def largest_error(queries: np.ndarray, normals: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the largest |N q - values| of each row."""
    return np.abs(values - _apply(normals, queries)).max(axis=1, initial=0.0)


@dataclass
class Rows:
    """What does not change during a search, for each of n rows.

    `keys` (L, m); `weakest` (n, m), the codes c_s; `equalities` (n, s, m), E, its rows orthonormal
    or zero; `values` (n, s), e, zero where they are.
    """

    keys: np.ndarray
    weakest: np.ndarray
    equalities: np.ndarray
    values: np.ndarray

    def __len__(self):
        return len(self.weakest)

    def take(self, rows: np.ndarray | list[int]) -> Rows:
        """Return some of the rows."""
        return Rows(self.keys, self.weakest[rows], self.equalities[rows], self.values[rows])

    def normals(self, tokens: np.ndarray) -> np.ndarray:
        """Return v_j = c_s - c_j of each token, 0 for -1, shape (n, c, m)."""
        normals = self.keys.take(tokens, axis=0)
        np.subtract(self.weakest[:, None], normals, out=normals)
        normals[tokens < 0] = 0.0
        return normals


class LeastDistance:
    """Goldfarb and Idnani's method on all rows in lockstep.

    Attributes
    ----------
    queries : ndarray, shape (n, m)
        The shortest so far.
    active : ndarray of int, shape (n, m)
        The tokens of A; FREE and EQUALITY in the other slots.
    """

    def __init__(self, rows):
        (n, size, dim) = rows.equalities.shape
        self.rows = rows
        self.queries = _combine(rows.values, rows.equalities)
        given = rows.equalities.any(axis=2)
        self.active = np.full((n, dim), FREE)
        self.active[:, :size] = np.where(given, EQUALITY, FREE)
        self.multipliers = np.where(self.active == EQUALITY, np.inf, 0.0)
        self.updates = np.zeros((n, 2 * dim, dim))  # H above W
        self.updates[:, :dim] = np.eye(dim) - rows.equalities.swapaxes(1, 2) @ rows.equalities
        self.updates[:, dim : dim + size] = rows.equalities

    def __len__(self):
        return len(self.queries)

    def take(self, rows: np.ndarray | list[int]) -> LeastDistance:
        """Return a copy of some rows."""
        other = LeastDistance.__new__(LeastDistance)
        other.rows = self.rows.take(rows)
        for name in ("queries", "active", "multipliers", "updates"):
            setattr(other, name, getattr(self, name)[rows])
        return other

    def put(self, rows: np.ndarray, other: LeastDistance) -> None:
        """Overwrite some rows."""
        for name in ("queries", "active", "multipliers", "updates"):
            getattr(self, name)[rows] = getattr(other, name)

    @property
    def used(self) -> int:
        """Slots from here on are free in every row."""
        taken = (self.active != FREE).any(axis=0)
        return len(taken) - int(taken[::-1].argmax()) if taken.any() else 0

    def system(self, used: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return N and (e, 1), zero in free slots, of the first slots."""
        active = self.active[:, :used]
        size = min(self.rows.equalities.shape[1], active.shape[1])
        normals = self.rows.normals(np.maximum(active, FREE))
        values = (active >= 0).astype(float)
        given = active[:, :size] == EQUALITY
        normals[:, :size][given] = self.rows.equalities[:, :size][given]
        values[:, :size][given] = self.rows.values[:, :size][given]
        return normals, values

    def run(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Search on these candidates.

        Parameters
        ----------
        tokens : ndarray of int, shape (n, c)
            -1 for none.

        Returns
        -------
        outcome : ndarray of int, shape (n,)
            SOLVED, BLOCKED or CUT_OFF.
        picks : ndarray of int, shape (n,)
            The token at which a row stopped.
        sound : ndarray of bool, shape (n,)
            Where N q = (e, 1), q = N^T u and u >= 0 hold but for rounding.
        """
        n, dim = self.queries.shape
        outcome, picks = np.full(n, CUT_OFF), np.zeros(n, dtype=int)
        if not tokens.shape[1]:
            tokens = np.full((n, 1), FREE)
        rows, search = np.arange(n), _Search(self, tokens)
        while len(rows):
            search.step()
            moving = search.moving & (search.steps < STEPS * dim)
            if moving.sum() > COMPRESS * len(moving):
                continue
            outcome[rows], picks[rows] = search.outcome, search.picks()
            if search.state is not self:
                self.put(rows, search.state)
            rows, search = rows[moving], search.take(moving)
        return outcome, picks, self._polish()

    def combination(self, row: int, pick: int) -> tuple[np.ndarray, np.ndarray]:
        """Return v - N^T r at a pick, as tokens and weights; r refined once."""
        dim = self.queries.shape[1]
        one = self.take([row])
        N, W = one.system()[0][0], one.updates[0, dim:]
        v = one.rows.weakest[0] - one.rows.keys[pick]
        r = W @ v
        r += W @ (v - N.T @ r)
        active = one.active[0] >= 0
        return np.append(one.active[0][active], pick), np.append(-r[active], 1.0)

    def repair(self, some: np.ndarray) -> None:
        """Compute all of some rows from their active sets anew, less negative multipliers."""
        rows, dim = np.nonzero(some)[0], self.queries.shape[1]
        while len(rows):
            part = self.take(rows)
            N, values = part.system()
            W = np.linalg.pinv(N).swapaxes(1, 2)
            part.queries = _combine(values, W)
            u = _apply(W, part.queries)
            drop = (part.active >= 0) & (u < 0)
            part.active[drop] = FREE
            part.multipliers = np.where(part.active >= 0, u, part.multipliers)
            part.multipliers[drop] = 0.0
            part.updates[:, :dim] = np.eye(dim) - N.swapaxes(1, 2) @ W
            part.updates[:, dim:] = W
            self.put(rows, part)
            rows = rows[drop.any(axis=1)]

    def _polish(self):
        """Refine q twice and u once; return where they solve the problem on the active set."""
        dim, used = self.queries.shape[1], self.used
        N, values = self.system(used)
        W, q = self.updates[:, dim : dim + used], self.queries
        for _ in range(2):
            q += _combine(values - _apply(N, q), W)
        u = _apply(W, q)
        u += _apply(W, q - _combine(u, N))
        return is_shortest(q, u, N, values, self.active[:, :used] >= 0)


def is_shortest(
    q: np.ndarray, u: np.ndarray, N: np.ndarray, values: np.ndarray, inequality: np.ndarray
) -> np.ndarray:
    """Return where N q = values, q = N^T u and u >= 0 at inequalities hold but for rounding."""
    length = np.linalg.norm(q, axis=1)
    error = largest_error(q, N, values)
    off_span = np.linalg.norm(q - _combine(u, N), axis=1)
    least = np.where(inequality, u, 0.0).min(axis=1, initial=0.0)
    return (
        (error <= CERTAIN + rounding(q.shape[1], length))
        & (off_span <= CERTAIN * length)
        & (least >= -CERTAIN * np.abs(u).max(axis=1, initial=0.0))
    )


class _Search:
    """The steps of `LeastDistance.run`, for all its rows at once."""

    def __init__(self, state, tokens, normals=None):
        n = len(state)
        self.state, self.tokens = state, tokens
        self.normals = state.rows.normals(tokens) if normals is None else normals
        self.ones = np.where(tokens >= 0, 1.0, -np.inf)
        self.moving, self.outcome = np.ones(n, dtype=bool), np.full(n, CUT_OFF)
        self.entering = np.zeros(n, dtype=bool)  # the pick's multiplier has begun to grow
        self.pick, self.grown, self.steps = np.zeros(n, dtype=int), np.zeros(n), 0
        self.change = np.empty_like(state.updates)

    def take(self, rows):
        """Return the search on some rows."""
        other = _Search(self.state.take(rows), self.tokens[rows], self.normals[rows])
        other.entering, other.pick = self.entering[rows], self.pick[rows]
        other.grown, other.steps = self.grown[rows], self.steps
        return other

    def picks(self):
        """Return the token of each row's pick."""
        return self.tokens[np.arange(len(self.pick)), self.pick]

    def step(self):
        """Let the picked candidate enter, or the one that is in its way leave."""
        state, n = self.state, np.arange(len(self.pick))
        dim, used = state.queries.shape[1], state.used
        self.steps += 1
        excess = self.ones - _apply(self.normals, state.queries)
        self.pick = np.where(self.entering, self.pick, excess.argmax(axis=1))
        violation = excess[n, self.pick]
        squared = _dot(state.queries, state.queries)
        allowed = CERTAIN + rounding(dim, np.sqrt(squared))
        self._settle(self.moving & ~self.entering & (violation <= allowed), SOLVED)

        v = self.normals[n, self.pick]
        both = _apply(state.updates[:, : dim + used], v)
        z, r = both[:, :dim], both[:, dim:]
        distance = _dot(z, z)
        with np.errstate(divide="ignore", invalid="ignore"):
            until_leaving = np.where(r > CLOSE, state.multipliers[:, :used] / r, np.inf)
            until_met = np.where(distance > CLOSE**2 * _dot(v, v), violation / distance, np.inf)
        shortest = until_leaving.min(axis=1, initial=np.inf)
        t = np.minimum(until_met, shortest)
        enters = self.moving & (until_met <= shortest)
        full = (state.active != FREE).all(axis=1)
        # q grows by t z, at right angles to it, and t ||z||^2 is the violation.
        with np.errstate(invalid="ignore"):
            too_long = enters & (squared + t * violation > LONGEST**2)
        self._settle(self.moving & (np.isinf(t) | too_long | (enters & full)), BLOCKED)
        enters &= self.moving
        leaves = np.nonzero(self.moving & ~enters)[0]
        entering = np.nonzero(enters)[0]

        t = np.where(self.moving, t, 0.0)
        state.multipliers[:, :used] -= t[:, None] * np.where(self.moving[:, None], r, 0.0)
        self.grown += t
        state.queries += np.where(np.isinf(until_met), 0.0, t)[:, None] * z
        # H - z z^T/|z|^2 and W - r z^T/|z|^2 where a candidate enters; where one leaves, with w its
        # row of W, H + w w^T/|w|^2 and W - (W w) w^T/|w|^2.
        left = both * enters[:, None]
        right = z / np.where(enters, distance, 1.0)[:, None]
        slots = until_leaving.argmin(axis=1)[leaves] if used else leaves
        if len(leaves):
            w = state.updates[leaves, dim + slots]
            left[leaves, :dim] = -w
            left[leaves, dim:] = _apply(state.updates[leaves, dim : dim + used], w)
            right[leaves] = w / _dot(w, w)[:, None]
        change = self.change[:, : dim + used]
        np.multiply(left[:, :, None], right[:, None, :], out=change)
        state.updates[:, : dim + used] -= change
        self._write(leaves, slots, FREE, 0.0, 0.0)
        slots = (state.active[entering] == FREE).argmax(axis=1)
        self._write(entering, slots, self.picks()[entering], self.grown[entering], right[entering])
        self.grown[entering] = 0.0
        self.entering = self.moving & ~enters

    def _write(self, rows, slots, tokens, multipliers, duals):
        state, dim = self.state, self.state.queries.shape[1]
        state.active[rows, slots] = tokens
        state.multipliers[rows, slots] = multipliers
        state.updates[rows, dim + slots] = duals

    def _settle(self, rows, outcome):
        self.outcome[rows] = outcome
        self.moving &= ~rows


def _apply(matrices, vectors):
    """Return the product of each matrix and its vector."""
    return np.matmul(matrices, vectors[..., None])[..., 0]


def _combine(weights, matrices):
    """Return the combination of each matrix's rows."""
    return np.matmul(weights[:, None], matrices)[:, 0]


def _dot(x, y):
    """Return the row-wise inner products."""
    return np.einsum("ni,ni->n", x, y)
