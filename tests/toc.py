"""Print the notebooks of the table of contents, one a line: the ones that are tested."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def pages(node=None):
    """Return the pages of _toc.yml in order, as paths without a suffix."""
    if node is None:
        node = yaml.safe_load((ROOT / "_toc.yml").read_text())
    if isinstance(node, list):
        return [page for item in node for page in pages(item)]
    if not isinstance(node, dict):
        return []
    own = [node[key] for key in ("root", "file") if key in node]
    return own + [page for value in node.values() for page in pages(value)]


def notebooks():
    """Return the notebooks of _toc.yml in order, relative to the root."""
    return [f"{page}.ipynb" for page in pages() if (ROOT / f"{page}.ipynb").exists()]


if __name__ == "__main__":
    print(*notebooks(), sep="\n")
