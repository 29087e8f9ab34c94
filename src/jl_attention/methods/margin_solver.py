"""Theorem T9: for given keys, the shortest query with exact ratios and a given gap.

Row i asks for the least-norm q with

    <q, c_j - c_s> = b_j - b_s for j in S_i,    <q, c_s - c_j0> >= Delta for j0 not in S_i,

s the entry of S_i with the smallest b. There is at most one, and there is none if and only if some
point lies both in the hull of the other codes and in the affine hull of the support's,

    sum_j0 u_j0 c_j0 = sum_j a_j c_j,   u >= 0,   sum u = sum a = 1,

and the two sides give it contradicting logits: Delta + sum_j a_j (b_j - b_s) > 0. (Or the support's
codes are affinely dependent, u = 0 and sum a = 0, and the ratios out of reach.) If the two sides
differ by a vector of length rho, they still prove that every query is at least

    (Delta + sum_j a_j (b_j - b_s)) / rho

long. A row is called infeasible with such a certificate, of `LONGEST` gaps or more; found, with a
query that was checked against all keys and satisfies the conditions of Karush, Kuhn and Tucker; or
else unresolved. "Checked" means that every constraint holds to 1e-10 gaps and what rounding adds
for a query of this length, which is less until it is some 10^4 gaps long.

Few of the constraints are active. Two methods look for them, starting from the tokens of the
largest logits under the interpolating query: many exchanges at once, on all tokens, which settle
most rows; then one token at a time, on candidates (`least_distance`), which settles the others or
ends in the certificate. The answer depends on none of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..engine import run
from ..errors import ParameterError, check_array, check_choice, check_int, check_real, require
from .least_distance import (
    BLOCKED,
    CERTAIN,
    LONGEST,
    SOLVED,
    LeastDistance,
    Rows,
    largest_error,
    least_norm,
    rounding,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from numpy.typing import ArrayLike
    from scipy import sparse

    from ..codes import Codes

__all__ = [
    "CANDIDATES",
    "CHECKS",
    "ENTERING",
    "EXCHANGES",
    "FAR",
    "RANK",
    "SAMPLE",
    "SCALE",
    "START",
    "TOGETHER",
    "WORST",
    "ConvexCombination",
    "MaxMarginResult",
    "shortest_queries",
]

RANK = 1e-12
"""Singular values of the support's differences below this, relative to the largest, are zero."""

EXCHANGES = 30
"""Exchanges of a row, before one token at a time; easy rows need eight."""

FAR = 200.0
"""A row whose query gets that many gaps long over a key's unit, or half as long again as it was,
will hardly come to rest."""

TOGETHER = 16
"""Rows whose linear systems are solved at once, so that all fit into a processor's cache."""

START = 0.75
"""Tokens in the first active set, in units of m - k."""

ENTERING = 4
"""One in so many of the dimensions left is filled by an exchange."""

WORST = 0.2
"""Violations below this share of the row's largest wait for a later exchange."""

CANDIDATES = 2
"""Candidates of the first round, in units of m."""

SCALE = 3.0
"""Logit of the weakest entry, in gaps, under the query that ranks the tokens at first."""

SAMPLE = 8
"""Logits looked at for each token that `_Competing.roughly_largest` is to find."""

NOTHING = 1e-14
"""A weight of a convex combination that is rounding, not a token's."""

CHECKS = 50
"""A row is unresolved after so many checks on all tokens."""

BLOCK_BYTES, MOST_ROWS = 2**28, 256
"""Memory for a block of rows, and its size at the most."""


@dataclass(frozen=True, eq=False)
class ConvexCombination:
    """Why a row has no query: a point where the two sides contradict each other.

    Attributes
    ----------
    row : int
    competitors : ndarray of int
        Tokens j0 off the support.
    weights : ndarray
        u >= 0, their sum 1; or empty, if the ratios alone are out of reach.
    support : ndarray of int
        The tokens of S.
    coefficients : ndarray
        a, with the same sum as `weights`.
    contradiction : float
        Delta sum u + sum_j a_j (b_j - b_s) > 0.
    distance : float
        rho, the distance of sum u_j0 c_j0 and sum a_j c_j: 0 up to rounding.
    """

    row: int
    competitors: np.ndarray
    weights: np.ndarray
    support: np.ndarray
    coefficients: np.ndarray
    contradiction: float
    distance: float

    @property
    def least_length(self) -> float:
        """No query is shorter than this."""
        return float(self.contradiction / self.distance) if self.distance > 0 else np.inf


