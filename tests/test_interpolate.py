"""Theorem T3: exact logits on the support, the exact Student law off it, and honest refusals."""

import numpy as np
import pytest
from scipy import sparse, stats

import jl_attention as jla
from jl_attention import dimensions
from jl_attention.concentration import student_tail
from jl_attention.constructions import interpolating_queries, least_norm_queries
from jl_attention.logits import row_norms, target_logits
from jl_attention.methods import Interpolate

FALSE_FAILURE = 1e-9


# --- Exactness -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_logits_on_the_support_are_those_asked_for(dtype, tolerance):
    target = jla.targets.vertical_slash(300, 3, 5, 50.0, rng=0)
    built = jla.construct(target, dtype=dtype, rng=0)
    B = target_logits(target, built.logit_scale)
    rows, columns = B.nonzero()
    np.testing.assert_allclose(built.logits()[rows, columns], B.data, rtol=tolerance)
    assert jla.measure(built, target).ratio_error <= 50 * tolerance


def test_causal_supports_use_causal_codes_only():
    # A query is a combination of the codes of its support: later tokens play no part.
    target = jla.targets.causal_window(80, 4, 2.0, rng=0)
    B = target_logits(target, 10.0)
    keys = np.random.default_rng(0).standard_normal((80, 40))
    changed = keys.copy()
    changed[50:] = np.random.default_rng(1).standard_normal((30, 40))
    before, after = interpolating_queries(B, keys), interpolating_queries(B, changed)
    np.testing.assert_allclose(before[:50], after[:50], rtol=0, atol=1e-9)
    assert (before[53:] != after[53:]).all()


def test_a_stored_zero_is_no_support():
    target = jla.targets.regular(60, 2, rng=0)
    padded = sparse.coo_array(target)
    padded = sparse.coo_array(
        (np.append(padded.data, 0.0), np.hstack([padded.coords, [[0], [59]]])), shape=(60, 60)
    )
    assert padded.nnz == target.nnz + 1
    np.testing.assert_array_equal(
        jla.construct(padded, dim=30, rng=0).queries, jla.construct(target, dim=30, rng=0).queries
    )


# --- Given keys, progress ------------------------------------------------------------------------


def test_one_set_of_keys_serves_several_targets():
    keys = np.random.default_rng(0).standard_normal((96, 64))
    for target in (jla.targets.permutation(96, rng=0), jla.targets.banded(96, 1, 2.0, rng=0)):
        built = jla.construct(target, keys=keys, leak=0.5)
        assert np.shares_memory(built.keys, keys)
        assert jla.measure(built, target).ratio_error < 1e-10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keys": np.ones((9, 8))}, r"keys of shape \(9, 8\)"),
        ({"keys": np.ones(8)}, r"keys of shape \(8,\)"),
        ({"keys": np.ones((8, 4), dtype=int)}, "dtype int64"),
        ({"keys": np.full((8, 4), np.nan)}, "row 0: is not finite"),
        ({"keys": np.ones((8, 4)), "dim": 5}, "dim=5"),
        ({"keys": np.ones((8, 4)), "retries": 1}, "retries=1"),
        ({"keys": np.ones((8, 4)), "method": "row_projection", "ratio_error": 0.1}, "keys"),
    ],
)
def test_unfit_keys_are_refused(options, message):
    with pytest.raises(jla.ParameterError, match=message):
        jla.construct(np.eye(8), **options, rng=0)


def test_progress_counts_every_row_once(monkeypatch):
    monkeypatch.setattr("jl_attention.methods.least_norm.BLOCK_BYTES", 8 * 16 * 50)
    seen = []
    target = jla.targets.vertical_slash(200, 2, 3, rng=0)
    jla.construct(target, dim=16, progress=lambda done, total: seen.append((done, total)), rng=0)
    done, total = np.array(seen).T
    assert len(seen) > 5
    assert (np.diff(done) > 0).all()
    assert done[-1] == 200
    assert (total == 200).all()


# --- Refusals ------------------------------------------------------------------------------------


def test_the_largest_support_is_named():
    target = jla.targets.big_bird(40, 1, 2, 0, max_ratio=2.0, rng=0)
    keys = np.random.default_rng(0).standard_normal((40, 20))
    with pytest.raises(jla.ConstructionError, match=r"row 0: .* needs dim >= 40, not dim=20"):
        interpolating_queries(target_logits(target, 10.0), keys)


