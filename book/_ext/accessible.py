"""Sphinx extension: lists that a screen reader can follow.

Sphinx writes the parameters of a long signature as a list of definitions that
defines nothing: they become plain lines, with the same look. Its list of
modules has lists that are in no item: it becomes flat. The bibliography says
that it is a list, and has no items: it is a sequence of entries.
"""

import re

PARAMETERS = re.compile(
    r'<dl>\s*((?:<dd>(?:(?!</?d[dl]).)*class="sig-param.*?</dd>\s*)+)</dl>',
    re.DOTALL,
)

ENTRIES = (
    '<div role="list" class="citation-list">',
    '<div class="citation-list">',
)


def plain_lines(body):
    """Return HTML whose lists of parameters are lines."""

    def lines(found):
        inner = found[1].replace("<dd>", "<div>").replace("</dd>", "</div>")
        return f'<div class="sig-params">{inner}</div>'

    return PARAMETERS.sub(lines, body)


def flat(body):
    """Return HTML whose list of links has no list in it."""
    start, end = body.find("<ul>"), body.rfind("</ul>")
    inner = re.sub("</?ul>", "", body[start:end])
    return f"{body[:start]}<ul>{inner}{body[end:]}"


def mend(app, pagename, templatename, context, doctree):
    """Mend the body of a page."""
    if "body" in context:
        made = flat if pagename == "_modules/index" else plain_lines
        context["body"] = made(context["body"]).replace(*ENTRIES)


def setup(app):
    """Act on every page."""
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
