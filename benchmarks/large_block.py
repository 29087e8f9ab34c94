"""A whole Llama-like block, from patterns to input and back, up to 32 768 tokens.

    python benchmarks/large_block.py --out benchmarks/results/block.csv

Query heads on one key head, RMSNorm, rotary embedding, causal mask; one pattern a head. Every
pair of every row of every head is measured, in single precision, by the NumPy reference; where an
attention matrix fits into memory one head also runs in ONNX Runtime, in 32 and in 16 bits, and the
largest difference from the pattern's own weights on its support is reported. Lengths run one after
the other; each prints its line when it is done.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
from scipy import sparse

from jl_attention import blocks, patterns, targets
from jl_attention.blocks.onnx import onnx_attention

CASES = (  # length, head size, most tokens a row wants, query heads
    (1024, 64, 3, 8),
    (2048, 64, 2, 8),
    (4096, 128, 6, 8),
    (8192, 64, 2, 8),
    (8192, 128, 6, 8),
    (32768, 128, 4, 2),
)
LEAK = 0.001
LARGEST_MATRIX = 8192
"""Longest input whose attention matrix is computed whole, by ONNX Runtime."""


def offsets(length, distances):
    """Return rows that attend to the tokens at these distances before them, or to token 0."""
    rows = np.repeat(np.arange(length), len(distances))
    columns = np.maximum(rows - np.tile(distances, length), 0)
    kept = np.unique(np.column_stack([rows, columns]), axis=0).T
    ones = np.ones(kept.shape[1])
    return targets.normalize_rows(sparse.csr_array((ones, tuple(kept)), (length, length)))


def scattered(length, row_nnz, rng):
    """Return rows that attend to themselves and to random tokens before them."""
    rows = np.repeat(np.arange(length), row_nnz - 1)
    columns = np.append((rng.random(len(rows)) * (rows + 1)).astype(int), np.arange(length))
    rows = np.append(rows, np.arange(length))
    return targets.normalize_rows(
        sparse.csr_array((rng.uniform(1, 2, len(rows)), (rows, columns)), (length, length))
    )


def eight(length, row_nnz):
    """Return eight causal patterns with at most `row_nnz` tokens a row."""
    rng = np.random.default_rng(0)
    stride = length // (4 * row_nnz)
    return [
        patterns.causal_window(length, row_nnz, max_ratio=2.0, rng=rng),
        offsets(length, stride * np.arange(row_nnz)),
        offsets(length, np.append(0, 2 ** np.arange(row_nnz - 1))),
        offsets(length, 16 * np.arange(row_nnz)),
        patterns.vertical_slash(length, row_nnz // 2, row_nnz - row_nnz // 2, rng=rng),
        offsets(length, [1 + stride // 2]),
        scattered(length, row_nnz, rng),
        scattered(length, row_nnz, rng),
    ]


def run(length, head_dim, row_nnz, heads):
    """Compile and measure one block, and return a row of the table."""
    clock = time.perf_counter
    spec = blocks.BlockSpec(
        (heads + 1) * head_dim + 1, heads, 1, head_dim, rope=blocks.Rope(theta=500000.0)
    )
    wanted = eight(length, row_nnz)[:heads]
    start = clock()
    expected = blocks.expected_failures(spec, wanted, leak=LEAK)
    known = clock()
    compiled = blocks.compile(spec, wanted, leak=LEAK, rng=0, dtype=np.float32)
    solved = clock()
    reports = [compiled.measure(head) for head in range(heads)]
    measured = clock()
    row = {
        "length": length,
        "head_dim": head_dim,
        "heads": heads,
        "hidden_size": spec.hidden_size,
        "row_nnz": max(int(np.diff(pattern.indptr).max()) for pattern in wanted),
        "expected_failures": f"{expected:.1e}",
        "corrected_share": f"{compiled.corrected / (heads * length):.3f}",
        "worst_leak": f"{max(report.leak for report in reports):.2e}",
        "worst_ratio_error": f"{max(report.ratio_error for report in reports):.1e}",
        "worst_total_variation": f"{max(report.total_variation for report in reports):.3f}",
        "mean_total_variation": f"{np.mean([r.row_total_variation for r in reports]):.1e}",
    }
    if length <= LARGEST_MATRIX:
        for name in ("float32", "float16"):
            M = onnx_attention(compiled, 0, name)
            ratio = blocks.measure_rows(M, wanted[0])[0]
            row[f"onnx_{name}_ratio_error"] = f"{ratio.max():.1e}"
    return row | {
        "law_seconds": f"{known - start:.1f}",
        "compile_seconds": f"{solved - known:.1f}",
        "measure_seconds": f"{measured - solved:.1f}",
    }


def main():
    """Run the cases and write them to a CSV file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--last", type=int, default=len(CASES) - 1)
    options = parser.parse_args()
    rows = []
    for case in CASES[options.first : options.last + 1]:
        rows.append(run(*case))
        print(rows[-1], flush=True)
    names = max((list(row) for row in rows), key=len)
    with options.out.open("w", newline="") as file:
        file.write("# python benchmarks/large_block.py\n")
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
