"""How long max-margin queries must be: the prediction against solved rows, the bounds too."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special
from scipy.optimize import nnls

import jl_attention as jla
from jl_attention.errors import ParameterError, TargetError
from jl_attention.theory import absorption, margin_bounds


def shortest_query(keys, support):
    """Return the shortest q with equal logits on `support` and lower by 1 or more elsewhere."""
    first, *others = support
    edges = keys[others] - keys[first]
    off = np.delete(keys, support, axis=0)
    rows = np.vstack([keys[first] - off, edges, -edges])
    wanted = np.append(np.ones(len(off)), np.zeros(2 * len(edges)))
    # Lawson and Hanson: least distance as nonnegative least squares on [rows^T; wanted^T].
    goal = np.append(np.zeros(keys.shape[1]), 1.0)
    system = np.vstack([rows.T, wanted])
    residual = system @ nnls(system, goal)[0] - goal
    return -residual[:-1] / residual[-1]


# --- The prediction ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dim", "a"), [(2, 0.3), (3, 1.0), (5, -0.7), (40, 2.0), (40, -3.0), (9, 4)]
)
def test_excess_on_the_sphere(dim, a):
    constant = 1 / special.beta((dim - 1) / 2, 0.5)

    def moment(power):
        def integrand(phi):  # u = cos(phi)
            rise = max(math.sqrt(dim) * math.cos(phi) - a, 0.0)
            return constant * math.sin(phi) ** (dim - 2) * rise**power

        edge = math.acos(np.clip(a / math.sqrt(dim), -1, 1))
        return integrate.quad(integrand, 0, edge, epsabs=1e-13)[0]

    actual = margin_bounds._sphere_excess(dim, a)
    np.testing.assert_allclose(actual, [moment(1), moment(2)], rtol=1e-8, atol=1e-12)


def test_excess_of_a_normal_variable():
    np.testing.assert_allclose(margin_bounds._normal_excess(0.0), [1 / math.sqrt(2 * math.pi), 0.5])
    for a in (-2.0, 0.5, 3.0):
        far = margin_bounds._sphere_excess(10**7, a)
        np.testing.assert_allclose(margin_bounds._normal_excess(a), far, rtol=1e-5)


def test_predicted_lengths():
    predicted = margin_bounds.predicted_scale_ratio([40, 64, 64], 1024, [4, 4, 8])
    np.testing.assert_allclose(predicted, [7.9151, 4.5573, 12.7653], rtol=1e-4)
    predicted = margin_bounds.predicted_scale_ratio([64, 96], 4096, 4)
    np.testing.assert_allclose(predicted, [6.1959, 4.3029], rtol=1e-4)
    # kappa* is a maximum.
    best = margin_bounds.gordon_margin(64, 1024, 4)
    a = np.linspace(1, 4, 3001)
    room = 61 - 1020 * np.array([margin_bounds._normal_excess(x)[1] for x in a])
    by_hand = np.sqrt(np.maximum(room, 0) / 4) - a
    assert best == pytest.approx(by_hand.max(), abs=1e-5)


@pytest.mark.parametrize(
    ("dim", "length", "row_nnz", "codes"),
    [
        (40, 256, 4, "gaussian"),
        (40, 256, 4, "unit"),
        (24, 256, 2, "gaussian"),
        (96, 256, 8, "unit"),
    ],
)
def test_predicted_lengths_are_those_of_solved_rows(dim, length, row_nnz, codes):
    rng, margins = np.random.default_rng(1), []
    for _ in range(200):  # the mean's standard error is about 2%
        keys = rng.standard_normal((length, dim))
        if codes == "unit":
            keys *= np.sqrt(dim) / np.linalg.norm(keys, axis=1, keepdims=True)
        margins.append(1 / np.linalg.norm(shortest_query(keys, list(range(row_nnz)))))
    predicted = margin_bounds.gordon_margin(dim, length, row_nnz, codes)
    assert np.mean(margins) == pytest.approx(predicted, rel=0.1)


@given(length=st.integers(30, 10**5), row_nnz=st.integers(1, 20))
def test_a_margin_is_predicted_where_half_of_the_rows_have_a_query(length, row_nnz):
    threshold = absorption.threshold_dim(length, row_nnz)
    dims = np.array([math.floor(threshold), math.ceil(threshold + 1e-9)])
    below, above = margin_bounds.gordon_margin(np.maximum(dims, 1), length, row_nnz)
    assert below <= 1e-6
    assert above >= -1e-6
    ratio = margin_bounds.predicted_scale_ratio(row_nnz, length + 10**6, row_nnz)
    assert ratio == np.inf


# --- Bounds on the scale -----------------------------------------------------------------------


@pytest.mark.parametrize(("length", "row_nnz"), [(4, 1), (6, 2), (7, 3), (9, 8)])
def test_a_simplex_reaches_the_bound(length, row_nnz):
    keys = np.eye(length) - 1 / length
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    query = shortest_query(keys, list(range(row_nnz)))
    bound = margin_bounds.simplex_scale_ratio(length, row_nnz)
    assert np.linalg.norm(query) == pytest.approx(bound, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_no_keys_do_better_than_a_simplex(seed):
    keys = np.random.default_rng(seed).standard_normal((7, 6))
    lengths = [np.linalg.norm(shortest_query(keys, list(s))) for s in combinations(range(7), 2)]
    scale = max(lengths) * np.linalg.norm(keys, axis=1).max()
    assert scale > margin_bounds.simplex_scale_ratio(7, 2)


def test_the_spectral_bound_of_known_patterns():
    bound = margin_bounds.spectral_scale_ratio
    assert bound(np.eye(8)) == pytest.approx(7 / 8, rel=1e-12)
    assert bound(np.full((5, 5), 0.2)) == 0
    assert bound(np.eye(200)) == pytest.approx(199 / 200, rel=1e-9)
    blocks = np.kron(np.eye(30), np.full((4, 4), 0.25))
    assert bound(blocks) == pytest.approx(1 - 4 / 120, rel=1e-9)
    # One token that all attend to, itself included: the norm is that of the column.
    column = np.zeros((6, 6))
    column[:, 0] = 1
    norm = np.linalg.norm(column - 1 / 6, 2)
    assert bound(column) == pytest.approx((5 / 6) / norm, rel=1e-12)
    spread = jla.targets.row_sparse(150, 4, rng=0)
    norm = np.linalg.norm(spread.toarray() - 1 / 150, 2)
    assert bound(spread) == pytest.approx((1 - 4 / 150) / norm, rel=1e-9)


@pytest.mark.parametrize("max_ratio", [1.0, 5.0])
def test_no_construction_beats_the_spectral_bound(max_ratio):
    for length, row_nnz in ((24, 1), (40, 3)):
        A = jla.targets.row_sparse(length, row_nnz, max_ratio=max_ratio, rng=1)
        built = jla.construct(A, leak=0.1, dim=length, rng=0)
        gap = -math.log(jla.measure(built, A).leak)
        norms = [np.linalg.norm(x, axis=1).max() for x in (built.queries, built.keys)]
        assert np.prod(norms) / gap >= margin_bounds.spectral_scale_ratio(A)


# --- Bounds on the dimension -------------------------------------------------------------------


def test_fixed_keys_by_exact_counting():
    length, k, rho = 1024, 8, 12.8
    best = 0.0
    for d in range(1, k + 1):
        near = sum(math.comb(k, i) * math.comb(length - k, i) for i in range(d))
        for e in np.geomspace(1e-3, 1e3, 400):
            counted = math.log(math.comb(length, k)) - math.log(near) - math.log((1 + e) / e)
            best = max(best, counted / math.log(1 + 2 * math.sqrt((1 + e) * k) * rho / d))
    assert margin_bounds.fixed_keys_dim(length, k, rho) == math.ceil(best)
    assert margin_bounds._fixed_keys_bound(length, k, rho) == pytest.approx(best, rel=1e-3)


@given(length=st.integers(2, 3000), row_nnz=st.integers(1, 200), longer=st.floats(1, 1e4))
def test_fixed_keys_ask_for_less_than_a_simplex_has(length, row_nnz, longer):
    row_nnz = min(row_nnz, length - 1)
    scale = margin_bounds.simplex_scale_ratio(length, row_nnz)
    dim, cheaper = margin_bounds.fixed_keys_dim(length, row_nnz, [scale, longer * scale])
    assert 0 <= cheaper <= dim <= length - 1


def test_fixed_keys_lose_no_factor_log_k():
    # At R/Delta = 2 sqrt(k) the bound over k ln(L/k) stays away from 0 as k grows.
    k = 4 ** np.arange(2, 8)
    length = 2**30
    order = k * np.log(length / k)
    share = margin_bounds.fixed_keys_dim(length, k, 2 * np.sqrt(k)) / order
    assert share.min() > 0.2


# --- Errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: margin_bounds.gordon_margin(0, 5, 1), "dim"),
        (lambda: margin_bounds.gordon_margin(3, 5, 5), "row_nnz=5: must be below length=5"),
        (lambda: margin_bounds.gordon_margin(3, 5, 1, "tight"), "codes='tight'"),
        (lambda: margin_bounds.simplex_scale_ratio(5, 5), "row_nnz=5"),
        (lambda: margin_bounds.spectral_scale_ratio(np.eye(1)), "two tokens"),
        (lambda: margin_bounds.fixed_keys_dim(5, 5, 1.0), "row_nnz=5"),
        (lambda: margin_bounds.fixed_keys_dim(5, 2, 0.0), "scale_ratio"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ParameterError, match=message):
        call()


def test_bad_targets_are_refused():
    with pytest.raises(TargetError):
        margin_bounds.spectral_scale_ratio(-np.eye(3))
