"""The notebook check itself: it passes on what was committed and fails on one falsified digit."""

import json
import re
import subprocess
import sys

import pytest
from toc import ROOT

NOTEBOOK = "book/index.ipynb"


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


def test_one_falsified_digit_fails(committed, tmp_path):
    notebook = json.loads(json.dumps(committed))
    output = next(
        output
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if re.search(r"\d", "".join(output.get("text", "")))
    )
    honest = "".join(output["text"])
    output["text"] = falsify(honest)
    assert sum(a != b for a, b in zip(honest, output["text"], strict=True)) == 1
    path = tmp_path / "falsified.ipynb"
    path.write_text(json.dumps(notebook))
    run = nbval(path)
    assert run.returncode == 1
    assert "1 failed" in run.stdout
