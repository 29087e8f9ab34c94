"""Sphinx extension: publish the claims ledger with the book."""

import json
import os
from pathlib import Path

from jl_attention import __version__
from jl_attention_book.ledger import ledger


def publish(app, error):
    """Write claims.json beside the index of a built book, all or nothing."""
    if error is not None or app.builder.format != "html":
        return
    content = {
        "version": __version__,
        "results": ledger(Path(app.srcdir) / "book"),
    }
    path = Path(app.outdir) / "claims.json"
    unfinished = path.with_suffix(".part")
    unfinished.write_text(
        json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    )
    os.replace(unfinished, path)


def setup(app):
    """Publish when the build is done."""
    app.connect("build-finished", publish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
