"""`claims.check` prints one line, and raises when the claim does not hold."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import jl_attention as jla
from jl_attention_book import claims


def test_a_claim_that_holds_prints_one_line(capsys):
    record = claims.check("T1-leak", measured=0.005, bound=0.01)
    line = "[T1-leak] measured 0.005 <= 0.01 bound: holds (slack 2x)\n"
    assert capsys.readouterr().out == line
    assert record.slack == 2
    assert claims.check("C2-fixed", measured=3, bound=2, relation=">=").slack == 1.5


def test_a_claim_that_fails_raises(capsys):
    with pytest.raises(jla.ClaimError, match=r"T1-leak.*FAILS.*below L"):
        claims.check("T1-leak", measured=0.02, bound=0.01)
    assert isinstance(jla.ClaimError(), AssertionError)
    assert capsys.readouterr().out == ""
    with pytest.raises(jla.ClaimError):
        claims.check("T1-leak", measured=0.01, bound=0.01, relation="<")


@pytest.mark.parametrize(
    ("claim", "measured", "bound", "relation", "message"),
    [
        ("T0", 1, 1, "<=", "claim_id='T0'"),
        ("T1-leak", float("nan"), 1, "<=", "measured"),
        ("T1-leak", 1, float("inf"), "<=", "bound"),
        ("T1-leak", 1, 1, "~", "relation='~'"),
    ],
)
def test_bad_claims_are_refused(claim, measured, bound, relation, message):
    with pytest.raises(jla.ParameterError, match=message):
        claims.check(claim, measured=measured, bound=bound, relation=relation)


def test_nothing_measured_has_unlimited_slack(capsys):
    assert claims.check("T1-leak", measured=0, bound=1).slack == float("inf")
    assert capsys.readouterr().out.endswith("holds (slack unlimited)\n")


@pytest.mark.parametrize(
    ("slack", "text"),
    [(1, "1x"), (1.04, "1x"), (1.96, "2x"), (24.4, "24x"), (99.9, "100x"), (35097, "35,000x")],
)
def test_slack_has_two_digits_and_no_exponent(slack, text):
    assert claims.slack_text(slack) == text


def test_printed_lines_are_read_back(tmp_path, capsys):
    checked = [
        claims.check("T1-leak", measured=0.005, bound=0.01),
        claims.check("T1-ratio", measured=0, bound=1e-9),
        claims.check("C2-fixed", measured=1234567, bound=2, relation=">"),
    ]
    printed = "before\n" + capsys.readouterr().out + "[T1-leak] not a record\n"
    notebook = new_notebook(
        cells=[
            new_markdown_cell("[T1-leak] measured 1 <= 2 bound: holds (slack 2x)"),
            new_code_cell(outputs=[new_output("stream", name="stdout", text=printed)]),
        ]
    )
    nbformat.write(notebook, tmp_path / "chapter.ipynb")
    records = claims.recorded(tmp_path / "chapter.ipynb")
    assert [record.id for record in records] == [record.id for record in checked]
    assert [str(record) for record in records] == [str(record) for record in checked]
