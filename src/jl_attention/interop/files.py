"""Targets from files, constructions to files; nothing is ever loaded with pickle.

A target comes as SciPy's sparse ``.npz``, as Matrix Market ``.mtx`` or as a dense NumPy ``.npy``. A
construction goes to ``.npz`` or ``.safetensors`` (extra ``files``) as five arrays of one dtype:

- X (L, 2m), the input; W_Q and W_K (2m, m), the fixed parameters;
- Q = X W_Q and K = X W_K (L, m), what a kernel that divides by sqrt(m) takes: its logits are
  Q K^T / sqrt(m) = Lambda.

A reader looks at the sizes that a file claims before it allocates anything, so a truncated, lying
or hostile file costs a `FileError` and neither memory nor time.
"""

import io
import json
import math
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
from scipy import sparse

from ..attention import fixed_parameters
from ..errors import FileError, MissingFileError, TargetError, check_int, require
from ..targets import check_target, normalize_rows
from .atomic import write_atomically

MAX_BYTES = 2**30
"""Largest file, and largest unpacked content, that is read unless asked otherwise: 1 GiB."""

FORMAT = "jl-attention 1"
"""What a saved construction calls itself."""

_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    OverflowError,
    RuntimeError,
    NotImplementedError,
    MemoryError,
    SyntaxError,
    Warning,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the parsers of the standard library, NumPy and SciPy raise on malformed bytes."""


# --- Targets -------------------------------------------------------------------------------------


def read_target(path, *, normalize=False, max_bytes=MAX_BYTES):
    """Read a target from a file.

    Parameters
    ----------
    path : str or path
        ``.npz`` as `scipy.sparse.save_npz` writes it (csr, csc, coo, bsr or dia), ``.mtx`` in the
        Matrix Market format, or ``.npy`` with a dense matrix.
    normalize : bool, optional
        Divide each row by its sum, so that a 0/1 mask or counts will do.
    max_bytes : int, optional
        Refuse files that are, or unpack to, more than this.

    Returns
    -------
    scipy.sparse.csr_array of float64, shape (L, L)

    Raises
    ------
    FileError
        The file is missing, too large, truncated, holds Python objects or is no such file.
    TargetError
        It holds a matrix that is not right-stochastic; see `targets.check_target`.
    """
    path = Path(path)
    reader = _suffix(path, _TARGET_READERS)
    content = _read_bytes(path, check_int("max_bytes", max_bytes))
    try:
        matrix = reader(content, max_bytes)
        if normalize:
            matrix = normalize_rows(matrix)
    except FileError as error:
        raise FileError(f"{path}: {error}") from None
    except TargetError as error:
        raise TargetError(f"{path}: {error}") from None
    except _UNREADABLE as error:
        raise FileError(f"{path}: not a readable {path.suffix} file: {_reason(error)}") from None
    return check_target(matrix, name=str(path))


def _read_npy_target(content, max_bytes):
    return _read_npy(io.BytesIO(content), len(content), "biuf")


def _read_npz_target(content, max_bytes):
    arrays = _read_npz(content, max_bytes)
    if not {"format", "shape", "data"} <= arrays.keys():
        raise FileError("not a sparse matrix of scipy.sparse.save_npz: " + _listed(arrays))
    form = arrays["format"].item()
    form = form.decode("ascii") if isinstance(form, bytes) else form
    if form not in ("csr", "csc", "coo", "bsr", "dia"):
        raise FileError(f"unknown sparse format {form!r}")
    shape = tuple(int(size) for size in arrays["shape"].ravel())
    data = arrays["data"]
    if data.dtype.kind not in "biuf" or data.ndim != {"bsr": 3, "dia": 2}.get(form, 1):
        raise FileError(f"data of dtype {data.dtype} and shape {data.shape} is not for {form}")
    _check_extent(shape, data.size)
    if form == "coo":
        rows, columns = (_indices(arrays, name, shape[0]) for name in ("row", "col"))
        return sparse.coo_array((data, (rows, columns)), shape=shape)
    if form == "dia":
        return sparse.dia_array(
            (data, _indices(arrays, "offsets", shape[0], signed=True)), shape=shape
        )
    indptr = _indices(arrays, "indptr", data.size + 1)
    triple = data, _indices(arrays, "indices", shape[0]), indptr
    kinds = {"csr": sparse.csr_array, "csc": sparse.csc_array, "bsr": sparse.bsr_array}
    return kinds[form](triple, shape=shape)


def _indices(arrays, name, bound, signed=False):
    """Return an index array as int64; entries in [0, bound), or in (-bound, bound) if signed."""
    if name not in arrays:
        raise FileError(f"the array {name!r} is missing; " + _listed(arrays))
    array = arrays[name]
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise FileError(f"{name} of shape {array.shape} and dtype {array.dtype} are not indices")
    smallest = 1 - bound if signed else 0
    if array.size and not smallest <= int(array.min()) <= int(array.max()) < bound:
        raise FileError(f"{name}: an index is outside the matrix")
    return array.astype(np.int64)


def _read_mtx_target(content, max_bytes):
    """Parse Matrix Market; `scipy.io.mmread` may crash the interpreter on a truncated file."""
    lines = content.decode("latin-1").splitlines()
    banner = lines[0].lower().split() if lines else []
    if len(banner) != 5 or banner[:2] != ["%%matrixmarket", "matrix"]:
        raise FileError("the first line is not '%%MatrixMarket matrix layout field symmetry'")
    layout, field, symmetry = banner[2:]
    if layout not in ("coordinate", "array") or symmetry not in ("general", "symmetric"):
        raise FileError(f"a matrix of layout {layout!r}, {symmetry!r} is not read")
    if field not in ("real", "double", "integer", "pattern")[: 4 if layout == "coordinate" else 3]:
        raise FileError(f"entries of field {field!r} are not read")
    size, *body = (line.split() for line in lines[1:] if line.strip() and line[0] != "%")
    coordinate, symmetric = layout == "coordinate", symmetry == "symmetric"
    if len(size) != 2 + coordinate or not all(word.isdecimal() for word in size):
        raise FileError(f"the line of sizes is {' '.join(size)[:80]!r}")
    length, columns, *entries = map(int, size)
    # A coordinate line is "row column value", an array line one value of a column.
    triangle = length * (length + 1) // 2
    announced = entries[0] if coordinate else triangle if symmetric else length * columns
    if announced != len(body):
        raise FileError(f"truncated: {announced} entries are announced, {len(body)} lines follow")
    _check_extent((length, columns), 2 * announced)
    width = 1 + coordinate * (1 if field == "pattern" else 2)
    # Long words are refused before they make an array of long words.
    if not all(len(line) == width and _is_short(line) for line in body):
        raise FileError(f"an entry is not {width} numbers")
    words = np.array(body)
    if coordinate:
        i, j = words[:, :2].astype(np.int64).T - 1
        if min(i.min(), j.min()) < 0 or max(i.max(), j.max()) >= length:
            raise FileError("an index is outside the matrix")
        values = np.ones(announced) if field == "pattern" else words[:, 2].astype(np.float64)
    else:
        j, i = np.triu_indices(length) if symmetric else np.divmod(np.arange(announced), length)
        values = words[:, 0].astype(np.float64)
    if symmetric:
        if (i < j).any():
            raise FileError("a symmetric matrix has an entry above the diagonal")
        mirrored = i != j
        i, j = np.append(i, j[mirrored]), np.append(j, i[mirrored])
        values = np.append(values, values[mirrored])
    return sparse.coo_array((values, (i, j)), shape=(length, length))


def _is_short(words):
    return all(len(word) <= 40 and "_" not in word for word in words)


def _check_extent(shape, entries):
    """Refuse a shape that cannot be a target's before anything of its size is allocated."""
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 1:
        raise TargetError(f"has shape {shape}; expected a square matrix (L, L)")
    if shape[0] > entries:
        raise TargetError(f"has {shape[0]} rows and at most {entries} entries: some row is empty")


