"""From a failure probability that falls with m to the least m that will do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from ..errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

__all__ = [
    "LARGEST_DIM",
    "as_int",
    "ceil_dim",
    "doubling_search",
    "least_dim",
    "log_binomial",
    "log_of",
    "log_sum",
]

LARGEST_DIM = 2**62
"""Dimensions beyond this are refused: they no longer fit an integer of 64 bits."""


def log_of(count: ArrayLike) -> float | np.ndarray:
    """Return log(count), -inf at 0 without a warning."""
    with np.errstate(divide="ignore"):
        return np.log(count)


def log_sum(logs: ArrayLike) -> float | np.ndarray:
    """Return log of the sum of exp(logs)."""
    return np.logaddexp.reduce(logs)


def log_binomial(n: int | np.ndarray, k: int | np.ndarray) -> float | np.ndarray:
    """Return log of the binomial coefficient C(n, k)."""
    return -np.log1p(n) - special.betaln(n - k + 1, k + 1)


def least_dim(
    log_failure: Callable, log_eta: ArrayLike, low: ArrayLike, high: ArrayLike
) -> np.ndarray:
    """Return the least m in [low, high] with log_failure(m) <= log_eta; `high` is taken to do."""
    high = ceil_dim(high)
    shape = np.broadcast_shapes(np.shape(low), np.shape(high), np.shape(log_eta))
    low, high = (np.array(np.broadcast_to(end, shape), dtype=np.int64) for end in (low, high))
    while (low < high).any():
        middle = low + (high - low) // 2
        enough = log_failure(middle) <= log_eta
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
        low = np.minimum(low, high)
    return high


def ceil_dim(dim: ArrayLike) -> np.int64 | np.ndarray:
    """Round a dimension up to int64."""
    dim = np.asarray(dim)
    if dim.dtype.kind == "f":
        if (dim > LARGEST_DIM).any():
            raise ParameterError("the dimension asked for exceeds 2**62")
        dim = np.ceil(dim)
    return dim.astype(np.int64)


def as_int(dim: ArrayLike) -> int | np.ndarray:
    """Round a dimension up to int, or an array of them to int64."""
    dim = ceil_dim(dim)
    return dim if dim.ndim else dim.item()


def doubling_search(log_failure: Callable, log_eta: ArrayLike, low: ArrayLike) -> int | np.ndarray:
    """Return the least m >= low with log_failure(m) <= log_eta, an int or an array of int64."""
    high = np.asarray(low)
    shape = np.broadcast_shapes(high.shape, np.shape(log_eta), np.shape(log_failure(high)))
    low = high = np.array(np.broadcast_to(high, shape), dtype=np.int64)
    while not (enough := log_failure(high) <= log_eta).all():
        if (high > LARGEST_DIM // 2).any():
            raise ParameterError("the dimension asked for exceeds 2**62")
        low, high = np.where(enough, low, high + 1), np.where(enough, high, 2 * high)
    return as_int(least_dim(log_failure, log_eta, low, high))
