"""Goldfarb and Idnani's method one row after the other, compiled by numba (extra ``numba``).

See `least_distance` for the method. Here the active set is kept as N^T = Q^T R, Q with orthonormal
rows and R upper triangular: z = v - Q^T d and r = R^(-1) d with d = Q v, and Givens rotations take
a candidate out. Without numba all this is plain Python, right and slow.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "BAD",
    "ENOUGH",
    "CompiledLeastDistance",
]

try:
    import numba
except ImportError:
    numba = None

from .least_distance import (
    BLOCKED,
    CERTAIN,
    CLOSE,
    CUT_OFF,
    EQUALITY,
    FREE,
    LONGEST,
    ROUNDING,
    SOLVED,
    STEPS,
)

BAD = 0.5
"""Candidates violated by this share of the largest violation are looked at first from then on."""

ENOUGH = 0.01
"""Share of ||v||^2 left in ||z||^2 below which z is made orthogonal once more."""


class CompiledLeastDistance:
    """Does what `least_distance.LeastDistance` does, up to rounding."""

    def __init__(self, rows):
        n, dim = rows.weakest.shape
        self.rows = rows
        self.queries = np.zeros((n, dim))
        self.active = np.full((n, dim), FREE)
        self.weights = np.zeros((n, dim))

    def __len__(self):
        return len(self.queries)

    def take(self, rows: np.ndarray) -> CompiledLeastDistance:
        """Return a copy of some rows."""
        other = CompiledLeastDistance(self.rows.take(rows))
        other.queries, other.active = self.queries[rows], self.active[rows]
        return other

    def run(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Search on these candidates, from the last active sets."""
        n = len(self)
        outcome, picks = np.full(n, CUT_OFF), np.zeros(n, dtype=int)
        sound = np.zeros(n, dtype=bool)
        rows = self.rows
        _run(
            rows.keys,
            rows.weakest,
            rows.equalities,
            rows.values,
            tokens,
            self.active,
            self.queries,
            self.weights,
            outcome,
            picks,
            sound,
        )
        return outcome, picks, sound

    def combination(self, row: int, pick: int) -> tuple[np.ndarray, np.ndarray]:
        """Return v - N^T r at a pick, as tokens and weights."""
        active = self.active[row] >= 0
        return np.append(self.active[row][active], pick), np.append(self.weights[row][active], 1.0)

    def repair(self, some: np.ndarray) -> None:
        """Do nothing: every search factors its first active set anew."""


def _compiled(function, **options):
    """Compile a function, if numba is there."""
    if numba is None:
        return function
    fast = {"fastmath": {"contract", "reassoc", "nsz"}, "error_model": "numpy", "nogil": True}
    return numba.njit(cache=True, **{**fast, **options})(function)


def _each_row(function):
    """Compile a loop over rows, on all cores."""
    return _compiled(function, parallel=True, nogil=False)


_rows = range if numba is None else numba.prange


@_compiled
def _dot(x, y):
    total = 0.0
    for c in range(len(x)):
        total += x[c] * y[c]
    return total


@_compiled
def _split(v, Q, k, z, d, r):
    """Set d = Q v and z = v - Q^T d, twice if z is short; r is scratch. Return ||z||^2, ||v||^2."""
    dim = len(v)
    squared = 0.0
    for c in range(dim):
        z[c] = v[c]
        squared += v[c] * v[c]
    for i in range(k):
        d[i] = 0.0
    before = squared
    for _ in range(2):
        for i in range(k):
            r[i] = _dot(Q[i], z)
            d[i] += r[i]
        for i in range(k):
            part = r[i]
            for c in range(dim):
                z[c] -= part * Q[i, c]
        distance = 0.0
        for c in range(dim):
            distance += z[c] * z[c]
        if distance > ENOUGH * before:
            break
        before = distance
    return distance, squared


@_compiled
def _back(R, k, d, r):
    """Solve R r = d."""
    for i in range(k - 1, -1, -1):
        rest = d[i]
        for j in range(i + 1, k):
            rest -= R[i, j] * r[j]
        r[i] = rest / R[i, i]


@_compiled
def _push(Q, R, k, z, distance, d):
    """Append a normal with z and d to Q and R."""
    norm = np.sqrt(distance)
    for c in range(len(z)):
        Q[k, c] = z[c] / norm
    for i in range(k):
        R[i, k] = d[i]
    R[k, k] = norm


@_compiled
def _pull(Q, R, k, out, h, u, active):
    """Take normal number `out` of k out of everything."""
    for j in range(out, k - 1):
        h[j], u[j], active[j] = h[j + 1], u[j + 1], active[j + 1]
        for i in range(j + 2):
            R[i, j] = R[i, j + 1]
    active[k - 1] = FREE
    for i in range(out, k - 1):
        norm = np.hypot(R[i, i], R[i + 1, i])
        cos, sin = R[i, i] / norm, R[i + 1, i] / norm
        for j in range(i, k - 1):
            above, below = R[i, j], R[i + 1, j]
            R[i, j] = cos * above + sin * below
            R[i + 1, j] = cos * below - sin * above
        for c in range(Q.shape[1]):
            above, below = Q[i, c], Q[i + 1, c]
            Q[i, c] = cos * above + sin * below
            Q[i + 1, c] = cos * below - sin * above


