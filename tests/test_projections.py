"""The projections: one protocol, exact structure, exact laws, and tests that notice a bug.

Every statistical threshold comes from an exact tail at a false-failure rate of 1e-9, and the tests
that rely on one are shown to fail on a wrong scale of 2% and on a repeated row.
"""

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import linalg, sparse, stats

from jl_attention.codes import projections
from jl_attention.concentration import cap_tail, chi_square_failure
from jl_attention.errors import ParameterError
from jl_attention.projections import (
    FAMILIES,
    OSNAP,
    SRHT,
    Gaussian,
    LinearMap,
    Orthogonal,
    Rademacher,
    Sparse,
)

FALSE_FAILURE = 1e-9


def dense(P):
    return P if isinstance(P, np.ndarray) else P.toarray()


def densify(X):
    return X.toarray() if sparse.issparse(X) else X


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


# --- The protocol ----------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "n"), [(20, 37), (64, 64), (8, 1000), (4, 5), (5, 5)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_map_multiplies_like_its_matrix(family, m, n, dtype):
    P = family.sample(m, n, 1, dtype)
    matrix = dense(P)
    assert P.shape == matrix.shape == (m, n)
    assert P.T.shape == (n, m)
    assert P.dtype == matrix.dtype == dtype
    rng = np.random.default_rng(2)
    X = rng.standard_normal((n, 300)).astype(dtype)
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if dtype == np.float32 else {"atol": 1e-10}
    np.testing.assert_allclose(P @ X, matrix @ X, **tolerance)
    np.testing.assert_allclose(X.T @ P.T, (matrix @ X).T, **tolerance)
    np.testing.assert_allclose(P @ X[:, 0], matrix @ X[:, 0], **tolerance)
    np.testing.assert_allclose(X[:, 0] @ P.T, matrix @ X[:, 0], **tolerance)
    assert (P @ X).dtype == dtype
    S = sparse.random_array((n, 30), density=0.3, rng=rng, dtype=dtype)
    for layout in ("csr", "csc", "coo"):
        Y = S.asformat(layout)
        np.testing.assert_allclose(densify(P @ Y), matrix @ S.toarray(), **tolerance)
        np.testing.assert_allclose(densify(Y.T @ P.T), (matrix @ S.toarray()).T, **tolerance)


def test_the_same_seed_gives_the_same_map(family):
    first, second, other = (dense(family.sample(8, 50, seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    generator = dense(family.sample(8, 50, np.random.default_rng(3)))
    np.testing.assert_array_equal(first, generator)


def test_integers_are_projected_too(family):
    X = np.arange(50 * 3).reshape(50, 3)
    P = family.sample(8, 50, 0)
    np.testing.assert_allclose(P @ X, dense(P) @ X)


@pytest.mark.parametrize("name", ["li", "count_sketch", "osnap", "srht"])
def test_the_fast_maps_never_hold_a_dense_matrix(name):
    m, n = 256, 2**17
    X = np.random.default_rng(0).standard_normal(n)
    tracemalloc.start()
    try:
        P = FAMILIES[name].sample(m, n, 0)
        assert isinstance(P, LinearMap)
        assert (P @ X).shape == (m,)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < m * n * 8 / 4


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda f: f.sample(0, 5), "dim_out"),
        (lambda f: f.sample(5, 0), "dim_in"),
        (lambda f: f.sample(5, 2.5), "dim_in"),
        (lambda f: f.sample(5, 5, dtype=np.int64), "dtype"),
    ],
)
def test_bad_sizes_are_refused(family, call, name):
    with pytest.raises(ParameterError, match=name):
        call(family)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Sparse(0.0).sample(3, 3),
        lambda: Sparse(1.5).sample(3, 3),
        lambda: OSNAP(0).sample(3, 3),
        lambda: OSNAP(4).sample(3, 8),
        lambda: SRHT().sample(9, 8),
        lambda: Orthogonal().sample(9, 8),
        lambda: OSNAP().sample(3, 8) @ np.ones(7),
        lambda: np.ones((2, 7)) @ SRHT().sample(3, 8).T,
        lambda: SRHT().sample(3, 8) @ np.ones((8, 2, 2)),
    ],
)
def test_what_a_family_cannot_do_is_refused(call):
    with pytest.raises(ParameterError):
        call()


