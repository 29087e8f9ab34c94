"""Targets that stay on disk: a CSR matrix in three ``.npy`` files, read block by block.

`MappedTarget` opens a directory that `write_mapped` wrote, and goes through it once to check it.
`construct` (with "interpolate") and `measure` take one in place of a matrix, and read of it what
the block of rows at hand needs: in memory are O(L) numbers for its L rows, and a block.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from scipy import sparse

from ..errors import FileError, MissingFileError, TargetError
from ..logits import logits_of_rows
from .atomic import write_atomically
from .containers import reason

__all__ = ["MappedLogits", "MappedTarget", "blocks_of", "write_mapped"]

PARTS = ("indptr", "indices", "data")
"""The files of the directory, with the suffix ``.npy``: the arrays of a CSR matrix."""

BLOCK_ENTRIES = 2**20
"""Nonzeros that are read at once where rows are taken in order."""


class MappedTarget:
    """A right-stochastic matrix on disk.

    Parameters
    ----------
    path : str or path
        A directory with ``indptr.npy`` (L + 1 integers), ``indices.npy`` and ``data.npy``: the
        arrays of a CSR matrix in canonical form, as `write_mapped` writes them. The files are
        mapped into memory, not read, and must not change.

    Attributes
    ----------
    shape : tuple of int
        (L, L).
    indptr : ndarray of int64, shape (L + 1,)
    indices, data : ndarray
        Mapped from disk, read-only.

    Raises
    ------
    MissingFileError
        There is no such directory, or a file is missing in it.
    FileError
        A file holds no such array, Python objects, or is truncated.
    TargetError
        The matrix is not right-stochastic and in canonical form; names the row.

    Examples
    --------
    >>> import tempfile
    >>> from jl_attention import construct, measure, targets
    >>> target = targets.causal_window(512, 3, rng=0)
    >>> with tempfile.TemporaryDirectory() as path:
    ...     write_mapped(path, target)
    ...     mapped = MappedTarget(path)
    ...     built = construct(mapped, leak=0.01, rng=1)
    ...     built.meets(measure(built, mapped)), built == construct(target, leak=0.01, rng=1)
    (True, True)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        indptr, self.indices, self.data = (_mapped(self.path / f"{part}.npy") for part in PARTS)
        if indptr.dtype.kind not in "iu" or self.indices.dtype.kind not in "iu":
            raise FileError(f"{path}: indptr and indices must be integers")
        if self.data.dtype.kind not in "iuf":
            raise FileError(f"{path}: data of dtype {self.data.dtype}: not real numbers")
        self.indptr = indptr.astype(np.int64)
        self.shape = 2 * (len(indptr) - 1,)
        self._check()

    def __getitem__(self, rows: slice | np.ndarray) -> sparse.csr_array:
        """Return some rows (slice or integer array), shape (n, L), read from disk."""
        rows = np.arange(self.shape[0])[rows]
        start, counts = self.indptr[rows], np.diff(self.indptr)[rows]
        indptr = np.append(0, np.cumsum(counts))
        at = np.arange(indptr[-1]) + np.repeat(start - indptr[:-1], counts)
        data = self.data[at].astype(np.float64)
        return sparse.csr_array((data, self.indices[at], indptr), shape=(len(rows), self.shape[1]))

    def blocks(self) -> Iterator[sparse.csr_array]:
        """Yield all rows in order, in blocks of about `BLOCK_ENTRIES` nonzeros."""
        length, start = self.shape[0], 0
        while start < length:
            end = np.searchsorted(self.indptr, self.indptr[start] + BLOCK_ENTRIES, "right") - 1
            stop = min(max(int(end), start + 1), length)
            yield self[start:stop]
            start = stop

    def load(self) -> sparse.csr_array:
        """Return the whole matrix in memory."""
        return self[:]

    def __repr__(self) -> str:
        """Return what it is, and where."""
        return f"<MappedTarget of shape {self.shape} with {len(self.data)} nonzeros in {self.path}>"

    def _check(self):
        from ..targets import ROW_SUM_TOLERANCE  # which knows this module

        length, indptr = self.shape[0], self.indptr
        if length < 1:
            raise TargetError(f"{self.path}: is empty")
        if indptr[0] != 0 or not len(self.indices) == len(self.data) == indptr[-1]:
            raise TargetError(f"{self.path}: indptr does not fit indices and data")
        self._refuse(np.diff(indptr) < 1, 0, "has no nonzero entry")
        first = 0
        for block in self.blocks():
            start, row_of = (
                block.indptr[:-1],
                np.repeat(np.arange(block.shape[0]), np.diff(block.indptr)),
            )
            columns = block.indices.astype(np.int64)
            bad = (columns < 0) | (columns >= length)
            bad[1:] |= (np.diff(columns) <= 0) & (np.diff(row_of) == 0)
            reasons = {
                "its columns are not in order, and between 0 and L - 1": bad,
                "an entry is not positive and finite": ~((block.data > 0) & (block.data < np.inf)),
            }
            for text, entries in reasons.items():
                self._refuse(np.logical_or.reduceat(entries, start), first, text)
            off = ~(np.abs(np.add.reduceat(block.data, start) - 1) <= ROW_SUM_TOLERANCE)
            self._refuse(off, first, f"does not sum to 1 within {ROW_SUM_TOLERANCE:g}")
            first += block.shape[0]

    def _refuse(self, bad, first, text):
        if bad.any():
            raise TargetError(f"{self.path}: row {first + int(np.argmax(bad))}: {text}")