@_compiled
def _meet(Q, R, k, h, q, u, d):
    """Set q and u to the shortest query with N q = h and its multipliers."""
    for i in range(k):
        rest = h[i]
        for j in range(i):
            rest -= R[j, i] * d[j]
        d[i] = rest / R[i, i]
    for c in range(len(q)):
        q[c] = 0.0
    for i in range(k):
        for c in range(len(q)):
            q[c] += d[i] * Q[i, c]
    _back(R, k, d, u)


@_each_row
def _run(keys, weakest, E, e, tokens, active, queries, weights, outcome, picks, sound):
    for row in _rows(len(weakest)):
        outcome[row], picks[row], sound[row] = _run_row(
            keys,
            weakest[row],
            E[row],
            e[row],
            tokens[row],
            active[row],
            queries[row],
            weights[row],
        )


@_compiled
def _run_row(keys, c_s, E, e, tokens, active, q, weights):
    """Change q, the active tokens and, if it ends so, the weights of the combination."""
    dim = len(c_s)
    Q, R = np.empty((dim, dim)), np.empty((dim, dim))
    z, d, r, v = np.empty(dim), np.empty(dim), np.empty(dim), np.empty(dim)
    u, h, names = np.empty(dim), np.empty(dim), np.empty(dim, dtype=np.int64)
    V, candidates = np.empty((len(tokens), dim)), np.empty(len(tokens), dtype=np.int64)
    excesses, bad = np.empty(len(tokens)), np.empty(len(tokens), dtype=np.int64)
    count = 0
    for token in tokens:
        if token >= 0:
            candidates[count] = token
            for c in range(dim):
                V[count, c] = c_s[c] - keys[token, c]
            count += 1
    k = 0
    for i in range(len(E)):
        if _dot(E[i], E[i]) > 0.5:
            for j in range(k):
                R[j, k] = 0.0
            Q[k], R[k, k], h[k], names[k] = E[i], 1.0, e[i], EQUALITY
            k += 1
    fixed = k
    # The last active set, less what has become dependent, then less negative multipliers.
    for token in active:
        if token >= 0 and k < dim:
            for c in range(dim):
                v[c] = c_s[c] - keys[token, c]
            distance, length = _split(v, Q, k, z, d, r)
            if distance > CLOSE**2 * length:
                _push(Q, R, k, z, distance, d)
                h[k], names[k] = 1.0, token
                k += 1
    while True:
        _meet(Q, R, k, h, q, u, d)
        before = k
        for j in range(k - 1, fixed - 1, -1):
            if u[j] < 0:
                _pull(Q, R, k, j, h, u, names)
                k -= 1
        if k == before:
            break

    pick, grown, ended, few, bar = -1, 0.0, CUT_OFF, 0, 0.0
    for _ in range(STEPS * dim):
        squared = _dot(q, q)
        if pick < 0:
            # The worst of the few that were bad at the last look at all, while it is bad.
            violation, kept = -np.inf, 0
            for a in range(few):
                excess = 1 - _dot(V[bad[a]], q)
                if excess > bar:
                    bad[kept], kept = bad[a], kept + 1
                if excess > violation:
                    violation, pick = excess, bad[a]
            few = kept
            if few == 0:
                violation = -np.inf
                for j in range(count):
                    excesses[j] = 1 - _dot(V[j], q)
                    if excesses[j] > violation:
                        violation, pick = excesses[j], j
                if violation <= CERTAIN + ROUNDING * dim * np.sqrt(squared):
                    ended = SOLVED
                    break
                bar = BAD * violation
                for j in range(count):
                    if excesses[j] > bar:
                        bad[few], few = j, few + 1
            grown = 0.0
        violation = 1 - _dot(V[pick], q)
        distance, length = _split(V[pick], Q, k, z, d, r)
        _back(R, k, d, r)
        until_met, until_leaving, leaving = np.inf, np.inf, -1
        if distance > CLOSE**2 * length:
            until_met = violation / distance
        for j in range(fixed, k):
            if r[j] > CLOSE and u[j] / r[j] < until_leaving:
                until_leaving, leaving = u[j] / r[j], j
        t = min(until_met, until_leaving)
        enters = until_met <= until_leaving
        if t == np.inf or (enters and (k == dim or squared + t * violation > LONGEST**2)):
            ended = BLOCKED
            break
        grown += t
        for j in range(fixed, k):
            u[j] -= t * r[j]
        if until_met < np.inf:
            for c in range(dim):
                q[c] += t * z[c]
        if enters:
            _push(Q, R, k, z, distance, d)
            h[k], u[k], names[k] = 1.0, grown, candidates[pick]
            k, pick = k + 1, -1
        else:
            _pull(Q, R, k, leaving, h, u, names)
            k -= 1

    if ended != BLOCKED:
        _meet(Q, R, k, h, q, u, d)
    error, least, largest = 0.0, 0.0, 0.0
    for j in range(dim):
        active[j] = FREE
    for j in range(fixed, k):
        active[j - fixed], weights[j - fixed] = names[j], -r[j]
        least, largest = min(least, u[j]), max(largest, u[j])
        for c in range(dim):
            v[c] = c_s[c] - keys[names[j], c]
        error = max(error, abs(1 - _dot(v, q)))
    allowed = CERTAIN + ROUNDING * dim * np.sqrt(_dot(q, q))
    sound = error <= allowed and least >= -CERTAIN * largest
    return ended, (candidates[pick] if ended == BLOCKED else -1), sound
