"""Sparse right-stochastic targets A: what self-attention is asked to approximate.

A target is an L x L matrix with nonnegative entries whose rows sum to 1. Its row support is
S_i = {j : A_ij > 0}, with at most k entries, and gamma bounds the ratio of the largest to the
smallest nonzero entry of a row. Every function here returns a `scipy.sparse.csr_array` of float64
in canonical form (sorted indices, no duplicates, no explicit zeros). The generators of `patterns`
can be called from here too.
"""

import numpy as np
from scipy import sparse

from .errors import TargetError, check_int
from .patterns import (
    banded,
    big_bird,
    block_diagonal,
    causal_window,
    permutation,
    regular,
    row_sparse,
    vertical_slash,
)

__all__ = [
    "ROW_SUM_TOLERANCE",
    "banded",
    "big_bird",
    "block_diagonal",
    "causal_window",
    "check_target",
    "column_counts",
    "from_attention",
    "from_graph",
    "normalize_rows",
    "permutation",
    "regular",
    "row_counts",
    "row_ratios",
    "row_sparse",
    "top_columns",
    "vertical_slash",
]

ROW_SUM_TOLERANCE = 1e-6
"""Largest accepted |sum_j A_ij - 1|; float32 targets pass, rounded percentages do not."""


def check_target(target, *, name="target"):
    """Return `target` as a canonical sparse right-stochastic matrix, or raise `TargetError`.

    Parameters
    ----------
    target : array_like or scipy.sparse array or matrix, shape (L, L)
        Real, finite, nonnegative, each row summing to 1 within `ROW_SUM_TOLERANCE` = 1e-6.
        Duplicate entries are added up, indices sorted, explicit zeros dropped; values are kept as
        they are (rows are not rescaled), so that the function is idempotent.
    name : str, optional
        What to call the argument in an error message.

    Returns
    -------
    scipy.sparse.csr_array of float64, shape (L, L)
        A copy; the argument is never changed.

    Raises
    ------
    TargetError
        Not numeric, complex, not two-dimensional, not square, empty, a NaN, infinite or negative
        entry, an empty row, or a row that does not sum to 1. Names the row and the reason.
    """
    matrix = _as_csr(target, name)
    length = matrix.shape[0]
    rows = np.repeat(np.arange(length), np.diff(matrix.indptr))
    for bad, reason in (
        (~np.isfinite(matrix.data), "is not finite"),
        (matrix.data < 0, "is negative"),
    ):
        if bad.any():
            at = int(np.argmax(bad))
            raise TargetError(
                f"{name}: row {rows[at]}: entry {matrix.data[at]} in column "
                f"{matrix.indices[at]} {reason}"
            )
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    empty = np.diff(matrix.indptr) == 0
    if empty.any():
        raise TargetError(f"{name}: row {int(np.argmax(empty))}: has no nonzero entry")
    with np.errstate(over="ignore"):
        sums = np.add.reduceat(matrix.data, matrix.indptr[:-1])
    off = ~(np.abs(sums - 1) <= ROW_SUM_TOLERANCE)
    if off.any():
        row = int(np.argmax(off))
        raise TargetError(
            f"{name}: row {row}: sums to {sums[row]:.9g}, not to 1 within {ROW_SUM_TOLERANCE:g}"
        )
    return matrix


def _as_csr(target, name):
    """Return a fresh float64 csr_array holding `target`, duplicates not yet added up."""
    if not sparse.issparse(target):
        try:
            target = np.asarray(target)
        except ValueError as error:
            raise TargetError(f"{name}: not a matrix: {error}") from None
    if target.dtype.kind not in "biuf":
        raise TargetError(f"{name}: entries of dtype {target.dtype} are not real numbers")
    if len(target.shape) != 2:
        raise TargetError(f"{name}: has shape {target.shape}; expected a matrix (L, L)")
    if target.shape[0] != target.shape[1]:
        raise TargetError(f"{name}: has shape {target.shape}; expected a square matrix (L, L)")
    if target.shape[0] == 0:
        raise TargetError(f"{name}: is empty")
    if sparse.issparse(target) and target.format in ("csr", "csc", "bsr"):
        _check_compressed(target, name)
    return sparse.csr_array(target, dtype=np.float64, copy=True)


def _check_compressed(matrix, name):
    """Refuse index arrays that SciPy's compiled loops would follow out of bounds."""
    height, width = matrix.blocksize if matrix.format == "bsr" else (1, 1)
    major, minor = matrix.shape[0] // height, matrix.shape[1] // width
    indptr, indices = matrix.indptr, matrix.indices
    if (
        len(indptr) != major + 1
        or indptr[0] != 0
        or (np.diff(indptr) < 0).any()
        or indptr[-1] > min(len(indices), len(matrix.data))
        or (len(indices) and not 0 <= indices.min() <= indices.max() < minor)
    ):
        raise TargetError(f"{name}: its index arrays are not those of a {matrix.format} matrix")