_TARGET_READERS = {".npz": _read_npz_target, ".mtx": _read_mtx_target, ".npy": _read_npy_target}


# --- Constructions -------------------------------------------------------------------------------


def save(built, path, *, full=True):
    """Write a construction as ``.npz`` or ``.safetensors``, atomically.

    The file appears whole or not at all; one that was there before is replaced.

    Parameters
    ----------
    built : constructions.Construction
    path : str or path

    Raises
    ------
    FileError
        Another suffix, or a directory that does not exist or cannot be written to.
    MissingExtraError
        ``.safetensors`` without safetensors.
    """
    path, writer = Path(path), check_writable(path)
    settings = {name: getattr(built, name) for name in _SETTINGS}
    content = writer(arrays(built), json.dumps({"format": FORMAT, **settings}))
    try:
        write_atomically(path, content)
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {_reason(error)}") from None


def check_writable(path):
    """Return the function that encodes for `save`, or raise `FileError` where it would."""
    path = Path(path)
    writer = _suffix(path, _WRITERS)
    if path.suffix.lower() == ".safetensors":
        _safetensors()
    if path.is_dir() or not path.parent.is_dir():
        reason = "is a directory" if path.is_dir() else f"there is no directory {path.parent}"
        raise FileError(f"{path}: cannot be written: {reason}")
    return writer


