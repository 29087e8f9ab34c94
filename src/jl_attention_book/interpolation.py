"""Figures and simulations of chapters 7, 8 and 11: queries that are solved for."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from scipy import optimize, sparse, stats

from jl_attention import targets
from jl_attention.logits import row_norms
from jl_attention.methods import interpolating_queries

from . import datasets
from .figures import COLORS, SIZES, show_matrix
from .vector import on_a_phone

# --- Simulations -----------------------------------------------------------------------------


def independent_rows(draws, size, m, rng, others=1):
    """Interpolate rows that share nothing: each has codes of its own, for its tokens and others.

    Parameters
    ----------
    draws, size, m : int
        Rows, tokens of a support, dimension.
    rng : numpy.random.Generator
    others : int, optional
        Tokens off each row's support.

    Returns
    -------
    queries : ndarray, shape (draws, m)
    norms : ndarray, shape (draws,)
        ||b||, its entries uniform between 10 and 12.
    logits : ndarray, shape (draws, others)
        Off the support.
    """
    width = size + others
    keys = rng.standard_normal((draws * width, m))
    columns = np.arange(draws)[:, None] * width + np.arange(size)
    values = rng.uniform(10, 12, (draws, size))
    ends = np.arange(draws + 1) * size
    B = sparse.csr_array((values.ravel(), columns.ravel(), ends), (draws, len(keys)))
    queries = interpolating_queries(B, keys)
    off = keys.reshape(draws, width, m)[:, size:]
    return queries, row_norms(B), np.einsum("im,ijm->ij", queries, off)


def rows_hold(height, nu, others, nodes=2000):
    """Return E Phi(h chi_nu)^others for each height h, over quantiles of chi_nu.

    The probability that none of `others` logits of one row of Gaussian codes exceeds h ||b||.
    """
    chi = np.sqrt(stats.chi2.ppf((np.arange(nodes) + 0.5) / nodes, nu))
    heights = np.asarray(height)[..., None]
    return np.exp(others * stats.norm.logcdf(heights * chi)).mean(axis=-1)


def median_largest(k, m, length):
    """Return the median, over codes, of the largest logit off the support in units of tau.

    For rows of k equal weights, taken as independent.
    """

    def excess(log_x):
        height = np.exp(log_x) / np.sqrt(k)
        return rows_hold(height, m - k + 1, length - k) ** length - 0.5

    return np.exp(optimize.brentq(excess, -4, 16))


def worst_pair(codes):
    """Return the largest logit off the support over tau, over all supports of two equal weights.

    For each token j only pairs are tried that a bound of their weights leaves: exact, like a search
    over all pairs.

    Parameters
    ----------
    codes : ndarray, shape (L, m)

    Returns
    -------
    float
    """
    gram = codes @ codes.T
    squares = np.diag(gram)
    with np.errstate(divide="ignore", invalid="ignore"):
        # weights[a, b] is the weight of code a in the query for {a, b}, tau = 1
        weights = (squares - gram) / (squares[:, None] * squares - gram**2)
    np.fill_diagonal(weights, 0)  # a pair, not a token twice
    heaviest, worst = np.maximum(weights.max(axis=1), 0), -np.inf
    for j, products in enumerate(gram):
        bound = heaviest * np.maximum(products, 0)  # of a token's part of the logit
        bound[j] = 0
        least = worst - bound.max()
        some = np.nonzero(bound >= least if least > 0 else np.arange(len(gram)) != j)[0]
        if len(some) > 1:
            part = weights[np.ix_(some, some)] * products[some][:, None]
            logits = part + part.T
            np.fill_diagonal(logits, -np.inf)
            worst = max(worst, logits.max())
    return worst


def seven_patterns(length=1024):
    """Return the seven targets of chapter 8 by name.

    A permutation within 64 tokens, a band, BigBird's window with global columns and random tokens,
    blocks, vertical lines with slashes, a grid graph of 32 rows, and the four largest entries a row
    of eight trained heads.
    """
    heads = [("story", 1, 4), ("story", 2, 0), ("code", 0, 1), ("biology", 4, 9)]
    heads += [("biology", 1, 4), ("code", 2, 0), ("story", 0, 1), ("code", 4, 9)]
    data = datasets.load_minilm()
    real = [data.target(*head, row_nnz=4) for head in heads]
    turns = [targets.permutation(64, rng=seed) for seed in range(length // 64)]
    columns, ends = np.tile([0, 1], length), np.arange(length + 1) * 2
    seen_by_all = sparse.csr_array((np.ones(2 * length), columns, ends), (length, length))
    bird = targets.big_bird(length, 1, 0, 1, rng=3) + 0.3 * seen_by_all
    node = np.arange(length).reshape(32, -1)
    across = [node[:, :-1].ravel(), node[:, 1:].ravel()]
    down = [node[:-1].ravel(), node[1:].ravel()]
    edges = np.hstack([across, down])
    grid = sparse.coo_array((np.ones(edges.shape[1]), edges), (length, length))
    return {
        "permutation": targets.check_target(sparse.block_diag(turns, format="csr")),
        "band": targets.banded(length, 2, 4.0, rng=1),
        "BigBird": targets.normalize_rows(bird),
        "blocks": targets.block_diagonal(length, 4, 4.0, rng=1),
        # With this seed both lines are among the tokens that the figure shows.
        "lines and slashes": targets.vertical_slash(length, 2, 3, 4.0, rng=440),
        "graph": targets.from_graph(grid + grid.T),
        "real": targets.check_target(sparse.block_diag(real, format="csr")),
    }


# --- Chapter 7 -------------------------------------------------------------------------------


def project_or_solve(B, logits, allowed):
    """Draw logits obtained against logits asked, one panel a method, with those off the support.

    Parameters
    ----------
    B : scipy.sparse.csr_array, shape (L, L)
        Target logits.
    logits : dict of str to ndarray, shape (L, L)
    allowed : float
        The level that a logit off the support may have.
    """
    asked = B.toarray()
    on = asked > 0
    spread = np.random.default_rng(1).normal(0, 0.35, len(asked))
    _, axes = plt.subplots(1, len(logits), figsize=(6.4, 3.2), sharey=True)
    for ax, (name, values) in zip(axes, logits.items(), strict=True):
        off = np.append(values[0][~on[0]], values[~on].max())
        ax.plot(spread[: len(off)], off, ".", ms=3, color=COLORS["forbidden"])
        ax.plot(asked[on], values[on], ".", ms=3, alpha=0.5, color=COLORS["measured"])
        ends = [asked[on].min() - 1, asked.max() + 1]
        ax.plot(ends, ends, "--", color=COLORS["ink"], linewidth=1)
        ax.axhline(allowed, linestyle=":", color=COLORS["theory"])
        ax.set(title=name, xlabel="logit asked, $B_{ij}$", xlim=(-2, ends[1] + 1))
    axes[0].set_ylabel(r"logit obtained, $\Lambda_{ij}$")
    at = (-1.5, allowed + 1.0)
    axes[1].annotate("allowed off the support", at, color=COLORS["theory"], fontsize=10)
    axes[0].annotate("on the\nsupport", (14.5, 3), color=COLORS["measured"], ha="center")
    axes[0].annotate("off it", (1.5, -5), color="#777777")
    plt.show()


def quantiles(scaled, nu):
    """Draw the quantiles of scaled logits against those of Student's law and the normal law."""
    levels = np.append(np.geomspace(1e-4, 0.5, 25), 1 - np.geomspace(0.5, 1e-4, 25))
    measured = np.quantile(scaled, levels)
    _, ax = plt.subplots(figsize=(4.2, 3.6))
    ax.plot([-12, 12], [-12, 12], color=COLORS["ink"], linewidth=0.8)
    ax.plot(stats.norm.ppf(levels), measured, ".", ms=5, color="#777777")
    ax.plot(stats.t(nu).ppf(levels), measured, "o", ms=4, color=COLORS["exact"])
    ax.set(xlabel="quantile of the law", ylabel="quantile of the logits", aspect="equal")
    ax.set(xlim=(-12, 12), ylim=(-12, 12))
    ax.annotate(f"$t_{nu}$", (7.2, 4.6), color=COLORS["exact"])
    ax.annotate("normal", (-2.2, 10), color="#555555", ha="center")
    plt.show()


