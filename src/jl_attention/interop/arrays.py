"""Other people's arrays and sparse matrices, as NumPy arrays and csr_arrays of float64.

Values become float64 before anything else is done to them: where a format change would add up
duplicates, it does so without wrapping around, and half precision, bfloat16 and foreign byte orders
are read like any other numbers. No library is imported here: whoever passes its objects has it.
"""

from __future__ import annotations

import numbers
import reprlib
import warnings
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from ..errors import TargetError

if TYPE_CHECKING:
    from typing import Any

__all__ = ["comes_from", "is_graph", "real_array", "real_csr"]

GRAPHS = ("networkx", "igraph", "rustworkx", "networkit", "graph_tool", "dgl", "torch_geometric")
"""Packages whose objects are graphs: `targets.from_graph` is for them."""


def comes_from(value: Any, package: str) -> bool:
    """Return whether an object is of a class of a package, or of a subclass."""
    return any(kind.__module__.partition(".")[0] == package for kind in type(value).__mro__)


def is_graph(value: Any) -> bool:
    """Return whether an object is a graph of a library that has them, and not an array."""
    known = any(comes_from(value, package) for package in GRAPHS) or hasattr(value, "adjacency")
    return known and not hasattr(value, "__array__")


def real_array(value: Any, name: str, error: type[Exception] = TargetError) -> np.ndarray:
    """Return real numbers of any library as a NumPy array of a native float, integer or bool.

    Parameters
    ----------
    value : array_like
        NumPy's own arrays of any real dtype and byte order (ml_dtypes' included), nested lists,
        PyTorch tensors (of any layout and device, requiring a gradient or not), pandas and
        whatever NumPy can convert. Masked entries, and those that a sparse array does not store,
        are 0. Of a pandas DataFrame whose index and columns hold the same labels, the columns are
        put into the order of the index.
    name : str
        What to call the argument in an error message.
    error : type, optional
        What to raise.

    Returns
    -------
    ndarray
        Not always a copy.
    """
    if is_graph(value):
        raise error(f"{name}: a graph, {type(value).__name__}; targets.from_graph reads graphs")
    if sparse.issparse(value) or _is_sparse(value):
        if len(value.shape) == 2:
            return real_csr(value, name, error, square=False).toarray()
        raise error(f"{name}: a sparse array of shape {tuple(value.shape)} is not read")
    try:
        if comes_from(value, "torch"):
            array = _from_torch(value)
        elif isinstance(value, (list, tuple)) and any(comes_from(part, "torch") for part in value):
            array = np.stack([real_array(part, name, error) for part in value])
        elif comes_from(value, "pandas"):
            array = _from_pandas(value)
        elif isinstance(value, np.ma.MaskedArray):
            array = np.where(np.ma.getmaskarray(value), np.zeros((), value.dtype), value.data)
        else:
            array = np.asarray(value)
    except Exception as reason:  # whatever a foreign library raises, ours names the argument
        raise _unreadable(value, name, error, reason) from None
    return _native(array, name, error)


def real_csr(
    value: Any, name: str, error: type[Exception] = TargetError, *, square: bool = True
) -> sparse.csr_array:
    """Return a matrix of any library as a fresh csr_array of float64; duplicates stay apart.

    Parameters
    ----------
    value : array_like or sparse array of SciPy, PyTorch or PyData, shape (n, L)
        As in `real_array`; what is dense is not made float64 before its zeros are dropped.
    name, error
        As in `real_array`.
    square : bool, optional
        Whether n has to be L, and L at least 1.

    Returns
    -------
    scipy.sparse.csr_array of float64
    """
    if comes_from(value, "torch") and _is_sparse(value):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the layout is young
            value = _guarded(_torch_to_scipy, value, name, error)
    elif comes_from(value, "sparse") and hasattr(value, "fill_value"):
        value = _guarded(_pydata_to_scipy, value, name, error)
    elif comes_from(value, "pandas"):
        value = _guarded(_sparse_pandas_to_scipy, value, name, error)
    if not sparse.issparse(value):
        value = real_array(value, name, error)
    _check_shape(tuple(value.shape), name, error, square)
    if not sparse.issparse(value):
        return _dense_to_csr(value)
    if value.dtype.kind not in "biufO":
        raise error(f"{name}: entries of dtype {value.dtype} are not real numbers")
    return _guarded(_scipy_to_csr, value, name, error)


def _check_shape(shape, name, error, square):
    if len(shape) != 2:
        raise error(f"{name}: has shape {shape}; expected a matrix (L, L){_shape_advice(shape)}")
    if square and shape[0] != shape[1]:
        raise error(f"{name}: has shape {shape}; expected a square matrix (L, L)")
    if square and shape[0] == 0:
        raise error(f"{name}: is empty")


def _shape_advice(shape):
    heads = len(shape) > 2 and shape[-1] == shape[-2]
    return "; head= (--head) chooses one of a stack" if heads else ""


