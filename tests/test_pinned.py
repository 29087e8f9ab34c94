"""Constants, edges and options pinned by value: each test fell silent to one planted bug before."""

import math
import os
from dataclasses import replace
from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy import optimize, sparse

import jl_attention as jla
from jl_attention import constructions, engine, logits, search
from jl_attention.interop import formats
from jl_attention.methods import Interpolate, MaxMargin, moment_curve, projected
from jl_attention.methods.least_norm import least_norm_queries
from jl_attention.precision import BLOCK_ROWS
from jl_attention.theory import necessary, tails
from jl_attention.theory.inner_products import correlated_exponent
from jl_attention_book import claims, tables

# --- Laws and bounds -----------------------------------------------------------------------------


def test_the_student_bound_is_a_half_where_nothing_rises():
    assert tails.student_bound(7, 0) == pytest.approx(0.5, rel=1e-14)
    assert tails.student_bound(2, 1) == pytest.approx(0.25, rel=1e-14)
    assert tails.student_bound(4, 3) == pytest.approx(0.005, rel=1e-14)


@pytest.mark.parametrize("bound", ["chernoff", "textbook", "exact"])
def test_a_log_probability_is_at_most_zero(bound):
    assert tails.chi_square_log_failure(1, 1e-3, bound) <= 0
    assert tails.chi_square_failure([1, 2], 1e-2, bound).max() <= 1


@pytest.mark.parametrize("method", jla.methods.METHODS)
def test_a_failure_probability_is_at_most_one(method):
    asked = {"method": method, "ratio_error": 0.5}
    dims = [1, 5, 12]
    found = jla.failure_probability(dims, 256, 4, **asked)
    assert found.max() <= 1
    assert jla.failure_probability(5, 256, 4, **asked) == 1
    if method != "moment_curve":
        assert jla.dimensions.expected_failures(5, 256, 4, **asked) > 1


def exponent_to_many_digits(eps, rho):
    """Return the sup over s of s (rho + eps) + log((1-(1+rho)s)(1+(1-rho)s))/2."""
    with localcontext() as context:
        context.prec = 80
        eps, rho = Decimal(eps), Decimal(rho)
        q, t = 1 - rho * rho, rho + eps
        linear = q + 2 * rho * t
        s = 2 * eps / (linear + (linear**2 + 4 * t * q * eps).sqrt())
        return float(s * t + ((1 - (1 + rho) * s) * (1 + (1 - rho) * s)).ln() / 2)


@pytest.mark.parametrize("rho", [-1 + 1e-9, -1 + 1e-6, -0.5, 0.0, 0.5, 1 - 1e-6, 1 - 1e-9])
@pytest.mark.parametrize("eps", [1e-3, 0.5, 1.5, 3.0])
def test_the_exponent_keeps_its_digits_next_to_parallel_and_opposite_vectors(eps, rho):
    expected = exponent_to_many_digits(eps, rho)
    assert correlated_exponent(eps, rho) == pytest.approx(expected, rel=1e-9)


def best_exponent(eps, rho):
    """Return the same by a search."""

    def negative(s):
        return -(s * (rho + eps) + np.log((1 - (1 + rho) * s) * (1 + (1 - rho) * s)) / 2)

    found = optimize.minimize_scalar(negative, bounds=(0, 1 / (1 + rho)), method="bounded",
                                     options={"xatol": 1e-12})  # fmt: skip
    return -found.fun


def test_t1_of_a_target_takes_its_columns_into_account():
    # All attend to token 0: the largest column of B sums to L tau, the largest row to tau.
    length, ratio_error, leak = 24, 0.5, 0.1
    star = sparse.csr_array(np.eye(1, length) + np.zeros((length, 1)))
    tau = np.log(10) + 1.5
    norm = np.sqrt(2 * length) * tau
    exponent = best_exponent((tau - np.log(10)) / norm, -tau / norm)
    expected = math.ceil((np.log(length * (length - 1)) - np.log(0.01)) / exponent)
    asked = {"ratio_error": ratio_error, "leak": leak, "logit_scale": tau}
    assert jla.required_dim_for_target(star, "svd_projection", **asked) == expected
    norm = np.sqrt(2) * tau
    exponent = best_exponent((tau - np.log(10)) / norm, -tau / norm)
    expected = math.ceil((np.log(length * (length - 1)) - np.log(0.01)) / exponent)
    for method in ("svd_projection", "row_projection"):
        pattern = jla.targets.permutation(length, rng=0)
        assert jla.required_dim_for_target(pattern, method, **asked) == expected


@pytest.mark.parametrize(("length", "row_nnz"), [(64, 1), (64, 3), (1000, 2)])
def test_the_closed_form_of_t4_by_supports(length, row_nnz):
    # gamma = 1 and the default tau = 3 log(1/eps2): theta^2 = (2/3)^2/k.
    rows = sum(math.comb(length, s) * (length - s) for s in range(1, row_nnz + 1))
    rate = math.log1p(4 / 9 / row_nnz) / 2
    expected = row_nnz - 1 + math.ceil(math.log(rows / 2 / 0.01) / rate)
    found = jla.universal_dim(length, row_nnz, bound="closed_form", route="supports")
    assert found == expected


