"""The exact law of feasibility: closed forms, high precision, simulation, and how it moves."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import linprog, nnls

from jl_attention.errors import ParameterError
from jl_attention.theory import absorption

FALSE_FAILURES = 1e-9


# --- Values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 7, 100, 5000])
def test_on_a_line_the_middle_one_of_equals_is_lost(n):
    # m = k = 1: x is one of n + 1 exchangeable points, and not the first or the last.
    assert absorption.infeasible_probability(1, n + 1, 1) == pytest.approx(
        1 - 2 / (n + 1), rel=1e-11
    )


@pytest.mark.parametrize("k", [1, 2, 5, 40])
def test_on_a_line_two_points_around_a_narrower_one(k):
    # nu = 1, n = 2: x ~ N(0, 1/k) below both has an orthant probability, correlation 1/(k+1).
    expected = 1 / 2 - math.asin(1 / (k + 1)) / math.pi
    assert absorption.infeasible_probability(k, k + 2, k) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5, 40])
def test_in_a_triangle(k):
    # nu = 2, n = 3: three correlated Gaussians positive. For k = 1 it is Sylvester's problem.
    expected = 1 / 4 - 3 * math.asin(1 / (k + 2)) / (2 * math.pi)
    assert absorption.infeasible_probability(k + 1, k + 3, k) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "nu"), [(3, 2), (9, 4), (20, 13), (40, 10)])
def test_a_long_support_sits_at_the_origin(n, nu):
    # k to infinity: Wendel's theorem, 1 - 2^(1-n) sum over i < nu of C(n-1, i).
    k = 10**9
    wendel = 1 - sum(math.comb(n - 1, i) for i in range(nu)) / 2 ** (n - 1)
    assert absorption.infeasible_probability(nu + k - 1, n + k, k) == pytest.approx(
        wendel, rel=1e-6
    )


@pytest.mark.parametrize(
    ("dim", "length", "row_nnz", "expected"),
    [  # by mpmath with 30 digits: the same sum, angles by quadrature
        (40, 64, 4, -36.0119203288970251),
        (28, 256, 4, -4.40853748995047377),
        (52, 1024, 4, -11.9411655895453413),
        (124, 1024, 8, -50.3382035527255188),
        (139, 200, 30, -68.349250465638414),
        (68, 4096, 4, -13.3512480362159104),
        (3, 8, 1, -2.15951481888380382),
        (5, 12, 2, -1.8739177374699708),
        (10, 64, 4, -0.307188175482528171),
        (64, 70, 64, -0.036636810807213034),
    ],
)
def test_against_high_precision(dim, length, row_nnz, expected):
    assert absorption.log_infeasible(dim, length, row_nnz) == pytest.approx(expected, rel=1e-12)


def test_certain_cases():
    # n <= nu points span no hull around x; below nu = 1 nothing separates; no others, no question.
    dims, lengths, sizes = [4, 9, 3, 3, 2, 5], [5, 10, 9, 5, 3, 5], [1, 2, 4, 4, 3, 5]
    p = absorption.infeasible_probability(dims, lengths, sizes)
    assert p.tolist() == [0, 0, 1, 1, 0, 0]


def test_far_tails_and_long_sequences_are_finite():
    cases = [(5 * 10**5, 10**6, 1), (10**6 - 10, 10**6, 64), (60, 10**9, 1), (999, 1001, 1)]
    logs = [absorption.log_infeasible(*case) for case in cases]
    assert np.isfinite(logs).all()
    assert max(logs) < 0
    assert absorption.log_infeasible(1, 10**6, 1) == pytest.approx(-2 / (10**6), rel=1e-3)


def test_required_dimensions():
    lengths, sizes = [256, 1024, 4096], [[2], [4], [8]]
    assert absorption.required_dim(lengths, sizes).tolist() == [
        [27, 36, 46],
        [37, 52, 68],
        [52, 76, 102],
    ]
    every = absorption.required_dim(1024, [2, 4, 8], scope="every_support")
    assert every.tolist() == [44, 74, 124]
    assert absorption.required_dim(10**6, 64) == 1012
    assert absorption.required_dim(5, 2, 0.9, "row") == 2
    assert absorption.required_dim([1, 2, 2, 3, 5], [1, 1, 2, 3, 4]).tolist() == [1, 1, 1, 2, 4]


def test_expected_failures():
    few = absorption.expected_failures([20, 28], 256, [2, 4])
    np.testing.assert_allclose(few, [1.434, 3.116], rtol=1e-3)
    row = absorption.expected_failures(28, 256, 4, "row")
    assert absorption.expected_failures(28, 256, 4) == pytest.approx(256 * row, rel=1e-12)
    every = absorption.expected_failures(28, 256, 4, "every_support")
    assert every == pytest.approx(math.comb(256, 4) * row, rel=1e-10)
    assert absorption.failure_probability(28, 256, 4) == 1
    assert absorption.failure_probability(28, 256, 4, "row") == pytest.approx(row, rel=1e-12)


def test_a_threshold_is_where_half_is_lost():
    for length in (64, 1024, 10**5):
        for k in (1, 4, 16, 32):
            dims = int(absorption.threshold_dim(length, k)) + np.arange(-1, 3)
            p = absorption.infeasible_probability(np.maximum(dims, k), length, k)
            median = np.interp(-0.5, -p, dims)
            assert 0 < median - absorption.threshold_dim(length, k) < 0.6
    assert absorption.threshold_dim(7, 7) == 6


# --- Laws --------------------------------------------------------------------------------------


@given(n=st.integers(2, 60), k=st.integers(1, 40))
def test_intrinsic_volumes_are_a_distribution(n, k):
    j = np.arange(n + 1.0)
    volumes = np.exp(absorption._log_intrinsic_volume(n, k, j))
    assert volumes.sum() == pytest.approx(1, rel=1e-10)
    # Gauss-Bonnet: even and odd ones weigh the same, as for every cone that is no subspace.
    assert volumes[::2].sum() == pytest.approx(0.5, rel=1e-10)
    # Their mean, the statistical dimension, is within one of the formula of `threshold_dim`.
    formula = absorption.threshold_dim(n + k, k) - (k - 1)
    assert 0 <= volumes @ j - formula <= 1


@given(length=st.integers(3, 5000), row_nnz=st.integers(1, 64), share=st.floats(0, 1))
def test_it_moves_the_right_way(length, row_nnz, share):
    row_nnz = min(row_nnz, length - 2)
    dim = row_nnz + int(share * (absorption.threshold_dim(length, row_nnz) - row_nnz + 30))
    dims, lengths, sizes = np.add([[dim], [length], [row_nnz]], np.eye(3, 4, k=1, dtype=int))
    here, wider, longer, larger = absorption.log_infeasible(dims, lengths, sizes)
    assert wider <= here + 1e-9
    assert here <= longer + 1e-9
    assert here <= larger + 1e-9


@given(
    length=st.integers(1, 10**5),
    row_nnz=st.integers(1, 40),
    eta=st.floats(1e-12, 0.9),
    scope=st.sampled_from(absorption.SCOPES),
)
def test_required_dim_is_the_least(length, row_nnz, eta, scope):
    row_nnz = min(row_nnz, length)
    dim = absorption.required_dim(length, row_nnz, eta, scope)
    assert absorption.failure_probability(dim, length, row_nnz, scope) <= eta * (1 + 1e-9)
    if dim > 1:
        assert absorption.failure_probability(dim - 1, length, row_nnz, scope) > eta


def test_rows_of_mixed_size():
    assert absorption.required_dim_for_counts(1024, np.full(1024, 4)) == 52
    counts = [1] * 500 + [3] * 20 + [9] * 4
    dim = absorption.required_dim_for_counts(524, counts, 0.1)

    def expected(m):
        sizes = absorption.infeasible_probability(m, 524, [1, 3, 9]) @ [500, 20, 4]
        log = absorption.log_expected_failures_for_counts(m, 524, counts)
        assert log == pytest.approx(np.log(sizes), rel=1e-10)
        return sizes

    assert expected(dim) <= 0.1 < expected(dim - 1)


# --- Simulation --------------------------------------------------------------------------------


def is_lost(codes, row_nnz):
    """Return whether some convex combination of the others lies in the hull of the first k's span.

    Sum over j off S of lambda_j (c_j - c_s) + sum over S of mu_i (c_i - c_s) = 0 with lambda >= 0
    of sum one: nonnegative least squares with mu split into two signs.
    """
    edges = codes[1:row_nnz] - codes[0]
    columns = np.vstack([codes[row_nnz:] - codes[0], edges, -edges])
    sums = np.append(np.ones(len(codes) - row_nnz), np.zeros(2 * len(edges)))
    system = np.vstack([columns.T, sums])
    goal = np.append(np.zeros(codes.shape[1]), 1.0)
    return nnls(system, goal)[1] < 1e-9


def has_no_query(codes, row_nnz):
    """Return whether no query has equal logits on the first k codes and lower ones elsewhere."""
    program = linprog(
        np.zeros(codes.shape[1]),
        codes[row_nnz:] - codes[0],
        -np.ones(len(codes) - row_nnz),
        A_eq=codes[1:row_nnz] - codes[0] if row_nnz > 1 else None,
        b_eq=np.zeros(row_nnz - 1) if row_nnz > 1 else None,
        bounds=(None, None),
    )
    return program.status == 2


def assert_binomial(count, draws, p):
    """The count of a binomial law, from both sides, with a false failure rate of 1e-9."""
    assert stats.binom.cdf(count, draws, p) > FALSE_FAILURES / 2
    assert stats.binom.sf(count - 1, draws, p) > FALSE_FAILURES / 2


@pytest.mark.parametrize(
    ("dim", "length", "row_nnz"), [(2, 8, 1), (4, 16, 1), (5, 12, 2), (6, 20, 3), (9, 40, 3)]
)
def test_gaussian_codes_lose_as_many_supports_as_the_law_says(dim, length, row_nnz):
    rng, draws = np.random.default_rng(dim), 3000
    lost = sum(is_lost(rng.standard_normal((length, dim)), row_nnz) for _ in range(draws))
    assert_binomial(lost, draws, absorption.infeasible_probability(dim, length, row_nnz))


def test_a_lost_support_is_one_without_a_query():
    rng, draws = np.random.default_rng(0), 300
    codes = [rng.standard_normal((14, 5)) for _ in range(draws)]
    lost = [has_no_query(code, 2) for code in codes]
    assert lost == [is_lost(code, 2) for code in codes]
    assert_binomial(sum(lost), draws, absorption.infeasible_probability(5, 14, 2))


# --- Errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: absorption.log_infeasible(0, 3, 1), "dim"),
        (lambda: absorption.log_infeasible(2, 3, 4), "row_nnz=4"),
        (lambda: absorption.infeasible_probability(2, 2.5, 1), "length"),
        (lambda: absorption.threshold_dim(3, 0), "row_nnz"),
        (lambda: absorption.expected_failures(2, 3, 1, "rows"), "scope='rows'"),
        (lambda: absorption.required_dim(8, 2, 1.0), "failure_prob"),
        (lambda: absorption.required_dim(8, 2, scope="all"), "scope='all'"),
        (lambda: absorption.required_dim_for_counts(8, []), "counts"),
        (lambda: absorption.required_dim_for_counts(8, [9]), "row_nnz"),
        (lambda: absorption.required_dim_for_counts(8, [0]), "counts"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ParameterError, match=message):
        call()