def _guarded(convert, value, name, error):
    """Convert, and turn whatever goes wrong into our own error."""
    try:
        return convert(value)
    except Exception as reason:
        raise _unreadable(value, name, error, reason) from None


def _unreadable(value, name, error, reason):
    lines = str(reason).strip().splitlines()
    why = lines[0][:200] if lines else type(reason).__name__
    return error(f"{name}: not a matrix that can be read from {type(value).__name__}: {why}")


# --- Dense ---------------------------------------------------------------------------------------


def _native(array, name, error):
    """Return an array whose dtype is a real one that NumPy knows, in the machine's byte order."""
    dtype = array.dtype
    if dtype.kind == "O":
        return _from_objects(array, name, error)
    if dtype.kind == "V" and dtype.names is None and np.can_cast(dtype, np.float64):
        return array.astype(np.float64)  # one of ml_dtypes
    if dtype.kind not in "biuf":
        raw = dtype.kind == "V" and dtype.names is None
        advice = "; NumPy's files forget which format bfloat16 and its like are" if raw else ""
        raise error(f"{name}: entries of dtype {dtype} are not real numbers{advice}")
    if dtype.itemsize > 8:  # long double
        with np.errstate(over="ignore"):
            return array.astype(np.float64)
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def _from_objects(array, name, error):
    """Return an array of Python's numbers as float64."""
    if array.ndim == 0:
        raise error(f"{name}: a {type(array.item()).__name__} is not a matrix of real numbers")
    for at, item in np.ndenumerate(array):
        if not isinstance(item, (numbers.Real, np.bool_)):
            raise error(
                f"{name}: entries of dtype object are not real numbers: {reprlib.repr(item)} at "
                f"{at} is not"
            )
    try:
        return array.astype(np.float64)
    except OverflowError:
        raise error(f"{name}: an entry is too large for float64") from None


def _dense_to_csr(array):
    """Return the nonzeros of a dense matrix of real numbers."""
    rows, columns = np.nonzero(array)
    indptr = np.zeros(len(array) + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=len(array)), out=indptr[1:])
    values = array[rows, columns].astype(np.float64)
    return sparse.csr_array((values, columns, indptr), shape=array.shape)


# --- SciPy's sparse formats ----------------------------------------------------------------------


def _scipy_to_csr(matrix):
    """Return a sparse matrix of SciPy as csr of float64, through triples unless it is csr."""
    if matrix.format == "csr":
        _check_compressed(matrix)
        triple = _floats(matrix.data), matrix.indices, matrix.indptr
        return sparse.csr_array(triple, shape=matrix.shape, copy=True)
    if matrix.format == "csc":
        _check_compressed(matrix)
        columns = np.repeat(np.arange(matrix.shape[1]), np.diff(matrix.indptr))
        stored = slice(0, matrix.indptr[-1])
        return _csr(matrix.indices[stored], columns, _floats(matrix.data[stored]), matrix.shape)
    if matrix.format == "bsr":
        _check_compressed(matrix)
        triple = _floats(matrix.data), matrix.indices, matrix.indptr
        coo = sparse.bsr_array(triple, shape=matrix.shape).tocoo(copy=False)
    elif matrix.format == "dia":
        diagonals = _floats(matrix.data), matrix.offsets
        coo = sparse.dia_array(diagonals, shape=matrix.shape).tocoo(copy=False)
    elif matrix.format == "dok":
        at = np.array(list(matrix.keys()), dtype=np.int64).reshape(-1, 2)
        return _csr(*at.T, _floats(list(matrix.values())), matrix.shape)
    elif matrix.format == "lil":
        rows = np.repeat(np.arange(matrix.shape[0]), [len(row) for row in matrix.rows])
        columns = np.array([column for row in matrix.rows for column in row], dtype=np.int64)
        values = [value for row in matrix.data for value in row]
        return _csr(rows, columns, _floats(values), matrix.shape)
    else:
        coo = matrix
    return _csr(coo.row, coo.col, _floats(coo.data), matrix.shape)


def _floats(data):
    data = np.asarray(data)
    if data.dtype.kind == "O" and not all(isinstance(item, numbers.Real) for item in data.flat):
        raise TypeError("its entries are not real numbers")
    with np.errstate(over="ignore"):
        return data.astype(np.float64)


def _csr(rows, columns, values, shape):
    """Return a csr_array from triples, in their order within a row and without adding any up."""
    for index, size in zip((rows, columns), shape, strict=True):
        if len(index) != len(values):
            raise ValueError("its index arrays are not as long as its data")
        if len(index) and not 0 <= index.min() <= index.max() < size:
            raise ValueError("an index is outside the matrix")
    indptr = np.zeros(shape[0] + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=shape[0]), out=indptr[1:])
    order = np.argsort(rows, kind="stable")
    return sparse.csr_array((values[order], columns[order], indptr), shape=shape)


