"""Documents on the moment curve (T5): one set stands for all its rotations."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np

from .formats import ACCUMULATOR, LEVELS, STORED, gamma
from .given import Certificate, CriticalN, bisect

__all__ = [
    "curve_n",
    "polynomials",
]


def curve_n(top_k: int, dtype: str, max_sets: int) -> CriticalN:
    """Return the critical n of the moment curve, by doubling and bisection."""

    def sets(n):
        return math.comb(n - 1, top_k - 1)

    def holds(n):
        return sets(n) <= max_sets and _rotated(n, top_k, dtype)[0].all()

    low, step = top_k, 1
    while holds(low + step):
        low, step = low + step, 2 * step
    n = bisect(holds, low, low + step)
    ratios = _rotated(n, top_k, dtype)[1]
    if sets(n + 1) > max_sets:
        return CriticalN(n, Certificate(len(ratios), float(ratios.max()), "limit"))
    certain, _, supports = _rotated(n + 1, top_k, dtype)
    obstacle = tuple(int(j) for j in supports[np.argmin(certain)])
    return CriticalN(n, Certificate(len(ratios), float(ratios.max()), "rounding", obstacle))


def _rotated(n, top_k, dtype):
    """Return which sets, one a rotation, are certain in all rotations, their R/Delta, and the sets.

    Documents are (cos t theta_j, sin t theta_j)/sqrt(k), t = 1..k, theta_j = 2 pi j/n, rounded
    correctly. A rotation turns the two coordinates of each frequency, of queries too, and keeps
    all scores; what rounding does is bounded for every rotation at once.
    """
    rest = list(combinations(range(1, n), top_k - 1))
    sets = np.hstack([np.zeros((len(rest), 1), dtype=int), np.array(rest, dtype=int)])
    gaps = np.diff(sets, axis=1, append=n)
    sets = sets[gaps[:, -1] == gaps.max(axis=1)]
    queries, gap = polynomials(n, sets)
    size = np.linalg.norm(queries, axis=1)
    if dtype == "int8":
        # |q_i| h + |c_i| h M + d h^2 M, summed over i; steps are 2h, M = max |q_i| stands for 1.
        waves = np.hypot(queries[:, :top_k], queries[:, top_k:])
        half, largest = 0.5 / LEVELS, waves.max(axis=1)
        across = np.sqrt(2 * top_k) + 2 * top_k * half
        moved = half * (np.sqrt(2) * waves.sum(axis=1) + largest * across)
    else:
        unit, lost = STORED[dtype], gamma(2 * top_k, ACCUMULATOR[dtype])
        moved = ((1 + unit) ** 2 * (1 + lost) - 1) * size
    return gap > 2 * moved, size / gap, sets


def polynomials(n: int, sets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the query -prod_s (1 - cos(theta - theta_s)) of each set, and its gap (T5).

    log(1 - cos) is concave between its poles, and so is the log of the product between two roots:
    the largest logits off the support are next to it.
    """
    top_k, theta = sets.shape[1], 2 * np.pi / n

    def product(at):  # 1 - cos x = 2 sin(x/2)^2 keeps its digits
        return np.prod(2 * np.sin((at - theta * sets[:, None, :]) / 2) ** 2, axis=2)

    near = np.hstack([(sets - 1) % n, (sets + 1) % n])
    off = (near[:, :, None] != sets[:, None, :]).all(axis=2)
    gap = np.where(off, product(theta * near[:, :, None]), np.inf).min(axis=1)
    nodes = 2 * np.pi * np.arange(2 * top_k + 1) / (2 * top_k + 1)
    waves = nodes[:, None] * np.arange(1, top_k + 1)
    scale = -2 * np.sqrt(top_k) / len(nodes)  # for documents of length 1
    values = scale * product(nodes[None, :, None])
    return values @ np.hstack([np.cos(waves), np.sin(waves)]), gap
