"""Targets from files, constructions to files; nothing is ever loaded with pickle.

A target comes as Matrix Market ``.mtx`` (``.mtx.gz``, ``.mtx.bz2``), as a sparse matrix of SciPy,
PyData or a graph benchmark in ``.npz``, or as a dense matrix or a stack of heads in ``.npy``,
``.npz`` or ``.safetensors``. A construction goes to ``.npz`` or ``.safetensors`` (extra ``files``)
as queries and keys (L, m) and the settings it was built with: softmax(queries keys^T) is the
attention. With ``full=True`` the file also has

- X (L, 2m), the input; W_Q and W_K (2m, m), the fixed parameters;
- Q = X W_Q and K = X W_K (L, m), what a kernel that divides by sqrt(m) takes: its logits are
  Q K^T / sqrt(m) = queries keys^T.
"""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from .. import targets
from ..attention import fixed_parameters
from ..errors import FileError, ParameterError, TargetError, check_int
from .containers import (
    MAX_BYTES,
    STDIN,
    NpzArchive,
    check_writable,
    decompress,
    errors_named,
    listed,
    read_arrays,
    read_content,
    read_npy,
    read_safetensors,
    suffix_of,
    write_arrays,
    write_content,
)
from .matrix_market import read_matrix_market

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..head import Construction

__all__ = [
    "FORMAT",
    "MAX_BYTES",
    "STDIN",
    "arrays",
    "check_writable",
    "load",
    "read_matrix",
    "read_target",
    "save",
    "write_target",
]

FORMAT = "jl-attention 2"
"""What a saved construction calls itself."""

FORMAT_1 = "jl-attention 1"
"""What it called itself when X, W_Q, W_K, Q and K were in the file instead of queries and keys."""

CONVENTION = "attention = softmax(queries keys^T) = softmax(Q K^T / sqrt(m)), Q = m^(1/4) queries"
"""What is written beside the arrays, for whoever finds the file."""


# --- Targets -------------------------------------------------------------------------------------


def read_target(
    path: str | Path,
    *,
    normalize: bool = False,
    max_bytes: int = MAX_BYTES,
    array: str | None = None,
    head: int | tuple[int, ...] | None = None,
    mask: str | None = None,
    top_k: int | None = None,
    threshold: float | None = None,
    self_loops: bool = False,
    padding: str | None = None,
) -> sparse.csr_array | targets.MappedTarget:
    """Read a target from a file.

    Parameters
    ----------
    path : str or path
        ``.mtx`` in the Matrix Market format, also ``.mtx.gz`` and ``.mtx.bz2``; ``.npz`` as
        `scipy.sparse.save_npz` (csr, csc, coo, bsr or dia) or PyData's ``sparse.save_npz`` write
        it, with data, indices, indptr and shape under a common prefix, or with dense arrays;
        ``.npy``; or ``.safetensors`` (extra ``files``). "-" is the standard input, in any of these.
        A directory that `targets.write_mapped` wrote stays on disk, and takes no option.
    normalize : bool, optional
        Divide each row by its sum, so that a 0/1 mask or counts will do.
    max_bytes : int, optional
        Refuse files that are, or unpack to, more than this.
    array : str, optional
        Which matrix of a file of several.
    head : int or tuple of int, optional
        Which matrix of a stack, as in `targets.from_attention`.
    mask : {"keep", "masked", "additive"}, optional
        The file holds a mask of this convention, see `targets.from_mask`.
    top_k, threshold : optional
        Keep the largest entries only and renormalise, as `targets.from_attention`.
    self_loops : bool, optional
        Let a token that does not attend to itself do so, with weight 1, and renormalise.
    padding : {"drop", "self", "uniform"}, optional
        What tokens with an empty row do, as in `targets.normalize_rows`.

    Returns
    -------
    scipy.sparse.csr_array of float64, shape (L, L), or targets.MappedTarget

    Raises
    ------
    FileError
        The file is too large, truncated, holds Python objects or is no such file.
    MissingFileError
        There is no such file.
    MissingExtraError
        ``.safetensors`` without safetensors.
    TargetError
        It holds a matrix that is not right-stochastic; see `targets.check_target`.
    ParameterError
        An option is out of range, or does not go with another.
    """
    if path != STDIN and (Path(path) / "indptr.npy").is_file():
        told = (normalize, array, head, mask, top_k, threshold, self_loops, padding)
        if any(value not in (None, False) for value in told):
            raise ParameterError(f"{path}: a target that stays on disk is read as it is there")
        return targets.MappedTarget(path)
    if mask is not None and (top_k is not None or threshold is not None):
        raise ParameterError("mask: its entries are alike; top_k and threshold are for weights")
    name = "the standard input" if path == STDIN else str(path)
    weights = read_matrix(path, max_bytes=check_int("max_bytes", max_bytes), array=array)
    weights = targets.choose_head(weights, head, name)
    if mask is not None:
        return targets.from_mask(weights, mask, self_loops=self_loops, padding=padding, name=name)
    if self_loops:
        weights = targets.with_self_loops(weights, name=name)
    if top_k is not None or threshold is not None:
        return targets.from_attention(
            weights, top_k, threshold=threshold, padding=padding, name=name
        )
    if normalize or self_loops:
        return targets.normalize_rows(weights, padding=padding, name=name)
    if padding is not None:
        weights = targets.pad_rows(weights, padding, name=name)
    return targets.check_target(weights, name=name)


