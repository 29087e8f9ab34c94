"""Sphinx extension: a search result shows a sentence, not a table of contents.

Sphinx shows the text around the first match within the page's main part, which
begins with the theme's buttons and, for printing, a list of the page's titles.
The article alone, without its code, is what a reader looks for.
"""

from pathlib import Path

from bundles import without_noise
from sphinx.errors import ExtensionError

WHOLE = """'[role="main"]'"""
ARTICLE = "'article.bd-article'"
REMOVED = '[".headerlink", "script", "style"]'
LEFT_OUT = ["h1", ".here", ".cell_input", "summary", ".quiz"]


def article_only(script):
    """Return Sphinx's script of the search, looking at articles only."""
    more = ", ".join([REMOVED[:-1], *(f'"{query}"' for query in LEFT_OUT)])
    for old, new in [(WHOLE, ARTICLE), (REMOVED, f"{more}]")]:
        if script.count(old) != 1:
            raise ExtensionError(f"searchtools.js: not once in it: {old}")
        script = script.replace(old, new)
    return without_noise(script)


def narrow(app, error):
    """Change the built site's copy of the script, and quieten its page."""
    if error is None and app.builder.format == "html":
        root = Path(app.outdir)
        for name, change in [
            ("_static/searchtools.js", article_only),
            ("search.html", without_noise),
        ]:
            text = (root / name).read_text("utf-8")
            (root / name).write_text(change(text), "utf-8")


def setup(app):
    """Act when the static files are there."""
    app.connect("build-finished", narrow)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
