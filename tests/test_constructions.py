"""Every construction meets the precision it is asked for, through the module's own formula."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import sparse_targets
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import jl_attention as jla
from jl_attention import attention
from jl_attention.constructions import interpolating_queries, row_projection, svd_projection
from jl_attention.logits import target_logits
from jl_attention.methods import METHODS, Interpolate, SVDProjection

LOOSE = {"ratio_error": 1.0, "leak": 0.5}


def patterns(length=96):
    """One target of every kind whose rows and columns are bounded."""
    return {
        "regular": jla.targets.regular(length, 2, rng=0),
        "permutation": jla.targets.permutation(length, rng=0),
        "banded": jla.targets.banded(length, 1),
        "causal_window": jla.targets.causal_window(length, 2),
        "block_diagonal": jla.targets.block_diagonal(length, 2),
    }


# --- The module's formula ------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_module_realises_the_construction(method, dtype):
    if method == "moment_curve" and dtype == np.float32:
        pytest.skip("its logits are too large for single precision")
    target = jla.targets.regular(40, 3, 2.0, rng=0)
    built = jla.construct(target, method, **LOOSE, dim=30, dtype=dtype, rng=0)
    assert built.X.dtype == built.W_Q.dtype == built.queries.dtype == dtype
    assert built.X.shape == (40, 60)
    assert built.W_Q.shape == built.W_K.shape == (60, 30)
    logits = attention.self_attention_logits(built.X, built.W_Q, built.W_K)
    tolerance = 1e-12 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(logits, built.logits(), atol=tolerance)
    M = attention.self_attention(built.X, built.W_Q, built.W_K)
    np.testing.assert_allclose(M.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(M, built.attention(), atol=tolerance)
    rows = np.array([5, 2, 39])
    np.testing.assert_allclose(built.logits(rows), built.logits()[rows], atol=tolerance)
    np.testing.assert_allclose(built.attention(slice(3, 9)), M[3:9], atol=tolerance)


def test_the_parameters_are_fixed_blocks():
    W_Q, W_K = attention.fixed_parameters(16)
    np.testing.assert_array_equal(W_Q[:16], 2 * np.eye(16))
    np.testing.assert_array_equal(W_K[16:], 2 * np.eye(16))
    assert not W_Q[16:].any()
    assert not W_K[:16].any()


def test_the_same_parameters_serve_every_target_and_method():
    parameters = set()
    for target in patterns().values():
        for method in METHODS:
            built = jla.construct(target, method, **LOOSE, dim=64, rng=0)
            parameters.add((built.W_Q.tobytes(), built.W_K.tobytes()))
    assert len(parameters) == 1


def test_module_shapes_are_checked():
    W_Q, W_K = attention.fixed_parameters(2)
    with pytest.raises(jla.ParameterError, match=r"X of shape \(3, 5\)"):
        attention.self_attention_logits(np.zeros((3, 5)), W_Q, W_K)
    with pytest.raises(jla.ParameterError, match=r"keys of shape \(4, 2\)"):
        attention.attention_input(np.zeros((3, 2)), np.zeros((4, 2)))
    with pytest.raises(jla.ParameterError, match="dim"):
        attention.fixed_parameters(0)


# --- The promised precision ----------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", patterns())
def test_the_theorems_dimension_meets_the_precision(method, kind):
    # eta = 1e-9 makes this a statistical test with that false-failure rate.
    target = patterns()[kind]
    built = jla.construct(target, method, **LOOSE, failure_prob=1e-9, rng=1)
    report = jla.measure(built, target)
    assert report.leak <= LOOSE["leak"]
    exact = method == "interpolate"
    assert report.ratio_error <= (1e-10 if exact else LOOSE["ratio_error"])


@given(target=sparse_targets(max_length=30), seed=st.integers(0, 2**32))
def test_interpolation_is_exact_on_the_support(target, seed):
    length = target.shape[0]
    built = jla.construct(target, dim=length + 20, rng=seed)
    assert jla.measure(built, target).ratio_error < 1e-9


def test_interpolation_uses_least_norm_queries():
    target = jla.targets.row_sparse(30, 4, 3.0, rng=0)
    B = target_logits(target, 10.0)
    keys = np.random.default_rng(0).standard_normal((30, 12))
    queries = interpolating_queries(B, keys)
    for i in range(30):
        support = B.indices[B.indptr[i] : B.indptr[i + 1]]
        expected = np.linalg.lstsq(keys[support], B[[i]].toarray()[0, support], rcond=None)[0]
        np.testing.assert_allclose(queries[i], expected, atol=1e-12)


def test_blocks_of_the_interpolation_do_not_matter(monkeypatch):
    target = jla.targets.vertical_slash(60, 2, 3, rng=0)
    whole = jla.construct(target, dim=40, rng=0)
    monkeypatch.setattr("jl_attention.methods.least_norm.BLOCK_BYTES", 1)
    np.testing.assert_allclose(
        jla.construct(target, dim=40, rng=0).queries, whole.queries, atol=1e-12
    )


def test_svd_projection_has_mean_b():
    # With a rotation in place of a random matrix the two factors give back B itself.
    rotation = SVDProjection("orthogonal")
    for target in (
        jla.targets.regular(24, 3, 2.0, rng=0),
        jla.targets.block_diagonal(24, 5, 2.0, rng=0),
        jla.targets.permutation(24, rng=0),
        sparse.csr_array(np.tile(np.eye(1, 24), (24, 1))),
    ):
        B = target_logits(target, 5.0)
        queries, keys = rotation.build(B, 24, 0, np.dtype(float))
        np.testing.assert_allclose(queries @ keys.array().T, B.toarray(), atol=1e-12)


@pytest.mark.parametrize("project", [svd_projection, row_projection])
def test_projected_logits_have_mean_b_and_the_stated_variance(project):
    # Entry (0, 1) off the support: mean 0 and variance ||x||^2 ||y||^2 / m. Over n independent
    # draws the mean is within 6.2 standard errors with probability 1 - 1e-9 (Chebyshev would ask
    # for more; the sum of n m products of Gaussians is normal to far below that at n m = 2e5).
    target = jla.targets.permutation(2, rng=0)
    B = target_logits(target, 3.0)
    i = int(target.indices[0] == 0)
    dim, draws = 100, 2000
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(draws):
        queries, keys = project(B, dim, rng)
        samples.append(queries[0] @ keys[i])
    variance = 3.0**2 / dim
    assert abs(np.mean(samples)) < 6.2 * np.sqrt(variance / draws)
    # The sample variance of nearly normal draws: relative error about sqrt(2/draws) = 0.032.
    assert abs(np.var(samples) / variance - 1) < 6.2 * 1.1 * np.sqrt(2 / draws)


# --- Options -------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_construction():
    target = jla.targets.regular(30, 3, rng=0)
    for method in METHODS:
        first, again = (jla.construct(target, method, **LOOSE, dim=20, rng=5) for _ in range(2))
        np.testing.assert_array_equal(first.X, again.X)
        other = jla.construct(target, method, **LOOSE, dim=20, rng=6)
        assert (first.X != other.X).any() or method == "moment_curve"


def test_retries_return_a_certified_result():
    target = jla.targets.regular(128, 2, rng=0)
    dim = jla.required_dim_for_target(target, leak=0.1, failure_prob=0.9)
    seeds = range(20)
    options = {"method": Interpolate("gaussian"), "leak": 0.1, "dim": dim}
    lucky = [jla.construct(target, **options, rng=seed, retries=200) for seed in seeds]
    assert all(jla.measure(built, target).leak <= 0.1 for built in lucky)
    unlucky = [jla.construct(target, **options, rng=seed) for seed in seeds]
    assert any(jla.measure(built, target).leak > 0.1 for built in unlucky)


def test_retries_give_up():
    target = jla.targets.regular(64, 4, rng=0)
    with pytest.raises(jla.ConstructionError, match="none of 3 draws"):
        jla.construct(target, leak=1e-3, dim=8, retries=2, rng=0)


def handmade(dtype=np.float64, scale=1.0, **asked):
    """Return a construction whose longest query has length 5 and whose longest key has 2."""
    queries = np.array([[3, 4], [0, 1]], dtype=dtype) * np.asarray(scale, dtype=dtype)
    keys = np.array([[0, 2], [1, 0]], dtype=dtype)
    settings = {"ratio_error": 0.0, "leak": 0.25} | asked
    return jla.Construction(
        queries, keys, "interpolate", failure_prob=0.01, logit_scale=5.0, **settings
    )


def test_the_allowance_of_rounding():
    # 2 (m + 2) u |q| |c| with m = 2, |q| = 5 and |c| = 2 is 80 u.
    assert handmade().allowance == pytest.approx(80 * 2.0**-53, rel=1e-12)
    assert handmade(np.float32).allowance == pytest.approx(np.expm1(80 * 2.0**-24), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_meets_is_one_rule_with_its_allowance(dtype):
    slack = 40 * float(np.finfo(dtype).eps)
    report = jla.measure(np.zeros((2, 2)), np.eye(2))
    for built, name, asked in [
        (handmade(dtype), "ratio_error", 0.0),
        (handmade(dtype), "leak", 0.25),
        (handmade(dtype, ratio_error=0.5), "ratio_error", 0.5),
        (handmade(dtype, total_variation=0.125), "total_variation", 0.125),
    ]:
        share = {"leak": asked, "ratio_error": 1 + asked, "total_variation": 1.0}[name]
        for part, expected in [(0.0, True), (0.9, True), (1.1, False), (1e3, False)]:
            found = {"ratio_error": 0.0, "leak": 0.0, "total_variation": 0.0}
            found[name] = asked + part * share * slack
            if built.total_variation is not None:  # is all that was asked
                found |= {"ratio_error": 9.0, "leak": 9.0} | {name: found[name]}
            assert built.meets(replace(report, **found)) is expected


def test_an_allowance_that_would_excuse_anything_is_none():
    report = replace(
        jla.measure(np.zeros((2, 2)), np.eye(2)), ratio_error=0.0, leak=0.0, total_variation=0.0
    )
    for scale, expected in [(1e4, True), (2.5e4, False), (1e12, False)]:
        built = handmade(np.float32, scale)
        assert built.meets(report) is expected
        assert (built.allowance <= 0.1) is expected
    assert handmade(np.float32, 1e12).allowance == np.inf


def test_a_support_larger_than_dim_is_refused():
    target = jla.targets.big_bird(20, 1, 1, 0, max_ratio=2.0, rng=0)
    with pytest.raises(jla.ConstructionError, match=r"row 0: .*dim >= 20"):
        jla.construct(target, dim=19, rng=0)


def test_dependent_codes_are_refused():
    target = jla.targets.row_sparse(10, 2, rng=0)
    B = target_logits(target, 5.0)
    keys = np.random.default_rng(0).standard_normal((10, 6))
    row = 4
    first, second = B.indices[B.indptr[row] : B.indptr[row + 1]]
    for gap in (0.0, 1e-9):
        twins = keys.copy()
        twins[second] = twins[first] * (1 + gap)
        with pytest.raises(jla.ConstructionError, match=r"row \d+: .*condition number"):
            interpolating_queries(B, twins)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "method='magic'"),
        ({"method": "svd_projection"}, "ratio_error=0.0"),
        ({"method": "row_projection", "ratio_error": 0.0}, "ratio_error=0.0"),
        ({"ratio_error": -0.1}, "ratio_error=-0.1"),
        ({"ratio_error": np.nan}, "ratio_error=nan"),
        ({"leak": 0.0}, "leak=0.0"),
        ({"leak": 1.0}, "leak=1.0"),
        ({"leak": 1j}, "leak=1j"),
        ({"dim": 0}, "dim=0"),
        ({"dim": 2.5}, "dim=2.5"),
        ({"failure_prob": 0}, "failure_prob=0"),
        ({"failure_prob": 1}, "failure_prob=1"),
        ({"logit_scale": np.inf}, "logit_scale=inf"),
        ({"logit_scale": 4.6}, r"logit_scale=4.6: must exceed log\(1/leak\)"),
        ({"retries": -1}, "retries=-1"),
        ({"dtype": np.float16}, "dtype=float16"),
        ({"dim": 10**12}, "GB"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(jla.ParameterError, match=message):
        jla.construct(jla.targets.regular(64, 4, 2.0, rng=0), **options, rng=0)


def test_a_bad_target_is_named():
    with pytest.raises(jla.TargetError, match="row 1"):
        jla.construct(np.diag([1.0, 0.5]), rng=0)


@pytest.mark.parametrize("method", METHODS)
def test_full_rows_and_single_tokens(method):
    full = np.array([[0.2, 0.8], [0.6, 0.4]])
    built = jla.construct(full, method, ratio_error=0.5, rng=0)
    assert jla.measure(built, full).leak == 0
    alone = jla.construct([[1.0]], method, ratio_error=0.5, rng=0)
    np.testing.assert_array_equal(alone.attention(), [[1.0]])
