"""Figures and tables of chapters 2 to 6: what a page shows is computed in its cells, drawn here."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgba
from scipy import stats

from jl_attention import concentration
from jl_attention_book.figures import COLORS, SIZES, show_matrix, show_vacuous
from jl_attention_book.vector import on_a_phone


def clopper_pearson(hits, draws, level=0.95):
    """Return the exact confidence interval of a share, shape (2, ...)."""
    hits, rest = np.asarray(hits), (1 - level) / 2
    ends = stats.beta.ppf(
        [[rest], [1 - rest]], np.stack([hits, hits + 1]), np.stack([draws - hits + 1, draws - hits])
    )
    return np.where([hits == 0, hits == draws], [[0.0], [1.0]], ends)


def table(header, rows):
    """Print rows of ready strings below a header, each column as wide as its widest entry."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


# --- Chapter 2 -------------------------------------------------------------------------------


def shells(images):
    """Draw the images of one unit vector under many maps: length kept, direction at random.

    Parameters
    ----------
    images : dict of int to ndarray, shape (draws, m)
        The images for each m. The angle in the plane is that of the first two coordinates.
    """
    _, axes = plt.subplots(1, len(images), figsize=(6.4, 1.9), sharex=True, sharey=True)
    for ax, (m, points) in zip(axes, images.items(), strict=True):
        radius = np.linalg.norm(points, axis=1)
        angle = np.arctan2(points[:, 1], points[:, 0])
        circle = np.linspace(0, 2 * np.pi, 200)
        ax.plot(np.cos(circle), np.sin(circle), color=COLORS["ink"], lw=0.8)
        ax.plot(radius * np.cos(angle), radius * np.sin(angle), ".", ms=3, color=COLORS["measured"])
        ax.set(title=f"$m = {m}$", aspect="equal", xticks=[], yticks=[])
        ax.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4))
        ax.grid(False)
    plt.show()


def before_and_after(before, after):
    """Draw the distances after a projection against those before, for each m of `after`."""
    _, axes = plt.subplots(1, len(after), figsize=(6.4, 2.7), sharex=True, sharey=True)
    ends = np.array([0.05, 20])
    for ax, (m, distances) in zip(axes, after.items(), strict=True):
        ax.loglog(before, distances, ".", ms=2, color=COLORS["measured"], alpha=0.4)
        ax.plot(ends, ends, color=COLORS["ink"], lw=1)
        ax.set(title=f"$m = {m}$", aspect="equal", xlim=ends, ylim=ends)
    axes[0].set_ylabel("distance after")
    axes[1].set_xlabel("distance before")
    plt.show()


def length_tail(m, lengths):
    """Draw the tail of a squared length at dimension m: simulated, exact, and its two bounds."""
    eps = np.linspace(0.005, 0.995, 199)
    _, ax = plt.subplots(figsize=SIZES["tall"])
    for bound, line in (("textbook", ":"), ("chernoff", "--"), ("exact", "-")):
        values = concentration.chi_square_failure(m, eps, bound)
        ax.semilogy(eps, values, line, color=COLORS["exact" if bound == "exact" else "theory"])
    simulated_tail(ax, abs(lengths - 1), lambda e: concentration.chi_square_failure(m, e))
    ax.text(0.63, 1.5e-4, "textbook bound", color=COLORS["theory"])
    ax.text(0.845, 2e-9, "Chernoff\nbound", color=COLORS["theory"])
    ax.text(0.66, 3e-11, "exact", color=COLORS["exact"], ha="right")
    ax.text(0.34, 2e-5, "simulated", color=COLORS["measured"], ha="right")
    ax.set(xlabel=r"$\varepsilon$", ylabel="probability", xlim=(0, 1), ylim=(1e-12, 2))
    plt.show()


def simulated_tail(ax, errors, law):
    """Mark the shares of errors above eps, with 95% intervals, where ten or more are expected."""
    grid = np.arange(0.04, 0.6, 0.04)
    grid = grid[len(errors) * law(grid) >= 10]
    hits = np.array([np.sum(errors > e) for e in grid])
    share = hits / len(errors)
    ends = clopper_pearson(hits, len(errors))
    ax.errorbar(grid, share, abs(ends - share), fmt="o", ms=4, color=COLORS["measured"], capsize=2)