def calibration(dims, union, independent, failures, draws, interval):
    """Draw the share of code matrices that fail against the union bound and independent rows.

    Parameters
    ----------
    dims, union, independent : ndarray
        The two predictions at each dimension.
    failures : ndarray of int
    draws : int
        Code matrices at each dimension.
    interval : ndarray, shape (2, n)
        Confidence interval of each share.
    """
    _, ax = plt.subplots(figsize=SIZES["single"])
    ax.plot(dims, union, color=COLORS["theory"])
    ax.plot(dims, independent, color=COLORS["exact"])
    share = failures / draws
    style = {"fmt": "o", "ms": 5, "capsize": 3, "color": COLORS["measured"]}
    ax.errorbar(dims, share, yerr=abs(interval - share), **style)
    ax.axhline(1, color=COLORS["ink"], linewidth=0.8)
    ax.set(yscale="log", ylim=(0.004, 8))
    ax.set(xlabel="dimension $m$", ylabel="probability of a failure")
    ax.annotate("union bound", (dims[1], 1.25 * union[1]), color=COLORS["theory"])
    ax.annotate("rows independent", (dims[0], 0.1), color=COLORS["exact"])
    ax.annotate("measured", (dims[3] + 1, 0.45), color=COLORS["measured"])
    plt.show()


