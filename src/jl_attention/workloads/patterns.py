"""Which earlier tokens each row attends to: the truth of a workload, with what is planted in it.

Every row of the named patterns has two trivial entries, token 0 (the sink) and itself, which any
method keeps, and a few *planted* ones, which a method has to find. A row whose planted tokens do
not exist yet has the trivial entries only. All patterns are causal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from ..errors import ParameterError, TargetError, check_choice, check_int, check_real
from ..targets import check_target

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike

__all__ = [
    "PATTERNS",
    "Pattern",
    "block_retrieval",
    "causal_part",
    "chains",
    "drifting_window",
    "given",
    "heavy_hitters",
    "induction",
    "mid_prompt",
    "needles",
    "pattern_of",
    "vertical_slash",
]


@dataclass(frozen=True, eq=False)
class Pattern:
    """A causal target, and which of its entries are planted.

    Attributes
    ----------
    truth : scipy.sparse.csr_array, shape (L, L)
        Right-stochastic, nothing above the diagonal.
    planted : ndarray of bool, shape (nnz,)
        For each stored entry of `truth`, in its order, whether a method is judged by it.
    """

    truth: sparse.csr_array = field(repr=False)
    planted: np.ndarray = field(repr=False)

    @property
    def length(self) -> int:
        """L, the number of tokens."""
        return self.truth.shape[0]

    def planted_rows(self) -> np.ndarray:
        """Return the rows with a planted entry, in order."""
        rows = np.repeat(np.arange(self.length), np.diff(self.truth.indptr))
        return np.unique(rows[self.planted])


def given(truth: ArrayLike | sparse.sparray) -> Pattern:
    """Return a pattern of one's own; every entry counts as planted.

    Parameters
    ----------
    truth : array_like or scipy.sparse array, shape (L, L)
        As `targets.check_target` wants it, with nothing above the diagonal.

    Returns
    -------
    Pattern

    Raises
    ------
    TargetError
        It is not right-stochastic, or a token attends to a later one; names the row.
    """
    truth = check_target(truth)
    rows = np.repeat(np.arange(truth.shape[0]), np.diff(truth.indptr))
    later = truth.indices > rows
    if later.any():
        at = int(np.argmax(later))
        raise TargetError(
            f"target: row {rows[at]}: attends to token {truth.indices[at]}, which is later; "
            "keep the causal part with workloads.patterns.causal_part"
        )
    return Pattern(truth, np.ones(truth.nnz, dtype=bool))


def causal_part(target: ArrayLike | sparse.sparray) -> sparse.csr_array:
    """Return the part of a target on and below its diagonal, rows rescaled to sum to 1.

    A row with nothing there attends to itself.

    Parameters
    ----------
    target : array_like or scipy.sparse array, shape (L, L)

    Returns
    -------
    scipy.sparse.csr_array, shape (L, L)

    Raises
    ------
    TargetError
        As `targets.check_target`.
    """
    lower = sparse.csr_array(sparse.tril(check_target(target)))
    sums = lower.sum(axis=1)
    empty = sums == 0
    lower = lower + sparse.diags_array(empty.astype(float))
    return check_target(sparse.diags_array(1 / np.where(empty, 1.0, sums)) @ lower)


# --- The named patterns --------------------------------------------------------------------------


def needles(
    length: int,
    rng: int | np.random.Generator | None = None,
    *,
    count: int = 2,
    weight: float = 1.0,
    sink: float = 1.0,
    local: float = 1.0,
) -> Pattern:
    """Return needles of one's own: each token attends to `count` uniformly random earlier tokens.

    Parameters
    ----------
    length : int
        L.
    rng : int or numpy.random.Generator, optional
    count : int, optional
        Planted entries of a row.
    weight, sink, local : float, optional
        Relative size of a planted entry, of the one on token 0 and of the one on the token itself;
        0 leaves `sink` or `local` out.

    Returns
    -------
    Pattern

    Raises
    ------
    ParameterError
        An argument is out of range.
    """
    length, count = check_int("length", length, minimum=4), check_int("count", count)
    rng = np.random.default_rng(rng)
    tokens = np.arange(length)[:, None]
    columns = 1 + np.floor(rng.random((length, count)) * (tokens - 1)).astype(np.int64)
    return _assemble(columns, weight, sink, local)


def vertical_slash(
    length: int,
    rng: int | np.random.Generator | None = None,
    *,
    verticals: int = 1,
    slashes: int = 1,
    weight: float = 1.0,
    sink: float = 1.0,
    local: float = 1.0,
) -> Pattern:
    """Return columns that all later tokens attend to, and diagonals.

    The columns lie in the first quarter; the offsets of the diagonals are log-uniform between 8
    and L/2. Parameters otherwise, returns and errors as in `needles`.
    """
    length = check_int("length", length, minimum=32)
    verticals = check_int("verticals", verticals, minimum=0)
    slashes = check_int("slashes", slashes, minimum=0)
    rng = np.random.default_rng(rng)
    lines = rng.integers(1, length // 4, size=verticals)
    offsets = np.exp(rng.uniform(np.log(8), np.log(length / 2), size=slashes)).astype(np.int64)
    tokens = np.arange(length)[:, None]
    columns = np.hstack([np.broadcast_to(lines, (length, verticals)), tokens - offsets])
    return _assemble(columns, weight, sink, local)


def mid_prompt(
    length: int,
    rng: int | np.random.Generator | None = None,
    *,
    count: int = 2,
    needles: int | None = None,
    asking: int | None = None,
    at: float = 0.5,
    weight: float = 1.0,
    sink: float = 1.0,
    local: float = 1.0,
) -> Pattern:
    """Return needles that only a stretch of tokens in mid-prompt asks for.

    `needles` tokens of the second eighth are planted, L/256 if None; `asking` consecutive tokens,
    L/64 if None, attend to `count` of them each, and nothing before or after does. The stretch
    begins at the share `at` of the prompt, between 1/4 and 1, or as late as it fits. Parameters
    otherwise, returns and errors as in `needles`.
    """
    length = check_int("length", length, minimum=64)
    needles = max(length // 256, 4) if needles is None else needles
    needles = check_int("needles", needles, maximum=length // 8)
    count = check_int("count", count, maximum=needles)
    asking = check_int("asking", length // 64 if asking is None else asking, maximum=length // 4)
    at = check_real("at", at, at_least=0.25, at_most=1)
    start = min(int(at * length), length - asking)
    rng = np.random.default_rng(rng)
    hidden = length // 8 + rng.permutation(length // 8)[:needles]
    columns = np.full((length, count), -1)
    for row in range(start, start + asking):
        columns[row] = rng.choice(hidden, count, replace=False)
    return _assemble(columns, weight, sink, local)


def block_retrieval(
    length: int,
    rng: int | np.random.Generator | None = None,
    *,
    count: int = 2,
    block: int = 64,
    weight: float = 1.0,
    sink: float = 1.0,
    local: float = 1.0,
) -> Pattern:
    """Return blocks that look into one earlier block: each token attends to `count` tokens of it.

    Each block of `block` consecutive tokens has one random earlier block. Parameters otherwise,
    returns and errors as in `needles`.
    """
    length, count = check_int("length", length, minimum=4), check_int("count", count)
    block = check_int("block", block, minimum=2, maximum=length // 2)
    rng = np.random.default_rng(rng)
    mine = np.arange(length) // block
    source = np.floor(rng.random(mine[-1] + 1) * np.arange(mine[-1] + 1)).astype(np.int64)
    columns = source[mine][:, None] * block + rng.integers(block, size=(length, count))
    columns[mine == 0] = -1  # the first block has no earlier one
    return _assemble(columns, weight, sink, local)


def chains(
    length: int,
    rng: int | np.random.Generator | None = None,
    *,
    hops: int = 16,
    weight: float = 1.0,
    sink: float = 1.0,
    local: float = 1.0,
) -> Pattern:
    """Return multi-hop chains: each token attends to the one before it in its chain.

    The tokens are dealt to L/`hops` chains at random, so that following a chain takes about `hops`
    steps. Parameters otherwise, returns and errors as in `needles`.
    """
    length = check_int("length", length, minimum=4)
    hops = check_int("hops", hops, minimum=2, maximum=length)
    rng = np.random.default_rng(rng)
    return _assemble(
        _previous(rng.integers(-(-length // hops), size=length))[:, None], weight, sink, local
    )


def induction(
    length: int,
    rng: int | np.random.Generator | None = None,
    *,
    repeats: int = 8,
    weight: float = 1.0,
    sink: float = 1.0,
    local: float = 1.0,
) -> Pattern:
    """Return an induction head: each token attends to the one that followed its last occurrence.

    The text is uniformly random over L/`repeats` words. Parameters otherwise, returns and errors
    as in `needles`.
    """
    length = check_int("length", length, minimum=4)
    repeats = check_int("repeats", repeats, minimum=2, maximum=length)
    rng = np.random.default_rng(rng)
    previous = _previous(rng.integers(-(-length // repeats), size=length))
    return _assemble(previous[:, None] + 1, weight, sink, local)


def drifting_window(
    length: int,
    rng: int | np.random.Generator | None = None,
    *,
    rate: float = 0.5,
    width: int = 2,
    weight: float = 1.0,
    sink: float = 1.0,
    local: float = 1.0,
) -> Pattern:
    """Return a window that drifts: token i attends to `width` tokens from `rate` i on.

    As in copying or aligning at a slower pace; nothing is random. Parameters otherwise, returns
    and errors as in `needles`.
    """
    length, width = check_int("length", length, minimum=4), check_int("width", width)
    rate = check_real("rate", rate, above=0, below=1)
    tokens = np.arange(length)[:, None]
    columns = np.floor(rate * tokens).astype(np.int64) + np.arange(width)
    return _assemble(columns, weight, sink, local)


def heavy_hitters(
    length: int,
    rng: int | np.random.Generator | None = None,
    *,
    count: int = 2,
    exponent: float = 1.0,
    weight: float = 1.0,
    sink: float = 1.0,
    local: float = 1.0,
) -> Pattern:
    """Return heavy hitters: token popularity follows a power law.

    Each token attends to `count` earlier ones, drawn with probability proportional to
    rank^(-`exponent`) of a random ranking. Parameters otherwise, returns and errors as in
    `needles`.
    """
    length, count = check_int("length", length, minimum=4), check_int("count", count)
    exponent = check_real("exponent", exponent, at_least=0)
    rng = np.random.default_rng(rng)
    popularity = (1.0 + rng.permutation(length)) ** -exponent
    popularity[0] = 0  # the sink is trivial
    total = np.cumsum(popularity)
    below = np.append(0, total[:-1])  # of the tokens before each one
    drawn = np.searchsorted(total, rng.random((length, count)) * below[:, None], side="right")
    return _assemble(drawn, weight, sink, local)


PATTERNS = {
    "needles": needles,
    "vertical_slash": vertical_slash,
    "mid_prompt": mid_prompt,
    "block_retrieval": block_retrieval,
    "chains": chains,
    "induction": induction,
    "drifting_window": drifting_window,
    "heavy_hitters": heavy_hitters,
}
"""Every named pattern."""


def pattern_of(
    kind: str | Pattern | ArrayLike | sparse.sparray,
    length: int | None,
    rng: int | np.random.Generator | None,
    options: dict[str, Any],
) -> Pattern:
    """Return a `Pattern` from a name of `PATTERNS`, a pattern or a causal target."""
    if isinstance(kind, str):
        check_choice("pattern", kind, PATTERNS)
        if length is None:
            raise ParameterError(f"length: is needed for the pattern {kind!r}")
        try:
            return PATTERNS[kind](length, rng, **options)
        except TypeError as error:
            raise ParameterError(f"pattern {kind!r}: {error}") from None
    if options:
        raise ParameterError(f"{next(iter(options))}: only a named pattern has options")
    pattern = kind if isinstance(kind, Pattern) else given(kind)
    if length is not None and length != pattern.length:
        raise ParameterError(f"length={length}: the pattern given has {pattern.length} tokens")
    return pattern


def _previous(labels):
    """Return for each token the last earlier one with the same label, or -1."""
    order = np.argsort(labels, kind="stable")
    same = labels[order[1:]] == labels[order[:-1]]
    previous = np.full(len(labels), -1)
    previous[order[1:][same]] = order[:-1][same]
    return previous


def _assemble(columns, weight, sink, local):
    """Return the pattern with these planted columns beside the trivial entries.

    A column that is not strictly between token 0 and the row's own token plants nothing.
    """
    weight = check_real("weight", weight, above=0)
    sink, local = (check_real(n, v, at_least=0) for n, v in (("sink", sink), ("local", local)))
    length, count = columns.shape
    tokens = np.arange(length)
    all_columns = np.hstack([columns, np.zeros((length, 1), dtype=np.int64), tokens[:, None]])
    weights = np.broadcast_to(np.append(np.full(count, weight), [sink, local]), all_columns.shape)
    stored = weights > 0
    stored[:, :count] = (columns > 0) & (columns < tokens[:, None])
    stored[0, -1] = True  # the first token has nothing but itself
    rows = np.broadcast_to(tokens[:, None], stored.shape)[stored]
    key, first = np.unique(rows * length + all_columns[stored], return_index=True)
    rows, indices = np.divmod(key, length)
    data = np.where(weights > 0, weights, 1.0)[stored][first]
    sums = np.bincount(rows, weights=data, minlength=length)
    if (sums == 0).any():
        row = int(np.argmin(sums))
        raise ParameterError(f"sink=0, local=0: row {row} has no planted entry to attend to")
    indptr = np.append(0, np.cumsum(np.bincount(rows, minlength=length)))
    truth = sparse.csr_array((data / sums[rows], indices, indptr), shape=(length, length))
    planted = np.zeros(all_columns.shape, dtype=bool)
    planted[:, :count] = True
    return Pattern(check_target(truth), planted[stored][first])
