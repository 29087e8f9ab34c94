"""Sphinx extension: a vertical bar in a docstring is an absolute value or a norm.

reStructuredText would read |x| as a substitution. Bars inside back quotes stay as they are.
"""

import re

QUOTED_OR_BAR = re.compile(r"(`+).+?\1|\|", re.DOTALL)


def escape_bars(app, what, name, obj, options, lines):
    """Escape the bars of one docstring, in place."""
    text = QUOTED_OR_BAR.sub(lambda found: found[0] if found[1] else r"\|", "\n".join(lines))
    lines[:] = text.split("\n")


def setup(app):
    """Register with autodoc."""
    app.connect("autodoc-process-docstring", escape_bars)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
