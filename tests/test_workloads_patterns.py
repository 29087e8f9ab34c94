"""The patterns of workloads: causal, right-stochastic, and planted where they say."""

import numpy as np
import pytest
from hypothesis import given as given_by
from hypothesis import strategies as st
from scipy import sparse, stats

import jl_attention as jla
from jl_attention.workloads import patterns
from jl_attention.workloads.patterns import PATTERNS, causal_part, given


def planted_entries(pattern):
    """Return (row, column) of the planted entries."""
    rows = np.repeat(np.arange(pattern.length), np.diff(pattern.truth.indptr))
    return rows[pattern.planted], pattern.truth.indices[pattern.planted]


@pytest.mark.parametrize("name", PATTERNS)
@given_by(length=st.integers(128, 400), seed=st.integers(0, 2**32 - 1))
def test_rows_are_causal_and_sum_to_one_with_sink_self_and_planted(name, length, seed):
    pattern = PATTERNS[name](length, seed, weight=2.0, sink=1.0, local=0.5)
    dense = pattern.truth.toarray()
    assert np.triu(dense, 1).max() == 0
    np.testing.assert_allclose(dense.sum(axis=1), 1, rtol=1e-12)
    rows, columns = planted_entries(pattern)
    assert len(pattern.planted) == pattern.truth.nnz
    assert len(rows)
    assert (columns > 0).all()
    assert (columns < rows).all()
    # Sink 1, self 1/2 and planted 2, whatever the row's sum is.
    np.testing.assert_allclose(dense[1:, 0], 2 * np.diag(dense)[1:], rtol=1e-12)
    np.testing.assert_allclose(dense[rows, columns], 2 * dense[rows, 0], rtol=1e-12)
    trivial = (np.arange(length) == 0) | np.eye(length, dtype=bool)
    extra = (dense > 0) & ~trivial
    assert extra.sum() == len(rows)
    assert np.array_equal(pattern.planted_rows(), np.unique(rows))


@pytest.mark.parametrize("name", PATTERNS)
def test_a_seed_fixes_the_pattern(name):
    one, same, other = (PATTERNS[name](256, seed).truth for seed in (0, 0, 1))
    assert (one != same).nnz == 0
    assert ((one != other).nnz > 0) == (name != "drifting_window")


def test_needles_are_uniform_over_the_earlier_tokens():
    pattern = patterns.needles(20_000, 0, count=1)
    rows, columns = planted_entries(pattern)
    late = rows > 100
    # Kolmogorov-Smirnov at 1e-9: each needle is uniform on 1..i-1, up to its grid of 1/100.
    share = (columns[late] - np.random.default_rng(1).random(late.sum())) / (rows[late] - 1)
    assert stats.kstest(share, "uniform").pvalue > 1e-9


def test_vertical_slash_has_columns_and_diagonals():
    pattern = patterns.vertical_slash(512, 3, verticals=2, slashes=3)
    rows, columns = planted_entries(pattern)
    for lines in (columns, rows - columns):
        counts = np.bincount(lines)
        assert (counts > 200).sum() <= 3
    vertical = np.nonzero(np.bincount(columns, minlength=512) > 256)[0]
    assert set(vertical) <= set(range(1, 128))
    slash = {int(s) for s in np.unique((rows - columns)[~np.isin(columns, vertical)])}
    assert len(slash) <= 3
    assert all(8 <= s <= 256 for s in slash)


def test_mid_prompt_is_asked_in_its_stretch_only():
    rows, columns = planted_entries(patterns.mid_prompt(1024, 0, needles=8, asking=16))
    assert np.array_equal(np.unique(rows), np.arange(512, 528))
    assert np.array_equal(np.bincount(rows)[512:528], np.full(16, 2))
    assert len(np.unique(columns)) <= 8
    assert 128 <= columns.min() <= columns.max() < 256
    rows, _ = planted_entries(patterns.mid_prompt(1024, 0, asking=16, at=1.0))
    assert np.array_equal(np.unique(rows), np.arange(1008, 1024))