def _check_compressed(matrix):
    """Refuse index arrays that SciPy's compiled loops would follow out of bounds."""
    height, width = matrix.blocksize if matrix.format == "bsr" else (1, 1)
    major, minor = matrix.shape[0] // height, matrix.shape[1] // width
    if matrix.format == "csc":
        major, minor = minor, major
    indptr, indices = matrix.indptr, matrix.indices
    if (
        indptr.dtype.kind not in "iu"
        or indices.dtype.kind not in "iu"
        or len(indptr) != major + 1
        or indptr[0] != 0
        or (np.diff(indptr.astype(np.int64)) < 0).any()
        or indptr[-1] > min(len(indices), len(matrix.data))
        or (len(indices) and not 0 <= indices.min() <= indices.max() < minor)
    ):
        raise ValueError(f"its index arrays are not those of a {matrix.format} matrix")


# --- Other libraries -----------------------------------------------------------------------------


def _is_sparse(value):
    """Return whether an object is a sparse array of PyTorch or PyData."""
    if comes_from(value, "torch"):
        return "sparse" in str(getattr(value, "layout", "")) or bool(
            getattr(value, "is_sparse", False)
        )
    return comes_from(value, "sparse") and hasattr(value, "fill_value")


def _from_torch(tensor):
    """Return a dense tensor of PyTorch as a NumPy array, exactly."""
    import torch

    if type(tensor).__name__ == "MaskedTensor":
        tensor = tensor.to_tensor(0)
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point() and tensor.dtype not in (
        torch.float64,
        torch.float32,
        torch.float16,
    ):
        tensor = tensor.to(torch.float32)  # bfloat16 and the formats of 8 bits
    return tensor.resolve_conj().resolve_neg().numpy()


def _torch_to_scipy(tensor):
    """Return a sparse matrix of PyTorch as one of SciPy."""
    import torch

    tensor = tensor.detach().cpu()
    if tensor.is_complex():
        raise TypeError(f"entries of dtype {tensor.dtype} are not real numbers")
    tensor = tensor.to(torch.float64)
    if tensor.layout == torch.sparse_csr and tensor.ndim == 2:
        parts = tensor.values(), tensor.col_indices(), tensor.crow_indices()
        return sparse.csr_array(tuple(part.numpy() for part in parts), shape=tuple(tensor.shape))
    if tensor.layout == torch.sparse_csc and tensor.ndim == 2:
        parts = tensor.values(), tensor.row_indices(), tensor.ccol_indices()
        return sparse.csc_array(tuple(part.numpy() for part in parts), shape=tuple(tensor.shape))
    if tensor.layout != torch.sparse_coo:
        tensor = tensor.to_sparse_coo()
    if tensor.ndim != 2 or tensor.sparse_dim() != 2:
        raise ValueError(f"a sparse tensor of shape {tuple(tensor.shape)} is not read")
    rows, columns = tensor._indices().numpy()  # as they are: coalescing would not be ours
    return sparse.coo_array((tensor._values().numpy(), (rows, columns)), shape=tuple(tensor.shape))


def _pydata_to_scipy(array):
    """Return a sparse array of PyData as one of SciPy."""
    if not array.fill_value == 0:
        raise ValueError(f"its fill_value is {array.fill_value}, not 0")
    array = array.asformat("coo")
    if array.ndim != 2:
        raise ValueError(f"a sparse array of shape {array.shape} is not read")
    rows, columns = np.asarray(array.coords)
    values = _floats(array.data) if array.data.dtype.kind in "biufO" else array.data
    return sparse.coo_array((values, (rows, columns)), shape=array.shape)


def _from_pandas(frame):
    """Return a DataFrame or Series as an array; missing values are NaN."""
    if not hasattr(frame, "columns"):
        return frame.to_numpy()
    frame = _in_index_order(frame)
    for label, dtype in frame.dtypes.items():
        if dtype.kind not in "biufO":
            raise TypeError(f"column {label!r} of dtype {dtype} does not hold real numbers")
    if any(dtype.kind == "O" for dtype in frame.dtypes):
        return frame.to_numpy(dtype=object)
    return frame.to_numpy(dtype=np.float64, na_value=np.nan)


def _sparse_pandas_to_scipy(frame):
    """Return a DataFrame of sparse columns as a matrix of SciPy, and anything else as it is."""
    if not hasattr(frame, "columns") or not len(frame.columns):
        return frame
    if not all(hasattr(dtype, "subtype") and dtype.kind in "biuf" for dtype in frame.dtypes):
        return frame
    if any(dtype.fill_value != 0 for dtype in frame.dtypes):
        return frame
    return _in_index_order(frame).sparse.to_coo()


def _in_index_order(frame):
    """Return a DataFrame with its columns in the order of its index where both name the tokens."""
    index, columns = frame.index, frame.columns
    named = index.is_unique and columns.is_unique and len(index) == len(columns)
    if named and not index.equals(columns) and index.isin(columns).all():
        return frame[list(index)]
    return frame
