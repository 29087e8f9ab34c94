"""The book's table of smallest dimensions, measured by `jl_attention.search`.

``python -m jl_attention_book.sweeps -o TABLE.csv`` recomputes it.
"""

import argparse
import csv
import io
import itertools
import sys
from dataclasses import asdict

import numpy as np

from jl_attention import required_dim, required_dim_for_target, targets
from jl_attention.interop.atomic import write_atomically
from jl_attention.methods import RowProjection
from jl_attention.search import smallest_dim
from jl_attention.theory import differences

LOOSE = {"max_ratio": 1.0, "ratio_error": 1.0, "leak": 0.5}
STRICT = {"max_ratio": 2.0, "ratio_error": 0.1, "leak": 0.01}
BASE = {"length": 512, "row_nnz": 4, "max_ratio": 2.0, "ratio_error": 0.5, "leak": 0.05}
SEEDS = 25
LENGTH_SEEDS = {16_384: 15, 8192: 25}
"""For T2 over L, whose growth is what the book asks about: `MORE_SEEDS` where not too dear."""

MORE_SEEDS = 49

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
            ("length", "interpolate", 4096),
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
        growth = (name, method) == ("length", "row_projection")
        seeds = LENGTH_SEEDS.get(problem["length"], MORE_SEEDS) if growth else SEEDS
    keys = ("length", "row_nnz", "max_ratio")
    drawn = [targets.regular(*(problem[key] for key in keys), rng=seed) for seed in range(seeds)]
    precision = {key: problem[key] for key in ("ratio_error", "leak")}
    found = smallest_dim(drawn, METHODS.get(name, method), **precision, seeds=seeds, rng=0)
    found = asdict(found)
    del found["dims"]
    return {**problem, "seeds": seeds, **found}


def read(path):
    """Return the rows of a table that `main` wrote: dicts, numbers as float.

    Parameters
    ----------
    path : str or path
    """
    with open(path, newline="", encoding="utf-8") as file:
        return [
            {key: text if key in ("sweep", "method") else float(text) for key, text in row.items()}
            for row in csv.DictReader(file)
        ]


def columns(rows, sweep, method, *keys):
    """Return columns of the table, one array for each key, of one sweep and method."""
    chosen = [row for row in rows if (row["sweep"], row["method"]) == (sweep, method)]
    return [np.array([row[key] for row in chosen]) for key in keys]


def fit_line(x, y, error):
    """Return (slope, intercept) of the best line through points with errors, and its misfit.

    The misfit is the sum of the squared deviations, each in units of its standard error: chi-square
    with len(x) - 2 degrees of freedom if the points lie on a line, up to normal errors.
    """
    line = np.polyfit(x, y, 1, w=1 / error)
    return line, float(np.sum(((y - np.polyval(line, x)) / error) ** 2))


def promised(row, failure_prob=0.5, bound=None):
    """Return the m that the theorem of a row's method asks for."""
    problem = {key: row[key] for key in ("max_ratio", "ratio_error", "leak")}
    size = int(row["length"]), int(row["row_nnz"])
    return required_dim(*size, row["method"], **problem, failure_prob=failure_prob, bound=bound)


def first_bite(row_nnz, method, bound, problem, failure_prob=0.5):
    """Return the least L from which on a theorem's m is below L.

    Parameters
    ----------
    row_nnz : int
    method, bound : str
        As in `jl_attention.required_dim`.
    problem : dict
        max_ratio, ratio_error and leak.
    failure_prob : float, optional
    """
    low, high = 2 * row_nnz, 2**40
    while high - low > 1:
        middle = int(np.sqrt(low * high)) if high > 2 * low else (low + high) // 2
        options = {**problem, "failure_prob": failure_prob, "bound": bound}
        bites = required_dim(middle, row_nnz, method, **options) < middle
        low, high = (low, middle) if bites else (middle, high)
    return high


def scaling(rows, name, failure_prob=0.5):
    """Return one sweep of the table beside T2's sharp form, and T2 in differences for a target.

    Returns
    -------
    dict
        "x", the parameter; "lines" and "points", dimensions by colour and by marker, as
        `projections.scaling` takes them; "slopes", on logarithmic axes: of both lines, of T2's
        points and of T1's.
    """
    x, t2 = columns(rows, name, "row_projection", name, "dim")
    (t1,) = columns(rows, name, "svd_projection", "dim")
    chosen = [row for row in rows if (row["sweep"], row["method"]) == (name, "row_projection")]
    sharp = np.array([promised(row, failure_prob, "sharp") for row in chosen])
    own = []
    for row in chosen:
        size = int(row["length"]), int(row["row_nnz"]), row["max_ratio"]
        precision = row["ratio_error"], row["leak"]
        target = targets.regular(*size, rng=0)
        own.append(
            required_dim_for_target(target, "row_projection", *precision, failure_prob=failure_prob)
        )
    return {
        "x": x,
        "lines": {"theory": sharp, "beyond": np.array(own)},
        "points": {"o": t1, "D": t2},
        "slopes": [np.polyfit(np.log(x), np.log(dims), 1)[0] for dims in (sharp, own, t2, t1)],
    }


def most_hits(x, low, high):
    """Return how many of the intervals [low, high] at x one straight line can pass through.

    The best line can be moved until it passes through an end of two intervals, so it is enough to
    try those.
    """
    ends = [(at, value) for at, *pair in zip(x, low, high, strict=True) for value in pair]
    best = 0
    for (x1, y1), (x2, y2) in itertools.combinations(ends, 2):
        if x1 != x2:
            line = y1 + (y2 - y1) / (x2 - x1) * (np.asarray(x) - x1)
            slack = 1e-9 * np.abs(line)
            best = max(best, int(np.sum((line >= low - slack) & (line <= high + slack))))
    return best


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
