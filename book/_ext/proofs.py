"""Sphinx extension: a proof of class ``dropdown`` folds under its title.

sphinx-proof gives a proof no title, only the word in front of its text, and the
script that folds boxes stops at the first one without a title. So give it one.
"""

from docutils import nodes

WORD = "Proof. "


def add_titles(app, doctree):
    """Move the word "Proof" of each dropdown proof from its text to a title."""
    for box in list(doctree.findall(nodes.admonition)):
        if {"proof", "dropdown"} <= set(box["classes"]):
            first = next(box.findall(nodes.Text))
            if first.startswith(WORD):
                rest = nodes.Text(first[len(WORD) :])
                first.parent.replace(first, rest)
                box["ids"] = []  # "proof", the same for each
                box.insert(0, nodes.title("", WORD.rstrip(". ")))


def setup(app):
    """Register."""
    app.connect("doctree-read", add_titles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
