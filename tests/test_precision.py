"""`measure` against a naive dense computation of the definitions."""

import itertools
import tracemalloc
from unittest import mock

import numpy as np
import pytest
from conftest import sparse_targets
from hypothesis import given
from hypothesis import strategies as st

import jl_attention as jla
from jl_attention import attention
from jl_attention.search import Factors


def naive(logits, target):
    """Ratio error, leak and total variation straight from their definitions."""
    dense = target.toarray()
    weights = np.exp(logits)
    M = weights / weights.sum(axis=1, keepdims=True)
    ratio_error = leak = 0.0
    for i in range(len(dense)):
        support = np.nonzero(dense[i])[0]
        for j, other in itertools.product(support, support):
            ratio = (M[i, j] / M[i, other]) / (dense[i, j] / dense[i, other])
            ratio_error = max(ratio_error, abs(ratio - 1))
        for j, off in itertools.product(support, np.nonzero(dense[i] == 0)[0]):
            leak = max(leak, M[i, off] / M[i, j])
    return ratio_error, leak, 0.5 * np.abs(M - dense).sum(axis=1).max()


@given(target=sparse_targets(), seed=st.integers(0, 2**32), scale=st.floats(0, 8))
def test_measure_agrees_with_the_definitions(target, seed, scale):
    length = target.shape[0]
    logits = scale * np.random.default_rng(seed).standard_normal((length, length))
    report = jla.measure(logits, target)
    found = report.ratio_error, report.leak, report.total_variation
    np.testing.assert_allclose(found, naive(logits, target), rtol=1e-10, atol=1e-10)
    assert report.max_abs_logit == np.abs(logits).max()
    np.testing.assert_allclose(report.logit_spread, np.ptp(logits, axis=1).max(), rtol=1e-15)


@given(target=sparse_targets(), seed=st.integers(0, 2**32))
@pytest.mark.parametrize("columns", [1, 2, 5])
def test_blocks_do_not_change_the_report(columns, target, seed):
    length = target.shape[0]
    logits = np.random.default_rng(seed).standard_normal((length, length))
    whole = jla.measure(logits, target)
    with mock.patch.multiple("jl_attention.precision", BLOCK_ROWS=2, TILE_COLUMNS=columns):
        one_by_one = jla.measure(Factors(logits, np.eye(length)), target)
    for name in ("row_ratio_error", "row_leak", "row_total_variation"):
        np.testing.assert_allclose(getattr(one_by_one, name), getattr(whole, name), rtol=1e-12)


def test_measure_of_some_rows():
    target = jla.targets.regular(50, 3, 2.0, rng=0)
    logits = np.random.default_rng(0).standard_normal((50, 50))
    whole = jla.measure(logits, target)
    some = jla.measure(logits, target, rows=[7, 3, 40])
    np.testing.assert_array_equal(some.rows, [7, 3, 40])
    np.testing.assert_allclose(some.row_leak, whole.row_leak[[7, 3, 40]], rtol=1e-12)
    assert some.leak == some.row_leak.max()


def test_exact_logits_have_no_ratio_error():
    target = jla.targets.regular(64, 4, 5.0, rng=0)
    report = jla.measure(jla.logits.target_logits(target, 10.0).toarray(), target)
    assert report.ratio_error < 1e-13
    np.testing.assert_allclose(report.leak, np.exp(-10.0), rtol=1e-12)
    assert report.meets(1e-12, 5e-5)
    assert not report.meets(1e-12, 4e-5)


def test_a_full_row_does_not_leak():
    report = jla.measure(np.zeros((3, 3)), np.full((3, 3), 1 / 3))
    assert report.leak == 0
    assert report.total_variation < 1e-15


def test_measure_never_holds_an_l_by_l_array():
    # At L = 20 000 such an array would hold 3.2 GB.
    target = jla.targets.permutation(20_000, rng=0)
    built = jla.construct(target, dim=8, rng=0)
    tracemalloc.start()
    jla.measure(built, target, rows=np.arange(1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * attention.BLOCK_BYTES


@pytest.mark.parametrize(
    ("logits", "rows", "message"),
    [
        (np.zeros((2, 3)), None, "expected"),
        (np.array([[0.0, np.nan, 0], [0, 0, 0], [0, 0, 0]]), None, "row 0: is not finite"),
        (np.zeros((3, 3)), [3], "rows"),
        (np.zeros((3, 3)), [-1], "rows"),
        (np.zeros((3, 3)), [], "rows"),
        (np.zeros((3, 3)), [0.5], "rows"),
    ],
)
def test_measure_refuses_bad_input(logits, rows, message):
    with pytest.raises(jla.ParameterError, match=message):
        jla.measure(logits, np.eye(3), rows=rows)


def test_huge_gaps_give_infinite_errors_without_a_warning():
    logits = np.array([[0.0, 2000.0], [0.0, 0.0]])
    report = jla.measure(logits, np.eye(2))
    assert report.leak == np.inf
    assert report.total_variation == 1.0