def load(path, *, max_bytes=MAX_BYTES):
    """Read what `save` wrote; `constructions.Construction.load` makes a construction of it.

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
        The file is missing, too large, truncated, holds Python objects, or is not a construction:
        an array is missing, has another shape, is not finite, or W_Q and W_K are not the fixed
        parameters, or Q and K not what they make of X.
    """
    path = Path(path)
    reader = _suffix(path, _READERS)
    content = _read_bytes(path, check_int("max_bytes", max_bytes))
    try:
        stored, settings = reader(content, max_bytes)
        queries, keys = _halves(stored)
        return {"queries": queries, "keys": keys, **_settings(settings)}
    except FileError as error:
        raise FileError(f"{path}: {error}") from None
    except _UNREADABLE as error:
        raise FileError(f"{path}: not a readable {path.suffix} file: {_reason(error)}") from None


def arrays(built):
    """Return what a file of a construction holds: a dict of X, W_Q, W_K, Q, K.

    Q = X W_Q and K = X W_K, so that a kernel which divides Q K^T by sqrt(m) has the logits Lambda.
    """
    scale = np.asarray(built.dim**0.25, dtype=built.queries.dtype)
    return {
        "X": built.X,
        "W_Q": built.W_Q,
        "W_K": built.W_K,
        "Q": scale * built.queries,
        "K": scale * built.keys,
    }


_SETTINGS = {
    "method": str,
    "ratio_error": float,
    "leak": float,
    "failure_prob": float,
    "logit_scale": float,
}


def _settings(text):
    settings = json.loads(text)
    if not isinstance(settings, dict) or settings.pop("format", None) != FORMAT:
        raise FileError(f"not a construction in the format {FORMAT!r}")
    if settings.keys() != _SETTINGS.keys():
        raise FileError(f"settings {sorted(settings)}: expected {sorted(_SETTINGS)}")
    for name, kind in _SETTINGS.items():
        value = settings[name]
        if not isinstance(value, kind) or (kind is float and not math.isfinite(value)):
            raise FileError(f"{name}={value!r}: expected a {kind.__name__}")
    return settings


def _halves(stored):
    """Return (queries, keys) from X, having checked the arrays against each other."""
    missing = {"X", "W_Q", "W_K", "Q", "K"} - stored.keys()
    if missing:
        raise FileError(f"not a construction: {sorted(missing)} missing; " + _listed(stored))
    X = stored["X"]
    if X.dtype not in (np.float64, np.float32) or X.ndim != 2 or X.shape[1] % 2 or 0 in X.shape:
        raise FileError(f"X of shape {X.shape} and dtype {X.dtype}: expected (L, 2m) of floats")
    length, dim = X.shape[0], X.shape[1] // 2
    if stored["W_Q"].shape != (2 * dim, dim):  # before parameters of X's size are made
        raise FileError(f"W_Q of shape {stored['W_Q'].shape}: expected {(2 * dim, dim)}")
    if not np.isfinite(X).all():
        raise FileError(f"X: row {int(np.argmin(np.isfinite(X).all(axis=1)))}: is not finite")
    queries, keys = np.ascontiguousarray(X[:, :dim]), np.ascontiguousarray(X[:, dim:])
    W_Q, W_K = fixed_parameters(dim, X.dtype)
    scale = np.asarray(dim**0.25, dtype=X.dtype)
    wanted = {"W_Q": W_Q, "W_K": W_K, "Q": scale * queries, "K": scale * keys}
    for name, array in wanted.items():
        if stored[name].shape != array.shape or stored[name].dtype != X.dtype:
            raise FileError(
                f"{name} of shape {stored[name].shape} and dtype {stored[name].dtype}: expected "
                f"{array.shape} and {X.dtype} for X of {length} rows"
            )
        tolerance = 8 * np.finfo(X.dtype).eps
        if not np.allclose(stored[name], array, rtol=tolerance, atol=0):
            raise FileError(f"{name} does not belong to X")
    return queries, keys


