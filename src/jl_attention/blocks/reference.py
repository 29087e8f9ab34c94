"""A block's attention in NumPy, written as its formula stands. See `spec` for the formula."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import check_int
from .norms import layer_norm, rms_norm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike

    from .spec import BlockSpec

__all__ = [
    "attention",
    "head_values",
    "logits",
    "normed",
    "output",
    "projected",
    "softmax_with_sink",
    "visible",
]


def normed(spec: BlockSpec, weights: dict[str, np.ndarray], X: np.ndarray) -> np.ndarray:
    """Return U = norm(X), shape (L, d): what the projections see."""
    if spec.norm is None:
        return X
    weight = weights["input_layernorm.weight"]
    if spec.norm == "rms":
        return rms_norm(X, weight, spec.norm_eps)
    return layer_norm(X, weight, weights["input_layernorm.bias"], spec.norm_eps)


def projected(
    spec: BlockSpec,
    weights: dict[str, np.ndarray],
    U: np.ndarray,
    name: str,
    head: int,
    positions: np.ndarray,
) -> np.ndarray:
    """Return a head's queries (``name="q"``) or keys ("k") as they meet in the product.

    Parameters
    ----------
    spec : BlockSpec
    weights : dict of ndarray
        As `CompiledBlock.weights`.
    U : ndarray, shape (n, d)
        Rows of `normed`.
    name : {"q", "k"}
    head : int
        A query head, or a key head.
    positions : ndarray of int, shape (n,)

    Returns
    -------
    ndarray, shape (n, m)
    """
    at = slice(head * spec.head_dim, (head + 1) * spec.head_dim)
    x = U @ weights[f"{name}_proj.weight"][at].T
    if spec.bias:
        x = x + weights[f"{name}_proj.bias"][at]
    if spec.qk_norm:
        x = rms_norm(x, weights[f"{name}_norm.weight"], spec.norm_eps)
    return spec.rope.rotate(x, positions) if spec.rope else x


def logits(
    spec: BlockSpec,
    weights: dict[str, np.ndarray],
    X: np.ndarray,
    head: int,
    rows: slice | ArrayLike = slice(None),
    *,
    U: np.ndarray | None = None,
) -> np.ndarray:
    """Return rows of a head's logits, minus infinity where the mask hides a token.

    Parameters
    ----------
    spec : BlockSpec
    weights : dict of ndarray
    X : ndarray, shape (L, d)
    head : int
        Query head.
    rows : slice or array of int, optional
    U : ndarray, shape (L, d), optional
        `normed` of X, where it is at hand.

    Returns
    -------
    ndarray, shape (n, L)
    """
    head = check_int("head", head, minimum=0, maximum=spec.query_heads - 1)
    U = normed(spec, weights, X) if U is None else U
    columns = np.arange(len(U))
    rows = columns[rows]
    Q = projected(spec, weights, U[rows], "q", head, rows)
    K = projected(spec, weights, U, "k", head // spec.group, columns)
    z = spec.logit_factor * (Q @ K.T)
    if spec.softcap is not None:
        z = spec.softcap * np.tanh(z / spec.softcap)
    if spec.alibi:
        z = z + (spec.slopes[head] * (columns - rows[:, None])).astype(z.dtype)
    return np.where(visible(spec, rows, len(U)), z, -np.inf).astype(z.dtype)


def visible(spec: BlockSpec, rows: ArrayLike, length: int) -> np.ndarray:
    """Return which tokens these rows see, a bool array of shape (n, L)."""
    columns, rows = np.arange(length), np.asarray(rows)[:, None]
    if not spec.causal:
        return np.ones((len(rows), length), dtype=bool)
    return (columns <= rows) & (columns >= spec.first_visible(rows))


def softmax_with_sink(z: np.ndarray, sink_logit: float = -np.inf) -> np.ndarray:
    """Return exp(z_ij) / (exp(sink) + sum over j of exp(z_ij)); rows sum to 1 without a sink."""
    top = np.maximum(z.max(axis=1, keepdims=True), z.dtype.type(sink_logit))
    weights = np.exp(z - top)
    return weights / (weights.sum(axis=1, keepdims=True) + np.exp(z.dtype.type(sink_logit) - top))


def attention(
    spec: BlockSpec,
    weights: dict[str, np.ndarray],
    X: np.ndarray,
    head: int,
    rows: slice | ArrayLike = slice(None),
    *,
    U: np.ndarray | None = None,
) -> np.ndarray:
    """Return rows of a head's attention matrix M, shape (n, L); parameters as in `logits`."""
    z = logits(spec, weights, X, head, rows, U=U)
    return softmax_with_sink(z, weights["sinks"][head] if spec.sink is not False else -np.inf)


def output(
    spec: BlockSpec, weights: dict[str, np.ndarray], X: np.ndarray, W_V: np.ndarray, W_O: np.ndarray
) -> np.ndarray:
    """Return what the attention adds to the hidden states: sum over h of M_h U W_V^T W_O^T.

    Parameters
    ----------
    spec : BlockSpec
    weights : dict of ndarray
    X : ndarray, shape (L, d)
    W_V : ndarray, shape (kv_heads m', d)
        As ``v_proj.weight``; m' is the length of a value.
    W_O : ndarray, shape (d, H m')
        As ``o_proj.weight``.

    Returns
    -------
    ndarray, shape (L, d)
    """
    U = normed(spec, weights, X)
    total = np.zeros((len(X), len(W_O)), dtype=X.dtype)
    for head, values in enumerate(head_values(spec, U, W_V, W_O)):
        total += attention(spec, weights, X, head, U=U) @ values
    return total


def head_values(
    spec: BlockSpec, U: np.ndarray, W_V: np.ndarray, W_O: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield V_h W_O^h of each query head, shape (L, d): what its attention averages."""
    size = len(W_V) // spec.kv_heads
    for head in range(spec.query_heads):
        at = head // spec.group * size
        yield U @ W_V[at : at + size].T @ W_O[:, head * size : (head + 1) * size].T