class MappedLogits:
    """Target logits of a `MappedTarget`, made as blocks of whole rows are read.

    Parameters
    ----------
    target : MappedTarget
    logit_scale : float
        tau.

    Attributes
    ----------
    shape, indptr, indices, data
        As of a csr_array, but ``data`` is indexed by an array of shape (n, s): whole rows.
    """

    def __init__(self, target: MappedTarget, logit_scale: float) -> None:
        self.shape, self.indptr, self.indices = target.shape, target.indptr, target.indices
        self._weights, self._scale = target.data, logit_scale

    @property
    def data(self) -> "MappedLogits":
        """What is indexed by places."""
        return self

    def __getitem__(self, at: np.ndarray) -> np.ndarray:
        """Return the logits at these places; each row of `at` holds a whole row's."""
        return logits_of_rows(self._weights[at].astype(np.float64), self._scale)


def blocks_of(target: sparse.csr_array | MappedTarget) -> Iterator[sparse.csr_array]:
    """Yield a checked target, whole if it is in memory and in blocks of rows if it is mapped."""
    if isinstance(target, MappedTarget):
        yield from target.blocks()
    else:
        yield target


def write_mapped(path: str | Path, blocks: sparse.csr_array | Iterable[sparse.csr_array]) -> None:
    """Write a target for `MappedTarget`, whole or row by row.

    Parameters
    ----------
    path : str or path
        A directory; made if it is not there.
    blocks : scipy.sparse.csr_array, or iterable of them, each of shape (n, L)
        Rows in order. Only one block at a time is in memory, beside the L + 1 row ends.

    Raises
    ------
    FileError
        It cannot be written, or the blocks do not make a square matrix.
    """
    path = Path(path)
    blocks = [blocks] if sparse.issparse(blocks) else blocks
    counts, width = [np.zeros(1, dtype=np.int64)], None
    parts = {"indices": np.dtype(np.int64), "data": np.dtype(np.float64)}
    try:
        path.mkdir(exist_ok=True)
        raw = {name: path / f".{name}.part" for name in parts}
        with raw["indices"].open("wb") as indices, raw["data"].open("wb") as data:
            for block in blocks:
                block = sparse.csr_array(block)
                width = block.shape[1]
                counts.append(np.diff(block.indptr))
                indices.write(np.ascontiguousarray(block.indices, dtype=parts["indices"]))
                data.write(np.ascontiguousarray(block.data, dtype=parts["data"]))
        indptr = np.cumsum(np.concatenate(counts))
        if len(indptr) - 1 != width:
            raise FileError(f"{path}: {len(indptr) - 1} rows of {width} columns are not square")
        for name, dtype in parts.items():
            _with_header(raw[name], path / f"{name}.npy", dtype, int(indptr[-1]))
        write_atomically(path / "indptr.npy", lambda file: np.save(file, indptr))
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {reason(error)}") from None


def _with_header(raw, path, dtype, count):
    """Turn raw numbers into a ``.npy`` file, in pieces."""

    def write(file):
        header = {"descr": dtype.str, "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(file, header)
        with raw.open("rb") as numbers:
            while piece := numbers.read(2**22):
                file.write(piece)

    write_atomically(path, write)
    raw.unlink()


def _mapped(path):
    """Return the one-dimensional array of a ``.npy`` file, mapped read-only."""
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        array = np.load(path, mmap_mode="r" if path.stat().st_size else None, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, OverflowError) as error:
        raise FileError(f"{path}: not a readable .npy file: {reason(error)}") from None
    if not isinstance(array, np.ndarray) or array.ndim != 1:
        raise FileError(f"{path}: expected an array of one axis")
    return array.view(np.ndarray)
