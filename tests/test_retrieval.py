"""Critical n: what is counted is true, in exact arithmetic and in the number format."""

import subprocess
import sys
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from toc import ROOT

import jl_attention as jla
from jl_attention import codes, retrieval
from jl_attention.retrieval import critical_n, every_set, learned, learned_documents, stored
from jl_attention.retrieval.curve import polynomials
from jl_attention.retrieval.given import bisect, colexicographic
from jl_attention.theory import absorption
from jl_attention_book.critical_n import (
    DIMS,
    FINEST,
    PUBLISHED,
    held,
    least_dims,
    published_fit,
    solve,
)
from jl_attention_book.tables import read_table

NUMPY = {"float64": np.float64, "float32": np.float32, "float16": np.float16, "int8": np.int8}
WIDE = {"float64": np.float64, "float32": np.float32, "float16": np.float32, "int8": np.int32}


def unit(n, dim, seed):
    return codes.draw("unit", n, dim, seed).array()


def separable(documents, support):
    """Return whether a query puts these documents strictly above the others: a linear program."""
    rest = np.setdiff1d(np.arange(len(documents)), support)
    differences = (documents[support][:, None] - documents[rest]).reshape(-1, documents.shape[1])
    rows = np.hstack([-differences, np.ones((len(differences), 1))])
    found = linprog(
        np.append(np.zeros(documents.shape[1]), -1.0),
        A_ub=rows,
        b_ub=np.zeros(len(rows)),
        bounds=[(-1, 1)] * (documents.shape[1] + 1),
    )
    return -found.fun > 1e-7


def sums(queries, documents, dtype, order):
    """Return scores as an accumulator of the format makes them, the products in some order."""
    products = queries.astype(WIDE[dtype])[:, None, order] * documents.astype(WIDE[dtype])[:, order]
    total = np.zeros(products.shape[:2], dtype=WIDE[dtype])
    for term in range(products.shape[2]):
        total += products[:, :, term]
    assert total.dtype == WIDE[dtype]
    return total


def on_top(scores, sets):
    lowest = np.take_along_axis(scores, sets, axis=1).min(axis=1)
    others = np.ma.array(scores)
    for row, support in enumerate(sets):
        others[row, support] = np.ma.masked
    return lowest > others.max(axis=1)


# --- Given documents -----------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), dim=st.integers(2, 6), top_k=st.integers(1, 2))
def test_every_set_agrees_with_linear_programs(seed, dim, top_k):
    documents = unit(11, dim, seed)
    found = every_set(documents, top_k)
    lost = [s for s in combinations(range(11), top_k) if not separable(documents, list(s))]
    first = next(
        (
            n
            for n in range(top_k + 1, 12)
            if any(s[-1] < n and not separable(documents[:n], list(s)) for s in lost)
        ),
        12,
    )
    assert found.n == first - 1
    assert found.certificate.sets == comb(found.n, top_k)
    assert found.certificate.stopped_by == ("limit" if first == 12 else "infeasible")


@pytest.mark.parametrize(("dim", "seed"), [(3, 0), (6, 0), (8, 1), (12, 3)])
def test_the_obstacle_is_proved_exactly(dim, seed):
    found = critical_n(dim, method="max_margin", seed=seed)
    certificate, proof = found.certificate, found.certificate.combination
    assert certificate.stopped_by == "infeasible"
    assert max(proof.competitors + proof.support) <= found.n
    assert proof.support == certificate.obstacle
    documents = unit(found.n + 1, dim, seed)
    assert min(proof.weights + proof.coefficients) >= 0
    assert sum(proof.weights) == sum(proof.coefficients) == 1
    for coordinate in range(dim):
        sides = [
            sum(w * Fraction(float(documents[j, coordinate])) for j, w in zip(*side, strict=True))
            for side in (
                (proof.competitors, proof.weights),
                (proof.support, proof.coefficients),
            )
        ]
        assert sides[0] == sides[1]


def test_without_unit_documents_equal_scores_are_a_restriction():
    # (0, 1) puts documents 0 and 1 on top, but their line goes through the third.
    found = every_set([[0.0, 1.0], [0.0, 0.5], [0.0, -0.5]])
    assert separable(np.array([[0.0, 1.0], [0.0, 0.5], [0.0, -0.5]]), [0, 1])
    assert (found.n, found.certificate.stopped_by) == (2, "unequal")
    assert found.certificate.combination.coefficients == (-2, 3)


