"""Causal attention, token by token: a head that never changes what it said before (Theorem T3).

A token's key code is drawn when the token arrives and is then fixed; its query needs only the codes
so far. So rows can be appended for ever, and the earlier ones stay as they are, bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.special import softmax

from .codes.base import BLOCK_ROWS, GaussianCodes, check_dtype, stream_key
from .errors import TargetError, check_int
from .logits import off_support_tolerance
from .methods import Interpolate, least_norm_queries
from .theory.tails import student_tail

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from .codes.base import Seed

__all__ = [
    "StreamingHead",
]


class StreamingHead:
    """An attention head that grows one token at a time, with exact ratios on each row's support.

    With the same seed its codes are those of ``construct(target, Interpolate("gaussian"), dim=dim,
    rng=rng)`` bit for bit, its queries equal up to rounding, for any causal target appended row by
    row.

    Parameters
    ----------
    dim : int
        Query dimension m. For T tokens with at most k nonzeros a row, `required_dim(T, k, ...)`.
    leak : float, optional
        eps2 of (P2), in (0, 1).
    logit_scale : float, optional
        tau > log(1/eps2); None for 3 log(1/eps2).
    rng : int, numpy.random.SeedSequence, numpy.random.Generator or None, optional
        Seed of the codes, or a generator that gives one.
    dtype : {numpy.float64, numpy.float32}, optional
        Of queries and keys.

    Attributes
    ----------
    leak : float
        eps2, as asked.
    logit_scale : float
        tau.
    measured_leak : float
        The largest leak of a row so far, measured when the row was appended; 0 at first.
    expected_violations : float
        Expected number of entries with a larger leak than asked among the rows so far, by the
        Student law: a bound on the probability that there is any. It holds for supports and
        weights chosen independently of the codes.

    Raises
    ------
    ParameterError
        An argument is out of range.

    Examples
    --------
    >>> head = StreamingHead(dim=64, leak=0.1, rng=0)
    >>> head.append([0])
    array([1.])
    >>> head.append([0, 1], [0.25, 0.75]).round(6)
    array([0.25, 0.75])
    """

    def __init__(
        self,
        dim: int,
        *,
        leak: float = 0.01,
        logit_scale: float | None = None,
        rng: Seed = None,
        dtype: DTypeLike = np.float64,
    ) -> None:
        dim = check_int("dim", dim)
        dtype = check_dtype(dtype)
        _, self.leak, self.logit_scale = Interpolate().precision(0.0, leak, logit_scale)
        self.measured_leak = 0.0
        self.expected_violations = 0.0
        self._codes = GaussianCodes(BLOCK_ROWS, dim, stream_key(rng))
        self._block = None
        self._queries, self._keys = np.empty((2, 0, dim), dtype=dtype)
        self._supports, self._weights = [], []

    def __len__(self):
        """Return the number of tokens so far."""
        return len(self._supports)

    @property
    def dim(self) -> int:
        """m, the query dimension."""
        return self._keys.shape[1]

    @property
    def queries(self) -> np.ndarray:
        """The queries so far, shape (t, m), read-only."""
        return _frozen(self._queries[: len(self)])

    @property
    def keys(self) -> np.ndarray:
        """The key codes so far, shape (t, m), read-only."""
        return _frozen(self._keys[: len(self)])

    def append(self, support: ArrayLike, weights: ArrayLike | None = None) -> np.ndarray:
        """Append a token, and return its attention over the tokens so far, itself included.

        Costs O(k^2 m) for the query and O(t m) for the row it returns.

        Parameters
        ----------
        support : array_like of int, shape (s,)
            The tokens it attends to: distinct, between 0 and its own position t.
        weights : array_like, shape (s,), optional
            Positive, how much it attends to each; only their ratios matter. Equal if None.

        Returns
        -------
        ndarray, shape (t + 1,)

        Raises
        ------
        TargetError
            The support or the weights are not as above; names the row.
        ConstructionError
            As `constructions.least_norm_queries`. The head is then as it was before.
        """
        row = len(self)
        support, weights = _check_row(row, support, weights)
        self._reserve(row + 1)
        index, within = divmod(row, BLOCK_ROWS)
        if self._block is None or within == 0:
            self._block = self._codes.block(index)
        self._keys[row] = self._block[within]
        log_weights = np.log(weights)
        values = self.logit_scale + log_weights - log_weights.min()
        query = least_norm_queries(self._keys[support][None], values[None], [row])[0]
        self._queries[row] = query
        self._supports.append(support)
        self._weights.append(weights)
        self._account(row, support, values)
        return self.attention(row)

    def logits(self, row: int) -> np.ndarray:
        """Return the logits of a row over the tokens up to it, shape (row + 1,)."""
        row = check_int("row", row, minimum=0, maximum=len(self) - 1)
        return self._keys[: row + 1] @ self._queries[row]

    def attention(self, row: int) -> np.ndarray:
        """Return the attention of a row over the tokens up to it, shape (row + 1,)."""
        return softmax(self.logits(row))

    def target(self) -> sparse.csr_array:
        """Return what was asked of the rows so far, a right-stochastic csr_array (t, t)."""
        counts = [len(support) for support in self._supports]
        columns = np.concatenate([np.empty(0, dtype=int), *self._supports])
        data = np.concatenate([np.empty(0), *self._weights])
        indptr = np.append(0, np.cumsum(counts, dtype=int))
        return sparse.csr_array((data, columns, indptr), shape=(len(self), len(self)))

    def _reserve(self, length):
        """Make room for `length` tokens; arrays handed out before keep their memory."""
        capacity = len(self._keys)
        if length > capacity:
            more = ((0, max(64, capacity)), (0, 0))
            self._queries, self._keys = np.pad(self._queries, more), np.pad(self._keys, more)

    def _account(self, row, support, values):
        """Measure the leak of a new row, and add what the Student law expects of it."""
        logits = self.logits(row).astype(np.float64)
        on_support = logits[support]
        logits[support] = -np.inf
        leak = float(np.exp(logits.max() - on_support.min()))
        self.measured_leak = max(self.measured_leak, leak)
        rise = off_support_tolerance(0.0, self.leak, self.logit_scale)
        tail = student_tail(self.dim - len(support) + 1, rise / np.linalg.norm(values))
        self.expected_violations += (row + 1 - len(support)) * float(tail)


def _frozen(view):
    view = view.view()
    view.flags.writeable = False
    return view


def _check_row(row, support, weights):
    """Return a row's support, sorted, and its weights with sum 1, or raise `TargetError`."""
    support = np.asarray(support)
    if support.ndim != 1 or support.size == 0 or support.dtype.kind not in "iu":
        raise TargetError(f"row {row}: support: expected a nonempty list of token positions")
    if support.min() < 0 or support.max() > row:
        raise TargetError(f"row {row}: support: positions must lie between 0 and {row}")
    weights = np.ones(len(support)) if weights is None else np.asarray(weights)
    if weights.shape != support.shape or weights.dtype.kind not in "iuf":
        raise TargetError(f"row {row}: weights: expected one number for each support position")
    weights = weights.astype(np.float64)
    usable = np.isfinite(weights) & (weights > 0)
    if usable.all():
        weights = weights / weights.max()
        weights /= weights.sum()
        usable = weights > 0  # after possible underflow
    if not usable.all():
        raise TargetError(
            f"row {row}: weights: must be positive and finite; leave a token with weight 0 out"
        )
    order = np.argsort(support)
    support, weights = support[order].astype(np.int64), weights[order]
    if (np.diff(support) == 0).any():
        raise TargetError(f"row {row}: support: a position occurs twice")
    return support, weights
