"""Sphinx extension: docstrings are to be read as they are; spare them markup.

- A vertical bar is an absolute value or a norm, not a substitution (back quotes
  protect theirs).
- A letter alone with its full stop, as in "m.", is a symbol, not the first item
  of a list.
- A colon in the docstring of a constant ends a clause, not the name of a type.
"""

import re

QUOTED_OR_BAR = re.compile(r"(`+).+?\1|\|", re.DOTALL)
COLON_KEPT = "\x1f"
LONE_LETTER = re.compile(r"(^\s*|: )([A-Za-z])\.$", re.MULTILINE)


def hide_colon(app, what, name, obj, options, lines):
    """Before napoleon, which reads a type off a constant's first line."""
    if what in ("data", "attribute"):
        lines[0] = lines[0].replace(": ", COLON_KEPT)


def escape(app, what, name, obj, options, lines):
    """After napoleon: escape bars and lone letters, in place."""
    text = "\n".join(lines).replace(COLON_KEPT, ": ")
    text = QUOTED_OR_BAR.sub(
        lambda found: found[0] if found[1] else r"\|", text
    )
    lines[:] = LONE_LETTER.sub(r"\1\2\.", text).split("\n")


def setup(app):
    """Register with autodoc, on both sides of napoleon's priority of 500."""
    app.connect("autodoc-process-docstring", hide_colon, priority=400)
    app.connect("autodoc-process-docstring", escape, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