def test_exact_small_numbers():
    # On the circle two diagonals cross; on the sphere five points have a Radon partition 2, 3.
    for seed in range(3):
        assert critical_n(2, method="max_margin", seed=seed).n == 3
        assert critical_n(3, method="max_margin", seed=seed).n == 4
    # Off the sphere one more: a point inside a triangle, or a tetrahedron.
    triangle = np.array([[0.0, 1.0], [-0.9, -0.5], [0.9, -0.5], [0.1, 0.05]])
    tetrahedron = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1], [0.1, 0.2, 0.05]])
    for documents in (triangle, tetrahedron):
        pairs = combinations(range(len(documents)), 2)
        assert all(separable(documents, list(pair)) for pair in pairs)


@pytest.mark.parametrize("dtype", retrieval.FORMATS)
def test_what_is_counted_is_right_in_every_order(dtype):
    found = critical_n(8, method="max_margin", dtype=dtype)
    documents = stored(unit(found.n, 8, 0), dtype)
    sets = np.array(list(combinations(range(found.n), 2)))
    queries = retrieval.best_queries(documents, sets, dtype)
    assert (documents == documents.astype(NUMPY[dtype])).all()
    assert (queries == queries.astype(NUMPY[dtype])).all()
    rng = np.random.default_rng(0)
    for _ in range(5):
        assert on_top(sums(queries, documents, dtype, rng.permutation(8)), sets).all()
    ratio = retrieval.is_returned(queries, documents, sets, dtype)[1].max()
    assert found.certificate.scale_ratio == pytest.approx(ratio, rel=1e-9)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), dim=st.integers(2, 40), exponent=st.integers(-24, -10))
def test_certain_means_certain(seed, dim, exponent):
    # A gap of a few units in the last place: where it is called certain, no order undoes it.
    rng = np.random.default_rng(seed)
    q, c = (stored(rng.uniform(-1, 1, dim), "float32") for _ in range(2))
    other = stored(np.clip(c - np.sign(q) * 2.0**exponent, -1, 1), "float32")
    documents, sets = np.array([c, other]), np.array([[0]])
    certain = retrieval.is_returned(q[None], documents, sets, "float32")[0][0]
    for _ in range(3):
        scores = sums(q[None], documents, "float32", rng.permutation(dim))
        assert not certain or scores[0, 0] > scores[0, 1]
    if exponent > -12:
        assert certain


def test_the_bound_is_needed_and_ties_do_not_count():
    # 1 + 2^-24 - 1 in float32: one order of summation loses the small term, and ties.
    q, documents = np.ones((1, 3)), np.array([[1.0, 2.0**-24, -1.0], [1.0, 0.0, -1.0]])
    sets = np.array([[0]])
    assert not retrieval.is_returned(q, documents, sets, "float32")[0][0]
    assert retrieval.is_returned(q, documents, sets, "float64")[0][0]
    assert np.ptp(sums(q, documents, "float32", [0, 1, 2])) == 0
    twins = np.array([[0.5, 0.5], [0.5, 0.5], [-0.5, 0.5]])
    for dtype in retrieval.FORMATS:
        certain, ratio = retrieval.is_returned(
            stored([[1.0, 1.0]], dtype), stored(twins, dtype), sets, dtype
        )
        assert not certain[0]
        assert ratio[0] == np.inf
    assert every_set(twins, 1).n == 1


def test_the_package_knows_it_without_importing_it():
    code = "import sys, jl_attention; assert 'jl_attention.retrieval' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert jla.retrieval is retrieval
    assert "retrieval" in dir(jla)


