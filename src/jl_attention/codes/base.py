"""Key codes as an object: ``codes[rows]`` is a function of the rows alone.

Random codes come from a counter-based generator (Philox; Salmon et al. 2011), keyed by the seed and
set to a counter that belongs to a block of `BLOCK_ROWS` rows. So a batch, a stream of tokens and a
worker on another machine make the same codes bit for bit, in any order, and none has to be sent.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from ..engine import is_worker, one_blas_thread, run
from ..errors import ParameterError, check_choice, check_int
from ..interop.arrays import real_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

__all__ = [
    "BLOCK_ROWS",
    "CODES_STREAM",
    "DOUBLE",
    "KINDS",
    "WELL_CONDITIONED",
    "Codes",
    "GaussianCodes",
    "GivenCodes",
    "MomentCurveCodes",
    "Seed",
    "TightCodes",
    "UnitCodes",
    "check_dtype",
    "draw",
    "generator",
    "stream_key",
]

DOUBLE = np.dtype(np.float64)

BLOCK_ROWS = 256
"""Rows that share a counter; a block is always drawn whole."""

CODES_STREAM = 0x636F646573
"""Spawn key of the codes' streams: no seed shares numbers with ``default_rng`` of that seed."""

WELL_CONDITIONED = 1e6
"""Largest condition number of a Gram matrix that is whitened in one pass."""


def stream_key(rng: Seed = None) -> tuple[int, ...]:
    """Return the key of a stream of codes, two integers of 64 bits.

    Parameters
    ----------
    rng : int, numpy.random.SeedSequence, numpy.random.Generator or None, optional
        A seed gives the same key each time; a generator is advanced; None draws fresh entropy.

    Returns
    -------
    tuple of int

    Raises
    ------
    ParameterError
        `rng` is something else, or a negative seed.

    Examples
    --------
    >>> stream_key(0) == stream_key(0) != stream_key(1)
    True
    """
    if isinstance(rng, np.random.Generator):
        words = rng.integers(2**64, size=2, dtype=np.uint64)
    else:
        if rng is not None and not isinstance(rng, np.random.SeedSequence):
            rng = check_int("rng", rng, minimum=0)
        if not isinstance(rng, np.random.SeedSequence):
            rng = np.random.SeedSequence(rng)
        tagged = np.random.SeedSequence(rng.entropy, spawn_key=(*rng.spawn_key, CODES_STREAM))
        words = tagged.generate_state(2, np.uint64)
    return int(words[0]), int(words[1])


def generator(key: tuple[int, ...], block: int = 0) -> np.random.Generator:
    """Return the generator of one block of a stream."""
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, block]))


Seed = int | np.random.SeedSequence | np.random.Generator | None
"""What draws: a seed, a generator, or None for fresh entropy."""

_kept: list[Codes] = []
"""In a worker process the last codes: the next block of rows needs their array again."""


class Codes(ABC):
    """L codes c_1..c_L of R^m, the same bits whoever makes them and with however many BLAS threads.

    Index it by rows as an array of shape (L, m): ``codes[5]``, ``codes[2:9]``, ``codes[[4, 1]]``.

    Attributes
    ----------
    length, dim : int
        L and m.
    dtype : numpy.dtype
    """

    length: int
    dim: int
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(L, m)."""
        return self.length, self.dim

    def __len__(self) -> int:
        """Return L."""
        return self.length

    @abstractmethod
    def block(self, index: int) -> np.ndarray:
        """Return the codes of rows 256 index to 256 (index + 1), past L too; (256, m) float64."""

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """Return the codes of an integer, slice or integer array of rows."""
        chosen = np.arange(self.length)[rows]
        at = np.atleast_1d(chosen)
        out = np.empty((len(at), self.dim), dtype=self.dtype)
        blocks = at // BLOCK_ROWS
        with one_blas_thread():
            for index in np.unique(blocks):
                here = blocks == index
                out[here] = self.block(int(index))[at[here] - index * BLOCK_ROWS]
        return out[0] if chosen.ndim == 0 else out

    def array(self) -> np.ndarray:
        """Return all codes, read-only, shape (L, m); made once, and kept as long as this object.

        A process that runs blocks of rows for another one keeps the last ones itself.
        """
        if "_array" not in vars(self):
            same = next((kept for kept in _kept if kept == self), None)
            made = self._made() if same is None else same.array()
            vars(self)["_array"] = made
            if is_worker():
                _kept[:] = [self]
        return self._array

    def _made(self):
        made = np.empty(self.shape, dtype=self.dtype)
        blocks = range(-(-self.length // BLOCK_ROWS))
        for index, rows in enumerate(run(self.block, blocks, size=np.size)):
            start = index * BLOCK_ROWS
            made[start : start + BLOCK_ROWS] = rows[: self.length - start]
        made.flags.writeable = False
        return made

    def __getstate__(self):
        """Return what the codes are made from: who receives it makes the array itself."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


