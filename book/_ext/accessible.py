"""Sphinx extension: signatures that a screen reader can follow.

Sphinx writes the parameters of a long signature as a list of definitions that
defines nothing. They become plain lines, with the same look.
"""

import re

PARAMETERS = re.compile(
    r'<dl>\s*((?:<dd>(?:(?!</?d[dl]).)*class="sig-param.*?</dd>\s*)+)</dl>',
    re.DOTALL,
)


def plain_lines(body):
    """Return HTML whose lists of parameters are lines."""

    def lines(found):
        inner = found[1].replace("<dd>", "<div>").replace("</dd>", "</div>")
        return f'<div class="sig-params">{inner}</div>'

    return PARAMETERS.sub(lines, body)


def mend(app, pagename, templatename, context, doctree):
    """Mend the body of a page."""
    if "body" in context:
        context["body"] = plain_lines(context["body"])


def setup(app):
    """Act on every page."""
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