# --- Structure that holds in every draw ------------------------------------------------------


def test_rademacher_entries():
    matrix = Rademacher().sample(64, 500, 0)
    np.testing.assert_allclose(abs(matrix), 1 / 8)
    check_binomial((matrix > 0).sum(), matrix.size, 1 / 2)


@pytest.mark.parametrize("density", [None, 1 / 3, 0.01, 1.0])
def test_sparse_entries(density):
    m, n = 64, 2500
    matrix = dense(Sparse(density).sample(m, n, 0))
    share = 1 / 50 if density is None else density
    values = matrix[matrix != 0]
    np.testing.assert_allclose(abs(values), 1 / np.sqrt(share * m))
    check_binomial((values > 0).sum(), len(values), 1 / 2)
    if share < 1:
        check_binomial(len(values), m * n, share)
        check_binomial((matrix[-1] != 0).sum(), n, share)
    else:
        assert len(values) == m * n


@pytest.mark.parametrize("s", [1, 3, 8])
def test_osnap_columns(s):
    m, n = 30, 4000
    P = OSNAP(s).sample(m, n, 0)
    matrix = dense(P)
    nonzero = matrix != 0
    np.testing.assert_allclose(abs(matrix[nonzero]), 1 / np.sqrt(s))
    edges = np.arange(s + 1) * m // s
    for start, stop in itertools.pairwise(edges):
        assert (nonzero[start:stop].sum(axis=0) == 1).all()
        for row in range(start, stop):
            check_binomial(nonzero[row].sum(), n, 1 / (stop - start), tests=m)
    check_binomial((matrix > 0).sum(), n * s, 1 / 2)


@pytest.mark.parametrize(("m", "n"), [(512, 512), (37, 256), (1, 64), (64, 1), (100, 100)])
def test_srht_is_a_signed_subsample_of_the_hadamard_matrix(m, n):
    P = SRHT().sample(m, n, 0) if n > 1 else SRHT().sample(1, 1, 0)
    m = P.shape[0]
    padded = 1 << (n - 1).bit_length()
    matrix = dense(P)
    np.testing.assert_allclose(abs(matrix), 1 / np.sqrt(m))
    kept = linalg.hadamard(padded)[P.rows][:, :n]
    signs = matrix * kept
    np.testing.assert_allclose(signs, np.broadcast_to(signs[0], signs.shape))
    assert len(set(P.rows)) == m
    if n == padded:
        np.testing.assert_allclose(matrix @ matrix.T, n / m * np.eye(m), atol=1e-12)


def test_srht_keeps_every_row_equally_often_and_flips_every_sign():
    draws, m, n = 2000, 5, 16
    rows, flips = np.zeros(n, dtype=int), np.zeros(n, dtype=int)
    rng = np.random.default_rng(0)
    for _ in range(draws):
        P = SRHT().sample(m, n, rng)
        rows[P.rows] += 1
        flips += (dense(P) * linalg.hadamard(n)[P.rows])[0] < 0
    for row in range(n):
        check_binomial(rows[row], draws, m / n, tests=2 * n)
        check_binomial(flips[row], draws, 1 / 2, tests=2 * n)


def test_orthogonal_rows_are_orthonormal_up_to_scale():
    matrix = Orthogonal().sample(20, 50, 0)
    np.testing.assert_allclose(matrix @ matrix.T, 2.5 * np.eye(20), atol=1e-12)
    square = Orthogonal().sample(50, 50, 0)
    np.testing.assert_allclose(square.T @ square, np.eye(50), atol=1e-12)


@pytest.mark.parametrize("name", ["rademacher", "count_sketch", "osnap", "srht"])
def test_a_unit_vector_keeps_its_length_exactly(name):
    P = FAMILIES[name].sample(16, 128, 0)
    np.testing.assert_allclose(np.linalg.norm(dense(P), axis=0), 1)