@dataclass(frozen=True, eq=False)
class MaxMarginResult:
    """The shortest queries for given keys, and what is known of the rows without one.

    Attributes
    ----------
    queries : ndarray, shape (n, m)
        Rows of NaN where none was found. Read-only.
    found, infeasible, unresolved : ndarray of int
        The rows of each kind, in order. Read-only.
    certificates : mapping of int to ConvexCombination
        For every infeasible row the reason.
    """

    queries: np.ndarray
    found: np.ndarray
    infeasible: np.ndarray
    unresolved: np.ndarray
    certificates: Mapping[int, ConvexCombination] = field(repr=False)

    def __post_init__(self):
        for array in (self.queries, self.found, self.infeasible, self.unresolved):
            array.flags.writeable = False

    def __repr__(self):
        return (
            f"<MaxMarginResult: {len(self.found)} rows found, {len(self.infeasible)} infeasible, "
            f"{len(self.unresolved)} unresolved>"
        )


def shortest_queries(
    target_logits: sparse.csr_array,
    keys: ArrayLike | Codes,
    gap: float | None = None,
    *,
    visible: ArrayLike | None = None,
    backend: str = "numpy",
    block_bytes: int = BLOCK_BYTES,
    executor: Executor | None = None,
    progress: Callable | None = None,
) -> MaxMarginResult:
    """Return the shortest query of every row, or why there is none (Theorem T9).

    Costs some ten products of n queries with all keys, O(n L m) each, and as many linear systems of
    fewer than m unknowns a row; near the threshold some 2m steps of O(m^2) instead. Memory for a
    block of rows in each worker.

    Parameters
    ----------
    target_logits : scipy.sparse.csr_array, shape (n, L)
        B. Only the differences within a row count. Row i asks for the support and the ratios of
        this row; it need not be the query of token i.
    keys : array_like or codes.Codes, shape (L, m)
    gap : float, optional
        Delta > 0; by default the smallest entry of B, which is tau.
    visible : array_like of int, shape (n,), optional
        Row i competes with the first visible[i] tokens only, which hold its support: i + 1 for
        causal attention. All L by default.
    backend : {"numpy", "numba"}, optional
        "numba" compiles the steps; it needs the package numba.
    block_bytes : int, optional
        Memory for a block of rows.
    executor : concurrent.futures.Executor, optional
        Maps the blocks of rows, see `engine.run`; the same bits come back whatever maps them.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of rows.

    Returns
    -------
    MaxMarginResult

    Raises
    ------
    ParameterError
        The shapes do not fit together, an entry is not finite, a row is empty, or its support is
        not visible.
    MissingExtraError
        numba is not installed.

    References
    ----------
    Lawson and Hanson, *Solving Least Squares Problems* (1974), chapter 23.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> square = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [0.0, 0.5]])
    >>> B = sparse.csr_array([[1.0, 1.0, 0, 0, 0], [0, 0, 0, 0, 1.0]])
    >>> result = shortest_queries(B, square)
    >>> result
    <MaxMarginResult: 1 rows found, 1 infeasible, 0 unresolved>
    >>> result.queries[0].round(6)
    array([0., 2.])
    >>> inside = result.certificates[1]  # token 4 lies in the hull of others
    >>> inside.least_length > 1e9
    True
    """
    array, gap, visible = _checked(target_logits, keys, gap, visible)
    check_choice("backend", backend, ("numpy", "numba"))
    check_int("block_bytes", block_bytes)
    problem = _Problem(keys if hasattr(keys, "array") else array, backend)
    blocks = _blocks(target_logits, array.shape, gap, visible, block_bytes)
    queries = np.full((target_logits.shape[0], array.shape[1]), np.nan)
    certificates, unresolved = {}, []
    sizes, unit = np.diff(target_logits.indptr), problem.unit
    solved_blocks = run(
        problem.solve_block,
        blocks,
        executor,
        progress,
        len(queries),
        size=lambda block: len(block.rows),
    )
    for block, solved, failed in solved_blocks:
        queries[block.rows] = solved * (gap / unit)
        for i, certificate in failed.items():
            row = int(block.rows[i])
            if certificate is None:
                unresolved.append(row)
            else:
                support = block.support[i, : sizes[row]]
                certificates[row] = _in_units(certificate, row, support, gap, unit)
    infeasible = np.array(sorted(certificates), dtype=int)
    return MaxMarginResult(
        queries,
        np.nonzero(~np.isnan(queries).any(axis=1))[0],
        infeasible,
        np.array(sorted(unresolved), dtype=int),
        MappingProxyType({int(row): certificates[row] for row in infeasible}),
    )


