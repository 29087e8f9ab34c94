"""`least_distance.solve`, one row after the other, compiled. Needs the package numba."""

import numpy as np

from ..errors import MissingExtraError
from .least_distance import BLOCKED, CLOSE, CUT_OFF, EQUALITY, FREE, ROUNDING, SOLVED

import numba


def solve(pairs, candidates, tolerance, longest, most_steps):
    """Do what `least_distance.solve` does, to rounding."""
    n = len(pairs)
    outcome, picks = np.empty(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    _solve(
        pairs.queries,
        pairs.normals,
        pairs.updates,
        pairs.multipliers,
        pairs.tokens,
        candidates.normals,
        candidates.tokens,
        candidates.ones,
        tolerance,
        longest,
        most_steps,
        outcome,
        picks,
    )
    return outcome, picks
