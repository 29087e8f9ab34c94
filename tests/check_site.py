"""Check that no page of a built book loads anything from outside: ``check_site.py DIR``.

What a browser fetches by itself counts: scripts and what they import, style sheets, images, frames,
fonts, hints to connect. A link that a reader may follow does not.
"""

import re
import sys
from pathlib import Path

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
    problems = check_site(sys.argv[1])
    print(*problems, sep="\n")
    print(f"{len(problems)} loads from outside")
    sys.exit(bool(problems))
