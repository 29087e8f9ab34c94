"""Figures and small helpers of chapters 9 and 10."""

import matplotlib.pyplot as plt
import numpy as np
from scipy import sparse
from scipy.optimize import nnls

from jl_attention.certificates import prove_feasible, prove_infeasible
from jl_attention.logits import target_logits
from jl_attention.methods import Interpolate, interpolating_queries
from jl_attention.methods.margin_solver import shortest_queries
from jl_attention_book.figures import COLORS, SIZES


def length_by_nnls(keys, B, row):
    """Return the length of a row's shortest query by Lawson and Hanson, all tokens at once.

    Parameters
    ----------
    keys : ndarray, shape (L, m)
    B : scipy.sparse.csr_array, shape (n, L)
        Target logits; the smallest entry is the gap.
    row : int

    Returns
    -------
    float
        inf where there is no query.
    """
    at = slice(B.indptr[row], B.indptr[row + 1])
    support, values, gap = B.indices[at], B.data[at], B.data.min()
    weakest = support[np.argmin(values)]
    D, wanted = keys[support] - keys[weakest], values - values.min()
    G = keys[weakest] - np.delete(keys, support, axis=0)
    inverse = np.linalg.pinv(D)
    p = inverse @ wanted
    h = (gap - G @ p) / gap
    G = G - (G @ inverse) @ D
    residual = nnls(np.vstack([G.T, h]), np.append(np.zeros(keys.shape[1]), 1.0))[1]
    y = gap * np.sqrt(max(1 / residual**2 - 1, 0.0)) if residual else np.inf
    return float(np.hypot(np.linalg.norm(p), y))


# --- Chapter 9 -------------------------------------------------------------------------------


def rows_of(supports, length):
    """Return target logits of 1 on these supports, a sparse matrix (n, length)."""
    indptr = np.cumsum([0, *map(len, supports)])
    data, columns = np.ones(indptr[-1]), np.concatenate([list(support) for support in supports])
    return sparse.csr_array((data, columns, indptr), shape=(len(supports), length))


def out_of_reach(keys, supports):
    """Return the supports that no query puts on top; every verdict is proved exactly.

    Parameters
    ----------
    keys : ndarray, shape (L, m)
    supports : list of tuple of int

    Returns
    -------
    list of tuple of int
    """
    result = shortest_queries(rows_of(supports, len(keys)), keys)
    proofs = [prove_feasible(result.queries[row], keys, supports[row]) for row in result.found]
    lost = [prove_infeasible(result.certificates[row], keys) for row in result.infeasible]
    if len(proofs) + len(lost) < len(supports) or min(p.gap for p in proofs) <= 0:
        raise AssertionError("a verdict is not proved")
    return [proof.support for proof in lost]


def line_and_circle():
    """Draw keys on a line and on a circle, and a query that selects one of them."""
    _, axes = plt.subplots(1, 2, figsize=(6.4, 3.2))
    line = np.linspace(-1, 1, 9)
    axes[0].plot(line, 0 * line, "o", color=COLORS["theory"])
    axes[0].plot(line[[0, -1]], [0, 0], "o", ms=10, color=COLORS["measured"])
    axes[0].text(0, 0.22, "only the ends can win", ha="center", color=COLORS["measured"])
    angles = 2 * np.pi * np.arange(24) / 24
    axes[1].plot(np.cos(angles), np.sin(angles), "o", color=COLORS["theory"])
    direction = np.array([np.cos(angles[3]), np.sin(angles[3])])
    axes[1].plot(*direction, "o", ms=10, color=COLORS["measured"])
    axes[1].annotate("", 0.88 * direction, (0, 0), arrowprops={"arrowstyle": "->", "lw": 1.8})
    height = (np.cos(angles[1]) + 1) / 2
    across = np.array([-direction[1], direction[0]])
    ends = height * direction + 0.75 * np.outer([-1, 1], across)
    axes[1].plot(*ends.T, ":", color=COLORS["ink"])
    for ax, title in zip(axes, ("$m = 1$", "$m = 2$"), strict=True):
        ax.set(title=title, aspect="equal", xlim=(-1.35, 1.35), ylim=(-1.35, 1.35))
        ax.axis("off")
    axes[0].set_ylim(-0.4, 0.4)
    plt.show()