def dimension_against_points(counts, dims, trivial):
    """Draw the dimension that each form of the lemma asks for, against the number of points.

    Parameters
    ----------
    counts : ndarray
    dims : dict of str to ndarray
        By label; "exact" is drawn as an exact law.
    trivial : ndarray
        The dimension that is free.
    """
    _, ax = plt.subplots(figsize=SIZES["tall"])
    top = 14_000
    ends = sorted(values[-1] for values in dims.values())
    heights = dict(zip(ends, np.linspace(10_900, 13_100, len(ends)), strict=True))
    for (label, values), line in zip(dims.items(), ("--", ":", "-"), strict=True):
        color = COLORS["exact" if label.startswith("exact") else "theory"]
        ax.semilogx(counts, values, line, color=color)
        ax.text(1.15e6, heights[values[-1]], label, color=color, va="center")
    ax.fill_between(
        counts, np.minimum(trivial, top), top, color=COLORS["forbidden"], alpha=0.35, lw=0
    )
    ax.text(13, 13_400, "$m \\geq N-1$:\nno distortion needed", va="top")
    ax.set(xlim=(10, 1e6), ylim=(0, top), xlabel="number of points $N$", ylabel="dimension $m$")
    plt.show()


def broken_maps(m, heavy, sizes, deviations, formula):
    """Draw two maps that break the lemma: heavy tails, and rows that are correlated.

    Parameters
    ----------
    m : int
    heavy : ndarray
        Squared lengths under a map with heavy tails to m dimensions.
    sizes : ndarray
    deviations : dict of float to list
        For each correlation the deviation of a squared length, at each size.
    formula : callable
        (m, r) to the deviation expected.
    """
    _, (left, right) = plt.subplots(1, 2, figsize=(6.4, 3.0))
    fine, grid = np.linspace(0.01, 1.5, 150), np.linspace(0.05, 1.5, 30)
    left.semilogy(fine, concentration.chi_square_failure(m, fine), color=COLORS["exact"])
    left.plot(grid, [np.mean(abs(heavy - 1) > e) for e in grid], ".", color=COLORS["measured"])
    left.text(0.62, 4e-5, "normal", color=COLORS["exact"])
    left.text(0.6, 0.12, "heavy tails", color=COLORS["measured"])
    left.set(xlabel=r"$\varepsilon$", ylabel="probability", ylim=(1e-5, 1.5), xlim=(0, 1.5))
    for (r, measured), color in zip(deviations.items(), ("exact", "measured"), strict=True):
        right.loglog(sizes, formula(sizes, r), color=COLORS[color])
        right.plot(sizes, measured, ".", color=COLORS[color])
    right.text(30, 0.025, "independent", color=COLORS["exact"])
    right.text(300, 0.2, "correlated", color=COLORS["measured"])
    right.set(xlabel="$m$", ylabel=r"deviation of $\|Gx\|^2$", ylim=(0.01, 1))
    right.minorticks_off()
    plt.show()


def maps_compared(deviation, gaussian):
    """Draw the deviation of a squared length under each map: (spread, spike) by name."""
    _, ax = plt.subplots(figsize=SIZES["single"])
    height = np.arange(len(deviation))[::-1]
    spread, spike = np.array(list(deviation.values())).T
    ax.plot(spread, height, "o", color=COLORS["theory"], ms=7)
    ax.plot(spike, height, "D", color=COLORS["measured"], ms=7, mfc="none", mew=1.8)
    ax.axvline(gaussian, color=COLORS["ink"], lw=1, ls=":", zorder=0)
    at = (gaussian, 7.55)
    ax.annotate(r"$\sqrt{2/m}$", at, xytext=(4, 0), textcoords="offset points")
    ax.text(0.15, height[3], "spread vector", color=COLORS["theory"], va="center")
    ax.text(0.465, height[3], "spike", color=COLORS["measured"], va="center", ha="right")
    ax.set_yticks(height, list(deviation))
    ax.set(xlabel=r"standard deviation of $\|Px\|^2$", xlim=(-0.02, 0.56), ylim=(-0.6, 8.1))
    plt.show()


# --- Chapter 3 -------------------------------------------------------------------------------


