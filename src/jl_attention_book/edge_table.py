"""The book's table of what kernels return for edge logits.

``python -m jl_attention_book.edge_table -o TABLE.csv`` recomputes it, with the kernels of
`jl_attention.workloads.backends` that are installed.
"""

import argparse
import math

from jl_attention.workloads import backends
from jl_attention.workloads.edges import EDGES, TOLERANCE, edge_case

from .tables import write_table

LONG = 131_072
"""Tokens of the case that needs many of them; the others have 256."""


def cases():
    """Return the edge cases of the table."""
    return [edge_case(name, LONG if name == "one_against_many" else 256) for name in EDGES]


def solve(kernels=None):
    """Return the rows of the table, a list of dicts."""
    rows = []
    for case in cases():
        for (name, number_format), kernel in (kernels or backends.installed()).items():
            error = case.error(kernel(case.Q, case.K, case.V, case.mask))
            holds = error <= TOLERANCE[number_format]
            rows.append(
                {
                    "case": case.name,
                    "kernel": name,
                    "format": number_format,
                    "holds": "yes" if holds else "no",
                    "error": "" if holds else f"{error:.1g}" if math.isfinite(error) else "nan",
                }
            )
    return rows


def main(arguments=None):
    """Recompute the table of the book: ``python -m jl_attention_book.edge_table -o TABLE.csv``."""
    parser = argparse.ArgumentParser(
        prog="python -m jl_attention_book.edge_table", description=main.__doc__
    )
    parser.add_argument("-o", "--output", required=True, help="the table, written atomically")
    options = parser.parse_args(arguments)
    rows = solve()
    write_table(options.output, rows)


if __name__ == "__main__":
    main()
