"""Theorem T5: 2k dimensions, exact ratios, and the refusal where double precision ends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jl_attention as jla
from jl_attention.moment_curve import moment_curve


@given(
    length=st.integers(3, 40),
    row_nnz=st.integers(1, 3),
    max_ratio=st.floats(1, 10),
    leak=st.floats(1e-3, 0.9),
    seed=st.integers(0, 2**32),
)
def test_two_k_dimensions_are_enough(length, row_nnz, max_ratio, leak, seed):
    target = jla.targets.row_sparse(length, row_nnz, max_ratio, rng=seed)
    built = jla.construct(target, "moment_curve", leak=leak, rng=0)
    assert built.dim == 2 * row_nnz == jla.required_dim(length, row_nnz, "moment_curve")
    report = jla.measure(built, target)
    assert report.ratio_error < 1e-5
    assert report.leak <= leak


def test_every_support_of_seven_tokens():
    # 2k + 1 tokens, the size at which one dimension less is impossible (T5, Radon).
    rng = np.random.default_rng(0)
    for k in (1, 2, 3):
        target = jla.targets.row_sparse(2 * k + 1, k, 3.0, rng=rng)
        built = jla.construct(target, "moment_curve", leak=0.1, rng=0)
        assert jla.measure(built, target).leak <= 0.1


def test_the_logits_of_a_permutation_grow_like_the_square_of_the_length():
    # k = 1: the gap over the range of 1 - cos is 1/(1 - cos(2 pi/L)), about L^2/(2 pi^2).
    for length in (16, 64, 256):
        built = jla.construct(
            jla.targets.permutation(length, rng=0), "moment_curve", leak=0.5, rng=0
        )
        queries = np.linalg.norm(built.queries, axis=1).max()
        gap = built.logit_scale
        expected = 1 / (1 - np.cos(2 * np.pi / length))
        assert queries / gap == pytest.approx(expected, rel=1e-9)


def test_smaller_rows_and_larger_dimensions_fit():
    target = jla.targets.causal_window(24, 2, 2.0, rng=0)
    for dim in (None, 5, 10):
        built = jla.construct(target, "moment_curve", leak=0.2, dim=dim, rng=0)
        assert built.dim == (dim or 4)
        assert jla.measure(built, target).leak <= 0.2


def test_rows_too_large_are_refused():
    target = jla.targets.causal_window(20, 3)
    with pytest.raises(jla.ConstructionError, match="row 2: .*dim >= 6, not dim=5"):
        jla.construct(target, "moment_curve", dim=5, rng=0)


def test_lost_digits_are_refused():
    for length, row_nnz, dtype in ((4096, 2, np.float64), (256, 2, np.float32)):
        target = jla.targets.causal_window(length, row_nnz)
        with pytest.raises(jla.ConstructionError, match=r"row \d+: .*spoils the ratios"):
            jla.construct(target, "moment_curve", dtype=dtype, rng=0)


def test_full_rows_need_no_gap():
    full = np.array([[0.2, 0.8], [0.6, 0.4]])
    B = jla.logits.target_logits(jla.check_target(full), 1.0)
    queries, keys = moment_curve(B, 4)
    report = jla.measure(queries @ keys.T, full)
    assert report.leak == 0
    assert report.ratio_error < 1e-12


def test_the_theorem_read_the_other_way():
    assert jla.failure_probability([3, 4, 5], 1000, 2, "moment_curve").tolist() == [1, 0, 0]
    assert jla.required_dim([10, 10**6], 3, "moment_curve").tolist() == [6, 6]
