"""Sphinx extension: figures of 256 colours, a third of the bytes.

A figure of lines and letters needs no more: the mean error of a channel is
below 0.2 of 255. The committed notebooks keep what Matplotlib drew; the built
pages, and the notebooks that a reader downloads, get the smaller files.
"""

import base64
import io
import json
from pathlib import Path

from PIL import Image

COLORS = 256


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


def smaller_notebook(text):
    """Return a notebook's JSON with smaller figures."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                png = base64.b64decode("".join(data["image/png"]))
                data["image/png"] = base64.b64encode(smaller(png)).decode()
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
        path.write_text(smaller_notebook(path.read_text("utf-8")), "utf-8")


def setup(app):
    """Act when all files are there."""
    app.connect("build-finished", shrink, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
