"""The fixed self-attention module, and attention computed in blocks of rows.

With query dimension m and hidden size d = 2m, the module's parameters are

    W_Q = m^(1/4) [I; 0],    W_K = m^(1/4) [0; I]    (d x m each),

and its input X = [X1 | X2] (L x d) carries the queries X1 and the keys X2. Then

    Lambda = X W_Q W_K^T X^T / sqrt(m) = X1 X2^T,    M = softmax of the rows of Lambda.

The parameters depend on m alone: every target is served by the same module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from .errors import ParameterError, check_int

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, DTypeLike

__all__ = [
    "BLOCK_BYTES",
    "attention_input",
    "fixed_parameters",
    "parameter_scale",
    "row_blocks",
    "self_attention",
    "self_attention_logits",
]

BLOCK_BYTES = 2**26
"""Memory for one block of rows of an L x L matrix."""


def parameter_scale(dim: int, dtype: DTypeLike = np.float64) -> np.floating:
    """Return m^(1/4), by which W_Q and W_K multiply, as a scalar of `dtype`."""
    return np.dtype(dtype).type(dim**0.25)


def fixed_parameters(dim: int, dtype: DTypeLike = np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Return (W_Q, W_K), each of shape (2m, m), of the module with query dimension m = `dim`."""
    dim = check_int("dim", dim)
    scale = parameter_scale(dim, dtype)
    identity, zero = np.eye(dim, dtype=dtype), np.zeros((dim, dim), dtype=dtype)
    return scale * np.vstack([identity, zero]), scale * np.vstack([zero, identity])


def attention_input(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the module's input X = [X1 | X2], shape (L, 2m), from queries and keys (L, m)."""
    if queries.ndim != 2 or queries.shape != keys.shape:
        raise ParameterError(
            f"queries of shape {queries.shape} and keys of shape {keys.shape}: expected (L, m) both"
        )
    return np.hstack([queries, keys])


def self_attention_logits(
    X: np.ndarray, W_Q: np.ndarray, W_K: np.ndarray, rows: slice | ArrayLike = slice(None)
) -> np.ndarray:
    """Return rows of Lambda = X W_Q W_K^T X^T / sqrt(m), computed as the formula stands.

    Parameters
    ----------
    X : ndarray, shape (L, d)
    W_Q, W_K : ndarray, shape (d, m)
    rows : slice or array of int, optional
        The rows i wanted, n of them.

    Returns
    -------
    ndarray, shape (n, L)

    Raises
    ------
    ParameterError
        The shapes do not fit together.
    """
    if X.ndim != 2 or W_Q.shape != W_K.shape or X.shape[1] != W_Q.shape[0]:
        raise ParameterError(
            f"X of shape {X.shape}, W_Q of shape {W_Q.shape} and W_K of shape {W_K.shape}: "
            "expected (L, d), (d, m) and (d, m)"
        )
    return (X[rows] @ W_Q) @ (X @ W_K).T / np.sqrt(W_Q.shape[1])


def self_attention(
    X: np.ndarray, W_Q: np.ndarray, W_K: np.ndarray, rows: slice | ArrayLike = slice(None)
) -> np.ndarray:
    """Return rows of M, the row-softmax of `self_attention_logits`, shape (n, L)."""
    return softmax(self_attention_logits(X, W_Q, W_K, rows), axis=1)


def row_blocks(
    length: int, columns: int | None = None, block_bytes: int = BLOCK_BYTES
) -> Iterator[slice]:
    """Yield slices that cut `length` rows into blocks of at most `block_bytes` of float64.

    A row has `columns` entries, as many as there are rows if None; a block has at least one row.
    """
    size = max(1, block_bytes // (8 * (columns or length)))
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
