"""The leak of a large construction over all rows, mapped over a Dask cluster; or over a slice.

    python benchmarks/large_measure.py --length 1000000 --rows 2048
    python benchmarks/large_measure.py --length 1000000 --scheduler tcp://HOST:8786

Keys are codes, which each worker makes for itself from the seed; a task carries 256 queries and
their rows of the target, so nothing large travels. Of a slice, only its queries are solved.
"""

import argparse
import json
import time
from dataclasses import dataclass
from functools import partial

import numpy as np

import jl_attention as jla
from jl_attention.logits import target_logits
from jl_attention.methods import Interpolate

PRECISION = {"leak": 0.01, "failure_prob": 0.01}


@dataclass
class Slice:
    """What `measure` needs of a construction: the queries of some rows, and all codes."""

    queries: "Rows"
    codes: jla.codes.Codes


@dataclass
class Rows:
    """Queries of some of L rows, found by the number of the row."""

    length: int
    numbers: np.ndarray
    array: np.ndarray

    def __len__(self):
        return self.length

    def __getitem__(self, rows):
        return self.array[np.searchsorted(self.numbers, rows)]


def build(length, row_nnz, count, executor):
    """Return the target, the chosen rows, their queries and the codes, and the seconds it took."""
    target = jla.targets.row_sparse(length, row_nnz, max_ratio=2.0, rng=0)
    method = Interpolate("gaussian")
    dim = jla.required_dim_for_target(target, method, **PRECISION)
    _, _, tau = method.precision(0.0, PRECISION["leak"])
    codes = jla.codes.draw("gaussian", length, dim, 0, np.float32)
    rows = np.arange(length)
    if count:
        rows = np.sort(np.random.default_rng(1).choice(length, count, replace=False))
    start = time.perf_counter()
    logits = target_logits(target, tau)[rows]
    queries = jla.methods.interpolating_queries(logits, codes, executor=executor)
    return target, Slice(Rows(length, rows, queries), codes), time.perf_counter() - start


def measured(options, executor=None):
    """Build and measure; return a row of the table."""
    target, built, solved = build(options.length, options.row_nnz, options.rows, executor)
    rows = built.queries.numbers
    if executor is None:
        built.codes.array()  # before the clock starts, as a worker has them after its first task
    start = time.perf_counter()
    report = jla.measure(built, target, rows, executor=executor)
    seconds = time.perf_counter() - start
    whole = seconds * options.length / len(rows)
    return {
        "length": options.length,
        "dim": built.codes.dim,
        "rows": len(rows),
        "solve_seconds": round(solved, 2),
        "measure_seconds": round(seconds, 2),
        "worst_leak": float(f"{report.leak:.2e}"),
        "all_rows_hours": round(whole / 3600, 2),
    }


def main():
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--length", type=int, default=1_000_000)
    parser.add_argument("--row-nnz", type=int, default=4)
    parser.add_argument("--rows", type=int, default=0, help="of a random slice; all if 0")
    parser.add_argument("--workers", type=int, default=0, help="of a cluster on this machine")
    parser.add_argument("--scheduler", help="address of a Dask scheduler that is running")
    options = parser.parse_args()
    if not options.workers and not options.scheduler:
        print(json.dumps(measured(options)))
        return
    from distributed import Client, LocalCluster

    local = partial(
        LocalCluster, options.workers, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    )
    with Client(options.scheduler or local(host="127.0.0.1")) as client:
        print(json.dumps(measured(options, client.get_executor(pure=False))))


if __name__ == "__main__":
    main()