def check_binomial(count, trials, probability, tests=1):
    """Fail when a binomial count is in a two-sided tail of probability 1e-9 over all `tests`."""
    law = stats.binom(trials, probability)
    tail = FALSE_FAILURE / (2 * tests)
    assert law.isf(1 - tail) - 1 <= count <= law.isf(tail) + 1


# --- Laws, and their power on planted bugs ---------------------------------------------------

DRAWS, DIM, SIZE = 1200, 256, 32


def scale_is_right(sample):
    """Check the sum of chi-squares m ||Px||^2 over draws against its exact two-sided tail."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal(SIZE)
    x /= np.linalg.norm(x)
    mean = np.mean([np.sum((sample(DIM, SIZE, rng) @ x) ** 2) for _ in range(DRAWS)])
    return chi_square_failure(DRAWS * DIM, abs(mean - 1)) >= FALSE_FAILURE


def rows_are_independent(sample):
    """Check the largest |cosine| between two rows against the exact cap tail, over all pairs."""
    m, n = 40, 400
    matrix = sample(m, n, np.random.default_rng(8))
    matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    cosine = min(abs(matrix @ matrix.T - np.eye(m)).max(), 1.0)
    return m * (m - 1) / 2 * 2 * cap_tail(n, cosine) >= FALSE_FAILURE


def law_is_right(sample, law):
    """Check ||Px||^2 over draws against its law by the exact Kolmogorov-Smirnov tail."""
    rng = np.random.default_rng(9)
    x = rng.standard_normal(SIZE)
    x /= np.linalg.norm(x)
    m = SIZE // 4
    lengths = [np.sum((sample(m, SIZE, rng) @ x) ** 2) for _ in range(4000)]
    distance = stats.ks_1samp(lengths, law(m).cdf).statistic
    return distance <= stats.kstwo.isf(FALSE_FAILURE, len(lengths))


def chi_square_law(m):
    return stats.chi2(m, scale=1 / m)


def beta_law(m):
    return stats.beta(m / 2, (SIZE - m) / 2, scale=SIZE / m)


def test_gaussian_scale():
    assert scale_is_right(Gaussian().sample)
    assert not scale_is_right(lambda *args: 1.02 * Gaussian().sample(*args))
    assert not scale_is_right(lambda *args: Gaussian().sample(*args) / 1.02)


def test_gaussian_rows_are_independent():
    def repeated(m, n, rng):
        matrix = Gaussian().sample(m, n, rng)
        matrix[3] = matrix[1]
        return matrix

    assert rows_are_independent(Gaussian().sample)
    assert not rows_are_independent(repeated)


def test_gaussian_and_orthogonal_laws():
    assert law_is_right(Gaussian().sample, chi_square_law)
    assert law_is_right(Orthogonal().sample, beta_law)
    # The two laws differ enough for the test to tell them apart.
    assert not law_is_right(Orthogonal().sample, chi_square_law)
    assert not law_is_right(Gaussian().sample, beta_law)


def test_orthogonal_is_uniform_in_sign(monkeypatch):
    # A LAPACK may choose the signs of its factor; here one that makes the first row positive.
    qr = np.linalg.qr

    def one_sided(matrix):
        columns, triangle = qr(matrix)
        signs = np.sign(columns[0])
        return columns * signs, triangle * signs[:, None]

    monkeypatch.setattr(np.linalg, "qr", one_sided)
    raw = one_sided(np.random.default_rng(0).standard_normal((4, 2)))[0]
    assert (raw[0] > 0).all()
    first = [Orthogonal().sample(2, 4, seed)[0, 0] > 0 for seed in range(400)]
    check_binomial(sum(first), 400, 1 / 2)


def test_bernoulli_positions_cover_the_whole_range():
    rng = np.random.default_rng(0)
    ends = [projections._bernoulli_positions(rng, 10, 0.5) for _ in range(2000)]
    check_binomial(sum(9 in positions for positions in ends), 2000, 1 / 2)
    check_binomial(sum(map(len, ends)), 20_000, 1 / 2)
    assert all((np.diff(positions) > 0).all() for positions in ends)