def products_before_and_after(before, after):
    """Draw inner products after a projection against those before, for each m of `after`."""
    _, axes = plt.subplots(1, len(after), figsize=(6.4, 2.7), sharex=True, sharey=True)
    for ax, (m, products) in zip(axes, after.items(), strict=True):
        ax.plot(before, products, ".", ms=2.5, color=COLORS["measured"], alpha=0.6)
        ax.plot([-1, 1], [-1, 1], color=COLORS["ink"], lw=1)
        ax.set(title=f"$m = {m}$", xlim=(-1.1, 1.1), ylim=(-1.8, 1.8), xticks=[-1, 0, 1])
    axes[0].set_ylabel("after")
    axes[1].set_xlabel("inner product before")
    plt.show()


def exponents(eps):
    """Draw the exponent of both tails over all correlations, at error eps."""
    rho = np.linspace(-1, 1, 201)
    worst, best = concentration.inner_product_exponent(eps), concentration.orthogonal_exponent(eps)
    _, ax = plt.subplots(figsize=SIZES["single"])
    ax.plot(rho, concentration.correlated_exponent(eps, rho), color=COLORS["theory"])
    ax.plot(rho, concentration.correlated_exponent(eps, rho, "lower"), color=COLORS["beyond"])
    ax.axhline(worst, color=COLORS["ink"], lw=1, ls="--")
    ax.plot(0, best, "o", color=COLORS["ink"])
    offset = {"xytext": (0, 12), "textcoords": "offset points", "ha": "center"}
    ax.annotate(r"$I_0(\varepsilon)$", (0, best), **offset)
    ax.text(0, worst - 0.0005, r"$E(\varepsilon)$", ha="center", va="top")
    ax.text(0.5, 0.0275, "upper tail", color=COLORS["theory"], ha="right")
    ax.text(-0.62, 0.0225, "lower tail", color=COLORS["beyond"])
    ax.set(xlabel=r"correlation $\rho$", ylabel="exponent per dimension")
    ax.set(ylim=(0.012, 0.048), xlim=(-1, 1))
    plt.show()


def product_tails(m, errors):
    """Draw the tail of an inner product: bounds, exact laws, and errors simulated at rho = 0, 1."""
    eps = np.linspace(0.005, 0.795, 159)
    _, ax = plt.subplots(figsize=SIZES["tall"])
    for factor, exponent, line, color in (
        (4, concentration.polarisation_exponent, ":", "theory"),
        (2, concentration.inner_product_exponent, "--", "theory"),
        (1, concentration.orthogonal_exponent, "--", "beyond"),
    ):
        bound = np.minimum(1, factor * np.exp(-m * exponent(eps)))
        ax.semilogy(eps, bound, line, color=COLORS[color])
    for rho, color in ((1.0, "theory"), (0.0, "beyond")):

        def law(e, rho=rho):
            return concentration.inner_product_tail(m, e, rho)

        ax.semilogy(eps, law(eps), color=COLORS[color])
        simulated_tail(ax, abs(errors[rho]), law)
    ax.text(0.52, 4e-3, "polarisation", color=COLORS["theory"])
    ax.text(0.685, 5e-7, "sharp", color=COLORS["theory"])
    ax.text(0.49, 1.5e-8, "exact,\n$\\rho = 1$", color=COLORS["theory"])
    ax.text(0.4, 1e-10, "exact and bound,\n$\\rho = 0$", color=COLORS["beyond"], ha="right")
    ax.set(xlabel=r"$\varepsilon$", ylabel="probability", xlim=(0, 0.8), ylim=(1e-12, 2))
    plt.show()


def dimension_against_length(lengths, gaussian, orthogonal, rule):
    """Draw the m that all inner products of L orthonormal vectors need, by both kinds of map."""
    _, ax = plt.subplots(figsize=SIZES["single"])
    ax.loglog(lengths, gaussian, "o-", color=COLORS["theory"], ms=4)
    ax.loglog(lengths, rule, color=COLORS["ink"], ls=":", lw=1.2)
    ax.loglog(lengths, orthogonal, "o", color=COLORS["exact"], ms=4)
    ax.plot(lengths, lengths, color="#555555", lw=1)
    ax.text(lengths[0], 1.35 * gaussian[0], "Gaussian", color=COLORS["theory"])
    ax.text(lengths[1] * 1.15, 0.8 * orthogonal[1], "orthogonal", color=COLORS["exact"])
    ax.text(lengths[5], 1.35 * lengths[5], "$m = L$", color="#555555", ha="right")
    ax.set(xlabel="$L$", ylabel="$m$", ylim=(20, 2000))
    plt.show()


