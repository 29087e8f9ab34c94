"""Codes are a function of seed and row: batch, stream and workers make the same ones."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import jl_attention as jla
from jl_attention import codes
from jl_attention.codes.base import BLOCK_ROWS, generator

FALSE_FAILURE = 1e-9
LENGTH, DIM = 700, 12  # three blocks, the last one cut
FIRST_GAUSSIAN = [-1.2214599855148924, -0.13533359711645546, -1.1700514676341738]


@pytest.mark.parametrize("kind", codes.KINDS)
@given(rows=st.lists(st.integers(-LENGTH, LENGTH - 1), min_size=1, max_size=9))
def test_rows_are_those_of_the_whole(kind, rows):
    drawn = codes.draw(kind, LENGTH, DIM, rng=3)
    whole = drawn.array()
    assert whole.shape == drawn.shape == (LENGTH, DIM)
    assert (drawn[rows] == whole[rows]).all()
    assert (drawn[rows[0]] == whole[rows[0]]).all()
    assert (drawn[255:513:7] == whole[255:513:7]).all()


@pytest.mark.parametrize("kind", codes.KINDS)
def test_a_worker_elsewhere_makes_the_same_codes(kind):
    drawn = codes.draw(kind, LENGTH, DIM, rng=3)
    sent = pickle.loads(pickle.dumps(drawn))
    assert sent is not drawn
    assert sent == drawn
    assert (sent[400:] == drawn.array()[400:]).all()
    other = codes.draw(kind, LENGTH, DIM, rng=4)
    assert not np.isclose(other[0], drawn[0]).any()


def test_the_first_numbers_are_these():
    # Written down: a changed stream would change every printed number of the book.
    first = codes.draw("gaussian", 5, 3, rng=0)[0]
    assert first == pytest.approx(FIRST_GAUSSIAN, rel=1e-15)


def test_no_seed_shares_numbers_with_a_target_of_that_seed():
    key = codes.stream_key(0)
    ours = generator(key).standard_normal(1000)
    theirs = np.random.default_rng(0).standard_normal(1000)
    assert not np.isin(ours, theirs).any()
    # Nor do blocks share numbers with each other.
    next_block = generator(key, 1).standard_normal(BLOCK_ROWS * DIM)
    assert not np.isin(generator(key, 0).standard_normal(BLOCK_ROWS * DIM), next_block).any()


def test_a_generator_gives_a_key_and_moves_on():
    rng = np.random.default_rng(0)
    assert codes.stream_key(rng) != codes.stream_key(rng)
    assert codes.stream_key(np.random.SeedSequence(5)) == codes.stream_key(5)
    for bad in (-1, 0.5, "seed"):
        with pytest.raises(jla.ParameterError, match="rng"):
            codes.stream_key(bad)


def test_gaussian_coordinates_are_standard_normal():
    # Dvoretzky-Kiefer-Wolfowitz: a false failure once in 1e9; the planted bug is 2% too large.
    sample = codes.draw("gaussian", 20_000, 8, rng=1).array().ravel()
    allowed = np.sqrt(np.log(2 / FALSE_FAILURE) / 2 / sample.size)
    assert stats.kstest(sample, stats.norm.cdf).statistic <= allowed
    assert stats.kstest(1.05 * sample, stats.norm.cdf).statistic > allowed


def test_unit_codes_are_uniform_on_the_sphere():
    drawn = codes.draw("unit", 20_000, 3, rng=1).array()
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, rtol=1e-14)
    # In three dimensions a coordinate is uniform on [-1, 1] (Archimedes).
    allowed = np.sqrt(np.log(2 / FALSE_FAILURE) / 2 / len(drawn))
    assert stats.kstest(drawn[:, 1], stats.uniform(-1, 2).cdf).statistic <= allowed


@pytest.mark.parametrize("dim", [1, 5, 300, 699, 700, 900])
def test_tight_codes_are_a_tight_frame(dim):
    drawn = codes.draw("tight", 700, dim, rng=0).array()
    if dim <= 700:
        np.testing.assert_allclose(drawn.T @ drawn, 700 * np.eye(dim), atol=1e-7)
    if dim >= 700:
        np.testing.assert_allclose(drawn @ drawn.T, 700 * np.eye(700), atol=1e-9)


def test_tight_codes_are_haar():
    # Row 0 of a Haar matrix: ||c_0||^2/L is Beta(m/2, (L-m)/2), here with L = 6 and m = 2.
    sample = [np.sum(codes.draw("tight", 6, 2, rng=seed)[0] ** 2) / 6 for seed in range(2000)]
    allowed = np.sqrt(np.log(2 / FALSE_FAILURE) / 2 / len(sample))
    assert stats.kstest(sample, stats.beta(1, 2).cdf).statistic <= allowed
    assert stats.kstest(sample, stats.beta(1, 2.4).cdf).statistic > allowed / 2


def test_single_precision_is_rounded_double():
    double, single = (
        codes.draw("gaussian", 300, 4, rng=0, dtype=dtype) for dtype in (np.float64, np.float32)
    )
    assert single.array().dtype == np.float32
    assert (single.array() == double.array().astype(np.float32)).all()


def test_the_moment_curve_lies_on_circles():
    curve = codes.MomentCurveCodes(8, 5, 2)
    # theta = pi/4: cos theta, cos 2 theta, sin theta, sin 2 theta, and a coordinate to spare.
    np.testing.assert_allclose(curve[1], [np.sqrt(0.5), 0, np.sqrt(0.5), 1, 0], atol=1e-15)
    assert curve[0].tolist() == [1, 1, 0, 0, 0]


def test_given_codes_are_checked_and_not_copied():
    array = np.arange(6.0).reshape(3, 2)
    given_codes = codes.GivenCodes(array)
    assert np.shares_memory(given_codes.array(), array)
    assert given_codes[1].tolist() == [2, 3]
    with pytest.raises(ValueError, match="read-only"):
        given_codes.array()[0] = 1
    array[1, 1] = np.inf
    for bad, message in [
        (array, "row 1: is not finite"),
        (np.ones(3), r"shape \(3,\)"),
        (np.ones((2, 2), dtype=int), "int64"),
    ]:
        with pytest.raises(jla.ParameterError, match=message):
            codes.GivenCodes(bad)


def test_unknown_kinds_and_sizes_are_refused():
    for arguments, message in [
        (("white", 3, 3), "codes='white'"),
        (("unit", 0, 3), "length=0"),
        (("unit", 3, 0), "dim=0"),
    ]:
        with pytest.raises(jla.ParameterError, match=message):
            codes.draw(*arguments)
    with pytest.raises(jla.ParameterError, match="dtype"):
        codes.draw("unit", 3, 3, dtype="float16")


def test_the_number_of_blas_threads_changes_no_bit():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    made = {}
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads, user_api="blas"):
            drawn = codes.draw("tight", 1100, 300, 3)
            made[threads] = drawn.array().copy(), drawn[[1, 700]]
        del drawn  # or the array is shared
    assert all(map(np.array_equal, made[1], made[2]))