def read_matrix(
    path: str | Path, *, max_bytes: int = MAX_BYTES, array: str | None = None
) -> np.ndarray | sparse.sparray:
    """Return the matrix or the stack that a file holds, as it is there.

    Parameters, `FileError` and `MissingFileError` as in `read_target`.

    Returns
    -------
    ndarray, or sparse array of SciPy
    """
    known = [*_TARGET_READERS, *_PACKED]
    suffix, content = read_content(path, max_bytes, known)
    with errors_named(path, suffix):
        if suffix in _PACKED:
            content = decompress(content, suffix, max_bytes)
            suffix = _PACKED[suffix]
        return _TARGET_READERS[suffix](content, max_bytes, array)


def _read_npy(content, max_bytes, array):
    _refuse_name(array)
    return read_npy(io.BytesIO(content))


def _read_mtx(content, max_bytes, array):
    _refuse_name(array)
    return read_matrix_market(content, _check_extent)


def _read_safetensors(content, max_bytes, array):
    tensors, _ = read_safetensors(content)
    dense = {name: tensors.__getitem__ for name in tensors if _is_stack(tensors[name].shape)}
    return _only(dense, array, tensors)


def _read_npz(content, max_bytes, array):
    archive = NpzArchive(content, max_bytes)
    if "settings" in archive:
        raise FileError("it is a construction, not a target")
    if {"coords", "shape", "data"} <= archive.keys():
        _refuse_name(array)
        return _pydata_matrix(archive)
    if {"format", "shape", "data"} <= archive.keys() and "compressed_axes" not in archive:
        _refuse_name(array)
        return _scipy_matrix(archive)
    found = {}
    for indptr in (name for name in archive if name.endswith("indptr")):
        prefix = indptr.removesuffix("indptr")
        if {prefix + part for part in ("data", "indices", "shape")} <= archive.keys():
            shape = _shape(archive, prefix)
            if len(shape) == 2 and shape[0] == shape[1]:
                found[prefix.rstrip("_")] = lambda _, prefix=prefix: _csr_matrix(archive, prefix)
    if not found:
        found = {name: archive.__getitem__ for name in archive if _is_stack(archive.shape_of(name))}
    return _only(found, array, archive)


def _is_stack(shape):
    return len(shape) >= 2 and shape[-1] == shape[-2]


def _refuse_name(array):
    """Refuse to choose where there is nothing to choose."""
    if array is not None:
        raise FileError(f"array={array!r}: the file holds one matrix, which has no name")


