"""Generators of sparse right-stochastic targets: the patterns of the book and of the literature.

Every generator returns a `scipy.sparse.csr_array` of float64 in canonical form (sorted indices, no
duplicates, no explicit zeros), as `targets.check_target` does.

Weights are drawn so that the ratio bound is attained: with gamma = `max_ratio` > 1, every row with
two or more nonzeros has a largest entry exactly gamma times its smallest one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from .errors import check_int, check_real

if TYPE_CHECKING:
    from .codes.base import Seed

__all__ = [
    "banded",
    "big_bird",
    "block_diagonal",
    "causal_window",
    "permutation",
    "regular",
    "row_sparse",
    "vertical_slash",
]


def regular(
    length: int, row_nnz: int, max_ratio: float = 1.0, rng: Seed = None
) -> sparse.csr_array:
    """Draw a target with exactly `row_nnz` nonzeros in every row and every column.

    This is the class of the paper's theorem (claim C2). The support is a union of `row_nnz`
    disjoint random permutations.

    Parameters
    ----------
    length : int
        Sequence length L.
    row_nnz : int
        k, between 1 and L.
    max_ratio : float, optional
        gamma >= 1, attained in every row when k >= 2.
    rng : int or numpy.random.Generator, optional

    Returns
    -------
    scipy.sparse.csr_array, shape (L, L)

    Raises
    ------
    ParameterError
        An argument is out of range.
    """
    length, row_nnz, max_ratio = _check_shape(length, row_nnz, max_ratio)
    rng = np.random.default_rng(rng)
    complement = row_nnz > length // 2
    columns = _disjoint_permutations(length, length - row_nnz if complement else row_nnz, rng)
    if complement:
        mask = np.ones((length, length), dtype=bool)
        np.put_along_axis(mask, columns, False, axis=1)
        columns = np.nonzero(mask)[1].reshape(length, row_nnz)
    return _weighted(_from_columns(columns), max_ratio, rng)


def _disjoint_permutations(length, count, rng):
    """Draw `count` <= L/2 permutations that agree nowhere; column t holds the t-th, (L, count).

    A row that repeats an earlier choice swaps with a random other row. At least
    L - 2 (count - 1) > 0 rows are fit for the swap, so it always ends.
    """
    columns = np.empty((length, count), dtype=np.int64)
    for step in range(count):
        earlier = columns[:, :step]
        new = rng.permutation(length)
        for row in np.nonzero((earlier == new[:, None]).any(axis=1))[0]:
            while new[row] in earlier[row]:
                other = rng.integers(length)
                if new[other] not in earlier[row] and new[row] not in earlier[other]:
                    new[row], new[other] = new[other], new[row]
        columns[:, step] = new
    return columns


def row_sparse(
    length: int, row_nnz: int, max_ratio: float = 1.0, rng: Seed = None
) -> sparse.csr_array:
    """Draw a target with `row_nnz` nonzeros in every row, in uniformly random columns.

    Columns are not bounded. Parameters, returns and errors as in `regular`.
    """
    length, row_nnz, max_ratio = _check_shape(length, row_nnz, max_ratio)
    rng = np.random.default_rng(rng)
    return _weighted(_from_columns(_random_subsets(length, row_nnz, length, rng)), max_ratio, rng)


def _random_subsets(count, size, universe, rng):
    """Draw `count` uniform subsets of range(universe), shape (count, size): Floyd's method."""
    chosen = np.empty((count, size), dtype=np.int64)
    for step, top in enumerate(range(universe - size, universe)):
        draw = rng.integers(top + 1, size=count)
        taken = (chosen[:, :step] == draw[:, None]).any(axis=1)
        chosen[:, step] = np.where(taken, top, draw)
    return chosen


def permutation(length: int, rng: Seed = None) -> sparse.csr_array:
    """Draw a random permutation matrix: each token attends to one token (k = 1)."""
    return regular(length, 1, rng=rng)


def banded(
    length: int, bandwidth: int, max_ratio: float = 1.0, rng: Seed = None
) -> sparse.csr_array:
    """Return a band: token i attends to the tokens j with |i - j| <= `bandwidth`.

    k = min(2 bandwidth + 1, L). Parameters otherwise as in `regular`.
    """
    length, _, max_ratio = _check_shape(length, 1, max_ratio)
    bandwidth = check_int("bandwidth", bandwidth, minimum=0)
    return _banded(length, bandwidth, bandwidth, max_ratio, rng)


def causal_window(
    length: int, window: int, max_ratio: float = 1.0, rng: Seed = None
) -> sparse.csr_array:
    """Return a causal window: token i attends to itself and the `window` - 1 tokens before it.

    k = min(window, L). Parameters otherwise as in `regular`.
    """
    length, _, max_ratio = _check_shape(length, 1, max_ratio)
    window = check_int("window", window)
    return _banded(length, window - 1, 0, max_ratio, rng)


def _banded(length, below, above, max_ratio, rng):
    offsets = np.arange(-min(below, length - 1), min(above, length - 1) + 1)
    columns = np.arange(length)[:, None] + offsets
    return _weighted(_from_columns(columns), max_ratio, np.random.default_rng(rng))


