"""The notebook check itself: it passes on what was committed and fails on one falsified digit."""

import json
import re
import subprocess
import sys

import pytest
from nbval.plugin import get_sanitize_patterns
from toc import ROOT

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
    return json.loads((ROOT / NOTEBOOK).read_text())


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


def test_only_digits_that_no_page_shows_are_ignored():
    patterns = get_sanitize_patterns((ROOT / "tests/nbval.cfg").read_text())
    ((pattern, replacement),) = patterns
    for number, compared in (
        ("0.9995864311743069", "0.99958643"),
        ("1.2345678901e-07", "1.23456789e-07"),
        ("13089306", "13089306"),
        ("0.00017", "0.00017"),
    ):
        assert re.sub(pattern, replacement, number) == compared