def normalize_rows(weights):
    """Divide each row of nonnegative weights by its sum and return the target.

    Parameters
    ----------
    weights : array_like or scipy.sparse array, shape (L, L)
        Nonnegative finite weights with a positive sum in every row.

    Returns
    -------
    scipy.sparse.csr_array of float64, shape (L, L)

    Raises
    ------
    TargetError
        As `check_target`; an empty row cannot be normalised.
    """
    matrix = _as_csr(weights, "weights")
    matrix.sum_duplicates()
    counts = np.diff(matrix.indptr)
    largest = np.ones(len(counts))
    some = counts > 0
    if some.any():
        largest[some] = np.maximum.reduceat(matrix.data, matrix.indptr[:-1][some])
        # Two steps, so that neither very large nor subnormal weights overflow.
        scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
        matrix.data /= np.repeat(scale, counts)
        sums = np.add.reduceat(matrix.data, matrix.indptr[:-1][some])
        matrix.data /= np.repeat(np.where(sums > 0, sums, 1.0), counts[some])
    return check_target(matrix, name="weights")


# --- What a target is like -----------------------------------------------------------------------


def row_counts(target):
    """Return |S_i| for each row of a checked target, shape (L,)."""
    return np.diff(target.indptr)


def column_counts(target):
    """Return the number of nonzeros in each column of a checked target, shape (L,)."""
    return np.bincount(target.indices, minlength=target.shape[1])


def row_ratios(target):
    """Return max/min over the nonzeros of each row of a checked target, shape (L,)."""
    start = target.indptr[:-1]
    return np.maximum.reduceat(target.data, start) / np.minimum.reduceat(target.data, start)


# --- From graphs and dense attention -------------------------------------------------------------


def from_graph(graph, self_loops=True):
    """Return the random-walk matrix of a graph: node i attends to its neighbours.

    Parameters
    ----------
    graph : networkx.Graph, or array_like or scipy.sparse array of shape (L, L)
        A NetworkX graph (nodes in its own order, edge attribute ``weight`` where present) or
        nonnegative adjacency weights.
    self_loops : bool, optional
        Add an edge of weight 1 from every node without one to itself, so that no row is empty.

    Returns
    -------
    scipy.sparse.csr_array, shape (L, L)

    Raises
    ------
    TargetError
        Negative or non-finite weights, or a node without an edge when `self_loops` is false.
    """
    if hasattr(graph, "adjacency"):
        import networkx  # an optional dependency: whoever has such a graph has it

        if graph.number_of_nodes() == 0:
            raise TargetError("graph: is empty")
        graph = networkx.to_scipy_sparse_array(graph, dtype=np.float64, format="csr")
    weights = _as_csr(graph, "graph")
    if self_loops:
        missing = (weights.diagonal() == 0).astype(np.float64)
        weights = weights + sparse.diags_array(missing, format="csr")
    return normalize_rows(weights)


def from_attention(attention, row_nnz):
    """Return the `row_nnz` largest entries of each row of a dense attention matrix, renormalised.

    Ties are broken in favour of the lower column index.

    Parameters
    ----------
    attention : array_like, shape (L, L)
        Nonnegative weights, as a softmax gives them.
    row_nnz : int
        k, between 1 and L; a row with fewer positive entries keeps those.

    Returns
    -------
    scipy.sparse.csr_array, shape (L, L)

    Raises
    ------
    TargetError
        As `check_target`.
    """
    dense = _as_csr(attention, "attention").toarray()
    bad = ~(np.isfinite(dense) & (dense >= 0)).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise TargetError(f"attention: row {row}: has a negative, NaN or infinite entry")
    columns = top_columns(dense, row_nnz)
    kept = np.zeros_like(dense)
    np.put_along_axis(kept, columns, np.take_along_axis(dense, columns, axis=1), axis=1)
    return normalize_rows(kept)


def top_columns(weights, row_nnz):
    """Return the columns of the `row_nnz` largest entries of each row, largest first.

    Ties are broken in favour of the lower column index.

    Parameters
    ----------
    weights : ndarray, shape (..., n)
    row_nnz : int
        k, between 1 and n.

    Returns
    -------
    ndarray of int, shape (..., k)

    Raises
    ------
    ParameterError
        `row_nnz` is out of range.

    Examples
    --------
    >>> top_columns(np.array([[0.1, 0.6, 0.3], [0.5, 0.0, 0.5]]), 2).tolist()
    [[1, 2], [0, 2]]
    """
    row_nnz = check_int("row_nnz", row_nnz, maximum=weights.shape[-1])
    return np.argsort(-weights, axis=-1, kind="stable")[..., :row_nnz]
