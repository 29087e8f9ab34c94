"""One function mapped over blocks of rows: serially, by threads, or by any Executor.

A block of rows is all that travels. The results are the same bit for bit whatever maps them,
because the blocks are the same and each is computed with one BLAS thread; blocks run side by side
instead. (For that `threadpoolctl` must be installed, the extra ``threads``; without it the blocks
run one after another and BLAS uses its own threads.)
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .errors import ParameterError

if TYPE_CHECKING:
    from scipy import sparse

__all__ = [
    "AHEAD",
    "WORKERS",
    "RowBlock",
    "in_this_process",
    "is_worker",
    "one_blas_thread",
    "run",
    "support_blocks",
]

AHEAD = 4
"""Blocks in flight for each worker: enough to keep it busy, few enough to keep memory small."""

WORKERS = 32
"""Assumed of an executor that does not say how many workers it has."""


class RowBlock(NamedTuple):
    """Rows of a sparse matrix whose supports have the same size s.

    Attributes
    ----------
    rows : ndarray of int, shape (n,)
    columns : ndarray of int, shape (n, s)
        The support of each row.
    values : ndarray, shape (n, s)
        The entries there.
    """

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray


def support_blocks(
    matrix: sparse.csr_array, bytes_per_entry: int, block_bytes: int
) -> Iterator[RowBlock]:
    """Cut the rows of a csr_array into blocks of equal support size, the largest supports first.

    Parameters
    ----------
    matrix : scipy.sparse.csr_array, shape (n, L)
    bytes_per_entry : int
        Memory that the caller needs for one entry of a support.
    block_bytes : int
        Memory that a block may need; a block has at least one row.
    """
    counts = np.diff(matrix.indptr)
    for size in np.unique(counts[counts > 0])[::-1]:
        rows = np.nonzero(counts == size)[0]
        step = max(1, int(block_bytes // (int(size) * bytes_per_entry)))
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            at = matrix.indptr[some][:, None] + np.arange(size)
            yield RowBlock(some, matrix.indices[at], matrix.data[at])


def run(
    function: Callable,
    blocks: Iterable,
    executor: Executor | None = None,
    progress: Callable | None = None,
    total: int | None = None,
    size: Callable = len,
) -> Iterator:
    """Yield ``function(block)`` for each block, in order.

    Parameters
    ----------
    function : callable
        For an executor of processes it must be one that can be pickled.
    blocks : iterable
    executor : concurrent.futures.Executor, optional
        Threads of this process if None. Any executor will do: a process pool, or
        ``dask.distributed.Client(address).get_executor(pure=False)`` on a cluster.
    progress : callable, optional
        Called as ``progress(done, total)`` after each block.
    total : int, optional
        What `progress` is told.
    size : callable, optional
        What a block adds to what is done.

    Raises
    ------
    ParameterError
        `executor` has no method ``submit``.
    """
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise ParameterError(f"executor={executor!r}: has no method submit")
    done = 0
    for block, result in _mapped(function, blocks, executor):
        yield result
        done += size(block)
        if progress is not None:
            progress(done, total)


def _mapped(function, blocks, executor):
    if executor is None:
        with one_blas_thread() as threads:
            if threads == 1:
                yield from ((block, function(block)) for block in blocks)
            else:
                with ThreadPoolExecutor(threads) as pool:
                    yield from _ordered(function, blocks, pool, threads)
    elif isinstance(executor, ThreadPoolExecutor):
        with one_blas_thread():
            yield from _ordered(function, blocks, executor, executor._max_workers)
    else:
        workers = getattr(executor, "_max_workers", WORKERS)
        yield from _ordered(partial(_alone, function), blocks, executor, workers)


def _ordered(function, blocks, executor, workers):
    """Yield (block, result) in order, with at most `AHEAD` blocks a worker in flight."""
    waiting = deque()
    try:
        for block in blocks:
            waiting.append((block, executor.submit(function, block)))
            if len(waiting) >= AHEAD * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def in_this_process(executor: Executor | None) -> bool:
    """Return whether blocks are run by threads of this process, which share what it holds."""
    return executor is None or isinstance(executor, ThreadPoolExecutor)


def is_worker() -> bool:
    """Return whether this process has run blocks for another one."""
    return _works_for_another


_works_for_another = False


def _alone(function, block):
    """Run in a worker process what threads of this process would run."""
    global _works_for_another
    _works_for_another = True
    with one_blas_thread():
        return function(block)


@contextmanager
def one_blas_thread() -> Iterator[int]:
    """Give BLAS one thread, and yield how many it had: as many blocks may run side by side."""
    controller = _thread_controller()
    if controller is None:
        yield 1
        return
    pools = [pool["num_threads"] for pool in controller.info() if pool["user_api"] == "blas"]
    with controller.limit(limits=1, user_api="blas"):
        yield min(max(pools, default=1), _cores())


@cache
def _thread_controller():
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()


def _cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