def codes_against_length(lengths, dims):
    """Draw the dimension that each kind of code asks for against the length, and m = L."""
    _, ax = plt.subplots(figsize=SIZES["single"])
    colors = {"gaussian": "theory", "unit": "beyond", "tight": "exact"}
    for codes, values in dims.items():
        ax.loglog(lengths, values, color=COLORS[colors[codes]])
    ax.loglog(lengths, lengths, color="#555555", lw=1)
    ax.fill_between(lengths, lengths, 2 * lengths[-1], color=COLORS["forbidden"], alpha=0.3, lw=0)
    ax.annotate("$m = L$", (820, 950), color="#555555", ha="right")
    ax.annotate("Gaussian", (lengths[0] * 1.1, dims["gaussian"][0] * 1.3), color=COLORS["theory"])
    ax.annotate("unit", (lengths[0] * 1.1, dims["unit"][0] * 0.8), color=COLORS["beyond"])
    ax.annotate("tight", (lengths[2], dims["tight"][2] * 0.7), color=COLORS["exact"])
    ax.set(xlabel="length $L$", ylabel="dimension $m$", ylim=(40, 1500), xlim=lengths[[0, -1]])
    plt.show()


def logit_scale(units, curves, limits, default):
    """Draw the required dimension against tau over log(1/eps2), with the limits of large tau.

    Parameters
    ----------
    units : ndarray
        tau/log(1/eps2).
    curves : dict of int to ndarray
        By support size k.
    limits, default : dict of int to int
        For tau to infinity; at three units.
    """
    _, ax = plt.subplots(figsize=SIZES["single"])
    for (k, curve), color in zip(curves.items(), ("exact", "theory", "beyond"), strict=True):
        ax.plot(units, curve, color=COLORS[color])
        ends = units[[0, -1]]
        ax.plot(ends, [limits[k]] * 2, "--", color=COLORS[color], linewidth=1)
        ax.plot([3], [default[k]], "o", color=COLORS[color])
        height = 1.35 * np.interp(8.2, units, curve)
        ax.annotate(f"$k = {k}$", (8.2, height), color=COLORS[color])
    ax.set(xlabel=r"logit scale, $\tau/\log(1/\varepsilon_2)$", xlim=(1, 12))
    ax.set(yscale="log", ylabel="dimension $m$")
    plt.show()


