"""Rotary position embedding: the rotation R_i of a query or key at position i, and its inverse.

Su et al. (*RoFormer*, 2021) rotate two coordinates (x_a, x_b) of a head at position i by the angle
i f_t, one frequency f_t for each pair t:

    x_a' = x_a cos(i f_t) - x_b sin(i f_t),    x_b' = x_a sin(i f_t) + x_b cos(i f_t).

Implementations pair differently. With r rotated coordinates, ``pairing="half"`` takes
(x_t, x_(t + r/2)) (Llama, Qwen, Gemma, GPT-NeoX, gpt-oss), ``pairing="neighbour"`` takes
(x_2t, x_(2t+1)) (GPT-J, GLM, Cohere). The two differ by a permutation of coordinates, so nothing
that is learned tells them apart, and a wrong one is silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ParameterError, check_array, check_choice, check_int, check_real

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "PAIRINGS",
    "Rope",
]

PAIRINGS = ("half", "neighbour")


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding of a block.

    Parameters
    ----------
    theta : float, optional
        Base: the frequencies are theta^(-2t/r), t = 0, ..., r/2 - 1.
    pairing : {"half", "neighbour"}, optional
    fraction : float, optional
        Share of a head's coordinates that are rotated, the first ones; r is that share of the head
        size, rounded down, and must be even.
    frequencies : tuple of float, optional
        In place of `theta`, for scaled variants: r/2 of them.
    factor : float, optional
        What the cosines and sines are multiplied by (YaRN's attention factor).

    Raises
    ------
    ParameterError
        An argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> rope = Rope(theta=100.0)
    >>> x = np.array([[1.0, 0.0, 0.0, 0.0]])
    >>> rope.rotate(x, [2]).round(3)
    array([[-0.416,  0.   ,  0.909,  0.   ]])
    >>> bool(np.allclose(rope.unrotate(rope.rotate(x, [2]), [2]), x))
    True
    """

    theta: float = 10000.0
    pairing: str = "half"
    fraction: float = 1.0
    frequencies: tuple | None = None
    factor: float = 1.0

    def __post_init__(self):
        check_real("rope.theta", self.theta, above=0)
        check_choice("rope.pairing", self.pairing, PAIRINGS)
        check_real("rope.fraction", self.fraction, above=0, at_most=1)
        check_real("rope.factor", self.factor, above=0)
        if self.frequencies is not None:
            frequencies = check_array("rope.frequencies", self.frequencies, at_least=0)
            object.__setattr__(self, "frequencies", tuple(frequencies.ravel().tolist()))

    def rotated(self, head_dim: int) -> int:
        """Return r, how many coordinates of a head are rotated."""
        head_dim = check_int("head_dim", head_dim)
        rotated = int(head_dim * self.fraction)
        if rotated < 2 or rotated % 2:
            raise ParameterError(
                f"rope.fraction={self.fraction}: rotates {rotated} of head_dim={head_dim} "
                "coordinates; expected an even number of at least 2"
            )
        if self.frequencies is not None and 2 * len(self.frequencies) != rotated:
            raise ParameterError(
                f"rope.frequencies: {len(self.frequencies)} of them, expected {rotated // 2}"
            )
        return rotated

    def pairs(self, head_dim: int) -> np.ndarray:
        """Return the paired coordinates, shape (r/2, 2), in the order of the frequencies."""
        half = self.rotated(head_dim) // 2
        first = np.arange(half)
        if self.pairing == "half":
            return np.stack([first, first + half], axis=1)
        return np.stack([2 * first, 2 * first + 1], axis=1)

    def table(self, positions: ArrayLike, head_dim: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (cos, sin) at the positions, shape (n, r/2) each, times `factor`.

        Frequencies and angles are rounded to float32, as every implementation in use does; at
        position 8191 that moves an angle by up to 5e-4. Cosines and sines of the rounded angles are
        exact to double precision.
        """
        half = self.rotated(head_dim) // 2
        if self.frequencies is None:
            exponents = np.arange(half, dtype=np.float32) * np.float32(2) / np.float32(2 * half)
            frequencies = np.float32(1) / np.float32(self.theta) ** exponents
        else:
            frequencies = np.asarray(self.frequencies, dtype=np.float32)
        positions = check_array("positions", positions, at_least=0, integer=True)
        angles = positions.astype(np.float32)[:, None] * frequencies
        angles = angles.astype(np.float64)
        return self.factor * np.cos(angles), self.factor * np.sin(angles)

    def rotate(self, x: np.ndarray, positions: ArrayLike) -> np.ndarray:
        """Return R_i x_i.

        Parameters
        ----------
        x : ndarray, shape (n, m)
            Queries or keys of one head, one row a token.
        positions : array_like of int, shape (n,)

        Returns
        -------
        ndarray, shape (n, m)
        """
        cos, sin = self.table(positions, x.shape[1])
        return self._apply(x, cos.astype(x.dtype), sin.astype(x.dtype))

    def unrotate(self, x: np.ndarray, positions: ArrayLike) -> np.ndarray:
        """Return R_i^(-1) x_i; parameters and returns as in `rotate`."""
        cos, sin = (part / self.factor**2 for part in self.table(positions, x.shape[1]))
        return self._apply(x, cos.astype(x.dtype), -sin.astype(x.dtype))

    def _apply(self, x, cos, sin):
        first, second = self.pairs(x.shape[1]).T
        rotated = x.copy()
        rotated[:, first] = x[:, first] * cos - x[:, second] * sin
        rotated[:, second] = x[:, first] * sin + x[:, second] * cos
        return rotated
