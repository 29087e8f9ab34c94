"""Measure how many screens a reader scrolls: ``screens.py NEW [OLD]``, folders of built books.

NEW is compared with OLD or, without it, with the heights kept in ``screens.csv``: those of commit
c6eddec, written by ``screens.py --keep OLD``. A page counts as a reader finds it, with what is
folded closed, from its top to its end at 1280 x 800 and 390 x 844 pixels.
"""

import csv
import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

KEPT = Path(__file__).with_name("screens.csv")
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
READY = """async () => {
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
  for (const image of document.images) image.loading = "eager";
  await Promise.allSettled(Array.from(document.images, image => image.decode()));
  return document.documentElement.scrollHeight;
}"""


def chapters(root):
    """Return the pages that are read, by name: no listing of the library and no index."""
    return {path.stem: path for path in sorted(root.glob("book/*.html")) if path.stem != "api"}


def measure(root):
    """Return the height of every page in screens, {page: {size: height}}."""
    chromium = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    heights = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        for size, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            for name, path in chapters(root).items():
                page.goto(path.resolve().as_uri())
                page.wait_for_load_state("networkidle")
                found = page.evaluate(READY)
                heights.setdefault(name, {})[size] = found / height
        browser.close()
    return heights


def read(path):
    """Return the heights of a file that `keep` has written."""
    lines = path.read_text("utf-8").splitlines()[1:]  # below the command
    return {
        row["page"]: {size: float(row[size]) for size in SIZES} for row in csv.DictReader(lines)
    }


def keep(heights, path):
    """Write heights, below the command that does."""
    rows = [",".join(["page", *SIZES])]
    rows += [",".join([name, *(f"{x[size]:.2f}" for size in SIZES)]) for name, x in heights.items()]
    path.write_text("# tests/screens.py --keep, at commit c6eddec\n" + "\n".join(rows) + "\n")


def table(old, new):
    """Return the lines of a table: pages that both have, their sum, and pages that are new."""
    both = [name for name in old if name in new]
    lines = [("page", *(f"{size}: {what}" for size in SIZES for what in ("was", "is", "ratio")))]

    def line(label, names):
        cells = []
        for size in SIZES:
            was, now = (sum(heights[name][size] for name in names) for heights in (old, new))
            cells += [f"{was:.1f}", f"{now:.1f}", f"{now / was:.2f}"]
        return label, *cells

    lines += [line(name, [name]) for name in both]
    lines.append(line("chapters 1 to 12", [name for name in both if name[:2].isdigit()]))
    lines.append(line("all pages of both", both))
    for name in sorted(set(new) - set(old)):
        lines.append((name, *(x for size in SIZES for x in ("", f"{new[name][size]:.1f}", ""))))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in lines
    ]


if __name__ == "__main__":
    if sys.argv[1] == "--keep":
        keep(measure(Path(sys.argv[2])), KEPT)
    else:
        old = measure(Path(sys.argv[2])) if len(sys.argv) > 2 else read(KEPT)
        print(*table(old, measure(Path(sys.argv[1]))), sep="\n")
