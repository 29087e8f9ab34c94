"""Sparse right-stochastic targets A: what self-attention is asked to approximate.

A target is an L x L matrix with nonnegative entries whose rows sum to 1. Its row support is
S_i = {j : A_ij > 0}, with at most k entries, and gamma bounds the ratio of the largest to the
smallest nonzero entry of a row. Every function here returns a `scipy.sparse.csr_array` of float64
in canonical form (sorted indices, no duplicates, no explicit zeros). The generators of `patterns`
can be called from here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from .engine import support_blocks
from .errors import ParameterError, TargetError, check_choice, check_int, check_real
from .interop.arrays import real_array, real_csr
from .interop.graphs import edges_of, read_edge_index
from .interop.mapped import MappedTarget, write_mapped
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

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike

__all__ = [
    "CONVENTIONS",
    "PADDINGS",
    "ROW_SUM_TOLERANCE",
    "MappedTarget",
    "banded",
    "big_bird",
    "block_diagonal",
    "causal_window",
    "check_target",
    "choose_head",
    "column_counts",
    "from_attention",
    "from_edges",
    "from_graph",
    "from_mask",
    "normalize_rows",
    "opened_or_checked",
    "pad_rows",
    "permutation",
    "regular",
    "row_counts",
    "row_ratios",
    "row_sparse",
    "top_columns",
    "vertical_slash",
    "with_self_loops",
    "write_mapped",
]

ROW_SUM_TOLERANCE = 1e-6
"""Largest accepted |sum_j A_ij - 1|; float32 targets pass, rounded percentages do not."""

BLOCKED_LOGIT = -1e4
"""What is added to a logit that is to vanish is at most this: -10 000 was BERT's."""

CONVENTIONS = ("keep", "masked", "additive")
"""What a mask may mean, see `from_mask`."""

PADDINGS = ("drop", "self", "uniform")
"""What a token with an empty row may do, see `normalize_rows`."""

BLOCK_BYTES = 2**24
"""Memory for one block of rows whose entries are sorted."""


