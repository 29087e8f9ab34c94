"""`least_distance.solve` compiled, one row after the other (extra ``numba``)."""

import numpy as np

from ..errors import require
from .least_distance import BLOCKED, CLOSE, CUT_OFF, FREE, ROUNDING, SOLVED

numba = require("numba", "numba")


def solve(pairs, candidates, tolerance, longest, most_steps):
    """Do what `least_distance.solve` does, up to rounding."""
    outcome = np.full(len(pairs), SOLVED)
    picks = np.zeros(len(pairs), dtype=int)
    if candidates.tokens.shape[1]:
        for i in range(len(pairs)):
            outcome[i], picks[i] = _solve(
                pairs.queries[i],
                pairs.normals[i],
                pairs.updates[i],
                pairs.multipliers[i],
                pairs.tokens[i],
                candidates.normals[i],
                candidates.tokens[i],
                candidates.ones[i],
                tolerance,
                longest,
                most_steps,
            )
    return outcome, picks


@numba.njit(fastmath={"contract", "reassoc"}, error_model="numpy", nogil=True)
def _solve(q, N, updates, u, tokens, V, names, ones, tolerance, longest, most_steps):
    """Change q, N, [H; W] = updates, u and tokens of one row in place."""
    dim = len(q)
    both = np.empty(2 * dim)  # z = H v above r = W v
    used = 0
    for slot in range(dim):
        if tokens[slot] != FREE:
            used = slot + 1
    pick, grown = -1, 0.0
    for _ in range(most_steps):
        squared = _dot(q, q)
        if pick < 0:
            violation, best = -np.inf, 0
            for j in range(len(V)):
                excess = ones[j] - _dot(V[j], q)
                if excess > violation:
                    violation, best = excess, j
            if violation <= tolerance + ROUNDING * dim * np.sqrt(squared):
                return SOLVED, best
            pick, grown = best, 0.0
        v = V[pick]
        violation = ones[pick] - _dot(v, q)
        for a in range(dim + used):
            both[a] = _dot(updates[a], v)
        distance = _dot(both[:dim], both[:dim])
        until_met, until_leaving, leaving = np.inf, np.inf, -1
        if distance > CLOSE**2 * _dot(v, v):
            until_met = violation / distance
        for slot in range(used):
            r = both[dim + slot]
            if r > CLOSE and u[slot] / r < until_leaving:
                until_leaving, leaving = u[slot] / r, slot
        t = min(until_met, until_leaving)
        free = 0
        while free < dim and tokens[free] != FREE:
            free += 1
        if t == np.inf:
            return BLOCKED, pick
        if until_met <= until_leaving and (free == dim or squared + t * violation > longest**2):
            return BLOCKED, pick
        grown += t
        for slot in range(used):
            u[slot] -= t * both[dim + slot]
        if until_met < np.inf:
            for d in range(dim):
                q[d] += t * both[d]
        if until_met <= until_leaving:
            for a in range(dim + used):
                _add(updates[a], -both[a] / distance, both[:dim])
            for d in range(dim):
                updates[dim + free, d] = both[d] / distance
                N[free, d] = v[d]
            tokens[free], u[free] = names[pick], grown
            used, pick = max(used, free + 1), -1
        else:
            w = updates[dim + leaving].copy()
            squared = _dot(w, w)
            for a in range(dim):
                _add(updates[a], w[a] / squared, w)
            for slot in range(used):
                _add(updates[dim + slot], -_dot(updates[dim + slot], w) / squared, w)
            updates[dim + leaving], N[leaving] = 0.0, 0.0
            tokens[leaving], u[leaving] = FREE, 0.0
    return CUT_OFF, pick


@numba.njit(fastmath={"contract", "reassoc"}, inline="always")
def _dot(x, y):
    total = 0.0
    for d in range(len(x)):
        total += x[d] * y[d]
    return total


@numba.njit(fastmath={"contract", "reassoc"}, inline="always")
def _add(x, factor, y):
    for d in range(len(x)):
        x[d] += factor * y[d]
