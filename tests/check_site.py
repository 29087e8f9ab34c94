"""Check what the pages of a built book load: ``check_site.py DIR``.

Nothing comes from outside, and neither a page nor the site is heavy. What a browser fetches by
itself counts: scripts and what they import, style sheets, images, frames, fonts, hints to connect.
A link that a reader may follow does not.
"""

import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

LOADING = {
    "script": ["src"],
    "img": ["src", "srcset"],
    "iframe": ["src"],
    "source": ["src", "srcset"],
    "video": ["src", "poster"],
    "audio": ["src"],
    "embed": ["src"],
    "object": ["data"],
    "track": ["src"],
    "input": ["src"],
    "image": ["href", "xlink:href"],
    "use": ["href", "xlink:href"],
    "base": ["href"],
}
SITE_BYTES = 15_000_000
PAGE_BYTES, PAGE_FILES = 2_000_000, 25
"""Uncompressed, and with the page itself; the fonts of formulas are left to the browser's tests."""

FOLLOWED_RELATIONS = {"canonical", "license", "author", "alternate", "next", "prev", "search"}
OUTSIDE = re.compile(r"^\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
SCRIPT_LOAD = re.compile(r"""\bimport\s*(?:\(|[^'"();]*from\b)?\s*['"]\s*((?:https?:)?//[^'"]+)""")
CSS_LOAD = re.compile(r"""(?:url\(|@import)\s*['"]?\s*((?:https?:)?//[^'")\s]+)""", re.IGNORECASE)


def outside_loads(page):
    """Return the addresses outside the site that this HTML text makes a browser load."""
    soup = BeautifulSoup(page, "html.parser")
    found = [
        tag[attribute]
        for name, attributes in LOADING.items()
        for tag in soup.find_all(name)
        for attribute in attributes
        if OUTSIDE.match(tag.get(attribute, ""))
    ]
    for link in soup.find_all("link"):
        followed = FOLLOWED_RELATIONS & set(link.get("rel", []))
        if not followed and OUTSIDE.match(link.get("href", "")):
            found.append(link["href"])
    for script in soup.find_all("script"):
        found += SCRIPT_LOAD.findall(script.get_text())
    styles = [style.get_text() for style in soup.find_all("style")]
    styles += [tag["style"] for tag in soup.find_all(style=True)]
    return found + [address for style in styles for address in CSS_LOAD.findall(style)]


def own_loads(path):
    """Return the files of the site that the page at `path` makes a browser load, each once."""
    soup = BeautifulSoup(path.read_text("utf-8"), "html.parser")
    for picture in soup.find_all("picture"):
        picture.replace_with(heaviest(picture, path.parent))
    found = [tag["src"] for name in ("script", "img") for tag in soup.find_all(name, src=True)]
    found += [
        link["href"]
        for link in soup.find_all("link", href=True)
        if {"stylesheet", "icon", "preload"} & set(link.get("rel", []))
    ]
    inside = [urlsplit(address) for address in found if not OUTSIDE.match(address)]
    return sorted({path.parent / unquote(part.path) for part in inside if not part.scheme})


def heaviest(picture, folder):
    """Return the picture's own image with the heaviest of the files that it chooses among."""
    image = picture.find("img")
    files = [image["src"], *(source["srcset"] for source in picture.find_all("source"))]
    image["src"] = max(files, key=lambda name: (folder / unquote(name)).stat().st_size)
    return image


def weight_problems(root):
    """Return one line for each page under `root` that is too heavy, and for the whole site."""
    root = Path(root)
    weight = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    problems = []
    if weight > SITE_BYTES:
        problems.append(f"{root}: {weight / 1e6:.1f} MB, more than {SITE_BYTES / 1e6:.0f}")
    for page in sorted(root.rglob("*.html")):
        files = [page, *own_loads(page)]
        weight = sum(path.stat().st_size for path in files)
        if weight > PAGE_BYTES or len(files) > PAGE_FILES:
            problems.append(f"{page}: {len(files)} files, {weight / 1e6:.2f} MB")
    return problems


def check_site(root):
    """Return one line for each outside load of the pages and style sheets under `root`."""
    pages = sorted(Path(root).rglob("*.html"))
    if not pages:
        return [f"{root}: no page found"]
    lines = [f"{page}: {load}" for page in pages for load in outside_loads(page.read_text("utf-8"))]
    for sheet in sorted(Path(root).rglob("*.css")):
        lines += [f"{sheet}: {load}" for load in CSS_LOAD.findall(sheet.read_text("utf-8"))]
    return lines


if __name__ == "__main__":
    problems = check_site(sys.argv[1]) + weight_problems(sys.argv[1])
    print(*problems, sep="\n")
    print(f"{len(problems)} loads from outside, or too heavy")
    sys.exit(bool(problems))
