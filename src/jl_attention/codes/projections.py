"""Random maps R^n -> R^m that preserve lengths and inner products in expectation.

One protocol: a family has ``sample(dim_out, dim_in, rng)``, which returns a map P with
``P.shape == (dim_out, dim_in)``, applied as ``P @ X`` to the columns of X or as ``X @ P.T`` to its
rows; X is a dense array or a SciPy sparse array. Every map satisfies E <Px, Py> = <x, y>.

============== ============================ ========================= ==========================
family         P                            cost for one dense x      good to know
============== ============================ ========================= ==========================
`Gaussian`     N(0, 1/m) entries            m n, one BLAS product     laws known exactly (L1, L2)
`Rademacher`   +-1/sqrt(m)                  m n, one BLAS product     never worse in variance
`Sparse`       a share p of the entries,    p m n                     poor on spiky x when p is
               +-1/sqrt(p m)                                          small
`OSNAP`        s nonzeros a column          s n                       CountSketch is s = 1
`SRHT`         m rows of a Hadamard matrix, 2 n sqrt(m), in BLAS      exact at m = n = 2^j
               random signs                 products
`Orthogonal`   m rows of a random rotation  m n (and m^2 n to draw)   exact at m = n
============== ============================ ========================= ==========================

`FAMILIES` names the usual ones. A dense family returns a NumPy array; the others return a map that
never holds a dense m x n matrix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from ..errors import ParameterError, check_int, check_real

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from ..codes.base import Seed

__all__ = [
    "CHUNK_BYTES",
    "DENSE_STORAGE",
    "FAMILIES",
    "OSNAP",
    "SRHT",
    "Gaussian",
    "HadamardMap",
    "LinearMap",
    "Orthogonal",
    "Rademacher",
    "Sparse",
    "SparseMap",
]

CHUNK_BYTES = 2**19
"""Dense input is taken in blocks of about this size, so that a block stays in a core's cache."""

DENSE_STORAGE = 1 / 32
"""A `Sparse` map with a larger share of nonzeros is stored densely: BLAS is then faster."""


@dataclass(frozen=True)
class Gaussian:
    """Independent N(0, 1/m) entries; ||Px||^2/||x||^2 is chi2_m/m."""

    def sample(
        self, dim_out: int, dim_in: int, rng: Seed = None, dtype: DTypeLike = np.float64
    ) -> np.ndarray:
        """Draw a map.

        Parameters
        ----------
        dim_out, dim_in : int
            m and n.
        rng : int or numpy.random.Generator, optional
            The same seed gives the same map.
        dtype : {numpy.float64, numpy.float32}, optional
            Of the map; results have the type that NumPy's promotion gives.

        Returns
        -------
        ndarray, shape (m, n)

        Raises
        ------
        ParameterError
            A size is not a positive integer, or `dtype` is another one.
        """
        m, n, rng, dtype = _check(dim_out, dim_in, rng, dtype)
        matrix = rng.standard_normal((m, n), dtype=dtype)
        matrix /= np.sqrt(m)
        return matrix


@dataclass(frozen=True)
class Rademacher:
    """Independent signs +-1/sqrt(m) (Achlioptas 2003)."""

    def sample(
        self, dim_out: int, dim_in: int, rng: Seed = None, dtype: DTypeLike = np.float64
    ) -> np.ndarray:
        """Draw a map, ndarray of shape (m, n); parameters and errors as in `Gaussian.sample`."""
        m, n, rng, dtype = _check(dim_out, dim_in, rng, dtype)
        return _signs(rng, (m, n), dtype) / dtype.type(np.sqrt(m))


@dataclass(frozen=True)
class Sparse:
    """Independent entries: +-1/sqrt(p m) with probability p, else 0.

    p = 1/3 is Achlioptas's choice (2003), p = 1/sqrt(n) that of Li, Hastie and Church (2006).

    Attributes
    ----------
    density : float or None
        p in (0, 1]; None for 1/sqrt(n).
    """

    density: float | None = None

    def sample(
        self, dim_out: int, dim_in: int, rng: Seed = None, dtype: DTypeLike = np.float64
    ) -> SparseMap | np.ndarray:
        """Draw a map; parameters and errors as in `Gaussian.sample`.

        Returns
        -------
        SparseMap or ndarray, shape (m, n)
            An array if the density exceeds `DENSE_STORAGE`.
        """
        m, n, rng, dtype = _check(dim_out, dim_in, rng, dtype)
        if self.density is None:
            density = 1 / np.sqrt(n)
        else:
            density = check_real("density", self.density, above=0, at_most=1)
        positions = _bernoulli_positions(rng, m * n, density)
        data = _signs(rng, len(positions), dtype) / dtype.type(np.sqrt(density * m))
        matrix = sparse.csr_array((data, np.divmod(positions, n)), shape=(m, n))
        return matrix.toarray() if density > DENSE_STORAGE else SparseMap(matrix)