def _write_npz(arrays, settings):
    buffer = io.BytesIO()
    np.savez(buffer, settings=np.array(settings), **arrays)
    return buffer.getbuffer()


def _load_npz(content, max_bytes):
    stored = _read_npz(content, max_bytes)
    if "settings" not in stored:
        raise FileError("not a construction: its settings are missing; " + _listed(stored))
    return stored, str(stored.pop("settings").item())


def _write_safetensors(arrays, settings):
    # Arrays that are not C-contiguous would be scrambled.
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return _safetensors().numpy.save(contiguous, metadata={"jl_attention": settings})


def _load_safetensors(content, max_bytes):
    library = _safetensors()
    try:
        stored = library.numpy.load(content)
    except (library.SafetensorError, *_UNREADABLE) as error:
        raise FileError(f"not a readable .safetensors file: {_reason(error)}") from None
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return stored, header.get("__metadata__", {}).get("jl_attention", "null")


def _safetensors():
    require("safetensors.numpy", "files")
    return require("safetensors", "files")


_WRITERS = {".npz": _write_npz, ".safetensors": _write_safetensors}
_READERS = {".npz": _load_npz, ".safetensors": _load_safetensors}


# --- Bytes ---------------------------------------------------------------------------------------


def _suffix(path, known):
    """Return what `known` has for the suffix of the path, or refuse it."""
    if path.suffix.lower() not in known:
        raise FileError(f"{path}: unknown suffix {path.suffix!r}; expected {', '.join(known)}")
    return known[path.suffix.lower()]


def _read_bytes(path, max_bytes):
    """Return the content of a regular file of at most `max_bytes`."""
    try:
        if not path.exists():
            raise MissingFileError(f"{path}: no such file")
        if not path.is_file():
            raise FileError(f"{path}: is not a file")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path}: cannot be read: {_reason(error)}") from None
    if len(content) > max_bytes:
        raise FileError(f"{path}: more than max_bytes={max_bytes} bytes")
    return content


def _read_npz(content, max_bytes):
    """Return the arrays of a NumPy .npz archive, a dict; text and real numbers only."""
    found = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > max_bytes:
            raise FileError(f"unpacks to more than max_bytes={max_bytes} bytes")
        for member in members:
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise FileError(f"{member.filename}: unknown compression")
            with archive.open(member) as file:
                name = member.filename.removesuffix(".npy")
                found[name] = _read_npy(file, member.file_size, "biufSU")
    return found


def _read_npy(file, size, kinds):
    """Return the array of an open .npy file of `size` bytes whose dtype is of one of the kinds."""
    version = np.lib.format.read_magic(file)
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in headers:
        raise FileError(f"unknown version {version} of the .npy format")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NumPy warns of headers that it has to mend
        shape, fortran, dtype = headers[version](file)
    if dtype.hasobject:
        raise FileError("holds pickled Python objects, which are never loaded")
    if dtype.kind not in kinds or dtype.itemsize == 0 or min(shape, default=1) < 0:
        raise FileError(f"an array of dtype {dtype} and shape {shape} is not expected here")
    needed = dtype.itemsize * math.prod(shape)
    if needed > size:
        raise FileError(f"truncated: shape {shape} of {dtype} needs {needed} of {size} bytes")
    data = file.read(needed)
    if len(data) < needed:
        raise FileError(f"truncated: {len(data)} of {needed} bytes")
    return np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")


def _listed(arrays):
    return f"it holds {sorted(arrays)}"


def _reason(error):
    """Return what an error says in one short line, or its name if it says nothing."""
    text = getattr(error, "strerror", None) or str(error)
    lines = text.strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