# --- Chapters 4 to 6 -------------------------------------------------------------------------


def successes(dims, shares, draws, promised, length):
    """Draw the share of draws that meet a precision against m, and what theorems ask for.

    Parameters
    ----------
    dims : ndarray
    shares : dict of str to ndarray
        Successes, of `draws`, for each kind of projection.
    draws : int
    promised : dict of str to int
    length : int
        L, where an exact factorisation is free.
    """
    _, ax = plt.subplots(figsize=SIZES["single"])
    for (label, hits), (color, at, side) in zip(
        shares.items(), (("measured", 0.45, "left"), ("exact", 0.6, "right")), strict=True
    ):
        share = hits / draws
        ends = clopper_pearson(hits, draws)
        ax.errorbar(dims, share, abs(ends - share), fmt="o-", ms=4, color=COLORS[color])
        where = np.interp(at, share, dims)
        shift = 1.05 if side == "left" else 0.95
        ax.text(where * shift, at, label, color=COLORS[color], ha=side)
    for (label, m), height in zip(promised.items(), (0.55, 0.3, 0.05), strict=False):
        ax.axvline(m, color=COLORS["theory"], lw=1.2)
        ax.text(m * 0.97, height, label, color=COLORS["theory"], ha="right", va="bottom")
    right = 1.15 * max(promised.values())
    ax.axvspan(length, right, color=COLORS["forbidden"], alpha=0.3, lw=0)
    ax.text(length * 1.05, 0.98, "$m \\geq L$", color="#555555", va="top")
    ax.set(xscale="log", xlabel="query dimension $m$", ylabel="share of successes")
    ax.set(xlim=(dims[0] * 0.5, right), ylim=(-0.03, 1.03))
    ticks = [200, 500, 1000, 2000]
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    plt.show()


def target_beside_attention(target, attention, corner=40):
    """Draw a corner of a target and of the attention matrix, and the mass of their largest entries.

    Each corner has a colour scale of its own, whose end is in the title.

    Parameters
    ----------
    target, attention : ndarray, shape (n, L)
        Some rows of A and of M.
    corner : int, optional
    """
    fig, axes = plt.subplots(1, 3, figsize=(6.4, 2.5), width_ratios=[1, 1, 1.25])
    for ax, rows, name in ((axes[0], target, "$A$"), (axes[1], attention, "$M$")):
        part = rows[:corner, :corner]
        show_matrix(ax, part, title=f"{name}, up to {part.max():.1g}")
    for rows, color, label in ((target, "target", "$A$"), (attention, "measured", "$M$")):
        mass = np.cumsum(np.sort(rows, axis=1)[:, ::-1], axis=1).mean(axis=0)
        axes[2].semilogx(np.arange(1, len(mass) + 1), mass, color=COLORS[color])
        middle = len(mass) // 8
        axes[2].text(middle, mass[middle] - 0.02, label, color=COLORS[color], va="top")
    axes[2].set(xlabel="largest entries", title="their mass", ylim=(0, 1.05))
    fig.get_layout_engine().set(wspace=0.08)
    on_a_phone(fig, rows=[[0, 1], [2]])
    plt.show()


