"""The ledger's register, the notebooks, the labels and the tests that it names agree."""

import ast
import json
import re
from types import SimpleNamespace

import ledger as publisher
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from toc import ROOT

import jl_attention as jla
from jl_attention_book.claims import CLAIMS, RESULTS, recorded
from jl_attention_book.ledger import details, ledger, meaningful_slack, outcome, totals, typeset

BOOK = ROOT / "book"


@pytest.fixture(scope="module")
def entries():
    return ledger(BOOK)


def write_chapter(folder, number, *lines):
    """Write a chapter whose one cell printed these lines."""
    output = new_output("stream", name="stdout", text="".join(f"{line}\n" for line in lines))
    notebook = new_notebook(cells=[new_code_cell(outputs=[output])])
    nbformat.write(notebook, folder / f"{number:02d}-chapter.ipynb")
    records = folder / "results" / "records" / f"{number:02d}.jsonl"
    records.parent.mkdir(parents=True, exist_ok=True)
    pattern = r"\[(.*)\] measured (\S+) (\S+) (\S+) bound"
    found = [re.match(pattern, line).groups() for line in lines]
    keys = ("id", "measured", "relation", "bound")
    values = [(name, float(one), relation, float(two)) for name, one, relation, two in found]
    records.write_text("".join(json.dumps(dict(zip(keys, v, strict=True))) + "\n" for v in values))


def test_the_paper_and_every_theorem_are_in_it():
    wanted = [f"C{i}" for i in range(1, 7)] + ["L0", "L1", "L2"] + [f"T{i}" for i in range(1, 10)]
    assert set(wanted) <= set(RESULTS)
    assert [name for name in RESULTS if RESULTS[name].status == "not checked"] == ["C6"]


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_an_entry_is_complete(result):
    assert result.status in ("proved", "in part", "not checked")
    assert all([result.title, result.statement, result.hypotheses, result.limits])
    assert all(claim.kind in ("bound", "test", "observation") for claim in result.checks)
    assert set(result.rests_on) <= set(CLAIMS) - {claim.id for claim in result.checks}
    if result.status == "not checked":
        assert not result.checks + result.rests_on + result.tests
    else:
        assert result.checks + result.rests_on
        assert result.tests
        assert result.stated


def test_every_test_that_it_names_exists():
    known = {
        f"tests/{path.name}::{node.name}"
        for path in (ROOT / "tests").glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    named = {test for result in RESULTS.values() for test in result.tests}
    assert named <= known, named - known


def test_every_label_that_it_names_is_a_statement_of_the_book():
    cells = [
        "".join(cell["source"])
        for path in BOOK.glob("[0-9]*.ipynb")
        for cell in json.loads(path.read_text())["cells"]
        if cell["cell_type"] == "markdown"
    ]
    labels = re.findall(r"\{prf:[a-z]+\}[^\n]*\n:label: (\S+)", "\n".join(cells))
    assert len(set(labels)) == len(labels)
    named = {label for result in RESULTS.values() for label in result.stated}
    assert named <= set(labels), named - set(labels)


def test_its_numbers_are_those_that_the_chapters_printed(entries):
    printed = [
        (record.id, record.measured, record.relation, record.bound)
        for path in BOOK.glob("[0-9]*.ipynb")
        for record in recorded(path)
    ]
    listed = [
        (check["id"], record["measured"], record["relation"], record["bound"])
        for entry in entries
        for check in entry["checks"]
        for record in check["records"]
    ]
    assert sorted(listed) == sorted(printed)
    assert {name for name, *_ in listed} == set(CLAIMS)


def test_a_check_without_a_record_is_found(tmp_path):
    with pytest.raises(jla.ClaimError, match=r"chapter \d+ holds no record"):
        ledger(tmp_path)
    write_chapter(tmp_path, 1, "[C1-sparse] measured 0.3 >= 0.2 bound: holds (slack 1.5x)")
    with pytest.raises(jla.ClaimError, match="chapter 1 holds no record of it"):
        ledger(tmp_path)


@pytest.mark.parametrize("name", ["T0-unknown", "T3-leak"])
def test_a_record_that_is_not_registered_there_is_found(tmp_path, name):
    write_chapter(tmp_path, 1, f"[{name}] measured 1 <= 2 bound: holds (slack 2x)")
    with pytest.raises(jla.ClaimError, match=f"01-chapter.ipynb: {name} is not registered"):
        ledger(tmp_path)


def test_the_page_has_every_result_and_every_record(entries):
    count = 0
    for entry in entries:
        text = details(entry)
        parts = entry["title"], typeset(entry["limits"]), *entry["tests"]
        assert all(part in text for part in parts)
        records = [record for check in entry["checks"] for record in check["records"]]
        assert text.count("**") == 2 * len(records)
        count += sum(len(check["records"]) for check in entry["checks"])
    counted = re.findall(r"\| (\d+) \|$", totals(entries), re.M)
    assert sum(map(int, counted)) == count > 0


@pytest.mark.parametrize(
    ("measured", "relation", "bound", "shown"),
    [
        (1, ">=", 1, "holds"),
        (6, ">=", 6, "6 of 6"),
        (0, "<=", 0, "none"),
        (1, "<=", 1, "1 ≤ 1"),
        (0.939, "<=", 1, "0.939 ≤ 1"),
        (7, ">=", 6, "7 ≥ 6"),
        (0.5, ">=", 0.5, "0.5 ≥ 0.5"),
        (0.1, "<", 0.25, "0.1 < 0.25"),
    ],
)
def test_yes_and_no_are_shown_as_such(measured, relation, bound, shown):
    record = {"measured": measured, "relation": relation, "bound": bound, "slack": 2.0}
    assert outcome(record) == shown
    number = shown[0].isdigit() and "of" not in shown
    assert meaningful_slack({"kind": "bound"}, record) == (2.0 if number else None)
    assert meaningful_slack({"kind": "test"}, record) is None
    assert meaningful_slack({"kind": "observation"}, record) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k² β² δ⁻² log L", r"$k^{2}$ $\beta^{2}$ $\delta^{-2}$ log $L$"),
        ("0 < ε₂ < 1", r"0 < $\varepsilon_{2}$ < 1"),
        ("a k-row-sparse target, T1 to T9, W_Q", "a k-row-sparse target, T1 to T9, W_Q"),
        ("`k` and L's", "`k` and L's"),
    ],
)
def test_letters_of_mathematics_are_typeset(text, expected):
    assert typeset(text) == expected


def test_the_published_file_is_the_ledger(tmp_path, entries):
    app = SimpleNamespace(
        builder=SimpleNamespace(format="html"), srcdir=str(ROOT), outdir=str(tmp_path)
    )
    publisher.publish(app, ValueError("a build that failed"))
    assert not list(tmp_path.iterdir())
    publisher.publish(app, None)
    assert [path.name for path in tmp_path.iterdir()] == ["claims.json"]
    published = json.loads((tmp_path / "claims.json").read_text())
    assert published["results"] == json.loads(json.dumps(entries))
    assert published["version"] == jla.__version__
