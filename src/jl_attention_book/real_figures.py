"""Figures of chapters 1 and 12: what they show is computed in the cells, and drawn here."""

import matplotlib.pyplot as plt
import numpy as np

from .figures import COLORS, SIZES, head_map, show_matrix
from .vector import on_a_phone

SPARSE = 20
"""Entries that hold 90% of a row, up to which a head is called sparse."""


def _panels(models, **options):
    """Make one panel for each model, named; return a dict of axes."""
    _, axes = plt.subplots(1, len(models), sharey=True, **options)
    for ax, name in zip(axes, models, strict=True):
        ax.set_title(name)
    return dict(zip(models, axes, strict=True))


def corners(models, heads, text, size=48):
    """Draw the first rows and columns of attention matrices, one line of panels for each model.

    Parameters
    ----------
    models : dict of datasets.RealAttention
    heads : dict of dict
        Model to {what to call it: (layer, head)}.
    text : str
    size : int, optional
    """
    columns = max(map(len, heads.values()))
    figure, axes = plt.subplots(len(heads), columns, figsize=(6.4, 4.7))
    for row, (name, chosen) in zip(axes, heads.items(), strict=True):
        for ax, (kind, head) in zip(row, chosen.items(), strict=True):
            corner = models[name].attention(text, *head)[:size, :size]
            show_matrix(ax, corner, title=kind, vmax=0.15)
        row[0].set_ylabel(f"{name}: token $i$")
    axes[-1, columns // 2].set_xlabel("looks at token $j$")
    on_a_phone(figure, rows=np.arange(axes.size).reshape(axes.shape).T.tolist())
    plt.show()


def words(attention, tokens):
    """Draw attention with the tokens on both axes."""
    figure, ax = plt.subplots(figsize=(5.6, 5.0))
    image = show_matrix(ax, attention, vmax=0.6)
    ax.set_xticks(range(len(tokens)), tokens, rotation=90)
    ax.set_yticks(range(len(tokens)), tokens)
    figure.colorbar(image, ax=ax, shrink=0.7).outline.set_linewidth(0.5)
    plt.show()


def by_layer(entries):
    """Draw one dot a head, layers across.

    Parameters
    ----------
    entries : dict of ndarray, shape (layers, heads)
        Model to the entries that hold 90% of a row.
    """
    axes = _panels(entries, figsize=(6.4, 3.2), width_ratios=[1, 2.2])
    for name, counts in entries.items():
        layers, heads = counts.shape
        x = np.arange(layers)[:, None] + np.linspace(-0.3, 0.3, heads)
        color = np.where(counts <= SPARSE, COLORS["measured"], COLORS["theory"])
        size = 12 if layers > 12 else 22
        axes[name].scatter(x.ravel(), counts.ravel(), c=color.ravel(), s=size, zorder=3)
        axes[name].axhline(SPARSE, color=COLORS["ink"], linewidth=1)
        axes[name].set(xlabel="layer", ylim=(0, 110))
    next(iter(axes.values())).set(ylabel="entries for 90% of a row", xticks=range(6))
    plt.show()


def growth(counts):
    """Draw the median head and the middle half of the heads against the length of the text.

    Parameters
    ----------
    counts : dict of (lengths, ndarray of shape (n, layers, heads))
        Model to the entries that hold 90% of a row.
    """
    _, ax = plt.subplots(figsize=SIZES["single"])
    for (name, (lengths, values)), style in zip(
        counts.items(), [("theory", "s-"), ("measured", "o-")], strict=True
    ):
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75), axis=(1, 2))
        color = COLORS[style[0]]
        ax.fill_between(lengths, low, high, color=color, alpha=0.2)
        ax.loglog(lengths, middle, style[1], color=color)
        ax.annotate(
            name,
            (lengths[-1], middle[-1]),
            xytext=(8, 0),
            textcoords="offset points",
            color=color,
            va="center",
        )
    ends = np.array([32, 1024])
    ax.loglog(ends, ends, color=COLORS["ink"], linewidth=1)
    ax.annotate("all $L$", (60, 75), rotation=33)
    ax.set(xlabel="tokens $L$", ylabel="entries for 90% of a row", xlim=(28, 2400))
    ax.set_xticks([32, 128, 512, 1024], ["32", "128", "512", "1024"])
    ax.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    ax.minorticks_off()
    plt.show()


