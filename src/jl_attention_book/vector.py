"""Figures as vectors, for the pages: as drawn, and in one column for a phone.

A notebook shows a figure as PNG. While ``make notebooks`` executes it, the variable `FOLDER` of the
environment names a folder, and each figure is also written there as SVG. A file is named after the
bytes of the PNG in the notebook, so that a page never shows a picture of another execution.
"""

import hashlib
import io
import itertools
import math
import re
from base64 import b64decode, b64encode
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from PIL import Image

from jl_attention.interop.atomic import write_atomically

FOLDER = "JLA_FIGURES"
"""The variable of the environment that names the folder."""

PHONE = 4.0
"""Inches of a figure that a phone shows across its whole width: a label of 9 points is 12 px."""

MANY = 1000
"""Marks of a figure from which its clouds are kept as pixels."""

SINGLE = 4.2
"""Inches of a figure with one panel, the same for every page: a label of 9 points is 11 px."""

DPI = 200
"""Pixels an inch of what is kept as pixels."""

SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
ElementTree.register_namespace("", SVG[1:-1])


def stem(png):
    """Return the name of the files that belong to a PNG in a notebook, given its bytes."""
    return hashlib.sha256(png).hexdigest()[:16]


def record_figures(folder):
    """Write every figure that this notebook shows from now on also as SVG."""
    import matplotlib.pyplot as plt
    from IPython import get_ipython

    plt.switch_backend(mpl.get_backend())  # now, or it replaces the formatter later
    formatter = get_ipython().display_formatter.formatters["image/png"]
    draw = formatter.lookup_by_type(Figure)

    def recorded(figure):
        encoded = draw(figure)
        write(figure, Path(folder) / stem(b64decode(encoded)))
        return encoded

    formatter.for_type(Figure, recorded)


