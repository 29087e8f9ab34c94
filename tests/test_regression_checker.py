"""The notebook check itself: it passes on what was committed and fails on one falsified digit."""

import json
import re
import subprocess
import sys

from toc import ROOT, notebooks

SOURCE = """\
import jl_attention as jla
from jl_attention_book.numbers import glue

print(f"m = {jla.required_dim(1024, 4)}")
glue("third", 1 / 3)
"""
PRINTED = {"output_type": "stream", "name": "stdout", "text": "m = 304\n"}
GLUED = {
    "output_type": "display_data",
    "data": {"application/papermill.record/text/plain": "0.333333"},
    "metadata": {"scrapbook": {"mime_prefix": "application/papermill.record/", "name": "third"}},
}


VERDICT = re.compile(r"^(PASSED|FAILED) \S*?(\w+)\.ipynb::Cell 0", re.M)


def notebook(printed, glued):
    """Return a notebook that prints and glues a number, with outputs of these digits."""
    outputs = json.loads(json.dumps([PRINTED, GLUED]))
    outputs[0]["text"] = outputs[0]["text"].replace("304", printed)
    outputs[1]["data"] = dict.fromkeys(outputs[1]["data"], glued)
    cell = {"cell_type": "code", "execution_count": 1, "id": "one", "metadata": {}}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": [cell | {"outputs": outputs, "source": SOURCE}],
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def test_one_falsified_digit_fails_and_only_that(tmp_path):
    """Run the notebook check as the Makefile does, on an honest notebook and on falsified ones."""
    cases = {
        "honest": notebook("304", "0.333333"),
        "printed": notebook("305", "0.333333"),
        "glued": notebook("304", "0.333334"),
    }
    for name, content in cases.items():
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(content))
    options = re.search(r"^NBVAL := (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *options, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    verdicts = dict(
        re.findall(r"^(?:\S*/)?(\w+)\.ipynb::Cell 0 +(PASSED|FAILED)", run.stdout, re.M)
    )
    verdicts |= {name: word for word, name in VERDICT.findall(run.stdout)}
    assert verdicts == {"honest": "PASSED", "printed": "FAILED", "glued": "FAILED"}, run.stdout


def test_nothing_is_kept_from_the_comparison():
    makefile = (ROOT / "Makefile").read_text()
    assert "sanitize" not in makefile
    assert "lax" not in makefile
    for notebook in notebooks():
        for cell in json.loads((ROOT / notebook).read_text())["cells"]:
            tags = cell["metadata"].get("tags", [])
            assert not [tag for tag in tags if tag.startswith("nbval")], notebook
            assert "NBVAL" not in "".join(cell["source"]), notebook