def _checked(target_logits, keys, gap, visible):
    """Return keys as float64, the gap, and visible as an array, or raise `ParameterError`."""
    if getattr(target_logits, "format", None) != "csr":
        raise ParameterError("target logits: expected a CSR array, as target_logits returns it")
    keys = check_array("keys", keys.array() if hasattr(keys, "array") else keys)
    if keys.ndim != 2 or keys.shape[1] == 0:
        raise ParameterError(f"keys of shape {keys.shape}: expected (L, m)")
    if target_logits.shape[1] != len(keys):
        raise ParameterError(
            f"target logits of shape {target_logits.shape} and keys of shape {keys.shape}: "
            "expected (n, L) and (L, m)"
        )
    n, indptr = target_logits.shape[0], target_logits.indptr
    if not np.isfinite(target_logits.data).all():
        raise ParameterError("target logits: every entry must be finite")
    empty = np.nonzero(np.diff(indptr) == 0)[0]
    if len(empty):
        raise ParameterError(f"target logits: row {empty[0]}: is empty")
    if gap is None:
        gap = target_logits.data.min() if n else 1.0
    gap = check_real("gap", gap, above=0)
    if visible is None:
        return keys, gap, np.full(n, len(keys))
    visible = check_array("visible", visible, at_least=1, at_most=len(keys), integer=True)
    if visible.shape != (n,):
        raise ParameterError(f"visible of shape {visible.shape}: expected ({n},)")
    last = np.maximum.reduceat(target_logits.indices, indptr[:-1]) if n else visible
    hidden = np.nonzero(last >= visible)[0]
    if len(hidden):
        row = hidden[0]
        raise ParameterError(
            f"visible: row {row}: token {last[row]} of its support is not among the first "
            f"{visible[row]}"
        )
    return keys, gap, visible


class _Block(NamedTuple):
    """Rows that are solved together: their supports (n, s), b - b_s in gaps, and what they see."""

    rows: np.ndarray
    support: np.ndarray
    values: np.ndarray
    visible: np.ndarray


def _blocks(target_logits, shape, gap, visible, block_bytes):
    """Yield the blocks, the smallest supports first."""
    sizes = np.diff(target_logits.indptr)
    order = np.argsort(sizes, kind="stable")
    while len(order):
        rows = order[: _block_rows(*shape, sizes[order[0]], block_bytes)]
        rows = rows[: _block_rows(*shape, sizes[rows[-1]], block_bytes)]
        order = order[len(rows) :]
        yield _Block(rows, *_padded(target_logits, rows, gap), visible[rows])


