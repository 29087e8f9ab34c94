"""Many least-distance problems at once, one a row: the shortest q with E q = e and V q >= 1.

E has orthonormal rows; a row of V is the normal v_j of candidate j. For a set A of candidates with
linearly independent normals let N have the rows of E and those v_j, and let q = N^T u be the
shortest with N q = (e, 1). If u >= 0 on A, then q is also the shortest with N q >= 1 on A, and if
no candidate is violated, it solves the problem: the conditions of Karush, Kuhn and Tucker.

`solve` looks for such a set by Goldfarb and Idnani's dual active-set method (1983), in all rows at
once. It has u >= 0 at any time and adds the most violated candidate, with rank-one updates of

    H = I - N^+ N, the projector onto the null space of N,   and   W = (N^+)^T.

Let v be the candidate's normal, z = H v and r = W v, so that v = z + N^T r. Along q + t z the
multipliers are u - t r, and that of v is t. Either t reaches (1 - <v, q>)/||z||^2 first, and the
candidate enters, or a multiplier reaches 0, and its candidate leaves. Each entry makes q longer, so
no set comes back. If z = 0 and r <= 0 on A, then v - N^T r = 0 proves that there is no q.
"""

from dataclasses import dataclass, fields

import numpy as np
from scipy.linalg.lapack import dposv

FREE, EQUALITY = -1, -2
"""What a slot of an active set holds, if not a token."""

SOLVED, BLOCKED, CUT_OFF = 0, 1, 2
"""How a row leaves `solve`: nothing violated; no longer query to be had; too many steps."""

CLOSE = 1e-10
"""A normal this close to the span of the others, relative to its length, lies in it."""

COMPRESS = 0.6
"""Settled rows are taken out of the arrays when fewer than this share is left."""

HAIR = 1e-14
"""Relative change of a Gram matrix's diagonal, without which twins would make it singular."""


@dataclass
class Candidates:
    """Normals (n, c, m); their tokens (n, c); `ones` (n, c), 1, or -inf for no candidate."""

    normals: np.ndarray
    tokens: np.ndarray
    ones: np.ndarray

    def take(self, rows):
        """Return copies of some rows."""
        return Candidates(self.normals[rows], self.tokens[rows], self.ones[rows])

    def violations(self, queries):
        """Return 1 - V q, shape (n, c)."""
        return self.ones - _apply(self.normals, queries)


@dataclass
class Equalities:
    """E (n, s, m), its rows orthonormal or zero, and e (n, s), zero where they are."""

    normals: np.ndarray
    values: np.ndarray

    def take(self, rows):
        """Return copies of some rows."""
        return Equalities(self.normals[rows], self.values[rows])


def least_norm(normals, values):
    """Return the shortest queries with N q = values, and u with q = N^T u.

    Parameters
    ----------
    normals : ndarray, shape (n, s, m)
        N; a row of zeros, with value 0, says nothing.
    values : ndarray, shape (n, s)

    Returns
    -------
    queries : ndarray, shape (n, m)
    multipliers : ndarray, shape (n, s)
    error : ndarray, shape (n,)
        The largest |N q - values|: large where the rows of N are dependent.
    """
    gram = normals @ normals.swapaxes(1, 2)
    diagonal = np.arange(normals.shape[1])
    entries = gram[:, diagonal, diagonal]
    gram[:, diagonal, diagonal] = np.where(entries > 0, entries * (1 + HAIR), 1.0)
    u = values.copy()
    for matrix, vector in zip(gram, u, strict=True):
        dposv(matrix.T, vector, overwrite_a=True, overwrite_b=True)
    q = _combine(u, normals)
    error = values - _apply(normals, q)
    return q, u, np.abs(error).max(axis=1, initial=0.0)