def write(figure, path):
    """Write a figure as `path`.svg, and panels in one column as `path`-narrow.svg.

    The figure is changed. One panel is drawn as narrow as a phone needs it, for all pages.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    panels = len(panels_of(figure))
    if panels == 0:
        figure.set_layout_engine("none")  # Matplotlib forgets that while it draws
    if panels == 1:
        wide, high = figure.get_size_inches()
        figure.set_size_inches(min(wide, SINGLE), high)
        break_long_labels(figure)
    keep_pixels(figure)
    write_atomically(path.with_name(f"{path.name}.svg"), svg(figure))
    if panels > 1:
        one_column(figure)
        write_atomically(path.with_name(f"{path.name}-narrow.svg"), svg(figure))


# --- One column ------------------------------------------------------------------------------


def on_a_phone(figure, rows=None, height=None):
    """Say how a figure is arranged in one column, where the usual way does not suit it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    rows : list of list of int, or "as they are", optional
        The panels of each row, by number in the order in which they were made; None: one a row,
        or two where they are four and more pictures without numbers.
    height : float, optional
        Inches; None: from the panels.
    """
    figure.phone = {"rows": rows, "height": height}


def one_column(figure):
    """Rearrange a figure for the width of a phone, in place; letters keep their size.

    Panels come below each other, each with the labels that it shared. A grid made of parts
    (subfigures) only gets narrower, and a figure as narrow already stays.
    """
    wide, high = figure.get_size_inches()
    panels = panels_of(figure)
    if wide <= PHONE:
        return
    figure.draw_without_rendering()
    wish = {"rows": None, "height": None} | getattr(figure, "phone", {})
    if figure.subfigs or wish["rows"] == "as they are":
        height = high
    else:
        rows = wish["rows"] or usual_rows(panels)
        share_labels(panels)
        height = stack(figure, [[panels[k] for k in row] for row in rows])
    for legend in list(figure.legends):
        legend.remove()
        labels = [text.get_text() for text in legend.get_texts()]
        figure.legend(legend.legend_handles, labels, loc="outside lower center", ncols=2)
    figure.set_size_inches(PHONE, wish["height"] or height)
    break_long_labels(figure)


def panels_of(figure):
    """Return the axes that have a place in a grid: no colour bar, nothing placed by hand."""
    return [ax for ax in figure.axes if ax.get_subplotspec() is not None]


def bare(ax):
    """Return whether a panel has no numbers on its axes."""
    return not ax.axison or not (len(ax.get_xticks()) or len(ax.get_yticks()))


def usual_rows(panels):
    """Return panels by number, one a row, or two where four and more have no numbers."""
    columns = 2 if len(panels) >= 4 and all(map(bare, panels)) else 1
    numbers = list(range(len(panels)))
    return [numbers[k : k + columns] for k in range(0, len(panels), columns)]


def share_labels(panels):
    """Give every panel the labels and numbers that it has in common with others of a grid."""
    place = {ax: ax.get_subplotspec() for ax in panels}
    row = {ax: spec.rowspan.start for ax, spec in place.items()}
    column = {ax: spec.colspan.start for ax, spec in place.items()}
    below = {ax.get_xlabel() for ax in panels if row[ax] == max(row.values())} - {""}
    titled = {row[ax] for ax in panels if ax.get_title()}
    given = {ax: (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) for ax in panels}
    for ax in panels:
        if not ax.axison:
            continue
        for other in panels:
            title, xlabel, ylabel = given[other]
            if column[other] == column[ax] and title and titled == {0}:
                ax.set_title(title)
            if column[other] == column[ax] and xlabel and not ax.get_xlabel():
                ax.set_xlabel(xlabel)
            if row[other] == row[ax] and ylabel and not ax.get_ylabel():
                ax.set_ylabel(ylabel)
        if len(below) == 1 and not ax.get_xlabel() and len({bare(other) for other in panels}) == 1:
            ax.set_xlabel(next(iter(below)))
        ax.tick_params(labelleft=True, labelbottom=True)


def stack(figure, rows):
    """Put panels into rows and return the height that they need, in inches."""
    across = max(map(len, rows))
    most = 2.3 if len(rows) > 2 else 3.0
    sizes = [[panel_height(figure, ax, PHONE / len(row), most) for ax in row] for row in rows]
    heights = [max(row) for row in sizes]
    grid = GridSpec(len(rows), math.lcm(*map(len, rows)), figure=figure, height_ratios=heights)
    for number, row in enumerate(rows):
        span = grid.ncols // len(row)
        for k, ax in enumerate(row):
            ax.set_subplotspec(grid[number, k * span : (k + 1) * span])
    if across == 1:  # an axis that all have is named once, below
        panels = [row[0] for row in rows]
        if len({(ax.get_xlabel(), *ax.get_xlim()) for ax in panels}) == 1:
            for ax in panels[:-1]:
                ax.set_xlabel("")
    else:  # and once on the left
        for row in rows:
            for ax in row[1:]:
                if ax.get_ylabel() == row[0].get_ylabel():
                    ax.set_ylabel("")
        for above, row in itertools.pairwise(rows):
            for ax, other in zip(above, row, strict=False):
                if ax.get_xlabel() == other.get_xlabel():
                    ax.set_xlabel("")
    margins = [0.25 + 0.2 * (not all(map(bare, row))) for row in rows]
    return sum(heights) + sum(margins) + 0.35


def panel_height(figure, ax, width, most):
    """Return the inches that a panel is high, at most `most`, with its labels `width` wide."""
    wide, high = figure.get_size_inches() * ax.get_position().size
    if ax.get_aspect() == "auto":
        return float(min(max(high, 1.6), most))
    return float(min((width - (0.4 if bare(ax) else 0.8)) * high / wide, most))


def break_long_labels(figure):
    """Break a title or label that is longer than its panel in two."""
    figure.draw_without_rendering()
    for ax in figure.axes:
        box = ax.get_window_extent()
        for text, room in (
            (ax.title, 1.15 * box.width),
            (ax.xaxis.label, max(1.15 * box.width, 0.6 * figure.bbox.width)),
            (ax.yaxis.label, 1.15 * box.height),
        ):
            extent = text.get_window_extent()
            if text.get_text() and max(extent.width, extent.height) > room:
                text.set_text(broken(text.get_text()))


def broken(text):
    """Return a text in two lines, broken near its middle and in no formula."""
    spaces = [
        found.start()
        for found in re.finditer(" ", text)
        if text[: found.start()].count("$") % 2 == 0
    ]
    if not spaces or "\n" in text:
        return text
    at = min(spaces, key=lambda k: abs(k - len(text) / 2))
    return f"{text[:at]}\n{text[at + 1 :]}"


# --- SVG -------------------------------------------------------------------------------------


def keep_pixels(figure):
    """Draw clouds of marks as pixels, if all of a figure are so many that they would weigh more.

    A matrix that is shown larger than it is is kept as it is, for the browser to enlarge.
    """
    figure.draw_without_rendering()
    for ax in figure.axes:
        shown = ax.get_window_extent().size[::-1] * DPI / figure.dpi
        for image in ax.images:
            if np.all(np.array(image.get_size()) <= shown):
                image.set_interpolation("none")
    clouds = [
        (line, len(line.get_xdata()))
        for ax in figure.axes
        for line in ax.lines
        if line.get_marker() not in ("None", "", None)
    ]
    clouds += [
        (cloud, len(cloud.get_offsets()))
        for ax in figure.axes
        for cloud in ax.collections
        if isinstance(cloud, PathCollection)
    ]
    if sum(marks for _, marks in clouds) > MANY:
        for cloud, marks in clouds:
            cloud.set_rasterized(marks > MANY / 10)


def svg(figure):
    """Return a figure as the bytes of an SVG file: the same on every day, and small.

    Letters are outlines, so that formulas look the same with any fonts. Its width is the figure's,
    or more where something is drawn beyond it.
    """
    out = io.BytesIO()
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox().padded(0.06)
    drawn.x0, drawn.x1 = min(drawn.x0, 0.0), max(drawn.x1, figure.get_size_inches()[0])
    with mpl.rc_context({"svg.fonttype": "path"}):
        figure.savefig(out, format="svg", bbox_inches=drawn, dpi=DPI)
    return smaller(out.getvalue())


def smaller(text):
    """Return an SVG file of Matplotlib's without what no reader sees.

    Of its names only those remain that something refers to, marks say once how they look, and
    coordinates have one decimal: a tenth of a point.
    """
    root = ElementTree.fromstring(text)
    root.remove(root.find(f"{SVG}metadata"))
    used = re.findall(r"""(?:xlink:href="|url\()#([\w-]+)""", text.decode())
    names = {name: f"a{number}" for number, name in enumerate(dict.fromkeys(used))}
    for element in root.iter():
        if element.get("id") in names:
            element.set("id", names[element.get("id")])
        else:
            element.attrib.pop("id", None)
        link = element.attrib.pop(LINK, None)
        if link is not None and link.startswith("#"):
            element.set("href", f"#{names[link[1:]]}")
        elif link is not None:
            kind, encoded = link.split(",")
            element.set("href", f"{kind},{few_colours(encoded)}")
        for key in {"d", "x", "y", "style", "transform", "clip-path"} & set(element.attrib):
            element.set(key, shorter(key, element.get(key), names))
        moved = re.fullmatch(r"translate\((\S+) (\S+)\)", element.get("transform", ""))
        if element.tag == f"{SVG}use" and moved:
            del element.attrib["transform"]
            element.attrib |= {k: x for k, x in zip("xy", moved.groups(), strict=True) if x != "0"}
        element.text, element.tail = (element.text or "").strip(), None
    merge_groups(root)
    share_looks(root)
    return ElementTree.tostring(root).replace(b" />", b"/>")


