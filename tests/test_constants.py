"""The page of constants: its numbers, written down; its labels, those of the chapters."""

import math
import re

import pytest
from toc import ROOT, notebooks

import jl_attention as jla
from jl_attention_book import sweeps
from jl_attention_book.constants import ROWS, details, first_useful, per_log, summary

TABLE = sweeps.read(ROOT / "book/results/smallest_dim.csv")

NUMBERS = {  # closed form, sharp, worked, first L
    "L1": ("350", "237", "", "164"),
    "T1": ("4,453", "2,502", "329", "2,779"),
    "T2": ("2,314", "1,289", "401", "1,327"),
    "T2, differences": ("", "508", "401", "455"),
    "T3": ("140", "122", "118", "72"),
    "T5": ("4", "", "", "5"),
    "T9, a pattern": ("", "31", "", "3"),
}


def cells(text):
    """Return {name: cells} of a table's rows."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    return {re.match(r"\[(.*?)\]", row[0])[1]: row[1:] for row in rows}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_row_has_its_numbers(name):
    closed, sharp, worked, _, first = cells(summary(TABLE))[name]
    assert (closed, sharp, worked, first) == NUMBERS[name]


def test_what_is_needed_is_less_than_what_is_enough():
    enough, needed = cells(summary(TABLE)), cells(summary(TABLE, needed=True))
    assert set(enough) | set(needed) == {row.name for row in ROWS}
    least = min(int((sharp or closed).replace(",", "")) for closed, sharp, *_ in enough.values())
    assert all(int(row[0]) <= least for row in needed.values())


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.exact and row.closed], ids=lambda row: row.name
)
def test_the_sharp_form_asks_for_no_more(row):
    assert row.exact(1024) <= row.closed(1024)


def test_the_first_useful_length_is_the_first():
    assert first_useful(lambda length: 100) == 101
    assert first_useful(lambda length: 2 + length // 2) == 5
    dim = next(row.exact for row in ROWS if row.name == "T1")
    assert dim(2779) < 2779
    assert dim(2778) >= 2778


def test_growth_is_per_unit_of_the_logarithm():
    assert per_log(lambda length: 7 * math.log(length)) == pytest.approx(7)


def test_worked_lies_between_what_is_needed_and_what_is_promised():
    for row in ROWS:
        if row.measured and row.name.startswith("T"):
            (worked,) = [int(cells(summary(TABLE))[row.name][2])]
            assert jla.necessary_dim(1024, 2) <= worked <= row.dim(1024)


def test_the_labels_are_those_of_the_chapters():
    text = "".join((ROOT / notebook).read_text() for notebook in notebooks())
    for row in ROWS:
        assert f":label: {row.label}" in text
        assert f"`{row.label}`" in details(row)
