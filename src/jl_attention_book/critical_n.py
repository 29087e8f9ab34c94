"""The book's table of critical n: documents of which every two are some query's top 2.

``python -m jl_attention_book.critical_n -o book/results/critical_n.csv`` recomputes it, or with
``--method`` and ``--dim`` some of its rows; with ``--documents 46 -o book/results/all_pairs.csv``
it makes the table of least dimensions for so many documents instead.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np

from jl_attention.codes import MomentCurveCodes, draw
from jl_attention.errors import ConstructionError
from jl_attention.retrieval import FORMATS, METHODS, critical_n, every_set, learned_documents
from jl_attention_book.tables import read_table, write_table

PUBLISHED = dict(
    zip(
        range(4, 46),
        [10, 14, 19, 24, 28, 32, 36, 42, 47, 54, 62, 70, 79, 89, 99, 109, 120, 132, 144, 157, 170]
        + [184, 198, 213, 229, 245, 261, 278, 296, 314, 333, 352, 372, 392, 413, 434, 460, 484]
        + [505, 545, 605, 626],
        strict=True,
    )
)
"""Weller, Boratko, Naim and Lee (arXiv 2508.21038, version 1), Table 6: n by dimension."""

DIMS = {
    "moment_curve": (4,),
    "max_margin": (*range(2, 33), 45),
    "learned": (4, 5, 6, 7, 8, 12, 16, 20),
}
"""Dimensions by method; more than 4 change nothing on the moment curve."""

FINEST = {"moment_curve": "float64", "max_margin": "float32", "learned": "float32"}
"""The first number format of a method; double precision adds nothing to the others."""

LEARNED_SETS = 13_000
"""Most sets that learning tries: some minutes for a dimension."""


def published_fit(dim):
    """Return the cubic that arXiv 2508.21038 fits to its values, and extrapolates."""
    return -10.5322 + 4.0309 * dim + 0.0520 * dim**2 + 0.0037 * dim**3


def held(rows, method, dim, dtype):
    """Return how many documents the table has for a dimension, as text, and their R/Delta.

    A dimension that was not tried holds what a smaller one does, with zeros in the new coordinates.

    Parameters
    ----------
    rows : list of dict
        Of the table.
    method : str
    dim : int
    dtype : str

    Returns
    -------
    n : str
        ``>=`` before it where there may be more. Empty if no dimension so small was tried.
    scale_ratio : float
    """
    chosen = [row for row in rows if (row["method"], row["dtype"]) == (method, dtype)]
    own = [row for row in chosen if int(row["dim"]) == dim]
    smaller = [row for row in chosen if int(row["dim"]) < dim]
    if not own and not smaller:
        return "", math.nan
    row = (
        own[0] if own else max(smaller, key=lambda row: (int(row["n"]), -float(row["scale_ratio"])))
    )
    more = "" if own and row["stopped_by"] != "limit" else ">="
    return more + row["n"], float(row["scale_ratio"])


def solve(method, dim):
    """Return the rows of the table for one method and dimension."""
    formats = FORMATS[FORMATS.index(FINEST[method]) :]
    if method == "learned":
        found = learned(dim, formats)
    else:
        found = {dtype: critical_n(dim, method=method, dtype=dtype) for dtype in formats}
    return [
        {
            "method": method,
            "dim": dim,
            "dtype": dtype,
            "n": each.n,
            "sets": each.certificate.sets,
            "scale_ratio": f"{each.certificate.scale_ratio:.4g}",
            "stopped_by": each.certificate.stopped_by,
        }
        for dtype, each in found.items()
    ]


def learned(dim, formats):
    """Return what `critical_n` does for learned documents, in several formats at once."""
    n, best, left = 2 * dim, {}, set(formats)
    while left and math.comb(n, 2) <= LEARNED_SETS:
        try:
            documents = learned_documents(n, dim)
        except ConstructionError:
            break
        for dtype in sorted(left):
            found = every_set(documents, dtype=dtype)
            best[dtype] = max(best.get(dtype, found), found, key=lambda each: each.n)
            if found.n < n:
                left.remove(dtype)
        n += n // 4
    return {dtype: best[dtype] for dtype in formats}


def least_dims(n, most=20):
    """Return the least dimension at which each method holds all pairs of n documents, by format.

    Rows of a table; 0 stands for none that was tried.
    """
    documents = {
        "moment_curve": lambda dim: MomentCurveCodes(n, dim, 2).array() / np.sqrt(2),
        "max_margin": lambda dim: draw("unit", n, dim, 0).array(),
        "learned": lambda dim: learned_documents(n, dim),
    }
    rows = []
    for method, make in documents.items():
        least = dict.fromkeys(FORMATS[1:], 0)
        for dim in range(4, 5 if method == "moment_curve" else most + 1):
            made = make(dim)
            for dtype in [name for name, found in least.items() if not found]:
                least[dtype] = dim if every_set(made, dtype=dtype).n == n else 0
            if all(least.values()):
                break
        rows += [{"method": method, "dtype": name, "dim": dim} for name, dim in least.items()]
    return rows


def main(arguments=None):
    """Recompute the table, or some of its rows and keep the others."""
    parser = argparse.ArgumentParser(
        prog="python -m jl_attention_book.critical_n", description=main.__doc__
    )
    parser.add_argument("-o", "--output", required=True, help="the table, written atomically")
    parser.add_argument("--method", choices=METHODS)
    parser.add_argument("--dim", type=int)
    parser.add_argument("--documents", type=int, help="least dimensions for so many, instead")
    options = parser.parse_args(arguments)
    if options.documents is not None:
        write_table(options.output, least_dims(options.documents))
        return
    some = [
        (method, dim)
        for method in METHODS
        for dim in DIMS[method]
        if options.method in (None, method) and options.dim in (None, dim)
    ]
    rows = read_table(options.output) if Path(options.output).exists() else []
    for method, dim in some:
        new = solve(method, dim)
        print(*new, sep="\n", file=sys.stderr, flush=True)
        rows = [row for row in rows if (row["method"], int(row["dim"])) != (method, dim)] + new
    rows.sort(key=lambda row: (METHODS.index(row["method"]), int(row["dim"])))
    write_table(options.output, rows)


if __name__ == "__main__":
    main()