def check_target(target: ArrayLike | sparse.sparray, *, name: str = "target") -> sparse.csr_array:
    """Return `target` as a canonical sparse right-stochastic matrix, or raise `TargetError`.

    Parameters
    ----------
    target : array_like or sparse array, shape (L, L)
        Real, finite, nonnegative, each row summing to 1 within `ROW_SUM_TOLERANCE` = 1e-6. NumPy
        arrays of any real dtype, masked ones too, nested lists, all formats of SciPy, PyTorch
        tensors of any layout, PyData's sparse arrays and pandas are read; values become float64
        first. Then duplicate entries are added up, indices sorted, explicit zeros dropped; values
        are kept as they are (rows are not rescaled), so that the function is idempotent.
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
    matrix = real_csr(target, name)
    _check_entries(matrix, name)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    binary = _is_binary(matrix)
    _check_rows(matrix, name, binary)
    sums = _row_sums(matrix)
    off = ~(np.abs(sums - 1) <= ROW_SUM_TOLERANCE)
    if off.any():
        row = int(np.argmax(off))
        advice = "normalize_rows (--normalize) divides each row by its sum"
        if binary:
            advice = f"it looks like a mask: {advice}, from_mask (--mask) reads other conventions"
        raise TargetError(
            f"{name}: row {row}: sums to {sums[row]:.9g}, not to 1 within {ROW_SUM_TOLERANCE:g}; "
            + advice
        )
    return matrix


def opened_or_checked(
    target: ArrayLike | sparse.sparray | MappedTarget, *, name: str = "target"
) -> sparse.csr_array | MappedTarget:
    """Return a `MappedTarget`, which was checked when it was opened, or what `check_target` does.

    Parameters and errors as in `check_target`.
    """
    return target if isinstance(target, MappedTarget) else check_target(target, name=name)


def normalize_rows(
    weights: ArrayLike | sparse.sparray, *, padding: str | None = None, name: str = "weights"
) -> sparse.csr_array:
    """Divide each row of nonnegative weights by its sum and return the target.

    Parameters
    ----------
    weights : array_like or sparse array, shape (L, L)
        Nonnegative finite weights, read as in `check_target`: duplicates are added up in float64.
    padding : {"drop", "self", "uniform"}, optional
        What to do with tokens whose row is empty, as padded tokens' rows are: leave them out (rows
        and columns, so that L shrinks; nobody may attend to them), let them attend to themselves,
        or to all tokens alike. If None they are refused.
    name : str, optional
        What to call the argument in an error message.

    Returns
    -------
    scipy.sparse.csr_array of float64, shape (L, L)

    Raises
    ------
    TargetError
        As `check_target`, but for the sums of rows.

    Examples
    --------
    >>> normalize_rows([[3, 1], [0, 0]], padding="self").toarray().tolist()
    [[0.75, 0.25], [0.0, 1.0]]
    """
    matrix = real_csr(weights, name)
    _check_entries(matrix, name)
    binary = _is_binary(matrix)
    # Two steps, so that neither very large nor subnormal weights overflow.
    matrix.data /= np.repeat(_row_maxima(matrix), np.diff(matrix.indptr))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if padding is not None:
        matrix = _pad(matrix, padding, name)
    _check_rows(matrix, name, binary)
    matrix.data /= np.repeat(_row_sums(matrix), np.diff(matrix.indptr))
    matrix.eliminate_zeros()  # what has underflowed
    return matrix


def _check_entries(matrix, name):
    """Refuse entries that are negative or not finite, naming the row and the column."""
    for bad, reason in (
        (~np.isfinite(matrix.data), "is not finite"),
        (matrix.data < 0, "is negative"),
    ):
        if bad.any():
            at = int(np.argmax(bad))
            row = _row_of(matrix, at)
            message = f"{name}: row {row}: entry {matrix.data[at]} in column {matrix.indices[at]}"
            if (matrix.data[bad] <= BLOCKED_LOGIT).all():
                reason += ", as in an additive mask; from_mask (--mask additive) reads one"
            raise TargetError(f"{message} {reason}")


def _row_of(matrix, at):
    """Return the row that the entry at a place of ``matrix.data`` is in."""
    return int(np.searchsorted(matrix.indptr, at, side="right")) - 1


def _check_rows(matrix, name, binary):
    """Refuse a matrix with an empty row, naming it."""
    empty = np.diff(matrix.indptr) == 0
    if empty.any():
        advice = "padding= (--padding) says what a padded token does"
        if binary:
            advice += "; from_mask (--mask masked) reads a mask in which 1 means masked"
        raise TargetError(f"{name}: row {int(np.argmax(empty))}: has no nonzero entry; {advice}")


def _is_binary(matrix):
    """Return whether the entries that are stored are all 0 or 1, and one is 1."""
    return bool(((matrix.data == 0) | (matrix.data == 1)).all() and matrix.data.any())


def _row_sums(matrix):
    """Return the sums of the rows of a matrix without empty rows."""
    with np.errstate(over="ignore"):
        return np.add.reduceat(matrix.data, matrix.indptr[:-1])


def _row_maxima(matrix):
    """Return the largest entry of each row of nonnegative entries, or 1 where there is none."""
    largest = np.zeros(matrix.shape[0])
    some = np.diff(matrix.indptr) > 0
    if some.any():
        largest[some] = np.maximum.reduceat(matrix.data, matrix.indptr[:-1][some])
    return np.where(largest > 0, largest, 1.0)


def _pad(matrix, padding, name):
    """Return canonical weights without their empty rows, or with something in them."""
    check_choice("padding", padding, PADDINGS)
    length = matrix.shape[0]
    empty = np.nonzero(np.diff(matrix.indptr) == 0)[0]
    if not len(empty):
        return matrix
    if padding == "drop":
        kept = np.diff(matrix.indptr) > 0
        if not kept.any():
            raise TargetError(f"{name}: every row is empty")
        dropped = ~kept[matrix.indices]
        if dropped.any():
            at = int(np.argmax(dropped))
            row = _row_of(matrix, at)
            raise TargetError(
                f"{name}: row {row}: attends to token {matrix.indices[at]}, whose own row is empty "
                "and would be dropped"
            )
        return matrix[kept][:, kept]
    if padding == "self":
        rows, columns, weight = empty, empty, 1.0
    else:
        rows, columns = np.repeat(empty, length), np.tile(np.arange(length), len(empty))
        weight = 1 / length
    filled = sparse.csr_array((np.full(len(rows), weight), (rows, columns)), shape=matrix.shape)
    return matrix + filled


# --- What a target is like -----------------------------------------------------------------------


def row_counts(target: sparse.csr_array | MappedTarget) -> np.ndarray:
    """Return |S_i| for each row of a checked target, shape (L,)."""
    return np.diff(target.indptr)


def column_counts(target: sparse.csr_array | MappedTarget) -> np.ndarray:
    """Return the number of nonzeros in each column of a checked target, shape (L,)."""
    return np.bincount(target.indices, minlength=target.shape[1])


def row_ratios(target: sparse.csr_array | MappedTarget) -> np.ndarray:
    """Return max/min over the nonzeros of each row of a checked target, shape (L,)."""
    start = target.indptr[:-1]
    with np.errstate(over="ignore"):
        return np.maximum.reduceat(target.data, start) / np.minimum.reduceat(target.data, start)


# --- From graphs, masks and dense attention ------------------------------------------------------


def from_graph(
    graph: Any,
    self_loops: bool = True,
    *,
    weight: str | None = "weight",
    padding: str | None = None,
) -> sparse.csr_array:
    """Return the random-walk matrix of a graph: node i attends to its neighbours.

    In a directed graph node i attends to the nodes that its edges lead to. PyTorch Geometric's
    graphs are the exception: there messages travel along the edges, and the receiver attends to the
    sender, as in `from_edges`.

    Parameters
    ----------
    graph : graph, or array_like or sparse array of shape (L, L)
        A graph of NetworkX, igraph, scikit-network or PyTorch Geometric, nodes in its own order, or
        nonnegative adjacency weights. Weights of parallel edges are added up.
    self_loops : bool, optional
        Add an edge of weight 1 from every node without one to itself, so that no row is empty.
    weight : str or None, optional
        The name of the edge attribute that holds the weights (for PyTorch Geometric "weight" stands
        for ``edge_weight``). An edge without it counts 1; None counts every edge 1.
    padding : {"drop", "self", "uniform"}, optional
        As in `normalize_rows`, for nodes without an edge.

    Returns
    -------
    scipy.sparse.csr_array, shape (L, L)

    Raises
    ------
    TargetError
        A weight that is negative, not finite or not a real number (the message names the edge), no
        edge has the attribute named, a node without an edge when `self_loops` is false, or an
        integer array that may be an edge_index.

    Examples
    --------
    >>> from_graph([[0, 1, 1], [1, 0, 0], [1, 0, 0]], self_loops=False).toarray().tolist()
    [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    edges = edges_of(graph, weight)
    if edges is not None:
        return _from_weighted_edges(edges, self_loops, padding, "graph")
    if not hasattr(graph, "tocsr"):
        _refuse_edge_index(graph)
    weights = real_csr(graph, "graph")
    _check_entries(weights, "graph")
    return normalize_rows(_looped(weights, self_loops), padding=padding, name="graph")


def _refuse_edge_index(graph):
    """Refuse what may be two rows of node numbers instead of an adjacency matrix."""
    shape, dtype = getattr(graph, "shape", ()), str(getattr(graph, "dtype", ""))
    if len(shape) != 2 or shape[0] != 2 or "int" not in dtype or "uint8" in dtype:
        return
    if shape[1] == 2:
        raise TargetError(
            "graph: integers of shape (2, 2) may be an adjacency matrix or an edge_index; make it "
            "one of floats if it is the former, use from_edges if it is the latter"
        )
    raise TargetError(
        f"graph: integers of shape {tuple(shape)} look like an edge_index; from_edges reads one"
    )


def from_edges(
    edge_index: ArrayLike,
    num_nodes: int | None = None,
    receivers: str = "second",
    weight: ArrayLike | None = None,
    *,
    self_loops: bool = True,
    padding: str | None = None,
) -> sparse.csr_array:
    """Return the target of a list of edges, as graph networks keep them: rows are receivers.

    With PyTorch Geometric's convention, the default, edge e sends a message from node
    ``edge_index[0, e]`` to node ``edge_index[1, e]``, so the second attends to the first: row
    ``edge_index[1, e]`` of the target has an entry in column ``edge_index[0, e]``.

    Parameters
    ----------
    edge_index : array_like of int, shape (2, E)
        Node numbers from 0; a PyTorch tensor will do. Two rows, also where E = 2.
    num_nodes : int, optional
        L; one more than the largest number if None.
    receivers : {"second", "first"}, optional
        Which row of `edge_index` holds the nodes that attend.
    weight : array_like, shape (E,) or (E, 1), optional
        Nonnegative, all 1 if None; weights of parallel edges are added up.
    self_loops, padding
        As in `from_graph`.

    Returns
    -------
    scipy.sparse.csr_array, shape (L, L)

    Raises
    ------
    TargetError
        A node number out of range, a weight that is negative or not finite (the message names the
        edge), shapes that do not fit, or a row that stays empty.
    ParameterError

    Examples
    --------
    >>> from_edges([[0, 1], [2, 2]], self_loops=False, padding="self").toarray().tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]
    """
    check_choice("receivers", receivers, ("second", "first"))
    if num_nodes is not None:
        num_nodes = check_int("num_nodes", num_nodes)
    edges = read_edge_index(edge_index, num_nodes, receivers, weight)
    return _from_weighted_edges(edges, self_loops, padding, "edge_index")


def _from_weighted_edges(edges, self_loops, padding, name):
    matrix = sparse.coo_array(
        (edges.weights, (edges.rows, edges.columns)), shape=2 * (edges.length,)
    )
    return normalize_rows(_looped(matrix.tocsr(), self_loops), padding=padding, name=name)


def with_self_loops(
    weights: ArrayLike | sparse.sparray, *, name: str = "weights"
) -> sparse.csr_array:
    """Return nonnegative weights (L, L) with 1 on the diagonal wherever it was 0.

    Parameters and errors as in `normalize_rows`, which makes a target of the result.
    """
    weights = real_csr(weights, name)
    _check_entries(weights, name)
    return _looped(weights, True)


def pad_rows(
    weights: ArrayLike | sparse.sparray, padding: str, *, name: str = "weights"
) -> sparse.csr_array:
    """Return nonnegative weights (L, L) whose empty rows have been dealt with.

    Parameters and errors as in `normalize_rows`, but no row is divided by anything.
    """
    weights = real_csr(weights, name)
    _check_entries(weights, name)
    weights.sum_duplicates()
    weights.eliminate_zeros()
    return _pad(weights, padding, name)


def _looped(weights, self_loops):
    """Return weights with 1 on the diagonal wherever it was 0, if asked to."""
    if not self_loops:
        return weights
    missing = (weights.diagonal() == 0).astype(np.float64)
    return weights + sparse.diags_array(missing, format="csr")


def from_mask(
    mask: ArrayLike | sparse.sparray,
    convention: str = "keep",
    *,
    head: int | tuple[int, ...] | None = None,
    self_loops: bool = False,
    padding: str | None = None,
    name: str = "mask",
) -> sparse.csr_array:
    """Return the target that attends alike to all that a mask lets through.

    Parameters
    ----------
    mask : array_like or sparse array, shape (L, L) or (..., L, L)
        Row i says what token i may attend to.
    convention : {"keep", "masked", "additive"}, optional
        - "keep": 1 or true lets through, as in ``scaled_dot_product_attention``'s boolean masks and
          in Hugging Face's tokenizers;
        - "masked": 1 or true shuts out, as in ``torch.nn.MultiheadAttention``;
        - "additive": added to the logits: 0 lets through; minus infinity, or the most negative
          number of a format, shuts out. A finite bias weights a token by its exponential.
    head : int or tuple of int, optional
        Which matrix of a stack, as in `from_attention`.
    self_loops : bool, optional
        Let every token attend to itself.
    padding : {"drop", "self", "uniform"}, optional
        As in `normalize_rows`, for tokens that are let through to nothing.
    name : str, optional
        What to call the argument in an error message.

    Returns
    -------
    scipy.sparse.csr_array, shape (L, L)

    Raises
    ------
    TargetError
        An entry that the convention does not have, or a row that lets nothing through.
    ParameterError

    Examples
    --------
    >>> from_mask([[False, True], [False, False]], "masked").toarray().tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    check_choice("convention", convention, CONVENTIONS)
    weights = choose_head(mask, head, name)
    if convention == "additive":
        weights = _exponentials(real_array(weights, name), name)
    else:
        weights = real_csr(weights, name)
        _check_binary(weights, convention, name)
        weights.sum_duplicates()
        weights.data = np.minimum(weights.data, 1.0)
        if convention == "masked":
            through = np.ones(weights.shape, dtype=bool)
            through[weights.nonzero()] = False
            weights = through
    weights = _looped(real_csr(weights, name), self_loops)
    return normalize_rows(weights, padding=padding, name=name)


def _check_binary(weights, convention, name):
    bad = (weights.data != 0) & (weights.data != 1)
    if bad.any():
        at = int(np.argmax(bad))
        row = _row_of(weights, at)
        raise TargetError(
            f"{name}: row {row}: entry {weights.data[at]} in column {weights.indices[at]} is "
            f"neither 0 nor 1, which is all that a mask of convention {convention!r} has"
        )


def _exponentials(mask, name):
    """Return exp(mask) with rows scaled to a largest entry of 1; a row that is shut out is 0."""
    if mask.ndim != 2:
        raise TargetError(f"{name}: has shape {mask.shape}; expected a matrix (L, L)")
    mask = mask.astype(np.float64)
    bad = np.isnan(mask) | (mask == np.inf)
    if bad.any():
        row, column = (int(at) for at in np.argwhere(bad)[0])
        raise TargetError(f"{name}: row {row}: entry {mask[row, column]} in column {column}")
    largest = mask.max(axis=1, initial=-np.inf, keepdims=True)
    shut = largest <= BLOCKED_LOGIT
    return np.where(shut, 0.0, np.exp(mask - np.where(shut, 0.0, largest)))


def from_attention(
    attention: ArrayLike | sparse.sparray,
    top_k: int | None = None,
    *,
    head: int | tuple[int, ...] | None = None,
    threshold: float | None = None,
    padding: str | None = None,
    row_nnz: int | None = None,
    name: str = "attention",
) -> sparse.csr_array:
    """Return the largest entries of each row of an attention matrix, renormalised.

    Parameters
    ----------
    attention : array_like or sparse array, shape (L, L) or (..., L, L)
        Nonnegative weights, as a softmax gives them; a PyTorch tensor will do.
    top_k : int, optional
        k, between 1 and L: how many entries of a row to keep, the lower column where entries are
        equal. A row with fewer positive entries keeps those.
    head : int or tuple of int, optional
        Which matrix of a stack: an index for each leading axis that is longer than 1.
    threshold : float, optional
        Keep entries of at least this weight only.
    padding : {"drop", "self", "uniform"}, optional
        As in `normalize_rows`, for rows of zeros.
    row_nnz : int, optional
        `top_k` under its old name.
    name : str, optional
        What to call the argument in an error message.

    Returns
    -------
    scipy.sparse.csr_array, shape (L, L)

    Raises
    ------
    TargetError
        As `check_target`, or a row without an entry that reaches the threshold.
    ParameterError
        An argument is out of range.

    Examples
    --------
    >>> from_attention([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0, 0, 1]], 2).toarray().round(3).tolist()
    [[0.625, 0.375, 0.0], [0.111, 0.889, 0.0], [0.0, 0.0, 1.0]]
    """
    matrix = real_csr(choose_head(attention, head, name), name)
    _check_entries(matrix, name)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if threshold is not None:
        threshold = check_real("threshold", threshold, above=0)
        lost = (_row_maxima(matrix) < threshold) & (np.diff(matrix.indptr) > 0)
        if lost.any():
            row = int(np.argmax(lost))
            raise TargetError(
                f"{name}: row {row}: no entry reaches threshold={threshold:g}; the largest is "
                f"{_row_maxima(matrix)[row]:.3g}"
            )
        matrix.data[matrix.data < threshold] = 0
        matrix.eliminate_zeros()
    top_k = row_nnz if top_k is None else top_k
    if top_k is not None:
        matrix = _largest(matrix, check_int("top_k", top_k, maximum=matrix.shape[0]))
    return normalize_rows(matrix, padding=padding, name=name)


def _largest(matrix, top_k):
    """Return the `top_k` largest entries of each row of a canonical matrix."""
    kept = np.zeros(matrix.nnz, dtype=bool)
    for block in support_blocks(matrix, 32, BLOCK_BYTES):
        size = block.columns.shape[1]
        at = top_columns(block.values, min(top_k, size))
        kept[matrix.indptr[block.rows][:, None] + at] = True
    matrix.data[~kept] = 0
    matrix.eliminate_zeros()
    return matrix


def choose_head(
    stack: ArrayLike, head: int | tuple[int, ...] | None = None, name: str = "stack"
) -> ArrayLike:
    """Return the matrix that an index chooses from a stack, or what is a matrix already.

    Parameters
    ----------
    stack : array_like, shape (L, L) or (..., L, L)
    head : int or tuple of int, optional
        An index for each leading axis that is longer than 1, or for each leading axis.
    name : str, optional
        What to call the argument in an error message.

    Returns
    -------
    array_like, shape (L, L)
        Of the stack's own type.

    Raises
    ------
    TargetError
        A stack of several, and `head` does not choose one.
    ParameterError
        `head` is out of range, or there is no stack.
    """
    shape = tuple(getattr(stack, "shape", ()))
    if not shape:
        stack = real_array(stack, name)
        shape = stack.shape
    leading = shape[:-2]
    if not leading:
        if head is not None:
            raise ParameterError(f"head={head!r}: {name} is one matrix, of shape {shape}")
        return stack
    index = () if head is None else head if isinstance(head, tuple) else (head,)
    several = sum(size > 1 for size in leading)
    if len(index) == several:
        chosen = iter(index)
        index = tuple(next(chosen) if size > 1 else 0 for size in leading)
    elif len(index) != len(leading):
        wanted = f", with {several} indices" if several > 1 else ""
        raise TargetError(
            f"{name}: has shape {shape}, a stack of {np.prod(leading)} matrices; head= (--head) "
            f"chooses one{wanted}"
        )
    for at, size in zip(index, leading, strict=True):
        check_int("head", at, minimum=0, maximum=size - 1)
    return stack[tuple(int(at) for at in index)]


def top_columns(weights: np.ndarray, row_nnz: int) -> np.ndarray:
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
