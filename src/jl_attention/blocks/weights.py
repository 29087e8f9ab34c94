"""A block's parameters, and the input X whose queries and keys are given.

X has to solve W U = T - bias, U = norm(X), for the rows W of the projections that matter: one
linear system for all tokens, of (g + 1) m rows a key head. Along a vector orthogonal to these rows
one number is free; it makes up the length that the norm gives to U.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg

from ..errors import ConstructionError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from .spec import BlockSpec

__all__ = [
    "RANK_TOLERANCE",
    "ROWS",
    "check_weights",
    "default_weights",
    "input_for",
    "weight_shapes",
]

RANK_TOLERANCE = 1e-10
"""Pivots of the projections' rows below this share of the largest: linearly dependent."""

ROWS = 4096
"""Tokens whose vectors are computed together."""


def weight_shapes(spec: BlockSpec) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the parameters that a block's attention depends on."""
    d, m = spec.hidden_size, spec.head_dim
    queries, keys = spec.query_heads * m, spec.kv_heads * m
    shapes = {"q_proj.weight": (queries, d), "k_proj.weight": (keys, d)}
    if spec.norm:
        shapes["input_layernorm.weight"] = (d,)
    if spec.norm == "layer":
        shapes["input_layernorm.bias"] = (d,)
    if spec.bias:
        shapes |= {"q_proj.bias": (queries,), "k_proj.bias": (keys,)}
    if spec.qk_norm:
        shapes |= {"q_norm.weight": (m,), "k_norm.weight": (m,)}
    if spec.sink is not False:
        shapes["sinks"] = (spec.query_heads,)
    return shapes