def _only(found, name, arrays):
    """Return the matrix of that name, or the only one."""
    if name is None:
        if len(found) != 1:
            several = f"{len(found)} of them, array= (--array) chooses one: {sorted(found)}"
            raise FileError(f"no square matrix; {listed(arrays)}" if not found else several)
        (name,) = found
    elif name not in found:
        raise FileError(f"array={name!r}: is no square matrix here; these are: {sorted(found)}")
    return found[name](name)


def _scipy_matrix(archive):
    """Return what `scipy.sparse.save_npz` wrote."""
    form = archive["format"].item()
    form = form.decode("ascii") if isinstance(form, bytes) else form
    if form not in ("csr", "csc", "coo", "bsr", "dia"):
        raise FileError(f"unknown sparse format {form!r}")
    shape, data = _shape(archive), archive["data"]
    if data.ndim != {"bsr": 3, "dia": 2}.get(form, 1):
        raise FileError(f"data of dtype {data.dtype} and shape {data.shape} is not for {form}")
    data = _reals(data)
    _check_extent(shape, data.size)
    if form == "coo":
        rows, columns = (_indices(archive, name, shape[0]) for name in ("row", "col"))
        return sparse.coo_array((data, (rows, columns)), shape=shape)
    if form == "dia":
        offsets = _indices(archive, "offsets", shape[0], signed=True)
        return sparse.dia_array((data, offsets), shape=shape)
    return _compressed(archive, form, shape, data)


def _pydata_matrix(archive):
    """Return what PyData's ``sparse.save_npz`` wrote of a COO array."""
    _check_fill(archive)
    shape, data, coords = _shape(archive), _reals(archive["data"]), archive["coords"]
    _check_extent(shape, data.size)
    if coords.dtype.kind not in "iu" or coords.shape != (2, data.size):
        raise FileError(f"coords of shape {coords.shape} and dtype {coords.dtype} are not indices")
    return sparse.coo_array((data, tuple(coords.astype(np.int64))), shape=shape)


def _csr_matrix(archive, prefix):
    """Return data, indices, indptr and shape under a prefix, as graph benchmarks have them."""
    _check_fill(archive)
    form = "csr"
    if "compressed_axes" in archive:  # PyData's GCXS
        form = {(0,): "csr", (1,): "csc"}.get(tuple(archive["compressed_axes"].tolist()))
        if form is None:
            raise FileError("compressed_axes: neither rows nor columns")
    shape, data = _shape(archive, prefix), _reals(archive[prefix + "data"])
    _check_extent(shape, data.size)
    return _compressed(archive, form, shape, data, prefix)


def _compressed(archive, form, shape, data, prefix=""):
    indptr = _indices(archive, prefix + "indptr", data.size + 1)
    triple = data, _indices(archive, prefix + "indices", shape[0]), indptr
    kinds = {"csr": sparse.csr_array, "csc": sparse.csc_array, "bsr": sparse.bsr_array}
    return kinds[form](triple, shape=shape)


def _reals(data):
    """Return the values of a sparse matrix as float64, before SciPy may add any of them up."""
    if data.dtype.kind not in "biuf":
        raise FileError(f"data of dtype {data.dtype} and shape {data.shape}: not real numbers")
    with np.errstate(over="ignore"):
        return data.astype(np.float64)


def _shape(archive, prefix=""):
    shape = archive[prefix + "shape"]
    if shape.dtype.kind not in "iu":
        raise FileError(f"{prefix}shape of dtype {shape.dtype}: expected two integers")
    return tuple(int(size) for size in shape.ravel())


def _check_fill(archive):
    if "fill_value" in archive and archive["fill_value"].item() != 0:
        raise FileError(f"its fill_value is {archive['fill_value'].item()}, not 0")


def _indices(archive, name, bound, signed=False):
    """Return an index array as int64; entries in [0, bound), or in (-bound, bound) if signed."""
    if name not in archive:
        raise FileError(f"the array {name!r} is missing; " + listed(archive))
    array = archive[name]
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise FileError(f"{name} of shape {array.shape} and dtype {array.dtype} are not indices")
    smallest = 1 - bound if signed else 0
    if array.size and not smallest <= int(array.min()) <= int(array.max()) < bound:
        raise FileError(f"{name}: an index is outside the matrix")
    return array.astype(np.int64)