@dataclass(frozen=True)
class OSNAP:
    """Exactly s nonzeros +-1/sqrt(s) in every column, one in each of s blocks of rows.

    Kane and Nelson (2014); s = 1 is CountSketch (Charikar, Chen and Farach-Colton 2002).

    Attributes
    ----------
    nonzeros : int
        s, between 1 and m.
    """

    nonzeros: int = 1

    def sample(
        self, dim_out: int, dim_in: int, rng: Seed = None, dtype: DTypeLike = np.float64
    ) -> SparseMap:
        """Draw a `SparseMap`; parameters as in `Gaussian.sample`, errors also for s > m."""
        m, n, rng, dtype = _check(dim_out, dim_in, rng, dtype)
        s = check_int("nonzeros", self.nonzeros, maximum=m)
        edges = np.arange(s + 1) * m // s
        rows = rng.integers(edges[:-1], edges[1:], size=(n, s))
        data = _signs(rng, n * s, dtype) / dtype.type(np.sqrt(s))
        matrix = sparse.csc_array((data, rows.ravel(), np.arange(n + 1) * s), shape=(m, n))
        return SparseMap(matrix.tocsr())


@dataclass(frozen=True)
class SRHT:
    """Subsampled randomised Hadamard transform sqrt(n/m) R H D (Tropp 2011).

    D flips signs at random, H is the orthogonal Hadamard matrix and R keeps m of the n rows,
    drawn without replacement. n is rounded up to a power of 2 by appending zeros to x.
    """

    def sample(
        self, dim_out: int, dim_in: int, rng: Seed = None, dtype: DTypeLike = np.float64
    ) -> HadamardMap:
        """Draw a `HadamardMap`; parameters as in `Gaussian.sample`.

        Raises
        ------
        ParameterError
            As there, or m exceeds n rounded up to a power of 2.
        """
        m, n, rng, dtype = _check(dim_out, dim_in, rng, dtype)
        padded = 1 << (n - 1).bit_length()
        check_int("dim_out", m, maximum=padded)
        return HadamardMap(_signs(rng, n, dtype), rng.permutation(padded)[:m], padded)


@dataclass(frozen=True)
class Orthogonal:
    """sqrt(n/m) times m orthonormal rows, uniformly distributed (Haar)."""

    def sample(
        self, dim_out: int, dim_in: int, rng: Seed = None, dtype: DTypeLike = np.float64
    ) -> np.ndarray:
        """Draw a map, ndarray of shape (m, n); parameters as in `Gaussian.sample`.

        Raises
        ------
        ParameterError
            As there, or m > n.
        """
        m, n, rng, dtype = _check(dim_out, dim_in, rng, dtype)
        check_int("dim_out", m, maximum=n)
        columns, triangle = np.linalg.qr(rng.standard_normal((n, m), dtype=dtype))
        # The signs make the factor unique and its law invariant under rotation.
        columns *= np.where(np.diag(triangle) < 0, -1, 1) * dtype.type(np.sqrt(n / m))
        return np.ascontiguousarray(columns.T)


FAMILIES = {
    "gaussian": Gaussian(),
    "rademacher": Rademacher(),
    "achlioptas": Sparse(1 / 3),
    "li": Sparse(),
    "count_sketch": OSNAP(1),
    "osnap": OSNAP(4),
    "srht": SRHT(),
    "orthogonal": Orthogonal(),
}