@dataclass
class Pairs:
    """An active set and the shortest query that meets it with equality, for each of n rows.

    `normals` (n, m, m) holds N, a slot a row, zero where the slot is free; `values` its right-hand
    side; `updates` (n, 2m, m) H above W; `multipliers` (n, m) u, infinite at equalities; `tokens`
    (n, m) the candidate in a slot, or FREE, or EQUALITY.
    """

    queries: np.ndarray
    normals: np.ndarray
    values: np.ndarray
    updates: np.ndarray
    multipliers: np.ndarray
    tokens: np.ndarray

    def __len__(self):
        return len(self.queries)

    def take(self, rows):
        """Return copies of some rows."""
        return Pairs(*(getattr(self, field.name)[rows] for field in fields(self)))

    def put(self, rows, other):
        """Overwrite some rows by those of another."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(other, field.name)

    def combination(self, row, candidates, column):
        """Return v - N^T r at a candidate, as tokens and their weights; r refined once."""
        dim = self.queries.shape[1]
        N, W = self.normals[row], self.updates[row, dim:]
        v = candidates.normals[row, column]
        r = W @ v
        r += W @ (v - N.T @ r)
        active = self.tokens[row] >= 0
        tokens = np.append(self.tokens[row][active], candidates.tokens[row, column])
        return tokens, np.append(-r[active], 1.0)

    @property
    def used(self):
        """Slots from here on are free in every row."""
        taken = (self.tokens != FREE).any(axis=0)
        return len(taken) - int(taken[::-1].argmax()) if taken.any() else 0


def start(equalities):
    """Return the pairs with no candidate in the active set."""
    (n, _, dim), size = equalities.normals.shape, equalities.normals.shape[1]
    normals, values, tokens = np.zeros((n, dim, dim)), np.ones((n, dim)), np.full((n, dim), FREE)
    given = equalities.normals.any(axis=2)
    normals[:, :size], tokens[:, :size] = equalities.normals, np.where(given, EQUALITY, FREE)
    values[:, :size] = np.where(given, equalities.values, 1.0)
    projector = np.eye(dim) - normals.swapaxes(1, 2) @ normals
    return Pairs(
        queries=_combine(equalities.values, equalities.normals),
        normals=normals,
        values=values,
        updates=np.concatenate([projector, normals], axis=1),
        multipliers=np.where(tokens == EQUALITY, np.inf, 0.0),
        tokens=tokens,
    )


def repair(pairs):
    """Compute all from the active sets anew, less those of negative multipliers."""
    dim = pairs.queries.shape[1]
    rows = np.arange(len(pairs))
    while len(rows):
        N, tokens = pairs.normals[rows], pairs.tokens[rows]
        W = np.linalg.pinv(N).swapaxes(1, 2)
        q = _combine(np.where(tokens == FREE, 0.0, pairs.values[rows]), W)
        u = _apply(W, q)
        drop = (tokens >= 0) & (u < 0)
        pairs.tokens[rows] = np.where(drop, FREE, tokens)
        pairs.normals[rows] = np.where(drop[..., None], 0.0, N)
        pairs.values[rows] = np.where(drop, 1.0, pairs.values[rows])
        pairs.multipliers[rows] = np.where(tokens == EQUALITY, np.inf, np.where(drop, 0.0, u))
        pairs.queries[rows] = q
        pairs.updates[rows, :dim] = np.eye(dim) - N.swapaxes(1, 2) @ W
        pairs.updates[rows, dim:] = W
        rows = rows[drop.any(axis=1)]


def solve(pairs, candidates, tolerance, longest, most_steps):
    """Add and drop one candidate at a time, until none is violated.

    Parameters
    ----------
    pairs : Pairs
        Changed in place.
    candidates : Candidates
    tolerance : float
        A violation above this, and what rounding adds to it, counts.
    longest : float
        A row whose query would get longer than this is given up.
    most_steps : int

    Returns
    -------
    outcome : ndarray of int, shape (n,)
        SOLVED, BLOCKED or CUT_OFF.
    picks : ndarray of int, shape (n,)
        The column of the candidate at which a row stopped.
    """
    outcome, picks = np.full(len(pairs), CUT_OFF), np.zeros(len(pairs), dtype=int)
    if candidates.tokens.shape[1] == 0 or not len(pairs):
        return np.full(len(pairs), SOLVED), picks
    rows = np.arange(len(pairs))
    search = _Search(pairs, candidates, tolerance, longest)
    for step in range(most_steps):
        search.step()
        moving = search.moving
        if moving.sum() > COMPRESS * len(moving) and step < most_steps - 1:
            continue
        outcome[rows], picks[rows] = search.outcome, search.pick
        if search.pairs is not pairs:
            pairs.put(rows, search.pairs)
        if not moving.any():
            break
        rows, search = rows[moving], search.take(moving)
    return outcome, picks


class _Search:
    """The steps of `solve`, for all its rows at once."""

    def __init__(self, pairs, candidates, tolerance, longest):
        n = len(pairs)
        self.pairs, self.candidates = pairs, candidates
        self.tolerance, self.longest = tolerance, longest
        self.moving = np.ones(n, dtype=bool)
        self.entering = np.zeros(n, dtype=bool)  # the pick's multiplier has begun to grow
        self.pick = np.zeros(n, dtype=int)
        self.grown = np.zeros(n)
        self.outcome = np.full(n, CUT_OFF)
        self.change = np.empty_like(pairs.updates)

    def take(self, rows):
        """Return the search on some rows."""
        other = _Search(
            self.pairs.take(rows), self.candidates.take(rows), self.tolerance, self.longest
        )
        other.entering, other.pick = self.entering[rows], self.pick[rows]
        other.grown = self.grown[rows]
        return other

    def step(self):
        """Let the picked candidate enter, or the one that is in its way leave."""
        pairs, n = self.pairs, np.arange(len(self.pick))
        dim, used = pairs.queries.shape[1], pairs.used
        excess = self.candidates.violations(pairs.queries)
        self.pick = np.where(self.entering, self.pick, excess.argmax(axis=1))
        violation = excess[n, self.pick]
        squared = _dot(pairs.queries, pairs.queries)
        allowed = self.tolerance + rounding(dim, np.sqrt(squared))
        self._settle(self.moving & ~self.entering & (violation <= allowed), SOLVED)

        v = self.candidates.normals[n, self.pick]
        both = _apply(pairs.updates[:, : dim + used], v)
        z, r = both[:, :dim], both[:, dim:]
        distance = _dot(z, z)
        with np.errstate(divide="ignore", invalid="ignore"):
            until_leaving = np.where(r > CLOSE, pairs.multipliers[:, :used] / r, np.inf)
            until_met = np.where(distance > CLOSE**2 * _dot(v, v), violation / distance, np.inf)
        shortest = until_leaving.min(axis=1, initial=np.inf)
        t = np.minimum(until_met, shortest)
        enters = self.moving & (until_met <= shortest)
        full = (pairs.tokens != FREE).all(axis=1)
        # q grows by t z, at right angles to it, and t ||z||^2 is the violation.
        too_long = enters & (squared + t * violation > self.longest**2)
        self._settle(self.moving & (np.isinf(t) | too_long | (enters & full)), BLOCKED)
        enters &= self.moving
        leaves = np.nonzero(self.moving & ~enters)[0]
        entering = np.nonzero(enters)[0]

        t = np.where(self.moving, t, 0.0)
        pairs.multipliers[:, :used] -= t[:, None] * np.where(self.moving[:, None], r, 0.0)
        self.grown += t
        pairs.queries += np.where(np.isinf(until_met), 0.0, t)[:, None] * z
        # H - z z^T/|z|^2 and W - r z^T/|z|^2 where a candidate enters; where one leaves, with w its
        # row of W, H + w w^T/|w|^2 and W - (W w) w^T/|w|^2.
        left = both * enters[:, None]
        right = z / np.where(enters, distance, 1.0)[:, None]
        slots = until_leaving.argmin(axis=1)[leaves] if used else leaves
        if len(leaves):
            w = pairs.updates[leaves, dim + slots]
            left[leaves, :dim] = -w
            left[leaves, dim:] = _apply(pairs.updates[leaves, dim : dim + used], w)
            right[leaves] = w / _dot(w, w)[:, None]
        change = self.change[:, : dim + used]
        np.multiply(left[:, :, None], right[:, None, :], out=change)
        pairs.updates[:, : dim + used] -= change
        self._write(leaves, slots, FREE, 0.0, 0.0, 0.0)
        slots = (pairs.tokens[entering] == FREE).argmax(axis=1)
        tokens = self.candidates.tokens[entering, self.pick[entering]]
        self._write(entering, slots, tokens, self.grown[entering], v[entering], right[entering])
        self.grown[entering] = 0.0
        self.entering = self.moving & ~enters

    def _write(self, rows, slots, tokens, multipliers, normals, duals):
        pairs, dim = self.pairs, self.pairs.queries.shape[1]
        pairs.tokens[rows, slots] = tokens
        pairs.multipliers[rows, slots] = multipliers
        pairs.normals[rows, slots] = normals
        pairs.updates[rows, dim + slots] = duals

    def _settle(self, rows, outcome):
        self.outcome[rows] = outcome
        self.moving &= ~rows


def polish(pairs, tolerance):
    """Solve N q = (e, 1) to the last digits; return where u >= 0 proves q the shortest.

    Two steps of iterative refinement of q, one of u.
    """
    dim, used = pairs.queries.shape[1], pairs.used
    N, W = pairs.normals[:, :used], pairs.updates[:, dim : dim + used]
    wanted = np.where(pairs.tokens[:, :used] == FREE, 0.0, pairs.values[:, :used])
    q = pairs.queries
    for _ in range(2):
        q += _combine(wanted - _apply(N, q), W)
    u = _apply(W, q)
    u += _apply(W, q - _combine(u, N))
    length = np.linalg.norm(q, axis=1)
    error = np.abs(wanted - _apply(N, q)).max(axis=1, initial=0.0)
    off_span = np.linalg.norm(q - _combine(u, N), axis=1)
    least = np.where(pairs.tokens[:, :used] >= 0, u, 0.0).min(axis=1, initial=0.0)
    return (
        (error <= tolerance + rounding(dim, length))
        & (off_span <= tolerance * length)
        & (least >= -tolerance * np.abs(u).max(axis=1, initial=0.0))
    )


def rounding(dim, length):
    """Return what the last digits of <v, q> are worth for a normal shorter than 2."""
    return 4 * np.finfo(float).eps * dim * length


def _apply(matrices, vectors):
    """Return the product of each matrix and its vector."""
    return np.matmul(matrices, vectors[..., None])[..., 0]


def _combine(weights, matrices):
    """Return the combination of each matrix's rows."""
    return np.matmul(weights[:, None], matrices)[:, 0]


def _dot(x, y):
    """Return the row-wise inner products."""
    return np.einsum("ni,ni->n", x, y)