def frontier(points, predicted, dims, necessary, length):
    """Draw constructions by size of the logits and dimension, with prediction and bound.

    Parameters
    ----------
    points : dict of str to list of (float, int)
        R/Delta and m of each construction.
    predicted, dims : ndarray
        The predicted R/Delta of max-margin queries at each m.
    necessary : int
        Dimensions below this one do not serve every target.
    length : int
        L.
    """
    _, ax = plt.subplots(figsize=(6.0, 4.6))
    ax.axhspan(1, necessary, color=COLORS["forbidden"], alpha=0.4, lw=0)
    ax.plot(predicted, dims, "-", color=COLORS["exact"], label="max margin, predicted")
    colors = {"interpolation": "theory", "max margin": "measured", "moment curve": "beyond"}
    for name, marks in points.items():
        line = "--o" if name == "interpolation" else "o"
        ax.plot(*np.array(marks).T, line, color=COLORS[colors[name]], ms=6, lw=1)
    ax.text(12, 90, "interpolation (T3)", color=COLORS["theory"])
    ax.text(10, 17, "max margin (T9)", color=COLORS["measured"])
    ax.text(10, 12.5, "its prediction", color=COLORS["exact"])
    ax.text(1.2e3, 4.9, "moment curve (T5)", color=COLORS["beyond"])
    ax.text(30, 2.0, "not for every target", color="#555555")
    ax.axhline(length, color=COLORS["ink"], lw=1, ls=":")
    ax.text(1e4, length * 0.8, "$m = L$", va="top")
    ax.set(
        xlabel=r"size of the logits of the median row, over $\Delta$",
        ylabel="query dimension $m$",
        xscale="log",
        yscale="log",
        xlim=(1, 1e5),
        ylim=(1, 400),
    )
    plt.show()


# --- Chapter 10 ------------------------------------------------------------------------------


def interpolation_at_gap(target, keys, gap):
    """Return the shortest multiples of the interpolating queries that have this gap.

    Parameters
    ----------
    target : scipy.sparse.csr_array, shape (n, L)
        Rows of equal weights and the same number of entries.
    keys : ndarray, shape (L, m)
    gap : float

    Returns
    -------
    ndarray, shape (n, m)
        Rows of NaN where no multiple has it.
    """
    B = target_logits(target, 1.0)
    queries = interpolating_queries(B, keys)
    logits = queries @ keys.T
    np.put_along_axis(logits, B.indices.reshape(B.shape[0], -1), -np.inf, axis=1)
    room = 1 - logits.max(axis=1)
    return queries * np.where(room > 0, gap / room, np.nan)[:, None]


def interpolation_dim(length, row_nnz, rows, logit_scale=None, failure_prob=0.01):
    """Return T3's m for so many of the rows: interpolation with Gaussian codes, leak 0.01."""
    method, dims = Interpolate("gaussian", logit_scale=logit_scale), np.arange(row_nnz + 1, 1000)
    failures = method.log_failure_probability(dims, length, row_nnz) + np.log(rows / length)
    return int(dims[np.argmax(failures <= np.log(failure_prob))])


def farthest_pattern(keys, row_nnz):
    """Return the target in which each token asks for itself and its farthest tokens, equally."""
    length = len(keys)
    farthest = np.argsort(keys @ keys.T, axis=1)[:, : row_nnz - 1]
    target = np.eye(length)
    np.put_along_axis(target, farthest, 1.0, axis=1)
    return target / row_nnz


def logits_of_a_row(keys, queries, support, gap):
    """Draw histograms of one row's logits under several queries of the same gap.

    The row is the first that has all of the queries.

    Parameters
    ----------
    keys : ndarray, shape (L, m)
    queries : dict of str to ndarray, shape (n, m)
    support : ndarray of int, shape (n, k)
    gap : float
    """
    row = np.argmax(np.all([~np.isnan(found[:, 0]) for found in queries.values()], axis=0))
    _, axes = plt.subplots(len(queries), 1, figsize=(5.6, 4.4), sharex=True)
    for ax, (name, found), color in zip(axes, queries.items(), ("theory", "measured"), strict=True):
        logits = keys @ found[row]
        logits -= logits[support[row]].min()
        off = np.delete(logits, support[row])
        ax.hist(off, bins=np.arange(np.floor(off.min()) - 0.5, 0, 0.5), color=COLORS[color])
        ax.plot(logits[support[row]], np.full(support.shape[1], 12), "v", color=COLORS["ink"], ms=8)
        ax.axvline(-gap, color=COLORS["ink"], ls=":")
        ax.text(0.02, 0.8, name, color=COLORS[color], transform=ax.transAxes)
        ax.set(yscale="log", ylabel="tokens")
    axes[-1].set(xlabel="logit, relative to the support")
    axes[0].text(0, 40, "support", va="bottom", ha="center")
    plt.show()


def transition(dims, shares, grid, law):
    """Draw the share of supports that have a query, measured and by the exact law.

    Parameters
    ----------
    dims : ndarray of int
    shares : dict of int to ndarray
        For each L the measured shares at `dims`.
    grid : ndarray of int
    law : dict of int to ndarray
        For each L the law's at `grid`.
    """
    _, ax = plt.subplots(figsize=SIZES["single"])
    styles = zip(("theory", "exact", "measured"), ("right", "center", "left"), strict=True)
    for (length, share), (color, side) in zip(shares.items(), styles, strict=True):
        ax.plot(grid, law[length], "-", color=COLORS[color], lw=1.4)
        ax.plot(dims, share, "o", color=COLORS[color], ms=5)
        half = np.interp(0.5, law[length], grid)
        ax.text(half, 1.06, f"$L = {length}$", color=COLORS[color], ha=side)
    ax.set(xlabel="query dimension $m$", ylabel="share of supports with a query")
    ax.set(ylim=(-0.03, 1.18), xlim=(grid[0], grid[-1]), yticks=np.linspace(0, 1, 6))
    plt.show()
