"""What no input of a block can show: floors on the leak, whoever made the weights.

The gap D of a row is its least logit on the support minus its largest off it, so its leak is
exp(-D). A feature that bounds the logits bounds D, and so the leak from below:

- entrywise: |z_ij| <= Z (softcap, QK-norm) gives D <= 2 Z;
- spectral: s |q| |k| <= R (QK-norm) gives D <= R ||T||_2 sqrt(L/N), see `largest_gap`;
- ALiBi takes slope times distance from a far token before the gap counts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds

from ..errors import ConstructionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from .spec import BlockSpec

__all__ = [
    "alibi_price",
    "check_floor",
    "contrast_norm",
    "largest_gap",
    "largest_logit",
    "largest_mass",
    "query_key_product",
]


def query_key_product(spec: BlockSpec) -> float:
    """Return R, the largest s |q| |k| that QK-norm leaves; infinity without it."""
    if not spec.qk_norm:
        return math.inf
    stretch = max(spec.rope.factor**2, 1.0) if spec.rope else 1.0
    return spec.logit_factor * spec.qk_gain**2 * spec.head_dim * stretch


def largest_logit(spec: BlockSpec) -> float:
    """Return Z, a bound on |z_ij| before ALiBi for every input and every projection.

    The softcap, or `query_key_product`, or the smaller of the two; infinity without either.
    """
    return min(math.inf if spec.softcap is None else spec.softcap, query_key_product(spec))


def largest_mass(
    spec: BlockSpec, row_nnz: ArrayLike, visible_count: ArrayLike
) -> float | np.ndarray:
    """Return the most of a row that k of the n tokens it sees can get.

    Every other token keeps exp(-2 Z) of what the largest gets, so k/(k + (n - k) exp(-2 Z)); for
    k = 1 that is 1/(1 + (n - 1) exp(-2 Z)).

    Parameters
    ----------
    spec : BlockSpec
    row_nnz, visible_count : int or array_like of int
        k and n.

    Returns
    -------
    float or ndarray
        1 where nothing bounds the logits.

    Examples
    --------
    >>> from jl_attention.blocks import BlockSpec
    >>> capped = BlockSpec(64, 1, 1, 16, softcap=2.0)
    >>> float(round(largest_mass(capped, 1, 1000), 4))
    0.0518
    """
    k, n = np.asarray(row_nnz, dtype=float), np.asarray(visible_count, dtype=float)
    return (k / (k + (n - k) * math.exp(-2 * largest_logit(spec))))[()]


def largest_gap(spec: BlockSpec, patterns: Sequence[sparse.csr_array]) -> float:
    """Return a bound on the gap that all rows of one key head's patterns can have at once.

    Entrywise 2 Z. And where s |q| |k| <= R: let row i of T hold the average over its support minus
    the average over the other tokens it sees, N rows in all, rows that see no other token left
    out. The gap of a row is at most the inner product of that row of T with its logits, so

        N D <= <T, s Q K^T> <= ||T||_2 s ||Q||_F ||K||_F <= ||T||_2 sqrt(N L) R.

    Parameters
    ----------
    spec : BlockSpec
    patterns : list of scipy.sparse.csr_array, shape (L, L)
        Of query heads that share a key head.

    Returns
    -------
    float
        Infinity where nothing bounds the logits, or no row sees a token off its support.
    """
    norm, rows = contrast_norm(spec, patterns)
    if not rows:
        return math.inf
    gap = 2 * largest_logit(spec)
    product = query_key_product(spec)
    if math.isfinite(product):
        gap = min(gap, product * norm * math.sqrt(patterns[0].shape[0] / rows))
    return gap


def contrast_norm(spec: BlockSpec, patterns: Sequence[sparse.csr_array]) -> tuple[float, int]:
    """Return (||T||_2, N) of `largest_gap`.

    T is never formed: the sum over what a row sees is a difference of cumulative sums, so that a
    product costs O(nonzeros + L) a pattern.
    """
    length = patterns[0].shape[0]
    first = spec.first_visible(np.arange(length))
    stop = first + spec.visible_counts(length)
    parts = []
    for pattern in patterns:
        counts = np.diff(pattern.indptr)
        rows = np.nonzero(stop - first > counts)[0]
        ones = sparse.csr_array(
            (np.ones(pattern.nnz), pattern.indices, pattern.indptr), shape=pattern.shape
        )
        others = stop[rows] - first[rows] - counts[rows]
        parts.append((first[rows], stop[rows], ones[rows], counts[rows], others))
    total = sum(len(part[0]) for part in parts)
    if not total:
        return 0.0, 0

    def times(vector):
        vector = vector.ravel()
        sums = np.append(0.0, np.cumsum(vector))
        products = []
        for low, high, ones, counts, others in parts:
            inside = ones @ vector
            products.append(inside / counts - (sums[high] - sums[low] - inside) / others)
        return np.concatenate(products)

    def transposed(vector):
        vector = vector.ravel()
        result, steps, at = np.zeros(length), np.zeros(length + 1), 0
        for low, high, ones, counts, others in parts:
            part = vector[at : at + len(low)]
            at += len(low)
            result += ones.T @ (part / counts + part / others)
            np.subtract.at(steps, low, part / others)
            np.add.at(steps, high, part / others)
        return result + np.cumsum(steps)[:-1]

    if min(total, length) <= 2:  # too small for the iteration
        matrix = np.array([times(column) for column in np.eye(length)])
        return float(np.linalg.norm(matrix, 2)), total
    operator = LinearOperator((total, length), matvec=times, rmatvec=transposed, dtype=float)
    start = np.random.default_rng(0).standard_normal(min(total, length))
    norm = svds(operator, k=1, v0=start, return_singular_vectors=False)[0]
    return float(norm) * (1 + 1e-9), total  # the iteration converges from below


def alibi_price(spec: BlockSpec, pattern: sparse.csr_array, head: int) -> float:
    """Return what ALiBi takes from the gap of a row: slope (farthest wanted - nearest other).

    Token j beats a token j' that is nearer by t with a gap D only if its s <q, k> is larger by
    D + slope t. So some |s <q, k>| of the row is at least (D + slope t)/2: the logits have to grow
    with the distance.

    Parameters
    ----------
    spec : BlockSpec
    pattern : scipy.sparse.csr_array, shape (L, L)
    head : int

    Returns
    -------
    float
        At least 0; 0 without ALiBi.
    """
    slope = spec.slopes[head]
    if slope == 0:
        return 0.0
    length = pattern.shape[0]
    first = spec.first_visible(np.arange(length))
    price = 0
    for row in range(length):
        support = np.sort(pattern.indices[pattern.indptr[row] : pattern.indptr[row + 1]])
        # The nearest token off the support: going back from the row, the first gap in it.
        run = row - np.arange(len(support))
        missing = np.nonzero(support[::-1] != run)[0]
        nearest = row - (missing[0] if len(missing) else len(support))
        if nearest >= first[row]:
            price = max(price, nearest - support[0])
    return float(slope * price)


def check_floor(
    spec: BlockSpec, patterns: Sequence[sparse.csr_array], heads: Sequence[int], leak: float
) -> None:
    """Raise `ConstructionError` if a bound forbids these patterns of one key head at this leak."""
    limit = 2 * largest_logit(spec)
    if not math.isfinite(limit):
        return
    gap = largest_gap(spec, patterns)
    if not math.isfinite(gap):
        return
    wanted = -math.log(leak)
    price = max(
        alibi_price(spec, pattern, head) for pattern, head in zip(patterns, heads, strict=True)
    )
    if wanted + price > limit:
        feature = "qk_norm" if spec.softcap is None else f"softcap={spec.softcap:g}"
        lost = f" and {price:.4g} for ALiBi" if price else ""
        raise ConstructionError(
            f"leak={leak:g}: needs logits that differ by log(1/leak) = {wanted:.4g}{lost}, but "
            f"with {feature} they differ by at most {limit:.4g}: no input of this block leaks less "
            f"than {math.exp(min(price - limit, 0)):.3g}"
        )
    if wanted > gap:
        raise ConstructionError(
            f"leak={leak:g}: needs logits that differ by log(1/leak) = {wanted:.4g}, but with "
            f"qk_norm and scale |q| |k| = {query_key_product(spec):.4g} these patterns leave at "
            f"most {gap:.4g} (spectral bound): no input of this block leaks less than "
            f"{math.exp(-gap):.3g}"
        )