def near_the_dimension(sizes, largest, expected):
    """Draw the largest logits off the support against the support size, in units of tau.

    Parameters
    ----------
    sizes : ndarray
    largest : ndarray, shape (n, draws)
    expected : ndarray, shape (n,)
        The median predicted.
    """
    _, ax = plt.subplots(figsize=SIZES["single"])
    ax.plot(sizes, largest, ".", ms=5, color=COLORS["measured"])
    ax.plot(sizes, expected, color=COLORS["exact"])
    ax.annotate("predicted", (30, 6.5), color=COLORS["exact"], ha="right")
    ax.annotate("measured", (33, 2.2), color=COLORS["measured"])
    ax.axhline(1, linestyle="--", color=COLORS["ink"], linewidth=1)
    ax.set(yscale="log", xlabel="support size $k$")
    ax.set_ylabel(r"largest logit off the support $/\,\tau$")
    plt.show()


# --- Chapter 8 -------------------------------------------------------------------------------


def every_pattern(patterns, built, shown=64):
    """Draw each target, the attention it gets, and the difference on a logarithmic scale."""
    fig, axes = plt.subplots(len(patterns), 3, figsize=(5.4, 12.6))
    scale, rows = LogNorm(1e-7, 1e-2), slice(shown)
    for row, (name, A) in zip(axes, patterns.items(), strict=True):
        wanted = A[rows, rows].toarray()
        got = built[name].attention(rows)[:, rows]
        show_matrix(row[0], wanted, vmax=wanted.max())
        show_matrix(row[1], got, vmax=wanted.max())
        difference = np.abs(got - wanted) + 1e-12
        image = show_matrix(row[2], difference, cmap="Oranges", norm=scale)
        row[0].set_ylabel(name)
    for ax, title in zip(axes[0], ("target", "attention", "|difference|"), strict=True):
        ax.set_title(title)
    fig.colorbar(
        image, ax=axes, location="bottom", shrink=0.3, anchor=(1.0, 1.0), pad=0.01, aspect=10
    )
    on_a_phone(fig, rows="as they are", height=10.0)
    plt.show()


def stream(frames, leaks, leak):
    """Draw six frames of a stream of patterns above the worst leak of every step."""
    fig = plt.figure(figsize=(6.4, 5.6))
    top, bottom = fig.subfigures(2, 1, height_ratios=[2, 1])
    for ax, (step, frame) in zip(top.subplots(2, 3).ravel(), frames.items(), strict=True):
        show_matrix(ax, frame, title=f"step {step}", vmax=0.5)
    ax = bottom.subplots()
    ax.semilogy(leaks, ".", color=COLORS["measured"])
    ax.axhline(leak, color=COLORS["theory"])
    ax.annotate("asked", (0, leak * 0.55), color=COLORS["theory"])
    ax.set(xlabel="step", ylabel="worst leak", ylim=(1e-4, 2e-2))
    plt.show()


