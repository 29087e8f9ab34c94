"""The front page's picture: targets of a few tokens a row, and the module in true proportions."""

import matplotlib.pyplot as plt
import numpy as np

import jl_attention as jla

from . import figures

SIDE = 2.56
"""Inches of an attention matrix on the page; everything else is as large in proportion."""

WIDTH = 4.1
"""Inches of the picture: narrow, so that its words stay legible on a phone."""

PIXELS = 256
"""Pixels of a picture's side: each shows the largest entry of a square of tokens."""


def drawn_curves(length):
    """Return a target that shows a circle, a wave and the diagonal, equal weights in a row.

    Parameters
    ----------
    length : int
        L.

    Returns
    -------
    scipy.sparse.csr_array, shape (L, L)
        At most 4 nonzeros a row.
    """
    row = np.arange(length)
    x = 2 * row / (length - 1) - 1
    height = np.sqrt(np.maximum(0.84**2 - x**2, 0))
    curves = np.array([x, 0.64 * np.sin(np.pi * x), height, -height])
    curves[2:, np.abs(x) > 0.84] = x[np.abs(x) > 0.84]  # beside the circle there is the diagonal
    columns = np.rint((curves + 1) / 2 * (length - 1)).astype(int)
    mask = np.zeros((length, length), dtype=bool)
    mask[np.tile(row, 4), columns.ravel()] = True
    return jla.targets.from_mask(mask)


def pooled_attention(built, pixels=PIXELS):
    """Return the attention matrix, each pixel the largest entry of a square of tokens."""
    size = built.keys.shape[0] // pixels
    return np.array(
        [
            built.attention(slice(start, start + size)).reshape(size, pixels, size).max(axis=(0, 2))
            for start in range(0, pixels * size, size)
        ]
    )


def in_proportion(built):
    """Draw input, module and attention of constructions with the same keys, to one scale.

    Parameters
    ----------
    built : dict of str to jl_attention.Construction
        By the name of the target.

    Returns
    -------
    matplotlib.figure.Figure
    """
    length, dim = next(iter(built.values())).keys.shape
    unit = SIDE / length
    height = 0.42 + len(built) * (SIDE + 0.14)
    fig = plt.figure(figsize=(WIDTH, height), dpi=200, layout="none")

    def place(left, top, wide, high):
        return fig.add_axes((left / WIDTH, 1 - (top + high) / height, wide / WIDTH, high / height))

    def write(x, y, text, **style):
        fig.text(x / WIDTH, 1 - y / height, text, ha="center", va="center", fontsize=10, **style)

    left, module, right = 0.5, 1.0, WIDTH - SIDE - 0.05
    for x, title in (
        (left + dim * unit, "input $X$"),
        (module + 0.12, "module"),
        (right + SIDE / 2, "attention $M$"),
    ):
        write(x, 0.2, title)
    for index, (name, head) in enumerate(built.items()):
        top = 0.42 + index * (SIDE + 0.14)
        middle = top + SIDE / 2
        write(0.16, middle, name, rotation=90)
        for at, half, cmap in ((0, head.queries, "PuOr"), (1, head.keys, "Greys")):
            ax = place(left + at * dim * unit, top, dim * unit, SIDE)
            shown = half[:: length // PIXELS] / half.std()
            ax.imshow(shown, cmap=cmap, vmin=-3, vmax=3, aspect="auto", interpolation="nearest")
            ax.set_axis_off()
        for at in (0, 1):  # W_Q above W_K, 2m x m each
            ax = place(module + 0.1, middle + (at - 1) * 0.13 + 0.02, dim * unit, 2 * dim * unit)
            ax.set(facecolor=figures.COLORS["ink"], xticks=[], yticks=[])
        for start, end in ((left + 2 * dim * unit + 0.06, module), (module + 0.26, right - 0.06)):
            ax = place(start, middle - 0.05, end - start, 0.1)
            ax.annotate("", (1, 0.5), (0, 0.5), arrowprops={"arrowstyle": "->"})
            ax.set_axis_off()
        ax = place(right, top, SIDE, SIDE)
        shown = pooled_attention(head)
        figures.show_matrix(ax, shown, vmax=np.median(shown[shown > 0.01]))
    return fig
