"""The one place for the style of the book's figures.

Figures have a white ground; the book's style sheet inverts their lightness in dark mode and keeps
the hues, so captions name colours and never brightness. Needs the extra ``book`` (Matplotlib).
"""

import os

import matplotlib as mpl
import numpy as np

from . import vector

# Okabe and Ito's palette, told apart by readers with any of the common colour blindnesses.
COLORS = {
    "theory": "#0072B2",  # blue: a bound or a formula
    "exact": "#009E73",  # green: an exact law
    "measured": "#D55E00",  # vermilion: a measurement
    "beyond": "#CC79A7",  # purple: a further construction
    "target": "#56B4E9",  # sky blue: a target, or what was asked
    "forbidden": "#B0B0B0",  # grey: a region where a bound says nothing
    "ink": "#000000",
}

SIZES = {"single": (5.6, 3.4), "tall": (5.6, 4.6), "wide": (6.4, 2.6), "grid": (6.4, 6.4)}
"""Figure sizes in inches, at most 6.4 wide so that text stays legible at 390 px."""

ATTENTION_CMAP = "Blues"


def style():
    """Set Matplotlib's defaults for the book; call once at the top of a notebook."""
    mpl.rcParams.update(mpl.rcParamsDefault)
    mpl.rcParams.update(
        {
            "figure.figsize": SIZES["single"],
            "figure.dpi": 160,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.labelsize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": mpl.cycler(
                color=[COLORS[name] for name in ("theory", "measured", "exact", "beyond", "target")]
            ),
            "axes.axisbelow": True,
            "axes.grid": True,
            "grid.color": "#E4E4E4",
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "legend.fontsize": 10,
            "lines.linewidth": 1.8,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
        }
    )
    if folder := os.environ.get(vector.FOLDER):
        vector.record_figures(folder)


def show_matrix(ax, matrix, title=None, vmin=0.0, vmax=None, cmap=ATTENTION_CMAP, norm=None):
    """Draw a matrix as an image: row 0 on top, queries down, keys across.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    matrix : array_like or scipy.sparse array, shape (n, L)
    title : str, optional
    vmin, vmax : float, optional
        Ends of the colour scale; `vmax` is the largest entry if None.
    cmap : str, optional
    norm : matplotlib.colors.Normalize, optional
        Another colour scale, in place of `vmin` and `vmax`.

    Returns
    -------
    matplotlib.image.AxesImage
    """
    dense = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
    scale = {"vmin": vmin, "vmax": vmax} if norm is None else {"norm": norm}
    image = ax.imshow(dense, cmap=cmap, interpolation="nearest", **scale)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set(visible=True, linewidth=0.8)
    if title is not None:
        ax.set_title(title)
    return image


def head_map(ax, values, title=None, vmin=0.0, vmax=1.0):
    """Draw one number for each head of a model: layers across, heads down.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    values : array_like, shape (layers, heads)
    title : str, optional
    vmin, vmax : float, optional
        Ends of the colour scale.

    Returns
    -------
    matplotlib.image.AxesImage
    """
    values = np.asarray(values)
    image = ax.imshow(
        values.T, cmap=ATTENTION_CMAP, interpolation="nearest", aspect="auto", vmin=vmin, vmax=vmax
    )
    layers, heads = values.shape
    ax.set(xticks=range(0, layers, 5 if layers > 12 else 1), yticks=range(0, heads, 4))
    ax.grid(False)
    if title is not None:
        ax.set_title(title)
    return image


def show_vacuous(ax, lengths, label="m ≥ L: an exact factorisation is free"):
    """Shade where a query dimension m is at least the sequence length L on an (L, m) plot.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Sequence length L across, dimension m up.
    lengths : array_like
        The lengths the axis spans.
    label : str, optional
    """
    lengths = np.asarray(lengths, dtype=float)
    top = ax.get_ylim()[1]
    ax.fill_between(lengths, lengths, max(top, lengths.max()), color=COLORS["forbidden"], alpha=0.3)
    ax.annotate(
        label, (0.03, 0.95), xycoords="axes fraction", va="top", fontsize=9, color="#555555"
    )
    ax.set_ylim(top=top)