@pytest.mark.parametrize("gap", [0.0, 1e-12, 1e-7])
def test_dependent_codes_are_refused_with_row_and_condition(gap):
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((5, 3, 10))
    codes[2, 1] = codes[2, 0] + gap * rng.standard_normal(10)
    with pytest.raises(jla.ConstructionError, match=r"row 12: .* condition number (\d|beyond)"):
        least_norm_queries(codes, np.ones((5, 3)), np.arange(10, 15))


def test_an_inaccurate_query_is_refused_not_returned():
    # The Gram matrix of these codes is fine in double precision, condition 1e10, but a query of
    # that length cannot be stored in single precision: its logits would be wrong in the second
    # digit.
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((1, 2, 10))
    codes[0, 1] = codes[0, 0] + 1e-5 * rng.standard_normal(10)
    values = np.array([[10.0, 20.0]])
    query = least_norm_queries(codes, values, [7])
    np.testing.assert_allclose(codes[0] @ query[0], values[0], rtol=1e-6)
    with pytest.raises(jla.ConstructionError, match=r"row 7: .* in float32 misses"):
        least_norm_queries(codes.astype(np.float32), values, [7])


def test_a_square_support_is_solved_where_its_condition_allows():
    # k = m: the condition number of a square Gaussian matrix has a heavy tail.
    rng = np.random.default_rng(0)
    codes, values = rng.standard_normal((400, 30, 30)), rng.uniform(10, 12, (400, 30))
    codes[::10, 1] = codes[::10, 0] + 1e-7 * codes[::10, 1]
    condition = np.linalg.cond(codes @ codes.transpose(0, 2, 1))
    refused = []
    for row in range(400):
        some = slice(row, row + 1)
        try:
            query = least_norm_queries(codes[some], values[some], [row])[0]
        except jla.ConstructionError:
            refused.append(row)
        else:
            residual = np.abs(codes[row] @ query - values[row]).max()
            assert residual <= 2e-8 * np.linalg.norm(values[row])
    np.testing.assert_array_equal(refused, np.nonzero(condition > 1e12)[0])
    assert set(range(0, 400, 10)) <= set(refused)
    assert len(refused) < 60


# --- The Student law -----------------------------------------------------------------------------


def independent_logits(draws, size, dim, rng, wrong_scale=1.0):
    """Return `draws` independent off-support logits, each with codes and a query of its own.

    Token i (size + 1) + s is the s-th support token of row i, the last one is off the support.
    """
    keys = rng.standard_normal((draws * (size + 1), dim))
    columns = np.arange(draws)[:, None] * (size + 1) + np.arange(size)
    values = rng.uniform(10, 12, (draws, size))
    B = sparse.csr_array(
        (values.ravel(), columns.ravel(), np.arange(draws + 1) * size), shape=(draws, len(keys))
    )
    off_support = keys[size :: size + 1] * wrong_scale
    return np.einsum("im,im->i", interpolating_queries(B, keys), off_support), row_norms(B)


def kolmogorov_distance(sample, law):
    """Return sup |F_n - F|."""
    values = law.cdf(np.sort(sample))
    count = np.arange(len(sample) + 1) / len(sample)
    return max((count[1:] - values).max(), (values - count[:-1]).max())


DRAWS = 200_000
DKW = np.sqrt(np.log(2 / FALSE_FAILURE) / (2 * DRAWS))
"""P(sup |F_n - F| > DKW) <= FALSE_FAILURE: Dvoretzky, Kiefer and Wolfowitz with Massart's 2."""


@pytest.mark.parametrize(("size", "dim"), [(1, 1), (2, 2), (3, 5), (4, 12)])
def test_off_support_logits_follow_the_student_law_exactly(size, dim):
    logits, norms = independent_logits(DRAWS, size, dim, np.random.default_rng(size))
    nu = dim - size + 1
    assert kolmogorov_distance(np.sqrt(nu) * logits / norms, stats.t(nu)) <= DKW


def test_the_student_test_sees_a_wrong_law():
    logits, norms = independent_logits(DRAWS, 3, 5, np.random.default_rng(3))
    for nu in (2, 4):  # one degree of freedom too few or too many
        assert kolmogorov_distance(np.sqrt(nu) * logits / norms, stats.t(nu)) > DKW
    normal = kolmogorov_distance(np.sqrt(3) * logits / norms, stats.norm())
    assert normal > DKW