@dataclass(frozen=True)
class GaussianCodes(Codes):
    """Independent N(0, scale^2) coordinates.

    Attributes
    ----------
    length, dim : int
    key : tuple of int
        From `stream_key`.
    dtype : numpy.dtype
    scale : float
    """

    length: int
    dim: int
    key: tuple
    dtype: np.dtype = DOUBLE
    scale: float = 1.0

    def block(self, index: int) -> np.ndarray:
        """Return a block, see `Codes.block`."""
        drawn = generator(self.key, index).standard_normal((BLOCK_ROWS, self.dim))
        return drawn if self.scale == 1 else drawn * self.scale


@dataclass(frozen=True)
class UnitCodes(Codes):
    """Independent codes, uniform on the unit sphere; attributes as in `GaussianCodes`."""

    length: int
    dim: int
    key: tuple
    dtype: np.dtype = DOUBLE

    def block(self, index: int) -> np.ndarray:
        """Return a block, see `Codes.block`."""
        drawn = generator(self.key, index).standard_normal((BLOCK_ROWS, self.dim))
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@dataclass(frozen=True)
class TightCodes(Codes):
    """A tight frame: sqrt(L) scale C (C^T C)^(-1/2) of Gaussian C, for m <= L.

    The columns are orthogonal, sum_j c_j c_j^T = L scale^2 I. C (C^T C)^(-1/2) is uniformly (Haar)
    distributed on the L x m matrices with orthonormal columns, so these codes are also the
    transpose of m rows of a random rotation. For m >= L the rows are orthogonal instead:
    the first L coordinates carry scale sqrt(L) times the identity, which costs nothing.

    The inverse root needs every Gaussian code once, O(L m^2), so tokens cannot arrive one by one.
    Attributes as in `GaussianCodes`.
    """

    length: int
    dim: int
    key: tuple
    dtype: np.dtype = DOUBLE
    scale: float = 1.0

    @cached_property
    def _whitening(self):
        """sqrt(L) scale (C^T C)^(-1/2), shape (m, m)."""
        root, condition = None, np.inf
        # So many rows a Gram matrix that those in flight take less memory than the codes.
        step = 4 * -(-self.dim // BLOCK_ROWS)
        parts = range(0, -(-self.length // BLOCK_ROWS), step)
        while condition > WELL_CONDITIONED:  # near m = L a second pass restores the digits
            gram = np.zeros((self.dim, self.dim))
            for part in run(partial(self._gram, root, step), parts, size=np.size):
                gram += part
            with one_blas_thread():
                values, vectors = np.linalg.eigh(gram)
                condition = values[-1] / values[0] if values[0] > 0 else np.inf
                values = np.maximum(values, values[-1] * np.finfo(float).eps)
                factor = (vectors / np.sqrt(values)) @ vectors.T
                root = factor if root is None else root @ factor
        return np.sqrt(self.length) * self.scale * root

    def _made(self):
        if self.dim < self.length:
            self._whitening  # noqa: B018, once, before each block asks for it
        return super()._made()

    def _gram(self, root, step, first):
        """Return the Gram matrix of the columns of some blocks, of C or of C root."""
        gram = np.zeros((self.dim, self.dim))
        for index in range(first, min(first + step, -(-self.length // BLOCK_ROWS))):
            rows = self._gaussian(index)[: self.length - index * BLOCK_ROWS]
            rows = rows if root is None else rows @ root
            gram += rows.T @ rows
        return gram

    def _gaussian(self, index):
        return generator(self.key, index).standard_normal((BLOCK_ROWS, self.dim))

    def block(self, index: int) -> np.ndarray:
        """Return a block, see `Codes.block`."""
        if self.dim >= self.length:
            rows = np.arange(index * BLOCK_ROWS, (index + 1) * BLOCK_ROWS)
            identity = rows[:, None] == np.arange(self.dim)
            return np.sqrt(self.length) * self.scale * identity
        return self._gaussian(index) @ self._whitening


@dataclass(frozen=True)
class MomentCurveCodes(Codes):
    """The trigonometric moment curve, (cos t theta_j, sin t theta_j) for t = 1..m/2 (T5).

    theta_j = 2 pi j/L: the vertices of a cyclic polytope (Gale 1963). An odd m leaves the last
    coordinate zero.

    Attributes
    ----------
    length, dim : int
    degree : int
        Number of frequencies, at most m // 2; the other coordinates are zero.
    dtype : numpy.dtype
    """

    length: int
    dim: int
    degree: int
    dtype: np.dtype = DOUBLE

    def block(self, index: int) -> np.ndarray:
        """Return a block, see `Codes.block`."""
        rows = np.arange(index * BLOCK_ROWS, (index + 1) * BLOCK_ROWS)
        waves = (2 * np.pi * rows / self.length)[:, None] * np.arange(1, self.degree + 1)
        out = np.zeros((BLOCK_ROWS, self.dim))
        out[:, : 2 * self.degree] = np.hstack([np.cos(waves), np.sin(waves)])
        return out


class GivenCodes(Codes):
    """Codes that somebody else made, as an array of shape (L, m)."""

    def __init__(self, array: ArrayLike) -> None:
        array = real_array(array, "keys", ParameterError)
        if array.dtype not in (np.float64, np.float32) or array.ndim != 2 or 0 in array.shape:
            raise ParameterError(
                f"keys of shape {array.shape} and dtype {array.dtype}: expected (L, m) of float64 "
                "or float32"
            )
        finite = np.isfinite(array).all(axis=1)
        if not finite.all():
            raise ParameterError(f"keys: row {int(np.argmin(finite))}: is not finite")
        self._array = array.view()
        self._array.flags.writeable = False
        self.length, self.dim = array.shape
        self.dtype = array.dtype

    def __getstate__(self):
        """Return everything: nobody can make these codes again."""
        return vars(self)

    def block(self, index: int) -> np.ndarray:
        """Return a block, see `Codes.block`; rows past the end are zero."""
        out = np.zeros((BLOCK_ROWS, self.dim))
        rows = self._array[index * BLOCK_ROWS : (index + 1) * BLOCK_ROWS]
        out[: len(rows)] = rows
        return out

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """Return the codes of an integer, slice or integer array of rows."""
        return self._array[rows]

    def array(self) -> np.ndarray:
        """Return all codes, read-only, shape (L, m)."""
        return self._array


KINDS = {
    "gaussian": GaussianCodes,
    "unit": UnitCodes,
    "tight": TightCodes,
    "orthogonal": TightCodes,  # the same law: uniform on the matrices with orthonormal columns
}
"""Random codes by name."""


def draw(
    kind: str, length: int, dim: int, rng: Seed = None, dtype: DTypeLike = np.float64
) -> Codes:
    """Draw random codes of a kind; nothing is computed before rows are asked for.

    Parameters
    ----------
    kind : {"gaussian", "unit", "tight", "orthogonal"}
        A key of `KINDS`.
    length, dim : int
        L and m.
    rng : int, numpy.random.SeedSequence, numpy.random.Generator or None, optional
    dtype : {numpy.float64, numpy.float32}, optional
        Codes are drawn in double precision and then rounded.

    Returns
    -------
    Codes

    Raises
    ------
    ParameterError

    Examples
    --------
    >>> codes = draw("unit", 1000, 32, rng=0)
    >>> codes[[999, 3]].shape
    (2, 32)
    >>> bool((codes[3] == codes.array()[3]).all())
    True
    """
    check_choice("codes", kind, KINDS)
    length, dim = check_int("length", length), check_int("dim", dim)
    return KINDS[kind](length, dim, stream_key(rng), check_dtype(dtype))


def check_dtype(dtype: DTypeLike) -> np.dtype:
    """Return a dtype for queries and keys, or raise `ParameterError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of names that are refused anyhow
            dtype = np.dtype(dtype)
    except (TypeError, ValueError):
        raise ParameterError(f"dtype={dtype!r}: expected float64 or float32") from None
    if dtype not in (np.float64, np.float32):
        raise ParameterError(f"dtype={dtype}: expected float64 or float32")
    return dtype