def default_weights(spec: BlockSpec, dim: int, heads: Sequence[int]) -> dict[str, np.ndarray]:
    """Return the fixed parameters: projections that pick coordinates of U, times one gain.

    The heads given take `dim` coordinates each, then their key heads; the projections of heads left
    free are zero, and so are all biases. The gain is a power of 2, exact in every number format: it
    allows s |q| |k| up to `BlockSpec.radius` where a norm fixes the length of U. Patterns do not
    enter.
    """
    takers = [("q", head) for head in heads]
    takers += [("k", head) for head in sorted({head // spec.group for head in heads})]
    gain = 1.0
    if spec.qk_norm:  # which give the heads a mean square of 1/2: at most half of U's length
        gain = max(1.0, math.sqrt(len(takers) * spec.head_dim / spec.hidden_size))
    elif spec.norm:
        gain = math.sqrt(2 * spec.radius / (spec.logit_factor * spec.hidden_size))
    gain = 2.0 ** math.ceil(math.log2(gain))
    weights = {name: np.zeros(shape) for name, shape in weight_shapes(spec).items()}
    used = spec.coordinates(dim)
    for place, (name, head) in enumerate(takers):
        columns = np.arange(place * dim, (place + 1) * dim)
        weights[f"{name}_proj.weight"][head * spec.head_dim + used, columns] = gain
    if spec.norm:
        weights["input_layernorm.weight"][:] = 1
    if spec.qk_norm:
        weights["q_norm.weight"][:] = weights["k_norm.weight"][:] = spec.qk_gain
    if spec.sink is not False:
        weights["sinks"][:] = spec.sink_logit
    return weights


def check_weights(spec: BlockSpec, weights: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Return given parameters as float64 arrays, or raise `ParameterError`."""
    checked = {}
    for name, shape in weight_shapes(spec).items():
        if name not in weights:
            raise ParameterError(f"weights: {name} is missing")
        array = np.asarray(weights[name], dtype=np.float64)
        if array.shape != shape:
            raise ParameterError(f"weights: {name} of shape {array.shape}, expected {shape}")
        if not np.isfinite(array).all():
            raise ParameterError(f"weights: {name} has an entry that is not finite")
        checked[name] = array
    said = {"q_norm.weight": spec.qk_gain, "k_norm.weight": spec.qk_gain, "sinks": spec.sink_logit}
    for name, value in said.items():
        if name in checked and not np.allclose(checked[name], value, rtol=1e-6, atol=1e-12):
            raise ParameterError(f"weights: {name} must be {value:g} throughout, as the spec says")
    if "input_layernorm.weight" in checked and not checked["input_layernorm.weight"].all():
        raise ParameterError("weights: input_layernorm.weight has a zero")
    return checked


def input_for(
    spec: BlockSpec,
    weights: dict[str, np.ndarray],
    vectors: dict[tuple[str, int], np.ndarray],
    dim: int,
    hint: str,
    balanced: bool = True,
) -> np.ndarray:
    """Return the X whose queries and keys are those wanted.

    Parameters
    ----------
    spec : BlockSpec
    weights : dict of ndarray
    vectors : dict of ndarray, shape (L, m)
        By ("q", query head) and ("k", key head), in the space of the codes.
    dim : int
        Coordinates of a head that are used.
    hint : str
        What would help if the vectors are too long.
    balanced : bool, optional
        Behind a norm, which bounds |q|^2 + |k|^2, divide queries and multiply keys by one number.

    Returns
    -------
    ndarray, shape (L, d)

    Raises
    ------
    ConstructionError
        The projections leave no room, or are linearly dependent; a token's vector is too long.
    """
    length = len(next(iter(vectors.values())))
    d = spec.hidden_size
    system, offset, places = _system(spec, weights, vectors, dim)
    if spec.norm == "layer":
        offset = offset + system @ weights["input_layernorm.bias"]
    if spec.norm:
        system = system * weights["input_layernorm.weight"]
    if spec.norm == "layer":
        system, offset = np.vstack([system, np.ones(d)]), np.append(offset, 0.0)
    if len(system) + bool(spec.norm) > d:
        raise ConstructionError(
            f"hidden_size={d}: these projections put {len(system)} conditions on a token's vector"
            f"{', and the norm one more' if spec.norm else ''}"
        )
    basis, factor = linalg.qr(system.T, mode="economic", check_finite=False)
    pivots = np.abs(np.diag(factor))
    if pivots.min() <= RANK_TOLERANCE * pivots.max():
        raise ConstructionError(
            "weights: the rows of the projections are linearly dependent, so that queries and keys "
            "cannot be chosen freely"
        )

    def in_basis(right):
        return linalg.solve_triangular(factor, right, trans="T", check_finite=False)

    def of_kind(kind, rows):
        """Return what one kind of head asks of U, in coordinates of `basis`, (conditions, n)."""
        right = np.zeros((len(system), len(rows)))
        for (name, head), at in places.items():
            if name == kind:
                part = _projection(spec, vectors[name, head][rows], name, dim, rows)
                right[at.start : at.start + dim] = part.T
        return in_basis(right)

    constant = in_basis(-offset[:, None])
    blocks = [np.arange(start, min(start + ROWS, length)) for start in range(0, length, ROWS)]
    balance = 1.0  # <q/b, b k> is <q, k>: make the longest queries and keys equally long
    if balanced and spec.norm and not spec.qk_norm:
        longest = [
            max((of_kind(kind, rows) ** 2).sum(axis=0).max() for rows in blocks) for kind in "qk"
        ]
        balance = (longest[0] / longest[1]) ** 0.25 if longest[0] else 1.0
    X = np.empty((length, d))
    for rows in blocks:
        inner = of_kind("q", rows) / balance + of_kind("k", rows) * balance + constant
        X[rows] = (basis @ inner).T
        if spec.norm:
            _lengthen(X, rows, spec, basis, (inner**2).sum(axis=0), hint)
    return X


def _lengthen(X, rows, spec, basis, squares, hint):
    """Give rows the length for which their norm is 1, along a vector orthogonal to `basis`."""
    # X has mean square 1, so U = X / sqrt(1 + eps).
    whole = spec.hidden_size / (1 + spec.norm_eps)
    left = whole - squares
    if (left < 0).any():
        at = int(np.argmin(left))
        raise ConstructionError(
            f"row {rows[at]}: the norm fixes the length of a token's vector, and its queries and "
            f"keys alone are {math.sqrt(squares[at] / whole):.3g} times as long: the block needs "
            f"{hint}, or the patterns shorter supports or a larger leak"
        )
    spare = np.random.default_rng(0).standard_normal(spec.hidden_size)  # any fixed vector
    spare -= basis @ (basis.T @ spare)
    spare /= np.linalg.norm(spare)
    X[rows] += np.sqrt(left)[:, None] * spare
    X[rows] *= math.sqrt(1 + spec.norm_eps)


def _projection(spec, vectors, kind, dim, rows):
    """Return what a projection has to give for these queries or keys, shape (n, dim).

    With QK-norm the query's last coordinate, where keys are 0, makes up its length, and the
    projection has a mean square of 1/2.
    """
    if spec.qk_norm:
        spare = np.zeros(len(vectors))
        if kind == "q":
            spare = np.sqrt(np.maximum(spec.qk_length**2 - (vectors**2).sum(axis=1), 0))
        vectors = np.column_stack([vectors, spare])
    used = spec.coordinates(dim)
    head = np.zeros((len(vectors), spec.head_dim))
    head[:, used] = vectors
    if spec.rope:
        head = spec.rope.unrotate(head, rows)
    if spec.qk_norm:
        stretch = spec.rope.factor if spec.rope else 1.0
        head *= math.sqrt(spec.head_dim / 2) * stretch / spec.qk_length
    return head[:, used]


def _system(spec, weights, vectors, dim):
    """Return the rows of the projections that matter, their biases, and which head has which.

    Of a key head all coordinates matter: those not used must be zero. Of a query head only those
    used do, unless its own norm sees the others. Rows of zeros need no care.
    """
    rows, offset, places, start = [], [], {}, 0
    used = spec.coordinates(dim)
    rest = np.setdiff1d(np.arange(spec.head_dim), used)
    for kind, head in vectors:
        at = slice(head * spec.head_dim, (head + 1) * spec.head_dim)
        weight = weights[f"{kind}_proj.weight"][at]
        bias = weights[f"{kind}_proj.bias"][at] if spec.bias else np.zeros(spec.head_dim)
        chosen = used
        if kind == "k" or spec.qk_norm:
            chosen = np.append(used, rest[weight[rest].any(axis=1) | (bias[rest] != 0)])
        rows.append(weight[chosen])
        offset.append(bias[chosen])
        places[kind, head] = slice(start, start + len(chosen))
        start += len(chosen)
    return np.vstack(rows), np.concatenate(offset), places
