"""T1 and T2 in differences: pinned numbers, an independent derivation, a law from both sides."""

import numpy as np
import pytest
from conftest import sparse_targets
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

import jl_attention as jla
from jl_attention import concentration as con
from jl_attention.errors import ParameterError
from jl_attention.theory import differences

LOOSE = {"ratio_error": 1.0, "leak": 0.5, "failure_prob": 0.5}
STRICT = {"max_ratio": 2.0, "ratio_error": 0.1, "leak": 0.01, "failure_prob": 0.5}


@pytest.mark.parametrize(
    ("length", "row_nnz", "problem", "logit_scale", "expected"),
    [
        (1024, 2, LOOSE, np.log(4), 508),
        (16_384, 2, LOOSE, np.log(4), 693),
        (1024, 4, STRICT, np.log(110), 891_296),
        (1024, 2, LOOSE, None, 404),
        (16_384, 2, LOOSE, None, 535),
        (1024, 4, STRICT, None, 530_340),
        (1024, 1, LOOSE, np.log(4), 257),
    ],
)
def test_required_dim_is_a_known_number(length, row_nnz, problem, logit_scale, expected):
    assert differences.required_dim(length, row_nnz, **problem, logit_scale=logit_scale) == expected


def test_required_dim_of_t1_is_a_known_number():
    dims = differences.required_dim(
        [1024, 16_384], 2, "svd_projection", **LOOSE, logit_scale=np.log(4)
    )
    assert dims.tolist() == [994, 1355]


def exponent(allowed, mean, norm):
    """Sup over s of s*allowed - K_{mean,norm}(s), by numerical maximisation."""

    def negative(s):
        return -s * (allowed + mean) - 0.5 * np.log((1 - s * mean) ** 2 - (s * norm) ** 2)

    top = (1 - 1e-12) / max(norm + mean, 1e-6 * norm)  # any s will do where mean = -norm
    return -optimize.minimize_scalar(negative, bounds=(0, top), options={"xatol": 1e-12}).fun


@given(
    st.integers(1, 6),
    st.floats(1, 50),
    st.floats(0.05, 3),
    st.floats(0.001, 0.9),
    st.floats(1.05, 3),
    st.sampled_from([("row_projection", 0.5), ("svd_projection", 1.0)]),
)
def test_the_bound_is_the_sum_of_two_chernoff_bounds(k, gamma, ratio_error, leak, scale, theorem):
    """Written down again from the statement, with the suprema taken numerically."""
    method, power = theorem
    length, dim, gap = 100, 50, -np.log(leak)
    tau = scale * gap
    norm = np.sqrt(2) * k**power * (tau + np.log(gamma))
    ratios = exponent(np.log1p(ratio_error), np.log(gamma), norm)
    leaks = exponent(tau - gap, -tau, norm)
    expected = length * k * (k - 1) * np.exp(-dim * ratios)
    expected += length * k * (length - k) * np.exp(-dim * leaks)
    actual = differences.failure_probability(
        dim, length, k, method, gamma, ratio_error, leak, logit_scale=tau
    )
    assert actual == pytest.approx(min(expected, 1.0), rel=1e-5)


@given(st.floats(0.1, 5), st.floats(0, 0.9), st.floats(0.05, 0.9))
def test_the_most_unequal_pair_and_the_largest_norm_are_worst(norm, share, allowed):
    """What the class bound takes for the worst case."""
    mean, eps = share * norm, allowed * norm
    worst = exponent(eps, mean, norm)
    for smaller in np.linspace(-mean, mean, 5):
        assert exponent(eps, smaller, norm) >= worst * (1 - 1e-6)
        assert exponent(eps, smaller, max(abs(smaller), 0.8 * norm)) >= worst * (1 - 1e-6)


def test_arguments_broadcast():
    grid = differences.required_dim([64, 1024, 16_384], [[1], [2]], **LOOSE)
    assert grid.shape == (2, 3)
    assert grid[1].tolist() == [272, 404, 535]
    probability = differences.failure_probability([[403], [404]], 1024, 2, ratio_error=1, leak=0.5)
    assert (probability[:, None] <= 0.5).ravel().tolist() == [False, True]
    assert isinstance(differences.required_dim(64, 2, **LOOSE), int)