def shorter(key, value, names):
    """Return the value of an attribute in fewer letters."""
    if key == "clip-path":
        return f"url(#{names[value[5:-1]]})"
    if key == "style":
        return re.sub(r"([:;]) ", r"\1", value)
    if key == "transform":
        return re.sub(r"(?<=translate\()[^)]*", lambda found: rounded(found[0]), value)
    if key == "d" and "." not in value:
        value = relative(value)
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", rounded(value)).strip()


def relative(path):
    """Return the outline of a letter, in whole numbers, with each point relative to the last."""
    words, last, start = [], np.zeros(2, dtype=int), np.zeros(2, dtype=int)
    for command, numbers in re.findall(r"([MLQCz])([^MLQCz]*)", path):
        points = np.array(numbers.split(), dtype=int).reshape(-1, 2)
        words += [command.lower(), *map(str, (points - last).ravel())]
        last = start if command == "z" else points[-1]
        start = last if command == "M" else start
    return re.sub(" (?=-)", "", " ".join(words))


def rounded(numbers):
    """Return a text with its numbers rounded to a tenth."""
    return re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), numbers)


def merge_groups(element):
    """Replace groups that say nothing by what they hold, and join those that say the same."""
    children = []
    for child in element:
        merge_groups(child)
        if child.tag == f"{SVG}g" and not child.attrib:
            children += child
        elif children and child.tag == f"{SVG}g" and child.attrib == children[-1].attrib:
            children[-1].extend(child)
        else:
            children.append(child)
    element[:] = children


def share_looks(element):
    """Let marks in a row say once how they look."""
    children, element[:] = list(element), []
    for look, same in itertools.groupby(children, lambda child: child.get("style")):
        run = list(same)
        if look and len(run) > 2 and {mark.tag for mark in run} == {f"{SVG}use"}:
            for mark in run:
                del mark.attrib["style"]
            ElementTree.SubElement(element, f"{SVG}g", style=look).extend(run)
        else:
            element.extend(run)
    for child in children:
        share_looks(child)


def few_colours(encoded):
    """Return a PNG in base64 with at most 256 colours, if that is smaller."""
    png = b64decode(encoded)
    few, out = Image.open(io.BytesIO(png)), io.BytesIO()
    few = few.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(out, "PNG", optimize=True)
    return b64encode(min(out.getvalue(), png, key=len)).decode()


def letter_heights(text):
    """Return the sizes of the letters of an SVG file of `svg`, as parts of its width.

    A letter is as high as its line: 10 points in a figure of 4 inches are 10/288. What a formula
    sets smaller, an exponent or an index, counts as the letters that it stands beside.

    Parameters
    ----------
    text : str or bytes

    Returns
    -------
    list of float
    """
    root = ElementTree.fromstring(text)
    wide = float(root.get("viewBox").split()[2])
    scales = [
        re.search(r"scale\(([\d.]+) -\1\)$", group.get("transform", ""))
        for group in root.iter(f"{SVG}g")
    ]
    return [100 * float(found[1]) / wide for found in scales if found]
