"""How many rows of a block's patterns will have no query, before any code is drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..errors import check_int, check_real
from ..logits import target_logits
from ..theory.capped import no_query_probability
from ..theory.tails import student_tail
from .compile import check_patterns
from .heads import GAP_MARGIN, LEVELS, equal_rows, inside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike
    from scipy import sparse

    from .spec import BlockSpec

__all__ = [
    "GRID",
    "RARE",
    "expected_failures",
]

GRID = 0.1
"""Relative spacing of the counts and thresholds that the law is asked for."""

RARE = 1e-9
"""Rows whose T3 query fails with a smaller probability need no finer law."""


def expected_failures(
    spec: BlockSpec,
    patterns: Sequence[ArrayLike | sparse.sparray | None],
    dim: int | None = None,
    leak: float = 0.01,
    logit_scale: float | None = None,
) -> float:
    """Return how many rows have no query, on average over Gaussian codes, with all heads used.

    The exact law of `theory.capped`, summed over rows and heads, with the tokens that a row sees
    and does not want as its n. Sizes are rounded to a grid of 10%, to the safe side, so this is a
    bound, and so it bounds the probability that `compile` finds no input.

    Parameters
    ----------
    spec : BlockSpec
        Without QK-norm, whose queries have to be short as well.
    patterns : list of array_like or sparse array, or None
        As for `compile`.
    dim : int, optional
        Coordinates of a head; as many as the hidden size has room for if None.
    leak : float, optional
    logit_scale : float, optional
        tau; the largest that `compile` tries if None.

    Returns
    -------
    float

    Raises
    ------
    ConstructionError, TargetError, ParameterError
        As `compile.check_patterns`.

    Examples
    --------
    >>> from jl_attention import blocks, patterns
    >>> spec = blocks.BlockSpec(200, query_heads=2, kv_heads=1, head_dim=64)
    >>> window = patterns.causal_window(1024, 4)
    >>> few = blocks.expected_failures(spec, [window, window], dim=64)
    >>> many = blocks.expected_failures(spec, [window, window], dim=24)
    >>> few < 1e-4 < 100 < many
    True
    """
    patterns = check_patterns(spec, patterns)
    leak = check_real("leak", leak, above=0, below=1)
    heads = [head for head, pattern in enumerate(patterns) if pattern is not None]
    if dim is None:
        dim = spec.largest_dim(heads)
    dim = check_int("dim", dim, maximum=spec.head_dim)
    gap = GAP_MARGIN - math.log(leak)
    tau = LEVELS[-1] * gap if logit_scale is None else logit_scale
    tau = max(tau, spec.sink_logit + gap)
    total = 0.0
    for head in heads:
        total += _of_head(spec, patterns[head], head, dim, tau, gap)
    return total


def _of_head(spec, pattern, head, dim, tau, gap):
    length = pattern.shape[0]
    rows = np.nonzero(~equal_rows(spec, pattern, dim))[0]
    wanted = target_logits(pattern, tau)[rows]
    counts = np.diff(wanted.indptr)
    others = spec.visible_counts(length)[rows] - counts
    distance = np.repeat(rows, counts) - wanted.indices
    squares = np.add.reduceat(inside(spec, head, wanted.data, distance) ** 2, wanted.indptr[:-1])
    # The least that a token off the support may have: with ALiBi, the row's own.
    threshold = inside(spec, head, tau - gap, 0) / np.sqrt(squares)
    rare = others > 0
    large = np.exp(np.ceil(np.log(others[rare]) / GRID) * GRID)
    low = np.exp(np.floor(np.log(threshold[rare]) / GRID) * GRID)
    cases = np.column_stack([np.minimum(np.ceil(large), length), dim - counts[rare] + 1, low])
    cases, repeats = np.unique(cases, axis=0, return_counts=True)
    hopeless = cases[:, 1] < 1
    n, nu, theta = cases[~hopeless].T
    found = n * student_tail(nu, theta)
    often = found > RARE
    found[often] = no_query_probability(n[often].astype(int), nu[often].astype(int), theta[often])
    return float((found * repeats[~hopeless]).sum() + repeats[hopeless].sum())
