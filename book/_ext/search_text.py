"""Sphinx extension: a search result shows a sentence, not a table of contents.

Sphinx shows the text around the first match within the page's main part, which
begins with the theme's buttons and, for printing, a list of the page's titles.
The article alone, without its code, is what a reader looks for.
"""

import re
from pathlib import Path

from sphinx.errors import ExtensionError

WHOLE = """'[role="main"]'"""
ARTICLE = "'article.bd-article'"
REMOVED = '[".headerlink", "script", "style"]'
LEFT_OUT = ["h1", ".here", ".cell_input", "summary"]


def article_only(script):
    """Return Sphinx's script of the search, looking at articles only."""
    more = ", ".join([REMOVED[:-1], *(f'"{query}"' for query in LEFT_OUT)])
    for old, new in [(WHOLE, ARTICLE), (REMOVED, f"{more}]")]:
        if script.count(old) != 1:
            raise ExtensionError(f"searchtools.js: not once in it: {old}")
        script = script.replace(old, new)
    return re.sub(r"\bconsole\.(log|info|debug)\s*\(", "void (", script)


def narrow(app, error):
    """Change the built site's copy of the script."""
    if error is None and app.builder.format == "html":
        path = Path(app.outdir) / "_static" / "searchtools.js"
        path.write_text(article_only(path.read_text("utf-8")), "utf-8")


def setup(app):
    """Act when the static files are there."""
    app.connect("build-finished", narrow)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
