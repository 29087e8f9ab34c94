"""The smallest dimension that works, measured: bisection over m with a fixed number of seeds.

Projected logits can be drawn at any m, also where a theorem asks for millions of dimensions: with
B = F H^T the logits of T1 and T2 are Lambda = F (G^T G) H^T, and the Gram matrix G^T G of an m x n
Gaussian matrix G is a Wishart matrix, which `gaussian_gram` draws exactly in law without drawing G.
An orthogonal projection makes no error from m = n on.
"""

from __future__ import annotations

import itertools
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse, special

from . import methods
from .codes import GivenCodes
from .errors import ConstructionError, ParameterError, check_choice, check_int, check_real
from .factorisation import balanced_factors
from .logits import target_logits
from .precision import measure
from .targets import check_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from .codes import Codes
    from .codes.base import Seed
    from .methods import Method

__all__ = [
    "CHUNK_BYTES",
    "Factors",
    "LogitSampler",
    "SmallestDim",
    "gaussian_gram",
    "smallest_dim",
    "streamed_gram",
]

CHUNK_BYTES = 2**27
"""Memory for one chunk of rows of G."""


def gaussian_gram(dim_out: int, dim_in: int, rng: Seed = None) -> np.ndarray:
    """Draw G^T G for an m x n matrix G of independent N(0, 1/m) entries, without drawing G.

    For m >= n, m G^T G is a Wishart matrix, drawn by Bartlett's decomposition: T T^T with T lower
    triangular, T_jj^2 chi-square with m - j degrees of freedom (j from 0) and standard normal
    entries below the diagonal (Muirhead 1982). O(n^2) random numbers and O(n^3) time whatever m.
    For m < n the matrix G itself is smaller and is drawn.

    Parameters
    ----------
    dim_out, dim_in : int
        m and n.
    rng : int or numpy.random.Generator, optional

    Returns
    -------
    ndarray, shape (n, n)

    Raises
    ------
    ParameterError
        A size is not a positive integer.
    """
    m, n = check_int("dim_out", dim_out), check_int("dim_in", dim_in)
    rng = np.random.default_rng(rng)
    if m < n:
        G = rng.standard_normal((m, n))
        return G.T @ G / m
    T = np.tril(rng.standard_normal((n, n)), -1)
    T[np.diag_indices(n)] = np.sqrt(rng.chisquare(m - np.arange(n)))
    return T @ T.T / m