def test_a_necessary_bound_forgives_the_rounding_of_its_logarithms():
    for power in range(1, 62):
        for bits in range(1, power + 1):
            if power % bits == 0:  # log2 C(2^power, 1)/bits is this whole number
                found = necessary.necessary_dim(2**power, 1, "bits", bits=bits)
                assert found == power // bits


def test_no_logit_scale_leaves_no_gap():
    for leak in (0.5, 0.1, 0.01, 1e-6):
        with pytest.raises(jla.ParameterError, match=r"must exceed log\(1/leak\)"):
            logits.check_precision(0.0, leak, -np.log(leak))
    with pytest.raises(jla.ParameterError, match="logit_scale"):
        projected._check_rise(np.array([1.0, 0.0]))
    projected._check_rise(np.array([1e-300]))


# --- Constructions -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [Interpolate("gaussian"), MaxMargin()])
def test_construct_takes_the_dimension_of_the_failure_probability_asked_for(method):
    target = jla.targets.regular(96, 2, rng=0)
    dims = [
        jla.construct(target, method, leak=0.1, failure_prob=eta, rng=3).dim for eta in (0.5, 1e-6)
    ]
    assert dims[0] < dims[1]
    assert dims[1] == jla.required_dim_for_target(target, method, leak=0.1, failure_prob=1e-6)


def test_every_retry_is_drawn_and_counted(monkeypatch):
    target, drawn = jla.targets.regular(64, 4, rng=0), []
    draw = constructions._draw
    monkeypatch.setattr(constructions, "_draw", lambda *args: drawn.append(args) or draw(*args))
    with pytest.raises(jla.ConstructionError, match="none of 4 draws"):
        jla.construct(target, leak=1e-3, dim=8, retries=3, rng=0)
    assert len(drawn) == 4


def test_a_retry_is_certified_by_both_numbers(monkeypatch):
    target, measured = jla.targets.regular(64, 2, rng=0), constructions.measure_checked
    for spoiled in ({"ratio_error": 9.0}, {"leak": 9.0}):

        def spoil(*args, spoiled=spoiled, **options):
            return replace(measured(*args, **options), **spoiled)

        monkeypatch.setattr(constructions, "measure_checked", spoil)
        with pytest.raises(jla.ConstructionError, match="none of 2 draws"):
            jla.construct(target, leak=0.1, retries=1, rng=0)


def test_a_dimension_of_our_choice_grows_by_an_eighth(monkeypatch):
    target, tried, build = jla.targets.regular(200, 2, rng=0), [], MaxMargin.build

    def reluctant(self, B, dim, *args, **options):
        tried.append(dim)
        if len(tried) < 4:
            raise jla.ConstructionError("not yet")
        return build(self, B, dim, *args, **options)

    monkeypatch.setattr(MaxMargin, "build", reluctant)
    built = jla.construct(target, "max_margin", rng=0)
    assert built.dim == tried[-1]
    assert tried[1:] == [dim + math.ceil(dim / 8) for dim in tried[:-1]]