def test_a_block_looks_into_one_earlier_block():
    rows, columns = planted_entries(patterns.block_retrieval(1024, 0, block=32))
    source = {}
    for row, column in zip(rows // 32, columns // 32, strict=True):
        assert source.setdefault(row, column) == column
        assert column < row


def test_the_previous_token_of_a_chain_by_hand():
    assert patterns._previous(np.array([5, 7, 5, 5, 7])).tolist() == [-1, -1, 0, 2, 1]


def test_induction_attends_to_what_followed_the_same_word(monkeypatch):
    words = np.array([0, 1, 2, 0, 1, 1, 2])

    class Text:
        def integers(self, high, size):
            return words

    monkeypatch.setattr(patterns.np.random, "default_rng", lambda rng: Text())
    rows, columns = planted_entries(patterns.induction(7, repeats=2))
    # Row 3 repeats word 0 of row 0, which row 1 followed; row 5 repeats row 4: itself follows.
    assert list(zip(rows, columns, strict=True)) == [(3, 1), (4, 2), (6, 3)]
    rows, columns = planted_entries(patterns.chains(7, hops=2))
    # The first token is the sink, so row 3 has nothing planted.
    assert list(zip(rows, columns, strict=True)) == [(4, 1), (5, 4), (6, 2)]


def test_a_drifting_window_by_hand():
    rows, columns = planted_entries(patterns.drifting_window(8))
    assert rows.tolist() == [2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]
    assert columns.tolist() == [1, 1, 2, 2, 3, 2, 3, 3, 4, 3, 4]


def test_heavy_hitters_follow_the_power_law():
    length = 30_000
    pattern = patterns.heavy_hitters(length, 0, count=1, exponent=2.0)
    rows, columns = planted_entries(pattern)
    assert np.array_equal(rows, np.arange(2, length))
    popularity = (1.0 + np.random.default_rng(0).permutation(length)) ** -2.0
    popularity[0] = 0
    top = int(np.argmax(popularity))
    late = rows > top
    below = np.cumsum(popularity)[rows[late] - 1]
    chance = popularity[top] / below
    seen = (columns[late] == top).sum()
    # A sum of independent indicators: Bernstein's tail at 1e-9 on both sides.
    variance = (chance * (1 - chance)).sum()
    allowed = 21 / 3 + np.sqrt(2 * 21 * variance + (21 / 3) ** 2)
    assert abs(seen - chance.sum()) < allowed
    assert allowed < 0.1 * chance.sum()


def test_weights_of_zero_leave_entries_out():
    pattern = patterns.needles(64, 0, sink=0, local=1)
    assert pattern.truth[[5], :].toarray()[0, 0] == 0
    with pytest.raises(jla.ParameterError, match="row 1 has no planted entry"):
        patterns.needles(64, 0, sink=0, local=0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("needles", {"length": 3}, "length=3"),
        ("needles", {"length": 64, "count": 0}, "count=0"),
        ("needles", {"length": 64, "weight": 0}, "weight=0"),
        ("vertical_slash", {"length": 16}, "length=16"),
        ("mid_prompt", {"length": 64, "needles": 9}, "needles=9"),
        ("mid_prompt", {"length": 64, "needles": 4, "count": 5}, "count=5"),
        ("mid_prompt", {"length": 64, "at": 0.1}, "at=0.1"),
        ("block_retrieval", {"length": 64, "block": 1}, "block=1"),
        ("block_retrieval", {"length": 64}, "block=64: must be at most 32"),
        ("chains", {"length": 64, "hops": 1}, "hops=1"),
        ("induction", {"length": 64, "repeats": 65}, "repeats=65"),
        ("drifting_window", {"length": 64, "rate": 1.0}, "rate=1"),
        ("heavy_hitters", {"length": 64, "exponent": -1}, "exponent=-1"),
    ],
)
def test_bad_parameters_are_named(name, options, message):
    with pytest.raises(jla.ParameterError, match=message):
        PATTERNS[name](**options)


def test_a_given_pattern_is_causal_or_refused():
    lower = np.array([[1, 0], [0.25, 0.75]])
    assert given(lower).planted.tolist() == [True, True, True]
    with pytest.raises(jla.TargetError, match="row 0: attends to token 1, which is later"):
        given([[0.5, 0.5], [0, 1]])


def test_the_causal_part_by_hand():
    full = sparse.csr_array([[0.5, 0.5, 0], [0, 0, 1], [0.2, 0.2, 0.6]])
    expected = [[1, 0, 0], [0, 1, 0], [0.2, 0.2, 0.6]]
    np.testing.assert_allclose(causal_part(full).toarray(), expected, rtol=1e-12)
