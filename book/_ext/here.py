"""Sphinx extension: below a chapter's title, where it is and how long it is.

A strip of the parts and their chapters, and the time it takes to read, counted
in words. Both are made when the book is built, from the table of contents.
"""

from html import escape
from math import ceil
from pathlib import Path

import yaml
from docutils import nodes

WORDS_A_MINUTE = 200
UNREAD = (nodes.literal_block, nodes.raw, nodes.comment, nodes.image)
TITLE_END = "</h1>"


def parts(toc):
    """Return [(caption, pages)] of the numbered parts of a _toc.yml."""
    return [
        (part["caption"], [chapter["file"] for chapter in part["chapters"]])
        for part in toc["parts"]
        if part.get("numbered")
    ]


def count_words(node):
    """Return how many words a reader reads: of text, a formula as one.

    Neither code and its output nor what is folded away counts.
    """
    if isinstance(node, nodes.Text):
        return len(node.split())
    if isinstance(node, UNREAD) or "dropdown" in node.get("classes", ()):
        return 0
    if isinstance(node, nodes.math | nodes.math_block):
        return 1
    return sum(
        len(child.split())
        if isinstance(child, nodes.Text)
        else count_words(child)
        for child in node.children
    )


def strip(found, current, titles, address):
    """Return the HTML of the strip.

    Parameters
    ----------
    found : list of (str, list of str)
        From `parts`.
    current : str
        The page that it is for.
    titles : dict
        The title of each page.
    address : callable
        From the name of a page to its address, seen from `current`.
    """
    items, number = [], 0
    for caption, pages in found:
        links = []
        for page in pages:
            number += 1
            here = ' aria-current="page"' if page == current else ""
            label = escape(f"Chapter {number}: {titles[page]}")
            links.append(
                f'<a href="{escape(address(page))}"{here} '
                f'title="{label}" aria-label="{label}">{number}</a>'
            )
        items.append(f"<li><span>{escape(caption)}</span>{''.join(links)}</li>")
    return (
        '<nav class="here" aria-label="You are here">'
        f"<ul>{''.join(items)}</ul></nav>"
    )


def reading(words):
    """Return the line with the time that so many words take."""
    minutes = ceil(words / WORDS_A_MINUTE)
    return f'<p class="here">{minutes} minutes: {words:,} words</p>'


def place(app, pagename, templatename, context, doctree):
    """Put both below the title of a chapter."""
    found = parts(yaml.safe_load((Path(app.srcdir) / "_toc.yml").read_text()))
    if doctree is None or not any(pagename in pages for _, pages in found):
        return
    titles = {
        page: app.env.titles[page].astext()
        for _, pages in found
        for page in pages
    }
    below = strip(found, pagename, titles, context["pathto"]) + reading(
        count_words(doctree)
    )
    context["body"] = context["body"].replace(TITLE_END, TITLE_END + below, 1)


def setup(app):
    """Act on every chapter."""
    app.connect("html-page-context", place)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