def before_and_after_codes(dims, before, after, asks, length, leak):
    """Draw leaks of a target chosen before the codes and of the worst one chosen after them.

    Parameters
    ----------
    dims : ndarray
    before, after : array_like, shape (n, draws)
    asks : dict of str to int
        The dimension that each theorem asks for.
    length : int
        L, drawn as a line: m = L is free.
    leak : float
    """
    _, ax = plt.subplots(figsize=SIZES["tall"])
    ax.loglog(dims, before, "o", ms=4, color=COLORS["exact"])
    ax.loglog(dims, after, "o", ms=4, color=COLORS["measured"])
    ax.axhline(leak, linestyle="--", color=COLORS["ink"], linewidth=1)
    ax.axvspan(length, 2 * length, color=COLORS["forbidden"], alpha=0.3, lw=0)
    ax.annotate("$m \\geq L$", (length * 1.04, 80), color="#555555", fontsize=10)
    for (name, m), height, color, side in zip(
        asks.items(),
        (80, 15, 3),
        ("exact", "measured", "beyond"),
        ("right", "left", "left"),
        strict=True,
    ):
        ax.axvline(m, color=COLORS[color], linewidth=1.2)
        place = {"fontsize": 10, "color": COLORS[color], "ha": side}
        ax.annotate(name, (m * (0.97 if side == "right" else 1.03), height), **place)
    ax.annotate("chosen before\nthe codes", (42, 1e-3), color=COLORS["exact"])
    ax.annotate("chosen after", (66, 9), color=COLORS["measured"])
    ax.set(xlabel="dimension $m$", ylabel="leak", ylim=(1e-5, 300), xlim=(38, 1.5 * length))
    ticks = [50, 100, 200, 400, 800]
    ax.set_xticks(ticks, list(map(str, ticks)))
    ax.minorticks_off()
    plt.show()


# --- Chapter 11 ------------------------------------------------------------------------------


def kernel_errors(weights, errors):
    """Draw the relative error of every weight in each format."""
    _, ax = plt.subplots(figsize=SIZES["single"])
    for name, color in (("float16", "measured"), ("float32", "theory")):
        ax.semilogy(weights, errors[name], ".", ms=4, color=COLORS[color])
        ax.text(0.62, np.median(errors[name]), name, color=COLORS[color])
    ax.set(xlabel="weight asked, $A_{ij}$", ylabel="relative error")
    ax.set(xlim=(0, 0.8), ylim=(1e-10, 1e-1))
    plt.show()


def bits(all_bits, errors, bounds):
    """Draw the worst ratio error against the bits kept, with the lemma's bound."""
    _, ax = plt.subplots(figsize=SIZES["single"])
    ax.semilogy(all_bits, bounds, color=COLORS["theory"])
    ax.semilogy(all_bits, errors, "o", ms=4, color=COLORS["measured"])
    ax.annotate("the lemma", (13.9, bounds[10] * 1.2), color=COLORS["theory"])
    ax.annotate("measured", (3.3, 1e-3), color=COLORS["measured"])
    for name, p in (("bfloat16", 8), ("float16", 11), ("float32", 24)):
        ax.axvline(p, color=COLORS["forbidden"], linewidth=1, zorder=0)
        ax.text(p - 0.1, 200, name, rotation=90, ha="right", va="top", color="#555555")
    ax.set(xlabel="significant bits $p$", ylabel="worst ratio error", ylim=(1e-7, 300))
    plt.show()


def scales(taus, found):
    """Draw the ratio error and the leak's growth of each format against tau."""
    _, axes = plt.subplots(1, 2, figsize=(6.4, 3.0), sharex=True)
    colors = {"bfloat16": "beyond", "float16": "measured", "float32": "exact"}
    for ax, key, label in zip(
        axes, ("ratio", "leak"), ("worst ratio error", "factor of the leak"), strict=True
    ):
        for name, color in colors.items():
            ax.loglog(taus, found[name][key], "o-", ms=4, color=COLORS[color])
        ax.set(xlabel=r"logit scale $\tau$", ylabel=label)
        ax.minorticks_off()
    for name, color in colors.items():
        at = (taus[0], found[name]["ratio"][0])
        offset = {"xytext": (0, 9), "textcoords": "offset points", "fontsize": 10}
        axes[0].annotate(name, at, color=COLORS[color], **offset)
    axes[1].set_yticks([1, 2, 4], ["1", "2", "4"])
    plt.show()