class LinearMap(ABC):
    """A map P of shape (m, n) that is applied without its dense matrix.

    Attributes
    ----------
    shape : tuple of int
        (m, n).
    dtype : numpy.dtype
    """

    __array_ufunc__ = None  # NumPy leaves `X @ P.T` to this class

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)

    @property
    def T(self) -> _Transpose:
        """The transpose, for ``X @ P.T``."""
        return _Transpose(self)

    def __matmul__(self, X):
        """Return P X for X of shape (n,) or (n, N), dense or sparse."""
        X = X if sparse.issparse(X) else np.asarray(X)
        _check_operand(X, 0, self.shape)
        return self._apply(X[None, :])[0] if X.ndim == 1 else self._apply(X.T).T

    def toarray(self) -> np.ndarray:
        """Return the dense (m, n) matrix."""
        return self @ np.eye(self.shape[1], dtype=self.dtype)

    @abstractmethod
    def _apply(self, X):
        """Return X P^T for X of shape (N, n), dense or sparse."""

    def _row_chunks(self, X, chunk_bytes):
        """Yield slices of the rows of X, each a block of about `chunk_bytes`."""
        size = max(1, chunk_bytes // (self.dtype.itemsize * self.shape[1]))
        for start in range(0, X.shape[0], size):
            yield slice(start, min(start + size, X.shape[0]))


class _Transpose:
    """The transpose of a `LinearMap`, to be multiplied from the left."""

    __array_ufunc__ = None

    def __init__(self, linear_map):
        self.T, self.shape, self.dtype = linear_map, linear_map.shape[::-1], linear_map.dtype

    def __rmatmul__(self, X):
        """Return X P^T for X of shape (n,) or (N, n), dense or sparse."""
        X = X if sparse.issparse(X) else np.asarray(X)
        _check_operand(X, -1, self.T.shape)
        return self.T._apply(X[None, :])[0] if X.ndim == 1 else self.T._apply(X)


class SparseMap(LinearMap):
    """A map held as a sparse matrix; a sparse argument gives a sparse result."""

    def __init__(self, matrix):
        super().__init__(matrix.shape, matrix.dtype)
        # SciPy would copy indices of 64 bits in a product with a matrix of 32.
        index = sparse.get_index_dtype(maxval=max(matrix.nnz, *matrix.shape))
        parts = matrix.data, matrix.indices.astype(index), matrix.indptr.astype(index)
        self.matrix = sparse.csr_array(parts, shape=matrix.shape)
        self._transposed = self.matrix.T.tocsr()

    def _apply(self, X):
        if sparse.issparse(X):
            return X @ self._transposed
        out = np.empty((X.shape[0], self.shape[0]), dtype=np.result_type(X.dtype, self.dtype))
        for rows in self._row_chunks(X, CHUNK_BYTES):
            # SciPy's kernel streams along contiguous columns.
            out[rows] = (self.matrix @ np.ascontiguousarray(X[rows].T)).T
        return out


class HadamardMap(LinearMap):
    """sqrt(N/m) R H D for the Hadamard matrix H of order N = `padded`, in BLAS products.

    H_N is the Kronecker product H_q (x) H_p. Multiplying by H_q, and then each of the q blocks of
    p numbers by only those columns of H_p that were kept there, costs N q + m p a vector: least
    near q = sqrt(m), where it is 2 N sqrt(m). More than N log N, but at BLAS's speed.
    """

    def __init__(self, signs, rows, padded):
        super().__init__((len(rows), len(signs)), signs.dtype)
        self.rows = np.sort(rows)  # their order has no meaning
        q = min(padded, 1 << ((len(rows) - 1).bit_length() + 1) // 2)
        p = padded // q
        self._signs, self._padded = signs, padded
        from scipy.linalg import hadamard  # slow to import, and only this needs it

        self._blocks = hadamard(q, dtype=self.dtype)
        self._stops = np.searchsorted(self.rows, np.arange(q + 1) * p)
        self._within = _hadamard_columns(p, self.rows % p, self.dtype)
        self._within *= self.dtype.type(1 / np.sqrt(len(rows)))

    def _apply(self, X):
        X = X.tocsr() if sparse.issparse(X) else X
        dtype = np.result_type(X.dtype, self.dtype)
        out = np.empty((X.shape[0], self.shape[0]), dtype=dtype)
        q, n = len(self._blocks), self.shape[1]
        chunks = list(self._row_chunks(X, 4 * CHUNK_BYTES))
        signed = np.zeros((chunks[0].stop if chunks else 0, self._padded), dtype=dtype)
        mixed = np.empty((len(signed), q, self._padded // q), dtype=dtype)
        for rows in chunks:
            block = X[rows]
            block = block.toarray() if sparse.issparse(block) else block
            size = len(block)
            np.multiply(block, self._signs, out=signed[:size, :n])
            np.matmul(self._blocks, signed[:size].reshape(mixed[:size].shape), out=mixed[:size])
            for i, (start, stop) in enumerate(pairwise(self._stops)):
                if start < stop:
                    out[rows, start:stop] = mixed[:size, i] @ self._within[:, start:stop]
        return out


def _hadamard_columns(order, columns, dtype):
    """Return columns of the Hadamard matrix H_p (x) H_q of `order` = p q, shape (order, len)."""
    from scipy.linalg import hadamard, khatri_rao

    q = 1 << ((order.bit_length() - 1) // 2)
    outer, inner = hadamard(order // q, dtype=dtype), hadamard(q, dtype=dtype)
    return khatri_rao(outer[:, columns // q], inner[:, columns % q])


def _signs(rng, shape, dtype):
    """Draw independent uniform signs."""
    return 1 - 2 * rng.integers(2, size=shape, dtype=np.int8).astype(dtype)


def _bernoulli_positions(rng, length, probability):
    """Draw which of `length` independent trials succeed, from the geometric gaps between them."""
    expected = length * probability
    count = int(expected + 6 * np.sqrt(expected) + 10)
    positions = np.cumsum(rng.geometric(probability, count)) - 1
    while positions[-1] < length - 1:
        more = np.cumsum(rng.geometric(probability, count))
        positions = np.append(positions, positions[-1] + more)
    return positions[: np.searchsorted(positions, length)]


def _check(dim_out, dim_in, rng, dtype):
    dim_out, dim_in = check_int("dim_out", dim_out), check_int("dim_in", dim_in)
    dtype = np.dtype(dtype)
    if dtype not in (np.float64, np.float32):
        raise ParameterError(f"dtype={dtype}: expected float64 or float32")
    return dim_out, dim_in, np.random.default_rng(rng), dtype


def _check_operand(X, axis, shape):
    if X.ndim not in (1, 2) or X.shape[axis] != shape[1]:
        raise ParameterError(
            f"operand of shape {X.shape}: a projection of shape {shape} acts on {shape[1]} "
            "coordinates"
        )