def test_sets_come_in_an_order_that_a_shorter_list_keeps():
    assert list(colexicographic(4, 2)) == [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    assert list(colexicographic(5, 3))[:4] == list(colexicographic(4, 3))
    assert bisect(lambda n: n <= 6, 1, 20) == 6


# --- The moment curve ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "expected"), [("float64", 19_695), ("float32", 116), ("float16", 16), ("int8", 8)]
)
def test_the_curve_holds_as_many_in_every_dimension(dtype, expected):
    found = critical_n(4, dtype=dtype)
    assert found.n == expected
    assert found.certificate.sets == expected // 2
    assert found.certificate.stopped_by == "rounding"
    assert found.certificate.obstacle == (0, 2)  # around a gap


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_one_set_stands_for_its_rotations(dtype):
    n = critical_n(4, dtype=dtype).n
    sets = np.array(list(combinations(range(n), 2)))
    documents = stored(codes.MomentCurveCodes(n, 4, 2).array() / np.sqrt(2), dtype)
    queries = polynomials(n, sets)[0]
    norm = np.abs(queries).max(axis=1) if dtype == "int8" else np.linalg.norm(queries, axis=1)
    queries = stored(queries / norm[:, None], dtype)
    assert retrieval.is_returned(queries, documents, sets, dtype)[0].all()
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        assert on_top(sums(queries, documents, dtype, order), sets).all()


@pytest.mark.parametrize(("n", "top_k"), [(9, 2), (40, 2), (12, 3), (11, 4)])
def test_polynomials_have_the_gap_that_they_say(n, top_k):
    sets = np.array([s for s in combinations(range(n), top_k) if s[0] == 0])
    queries, gap = polynomials(n, sets)
    documents = codes.MomentCurveCodes(n, 2 * top_k, top_k).array() / np.sqrt(top_k)
    scores = queries @ documents.T
    on = np.take_along_axis(scores, sets, axis=1)
    assert np.ptp(on, axis=1).max() < 1e-13 * np.abs(scores).max()
    np.put_along_axis(scores, sets, -np.inf, axis=1)
    np.testing.assert_allclose(on.min(axis=1) - scores.max(axis=1), gap, rtol=1e-9, atol=1e-13)


def test_more_than_pairs_on_the_curve():
    found = [critical_n(7, k, dtype="float16").n for k in (1, 2, 3)]
    assert found[0] > found[1] == 16 > found[2] > 3
    with pytest.raises(jla.ParameterError, match="dim=3: the moment curve needs 2k = 4"):
        critical_n(3)


# --- Random documents ----------------------------------------------------------------------------


def test_random_documents_hold_more_than_the_published_ones():
    assert critical_n(8, method="max_margin").n == 14
    assert critical_n(16, method="max_margin", dtype="float16").n == 104 > PUBLISHED[16]
    cut = critical_n(16, method="max_margin", max_sets=1000)
    assert (cut.n, cut.certificate.stopped_by) == (45, "limit")
    assert cut.certificate.sets == 990


def test_predicted_n_is_where_the_law_crosses():
    for dim, top_k, expected in ((12, 2, 0.5), (20, 3, 0.01), (64, 2, np.log(2))):
        n = retrieval.predicted_n(dim, top_k, expected)
        lost = absorption.expected_failures(dim, [n, n + 1], top_k, "every_support")
        assert lost[0] <= expected < lost[1]
    assert retrieval.predicted_n(12) == 30


# --- Learned documents ---------------------------------------------------------------------------


def test_learning_widens_the_margin_and_loses_no_set():
    start, end = (learned_documents(30, 8, steps=steps) for steps in (0, 12))
    before, after = (every_set(d).certificate for d in (start, end))
    assert before.sets == after.sets == comb(30, 2)
    assert after.scale_ratio < before.scale_ratio / 4
    np.testing.assert_allclose(np.linalg.norm(end, axis=1), 1, rtol=1e-12)
    assert every_set(end, dtype="int8").n == 30 > PUBLISHED[8]