def fixed_module():
    """Draw the fixed parameters: two blocks that pick queries and keys out of the input."""
    _, axes = plt.subplots(2, 1, figsize=(6.0, 4.2))
    for ax, names, result, color in (
        (axes[0], ("$I$", "$0$"), "$X_1$", "theory"),
        (axes[1], ("$0$", "$I$"), "$X_2$", "measured"),
    ):
        blocks = [
            ((0, 0), 2, "$X_1$", ("theory", 0.35)),
            ((1.4, 0), 2, "$X_2$", ("measured", 0.35)),
            ((3.6, 1.1), 1.4, names[0], ("ink", 0.12 * (names[0] == "$I$"))),
            ((3.6, -0.3), 1.4, names[1], ("ink", 0.12 * (names[1] == "$I$"))),
            ((6.2, 0), 2, result, (color, 0.35)),
        ]
        for (x, y), height, label, (shade, alpha) in blocks:
            face = to_rgba(COLORS[shade], alpha)
            ax.add_patch(plt.Rectangle((x, y), 1.4, height, fc=face, ec=COLORS["ink"]))
            ax.text(x + 0.7, y + height / 2, label, ha="center", va="center", fontsize=13)
        which = "Q" if result == "$X_1$" else "K"
        ax.text(3.2, 1, r"$\cdot$", ha="center", va="center", fontsize=16)
        ax.text(5.6, 1, "=", ha="center", va="center", fontsize=14)
        ax.text(1.4, 2.25, "$X$: $L \\times 2m$", ha="center")
        ax.text(4.3, 2.65, f"$m^{{-1/4}} W_{which}$: $2m \\times m$", ha="center")
        ax.text(6.9, 2.25, "queries" if which == "Q" else "keys", ha="center")
        ax.set(xlim=(-0.1, 7.8), ylim=(-0.4, 3.1), aspect="equal")
        ax.axis("off")
    plt.show()


def families(targets, logits, corner=40):
    """Draw a corner of several targets, and below each the logits of its construction.

    Parameters
    ----------
    targets, logits : dict of str to ndarray, shape (n, L)
    corner : int, optional
    """
    fig, axes = plt.subplots(2, len(targets), figsize=(6.4, 2.9))
    for column, (name, target) in zip(axes.T, targets.items(), strict=True):
        show_matrix(column[0], target[:corner, :corner], title=name, vmax=0.5)
        show_matrix(column[1], logits[name][:corner, :corner])
    for ax, label in zip(axes[:, 0], ("target $A$", r"logits $\Lambda$"), strict=True):
        ax.set_ylabel(label)
    on_a_phone(fig, rows=[[k, k + len(targets)] for k in range(len(targets))])
    plt.show()


def side_by_side(matrices):
    """Draw matrices beside each other, each with its own colour bar: {title: matrix}."""
    fig, axes = plt.subplots(1, len(matrices), figsize=(6.4, 6.4 / len(matrices)))
    for ax, (title, matrix) in zip(axes, matrices.items(), strict=True):
        bar = fig.colorbar(show_matrix(ax, matrix, title=title), ax=ax, shrink=0.75)
        bar.outline.set_linewidth(0.5)
    plt.show()


def error_against_dim(dims, errors, tolerance, length):
    """Draw the largest logit error against m, for several kinds of projection.

    Parameters
    ----------
    dims : ndarray
    errors : dict of str to ndarray
        By kind; zeros are left out.
    tolerance : float
        delta.
    length : int
        L.
    """
    _, ax = plt.subplots(figsize=SIZES["single"])
    for (kind, values), color in zip(errors.items(), ("measured", "exact"), strict=True):
        shown = np.where(values > 0, values, np.nan)
        ax.loglog(dims, shown, "o-", ms=4, color=COLORS[color])
        last = np.nonzero(values > 0)[0][-1]
        ax.annotate(
            kind, (dims[last], values[last]), xytext=(-8, -16), textcoords="offset points",
            color=COLORS[color], ha="right",
        )  # fmt: skip
    ax.set_ylim(bottom=0.6 * min(values[values > 0].min() for values in errors.values()))
    ax.axhline(tolerance, color=COLORS["theory"], lw=1.2)
    ax.text(dims[0], tolerance * 1.08, r"tolerance $\delta$", color=COLORS["theory"])
    ax.axvspan(length, 1.3 * dims[-1], color=COLORS["forbidden"], alpha=0.3, lw=0)
    ax.text(length * 1.05, tolerance * 2.5, "$m \\geq L$", color="#555555")
    ax.set(xlabel="query dimension $m$", ylabel="largest logit error")
    ax.set(xlim=(0.9 * dims[0], 1.3 * dims[-1]))
    plt.show()