def block_diagonal(
    length: int, block_size: int, max_ratio: float = 1.0, rng: Seed = None
) -> sparse.csr_array:
    """Return diagonal blocks: tokens attend within consecutive blocks of `block_size` tokens.

    k = block_size; the last block is smaller when `block_size` does not divide L. Parameters
    otherwise as in `regular`.
    """
    length, block_size, max_ratio = _check_shape(length, block_size, max_ratio, "block_size")
    tokens = np.arange(length)
    columns = (tokens // block_size * block_size)[:, None] + np.arange(block_size)
    return _weighted(_from_columns(columns), max_ratio, np.random.default_rng(rng))


def big_bird(
    length: int,
    window: int,
    global_tokens: int,
    random_tokens: int,
    max_ratio: float = 1.0,
    rng: Seed = None,
) -> sparse.csr_array:
    """Return a BigBird pattern (Zaheer et al. 2020): window, global and random tokens.

    Token i attends to the tokens at distance at most `window`, to the first `global_tokens`
    tokens and to `random_tokens` random ones; the global tokens attend to all. Their rows and
    columns are dense: neither rows nor columns are bounded.

    Parameters
    ----------
    length, window, global_tokens, random_tokens : int
    max_ratio, rng
        As in `regular`.
    """
    length, _, max_ratio = _check_shape(length, 1, max_ratio)
    window = check_int("window", window, minimum=0)
    global_tokens = check_int("global_tokens", global_tokens, minimum=0, maximum=length)
    random_tokens = check_int("random_tokens", random_tokens, minimum=0, maximum=length)
    rng = np.random.default_rng(rng)
    offsets = np.arange(-min(window, length - 1), min(window, length - 1) + 1)
    first = np.broadcast_to(np.arange(global_tokens), (length, global_tokens))
    columns = np.hstack(
        [
            np.arange(length)[:, None] + offsets,
            first,
            _random_subsets(length, random_tokens, length, rng),
        ]
    )
    pattern = _from_columns(columns).tolil()
    pattern[:global_tokens, :] = 1
    return _weighted(sparse.csr_array(pattern), max_ratio, rng)


def vertical_slash(
    length: int, verticals: int, slashes: int, max_ratio: float = 1.0, rng: Seed = None
) -> sparse.csr_array:
    """Return vertical lines and causal diagonals, a pattern seen in long-context heads.

    Token i attends to `verticals` common tokens (token 0 and random ones, dense columns) and to
    the tokens i - s for s = 0 and `slashes` - 1 random offsets, all at or before i.

    Parameters
    ----------
    length : int
    verticals : int
        Number of dense columns, 0 to L.
    slashes : int
        Number of diagonals, 1 to L; the main diagonal is always one of them.
    max_ratio, rng
        As in `regular`.
    """
    length, _, max_ratio = _check_shape(length, 1, max_ratio)
    verticals = check_int("verticals", verticals, minimum=0, maximum=length)
    slashes = check_int("slashes", slashes, minimum=1, maximum=length)
    rng = np.random.default_rng(rng)
    lines = np.zeros(0, dtype=np.int64)
    if verticals:
        lines = np.append(0, 1 + rng.permutation(length - 1)[: verticals - 1])
    offsets = np.append(0, 1 + rng.permutation(length - 1)[: slashes - 1])
    tokens = np.arange(length)[:, None]
    columns = np.hstack([np.broadcast_to(lines, (length, len(lines))), tokens - offsets])
    return _weighted(_from_columns(np.where(columns <= tokens, columns, -1)), max_ratio, rng)


def _check_shape(length, row_nnz, max_ratio, name="row_nnz"):
    length = check_int("length", length)
    row_nnz = check_int(name, row_nnz, maximum=length)
    return length, row_nnz, check_real("max_ratio", max_ratio, at_least=1)


def _from_columns(columns):
    """Return the 0/1 csr_array with ones at (i, columns[i, :]), skipping columns out of range."""
    length = columns.shape[0]
    rows = np.repeat(np.arange(length), columns.shape[1])
    columns = columns.ravel()
    inside = (columns >= 0) & (columns < length)
    rows, columns = rows[inside], columns[inside]
    pattern = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(length, length))
    pattern.sum_duplicates()
    pattern.data[:] = 1
    return pattern


def _weighted(pattern, max_ratio, rng):
    """Give a 0/1 pattern random log-uniform weights of ratio exactly `max_ratio` in each row."""
    counts = np.diff(pattern.indptr)
    log_weights = rng.random(pattern.nnz)
    start = pattern.indptr[:-1]
    # Stretch each row's draws onto [0, 1], so that both ends are attained.
    low = np.repeat(np.minimum.reduceat(log_weights, start), counts)
    high = np.repeat(np.maximum.reduceat(log_weights, start), counts)
    spread = np.where(high > low, high - low, 1.0)
    weights = max_ratio ** ((log_weights - low) / spread)
    weights /= np.repeat(np.maximum.reduceat(weights, start), counts)
    pattern.data = weights / np.repeat(np.add.reduceat(weights, start), counts)
    return pattern