def test_the_student_test_sees_codes_scaled_by_5_percent():
    # Keys scaled after the queries were solved, as a forgotten normalisation would do. (Scaling
    # before changes nothing: the queries shrink as the codes grow.)
    def distance(scale):
        rng = np.random.default_rng(0)
        logits, norms = independent_logits(DRAWS, 3, 5, rng, wrong_scale=scale)
        return kolmogorov_distance(np.sqrt(3) * logits / norms, stats.t(3))

    assert distance(1.0) <= DKW < distance(1.05)


def test_the_failure_rate_is_at_most_the_predicted_one():
    # A draw fails with probability at most the sum of tails p; with n draws the number of failures
    # is below the 1 - 1e-9 quantile of Binomial(n, p). The planted bug drops tau by 15%.
    target = jla.targets.regular(40, 3, 2.0, rng=0)
    dim = jla.required_dim_for_target(target, leak=0.1, failure_prob=0.1)
    B = target_logits(target, 3 * np.log(10))
    counts = jla.targets.row_counts(target)
    tails = student_tail(dim - counts + 1, 2 * np.log(10) / row_norms(B))
    predicted = ((40 - counts) * tails).sum()
    draws = 600
    allowed = stats.binom.isf(FALSE_FAILURE, draws, predicted)
    assert allowed < draws / 3

    def failures(**options):
        options = {"method": Interpolate("gaussian"), "dim": dim, "leak": 0.1, **options}
        built = (jla.construct(target, rng=seed, **options) for seed in range(draws))
        return sum(jla.measure(one, target).leak > 0.1 for one in built)

    assert failures() <= allowed
    assert failures(logit_scale=0.7 * 3 * np.log(10)) > allowed


# --- Dimensions ----------------------------------------------------------------------------------


def test_n_patterns_are_eta_over_n():
    # The closed form with N L^2 in place of L^2.
    length, row_nnz, patterns, eta, leak = 500, 3, 40, 0.02, 0.05
    theta = 2 / (3 * np.sqrt(row_nnz))
    m = row_nnz - 1 + 2 * np.log(patterns * length**2 / (2 * eta)) / np.log1p(theta**2)
    assert dimensions.required_dim(
        length, row_nnz, leak=leak, failure_prob=eta / patterns, bound="closed_form"
    ) == np.ceil(m)


def test_n_patterns_through_one_code_matrix_keep_the_promise():
    # 20 targets at once, each with eta/20 of 1e-9: none may leak.
    targets = [jla.targets.row_sparse(60, 1 + s % 3, 2.0, rng=s) for s in range(20)]
    dim = max(
        jla.required_dim_for_target(A, leak=0.1, failure_prob=FALSE_FAILURE / 20) for A in targets
    )
    keys = np.random.default_rng(0).standard_normal((60, dim))
    leaks = [jla.measure(jla.construct(A, keys=keys, leak=0.1), A).leak for A in targets]
    assert max(leaks) <= 0.1


def test_the_dimension_of_a_target_is_the_exact_row_sum():
    # Rows of one size share a polynomial through their tails; the sum over rows decides.
    target = jla.targets.vertical_slash(200, 3, 4, 30.0, rng=0)
    dim = jla.required_dim_for_target(target, failure_prob=0.3)
    B = target_logits(target, 3 * np.log(100))
    counts, rise = jla.targets.row_counts(target), 2 * np.log(100) / row_norms(B)

    def expected(m):
        return ((200 - counts) * student_tail(m - counts + 1, rise)).sum()

    assert expected(dim) <= 0.3 < expected(dim - 1)


@pytest.mark.parametrize("scale", [1.0, np.log(99), -1.0])
def test_a_logit_scale_below_the_gap_is_refused(scale):
    with pytest.raises(jla.ParameterError, match="logit_scale"):
        jla.construct(np.eye(4), leak=0.01, logit_scale=scale, rng=0)


def test_a_logit_scale_just_above_the_gap_needs_too_large_a_dimension():
    with pytest.raises(jla.ParameterError, match=r"dimension asked for exceeds 2\*\*62"):
        jla.required_dim(4, 1, leak=0.01, logit_scale=np.log(100) * (1 + 1e-15))