def lengths(L, curves, points):
    """Draw the query dimension against the length: what theorems ask for, and what worked.

    Parameters
    ----------
    L : ndarray
    curves : dict of str to (ndarray, str, str)
        Dimensions, line style and the key of a colour, by label.
    points : dict of str to (L, m, low, high, filled)
        Measured medians with their intervals, by label.
    """
    _, ax = plt.subplots(figsize=(6.0, 4.8))
    labels = []
    for label, (dims, line, color) in curves.items():
        ax.plot(L, dims, line, color=COLORS[color], lw=1.5)
        labels.append((dims[-1], label, COLORS[color]))
    for label, (at, m, low, high, filled) in points.items():
        color = COLORS["measured"]
        ax.errorbar(
            at, m, (m - low, high - m), fmt="o" if filled else "D", ms=4, color=color,
            mfc=color if filled else "none", lw=1,
        )  # fmt: skip
        labels.append((m[-1] * (L[-1] / at[-1]) ** 0.12, label, color))
    ax.set(xscale="log", yscale="log", xlabel="sequence length $L$", ylabel="query dimension $m$")
    ax.set(ylim=(45, 12_000), xlim=(55, 400_000))
    ax.set_xticks([100, 1000, 10_000])
    height = 0.0
    for value, label, color in sorted(labels):  # from below, far enough apart
        height = max(value, 1.2 * height)
        ax.text(L[-1] * 1.25, height, label, color=color, va="center", fontsize=9)
    show_vacuous(ax, L, label="$m \\geq L$")
    plt.show()


def logarithm(L, m, low, high, models):
    """Draw measured dimensions with their intervals, and models of their growth.

    Parameters
    ----------
    L, m, low, high : ndarray
    models : dict of str to (ndarray, str, str)
        Dimensions, line style and the key of a colour, by label.
    """
    _, axes = plt.subplots(1, 2, figsize=SIZES["wide"], width_ratios=[1, 1])
    reference = next(iter(models.values()))[0]
    for ax, scale in ((axes[0], 1.0), (axes[1], reference / 100)):
        shift = 0.0 if ax is axes[0] else 100.0
        for values, line, color in models.values():
            ax.semilogx(L, values / scale - shift, line, color=COLORS[color], lw=1.5)
        ax.errorbar(
            L, m / scale - shift, ((m - low) / scale, (high - m) / scale), fmt="o", ms=4,
            color=COLORS["measured"], lw=1,
        )  # fmt: skip
        ax.set_xlabel("$L$")
    axes[0].set_ylabel("smallest $m$")
    axes[0].set_ylim(0, None)
    axes[1].set_ylabel("off the line, %")
    for height, (label, (_, _, color)) in zip((0.9, 0.78, 0.66), models.items(), strict=False):
        axes[0].text(
            0.04, height, label, color=COLORS[color], transform=axes[0].transAxes, fontsize=10
        )
    plt.show()


def scaling(sweeps, length):
    """Draw measured dimensions against four parameters, with what the forms of a theorem ask for.

    Parameters
    ----------
    sweeps : dict of str to dict
        By axis label: "x", "lines" (colour key to dimensions) and "points" (filled to dimensions).
    length : int
        L; the axis begins at a fifth of it.
    """
    fig, axes = plt.subplots(2, 2, figsize=(6.4, 5.4), sharey=True)
    for ax, (label, sweep) in zip(axes.flat, sweeps.items(), strict=True):
        for (color, dims), name in zip(sweep["lines"].items(), ("sharp", "diff."), strict=True):
            ax.loglog(sweep["x"], dims, color=COLORS[color])
            top = np.argmax(dims)
            side = "right" if top == np.argmax(sweep["x"]) else "left"
            ax.text(sweep["x"][top], 1.15 * dims[top], name, color=COLORS[color], ha=side)
        for mark, dims in sweep["points"].items():
            face = None if mark == "o" else "none"
            ax.loglog(sweep["x"], dims, mark, color=COLORS["measured"], mfc=face, ms=5)
        ax.axhline(length, color=COLORS["ink"], lw=1, ls=":")
        ax.set(xlabel=label)
    highest = max(max(map(max, sweep["lines"].values())) for sweep in sweeps.values())
    axes[0, 0].set_ylim(length / 5, 2 * highest)
    axes[0, 0].text(1.0, 1.1 * length, "$m = L$")
    fig.get_layout_engine().set(wspace=0.08)
    for ax in axes[:, 0]:
        ax.set_ylabel("$m$")
    plt.show()
