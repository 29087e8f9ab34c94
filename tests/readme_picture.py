"""Copy the first figure of the book's front page to where the README shows it from."""

import base64
import json

from toc import ROOT

PICTURE = ROOT / "book/_static/one-picture.png"


def first_figure(notebook="book/index.ipynb"):
    """Return the bytes of a notebook's first picture."""
    cells = json.loads((ROOT / notebook).read_text())["cells"]
    data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    return base64.b64decode(next(item["image/png"] for item in data if "image/png" in item))


if __name__ == "__main__":
    PICTURE.write_bytes(first_figure())
