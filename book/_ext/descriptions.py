"""Sphinx extension: what a search engine or a message shows of a page.

A description from the page's first paragraph, and one picture for the book.
"""

import re
from html import escape

from docutils import nodes

LENGTH = 160
FEWEST_WORDS = 8
PICTURE = "_static/one-picture.png"
SYMBOLS = {"le": "≤", "ge": "≥", "times": "×", "varepsilon": "ε", "top": "T"}
MADE = {
    "genindex": "Every name of the library and of the book's own package.",
    "py-modindex": "Every module of the library and of the book's own package.",
    "prf-prf": "Every theorem, lemma, definition and algorithm of the book.",
    "search": "Search the book.",
}


def plain_math(tex):
    """Return a short formula as a reader would write it in a message."""
    tex = re.sub(r"\\([A-Za-z]+)", lambda m: f"{SYMBOLS.get(m[1], m[1])} ", tex)
    return re.sub(r"\s+", " ", re.sub(r"[\\{}$]", "", tex)).strip()


def words(node):
    """Return the text of a node, its formulas in plain letters."""
    if isinstance(node, nodes.math):
        return plain_math(node.astext())
    if isinstance(node, nodes.Text):
        return str(node)
    return "".join(map(words, node.children))


def shortened(text):
    """Return a text cut after a word, at most `LENGTH` characters."""
    text = " ".join(text.split())
    if len(text) <= LENGTH:
        return text
    return text[: LENGTH - 1].rsplit(" ", 1)[0].rstrip(",;:") + "…"


def description(doctree):
    """Return the first paragraph that says something, shortened, or ""."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = words(paragraph)
        if len(text.split()) >= FEWEST_WORDS:
            return shortened(text)
    return ""


def describe(app, pagename, templatename, context, doctree):
    """Add the tags to the head of a page."""
    title = re.sub(r"<[^>]+>", "", context.get("title") or context["docstitle"])
    text = description(doctree) if doctree else ""
    if pagename.startswith("_modules"):
        text = f"The source of {title}."
    text = text or MADE.get(pagename) or f"{title}: {context['docstitle']}."
    base = app.config.html_baseurl
    picture = base + PICTURE if base else context["pathto"](PICTURE, 1)
    tags = {
        'name="description"': text,
        'property="og:title"': title,
        'property="og:description"': text,
        'property="og:type"': "article" if doctree else "website",
        'property="og:image"': picture,
    }
    context["metatags"] = context.get("metatags", "") + "".join(
        f'\n    <meta {name} content="{escape(content)}" />'
        for name, content in tags.items()
    )


def setup(app):
    """Act on every page, also those without a source."""
    app.connect("html-page-context", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
