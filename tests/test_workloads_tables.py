"""The committed tables of chapter 14: a slice of each is recomputed."""

import pytest
from toc import ROOT

from jl_attention.workloads import backends
from jl_attention.workloads.edges import EDGES
from jl_attention_book import edge_table, presses, scoreboard
from jl_attention_book.tables import read_table

RESULTS = ROOT / "book" / "results"


def table(name, **wanted):
    return read_table(RESULTS / name, **wanted)


def test_the_scoreboard_is_whole():
    rows = table("selectors.csv")
    problems = {(r["length"], r["pattern"], r["geometry"], r["method"]) for r in rows}
    assert len(rows) == len(problems) == 2 * 4 * 2 * len(scoreboard.METHODS)
    assert {r["length"] for r in rows} == {"4096", "131072"}
    assert all(float(r["leak"]) <= 0.5 for r in rows)
    exact = [r for r in rows if r["method"] == "exact top-4"]
    assert {r["recall"] for r in exact} == {"1.000"}


@pytest.mark.parametrize(
    ("length", "pattern", "geometry"),
    [
        (4096, "needles", "smooth"),
        (4096, "mid_prompt", "random"),
        pytest.param(131_072, "needles", "random", marks=pytest.mark.long),
    ],
)
def test_a_slice_of_the_scoreboard(length, pattern, geometry):
    committed = table("selectors.csv", length=str(length), pattern=pattern, geometry=geometry)
    for found, row in zip(scoreboard.solve(length, pattern, geometry), committed, strict=True):
        assert found["method"] == row["method"]
        for name in ("leak", "recall", "mass", "output_error", "pairs"):
            # The last printed digit, and a pair or two that a tie decides.
            assert float(found[name]) == pytest.approx(float(row[name]), abs=4e-3), row


def test_budgets_go_with_the_length():
    assert scoreboard.settings("Quest", 131_072) == ("quest", {"budget": 4096})
    assert scoreboard.settings("Quest", 4096) == ("quest", {"budget": 128})
    assert scoreboard.settings("FlexPrefill", 4096)[1] == {"gamma": 0.9, "min_budget": 32}


def test_the_edge_table_is_whole_and_single_precision_holds():
    rows = table("edge_logits.csv")
    assert {r["case"] for r in rows} == set(EDGES)
    assert len({(r["kernel"], r["format"]) for r in rows}) * len(EDGES) == len(rows)
    assert all(r["holds"] == "yes" for r in rows if r["format"] == "float32")


def test_a_slice_of_the_edge_table():
    pytest.importorskip("onnxruntime")
    kernels = {k: v for k, v in backends.installed().items() if k[0] == "ONNX Runtime"}
    verdicts = {(r["case"], r["kernel"], r["format"]): r["holds"] for r in table("edge_logits.csv")}
    for row in edge_table.solve(kernels):
        assert verdicts[row["case"], row["kernel"], row["format"]] == row["holds"], row


def test_the_table_of_presses_is_whole():
    rows = table("presses.csv")
    problems = {(r["workload"], r["geometry"], r["press"], r["kept"]) for r in rows}
    assert len(rows) == len(problems) == 4 * 2 * 13 * 3


def test_a_slice_of_the_presses():
    pytest.importorskip("kvpress")
    name, geometry = problem = ("asked at the end", "random")
    committed = {
        (r["press"], r["kept"]): float(r["recall"])
        for r in table("presses.csv", workload=name, geometry=geometry)
    }
    for row in presses.solve(*problem, presses=("SnapKVPress", "TOVAPress"), shares=(0.25,)):
        expected = committed[row["press"], row["kept"]]
        assert float(row["recall"]) == pytest.approx(expected, abs=0.01)


def test_the_stock_layer_has_the_known_attention():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    known = presses.workload("asked at the end", "outlier")
    model, inputs_embeds = presses.stock_layer(known)
    with torch.no_grad():
        attentions = model.model(inputs_embeds=inputs_embeds, output_attentions=True).attentions
    rows = [0, 1, 1000, 2040]
    for head in range(known.heads):
        difference = attentions[0][0, head, rows].numpy() - known.attention(head, rows)
        assert abs(difference).max() < 1e-3
