"""The notebook check itself: it passes on what was committed and fails on one falsified digit."""

import json
import re
import subprocess
import sys

import pytest
from toc import ROOT, notebooks

NOTEBOOK = "book/01-attention-matrices.ipynb"


def nbval(path):
    """Run the notebook check as the Makefile does, on one notebook."""
    makefile = (ROOT / "Makefile").read_text()
    options = re.search(r"^NBVAL := (.*)$", makefile, re.M)[1].split()
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def falsify(text):
    """Change the last digit of a text."""
    at = max(match.start() for match in re.finditer(r"\d", text))
    return text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]


@pytest.fixture(scope="module")
def committed():
    """Return a chapter's beginning, up to the first cell that prints and hands on a number."""
    notebook = json.loads((ROOT / NOTEBOOK).read_text())
    hands_on = [
        any("application/papermill.record/text/plain" in out.get("data", {}) for out in outputs)
        and any("text" in out for out in outputs)
        for outputs in (cell.get("outputs", []) for cell in notebook["cells"])
    ]
    return notebook | {"cells": notebook["cells"][: hands_on.index(True) + 1]}


def test_the_committed_notebook_passes(committed, tmp_path):
    path = tmp_path / "same.ipynb"
    path.write_text(json.dumps(committed))
    run = nbval(path)
    assert run.returncode == 0, run.stdout


def printed(output):
    """Return where a cell's printed text is, if it printed."""
    return output, "text"


def glued(output):
    """Return where a value glued into the page's text is, if there is one."""
    return output.get("data", {}), "application/papermill.record/text/plain"


@pytest.mark.parametrize("place", [printed, glued])
def test_one_falsified_digit_fails(place, committed, tmp_path):
    notebook = json.loads(json.dumps(committed))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    places = [place(output) for output in outputs]
    holder, key = next((h, k) for h, k in places if re.search(r"\d", "".join(h.get(k, ""))))
    honest = "".join(holder[key])
    holder[key] = falsify(honest)
    assert sum(a != b for a, b in zip(honest, holder[key], strict=True)) == 1
    path = tmp_path / "falsified.ipynb"
    path.write_text(json.dumps(notebook))
    run = nbval(path)
    assert run.returncode == 1
    assert "1 failed" in run.stdout


def test_nothing_is_kept_from_the_comparison():
    makefile = (ROOT / "Makefile").read_text()
    assert "sanitize" not in makefile
    assert "lax" not in makefile
    for notebook in notebooks():
        for cell in json.loads((ROOT / notebook).read_text())["cells"]:
            tags = cell["metadata"].get("tags", [])
            assert not [tag for tag in tags if tag.startswith("nbval")], notebook
            assert "NBVAL" not in "".join(cell["source"]), notebook