def test_the_memory_asked_about_is_that_of_both_halves(monkeypatch):
    if not hasattr(os, "sysconf"):
        pytest.skip("not a POSIX system")
    sizes = {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": 15}
    monkeypatch.setattr(os, "sysconf", sizes.get)
    with pytest.raises(jla.ParameterError, match="would take 1.6e-05 GB"):
        constructions._check_memory(100, 10, np.dtype(np.float64))  # 2 x 100 x 10 x 8 bytes
    constructions._check_memory(100, 10, np.dtype(np.float32))


def test_the_largest_condition_number():
    def solve(condition):
        # Two unit codes at an angle a: the Gram matrix has the condition number 4/a^2 about.
        angle = 2 / np.sqrt(condition)
        codes = np.array([[[1.0, 0.0, 0.0], [np.cos(angle), np.sin(angle), 0.0]]])
        return least_norm_queries(codes, np.array([[1.0, 1.0]]), [5])

    assert solve(1e11).shape == (1, 3)
    for condition in (3e12, 1e13):
        with pytest.raises(jla.ConstructionError, match="row 5: .*beyond 1e.12"):
            solve(condition)


def test_the_gap_of_the_moment_curve_is_tau_below_the_weakest_entry():
    target = jla.targets.banded(40, 1, max_ratio=6.0, rng=0)
    built = jla.construct(target, "moment_curve", leak=0.05)
    report = jla.measure(built, target)
    np.testing.assert_allclose(report.row_leak, np.exp(-built.logit_scale), rtol=1e-6)


def test_the_digits_that_the_moment_curve_may_lose():
    # Single precision rounds by 1.19e-7 of a query's length; 1e-6 is accepted.
    keys, support = np.eye(2, dtype=np.float32), np.array([0, 1])
    for length, accepted in ((8.0, True), (9.0, False), (60.0, False)):
        query = np.array([length, 0], dtype=np.float32)
        arguments = query, keys, support, np.array([length, 0.0]), 3
        if accepted:
            moment_curve._check_rounding(*arguments)
        else:
            with pytest.raises(jla.ConstructionError, match="row 3"):
                moment_curve._check_rounding(*arguments)


def test_the_largest_supports_come_first():
    target = jla.targets.vertical_slash(100, 2, 4, rng=0)
    sizes = [block.columns.shape[1] for block in engine.support_blocks(target, 8, 400)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 2


def test_the_streamed_leak_is_computed_in_double_precision():
    head, largest = jla.StreamingHead(24, leak=0.5, rng=0, dtype=np.float32), 0.0
    for row, support in enumerate([[0], [0, 1], [1], [0, 3], [2, 4], [5]]):
        head.append(support)
        row_logits = head.logits(row).astype(np.float64)
        off = np.delete(row_logits, support)
        if len(off):
            largest = max(largest, np.exp(off.max() - row_logits[support].min()))
        assert head.measured_leak == pytest.approx(largest, rel=1e-12)


# --- Measuring -----------------------------------------------------------------------------------


def test_meets_includes_its_bounds():
    target = jla.targets.regular(30, 3, 2.0, rng=0)
    report = jla.measure(np.random.default_rng(0).standard_normal((30, 30)), target)
    assert report.meets(report.ratio_error, report.leak)
    assert not report.meets(report.ratio_error, np.nextafter(report.leak, 0))
    assert not report.meets(np.nextafter(report.ratio_error, 0), report.leak)


def test_logits_in_single_precision_are_measured_in_double():
    target = jla.targets.regular(50, 3, 2.0, rng=0)
    single = np.random.default_rng(0).standard_normal((50, 50)).astype(np.float32)
    assert jla.measure(single, target) == jla.measure(single.astype(np.float64), target)


def test_rows_in_any_order_are_those_rows():
    target = jla.targets.regular(50, 3, 2.0, rng=0)
    given = np.random.default_rng(0).standard_normal((50, 50))
    whole = jla.measure(given, target)
    for rows in ([0, 2, 1, 3], [3, 2, 1, 0], [5, 5, 7], [4, 6, 7], [1, 2, 3]):
        some = jla.measure(given, target, rows)
        np.testing.assert_allclose(some.row_leak, whole.row_leak[rows], rtol=1e-12)


@pytest.mark.parametrize("row", [0, 3, BLOCK_ROWS, BLOCK_ROWS + 17])
def test_a_row_is_named_in_whatever_block_it_is(row):
    length = BLOCK_ROWS + 20
    spoiled = np.zeros((length, length))
    spoiled[row, 5] = np.nan
    with pytest.raises(jla.ParameterError, match=rf"row {row}: is not finite"):
        jla.measure(spoiled, jla.targets.permutation(length, rng=0))
    queries = np.ones((length, 2))
    queries[row] = np.inf
    halves = replace(jla.construct(jla.targets.permutation(length, rng=0), dim=2), queries=queries)
    with pytest.raises(jla.ParameterError, match=f"row {row}:"):
        jla.measure(halves, jla.targets.permutation(length, rng=0))


def test_the_median_of_an_even_number_of_seeds_is_the_lower_one():
    target = jla.targets.regular(48, 2, rng=0)
    found = search.smallest_dim(target, leak=0.1, seeds=6, rng=5)
    assert found.dims[2] < found.dims[3]
    assert found.dim == found.dims[2]


def test_bfloat16_is_rounded_to_from_single_precision():
    pytest.importorskip("ml_dtypes")
    # Above the tie between 1 and 1 + 2^-7 by less than single precision holds: to even, 1.
    assert formats.rounded(np.array([1 + 2.0**-8 + 2.0**-30]), "bfloat16")[0] == 1.0
    assert formats.rounded(np.array([1 + 2.0**-8 + 2.0**-20]), "bfloat16")[0] == 1 + 2.0**-7


# --- The book's own ------------------------------------------------------------------------------


def test_the_slack_of_a_bound_that_is_reached():
    assert claims.Record("x", 1.0, "<=", 1.0).slack == 1.0
    assert claims.Record("x", 0.0, "<=", 0.0).slack == 1.0
    assert claims.Record("x", 0.0, "<=", 1.0).slack == math.inf


def test_a_table_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    tables.write_table(path, [{"a": 1, "b": 2}])
    before = path.read_bytes()

    def full(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        tables.write_table(path, [{"a": 3, "b": 4}])
    assert path.read_bytes() == before == b"a,b\n1,2\n"
    assert list(tmp_path.iterdir()) == [path]