@pytest.mark.parametrize("law", differences.CLASS_LAWS)
def test_required_dim_is_where_the_probability_passes_eta(law):
    problem = {"ratio_error": 0.5, "leak": 0.1, "max_ratio": 3.0, "law": law}
    dim = differences.required_dim(500, 3, failure_prob=0.05, **problem)
    above, below = (differences.failure_probability(m, 500, 3, **problem) for m in (dim, dim - 1))
    assert above <= 0.05 < below
    target = jla.targets.regular(500, 3, 3.0, rng=0)
    problem = {"ratio_error": 0.5, "leak": 0.1, "law": law}
    dim = differences.required_dim_for_target(target, failure_prob=0.05, **problem)
    above, below = differences.failure_probability_for_target([dim, dim - 1], target, **problem)
    assert above <= 0.05 < below


def test_a_full_row_may_leak_once_it_has_fewer_nonzeros():
    # k = L = 64: a row may have 32 nonzeros and 32 places to leak to.
    dim, tau = 200_000, 0.8
    norm = np.sqrt(2 * 64) * tau
    expected = 64 * 64 * 63 * np.exp(-dim * exponent(np.log(2), 0.0, norm))
    expected += 64 * 32 * 32 * np.exp(-dim * exponent(tau - np.log(2), -tau, norm))
    problem = {"ratio_error": 1.0, "leak": 0.5, "logit_scale": tau}
    assert differences.failure_probability(dim, 64, 64, **problem) == pytest.approx(expected)
    assert 1e-6 < expected < 0.1
    one = differences.failure_probability(3, 1, 1, ratio_error=1.0, leak=0.5)
    assert one == pytest.approx(0.0)


@given(sparse_targets(), st.sampled_from(["row_projection", "svd_projection"]))
def test_a_target_never_needs_more_than_its_class(target, method):
    row_nnz = jla.targets.row_counts(target).max()
    if method == "svd_projection":
        row_nnz = max(row_nnz, jla.targets.column_counts(target).max())
    gamma = jla.targets.row_ratios(target).max()
    problem = {"ratio_error": 0.7, "leak": 0.2, "failure_prob": 0.1}
    of_class = differences.required_dim(target.shape[0], int(row_nnz), method, gamma, **problem)
    own = differences.required_dim_for_target(target, method, **problem)
    assert 1 <= own <= of_class


def test_target_dims_are_known_numbers():
    A = jla.targets.regular(1024, 2, rng=0)
    dims = [
        differences.required_dim_for_target(A, **LOOSE, logit_scale=np.log(4), law=law)
        for law in ("chernoff", "signs", "exact")
    ]
    assert dims == [508, 1208, 425]


def test_expected_failures_are_a_known_sum():
    # L = 4, rows (1/3, 2/3, 0, 0): one pair at r = +-log 2, two leaks at each of two entries.
    A = np.tile([1 / 3, 2 / 3, 0, 0], (4, 1))
    tau, dim, leak = 3.0, 20, 0.3
    b = np.array([tau, tau + np.log(2)])
    norm = np.sqrt(2) * np.hypot(*b)
    ratio = con.inner_product_tail(dim, np.log(1.5) / norm, np.log(2) / norm)
    leaks = con.inner_product_tail(dim, (b + np.log(leak)) / norm, -b / norm, "upper")
    expected = 4 * (ratio + 2 * leaks.sum())
    actual = differences.expected_failures_for_target(dim, A, 0.5, leak, logit_scale=tau)
    assert actual == pytest.approx(expected, rel=1e-9)


def test_a_target_is_summed_over_its_rows_and_weights():
    # Rows (1/3, 2/3, 0, 0): two events at r = log 2, two leaks at each of two entries.
    A = np.tile([1 / 3, 2 / 3, 0, 0], (4, 1))
    tau, dim, leak = 3.0, 3000, 0.3
    b = np.array([tau, tau + np.log(2)])
    norm = np.sqrt(2) * np.hypot(*b)
    expected = 2 * np.exp(-dim * exponent(np.log(1.5), np.log(2), norm))
    for value in b:
        expected += 2 * np.exp(-dim * exponent(value + np.log(leak), -value, norm))
    actual = differences.failure_probability_for_target(
        dim, A, "row_projection", 0.5, leak, logit_scale=tau
    )
    assert actual == pytest.approx(4 * expected, rel=1e-6)
    assert 1e-6 < actual < 0.5


