"""Sphinx extension: figures as vectors, and pictures of 256 colours.

Where book/figures has a figure of a notebook as SVG (``make notebooks`` writes
it, under a name made of the PNG's bytes), the page shows that: as it was drawn,
and to a phone its panels in one column. A figure that is not there, because a
reader has changed it, is shown as PNG.

A PNG of lines and letters needs no more than 256 colours, a third of the bytes:
the mean error of a channel is below 0.2 of 255. The committed notebooks keep
what Matplotlib drew; the built pages get the smaller files. The notebooks that
a reader downloads from them have every printed output and no figure, which they
draw when they are run: otherwise each figure would be in the site twice.
"""

import io
import json
import re
from html import escape
from pathlib import Path

from docutils import nodes
from PIL import Image

COLORS = 256
FIGURES = Path(__file__).parents[1] / "figures"
PHONE = "screen and (max-width: 36rem)"
"""Up to here a figure as wide as the page has letters of less than 11 px."""

PIXELS_A_POINT = 105 / 72
"""A letter of 10 points is 14.6 px high on a page of 16 px."""


class Picture(nodes.General, nodes.Element):
    """A picture that a page chooses among several: the narrow one, the wide."""


class Narrow(nodes.image):
    """The picture for a phone."""


def vectors(png):
    """Return the wide and the narrow SVG of a PNG that myst-nb has written."""
    name = Path(png).stem[:16]
    return FIGURES / f"{name}.svg", FIGURES / f"{name}-narrow.svg"


def replace_figures(app, doctree):
    """Let the figures of a page that are there as vectors be so."""
    for image in list(doctree.findall(nodes.image)):
        wide, narrow = vectors(image["uri"])
        if not wide.exists():
            continue
        for key in {"width", "height", "scale"} & set(image.attributes):
            del image[key]
        image["uri"] = f"/{wide.relative_to(app.srcdir).as_posix()}"
        picture = Picture()
        image.replace_self(picture)
        if narrow.exists():
            uri = f"/{narrow.relative_to(app.srcdir).as_posix()}"
            picture += Narrow(uri=uri)
        picture += image


def size(path):
    """Return width and height of an SVG file on the page, in pixels."""
    head = path.read_text("utf-8")[:1000]
    wide, high = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head).groups()
    return tuple(round(float(x) * PIXELS_A_POINT) for x in (wide, high))


def tag(name, **attributes):
    """Return an empty HTML tag."""
    said = [f'{key}="{escape(str(x))}"' for key, x in attributes.items()]
    return f"<{' '.join([name, *said])} />"


def address(writer, image):
    """Return where a page finds an image, and its size."""
    builder = writer.builder
    wide, high = size(FIGURES / Path(image["uri"]).name)
    at = builder.imgpath + "/" + builder.images[image["uri"]]
    return at, {"width": wide, "height": high}


def visit_picture(writer, node):
    """Write a picture: the narrow one for phones, and otherwise the wide."""
    *narrow, wide = node.children
    source = ""
    for image in narrow:
        at, narrow_size = address(writer, image)
        source = tag("source", media=PHONE, srcset=at, **narrow_size)
    at, wide_size = address(writer, wide)
    text = {"alt": wide["alt"]} if "alt" in wide else {}
    lazy = {"loading": "lazy", "decoding": "async"}
    image = tag("img", src=at, **text, **wide_size, **lazy)
    writer.body.append(f"<picture>{source}{image}</picture>\n")
    raise nodes.SkipNode


def smaller(png):
    """Return a PNG file of at most 256 colours, the same if it is no less."""
    picture = Image.open(io.BytesIO(png))
    if picture.getextrema()[3:] not in [(), ((255, 255),)]:
        return png  # transparent
    few = picture.convert("RGB").quantize(
        COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
    )
    out = io.BytesIO()
    few.save(out, "PNG", optimize=True)
    return min(out.getvalue(), png, key=len)


def without_figures(text):
    """Return a notebook's JSON without the pictures that its cells drew."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def shrink(app, error):
    """Shrink the figures of the built site in place."""
    if error is not None or app.builder.format != "html":
        return
    root = Path(app.outdir)
    for path in sorted(root.glob("_images/*.png")):
        path.write_bytes(smaller(path.read_bytes()))
    for path in sorted(root.glob("_static/*.png")):
        path.write_bytes(smaller(path.read_bytes()))
    for path in sorted(root.glob("_sources/**/*.ipynb")):
        path.write_text(without_figures(path.read_text("utf-8")), "utf-8")


def setup(app):
    """Act on every page, before Sphinx collects its images, and at the end."""
    app.add_node(Picture, html=(visit_picture, None))
    app.add_node(Narrow, html=(visit_picture, None))
    app.connect("doctree-read", replace_figures, priority=100)
    app.connect("build-finished", shrink, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