def sparse_and_dynamic(entries, variation, parked):
    """Draw one dot a head: the entries it needs across, how far it moves between texts up.

    Parameters
    ----------
    entries, variation : dict of ndarray, shape (layers, heads)
    parked : dict of ndarray of bool, shape (layers, heads)
        Heads drawn in grey.
    """
    axes = _panels(entries, figsize=(6.4, 3.2))
    for name, ax in axes.items():
        color = np.where(entries[name] <= SPARSE, COLORS["measured"], COLORS["theory"])
        color = np.where(parked[name], COLORS["forbidden"], color)
        ax.scatter(entries[name].ravel(), variation[name].ravel(), c=color.ravel(), s=14)
        ax.axvline(SPARSE, color=COLORS["ink"], linewidth=1)
        ax.set(xlabel="entries for 90% of a row", xlim=(0, 105), ylim=(0, 1))
    next(iter(axes.values())).set_ylabel("total variation between texts")
    plt.show()


def busiest_columns(shares):
    """Draw histograms of the share of rows in the busiest column.

    Parameters
    ----------
    shares : dict of dict of ndarray
        Model to {which columns: a share for each matrix}.
    """
    axes = _panels(shares, figsize=(6.4, 2.7))
    for name, kinds in shares.items():
        for color, (label, values) in zip(("measured", "theory"), kinds.items(), strict=True):
            axes[name].hist(
                values.ravel(),
                bins=np.linspace(0, 1, 21),
                weights=np.full(values.size, 1 / values.size),
                histtype="step",
                linewidth=1.8,
                color=COLORS[color],
                label=label,
            )
        axes[name].axvline(0.5, color=COLORS["ink"], linewidth=1)
        axes[name].set(xlabel="rows in the busiest column", xlim=(0, 1))
        axes[name].set_xticks([0, 0.5, 1], ["0", "half", "all"])
    first = next(iter(axes.values()))
    first.set_ylabel("share of matrices")
    first.legend(loc="upper left")
    plt.show()


def head_maps(maps, vmax):
    """Draw maps of all heads: one line of panels for each quantity, one panel for each model.

    Parameters
    ----------
    maps : dict of dict of ndarray, shape (layers, heads)
        What it is to {model: values}.
    vmax : float
        End of the colour scale, which begins at 0.
    """
    models = next(iter(maps.values()))
    height = 0.4 + 1.8 * len(maps)
    figure, axes = plt.subplots(
        len(maps), len(models), figsize=(6.4, height), width_ratios=[1, 2.4], squeeze=False
    )
    for row, (label, values) in zip(axes, maps.items(), strict=True):
        for ax, found in zip(row, values.values(), strict=True):
            image = head_map(ax, found, vmax=vmax)
        row[0].set_ylabel(label)
    for ax, name in zip(axes[0], models, strict=True):
        ax.set_title(name)
    for ax in axes[-1]:
        ax.set_xlabel("layer")
    figure.colorbar(image, ax=axes, shrink=0.7).outline.set_linewidth(0.5)
    on_a_phone(figure, rows="as they are")
    plt.show()


def distance_by_dimension(curves, head_size):
    """Draw distances against the dimension, at the theorem's scale and the best.

    Parameters
    ----------
    curves : dict of dict
        k to {m: (distance at the theorem's scale, at the best)}.
    head_size : int
        A dimension to mark.
    """
    _, ax = plt.subplots(figsize=SIZES["single"])
    styles = [("theory", 0), ("measured", 4), ("exact", -4)]
    for (k, points), (color, up) in zip(curves.items(), styles, strict=True):
        dims = list(points)
        at_default, at_best = np.transpose(list(points.values()))
        ax.plot(dims, at_best, "o-", ms=4, color=COLORS[color])
        ax.plot(dims, at_default, ":", color=COLORS[color])
        ax.annotate(
            f"$k = {k}$",
            (dims[-1], at_best[-1]),
            xytext=(7, up),
            textcoords="offset points",
            color=COLORS[color],
            va="center",
        )
    ax.axvline(head_size, color=COLORS["forbidden"], linewidth=1, zorder=0)
    ax.annotate("head size", (head_size + 1, 1.0), color="#555555")
    ax.set(xlabel="query dimension $m$", ylabel="mean distance to the true head")
    ax.set(xlim=(10, 132), ylim=(-0.05, 1.05), xticks=[16, 32, 64, 96, 128])
    plt.show()
