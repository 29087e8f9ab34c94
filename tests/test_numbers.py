"""What a cell hands to the text is rounded where machines begin to differ."""

import doctest
import json

import myst_nb
import numpy as np
import pytest
import toc

from jl_attention_book import numbers


def test_the_examples():
    assert doctest.testmod(numbers).failed == 0


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (1 / 3, 0.333333),
        (np.float64(2e-9 / 3), 6.66667e-10),
        (np.float32(0.1), 0.1),
        (12, 12),
        ("1,024", "1,024"),
    ],
)
def test_floats_are_rounded_and_nothing_else(monkeypatch, value, stored):
    glued = []
    monkeypatch.setattr(myst_nb, "glue", lambda *args, **kwargs: glued.append((args, kwargs)))
    numbers.glue("name", value)
    assert glued == [(("name", stored), {"display": False})]
    assert type(glued[0][0][1]) is type(stored)


@pytest.mark.parametrize("notebook", toc.notebooks())
def test_no_notebook_stores_more_digits(notebook):
    for cell in json.loads((toc.ROOT / notebook).read_text())["cells"]:
        for output in cell.get("outputs", []):
            kind = "application/papermill.record/text/plain"
            text = "".join(output.get("data", {}).get(kind, ""))
            try:
                value = float(text)
            except ValueError:
                continue
            assert value == numbers.rounded(value) or value == int(value), (
                f"{text}: use numbers.glue"
            )
