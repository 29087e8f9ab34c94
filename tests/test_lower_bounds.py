"""Necessary dimensions: values, monotonicity, and Radon's obstruction found by linear programs."""

from itertools import combinations
from math import comb, log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import linprog

import jl_attention as jla
from jl_attention.codes import MomentCurveCodes
from jl_attention.constructions import METHODS
from jl_attention.methods.margin_solver import shortest_queries

lengths = st.integers(1, 10**6)


@pytest.mark.parametrize(
    ("length", "row_nnz", "dim"),
    [(1, 1, 0), (2, 2, 0), (3, 1, 2), (14, 3, 2), (15, 3, 4), (62, 9, 4), (63, 9, 6), (63, 2, 4)],
)
def test_radon_values(length, row_nnz, dim):
    assert jla.necessary_dim(length, row_nnz) == dim


def test_radon_is_exact_at_every_power_of_four():
    for k in range(1, 31):
        assert jla.necessary_dim([4**k - 2, 4**k - 1], min(k, 4**k - 2)).tolist() == [
            2 * (k - 1) if k > 1 else 0,
            2 * k,
        ]


def test_packing_and_bits_at_a_known_size():
    # k = 4, L = 1024 and the logit scales of interpolation at tau = 3 log(1/eps2).
    assert jla.necessary_dim(1024, 4, "bits", bits=16) == np.ceil(log2(comb(1024, 4)) / 16)
    ratio = 9.0
    by_hand = np.log(comb(1024, 4))
    packing = jla.necessary_dim(1024, 4, "packing", scale_ratio=ratio)
    assert packing == np.ceil(by_hand / (np.log(1 + 8 * ratio) + np.log(1 + 4 * ratio)))
    fixed = jla.necessary_dim(1024, 4, "packing", scale_ratio=ratio, fixed_keys=True)
    assert fixed == np.ceil(by_hand / np.log(1 + ratio))


def test_warren_at_known_sizes():
    # Towards k/2 as L grows.
    dims = [jla.necessary_dim(2**40, k, "warren") for k in (1, 4, 16, 64)]
    assert dims == [1, 2, 8, 29]
    length, k = 1024, 16
    log_factorial = sum(np.log(np.arange(1, length + 1)))
    patterns = k * log_factorial + length * sum(np.log1p(-i / length) for i in range(k))
    patterns -= length * sum(np.log(np.arange(1, k + 1)))

    def polynomials(m):
        return length * np.log(2) + 2 * m * length * np.log(4 * np.e * length / m)

    dim = jla.necessary_dim(length, k, "warren")
    assert polynomials(dim - 1) < patterns <= polynomials(dim)
    assert jla.necessary_dim([5, 9, 1], [5, 8, 1], "warren").tolist() == [0, 0, 0]


@given(
    length=lengths, row_nnz=st.integers(1, 100), scale=st.floats(1, 1e6), bits=st.integers(1, 64)
)
def test_bounds_move_the_right_way(length, row_nnz, scale, bits):
    row_nnz = min(row_nnz, length)
    longer = length + 1 + length // 3
    for bound, options in (
        ("radon", {}),
        ("warren", {}) if row_nnz < length / 2 else ("radon", {}),
        ("packing", {"scale_ratio": scale}),
        ("packing", {"scale_ratio": scale, "fixed_keys": True}),
        ("bits", {"bits": bits}),
    ):
        here, there = jla.necessary_dim([length, longer], row_nnz, bound, **options)
        assert 0 <= here <= there
    easier = jla.necessary_dim(length, row_nnz, "packing", scale_ratio=2 * scale)
    assert easier <= jla.necessary_dim(length, row_nnz, "packing", scale_ratio=scale)
    cheaper = jla.necessary_dim(length, row_nnz, "bits", bits=bits + 1)
    assert cheaper <= jla.necessary_dim(length, row_nnz, "bits", bits=bits)


@pytest.mark.parametrize("method", METHODS)
@given(length=lengths, row_nnz=st.integers(1, 30), leak=st.floats(1e-6, 0.5))
def test_no_theorem_promises_less_than_is_necessary(method, length, row_nnz, leak):
    row_nnz = min(row_nnz, length)
    enough = jla.required_dim(length, row_nnz, method, ratio_error=1.0, leak=leak)
    assert enough >= jla.necessary_dim(length, row_nnz)