@pytest.mark.parametrize("law", ["exact", "orthogonal"])
def test_expected_failures_are_what_the_construction_does(law):
    """The mean count of 6000 draws, from both sides, by Hoeffding at 1e-9."""
    length, dim, draws = 8, 5, 6000
    A = jla.targets.regular(length, 4, 2.0, rng=1)
    ratio_error, leak, tau = 1.0, 0.5, 2.0
    B = jla.logits.target_logits(A, tau)
    on = A.toarray() > 0
    rng, counts = np.random.default_rng(7), []
    family = jla.projections.Gaussian() if law == "exact" else jla.projections.Orthogonal()
    for _ in range(draws):
        keys = family.sample(dim, length, rng).T
        logits = (B @ keys) @ keys.T
        off = logits[:, :, None] - logits[:, None, :] - np.log(leak)  # i, j0, j
        count = np.sum((off > 0) & ~on[:, :, None] & on[:, None, :])
        gaps = (logits - B.toarray())[:, :, None] - (logits - B.toarray())[:, None, :]
        count += np.sum((gaps > np.log1p(ratio_error)) & on[:, :, None] & on[:, None, :])
        counts.append(count)
    expected = differences.expected_failures_for_target(
        dim, A, ratio_error, leak, logit_scale=tau, law=law
    )
    events = length * 4 * (length - 4) + length * 4 * 3 / 2
    limit = events * np.sqrt(np.log(2 / 1e-9) / (2 * draws))
    assert limit < 0.3 * expected
    assert abs(np.mean(counts) - expected) < limit


def test_promises_are_kept_at_the_dimension_asked_for():
    """More than 2 of 40 draws fail, each with probability at most 1e-5, less often than 1e-9."""
    A = jla.targets.regular(96, 2, 2.0, rng=0)
    precision = {"ratio_error": 1.0, "leak": 0.5}
    tau = differences.default_logit_scale(**precision)
    dim = differences.required_dim_for_target(A, **precision, failure_prob=1e-5)
    missed = 0
    for seed in range(40):
        built = jla.construct(A, "row_projection", **precision, dim=dim, logit_scale=tau, rng=seed)
        missed += not jla.measure(built, A).meets(**precision)
    assert stats.binom.sf(2, 40, 1e-5) < 1e-9
    assert missed <= 2


@pytest.mark.parametrize(
    ("length", "row_nnz", "gamma", "ratio_error", "leak"),
    [
        (1024, 2, 1, 1, 0.5),
        (65_536, 4, 1, 0.5, 0.1),
        (1024, 4, 2, 0.1, 0.01),
        (4096, 16, 4, 0.2, 0.01),
    ],
)
def test_the_default_scale_is_close_to_best(length, row_nnz, gamma, ratio_error, leak):
    gap, tolerance = -np.log(leak), np.log1p(ratio_error)

    def dim(share):
        problem = gamma, ratio_error, leak, 0.5, gap + share * tolerance
        return differences.required_dim(length, row_nnz, "row_projection", *problem)

    best = min(dim(share) for share in np.geomspace(0.8, 2.5, 30))
    assert dim(np.sqrt(2)) <= 1.07 * best
    assert dim(np.sqrt(2)) < 0.8 * dim(1.0)  # the scale of T1's statement


@pytest.mark.parametrize(
    "call",
    [
        lambda: differences.required_dim(4, 5, **LOOSE),
        lambda: differences.required_dim(4, 2, "interpolate", **LOOSE),
        lambda: differences.required_dim(4, 2, ratio_error=0.0),
        lambda: differences.required_dim(4, 2, leak=0.5, logit_scale=np.log(2)),
        lambda: differences.required_dim(4, 2, law="exact"),
        lambda: differences.required_dim(4, 2, failure_prob=1.0),
        lambda: differences.required_dim(10**6, 1000, ratio_error=1e-12),
        lambda: differences.required_dim_for_target(np.eye(3), "svd_projection", law="exact"),
        lambda: differences.failure_probability(0, 4, 2),
        lambda: differences.expected_failures_for_target(5, np.eye(3), law="chernoff"),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(ParameterError):
        call()
