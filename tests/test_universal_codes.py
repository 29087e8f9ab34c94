"""Theorem T4: codes of small coherence serve every sparse target, chosen by whomever."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import jl_attention as jla
from jl_attention.codes import coherence, unit_codes, universal_leak, welch_bound
from jl_attention.concentration import student_tail
from jl_attention.constructions import interpolating_queries
from jl_attention.dimensions import universal_dim
from jl_attention.theory import frames


def simplex(dim):
    """Return the dim + 1 vertices of a regular simplex on the unit sphere of R^dim."""
    centred = np.eye(dim + 1) - 1 / (dim + 1)
    left, sigma, _ = np.linalg.svd(centred)
    vertices = (left * sigma)[:, :dim]
    return vertices / np.linalg.norm(vertices, axis=1, keepdims=True)


def test_coherence_and_welch_bound_of_known_codes():
    assert coherence(np.eye(5)) == 0
    assert welch_bound(5, 5) == 0
    for dim in (2, 3, 7):
        assert coherence(simplex(dim)) == pytest.approx(1 / dim)
        assert welch_bound(dim + 1, dim) == pytest.approx(1 / dim)
    twins = np.array([[1.0, 2.0], [-0.5, -1.0], [1.0, 0.0]])
    assert coherence(twins) == pytest.approx(1)


@given(length=st.integers(2, 40), dim=st.integers(1, 20), seed=st.integers(0, 2**32))
def test_coherence_is_between_welch_and_one(length, dim, seed):
    codes = unit_codes(length, dim, rng=seed)
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1)
    gram = np.abs(codes @ codes.T)
    np.fill_diagonal(gram, 0)
    # Blocks of one row and a positive scaling change nothing.
    scaled = codes * np.random.default_rng(seed).uniform(0.1, 9, (length, 1))
    assert coherence(scaled, block_bytes=1) == pytest.approx(gram.max())
    assert welch_bound(length, dim) <= gram.max() + 1e-12 <= 1 + 1e-11


def all_supports(length, row_nnz):
    """Return every support of size `row_nnz` as rows of a (n, row_nnz) array."""
    return np.array(list(itertools.combinations(range(length), row_nnz)))


@pytest.mark.parametrize("row_nnz", [1, 2, 3])
@pytest.mark.parametrize("max_ratio", [1.0, 5.0])
def test_every_support_meets_the_promised_leak(row_nnz, max_ratio):
    length, tau = 14, 20.0
    rng = np.random.default_rng(0)
    codes = next(
        codes
        for codes in (unit_codes(length, 200, rng=rng) for _ in range(1000))
        if coherence(codes) < 0.9 / (2 * row_nnz - 1)
    )
    promised = universal_leak(coherence(codes), row_nnz, tau, max_ratio)
    supports = all_supports(length, row_nnz)
    worst = 0.0
    # Weights at the corners of [1, gamma]^k, with at least one entry 1, are the extreme ones.
    for corner in itertools.product([0.0, np.log(max_ratio)], repeat=row_nnz):
        if min(corner) > 0:
            continue
        values = np.tile(tau + np.array(corner), (len(supports), 1))
        B = sparse.csr_array(
            (values.ravel(), supports.ravel(), np.arange(len(supports) + 1) * row_nnz),
            shape=(len(supports), length),
        )
        logits = interpolating_queries(B, codes) @ codes.T
        np.put_along_axis(logits, supports, -np.inf, axis=1)
        worst = max(worst, np.exp(logits.max() - tau))
    assert worst <= promised
    if row_nnz == 1:  # attained, but for the sign of the inner product
        largest = (codes @ codes.T - 2 * np.eye(length)).max()
        assert worst == pytest.approx(np.exp(largest * tau - tau), rel=1e-9)


def test_the_promise_is_attained():
    # Codes with products -mu on the support and +mu between it and the last token.
    mu, row_nnz, tau = 0.1, 3, 10.0
    gram = np.full((4, 4), -mu) + (1 + mu) * np.eye(4)
    gram[3, :3] = gram[:3, 3] = mu
    codes = np.linalg.cholesky(gram)
    B = sparse.csr_array(np.array([[tau] * row_nnz + [0]]))
    logit = (interpolating_queries(B, codes) @ codes.T)[0, 3]
    assert coherence(codes) == pytest.approx(mu)
    assert np.exp(logit - tau) == pytest.approx(universal_leak(mu, row_nnz, tau))


def test_universal_dimension_keeps_its_promise_for_all_supports():
    # eta = 1e-9: a statistical test with that false-failure rate.
    length, row_nnz, leak = 16, 2, 0.1
    dim = universal_dim(length, row_nnz, 3.0, leak=leak, failure_prob=1e-9, route="coherence")
    codes = unit_codes(length, dim, rng=0)
    assert universal_leak(coherence(codes), row_nnz, 3 * np.log(10), 3.0) <= leak
    half = unit_codes(length, dim // 4, rng=0)
    assert coherence(half) > coherence(codes)


def test_known_universal_dimensions():
    # The closed form in the limit of large tau, by hand, and its simpler upper bound.
    for length, row_nnz, eta in ((1024, 2, 0.5), (4096, 4, 0.01)):
        squared = (2 * row_nnz - 1) ** -2
        m = 1 + 2 * np.log(length * (length - 1) / (2 * eta)) / -np.log1p(-squared)
        closed = universal_dim(
            length, row_nnz, failure_prob=eta, logit_scale=np.inf, bound="closed_form",
            route="coherence",
        )  # fmt: skip
        assert closed == np.ceil(m)
        assert closed <= 2 + 4 * (2 * row_nnz - 1) ** 2 * np.log(length / np.sqrt(2 * eta))
        sharp = universal_dim(
            length, row_nnz, failure_prob=eta, logit_scale=np.inf, route="coherence"
        )
        assert sharp <= closed
    assert universal_dim(1000, 1, logit_scale=np.inf, route="coherence") == 2


def test_the_supports_route_sums_every_support_and_corner():
    length, leak, gamma = 30, 0.1, 5.0
    tau = 3 * np.log(1 / leak)
    beta = tau + np.log(gamma)

    def failure(dim):
        total = 0.0
        for size in (1, 2, 3):
            for corner in itertools.product((tau, beta), repeat=size):
                if tau in corner:
                    tail = student_tail(
                        dim - size + 1, 2 * np.log(1 / leak) / np.linalg.norm(corner)
                    )
                    total += math.comb(length, size) * (length - size) * tail
        return total

    dim = universal_dim(length, 3, gamma, leak=leak, failure_prob=0.2)
    assert failure(dim) <= 0.2 < failure(dim - 1)
    assert dim <= universal_dim(length, 3, gamma, leak=leak, failure_prob=0.2, bound="closed_form")


def test_tight_codes_serve_every_support_below_the_length():
    dims = universal_dim(1024, [1, 2, 4, 8], codes="tight")
    assert dims.tolist() == [81, 185, 404, 709]
    length, k = 40, 2
    dim = universal_dim(length, k, leak=0.1, codes="tight")
    assert dim < length < universal_dim(length, k, leak=0.1)
    for m, fails in ((dim, False), (dim - 1, True)):
        total = 0.0
        for s in (1, 2):
            tail = frames.off_support_tail(m, length, s, (2 / 3) / math.sqrt(s), "tight")
            total += math.comb(length, s) * (length - s) * tail
        assert (total > 0.01) == fails
    assert universal_dim([1, 2, 5], [1, 2, 5], codes="tight").tolist() == [1, 2, 5]


def test_the_supports_route_keeps_its_promise_for_all_supports():
    # eta = 1e-9. The weights inside the box are covered by its corners.
    length, leak, gamma = 16, 0.1, 6.0
    tau = 3 * np.log(1 / leak)
    dim = universal_dim(length, 2, gamma, leak=leak, failure_prob=1e-9)
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((length, dim))
    supports = all_supports(length, 2)
    for logs in [(0, 0), (0, 1), (1, 0), *rng.random((20, 2)) * [[0, 1]]]:
        values = np.tile(tau + np.log(gamma) * np.array(logs), (len(supports), 1))
        B = sparse.csr_array(
            (values.ravel(), supports.ravel(), np.arange(len(supports) + 1) * 2),
            shape=(len(supports), length),
        )
        logits = interpolating_queries(B, keys) @ keys.T
        np.put_along_axis(logits, supports, -np.inf, axis=1)
        assert np.exp(logits.max() - tau) <= leak


@pytest.mark.parametrize("route", ["supports", "coherence"])
def test_universal_dimension_falls_with_tau_and_exceeds_interpolation(route):
    scales = (6, 14, 50, 1e6, np.inf)
    dims = [universal_dim(1024, 3, 2.0, logit_scale=tau, route=route) for tau in scales]
    assert (np.diff(dims) <= 0).all()
    assert dims[-2] == pytest.approx(dims[-1], rel=1e-3)
    ks = np.arange(2, 10)
    assert (universal_dim(4096, ks, route=route) > jla.required_dim(4096, ks)).all()
    assert universal_dim([100, 1000], 2, route=route).dtype == np.int64
    assert universal_dim([[4], [9]], [1, 2], route=route).shape == (2, 2)


def test_counting_supports_beats_coherence():
    ks = np.arange(2, 9)
    by_supports, by_coherence = (
        universal_dim(1024, ks, route=route) for route in ("supports", "coherence")
    )
    assert (by_supports < 0.7 * by_coherence).all()
    assert universal_dim(1024, 1) == jla.required_dim(1024, 1)
    assert universal_dim(1, 1) == 1


def test_a_target_chosen_after_the_codes_breaks_random_ones_only():
    # The support of row 0 is the two codes closest to code j0, for the worst j0.
    def worst_leak(dim):
        codes = unit_codes(256, dim, rng=1)
        gram = codes @ codes.T
        np.fill_diagonal(gram, 0)
        nearest = np.argsort(gram, axis=1)[:, -2:]
        values = np.full(nearest.size, 3 * np.log(100))
        B = sparse.csr_array((values, nearest.ravel(), np.arange(257) * 2), shape=(256, 256))
        logits = np.einsum("im,im->i", interpolating_queries(B, codes), codes)
        return np.exp(logits.max() - values[0])

    independent = jla.required_dim(256, 2, failure_prob=1e-9)
    universal = universal_dim(256, 2, failure_prob=1e-9, route="coherence")
    assert worst_leak(independent // 3) > 0.01
    assert worst_leak(universal) <= 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coherence(np.ones((1, 3))), "L >= 2"),
        (lambda: coherence(np.array([[1.0, 0.0], [0.0, 0.0]])), "row 1: is zero"),
        (lambda: coherence(np.array([[1.0, np.nan], [0.0, 1.0]])), "row 0: is zero or not finite"),
        (lambda: welch_bound(1, 3), "length"),
        (lambda: universal_leak(0.2, 3, 5.0), r"coherence=0.2: must be below .* 0.2"),
        (lambda: universal_leak(0.1, 0, 5.0), "row_nnz"),
        (lambda: universal_dim(10, 11), "row_nnz"),
        (lambda: universal_dim(10, 2, logit_scale=1.0), "logit_scale"),
        (lambda: universal_dim(10, 2, bound="tight"), "bound"),
        (lambda: universal_dim(10, 2, route="scenic"), "route"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(jla.ParameterError, match=message):
        call()
