"""The book's table of smallest dimensions, measured by `jl_attention.search`.

``python -m jl_attention_book.sweeps -o TABLE.csv`` recomputes it.
"""

import argparse
import csv
import io
import sys
from dataclasses import asdict

import numpy as np

from jl_attention import targets
from jl_attention.interop.atomic import write_atomically
from jl_attention.methods import RowProjection
from jl_attention.search import smallest_dim
from jl_attention.theory import differences

LOOSE = {"max_ratio": 1.0, "ratio_error": 1.0, "leak": 0.5}
STRICT = {"max_ratio": 2.0, "ratio_error": 0.1, "leak": 0.01}
BASE = {"length": 512, "row_nnz": 4, "max_ratio": 2.0, "ratio_error": 0.5, "leak": 0.05}
SEEDS = 25
MORE_SEEDS = 49
"""For T2 over L, whose growth is what the book asks about."""

METHODS = {
    "orthogonal": RowProjection("orthogonal"),
    "scale": RowProjection(logit_scale=float(differences.default_logit_scale(1.0, 0.5))),
}
"""Sweeps that do not run their method as its name says: with P orthogonal, with a larger tau."""


def sweep():
    """Yield the problems of the book's table: dicts with a sweep's name and its parameters."""
    for length in 2 ** np.arange(6, 15):
        for name, method, longest in (
            ("length", "svd_projection", 2048),  # its dense decomposition takes O(L^3)
            ("length", "row_projection", 16_384),
            ("length", "interpolate", 16_384),
            ("orthogonal", "row_projection", 4096),
            ("scale", "row_projection", 4096),
        ):
            if length <= longest:
                yield {"sweep": name, "method": method, "length": length, "row_nnz": 2, **LOOSE}
    for length in 2 ** np.arange(6, 11):
        for method in ("svd_projection", "row_projection"):
            yield {"sweep": "strict", "method": method, "length": length, "row_nnz": 4, **STRICT}
    for method in ("svd_projection", "row_projection"):
        for name, values in (
            ("row_nnz", (1, 2, 4, 8, 16, 32)),
            ("max_ratio", (1.0, 2.0, 8.0, 32.0, 128.0)),
            ("ratio_error", (0.05, 0.1, 0.2, 0.5, 1.0)),
            ("leak", (0.5, 0.1, 0.01, 1e-3, 1e-4)),
        ):
            for value in values:
                yield {"sweep": name, "method": method, **BASE, name: value}


def solve(problem, seeds=None):
    """Return the row of the table for one problem of `sweep`: its parameters and what was found.

    Every seed searches for a target of its own, so the interval is for the median over targets.
    """
    name, method = problem["sweep"], problem["method"]
    if seeds is None:
        seeds = MORE_SEEDS if (name, method) == ("length", "row_projection") else SEEDS
    keys = ("length", "row_nnz", "max_ratio")
    drawn = [targets.regular(*(problem[key] for key in keys), rng=seed) for seed in range(seeds)]
    precision = {key: problem[key] for key in ("ratio_error", "leak")}
    found = smallest_dim(drawn, METHODS.get(name, method), **precision, seeds=seeds, rng=0)
    found = asdict(found)
    del found["dims"]
    return {**problem, "seeds": seeds, **found}


def main(arguments=None):
    """Recompute the table of the book: ``python -m jl_attention_book.sweeps -o TABLE.csv``."""
    parser = argparse.ArgumentParser(
        prog="python -m jl_attention_book.sweeps", description=main.__doc__
    )
    parser.add_argument("-o", "--output", required=True, help="the table, written atomically")
    parser.add_argument("--longest", type=int, default=16_384, help="skip longer sequences")
    options = parser.parse_args(arguments)
    rows = []
    for problem in sweep():
        if problem["length"] <= options.longest:
            rows.append(solve(problem))
            print(*rows[-1].values(), file=sys.stderr, flush=True)
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(options.output, table.getvalue().encode())


if __name__ == "__main__":
    main()
