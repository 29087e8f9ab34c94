"""Off-support logits under Gaussian, tight and unit codes: values, order, and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

import jl_attention as jla
from jl_attention.errors import ParameterError
from jl_attention.theory import frames

FALSE_FAILURES = 1e-9


# --- Values ------------------------------------------------------------------------------------


def cap(dim, height):
    """P(u_1 >= height) on the sphere of R^dim, by the incomplete beta function."""
    return special.betainc((dim - 1) / 2, 0.5, 1 - height**2) / 2


@pytest.mark.parametrize(
    ("dim", "length", "row_nnz", "theta"),
    [
        (1, 3, 1, 0.4),
        (2, 5, 2, 1.0),
        (5, 8, 2, 0.3),
        (6, 8, 5, 1.7),
        (9, 10, 3, 0.2),
        (30, 70, 4, 0.5),
    ],
)
def test_tight_codes_by_the_other_order_of_integration(dim, length, row_nnz, theta):
    # Mean over w = cos(phi) on the sphere of R^n of P(beta < w^2/(w^2 + theta^2)).
    n, a, b = length - row_nnz, (dim - row_nnz + 1) / 2, (length - dim) / 2

    def given_w(phi):
        square = math.cos(phi) ** 2
        return math.sin(phi) ** (n - 2) * special.betainc(a, b, square / (square + theta**2))

    top, _ = integrate.quad(given_w, 0, np.pi / 2, epsabs=0, epsrel=1e-11)
    expected = top / special.beta((n - 1) / 2, 0.5)
    actual = frames.off_support_tail(dim, length, row_nnz, theta, "tight")
    assert actual == pytest.approx(expected, rel=1e-9)


def test_tight_codes_with_one_token_left():
    # L = s + 1: w is 1 or -1.
    for dim, length in ((4, 5), (6, 7), (7, 7)):
        actual = frames.off_support_tail(dim - 1, length - 1, length - 2, 0.7, "tight")
        beta = stats.beta((dim - length + 2) / 2, (length - dim) / 2)
        expected = beta.cdf(1 / (1 + 0.7**2)) / 2 if dim < length else 0.0
        assert actual == pytest.approx(expected, rel=1e-10)


def test_one_unit_code_is_a_cap():
    dims, thetas = np.array([2, 3, 10, 200]), np.array([0.1, 0.5, 0.9, 0.3])
    actual = frames.off_support_tail(dims, 1000, 1, thetas, "unit")
    np.testing.assert_allclose(actual, cap(dims, thetas), rtol=1e-11)
    edges = frames.off_support_tail([1, 1, 1, 2, 2], 9, 1, [0.5, 1, 2, 1, 1.5], "unit")
    np.testing.assert_allclose(edges, [0.5, 0.5, 0, 0, 0], rtol=1e-12)


@pytest.mark.parametrize(("dim", "theta"), [(2, 0.3), (3, 0.5), (7, 0.9), (40, 0.4), (12, 0.71)])
def test_two_unit_codes_by_their_angle(dim, theta):
    # h^2 = (1 + t)/2 with t = <c_1, c_2>, of density proportional to (1 - t^2)^((m-3)/2).
    def given_angle(phi):
        height = math.sqrt(2) * theta * math.cos(phi / 2)
        return math.sin(phi) ** (dim - 2) * (cap(dim, height) if height < 1 else 0.0)

    edge = 2 * math.acos(min(1, 1 / (math.sqrt(2) * theta)))
    top, _ = integrate.quad(given_angle, edge, np.pi, epsabs=0, epsrel=1e-11, limit=200)
    expected = top / special.beta((dim - 1) / 2, 0.5)
    actual = frames.off_support_tail(dim, 1000, 2, theta, "unit")
    assert actual == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("codes", "dim", "length", "row_nnz", "theta", "expected"),
    [  # by mpmath with 25 digits
        ("tight", 130, 1024, 4, 0.5, -18.525782068959627),
        ("tight", 600, 1024, 4, 0.5, -131.8966855329861),
        ("tight", 3000, 4096, 2, 0.6, -1030.7128398950923),
        ("unit", 129, 9999, 4, 0.45, -15.444487266535243),
        ("unit", 60, 9999, 2, 0.7, -17.711167793980083),
        ("unit", 2000, 9999, 8, 0.3, -93.451555469243273),
    ],
)
def test_against_high_precision(codes, dim, length, row_nnz, theta, expected):
    actual = frames.off_support_log_tail(dim, length, row_nnz, theta, codes)
    assert actual == pytest.approx(expected, rel=1e-11)


def test_gaussian_codes_follow_student():
    # One degree of freedom is Cauchy's law; two have sf(x) = (1 - x/sqrt(2 + x^2))/2.
    theta = 0.6
    expected = [
        0.5 - math.atan(theta) / math.pi,
        (1 - theta / math.sqrt(1 + theta**2)) / 2,
    ]
    actual = frames.off_support_tail([3, 4], 99, 3, theta)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_certain_cases():
    tail = frames.off_support_tail
    for codes in frames.CODES:
        assert tail(2, 9, 3, 0.5, codes) == 1
    assert tail([8, 9, 20], 9, 3, 0.5, "tight")[1:].tolist() == [0, 0]
    assert tail(8, 9, 3, 0.5, "tight") > 0


def test_required_dimensions():
    lengths = [128, 256, 1024, 65536]
    dims = {
        "gaussian": ([227, 253, 304, 458], [109, 121, 146, 218]),
        "tight": ([90, 135, 239, 455], [66, 88, 130, 218]),
        "unit": ([214, 237, 285, 430], [97, 108, 129, 193]),
    }
    for codes, (default, limit) in dims.items():
        assert frames.required_dim(lengths, 4, codes=codes).tolist() == default
        far = frames.required_dim(lengths, 4, codes=codes, logit_scale=np.inf)
        assert far.tolist() == limit
    far = [
        frames.required_dim(1024, [1, 2, 4, 8], codes=codes, logit_scale=np.inf).tolist()
        for codes in frames.CODES
    ]
    assert far == [[47, 80, 146, 276], [45, 75, 130, 223], [2, 62, 129, 260]]
    assert frames.required_dim(1024, 4, 2.0, codes="gaussian") == 333
    assert frames.required_dim([1, 2, 5], [1, 2, 5], codes="tight").tolist() == [1, 2, 5]


def test_failure_probability():
    assert frames.failure_probability(135, 256, 4) == pytest.approx(0.0091965, rel=1e-4)
    tail = frames.off_support_tail(50, 256, 4, 1 / 3, "tight")
    failures = math.exp(frames.log_expected_leaks(50, 256, 4, 1 / 3, "tight"))
    assert failures == pytest.approx(256 * 255 * tail, rel=1e-10)
    assert frames.failure_probability(50, 256, 4) == 1
    assert frames.failure_probability(1, 1, 1) == 0
    # Rows of all tokens leak nowhere; those one token shorter are the worst.
    assert frames.failure_probability(7, 9, 9, codes="unit", leak=0.1) == 1


@pytest.mark.parametrize("codes", frames.CODES)
@pytest.mark.parametrize("dim", [20, 120, 299])
def test_rows_of_one_pattern_add_up(codes, dim):
    rng = np.random.default_rng(0)
    counts = rng.choice([1, 3, 4, 300], 200)
    theta, weights = rng.uniform(0.1, 0.7, 200), rng.integers(1, 9, 200)
    some = counts < 300
    tails = frames.off_support_tail(dim, 300, counts[some], theta[some], codes)
    expected = np.log(np.sum(weights[some] * (300 - counts[some]) * tails))
    actual = frames.log_expected_leaks_for_rows(dim, 300, counts, theta, codes, weights)
    assert actual == pytest.approx(expected, rel=1e-7)
    assert frames.log_expected_leaks_for_rows(dim, 300, [300], [0.4], codes) == -np.inf


def test_methods_know_their_codes():
    target = jla.targets.row_sparse(300, 4, max_ratio=20.0, rng=0)
    dims = {}
    for codes in ("gaussian", "tight", "orthogonal", "unit"):
        method = jla.methods.Interpolate(codes)
        dims[codes] = dim = jla.required_dim_for_target(target, method)
        B = jla.logits.target_logits(target, 3 * math.log(100))
        norms = jla.logits.row_norms(B)
        if codes == "unit":
            norms = 2 * B.toarray().max(axis=1)
        law = "tight" if codes == "orthogonal" else codes
        for m, fails in ((dim, False), (dim - 1, True)):
            theta = 2 * math.log(100) / norms
            log_leaks = frames.log_expected_leaks_for_rows(m, 300, np.full(300, 4), theta, law)
            assert (log_leaks > math.log(0.01)) == fails
        assert jla.required_dim(256, 4, codes=codes) == frames.required_dim(256, 4, codes=law)
        chance = jla.failure_probability(200, 256, 4, codes=codes)
        assert chance == pytest.approx(frames.failure_probability(200, 256, 4, codes=law), rel=1e-9)
    assert dims["tight"] == dims["orthogonal"] < 300 < dims["gaussian"]
    closed = jla.required_dim(256, 4, codes="tight", bound="closed_form")
    assert closed == jla.required_dim(256, 4, bound="closed_form")
    with pytest.raises(ParameterError, match="closed_form"):
        jla.required_dim(256, 4, codes="unit", bound="closed_form")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((4,), 1 / 3),
        ((4, 1.0, 0.5, 10.0), (10 - math.log(2)) / 20),
        ((9, 3.0, 0.01, math.inf), 1 / 3),
        ((1, math.e, 0.1, 3 * math.log(10)), 2 * math.log(10) / (3 * math.log(10) + 1)),
    ],
)
def test_level(arguments, expected):
    assert frames.level(*arguments) == pytest.approx(expected, rel=1e-13)


# --- Order -------------------------------------------------------------------------------------


@given(
    weights=st.lists(st.floats(1, 100), min_size=1, max_size=8),
    leak=st.floats(1e-6, 0.9),
    factor=st.floats(1.01, 50),
    more=st.floats(1.01, 10),
)
def test_a_larger_scale_of_the_logits_leaks_less(weights, leak, factor, more):
    gap = -math.log(leak)
    a = np.log(weights) - np.log(min(weights))

    def rise(tau):
        return (tau - gap) / np.linalg.norm(tau + a)

    tau = factor * gap
    assert rise(more * tau) > rise(tau) * (1 - 1e-12)
    worst = frames.level(len(weights), math.exp(a.max()), leak, tau)
    assert worst <= rise(tau) * (1 + 1e-12)
    assert worst <= frames.level(len(weights), math.exp(a.max()), leak, more * tau)


@given(
    dim=st.integers(3, 300),
    extra=st.integers(1, 2000),
    row_nnz=st.integers(1, 9),
    theta=st.floats(0.05, 1.5),
)
def test_tails_are_ordered(dim, extra, row_nnz, theta):
    row_nnz = min(row_nnz, dim - 1)
    length = max(dim, row_nnz + 1) + extra
    for codes in frames.CODES:
        here, wider, larger, further = frames.off_support_log_tail(
            [dim, dim + 1, dim, dim],
            length,
            [row_nnz, row_nnz, row_nnz + 1, row_nnz],
            [theta, theta, theta, 1.1 * theta],
            codes,
        )
        assert wider <= here + 1e-9
        assert further <= here + 1e-9
        if codes != "unit":  # whose theta counts in sqrt(s) max b
            assert here <= larger + 1e-9
    smaller, longer, student = (
        frames.off_support_log_tail(dim, size, row_nnz, theta, codes)
        for codes, size in (("tight", length), ("tight", length + 50), ("gaussian", length))
    )
    assert smaller <= longer + 1e-9
    assert longer <= student + 1e-9


def test_more_tokens_at_the_largest_value_leak_more_with_unit_codes():
    sizes = np.arange(1, 9)
    logs = frames.off_support_log_tail(40, 1000, sizes, 0.8 / np.sqrt(sizes), "unit")
    assert (np.diff(logs) > 0).all()


def test_tight_codes_of_endless_sequences_are_gaussian():
    for dim, row_nnz, theta in ((100, 4, 0.4), (10, 1, 0.9), (3, 3, 2.0)):
        tight = frames.off_support_log_tail(dim, 10**10, row_nnz, theta, "tight")
        student = frames.off_support_log_tail(dim, 99, row_nnz, theta)
        assert tight == pytest.approx(student, rel=1e-5)


@given(
    length=st.integers(1, 3000),
    row_nnz=st.integers(1, 9),
    eta=st.floats(1e-9, 0.9),
    codes=st.sampled_from(frames.CODES),
)
def test_required_dim_is_the_least(length, row_nnz, eta, codes):
    row_nnz = min(row_nnz, length)
    dim = frames.required_dim(length, row_nnz, 2.0, 0.1, eta, codes=codes)
    assert frames.failure_probability(dim, length, row_nnz, 2.0, 0.1, codes=codes) <= eta
    least = row_nnz + (codes == "unit" and row_nnz > 1)
    if dim > least:
        assert frames.failure_probability(dim - 1, length, row_nnz, 2.0, 0.1, codes=codes) > eta
    if codes == "tight":
        assert dim <= length


# --- Simulation --------------------------------------------------------------------------------


def off_support_logits(codes, length, dim, b, draws, rng):
    """Return the logit at the token after the support, over ||b||, for many draws of the codes."""
    C = rng.standard_normal((draws, length, dim))
    if codes == "tight":
        C = np.linalg.qr(C)[0]
    if codes == "unit":
        C /= np.linalg.norm(C, axis=2, keepdims=True)
    b = np.asarray(b)
    support = C[:, : len(b)]
    gram = support @ support.transpose(0, 2, 1)
    weights = np.linalg.solve(gram, np.broadcast_to(b, (draws, len(b)))[..., None])
    queries = (support.transpose(0, 2, 1) @ weights)[..., 0]
    logits = (C[:, len(b)] * queries).sum(axis=1)
    return logits / np.linalg.norm(b)


@pytest.mark.parametrize("codes", frames.CODES)
@pytest.mark.parametrize(
    ("dim", "length", "row_nnz"), [(5, 8, 2), (4, 9, 3), (5, 7, 5), (8, 9, 2), (12, 30, 1)]
)
def test_logits_off_the_support_follow_the_law(codes, dim, length, row_nnz):
    rng, draws = np.random.default_rng(dim), 20_000
    # For tight and Gaussian codes only ||b|| matters; for unit codes the values must be equal.
    b = np.ones(row_nnz) if codes == "unit" else np.arange(1.0, row_nnz + 1)
    logits = off_support_logits(codes, length, dim, b, draws, rng)
    for theta in (0.15, 0.5, 0.9):
        p = frames.off_support_tail(dim, length, row_nnz, theta, codes)
        for count in ((logits > theta).sum(), (logits < -theta).sum()):
            assert stats.binom.cdf(count, draws, p) > FALSE_FAILURES / 2
            assert stats.binom.sf(count - 1, draws, p) > FALSE_FAILURES / 2


@pytest.mark.parametrize("b", [[1.0, 0.4], [1.0, 1.0, 0.2], [1.0, 0.6, 0.5, 0.5]])
def test_unequal_values_leak_less_with_unit_codes(b):
    rng, draws, s = np.random.default_rng(len(b)), 20_000, len(b)
    dim = s + 2
    logits = off_support_logits("unit", s + 1, dim, b, draws, rng) * np.linalg.norm(b)
    for theta in (0.2, 0.5):
        bound = frames.off_support_tail(dim, s + 1, s, theta, "unit")
        count = (logits > theta * np.sqrt(s)).sum()
        assert stats.binom.sf(count - 1, draws, bound) > FALSE_FAILURES


# --- Errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frames.off_support_tail(0, 3, 1, 0.5), "dim"),
        (lambda: frames.off_support_tail(2, 3, 3, 0.5), "row_nnz=3: must be below length=3"),
        (lambda: frames.off_support_tail(2, 3, 1, 0.0), "theta"),
        (lambda: frames.off_support_tail(2, 3, 1, 0.5, "orthogonal"), "codes='orthogonal'"),
        (lambda: frames.log_expected_leaks(2, 3, 4, 0.5), "row_nnz=4: must be at most length=3"),
        (lambda: frames.level(2, 0.5), "max_ratio"),
        (lambda: frames.level(2, leak=0.01, logit_scale=4.0), "logit_scale"),
        (lambda: frames.level(2, leak=1.5, logit_scale=np.inf), "leak"),
        (lambda: frames.required_dim(8, 2, failure_prob=0.0), "failure_prob"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ParameterError, match=message):
        call()