@pytest.mark.parametrize("method", METHODS)
def test_no_construction_goes_below_what_is_necessary(method):
    # One target may need less than the hardest; what a method promises for all may not.
    for length, row_nnz in ((20, 1), (40, 2), (70, 3)):
        target = jla.targets.row_sparse(length, row_nnz, rng=0)
        built = jla.construct(target, method, ratio_error=1.0, leak=0.3, rng=0)
        assert jla.measure(built, target).leak <= 0.3
        assert built.dim >= jla.necessary_dim(length, row_nnz)


@pytest.mark.parametrize("method", ["svd_projection", "row_projection", "interpolate"])
def test_less_leak_needs_no_fewer_dimensions(method):
    # For gamma > 1; with equal weights interpolation does not depend on the leak at all.
    dims = [
        jla.required_dim(
            4096, 4, method, 3.0, 0.2, leak, logit_scale=20.0 if method == "interpolate" else None
        )
        for leak in (0.5, 0.1, 0.01, 1e-4)
    ]
    assert dims == sorted(dims)


# --- Radon's obstruction, found by a linear program ----------------------------------------------


def separable(keys, support):
    """Return whether some query has logits on the support above all others."""
    off = [j for j in range(len(keys)) if j not in support]
    rows = [keys[j0] - keys[j] for j in support for j0 in off]
    # <q, c_j0 - c_j> <= -1 for all j in S, j0 not in S.
    program = linprog(
        np.zeros(keys.shape[1]), A_ub=rows, b_ub=-np.ones(len(rows)), bounds=(None, None)
    )
    return program.status == 0


def every_support(length, k):
    """Return all supports of at most k of some tokens, and target logits that want each alone."""
    supports = [set(s) for size in range(1, k + 1) for s in combinations(range(length), size)]
    wanted = np.array([[float(j in support) for j in range(length)] for support in supports])
    return supports, sparse.csr_array(wanted)


def found(wanted, keys):
    """Return whether the package finds a query for each support."""
    return np.isin(np.arange(wanted.shape[0]), shortest_queries(wanted, keys, 1.0).found)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_below_two_k_some_support_cannot_be_had(k, seed):
    supports, wanted = every_support(2 * k + 1, k)
    assert len(supports) == 4**k - 1
    dim = jla.necessary_dim(len(supports), k) - 1
    assert dim == 2 * k - 1
    keys = np.random.default_rng(seed).standard_normal((2 * k + 1, dim))
    cannot = [support for support in supports if not separable(keys, support)]
    assert cannot
    # Equal logits on the support are more than a gap: what has no gap has no query either.
    assert not found(wanted, keys)[[supports.index(support) for support in cannot]].any()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_with_two_k_every_support_can_be_had(k):
    # The package's own keys: a cyclic polytope, neighbourly (Gale 1963).
    length = 2 * k + 3
    dim = jla.required_dim(length, k, "moment_curve")
    assert dim == jla.necessary_dim(4**k - 1, k) == 2 * k
    keys = MomentCurveCodes(length, dim, k, np.dtype(np.float64)).array()
    supports, wanted = every_support(length, k)
    assert all(separable(keys, support) for support in supports)
    assert found(wanted, keys).all()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 1), {}, "length"),
        ((3, 4), {}, "row_nnz"),
        ((3, 1, "guess"), {}, "bound='guess'"),
        ((3, 1, "packing"), {}, "scale_ratio=None"),
        ((3, 1, "packing"), {"scale_ratio": 0.0}, "scale_ratio"),
        ((3, 1, "packing"), {"scale_ratio": 0.5, "fixed_keys": True}, "scale_ratio"),
        ((3, 1, "bits"), {"bits": 0}, "bits"),
    ],
)
def test_bad_arguments_are_named(arguments, options, message):
    with pytest.raises(jla.ParameterError, match=message):
        jla.necessary_dim(*arguments, **options)
