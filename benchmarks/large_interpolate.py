"""Time and memory of `interpolate` (Theorem T3) from L = 4096 to a million tokens.

    python benchmarks/large_interpolate.py --out benchmarks/results/interpolate.csv

Each length runs in a process of its own, so that its peak memory is its own. All queries are
solved and checked on their supports; the leak is measured on a random sample of whole rows, since
all of them would cost 2 L^2 m operations. A sample of n rows without a violation shows, at
confidence 99%, that less than a share 1 - 0.01^(1/n) of the rows violates the leak; the theorem
promises, with probability 1 - eta over the codes, that none does.
"""

import argparse
import csv
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

import jl_attention as jla
from jl_attention.constructions import construct

LENGTHS = (4096, 16384, 65536, 262144, 1_000_000)
PRECISION = {"leak": 0.01, "failure_prob": 0.01}
CONFIDENCE = 0.99


def run(length, row_nnz, sampled):
    """Build for one length, and return a row of the table."""
    clock = time.perf_counter
    target = jla.targets.row_sparse(length, row_nnz, max_ratio=2.0, rng=0)
    start = clock()
    dim = jla.required_dim_for_target(target, **PRECISION)
    chosen = clock()
    built = construct(
        target, dim=dim, dtype=np.float32, rng=0, progress=Bar(f"L = {length}"), **PRECISION
    )
    solved = clock()
    rows = np.sort(np.random.default_rng(1).choice(length, min(sampled, length), replace=False))
    report = jla.measure(built, target, rows=rows)
    measured = clock()
    violations = int((report.row_leak > PRECISION["leak"]).sum())
    if violations:
        raise SystemExit(f"L = {length}: {violations} of {len(rows)} rows leak more than asked")
    return {
        "length": length,
        "row_nnz": row_nnz,
        "dim": dim,
        "dim_seconds": f"{chosen - start:.2f}",
        "construct_seconds": f"{solved - chosen:.2f}",
        "peak_gigabytes": f"{peak_bytes() / 1e9:.2f}",
        "rows_measured": len(rows),
        "measure_seconds": f"{measured - solved:.2f}",
        "worst_leak": f"{report.leak:.2e}",
        "worst_ratio_error": f"{report.ratio_error:.1e}",
        "violating_share_below": f"{1 - (1 - CONFIDENCE) ** (1 / len(rows)):.4f}",
    }


class Bar:
    """A progress bar on the standard error stream."""

    def __init__(self, label, width=40):
        self.label, self.width, self.shown = label, width, -1

    def __call__(self, done, total):
        """Redraw when another percent is done."""
        percent = 100 * done // total
        if percent > self.shown:
            self.shown = percent
            filled = self.width * done // total
            bar = "#" * filled + "." * (self.width - filled)
            end = "\n" if done == total else ""
            print(f"\r{self.label} [{bar}] {percent}%", end=end, file=sys.stderr, flush=True)


def peak_bytes():
    """Return this process's largest resident memory so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main():
    """Run every length and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--row-nnz", type=int, default=8)
    parser.add_argument("--sampled", type=int, default=512, help="rows whose leak is measured")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    table = []
    for length in arguments.lengths:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            table.append(pool.apply(run, (length, arguments.row_nnz, arguments.sampled)))
        print(" ".join(f"{name}={value}" for name, value in table[-1].items()), flush=True)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with arguments.out.open("w", newline="") as file:
            file.write(f"# python {' '.join(sys.argv)}; float32, {os.cpu_count()} cores\n")
            writer = csv.DictWriter(file, table[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)


if __name__ == "__main__":
    main()
