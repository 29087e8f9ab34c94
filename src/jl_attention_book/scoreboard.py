"""The book's table of what published methods find of workloads, at 4 096 and at 131 072 tokens.

``python -m jl_attention_book.scoreboard -o TABLE.csv`` recomputes it.
"""

import argparse
import sys
from itertools import product

from jl_attention.workloads import make, scores, selectors

from .tables import write_table

LENGTHS = (4096, 131_072)
PATTERNS = ("vertical_slash", "needles", "mid_prompt", "block_retrieval")
GEOMETRIES = ("random", "smooth")
HEAD_DIM, SEED, ROWS = 128, 0, 512

DEFAULTS_FOR = 131_072
"""The tokens that the papers' default budgets are taken to be for."""

METHODS = {
    "exact top-4": ("exact_top_k", {"budget": 4}, ()),
    "StreamingLLM": ("streaming_llm", {"first": 4, "recent": 4092}, ("recent",)),
    "MInference, slashes alone": (
        "vertical_slash",
        {"verticals": 1000, "slashes": 6096, "first": 30, "nearest": 100, "block": 1},
        ("verticals", "slashes", "first", "nearest"),
    ),
    "MInference, vertical-slash": (
        "vertical_slash",
        {"verticals": 1000, "slashes": 6096, "first": 30, "nearest": 100},
        ("verticals", "slashes", "first", "nearest"),
    ),
    "MInference, block-sparse": ("block_sparse", {"blocks": 100}, ("blocks",)),
    "FlexPrefill": ("flex_prefill", {"gamma": 0.9, "min_budget": 1024}, ("min_budget",)),
    "Quest": ("quest", {"budget": 4096}, ("budget",)),
    "H2O": ("h2o", {"heavy": 1024, "recent": 1024}, ("heavy", "recent")),
    "TOVA": ("tova", {"budget": 2048}, ("budget",)),
    "SnapKV": ("snapkv", {"budget": 4096}, ("budget",)),
}
"""Name, selector, its settings at `DEFAULTS_FOR` tokens, and those that go with the length."""


def settings(method, length):
    """Return the selector of a method, and its settings at this length."""
    selector, options, with_length = METHODS[method]
    return selector, {
        key: max(1, round(value * length / DEFAULTS_FOR)) if key in with_length else value
        for key, value in options.items()
    }


def selections(workload, share):
    """Return what each method keeps if it may keep about this share of a prompt's keys.

    Parameters
    ----------
    workload : jl_attention.workloads.Workload
    share : float
        Of the keys; a block of queries keeps 64 keys of a slash, so the shares of columns and of
        slashes are a half each.

    Returns
    -------
    dict of str to list of jl_attention.workloads.selectors.Selection
    """
    budget = max(2, round(share * workload.length))
    blocks, half = max(1, round(budget / 64)), budget // 2
    slashes = {"verticals": half, "slashes": max(1, half // 64), "first": 4, "nearest": 1}
    options = {
        "StreamingLLM": ("streaming_llm", {"first": 4, "recent": budget - 4}),
        "vertical-slash": ("vertical_slash", slashes),
        "FlexPrefill": ("flex_prefill", {"min_budget": budget}),
        "block-sparse": ("block_sparse", {"blocks": blocks}),
        "Quest": ("quest", {"budget": budget}),
        "H2O": ("h2o", {"heavy": half, "recent": half}),
        "TOVA": ("tova", {"budget": budget}),
        "SnapKV": ("snapkv", {"budget": budget}),
    }
    return {
        name: selectors.SELECTORS[selector](workload.Q, workload.K, **settings)
        for name, (selector, settings) in options.items()
    }


def solve(length, pattern, geometry):
    """Return the rows of the table for one workload, a list of dicts."""
    workload = make(pattern, length, head_dim=HEAD_DIM, geometry=geometry, rng=SEED)
    Q, K = workload.head(0)
    chosen = {}
    for method in METHODS:
        selector, options = settings(method, length)
        chosen[method] = selectors.SELECTORS[selector](Q, K, **options)
    certificate = workload.certificate
    about = {
        "length": length,
        "pattern": pattern,
        "geometry": geometry,
        "leak": f"{certificate.leak:.3f}",
        "mean_total_variation": f"{certificate.mean_total_variation:.4f}",
        "total_variation": f"{certificate.total_variation:.3f}",
    }
    return [
        {
            **about,
            "method": method,
            "recall": f"{found.recall:.3f}",
            "mass": f"{found.mass:.3f}",
            "output_error": f"{found.output_error:.3f}",
            "pairs": f"{found.pairs:.4f}",
        }
        for method, found in scores(chosen, workload, max_rows=ROWS).items()
    ]


def main(arguments=None):
    """Recompute the table of the book: ``python -m jl_attention_book.scoreboard -o TABLE.csv``."""
    parser = argparse.ArgumentParser(
        prog="python -m jl_attention_book.scoreboard", description=main.__doc__
    )
    parser.add_argument("-o", "--output", required=True, help="the table, written atomically")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--patterns", nargs="+", default=PATTERNS)
    parser.add_argument("--geometries", nargs="+", default=GEOMETRIES)
    options = parser.parse_args(arguments)
    rows = []
    for problem in product(options.lengths, options.patterns, options.geometries):
        rows += solve(*problem)
        print(*problem, rows[-1]["leak"], file=sys.stderr, flush=True)
    write_table(options.output, rows)


if __name__ == "__main__":
    main()
