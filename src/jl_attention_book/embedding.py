"""The figure of chapter 15."""

import matplotlib.pyplot as plt
import numpy as np

from jl_attention.retrieval import predicted_n
from jl_attention_book.critical_n import PUBLISHED
from jl_attention_book.figures import COLORS


def columns(rows, method, dtype):
    """Return the dimensions and critical n of a method in a number format, and which may be more.

    Parameters
    ----------
    rows : list of dict
        Of the table of critical n.
    method, dtype : str

    Returns
    -------
    dims, n : ndarray of int
    more : ndarray of bool
        Where the search ended before it met an obstacle.
    """
    chosen = [row for row in rows if (row["method"], row["dtype"]) == (method, dtype)]
    dims, n = (np.array([int(row[key]) for row in chosen]) for key in ("dim", "n"))
    return dims, n, np.array([row["stopped_by"] == "limit" for row in chosen])


def capacity(rows):
    """Draw critical n against the dimension: published values, constructions, and the law.

    Parameters
    ----------
    rows : list of dict
        Of the table of critical n.
    """
    _, ax = plt.subplots(figsize=(5.0, 4.4))
    ax.plot(*zip(*PUBLISHED.items(), strict=True), "-", color=COLORS["measured"], lw=3)
    grid = np.arange(4, 46)
    ax.plot(grid, [predicted_n(dim) for dim in grid], "--", color=COLORS["exact"], lw=1.4)
    for method, color, marker in (("max_margin", "exact", "o"), ("learned", "theory", "D")):
        dims, n, more = columns(rows, method, "float16")
        ax.plot(dims, n, marker, color=COLORS[color], ms=5)
        ax.plot(dims[more], 1.2 * n[more], "^", color=COLORS[color], ms=3)
    for dtype, shift in (("float64", 1.08), ("float32", 0.74)):
        (n,) = columns(rows, "moment_curve", dtype)[1]
        ax.plot([4, 45], [n, n], "-", color=COLORS["beyond"], lw=1.4)
        ax.text(45, shift * n, f"moment curve, {dtype}", color=COLORS["beyond"], ha="right")
    ax.text(45, 155, "published:\ngradient descent", color=COLORS["measured"], ha="right")
    ax.text(24, 900, "random documents,\nbest query", color=COLORS["exact"], ha="right")
    ax.text(37, 1700, "its law", color=COLORS["exact"], ha="right")
    ax.text(5, 280, "learned", color=COLORS["theory"])
    ax.set(
        xlabel="embedding dimension $d$",
        ylabel="documents, all pairs returned",
        yscale="log",
        xlim=(3, 46),
        ylim=(4, 5e4),
    )
    plt.show()
