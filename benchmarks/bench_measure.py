"""`measure` beside the bare matrix product of the same logits, in turns, in one run.

    python benchmarks/bench_measure.py

Both go through blocks of 256 rows with the same threads; the product throws its logits away.
"""

import argparse
import time
from functools import partial

import numpy as np

import jl_attention as jla
from jl_attention.engine import run
from jl_attention.precision import BLOCK_ROWS


def product(queries, keys, rows):
    """Multiply one block of rows, and return nothing of it."""
    np.matmul(queries[rows], keys.T)


def blocks(length):
    """Yield the rows of each block."""
    for start in range(0, length, BLOCK_ROWS):
        yield np.arange(start, min(start + BLOCK_ROWS, length))


def seconds(function):
    """Return how long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(length, dim, dtype, rounds):
    """Return the least times of the product and of `measure`."""
    target = jla.targets.row_sparse(length, 4, max_ratio=2.0, rng=0)
    built = jla.construct(target, dim=dim, dtype=dtype, rng=0)
    multiply = partial(product, built.queries, built.keys)
    bare, whole = [], []
    for _ in range(rounds):
        bare.append(seconds(lambda: list(run(multiply, blocks(length)))))
        whole.append(seconds(lambda: jla.measure(built, target)))
    return min(bare), min(whole)


def main():
    """Compare in both precisions and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--length", type=int, default=16384)
    parser.add_argument("--dim", type=int, default=350)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("dtype     product, s  measure, s   ratio")
    for dtype in (np.float64, np.float32):
        bare, whole = compare(options.length, options.dim, dtype, options.rounds)
        name = np.dtype(dtype).name
        print(f"{name:8s}  {bare:10.2f}  {whole:10.2f}  {whole / bare:6.2f}", flush=True)


if __name__ == "__main__":
    main()
