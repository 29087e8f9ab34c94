"""From attention patterns, or queries and keys, to the input of a real block: `compile`, `embed`.

For each key head draw codes c_1..c_L; for each of its query heads solve for queries (`heads`); find
the X that the block turns into these queries and keys (`weights`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from .. import codes as key_codes
from ..errors import ConstructionError, ParameterError, check_array, check_int, check_real
from ..targets import check_target
from .bounds import check_floor
from .compiled import CompiledBlock
from .heads import equal_rows, head_queries
from .weights import check_weights, default_weights, input_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, DTypeLike

    from ..codes.base import Seed
    from .spec import BlockSpec

__all__ = [
    "check_patterns",
    "compile",
    "embed",
]


def compile(
    spec: BlockSpec,
    patterns: Sequence[ArrayLike | sparse.sparray | None],
    leak: float = 0.01,
    rng: Seed = None,
    *,
    dim: int | None = None,
    logit_scale: float | None = None,
    codes: Sequence[ArrayLike] | None = None,
    weights: Mapping[str, ArrayLike] | None = None,
    dtype: DTypeLike = np.float64,
) -> CompiledBlock:
    """Find the input for which the heads of a block show these patterns.

    Parameters
    ----------
    spec : BlockSpec
    patterns : list of array_like or sparse array, or None for a head left free
        One a query head, each (L, L) and right-stochastic, see `targets.check_target`.
    leak : float, optional
        eps2 in (0, 1): no token off a row's support gets more than this share of what the weakest
        on it gets. Ratios on the support are exact up to rounding.
    rng : int or numpy.random.Generator, optional
        Seed or generator of the key codes.
    dim : int, optional
        Coordinates of a head to use; as many as the hidden size has room for if None.
    logit_scale : float, optional
        tau for every row; if None, 3 log(1/leak), and more for rows that need it. Not with QK-norm.
    codes : list of ndarray, shape (L, m), optional
        Key codes, one array a key head that is used, instead of random ones.
    weights : dict of ndarray, optional
        The block's own parameters, named as in `CompiledBlock.weights`; if None they are chosen, by
        the spec alone.
    dtype : {numpy.float64, numpy.float32}, optional
        Of what is returned; it is computed in float64.

    Returns
    -------
    CompiledBlock

    Raises
    ------
    ConstructionError
        The block cannot show the patterns: a bound of `bounds` forbids it, the mask hides a token
        of a support, the hidden size is too small, or with these codes a row has no query.
    TargetError, ParameterError
        A pattern is not right-stochastic; an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from jl_attention import blocks, targets
    >>> spec = blocks.BlockSpec(160, query_heads=2, kv_heads=1, head_dim=32, rope=blocks.Rope())
    >>> window = targets.causal_window(64, 2)
    >>> first = np.zeros((64, 64)); first[:, 0] = 1
    >>> built = blocks.compile(spec, [window, first], rng=0)
    >>> built.inputs_embeds.shape
    (64, 160)
    >>> built.attention(0, [9]).round(2)[0, 7:10]
    array([0. , 0.5, 0.5])
    """
    leak = check_real("leak", leak, above=0, below=1)
    if logit_scale is not None:
        logit_scale = check_real("logit_scale", logit_scale, above=-np.log(leak))
    dtype = np.dtype(dtype)
    if dtype not in (np.float64, np.float32):
        raise ParameterError(f"dtype={dtype}: expected float64 or float32")
    patterns = check_patterns(spec, patterns)
    heads = [head for head, pattern in enumerate(patterns) if pattern is not None]
    groups = {}
    for head in heads:
        groups.setdefault(head // spec.group, []).append(head)
    for group in groups.values():
        check_floor(spec, [patterns[head] for head in group], group, leak)
    dim = _check_dim(spec, dim, heads, patterns)
    keys = _keys(spec, codes, list(groups), patterns[heads[0]].shape[0], dim, rng)
    vectors, corrected = {}, 0
    for key_head, group in groups.items():
        vectors["k", key_head] = keys[key_head]
        for head in group:
            vectors["q", head], changed = head_queries(
                spec, keys[key_head], patterns[head], head, leak, logit_scale
            )
            corrected += int(changed.sum())
    if weights is None:
        weights, hint = default_weights(spec, dim, heads), "a larger BlockSpec.radius"
    else:
        weights, hint = check_weights(spec, weights), "larger weights"
    X = input_for(spec, weights, vectors, dim, hint)
    built = CompiledBlock(spec, X, weights, tuple(patterns), dim, leak, corrected)
    return built if dtype == np.float64 else built.astype(dtype)


def embed(
    spec: BlockSpec,
    queries: ArrayLike,
    keys: ArrayLike,
    patterns: Sequence[ArrayLike | sparse.sparray | None] | None = None,
) -> CompiledBlock:
    """Find the input that a block turns into these queries and keys (Theorem B1).

    Parameters
    ----------
    spec : BlockSpec
        Without QK-norm, which would change the lengths of what is given.
    queries : array_like, shape (H, L, m)
        As the attention multiplies them, after any rotation: the logits are ``logit_factor``
        <q, k>. A `workloads.Workload` has them as ``Q``.
    keys : array_like, shape (KV, L, m)
    patterns : list of array_like or sparse array, optional
        What the heads then show, for `CompiledBlock.measure`.

    Returns
    -------
    CompiledBlock
        Its ``leak`` is nan: none was asked for.

    Raises
    ------
    ConstructionError
        The hidden size is too small, or a token's vector is too long for the norm.
    ParameterError
        The shapes do not fit the spec; an entry is not finite; the spec has QK-norm.

    Examples
    --------
    >>> import numpy as np
    >>> from jl_attention import blocks
    >>> spec = blocks.BlockSpec(49, query_heads=2, kv_heads=1, head_dim=16, rope=blocks.Rope())
    >>> rng = np.random.default_rng(0)
    >>> Q, K = rng.standard_normal((2, 30, 16)), rng.standard_normal((1, 30, 16))
    >>> built = blocks.embed(spec, Q, K)
    >>> np.allclose(built.logits(1, [29]), Q[1, 29] @ K[0].T / 4)
    True
    """
    if spec.qk_norm:
        raise ParameterError("spec: QK-norm gives queries and keys lengths of its own; use compile")
    vectors = {}
    for kind, heads, count in (("q", queries, spec.query_heads), ("k", keys, spec.kv_heads)):
        name = {"q": "queries", "k": "keys"}[kind]
        if np.ndim(heads) != 3 or np.shape(heads)[::2] != (count, spec.head_dim):
            raise ParameterError(
                f"{name} of shape {np.shape(heads)}: expected ({count}, L, {spec.head_dim})"
            )
        for head, array in enumerate(heads):
            vectors[kind, head] = check_array(f"{name}[{head}]", array)
    if np.shape(queries)[1] != np.shape(keys)[1]:
        raise ParameterError(
            f"queries of {np.shape(queries)[1]} tokens, keys of {np.shape(keys)[1]}"
        )
    unknown = [None] * spec.query_heads
    patterns = unknown if patterns is None else check_patterns(spec, patterns)
    heads = range(spec.query_heads)
    dim = _check_dim(spec, spec.head_dim, heads, unknown)
    weights = default_weights(spec, dim, heads)
    X = input_for(spec, weights, vectors, dim, "a larger BlockSpec.radius", balanced=False)
    return CompiledBlock(spec, X, weights, tuple(patterns), dim, math.nan, 0)


def check_patterns(
    spec: BlockSpec, patterns: Sequence[ArrayLike | sparse.sparray | None]
) -> list[sparse.csr_array | None]:
    """Return the patterns as checked targets, one a query head, or raise.

    Raises
    ------
    ParameterError
        Not one a head, all None, or not of one size.
    TargetError
        A pattern is not right-stochastic.
    ConstructionError
        A support has a token that its row does not see.
    """
    if sparse.issparse(patterns) or np.ndim(patterns[0]) == 1:
        raise ParameterError("patterns: expected a list of matrices, one for each query head")
    if len(patterns) != spec.query_heads:
        raise ParameterError(
            f"patterns: {len(patterns)} of them, expected one for each of "
            f"query_heads={spec.query_heads} (None leaves a head free)"
        )
    patterns = [
        None if pattern is None else check_target(pattern, name=f"patterns[{head}]")
        for head, pattern in enumerate(patterns)
    ]
    lengths = sorted({pattern.shape[0] for pattern in patterns if pattern is not None})
    if len(lengths) != 1:
        raise ParameterError(f"patterns: of lengths {lengths}; expected one and the same")
    if spec.causal:
        for head, pattern in enumerate(patterns):
            if pattern is not None:
                _check_visible(spec, pattern, head)
    return patterns


def _check_visible(spec, pattern, head):
    length = pattern.shape[0]
    first = spec.first_visible(np.arange(length))
    rows = np.repeat(np.arange(length), np.diff(pattern.indptr))
    hidden = (pattern.indices > rows) | (pattern.indices < first[rows])
    if hidden.any():
        at = int(np.argmax(hidden))
        row = int(rows[at])
        raise ConstructionError(
            f"head {head}, row {row}: wants token {pattern.indices[at]}, but sees tokens "
            f"{first[row]} to {row} only: its weight on any other is 0, whatever the input"
        )


def _check_dim(spec, dim, heads, patterns):
    """Return the coordinates of a head to use, or raise with the sizes."""
    largest = spec.largest_dim(heads)
    if dim is not None:
        dim = check_int("dim", dim, maximum=spec.head_dim)
        if spec.usable(dim) != dim:
            raise ParameterError(f"dim={dim}: splits a rotary pair; take {spec.usable(dim)}")
        needed = spec.needed_hidden_size(dim, heads)
        if needed > spec.hidden_size:
            raise ConstructionError(
                f"hidden_size={spec.hidden_size}: {len(heads)} query heads and their key heads of "
                f"dim={dim} need {needed}, {spec.spare} of it for the norm; at most dim={largest} "
                "fits"
            )
        largest = dim
    rank = largest - bool(spec.qk_norm)
    if rank < 1:
        raise ConstructionError(
            f"hidden_size={spec.hidden_size}: leaves {max(largest, 0)} coordinates to each of "
            f"{len(heads)} query heads and their key heads, too few for any pattern"
        )
    for head in heads:
        if patterns[head] is None:
            continue
        counts = np.diff(patterns[head].indptr)
        large = (counts > rank) & ~equal_rows(spec, patterns[head], rank)
        if large.any():
            row = int(np.argmax(large))
            raise ConstructionError(
                f"head {head}, row {row}: a support of {counts[row]} tokens needs as many code "
                f"dimensions, and hidden_size={spec.hidden_size}, head_dim={spec.head_dim} leave "
                f"{rank}"
            )
    return largest


def _keys(spec, codes, key_heads, length, dim, rng):
    """Return {key head: codes}, drawn or as given; with QK-norm they get its length."""
    rank = dim - bool(spec.qk_norm)
    if codes is None:
        if not isinstance(rng, np.random.Generator):
            rng = np.random.default_rng(rng)  # which every draw advances
        drawn = [key_codes.draw("gaussian", length, rank, rng).array() for _ in key_heads]
    else:
        if len(codes) != len(key_heads):
            raise ParameterError(f"codes: {len(codes)} of them, expected {len(key_heads)}")
        drawn = [check_array(f"codes[{place}]", array) for place, array in enumerate(codes)]
        for place, array in enumerate(drawn):
            if array.shape != (length, rank):
                raise ParameterError(
                    f"codes[{place}] of shape {array.shape}: expected {(length, rank)}"
                )
    if spec.qk_norm:
        lengths = [np.linalg.norm(array, axis=1, keepdims=True) for array in drawn]
        if not all(norms.all() for norms in lengths):
            raise ParameterError("codes: a row is zero, and qk_norm cannot give it a length")
        drawn = [spec.qk_length * a / norms for a, norms in zip(drawn, lengths, strict=True)]
    return dict(zip(key_heads, drawn, strict=True))