def streamed_gram(
    dim_out: int, dim_in: int, rng: Seed = None, chunk_bytes: int = CHUNK_BYTES
) -> np.ndarray:
    """Draw G^T G as the algorithm does, from G itself, a chunk of its rows at a time.

    O(m n^2) time; never holds more than one chunk of G. Parameters and errors as `gaussian_gram`,
    and the same law.
    """
    m, n = check_int("dim_out", dim_out), check_int("dim_in", dim_in)
    rng = np.random.default_rng(rng)
    gram = np.zeros((n, n))
    rows = max(1, chunk_bytes // (8 * n))
    for start in range(0, m, rows):
        G = rng.standard_normal((min(rows, m - start), n))
        gram += G.T @ G
    return gram / m


@dataclass(frozen=True)
class Factors:
    """Logits X1 X2^T in factored form, to be measured in blocks of rows."""

    queries: np.ndarray
    keys: np.ndarray

    @property
    def codes(self) -> Codes:
        """The keys as `measure` takes them."""
        return GivenCodes(self.keys)

    def logits(self, rows: slice | ArrayLike = slice(None)) -> np.ndarray:
        """Return rows of Lambda, shape (n, L)."""
        return self.queries[rows] @ self.keys.T


class LogitSampler:
    """Draw the logits that a method would produce for one target, at any dimension.

    Parameters
    ----------
    target : scipy.sparse array, shape (L, L)
    method : {"svd_projection", "row_projection", "interpolate"} or methods.Method
        A projection must be "gaussian" or "orthogonal"; interpolation is on Gaussian codes unless
        its object says otherwise.
    logit_scale : float
        tau.
    """

    def __init__(self, target: sparse.sparray, method: str | Method, logit_scale: float) -> None:
        method = methods.get(method)
        check_choice("method", method.name, ("svd_projection", "row_projection", "interpolate"))
        if method.approximates_ratios:
            check_choice("projection", method.projection, ("gaussian", "orthogonal"))
        elif method.codes is None:
            method = replace(method, codes="gaussian")
        self.method = method
        self.B = target_logits(check_target(target), logit_scale)
        if method.name == "svd_projection":
            self.left, self.right = balanced_factors(self.B.toarray())
        else:
            self.left, self.right = self.B, sparse.eye_array(self.B.shape[0], format="csr")

    def draw(self, dim: int, rng: Seed = None) -> np.ndarray | Factors:
        """Draw Lambda at query dimension m = `dim`.

        Returns
        -------
        ndarray, shape (L, L), where m >= L and the method projects; else `Factors`.
        """
        rng = np.random.default_rng(rng)
        length = self.B.shape[0]
        if not self.method.approximates_ratios:
            queries, codes = self.method.build(self.B, dim, rng, np.dtype(np.float64))
            return Factors(queries, codes.array())
        if dim >= length and self.method.projection == "orthogonal":
            return self.B.toarray()
        if dim >= length:
            return self.left @ gaussian_gram(dim, length, rng) @ self.right.T
        G_T = self.method.projected_identity(length, dim, rng, np.dtype(np.float32)).array()
        left, right = (half.astype(np.float32) for half in (self.left, self.right))
        return Factors(left @ G_T, right @ G_T)


@dataclass(frozen=True)
class SmallestDim:
    """The measured smallest dimension, as `smallest_dim` returns it.

    Attributes
    ----------
    dim : int
        Median over seeds of the least m (on the grid searched) at which a draw met the precision.
    low, high : int
        A confidence interval for that median at level `confidence`, from order statistics.
    confidence : float
        Exact level of the interval, at least 0.9 where there are 5 seeds or more.
    dims : tuple of int
        The least m of every seed, sorted.
    """

    dim: int
    low: int
    high: int
    confidence: float
    dims: tuple


def smallest_dim(
    target: ArrayLike | sparse.sparray | list,
    method: str | Method = "interpolate",
    ratio_error: float = 0.0,
    leak: float = 0.01,
    *,
    logit_scale: float | None = None,
    seeds: int = 20,
    resolution: float = 0.01,
    rng: int | np.random.SeedSequence | None = None,
    executor: Executor | None = None,
    progress: Callable | None = None,
) -> SmallestDim:
    """Measure the smallest query dimension at which a method meets a precision.

    For each seed, m is bisected between a dimension that fails and one that works, to a relative
    `resolution`; every m is tried with the seed's own stream of random numbers. Success is not
    exactly monotone in m for one seed, so the result of one seed is a draw around the m at which
    success turns from unlikely to likely. The median over independent seeds estimates the median
    of that draw, and the order statistics around it give its confidence interval without any
    further assumption.

    Parameters
    ----------
    target : array_like or scipy.sparse array, shape (L, L), or list of such
        Of a list, each seed takes one target, in turn: the median is then over targets, too, and
        the interval has their spread in it. They should be of one class.
    method, ratio_error, leak, logit_scale
        As in `constructions.construct`; methods as in `LogitSampler`.
    seeds : int, optional
        Number of independent seeds.
    resolution : float, optional
        Relative width at which the bisection stops; 0 for exact integers.
    rng : int or numpy.random.SeedSequence, optional
        The seeds are spawned from it: the same value gives the same result, with any executor.
    executor : concurrent.futures.Executor, optional
        Runs one task a seed. Any executor with that interface will do: a process pool on this
        machine, ``dask.distributed.Client(...).get_executor(pure=False)`` on a cluster (the client
        takes the scheduler's address), or mpi4py's.
    progress : callable, optional
        Called as ``progress(done, total)`` after every seed.

    Returns
    -------
    SmallestDim

    Raises
    ------
    TargetError, ParameterError
    """
    targets = [check_target(one) for one in (target if isinstance(target, list) else [target])]
    if not targets:
        raise ParameterError("target=[]: expected at least one target")
    ratio_error, leak, logit_scale = methods.get(method).precision(ratio_error, leak, logit_scale)
    seeds = check_int("seeds", seeds)
    resolution = check_real("resolution", resolution, at_least=0, below=1)
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise ParameterError(f"executor={executor!r}: has no method submit")
    precision = ratio_error, leak, logit_scale
    high = methods.get(method).required_dim_for_target(targets[0], precision)
    sequence = rng if isinstance(rng, np.random.SeedSequence) else np.random.SeedSequence(rng)
    sampler = LogitSampler(targets[0], method, logit_scale) if len(targets) == 1 else None
    tasks = zip(itertools.cycle(targets), sequence.spawn(seeds), strict=False)
    dims = []
    for dim in _run((method, precision, high, resolution, sampler), tasks, executor):
        dims.append(dim)
        if progress is not None:
            progress(len(dims), seeds)
    dims.sort()
    below, confidence = _median_interval(seeds)
    return SmallestDim(
        dim=dims[(seeds - 1) // 2],
        low=dims[below],
        high=dims[seeds - 1 - below],
        confidence=confidence,
        dims=tuple(dims),
    )


def _run(settings, tasks, executor: Executor | None):
    if executor is None:
        yield from (_least_working(*settings, *task) for task in tasks)
    else:
        futures = [executor.submit(_least_working, *settings, *task) for task in tasks]
        yield from (future.result() for future in futures)


def _least_working(method, precision, high, resolution, sampler, target, sequence):
    """Bisect one seed: the least m that worked next to one that failed."""
    if sampler is None:
        sampler = LogitSampler(target, method, precision[2])

    def works(dim):
        rng = np.random.default_rng([*sequence.generate_state(4), dim])
        try:
            drawn = sampler.draw(dim, rng)
        except ConstructionError:  # a support larger than m, or dependent codes
            return False
        blocks = np.array_split(np.arange(target.shape[0]), 8)
        rounding = 0.0 if sampler.method.approximates_ratios else 1e-9
        reports = (measure(drawn, target, rows) for rows in blocks if len(rows))
        return all(report.meets(precision[0] + rounding, precision[1]) for report in reports)

    low, high = 0, max(1, high // 8)  # the theorems' m is far above what works
    while not works(high):
        low, high = high, 2 * high
    while high - low > max(1, resolution * high):
        middle = round(np.sqrt(low * high)) if low else high // 2
        middle = min(max(middle, low + 1), high - 1)
        low, high = (low, middle) if works(middle) else (middle, high)
    return high


def _median_interval(count):
    """Return (r, level): order statistics r and count-1-r enclose the median with that level."""
    # P(Binomial(n, 1/2) <= r) = I_{1/2}(n - r, r + 1)
    r = np.arange((count + 1) // 2)
    levels = 1 - 2 * special.betainc(count - r, r + 1.0, 0.5)
    below = int(np.nonzero(levels >= 0.9)[0].max(initial=0))
    return below, float(levels[below])