def _check_extent(shape, entries):
    """Refuse a shape that cannot be a target's before anything of its size is allocated."""
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 1:
        raise TargetError(f"has shape {shape}; expected a square matrix (L, L)")
    if shape[0] > entries:
        raise TargetError(f"has {shape[0]} rows and at most {entries} entries: some row is empty")


_TARGET_READERS = {
    ".npz": _read_npz,
    ".mtx": _read_mtx,
    ".npy": _read_npy,
    ".safetensors": _read_safetensors,
}
_PACKED = {".mtx.gz": ".mtx", ".mtx.bz2": ".mtx"}


def write_target(path: str | Path, target: ArrayLike | sparse.sparray) -> None:
    """Write a target to a file that `read_target` reads, atomically.

    Parameters
    ----------
    path : str or path
        ``.npz`` as SciPy's, ``.mtx``, or ``.npy`` with a dense matrix.
    target : array_like or sparse array, shape (L, L)
        Right-stochastic, see `targets.check_target`.

    Raises
    ------
    FileError
        Another suffix, or a directory that does not exist or cannot be written to.
    TargetError
        It is not right-stochastic.
    """
    suffix = suffix_of(path, None, _TARGET_WRITERS)
    target, content = targets.check_target(target), io.BytesIO()
    _TARGET_WRITERS[suffix](content, target)
    write_content(path, content.getbuffer())


def _write_mtx(file, target):
    from scipy.io import mmwrite

    mmwrite(file, target, precision=17, symmetry="general")


_TARGET_WRITERS = {
    ".npz": sparse.save_npz,
    ".mtx": _write_mtx,
    ".npy": lambda file, target: np.save(file, target.toarray()),
}


# --- Constructions -------------------------------------------------------------------------------


def save(built: Construction, path: str | Path, *, full: bool = False) -> None:
    """Write a construction as ``.npz`` or ``.safetensors``, atomically.

    The file appears whole or not at all; one that was there before is replaced.

    Parameters
    ----------
    built : Construction
    path : str or path
    full : bool, optional
        Also write X, W_Q, W_K, Q and K, see `arrays`; W_Q and W_K alone have 4 m^2 entries, most of
        them 0.

    Raises
    ------
    FileError
        Another suffix, or a directory that does not exist or cannot be written to.
    MissingExtraError
        ``.safetensors`` without safetensors.
    """
    settings = {name: getattr(built, name) for name in _SETTINGS}
    if built.total_variation is not None:
        settings["total_variation"] = built.total_variation
    text = json.dumps({"format": FORMAT, "convention": CONVENTION, **settings})
    stored = {"queries": built.queries, "keys": built.keys}
    write_arrays(path, stored | (arrays(built) if full else {}), text)


def load(path: str | Path, *, max_bytes: int = MAX_BYTES) -> dict:
    """Read what `save` wrote; `Construction.load` makes a construction of it.

    Parameters
    ----------
    path : str or path
    max_bytes : int, optional
        As in `read_target`.

    Returns
    -------
    dict
        The fields of a construction: queries, keys (L, m), and the settings it was built with.

    Raises
    ------
    FileError
        The file is too large, truncated, holds Python objects, or is not a construction: an array
        is missing, has another shape, is not finite, or X, W_Q, W_K, Q or K is there and does not
        belong to the queries and keys.
    MissingFileError
        There is no such file.
    """
    stored, text = read_arrays(path, check_int("max_bytes", max_bytes), "a construction")
    with errors_named(path):
        version, settings = _settings(text)
        if version == FORMAT_1:
            stored = _from_format_1(stored)
        return {**_halves(stored), **settings}


def arrays(built: Construction) -> dict[str, np.ndarray]:
    """Return a construction's X, W_Q, W_K, Q and K in a dict, as a full file holds them.

    Q = X W_Q and K = X W_K, so that a kernel which divides Q K^T by sqrt(m) has the logits Lambda.
    """
    return {name: getattr(built, name) for name in ("X", "W_Q", "W_K", "Q", "K")}


