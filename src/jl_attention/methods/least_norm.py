"""Least-norm queries: what a row of given logits on its support needs, and no more."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..engine import in_this_process, run, support_blocks
from ..errors import ConstructionError
from ..logits import all_alike

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from scipy import sparse

    from ..codes import Codes
    from ..interop.mapped import MappedLogits

__all__ = [
    "BLOCK_BYTES",
    "MAX_CONDITION",
    "interpolating_queries",
    "least_norm_queries",
]

MAX_CONDITION = 1e12
"""Largest accepted condition number of a Gram matrix; beyond it few digits of a query are left."""

BLOCK_BYTES = 2**22
"""Memory for one block of gathered key codes: it should stay in a core's cache."""


def interpolating_queries(
    B: sparse.csr_array | MappedLogits,
    keys: np.ndarray | Codes,
    *,
    executor: Executor | None = None,
    progress: Callable | None = None,
) -> np.ndarray:
    """Return the least-norm queries with <q_i, c_j> = B_ij on the support, for given keys.

    q_i = C_S^T (C_S C_S^T)^(-1) b_i, with C_S the codes of the support and b_i = B_{i,S_i}.
    Rows of equal support size are solved together, in blocks, in double precision. What is
    returned has been checked, see `least_norm_queries`. A row that wants the same logit at every
    token takes the zero query: softmax ignores the shift.

    Parameters
    ----------
    B : scipy.sparse.csr_array or interop.mapped.MappedLogits, shape (n, L)
        Target logits.
    keys : ndarray of float64 or float32, or codes.Codes, shape (L, m)
        Codes c_1..c_L; they must not depend on B for the Student law of T3 to hold.
    executor : concurrent.futures.Executor, optional
        Maps the blocks of rows, see `engine.run`.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of rows after each block.

    Returns
    -------
    ndarray, shape (n, m)
        Of the dtype of `keys`.

    Raises
    ------
    ConstructionError
        As `least_norm_queries`.
    """
    queries = np.zeros((B.shape[0], keys.shape[1]), dtype=keys.dtype)
    if hasattr(keys, "array") and in_this_process(executor):
        keys = keys.array()  # made once, and held until all rows are solved
    blocks = support_blocks(B, 8 * keys.shape[1], BLOCK_BYTES)
    solved = run(
        partial(_solve_block, keys),
        blocks,
        executor,
        progress,
        B.shape[0],
        size=lambda block: len(block.rows),
    )
    for rows, block_queries in solved:
        queries[rows] = block_queries
    return queries


def _solve_block(keys, block):
    """Return (rows, queries) of one block."""
    keys = keys.array() if hasattr(keys, "array") else keys
    queries = np.zeros((len(block.rows), keys.shape[1]), dtype=keys.dtype)
    uniform = np.zeros(len(block.rows), dtype=bool)
    if block.columns.shape[1] == len(keys):
        uniform = all_alike(block.values.min(axis=1), block.values.max(axis=1))
    some = np.nonzero(~uniform)[0]
    if len(some):
        queries[some] = least_norm_queries(
            keys[block.columns[some]], block.values[some], block.rows[some]
        )
    return block.rows, queries


def least_norm_queries(
    codes: np.ndarray, values: np.ndarray, rows: Sequence[int] | np.ndarray
) -> np.ndarray:
    """Solve <q, c_j> = b_j with least norm for n rows whose supports have the same size s.

    Computed in double precision through the Cholesky factor of each Gram matrix, and checked as
    stored: every query meets its equations to half the digits of its dtype,
    |<q, c_j> - b_j| <= sqrt(machine epsilon) ||b||.

    Parameters
    ----------
    codes : ndarray of float64 or float32, shape (n, s, m)
        C_S of each row.
    values : ndarray, shape (n, s)
        b of each row.
    rows : sequence of int, length n
        What to call the rows in an error message.

    Returns
    -------
    ndarray, shape (n, m)
        Of the dtype of `codes`.

    Raises
    ------
    ConstructionError
        s > m, the condition number of a Gram matrix exceeds `MAX_CONDITION`, or a query misses
        its equations; names the row and the condition.
    """
    dtype, (_, size, dim) = codes.dtype, codes.shape
    if size > dim:
        raise ConstructionError(
            f"row {rows[0]}: its support of {size} tokens needs dim >= {size}, not dim={dim}: "
            "more codes than dimensions are linearly dependent"
        )
    codes = codes.astype(np.float64, copy=False)
    gram = codes @ codes.transpose(0, 2, 1)
    try:
        inverse_factor = np.linalg.inv(np.linalg.cholesky(gram))
    except np.linalg.LinAlgError:
        raise _nearly_dependent(gram, np.linalg.cond(gram) > MAX_CONDITION, rows) from None
    # tr(G) tr(G^-1) is at least the condition number of G and at most s^2 times it.
    condition = np.trace(gram, axis1=1, axis2=2) * (inverse_factor**2).sum(axis=(1, 2))
    doubtful = np.nonzero(~(condition <= MAX_CONDITION))[0]
    condition[doubtful] = np.linalg.cond(gram[doubtful])
    refused = ~(condition <= MAX_CONDITION)
    if refused.any():
        raise _nearly_dependent(gram, refused, rows)
    values, transposed = values[:, :, None], codes.transpose(0, 2, 1)

    def solve(values):
        return transposed @ (inverse_factor.transpose(0, 2, 1) @ (inverse_factor @ values))

    queries = solve(values)
    queries += solve(values - codes @ queries)  # refined once: the Gram matrix squares rounding
    queries = queries.astype(dtype)
    residual = np.abs(codes @ queries - values).max(axis=(1, 2))
    residual /= np.linalg.norm(values, axis=(1, 2))
    tolerance = np.sqrt(np.finfo(dtype).eps)
    refused = ~(residual <= tolerance)
    if refused.any():
        missed = (
            f", and its query in {dtype} misses its logits by over {tolerance:.0e} of their norm"
        )
        raise _nearly_dependent(gram, refused, rows, missed)
    return queries[:, :, 0]


def _nearly_dependent(gram, refused, rows, reason=""):
    """Return the error for the first row that is refused.

    A condition number is known to about its own share of the machine epsilon: beyond the largest
    accepted one, its digits are another machine's.
    """
    at = int(np.argmax(refused))
    condition = np.linalg.cond(gram[at])
    known = condition <= MAX_CONDITION
    shown = f"{condition:.0e}" if known else f"beyond {MAX_CONDITION:.0e}"
    return ConstructionError(
        f"row {rows[at]}: the codes of its support are nearly linearly dependent: condition "
        f"number {shown} of their Gram matrix{reason}"
    )
