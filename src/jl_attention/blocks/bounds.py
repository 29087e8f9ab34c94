"""What no input of a block can show: floors on the leak, whoever made the weights.

Every bound here is on the gap D = min over rows of (least logit on the support - largest logit off
it), in terms of features that bound the logits. A leak eps2 is then at least exp(-D).
"""

import math

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds

from ..errors import ConstructionError


def largest_logit(spec):
    """Return a bound on |z_ij| before ALiBi, for every input and every projection; may be inf.

    A softcap bounds |z| by c. With QK-norm, queries and keys have length gain sqrt(m) and
    |z| <= s gain^2 m (times the squared attention factor of a scaled rotary embedding).
    """
    bound = math.inf if spec.softcap is None else spec.softcap
    return min(bound, query_key_product(spec))


def query_key_product(spec):
    """Return s |q| |k| with QK-norm, infinity without it."""
    if not spec.qk_norm:
        return math.inf
    factor = spec.rope.factor**2 if spec.rope else 1.0
    return spec.logit_factor * spec.qk_gain**2 * spec.head_dim * max(factor, 1.0)


def largest_mass(spec, row_nnz, visible_count):
    """Return the most that a row can give to a support of k of the n tokens it sees.

    With |z| <= Z every other token keeps e^(-2Z) of what the largest gets, so the mass on k tokens
    is at most k / (k + (n - k) e^(-2Z)): for k = 1, 1/(1 + (n - 1) e^(-2Z)).

    Parameters
    ----------
    spec : BlockSpec
    row_nnz, visible_count : int or array_like of int
        k and n.

    Returns
    -------
    float or ndarray
        1 where nothing bounds the logits.
    """
    k, n = np.asarray(row_nnz, dtype=float), np.asarray(visible_count, dtype=float)
    return (k / (k + (n - k) * math.exp(-2 * largest_logit(spec))))[()]


def largest_gap(spec, patterns):
    """Return a bound on the gap that one key head's patterns can all have: (D, which bound).

    - entrywise: D <= 2 Z, Z = `largest_logit`;
    - spectral, where s |q| |k| <= R bounds the products: let row i of T be the average over its
      support minus the average over the other tokens it sees. Then D <= <T_i., Z_i.>, so
      N D <= <T, s Q K^T> <= ||T||_2 s ||Q||_F ||K||_F <= ||T||_2 sqrt(N L) R, with N rows in all.

    Parameters
    ----------
    spec : BlockSpec
    patterns : list of scipy.sparse.csr_array, shape (L, L)
        Of the query heads of one key head.

    Returns
    -------
    gap : float
        Infinity where nothing bounds it.
    reason : str
    """
    gap, reason = 2 * largest_logit(spec), "entrywise"
    product = query_key_product(spec)
    if math.isfinite(product):
        norm, rows = contrast_norm(spec, patterns)
        spectral = product * norm * math.sqrt(patterns[0].shape[0] / rows) if rows else math.inf
        if spectral < gap:
            gap, reason = spectral, "spectral"
    return gap, reason


def contrast_norm(spec, patterns):
    """Return (||T||_2, N) of `largest_gap`; rows that see nothing but their support are left out.

    T is never formed: with S the support's indicator, the sum over what a row sees is a difference
    of cumulative sums.
    """
    length = patterns[0].shape[0]
    visible = spec.visible_counts(length)
    first = np.zeros(length, dtype=int)
    if spec.causal:
        first = spec.first_visible(np.arange(length))
    blocks = []
    for pattern in patterns:
        counts = np.diff(pattern.indptr)
        rows = np.nonzero(visible > counts)[0]
        ones = sparse.csr_array(pattern, copy=True)
        ones.data[:] = 1
        blocks.append((rows, ones[rows], counts[rows], visible[rows] - counts[rows]))
    total = sum(len(rows) for rows, *_ in blocks)
    if total == 0:
        return 0.0, 0

    def times(v):
        v = v.ravel()
        ends = np.append(0.0, np.cumsum(v))
        parts = []
        for rows, ones, counts, others in blocks:
            inside = ones @ v
            seen = ends[first[rows] + visible[rows]] - ends[first[rows]]
            parts.append(inside / counts - (seen - inside) / others)
        return np.concatenate(parts)

    def transposed(u):
        u = u.ravel()
        result, steps, at = np.zeros(length), np.zeros(length + 1), 0
        for rows, ones, counts, others in blocks:
            part = u[at : at + len(rows)]
            at += len(rows)
            result += ones.T @ (part / counts + part / others)
            np.add.at(steps, first[rows], -part / others)
            np.add.at(steps, first[rows] + visible[rows], part / others)
        return result + np.cumsum(steps)[:-1]

    operator = LinearOperator((total, length), matvec=times, rmatvec=transposed, dtype=float)
    if min(total, length) == 1:
        return float(
            np.linalg.norm(times(np.ones(1)) if length == 1 else transposed(np.ones(1)))
        ), total
    start = np.random.default_rng(0).standard_normal(min(total, length))
    norm = svds(operator, k=1, v0=start, return_singular_vectors=False)[0]
    return float(norm) * (1 + 1e-9), total


def alibi_price(spec, pattern, head):
    """Return the most that ALiBi takes from a row's gap: slope (farthest wanted - nearest other).

    Token j wins by D over token j' nearer by t only if its <q, k> is larger by D + slope t, so a
    row needs logits that grow with the distance: |z| >= (D + slope t)/2 for one of the two.

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
    rows = np.arange(pattern.shape[0])
    starts, stops = pattern.indptr[:-1], pattern.indptr[1:]
    worst = 0
    for row, start, stop in zip(rows, starts, stops, strict=True):
        support = pattern.indices[start:stop]
        seen = np.arange(spec.first_visible(row), row + 1)
        rest = np.setdiff1d(seen, support, assume_unique=True)
        if len(rest):
            worst = max(worst, int(rest.max() - support.min()))
    return float(slope * max(worst, 0))


def check_floor(spec, patterns, heads, leak):
    """Raise `ConstructionError` if a bound forbids these patterns of one key head at this leak."""
    wanted = -math.log(leak)
    price = max(
        alibi_price(spec, pattern, head) for pattern, head in zip(patterns, heads, strict=True)
    )
    limit = 2 * largest_logit(spec)
    if not math.isfinite(limit):
        return
    needs_gap = any(
        (np.diff(pattern.indptr) < spec.visible_counts(pattern.shape[0])).any()
        for pattern in patterns
    )
    if not needs_gap:
        return
    gap, reason = largest_gap(spec, patterns)
    if wanted + price <= limit and wanted <= gap:
        return
    what = "softcap" if limit == 2 * (spec.softcap or math.inf) else "qk_norm"
    if wanted + price > limit:
        lost = f" + {price:.4g} that ALiBi takes" if price else ""
        raise ConstructionError(
            f"leak={leak:g}: needs a gap of log(1/leak) = {wanted:.4g}{lost} between logits, but "
            f"{what} keeps every |logit| within {limit / 2:.4g}: no input of this block leaks less than "
            f"{math.exp(min(price - limit, 0)):.3g}"
        )
    raise ConstructionError(
        f"leak={leak:g}: needs a gap of log(1/leak) = {wanted:.4g} between logits, but with qk_norm "
        f"|q| |k| scale = {query_key_product(spec):.4g} and these patterns leave at most {gap:.4g} "
        f"(spectral bound): no input of this block leaks less than {math.exp(-gap):.3g}"
    )