_SETTINGS = {
    "method": str,
    "ratio_error": float,
    "leak": float,
    "failure_prob": float,
    "logit_scale": float,
}
_OPTIONAL = {"total_variation": float}


def _settings(text):
    """Return the format's version and the settings."""
    settings = json.loads(text)
    version = settings.pop("format", None) if isinstance(settings, dict) else None
    if version not in (FORMAT, FORMAT_1):
        raise FileError(f"not a construction in the format {FORMAT!r}")
    settings.pop("convention", None)
    if not _SETTINGS.keys() <= settings.keys() <= _SETTINGS.keys() | _OPTIONAL.keys():
        raise FileError(f"settings {sorted(settings)}: expected {sorted(_SETTINGS)}")
    for name, value in settings.items():
        kind = (_SETTINGS | _OPTIONAL)[name]
        if not isinstance(value, kind) or (kind is float and not math.isfinite(value)):
            raise FileError(f"{name}={value!r}: expected a {kind.__name__}")
    return version, settings


def _from_format_1(stored):
    """Return the arrays with queries and keys, which were the halves of X."""
    missing = {"X", "W_Q", "W_K", "Q", "K"} - stored.keys()
    if missing:
        raise FileError(f"not a construction: {sorted(missing)} missing; " + listed(stored))
    X = stored["X"]
    if X.ndim != 2 or X.shape[1] % 2 or 0 in X.shape:
        raise FileError(f"X of shape {X.shape} and dtype {X.dtype}: expected (L, 2m) of floats")
    queries, keys = np.hsplit(X, 2)
    return {**stored, "queries": np.ascontiguousarray(queries), "keys": np.ascontiguousarray(keys)}


def _halves(stored):
    """Return queries and keys in a dict, having checked the arrays against each other."""
    missing = {"queries", "keys"} - stored.keys()
    if missing:
        raise FileError(f"not a construction: {sorted(missing)} missing; " + listed(stored))
    queries, keys = stored["queries"], stored["keys"]
    for name, array in (("queries", queries), ("keys", keys)):
        if array.dtype not in (np.float64, np.float32) or array.ndim != 2 or 0 in array.shape:
            raise FileError(
                f"{name} of shape {array.shape} and dtype {array.dtype}: expected (L, m) of "
                "float64 or float32"
            )
        finite = np.isfinite(array).all(axis=1)
        if not finite.all():
            raise FileError(f"{name}: row {int(np.argmin(finite))}: is not finite")
    if queries.shape != keys.shape or queries.dtype != keys.dtype:
        raise FileError(
            f"keys of shape {keys.shape} and dtype {keys.dtype}: the queries have {queries.shape} "
            f"and {queries.dtype}"
        )
    length, dim = queries.shape
    scale = np.asarray(dim**0.25, dtype=queries.dtype)
    wanted = {  # made only where the file has the like, of this shape
        "X": ((length, 2 * dim), lambda: np.hstack([queries, keys])),
        "W_Q": ((2 * dim, dim), lambda: fixed_parameters(dim, queries.dtype)[0]),
        "W_K": ((2 * dim, dim), lambda: fixed_parameters(dim, queries.dtype)[1]),
        "Q": ((length, dim), lambda: scale * queries),
        "K": ((length, dim), lambda: scale * keys),
    }
    for name, (shape, made) in wanted.items():
        if name not in stored:
            continue
        array = stored[name]
        if array.shape != shape or array.dtype != queries.dtype:
            raise FileError(
                f"{name} of shape {array.shape} and dtype {array.dtype}: expected {shape} and "
                f"{queries.dtype} for queries of shape {queries.shape}"
            )
        if not np.allclose(array, made(), rtol=8 * np.finfo(queries.dtype).eps, atol=0):
            raise FileError(f"{name} does not belong to the queries and keys")
    return {"queries": queries, "keys": keys}