# --- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: critical_n(0), "dim=0"),
        (lambda: critical_n(4, top_k=0), "top_k=0"),
        (lambda: critical_n(4, method="svd"), "method='svd'"),
        (lambda: critical_n(4, dtype="float8"), "dtype='float8'"),
        (lambda: critical_n(4, seed=-1), "seed=-1"),
        (lambda: critical_n(4, max_sets=0), "max_sets=0"),
        (lambda: critical_n(3, method="learned"), "dim=3"),
        (lambda: every_set([[2.0, 0.0]]), "vectors"),
        (lambda: every_set([0.5, 0.5]), "documents of shape"),
        (lambda: every_set([[0.5, 0.5]], top_k=2), "top_k=2"),
        (lambda: stored([np.nan], "int8"), "vectors"),
        (lambda: retrieval.predicted_n(8, expected=0), "expected=0"),
        (lambda: learned_documents(2, 8), "n=2"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(jla.ParameterError, match=message):
        call()


def test_learning_refuses_what_the_solver_does_not_resolve(monkeypatch):
    monkeypatch.setattr(learned, "_margins", lambda documents, sets: (None, np.zeros(len(sets))))
    with pytest.raises(jla.ConstructionError, match="n=20"):
        learned_documents(20, 6)
    assert critical_n(6, method="learned").n == 2


# --- The committed table -------------------------------------------------------------------------


def table(**wanted):
    return read_table(ROOT / "book/results/critical_n.csv", **wanted)


def test_the_table_is_whole():
    rows = {(r["method"], int(r["dim"]), r["dtype"]) for r in table()}
    wanted = {
        (method, dim, dtype)
        for method, dims in DIMS.items()
        for dim in dims
        for dtype in retrieval.FORMATS[retrieval.FORMATS.index(FINEST[method]) :]
    }
    assert rows == wanted
    assert len(table()) == len(wanted)
    for row in table():
        n = int(row["n"])
        whole = row["method"] != "moment_curve"
        assert int(row["sets"]) == (comb(n, 2) if whole else n // 2)


@pytest.mark.parametrize(("method", "dim"), [("moment_curve", 4), ("max_margin", 7)])
def test_a_slice_of_the_table(method, dim):
    committed = table(method=method, dim=str(dim))
    for row, found in zip(committed, solve(method, dim), strict=True):
        assert float(row.pop("scale_ratio")) == pytest.approx(
            float(found.pop("scale_ratio")), rel=2e-3
        )
        assert row == {key: str(value) for key, value in found.items()}


def test_a_dimension_that_was_not_tried_holds_what_a_smaller_one_does():
    rows = [
        {
            "method": "learned",
            "dtype": "int8",
            "dim": d,
            "n": n,
            "scale_ratio": r,
            "stopped_by": why,
        }
        for d, n, r, why in (("3", "9", "5", "rounding"), ("5", "7", "6", "limit"))
    ]
    found = [held(rows, "learned", dim, "int8") for dim in (3, 4, 5, 6)]
    assert found == [("9", 5), (">=9", 5), (">=7", 6), (">=9", 5)]
    assert held(rows, "learned", 2, "int8")[0] == held(rows, "learned", 3, "float16")[0] == ""


def test_all_pairs_of_46_documents():
    rows = read_table(ROOT / "book/results/all_pairs.csv")
    least = {(row["method"], row["dtype"]): int(row["dim"]) for row in rows}
    assert len(rows) == len(least) == 9
    assert [least["moment_curve", name] for name in ("float32", "float16", "int8")] == [4, 0, 0]
    for dtype in ("float32", "float16", "int8"):
        assert least["learned", dtype] < least["max_margin", dtype] == 14
    for dtype in ("float32", "int8"):
        held = [every_set(unit(46, dim, 0), dtype=dtype).n for dim in (13, 14)]
        assert held[0] < held[1] == 46
    assert least_dims(8, most=6) == [
        {"method": method, "dtype": dtype, "dim": dim}
        for method, dims in (("moment_curve", (4, 4, 4)), ("max_margin", (6, 6, 6)))
        for dtype, dim in zip(("float32", "float16", "int8"), dims, strict=True)
    ] + [
        {"method": "learned", "dtype": dtype, "dim": 4} for dtype in ("float32", "float16", "int8")
    ]


def test_published_values_are_the_paper_s():
    assert (min(PUBLISHED), max(PUBLISHED), len(PUBLISHED)) == (4, 45, 42)
    assert [PUBLISHED[d] for d in (4, 8, 16, 24, 32, 45)] == [10, 28, 79, 170, 296, 626]
    assert published_fit(512) == pytest.approx(500_000, rel=0.05)
    assert published_fit(1024) == pytest.approx(4e6, rel=0.02)


def test_a_critical_n_is_an_integer_where_one_is_wanted():
    assert int(retrieval.critical_n(2, 1, dtype="float16")) == 100


def test_a_normalised_entry_may_be_rounded_up():
    assert stored([1 + 2e-16, -1 - 2e-16], "int8").tolist() == [127, -127]
    with pytest.raises(jla.ParameterError, match="vectors"):
        stored([1 + 1e-9], "int8")