def _block_rows(length, dim, size, block_bytes):
    """Return how many rows of this support size fit: logits, H and W and N, candidates, D."""
    row = 8 * (2 * length + 8 * dim**2 + 3 * int(size) * dim)
    return max(1, min(MOST_ROWS, block_bytes // row))


def _padded(target_logits, rows, gap):
    """Return supports (n, s), filled up with their weakest token, and b - b_s in gaps."""
    start, sizes = target_logits.indptr[rows], np.diff(target_logits.indptr)[rows]
    place = np.arange(sizes.max())
    inside = place < sizes[:, None]
    at = start[:, None] + np.where(inside, place, 0)
    values = np.where(inside, target_logits.data[at], np.inf)
    least = values.min(axis=1, keepdims=True)
    weakest = np.take_along_axis(at, values.argmin(axis=1)[:, None], axis=1)
    support = target_logits.indices[np.where(inside, at, weakest)].astype(int)
    return support, np.where(inside, values - least, 0.0) / gap


def _in_units(certificate, row, support, gap, unit):
    """Return a certificate in the caller's units, without the padding, whose coefficients are 0."""
    competitors, weights, coefficients, contradiction, distance = certificate
    return ConvexCombination(
        row,
        competitors,
        weights,
        support,
        coefficients[: len(support)],
        contradiction * gap,
        distance * unit,
    )


class _Problem:
    """The rows' problems for one set of keys; the gap is 1 and the keys' entries are below 1.

    Where the keys are codes, a worker elsewhere is sent these and makes the keys itself.
    """

    def __init__(self, given, backend):
        self.made_of = given, backend
        keys = np.asarray(given.array() if hasattr(given, "array") else given, dtype=np.float64)
        # A power of two, so that scaling loses no digit.
        self.unit = 2.0 ** np.frexp(np.abs(keys).max(initial=0.0))[1]
        self.keys = keys / self.unit
        self.mean = self.keys.mean(axis=0)
        self.compiled = backend == "numba"
        self.solver = LeastDistance
        if self.compiled:
            require("numba", "numba")
            from .least_distance_numba import CompiledLeastDistance

            self.solver = CompiledLeastDistance

    def __reduce__(self):
        return _Problem, self.made_of

    def solve_block(self, block):
        """Return the block and what `solve` says of it."""
        return block, *self.solve(block.support, block.values, block.visible)

    def solve(self, support, values, visible):
        """Return queries (n, m), NaN where not found, and {row: certificate or None}."""
        n, dim = len(support), self.keys.shape[1]
        competing = _Competing(self.keys, support, visible, values)
        weakest = self.keys[competing.weakest]
        D = self.keys[support] - weakest[:, None]
        E, e, p = _ratios(D, values)
        queries, failed = np.full((n, dim), np.nan), {}
        error = np.abs(np.einsum("nsm,nm->ns", D, p) - values).max(axis=1)
        length = np.linalg.norm(p, axis=1)
        reachable = (error <= CERTAIN + rounding(dim, length)) & (length <= LONGEST)
        for row in np.nonzero(~reachable)[0]:
            failed[int(row)] = self._dependency(support[row], D[row], values[row], p[row])

        at = np.nonzero(reachable)[0]
        rows = Rows(self.keys, weakest, E, e)
        ranking = self._interpolating(rows, p)
        if not self.compiled:
            queries[at] = self._exchange(competing, rows.take(at), ranking[at], at)
            at = at[np.isnan(queries[at, 0])]
        if len(at):
            queries[at], blocked = self._one_by_one(competing, rows.take(at), ranking[at], at)
            for row, end in blocked.items():
                failed[row] = end and self._combination(*end, support[row], values[row])
        return queries, failed

    def _interpolating(self, rows, p):
        """Return queries with the right ratios and a logit of `SCALE` at the weakest entry.

        They are the shortest such, for keys of mean 0.
        """
        E, centred = rows.equalities, rows.weakest - self.mean
        level = np.einsum("nm,nm->n", p, centred)
        inside = np.einsum("nsm,nm->ns", E, centred)
        direction = centred - np.einsum("ns,nsm->nm", inside, E)
        squared = np.einsum("nm,nm->n", direction, direction)
        return p + ((SCALE - level) / np.where(squared > 0, squared, 1.0))[:, None] * direction

    def _exchange(self, competing, rows, ranking, at):
        """Exchange many active tokens at once; return the queries where it comes to rest, or NaN.

        All negative multipliers leave and the worst violators enter, until there are neither: the
        primal-dual active set strategy (Hintermueller, Ito and Kunisch 2002), a handful of small
        linear systems a row. It need not come to rest, and then has found nothing.
        """
        (n, fixed, dim) = rows.equalities.shape
        result, left = np.full((n, dim), np.nan), np.arange(n)
        rank = rows.equalities.any(axis=2).sum(axis=1)
        active = competing.roughly_largest(ranking, at, int(START * (dim - fixed)))
        scratch, longest = _Scratch(2), np.zeros(n)
        for _ in range(EXCHANGES):
            if not len(left):
                break
            on = active >= 0
            # A free slot holds the weakest entry itself: its normal is zero.
            weakest = competing.weakest[at[left], None]
            tokens = np.where(on, active, weakest)
            q, u, error = np.empty((len(left), dim)), np.zeros(active.shape), np.empty(len(left))
            counts = on.sum(axis=1)
            order = np.argsort(counts)
            for start in range(0, len(left), TOGETHER):  # rows with systems of about one size
                some = order[start : start + TOGETHER]
                width = counts[some[-1]]
                shape = len(some), fixed + width
                normals, gram = scratch(0, (*shape, dim)), scratch(1, (*shape, shape[1]))
                slots = np.hstack([np.repeat(weakest[some], fixed, axis=1), tokens[some, :width]])
                self.keys.take(slots, axis=0, out=normals, mode="clip")
                np.subtract(rows.weakest[some, None], normals, out=normals)
                normals[:, :fixed] = rows.equalities[some]
                values = np.hstack([rows.values[some], on[some, :width]])
                q[some], both = least_norm(normals, values, gram)
                u[some, :width] = both[:, fixed:]
                error[some] = largest_error(q[some], normals, values)
            kept = on & (u >= 0)
            room = np.maximum((dim - rank - kept.sum(axis=1)) // ENTERING, 1)
            violators = competing.violators(q, at[left], but=tokens, share=WORST)
            new, entered = _with_violators(active, kept, *violators, room)
            moved = entered | (kept != on).any(axis=1)
            done = ~moved & (error <= CERTAIN)
            result[left[done]] = q[done]
            length = np.linalg.norm(q, axis=1)
            longest = np.maximum(longest, length)
            moved &= (length < FAR) & (2 * length > longest)
            left, active, rank, longest = left[moved], new[moved], rank[moved], longest[moved]
            rows = rows.take(moved)
        return result

    def _one_by_one(self, competing, rows, ranking, at):
        """Solve on candidates, check on all tokens, and again with the violators among them.

        Return queries, NaN where not found, and {row: the combination that blocks it, or None}.
        """
        (n, _, dim) = rows.equalities.shape
        result, blocked, left = np.full((n, dim), np.nan), {}, np.arange(n)
        search = self.solver(rows)
        tokens = competing.roughly_largest(ranking, at, CANDIDATES * dim)
        for _ in range(CHECKS):
            if not len(left):
                break
            outcome, picks, sound = search.run(tokens)
            for i in np.nonzero(outcome != SOLVED)[0]:
                end = search.combination(i, picks[i]) if outcome[i] == BLOCKED else None
                blocked[int(at[left[i]])] = end
            violators = competing.violators(search.queries, at[left])
            worst = np.zeros(len(left))
            np.maximum.at(worst, violators[0], violators[2])
            allowed = CERTAIN + rounding(dim, np.linalg.norm(search.queries, axis=1))
            done = sound & (outcome == SOLVED) & (worst <= allowed)
            result[left[done]] = search.queries[done]
            going = np.nonzero(~done & (outcome == SOLVED))[0]
            tokens, _ = _with_violators(tokens, tokens >= 0, *violators, np.full(len(left), dim))
            tokens, left, search = tokens[going], left[going], search.take(going)
            search.repair(~sound[going])
        blocked.update((int(at[i]), None) for i in left)
        return result, blocked

    def _dependency(self, support, D, values, p):
        """Return the certificate of ratios out of reach: a dependency that the values break."""
        left = values - D @ p
        if np.abs(left).max() <= CERTAIN + rounding(len(p), np.linalg.norm(p)):
            left = np.linalg.lstsq(D.T, p, rcond=None)[0]  # p exists, but is too long
        left[values.argmin()] -= left.sum()
        left /= left[left > 0].sum()
        return self._accepted(np.array([], dtype=int), np.array([]), support, left, values)

    def _combination(self, competitors, weights, support, values):
        """Return the certificate that these weights make, or None."""
        weights = np.maximum(weights, 0.0)
        weights /= weights.sum()
        kept = np.nonzero(weights > NOTHING)[0]
        kept = kept[np.argsort(competitors[kept])]  # not in the order in which they came in
        competitors, weights = competitors[kept], weights[kept]
        weakest = values.argmin()
        c_s = self.keys[support[weakest]]
        point = weights @ (self.keys[competitors] - c_s)
        coefficients = np.linalg.lstsq((self.keys[support] - c_s).T, point, rcond=None)[0]
        coefficients[weakest] = 0.0
        coefficients[weakest] = 1 - coefficients.sum()
        return self._accepted(competitors, weights, support, coefficients, values)

    def _accepted(self, competitors, weights, support, coefficients, values):
        """Return the certificate if it proves that a query is longer than LONGEST, or None."""
        difference = weights @ self.keys[competitors] - coefficients @ self.keys[support]
        distance = float(np.linalg.norm(difference))
        contradiction = float(weights.sum() + coefficients @ values)
        if not contradiction > LONGEST * distance:
            return None
        return competitors, weights, coefficients, contradiction, distance


class _Scratch:
    """Arrays whose memory is used again: fresh pages cost more than the sums done on them."""

    def __init__(self, count):
        self.arrays = [np.empty(0)] * count

    def __call__(self, at, shape):
        """Return array number `at` in some shape, its entries arbitrary."""
        size = int(np.prod(shape))
        if self.arrays[at].size < size:
            self.arrays[at] = np.empty(size)
        return self.arrays[at][:size].reshape(shape)


class _Competing:
    """The tokens that each row of a block competes with."""

    def __init__(self, keys, support, visible, values):
        self.columns = int(visible.max(initial=0))
        self.keys, self.support = keys[: self.columns], support
        self.weakest = support[np.arange(len(support)), values.argmin(axis=1)]
        self.visible = None if (visible == self.columns).all() else visible
        self.buffer = np.empty((len(support), self.columns))

    def logits(self, queries, rows):
        """Return the logits of some rows' queries, -inf at tokens that do not compete."""
        logits = np.matmul(queries, self.keys.T, out=self.buffer[: len(rows)])
        np.put_along_axis(logits, self.support[rows], -np.inf, axis=1)
        if self.visible is not None:
            logits[np.arange(self.columns) >= self.visible[rows, None]] = -np.inf
        return logits

    def violators(self, queries, rows, but=None, share=None):
        """Return where logits exceed that of the weakest less the gap, tokens `but` apart.

        As places among the rows, tokens, and by how much; of each row those of at least this share
        of its largest excess.
        """
        logits = self.logits(queries, rows)
        if but is not None:
            np.put_along_axis(logits, but, -np.inf, axis=1)
        bar = np.einsum("nm,nm->n", self.keys[self.weakest[rows]], queries) - 1
        if share is None:
            return _above(logits, bar, CERTAIN)
        return _above(logits, bar, np.maximum(CERTAIN, share * (logits.max(axis=1) - bar)))

    def roughly_largest(self, queries, rows, count):
        """Return about `count` tokens of the largest logits, -1 where there are fewer.

        Those of every so-manieth token tell what a large logit is.
        """
        logits = self.logits(queries, rows)
        sample = logits[:, :: max(1, self.columns // (SAMPLE * max(count, 1)))]
        rank = min(max(1, count * sample.shape[1] // self.columns), sample.shape[1])
        bar = np.partition(sample, -rank, axis=1)[:, -rank]
        bar = np.where(np.isneginf(bar), np.finfo(float).min, bar)
        none, room = np.zeros((len(rows), 0), dtype=int), np.full(len(rows), count)
        return _with_violators(none, none >= 0, *_above(logits, bar, 0.0), room)[0]


def _above(logits, bar, margin):
    """Return where logits exceed a row's bar by more than the margin: places, tokens, excess."""
    where = np.flatnonzero(logits > (bar + margin)[:, None])
    place = where // logits.shape[1]
    return place, where - place * logits.shape[1], logits.ravel()[where] - bar[place]


def _ratios(D, values):
    """Return E and e with E q = e if and only if D q = values, and the shortest such q."""
    U, S, V = np.linalg.svd(D, full_matrices=False)
    rank = min(D.shape[1] - 1, D.shape[2])  # the weakest entry's row of D is zero
    U, S, V = U[..., :rank], S[:, :rank], V[:, :rank]
    kept = RANK * S[:, :1] < S
    e = np.where(kept, np.einsum("ns,nsr->nr", values, U) / np.where(kept, S, 1.0), 0.0)
    E = V * kept[..., None]
    return E, e, np.einsum("nr,nrm->nm", e, E)


def _with_violators(tokens, kept, rows, violators, excess, room):
    """Return the kept tokens and the `room` worst violators of each row, and where there are any.

    -1 fills the rows up.
    """
    order = np.argsort(rows + 1 / (1 + excess))  # by row, and the worst first
    rows, violators = rows[order], violators[order]
    counts = np.bincount(rows, minlength=len(tokens))
    place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    enters = place < room[rows]
    rows, violators, place = rows[enters], violators[enters], place[enters]
    taken = kept.sum(axis=1)
    result = np.full((len(tokens), int((taken + np.minimum(counts, room)).max(initial=0))), -1)
    at = np.arange(len(tokens))[:, None]
    first = np.argsort(~kept, axis=1, kind="stable")[:, : taken.max(initial=0)]
    result[:, : first.shape[1]] = np.where(kept[at, first], tokens[at, first], -1)
    result[rows, taken[rows] + place] = violators
    return result, counts > 0
