"""Sphinx extension: what a search result shows: a title, and a sentence.

Sphinx shows the text around the first match within the page's main part, which
begins with the theme's buttons and, for printing, a list of the page's titles.
The article alone, without its code, is what a reader looks for.

A theorem's title in the doctree is " (its name)": its kind and number are added
when the page is written, and here. Boxes without an address of their own, such
as solutions, are no results.
"""

import json
from functools import partial
from pathlib import Path

from bundles import without_noise
from sphinx.errors import ExtensionError

WHOLE = """'[role="main"]'"""
ARTICLE = "'article.bd-article'"
REMOVED = '[".headerlink", "script", "style"]'
LEFT_OUT = ["h1", ".here", ".cell_input", "summary", ".quiz"]


def article_only(script):
    """Return Sphinx's script of the search, looking at articles only.

    A build after a small change finds the script as the last one left it.
    """
    if ARTICLE in script and WHOLE not in script:
        return script
    more = ", ".join([REMOVED[:-1], *(f'"{query}"' for query in LEFT_OUT)])
    for old, new in [(WHOLE, ARTICLE), (REMOVED, f"{more}]")]:
        if script.count(old) != 1:
            raise ExtensionError(f"searchtools.js: not once in it: {old}")
        script = script.replace(old, new)
    return without_noise(script)


BEFORE, AFTER = "Search.setIndex(", ")"


def kinds(env):
    """Return {(page, id): kind and number} of the boxes of sphinx-proof."""
    found = {}
    for box in env.proof_list.values():
        page, name = box["docname"], box["ids"][0]
        numbers = env.toc_fignumbers.get(page, {}).get(box["countertype"], {})
        number = ".".join(map(str, numbers.get(name, ())))
        found[page, name] = f"{box['realtype'].title()} {number}".strip()
    return found


def with_titles(script, kind_of, title_of):
    """Return Sphinx's index of the search with titles as on the page.

    `kind_of` is from `kinds`, `title_of` has the title of each page.
    """
    if not (script.startswith(BEFORE) and script.endswith(AFTER)):
        raise ExtensionError("searchindex.js: not as this release of Sphinx")
    index = json.loads(script[len(BEFORE) : -len(AFTER)])
    titles = {}
    for title, places in index["alltitles"].items():
        for number, name in places:
            page = index["docnames"][number]
            new = title
            if (page, name) in kind_of:
                named = title[title.find("(") :] if "(" in title else ""
                new = f"{kind_of[page, name]} {named}".strip()
            elif name is None and title != title_of[page]:
                continue
            titles.setdefault(new, []).append([number, name])
    index["alltitles"] = titles
    return BEFORE + json.dumps(index, sort_keys=True) + AFTER


def narrow(app, error):
    """Change the built site's scripts of the search, and quieten its page."""
    if error is None and app.builder.format == "html":
        root, env = Path(app.outdir), app.env
        titles = {page: title.astext() for page, title in env.titles.items()}
        name_boxes = partial(with_titles, kind_of=kinds(env), title_of=titles)
        for name, change in [
            ("searchindex.js", name_boxes),
            ("_static/searchtools.js", article_only),
            ("search.html", without_noise),
        ]:
            text = (root / name).read_text("utf-8")
            (root / name).write_text(change(text), "utf-8")


def setup(app):
    """Act when the static files are there."""
    app.connect("build-finished", narrow)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
