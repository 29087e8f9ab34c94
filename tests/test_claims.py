"""`claims.check` prints one line, and raises when the claim does not hold."""

import json
import subprocess
import sys
from dataclasses import asdict

import compare_records
import nbformat
import pytest
from compare_records import differences
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


def test_printed_lines_are_read_back_with_all_digits(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JLA_RECORDS", str(tmp_path / "results/records"))
    monkeypatch.setattr(claims, "_begun", set())
    (tmp_path / "results/records").mkdir(parents=True)
    (tmp_path / "results/records/05.jsonl").write_text("of an earlier run\n")
    checked = [
        claims.check("T1-leak", measured=1 / 3, bound=0.7),
        claims.check("T1-ratio", measured=0, bound=1e-9),
        claims.check("T1-leak", measured=1e-300, bound=1234567.25, relation="<"),
    ]
    printed = "before\n" + capsys.readouterr().out + "[T1-leak] not a record\n"
    write_notebook(tmp_path / "05-chapter.ipynb", printed)
    records = claims.recorded(tmp_path / "05-chapter.ipynb")
    assert records == checked
    assert records[0].measured.hex() == "0x1.5555555555555p-2"
    write_notebook(tmp_path / "05-chapter.ipynb", printed.replace("0.333", "0.334"))
    with pytest.raises(jla.ClaimError, match=r"05-chapter.ipynb: printed '\[T1-leak\] .*0.334"):
        claims.recorded(tmp_path / "05-chapter.ipynb")
    write_notebook(tmp_path / "05-chapter.ipynb", printed.partition("[T1-ratio]")[0])
    with pytest.raises(jla.ClaimError, match="printed None, but its record"):
        claims.recorded(tmp_path / "05-chapter.ipynb")
    assert claims.recorded(write_notebook(tmp_path / "06-chapter.ipynb", "nothing")) == []


def write_notebook(path, printed):
    """Write a notebook whose one cell printed this, and return its path."""
    notebook = new_notebook(
        cells=[
            new_markdown_cell("[T1-leak] measured 1 <= 2 bound: holds (slack 2x)"),
            new_code_cell(outputs=[new_output("stream", name="stdout", text=printed)]),
        ]
    )
    nbformat.write(notebook, path)
    return path


def test_another_machine_may_change_the_last_digits_only(tmp_path):
    def folder(name, *records):
        (tmp_path / name).mkdir()
        lines = "".join(json.dumps(asdict(claims.Record(*record))) + "\n" for record in records)
        (tmp_path / name / "04.jsonl").write_text(lines)
        return tmp_path / name

    old = folder("old", ("T1-leak", 0.25, "<=", 0.5), ("T1-ratio", 0.0, "<=", 1e-9))
    last = folder("last", ("T1-leak", 0.25 * (1 + 9e-7), "<=", 0.5), ("T1-ratio", 0.0, "<=", 1e-9))
    more = folder("more", ("T1-leak", 0.25, "<=", 0.5 * (1 + 2e-6)), ("T1-ratio", 0.0, "<=", 1e-9))
    zero = folder("zero", ("T1-leak", 0.25, "<=", 0.5), ("T1-ratio", 1e-16, "<=", 1e-9))
    order = folder("order", ("T1-ratio", 0.0, "<=", 1e-9), ("T1-leak", 0.25, "<=", 0.5))
    fewer = folder("fewer", ("T1-leak", 0.25, "<=", 0.5))
    assert list(differences(old, last)) == []
    assert list(differences(old, more)) == ["04.jsonl: T1-leak: (0.25, 0.25) <= (0.5, 0.500001)"]
    assert len(list(differences(old, zero))) == 1
    for new, code in ((last, 0), (more, 1)):
        command = [sys.executable, compare_records.__file__, str(old), str(new)]
        assert subprocess.run(command, check=False, capture_output=True).returncode == code
    assert list(differences(old, order)) == ["04.jsonl: other checks, or in another order"]
    assert list(differences(old, fewer)) == ["04.jsonl: other checks, or in another order"]
    (old / "05.jsonl").touch()
    assert list(differences(old, last)) == [f"{last / '05.jsonl'}: missing"]
