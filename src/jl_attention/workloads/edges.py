"""Edge logits: small inputs with prescribed extreme scores, and the right answer known.

Scores are sums of two products of small integers and powers of two, so Q, K and V are exact in
float32, float16 and bfloat16, and so are the scores wherever a kernel keeps them in float32. What
a kernel gets wrong is then its own arithmetic: scores stored in half precision, masks that are a
finite number added, a partition function that overflows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ParameterError, check_choice, check_int

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "EDGES",
    "ROWS",
    "TOLERANCE",
    "EdgeCase",
    "edge_case",
]

TOLERANCE = {"float64": 1e-12, "float32": 1e-4, "float16": 4e-3, "bfloat16": 4e-2}
"""Largest error of an output that is rounding, for weights and values of at most 1."""

ROWS = 4


@dataclass(frozen=True, eq=False)
class EdgeCase:
    """Inputs for a kernel softmax(Q K^T / sqrt(m)) V, and what it should return.

    Attributes
    ----------
    name, about : str
    Q : ndarray of float32, shape (4, m)
    K : ndarray of float32, shape (L, m)
    V : ndarray of float32, shape (L, m)
        Row j is the unit vector of coordinate j mod m: an output is a row of attention, summed by
        residue, and its entries add up to 1.
    mask : ndarray of bool, shape (4, L)
        True where a key is visible.
    scores : ndarray of float64, shape (4, L)
        Q K^T / sqrt(m), exactly.
    output : ndarray of float64, shape (4, m)
        The right answer; zero where a row sees nothing.
    """

    name: str
    about: str
    Q: np.ndarray = field(repr=False)
    K: np.ndarray = field(repr=False)
    V: np.ndarray = field(repr=False)
    mask: np.ndarray = field(repr=False)
    scores: np.ndarray = field(repr=False)
    output: np.ndarray = field(repr=False)

    def error(self, output: ArrayLike) -> float:
        """Return the largest error of a kernel's output, infinite if it is not finite.

        Parameters
        ----------
        output : array_like, shape (4, m)

        Returns
        -------
        float

        Raises
        ------
        ParameterError
            The output has another shape.
        """
        output = np.asarray(output, dtype=np.float64)
        if output.shape != self.output.shape:
            raise ParameterError(f"output of shape {output.shape}: expected {self.output.shape}")
        difference = np.abs(output - self.output)
        return float(difference.max()) if np.isfinite(difference).all() else float("inf")


def edge_case(name: str, length: int = 256, head_dim: int = 64) -> EdgeCase:
    """Return the inputs of an edge case.

    Parameters
    ----------
    name : str
        A key of `EDGES`.
    length : int, optional
        L, at least 8.
    head_dim : int, optional
        m, a power of 4, so that the scale 1/sqrt(m) is exact.

    Returns
    -------
    EdgeCase

    Raises
    ------
    ParameterError

    Examples
    --------
    >>> case = edge_case("far_negative")
    >>> case.scores[0, :4]
    array([-51200., -51201., -51202., -51203.])
    >>> scores = np.where(case.mask, case.Q @ case.K.T / 8, -np.inf)
    >>> weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    >>> case.error(weights / weights.sum(axis=1, keepdims=True) @ case.V) < 1e-6
    True
    """
    check_choice("name", name, EDGES)
    length = check_int("length", length, minimum=8)
    head_dim = check_int("head_dim", head_dim, minimum=4)
    if head_dim.bit_count() != 1 or head_dim.bit_length() % 2 == 0:
        raise ParameterError(f"head_dim={head_dim}: must be a power of 4")
    about, (coarse, fine, coarse_unit, fine_unit, mask) = EDGES[name][0], EDGES[name][1](length)
    root = np.sqrt(head_dim)
    Q, K, V = np.zeros((ROWS, head_dim)), np.zeros((length, head_dim)), np.zeros((length, head_dim))
    Q[:, :2] = root * coarse_unit, root * fine_unit
    K[:, 0], K[:, 1] = coarse, fine
    V[np.arange(length), np.arange(length) % head_dim] = 1
    visible = np.broadcast_to(True if mask is None else mask, (ROWS, length))
    scores = Q @ K.T / root
    seen = np.where(visible, scores, -np.inf)
    largest = seen.max(axis=1, keepdims=True)
    weights = np.exp(seen - np.where(np.isfinite(largest), largest, 0))
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    Q, K, V32 = (array.astype(np.float32) for array in (Q, K, V))
    return EdgeCase(name, about, Q, K, V32, visible.copy(), scores, weights @ V)


def _tokens(length):
    return np.arange(length)


def _far_negative(length):
    return np.full(length, -100.0), -(_tokens(length) % 4.0), 512.0, 1.0, None


def _beyond_half(length):
    return np.full(length, -80.0), -(_tokens(length) % 4.0), 1024.0, 1.0, None


def _masked_high(length):
    odd = _tokens(length) % 2 == 1
    return np.where(odd, 100.0, -100.0), np.zeros(length), 512.0, 1.0, ~odd


def _all_masked(length):
    mask = np.ones((ROWS, length), dtype=bool)
    mask[0] = False
    return np.zeros(length), -(_tokens(length) % 4.0), 1.0, 1.0, mask


def _ties(length):
    return np.full(length, 8.0), np.zeros(length), 1.0, 1.0, None


def _near_ties(length):
    return 96.0 * (_tokens(length) < 2), 1.0 * (_tokens(length) == 1), 4.0, 0.125, None


def _sink(length):
    return 100.0 * (_tokens(length) == 0), np.zeros(length), 512.0, 1.0, None


def _one_against_many(length):
    # The gap that is nearest to log(L - 1) on the grid of 1/16: the one holds about a half.
    gap = np.round(16 * np.log(length - 1))
    return gap * (_tokens(length) == 0), np.zeros(length), 0.0625, 1.0, None


EDGES = {
    "ties": ("every score is 8", _ties),
    "near_ties": ("scores of 384 and 384.125, the others 0", _near_ties),
    "far_negative": ("scores from -51200 to -51203", _far_negative),
    "beyond_half": ("scores from -81920 to -81923, below the range of float16", _beyond_half),
    "masked_high": ("visible scores are -51200, masked ones +51200", _masked_high),
    "all_masked": ("the first row sees nothing", _all_masked),
    "sink": ("one score is 51200, the others 0", _sink),
    "one_against_many": ("one score is log(L - 1), the others 0", _one_against_many),
}
"""Every edge case: what it is, and the function that prescribes it."""
