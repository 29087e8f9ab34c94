"""Published methods that look at a part of the keys only, each from its paper's description.

A selector takes the queries and keys of one head, Q and K of shape (L, m), or of all heads,
(H, L, m) and (KV, L, m), and returns which keys each row keeps: a `Selection`, or a list of one for
each query head. They are references for what a method finds, not for its speed.

Logits are Q K^T / sqrt(m), all of it is causal, ties go to the earlier token.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from ..errors import ParameterError, check_int

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

__all__ = [
    "SELECTORS",
    "Selection",
    "block_sparse",
    "exact_top_k",
    "flex_prefill",
    "h2o",
    "per_head",
    "quest",
    "snapkv",
    "streaming_llm",
    "tova",
    "vertical_slash",
]


class Selection:
    """Which keys each row of one head keeps.

    Parameters
    ----------
    length : int
        L.
    keep : callable
        ``keep(rows)`` returns a bool array (n, L), or one that broadcasts to it; what lies above
        the diagonal is ignored.
    """

    def __init__(self, length, keep):
        self.length, self._keep = length, keep

    def mask(self, rows: ArrayLike) -> np.ndarray:
        """Return which keys these rows keep, a bool array of shape (n, L)."""
        rows = np.atleast_1d(rows)
        kept = np.asarray(self._keep(rows), dtype=bool)
        visible = np.arange(self.length) <= rows[:, None]
        if kept.shape not in (visible.shape, visible.shape[1:]):
            raise ParameterError(f"keep: {kept.shape}; expected {visible.shape}")
        return kept & visible


def per_head(selector: Callable) -> Callable:
    """Let a selector of one head take all heads; query head h reads key head h // (H / KV)."""

    @wraps(selector)
    def of_heads(Q, K, **options):
        Q, K = np.asarray(Q), np.asarray(K)
        if Q.ndim == K.ndim == 2 and Q.shape == K.shape:
            return selector(Q, K, **options)
        if Q.ndim != 3 or K.ndim != 3 or Q.shape[1:] != K.shape[1:] or len(Q) % len(K):
            raise ParameterError(
                f"Q of shape {Q.shape} and K of shape {K.shape}: expected (L, m) both, or "
                "(H, L, m) and (KV, L, m) with KV a divisor of H"
            )
        group = len(Q) // len(K)
        return [selector(Q[head], K[head // group], **options) for head in range(len(Q))]

    return of_heads


# --- Exact, and fixed ----------------------------------------------------------------------------


@per_head
def exact_top_k(Q: ArrayLike, K: ArrayLike, *, budget: int) -> Selection | list[Selection]:
    """Keep the `budget` largest logits of each row: the oracle, which looks at all of them."""
    budget = check_int("budget", budget)

    def keep(rows):
        return _largest(_logits(Q, K, rows), budget)

    return Selection(len(K), keep)


@per_head
def streaming_llm(
    Q: ArrayLike, K: ArrayLike, *, first: int = 4, recent: int = 1024
) -> Selection | list[Selection]:
    """Keep the first tokens and the nearest: StreamingLLM (Xiao et al. 2024).

    With ``first=1000, recent=4000`` the A-shape heads of MInference.
    """
    first, recent = check_int("first", first, minimum=0), check_int("recent", recent)
    tokens = np.arange(len(K))
    return Selection(len(K), lambda r: (tokens < first) | (tokens > r[:, None] - recent))


# --- Estimates from the last queries -------------------------------------------------------------


@per_head
def vertical_slash(
    Q: ArrayLike,
    K: ArrayLike,
    *,
    verticals: int = 1000,
    slashes: int = 6096,
    last: int = 64,
    first: int = 30,
    nearest: int = 100,
    block: int = 64,
) -> Selection | list[Selection]:
    """Keep the columns and diagonals that weigh most for the last queries: MInference.

    The causal softmax of the last `last` queries is summed by column and by offset i - j; the first
    columns and the nearest offsets are forced. A block of queries keeps as many keys of a slash as
    it has rows, those that its rows see it in; ``block=1`` keeps the slashes alone (Jiang et al.
    2024).
    """
    length = len(K)
    weights, rows = _last_weights(Q, K, last)
    column, offset = weights.sum(axis=0), _by_offset(weights, rows)
    column[:first] = offset[:nearest] = np.inf
    vertical = _largest(column[None], check_int("verticals", verticals, minimum=0))[0]
    slash = np.nonzero(_largest(offset[None], check_int("slashes", slashes, minimum=0))[0])[0]

    def keep(rows):
        begins = np.zeros((len(rows), block + length + block), dtype=np.int32)
        for at, start in enumerate(rows // block * block):
            begins[at, block + start - slash[slash < start + block]] = 1
        seen = np.cumsum(begins, axis=1, out=begins)
        return vertical | (seen[:, block : block + length] > seen[:, :length])

    return Selection(length, keep)


@per_head
def flex_prefill(
    Q: ArrayLike,
    K: ArrayLike,
    *,
    gamma: float = 0.9,
    tau: float = 0.1,
    min_budget: int = 1024,
    block: int = 128,
) -> Selection | list[Selection]:
    """Keep enough columns and diagonals, or enough blocks, for a share `gamma`: FlexPrefill.

    The last block of queries decides: where mean-pooled keys predict its attention (the root of
    the Jensen-Shannon divergence is below `tau`), blocks of the pooled map are kept until `gamma`
    of it is gathered, else column blocks and block diagonals (Lai et al. 2025).
    """
    length, count = len(K), -(-len(K) // block)
    weights, rows = _last_weights(Q, K, len(K) - (count - 1) * block)
    column, offset = weights.mean(axis=0), _by_offset(weights, rows) / len(rows)
    pooled = _pooled_map(Q, K, block)
    true = _block_sums(column, block)
    query_aware = jensenshannon(true, pooled[-1]) < tau
    kept = np.zeros((count, count), dtype=bool)  # block of queries, block of keys
    for shares, is_diagonal in ((column, False), (offset, True)):
        enough = 1 + np.searchsorted(np.cumsum(-np.sort(-shares)), gamma)
        number = max(-(-min_budget // block), 0 if query_aware else enough // block + 1)
        sums = _block_sums(shares, block)
        sums[0] = np.inf  # the first columns and the main diagonal
        chosen = np.nonzero(_largest(sums[None], number)[0])[0]
        if is_diagonal:
            at, back = np.meshgrid(np.arange(count), chosen, indexing="ij")
            kept[at[at >= back], (at - back)[at >= back]] = True
        else:
            kept[:, chosen] = True
    if query_aware:
        order = np.argsort(-pooled, axis=None, kind="stable")
        enough = 1 + np.searchsorted(np.cumsum(pooled.ravel()[order]), gamma * count)
        kept.ravel()[order[:enough]] = True
    return Selection(length, lambda rows: _expand(kept[rows // block], block, length))


@per_head
def block_sparse(
    Q: ArrayLike, K: ArrayLike, *, blocks: int = 100, block: int = 64
) -> Selection | list[Selection]:
    """Keep the key blocks whose mean has the largest weight for the mean query: MInference.

    Blocks of queries and keys are mean-pooled; each block of queries keeps `blocks` blocks of keys
    of the pooled causal softmax (Jiang et al. 2024).
    """
    kept = _largest(_pooled_map(Q, K, block), check_int("blocks", blocks))
    return Selection(len(K), lambda rows: _expand(kept[rows // block], block, len(K)))


@per_head
def quest(
    Q: ArrayLike, K: ArrayLike, *, budget: int = 4096, page: int = 16
) -> Selection | list[Selection]:
    """Keep the pages of keys whose bounding box may hold the largest logit: Quest.

    A page's score for a query is the sum over coordinates of max(q min, q max), an upper bound of
    its logits. The row's own page is kept, and the rest of the budget goes by score (Tang et al.
    2024).
    """
    length, count = len(K), -(-len(K) // page)
    starts = np.arange(0, length, page)
    low, high = np.minimum.reduceat(K, starts), np.maximum.reduceat(K, starts)

    def keep(rows):
        some = Q[rows]
        bound = np.maximum(some, 0) @ high.T + np.minimum(some, 0) @ low.T
        own = rows[:, None] // page
        bound[np.arange(count) == own] = np.inf
        bound[np.arange(count) > own] = -np.inf
        return _expand(_largest(bound, max(budget // page, 1)), page, length)

    return Selection(length, keep)


# --- Caches: what was dropped never returns ------------------------------------------------------


@per_head
def h2o(
    Q: ArrayLike, K: ArrayLike, *, heavy: int = 1024, recent: int = 1024
) -> Selection | list[Selection]:
    """Keep the keys with the largest weight so far, and the newest: H2O (Zhang et al. 2023).

    A key's score is the sum of its softmax weights over the queries so far, each softmax over the
    keys then kept. After each step the `recent` newest keys stay, and of the rest the `heavy`
    largest scores.
    """
    recent = check_int("recent", recent)
    budget = check_int("heavy", heavy) + recent
    return _evicting(Q, K, budget, recent, lambda score, weights: score + weights)


@per_head
def tova(Q: ArrayLike, K: ArrayLike, *, budget: int = 2048) -> Selection | list[Selection]:
    """Keep the keys with the largest weight for the last query, at each step: TOVA.

    Once there are more than `budget` one key is dropped at each step (Oren et al. 2024).
    """
    return _evicting(Q, K, check_int("budget", budget), 0, lambda score, weights: weights)


@per_head
def snapkv(
    Q: ArrayLike, K: ArrayLike, *, budget: int = 4096, last: int = 32, kernel: int = 5
) -> Selection | list[Selection]:
    """Keep the keys that the end of the prompt looks at: SnapKV (Li et al. 2024).

    The softmax of the last `last` queries is averaged and pooled along the sequence with a mean of
    `kernel` tokens; the largest stay, with the last `last` tokens themselves. The cache that
    remains after the prompt is the same for every row here.
    """
    weights, rows = _last_weights(Q, K, last)
    pooled = np.convolve(weights.mean(axis=0), np.full(check_int("kernel", kernel), 1 / kernel))
    votes = pooled[kernel // 2 :][: len(K)]
    votes[rows] = np.inf
    kept = _largest(votes[None], check_int("budget", budget))[0]
    return Selection(len(K), lambda rows: kept)


# --- Shared steps --------------------------------------------------------------------------------


def _logits(Q, K, rows):
    """Return rows of Q K^T / sqrt(m), -inf above the diagonal."""
    logits = Q[rows] @ K.T / np.sqrt(K.shape[1], dtype=K.dtype)
    logits[np.arange(len(K)) > rows[:, None]] = -np.inf
    return logits


def _last_weights(Q, K, last):
    """Return the causal softmax of the last queries, and which rows they are."""
    rows = np.arange(max(len(K) - check_int("last", last), 0), len(K))
    return softmax(_logits(Q, K, rows).astype(np.float64), axis=1), rows


def _by_offset(weights, rows):
    """Return the sums of weights by i - j, shape (L,)."""
    sums = np.zeros(weights.shape[1])
    for row, weight in zip(rows, weights, strict=True):
        sums[: row + 1] += weight[row::-1]
    return sums


def _largest(values, count):
    """Return where the `count` largest of each row are; ties go to the earlier one."""
    if count >= values.shape[1]:
        return np.ones(values.shape, dtype=bool)
    if count == 0:
        return np.zeros(values.shape, dtype=bool)
    threshold = -np.partition(-values, count - 1, axis=1)[:, count - 1 : count]
    above, tied = values > threshold, values == threshold
    room = count - above.sum(axis=1, keepdims=True)
    return above | (tied & (np.cumsum(tied, axis=1) <= room))


def _block_sums(values, block):
    return np.add.reduceat(values, np.arange(0, len(values), block))


def _pooled_map(Q, K, block):
    """Return the causal softmax of mean-pooled queries and keys, one row a block."""
    starts = np.arange(0, len(K), block)
    sizes = np.diff(np.append(starts, len(K)))[:, None]
    queries, keys = (np.add.reduceat(X.astype(np.float64), starts) / sizes for X in (Q, K))
    return softmax(_logits(queries, keys, np.arange(len(starts))), axis=1)


def _expand(blocks, block, length):
    """Return a mask over blocks of keys as one over keys."""
    return np.repeat(blocks, block, axis=1)[:, :length]


def _evicting(Q, K, budget, recent, update):
    """Run a cache of `budget` keys over the rows; the key of the least score goes at each step."""
    length, scale = len(K), 1 / np.sqrt(K.shape[1])
    cache = np.empty((budget + 1, K.shape[1]), dtype=K.dtype)
    token, score = np.zeros(budget + 1, dtype=np.int64), np.zeros(budget + 1)
    gone, slot = np.full(length, length), 0
    for row in range(length):
        held = min(row, budget) + 1
        slot = row if row <= budget else slot
        cache[slot], token[slot], score[slot] = K[row], row, 0.0
        logits = (cache[:held] @ Q[row]).astype(np.float64) * scale
        weights = np.exp(logits - logits.max())
        score[:held] = update(score[:held], weights / weights.sum())
        if held > budget:
            slot = int(np.argmin(np.where(token > row - recent, np.inf, score)))
            gone[token[slot]] = row + 1
    return Selection(length, lambda rows: rows[:, None] < gone)


SELECTORS = {
    "exact_top_k": exact_top_k,
    "streaming_llm": streaming_llm,
    "vertical_slash": vertical_slash,
    "flex_prefill": flex_prefill,
    "block_sparse": block_sparse,
    "quest": quest,
    "h2o": h2o,
    "tova": tova,
    "snapkv": snapkv,
}
"""Every selector by name."""
