"""`targets`: generators make what they say; `check_target` refuses what is not a target."""

import networkx as nx
import numpy as np
import pytest
from conftest import sparse_targets
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

import jl_attention as jla
from jl_attention import patterns, targets
from jl_attention.targets import (
    ROW_SUM_TOLERANCE,
    check_target,
    column_counts,
    row_counts,
    row_ratios,
)


def assert_canonical(target):
    assert isinstance(target, sparse.csr_array)
    assert target.dtype == np.float64
    assert target.has_canonical_format
    assert (target.data > 0).all()


# --- Generators ----------------------------------------------------------------------------------


@given(
    length=st.integers(1, 40),
    fraction=st.floats(0, 1),
    max_ratio=st.floats(1, 1e6),
    seed=st.integers(0, 2**32),
)
def test_regular_has_row_nnz_in_every_row_and_column(length, fraction, max_ratio, seed):
    row_nnz = 1 + round(fraction * (length - 1))
    target = targets.regular(length, row_nnz, max_ratio, rng=seed)
    assert_canonical(target)
    assert (row_counts(target) == row_nnz).all()
    assert (column_counts(target) == row_nnz).all()
    expected = max_ratio if row_nnz > 1 else 1.0
    np.testing.assert_allclose(row_ratios(target), expected, rtol=1e-9)


@given(
    length=st.integers(1, 40),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_row_sparse_has_row_nnz_in_every_row(length, fraction, seed):
    row_nnz = 1 + round(fraction * (length - 1))
    target = targets.row_sparse(length, row_nnz, 3.0, rng=seed)
    assert_canonical(target)
    assert (row_counts(target) == row_nnz).all()


def test_row_sparse_supports_are_uniform():
    # Each of the 6 subsets of size 2 of 4 columns has probability 1/6. Pearson's statistic over
    # 60 000 rows is chi-square with 5 degrees of freedom; 1e-9 of it lies above 49.9.
    subsets = np.sort(patterns._random_subsets(60_000, 2, 4, np.random.default_rng(0)), axis=1)
    _, observed = np.unique(subsets, axis=0, return_counts=True)
    assert len(observed) == 6
    assert ((observed - 10_000) ** 2 / 10_000).sum() < 49.9


def test_row_sparse_draws_such_subsets():
    target = targets.row_sparse(64, 3, rng=5)
    rng = np.random.default_rng(5)
    drawn = np.sort(patterns._random_subsets(64, 3, 64, rng), axis=1)
    np.testing.assert_array_equal(target.indices.reshape(64, 3), drawn)


def test_the_same_seed_gives_the_same_target():
    for make in (
        lambda rng: targets.regular(30, 3, 2.0, rng=rng),
        lambda rng: targets.row_sparse(30, 3, 2.0, rng=rng),
        lambda rng: targets.big_bird(30, 1, 2, 2, 2.0, rng=rng),
        lambda rng: targets.vertical_slash(30, 2, 3, 2.0, rng=rng),
        lambda rng: targets.permutation(30, rng=rng),
    ):
        first, again, from_generator = make(7), make(7), make(np.random.default_rng(7))
        assert (first != again).nnz == 0
        assert (first != from_generator).nnz == 0
        assert (first != make(8)).nnz > 0


LAG = np.subtract.outer(range(20), range(20))


@pytest.mark.parametrize("bandwidth", [0, 1, 3, 19, 40])
def test_bands(bandwidth):
    band = targets.banded(20, bandwidth).toarray() > 0
    np.testing.assert_array_equal(band, np.abs(LAG) <= bandwidth)


@pytest.mark.parametrize("window", [1, 2, 5, 20, 40])
def test_causal_windows(window):
    seen = targets.causal_window(20, window).toarray() > 0
    np.testing.assert_array_equal(seen, (LAG >= 0) & (window > LAG))


@pytest.mark.parametrize("size", [1, 3, 4, 20])
def test_diagonal_blocks(size):
    blocks = targets.block_diagonal(20, size).toarray() > 0
    group = np.arange(20) // size
    np.testing.assert_array_equal(blocks, group[:, None] == group)


def test_big_bird_has_its_window_its_global_and_its_random_tokens():
    window_only = targets.big_bird(20, 2, 0, 0).toarray() > 0
    np.testing.assert_array_equal(window_only, np.abs(LAG) <= 2)
    known = (np.abs(LAG) <= 1) | (np.arange(20) < 2) | (np.arange(20)[:, None] < 2)
    np.testing.assert_array_equal(targets.big_bird(20, 1, 2, 0).toarray() > 0, known)
    bird = targets.big_bird(20, 1, 2, 3, rng=0).toarray() > 0
    assert bird[known].all()
    drawn = (bird & ~known).sum(axis=1)
    assert 0 < drawn.max() <= 3
    alone = targets.big_bird(20, 0, 0, 3, rng=0).toarray() > 0
    assert set(alone.sum(axis=1)) <= {3, 4}  # the token itself may be drawn too


@pytest.mark.parametrize(("verticals", "slashes"), [(0, 1), (1, 1), (2, 3), (4, 9)])
def test_vertical_lines_and_slashes(verticals, slashes):
    length = 100
    seen = targets.vertical_slash(length, verticals, slashes, rng=0).toarray() > 0
    assert not np.triu(seen, 1).any()
    diagonals = [s for s in range(length - 1) if np.diagonal(seen, -s).all()]
    assert len(diagonals) == slashes
    assert diagonals[0] == 0
    lines = [j for j in range(length - 1) if seen[j:, j].all()]
    assert len(lines) == verticals
    assert lines[:1] == [0][:verticals]
    others = seen.copy()
    others[:, lines] = False
    assert set(lags(others)) <= set(diagonals)


def lags(seen):
    rows, columns = np.nonzero(seen)
    return (rows - columns).tolist()


@pytest.mark.parametrize(
    "make",
    [
        lambda: targets.regular(1, 1),
        lambda: targets.row_sparse(1, 1, 5.0),
        lambda: targets.permutation(1),
        lambda: targets.banded(1, 3),
        lambda: targets.causal_window(1, 3),
        lambda: targets.block_diagonal(1, 1),
        lambda: targets.big_bird(1, 0, 0, 1),
        lambda: targets.vertical_slash(1, 1, 1),
        lambda: targets.from_graph(np.zeros((1, 1))),
        lambda: targets.from_attention([[0.3]], 1),
    ],
)
def test_one_token_attends_to_itself(make):
    np.testing.assert_array_equal(make().toarray(), [[1.0]])


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: targets.regular(0, 1), "length"),
        (lambda: targets.regular(5, 6), "row_nnz"),
        (lambda: targets.regular(5, 0), "row_nnz"),
        (lambda: targets.regular(5.5, 1), "length"),
        (lambda: targets.regular(5, 2, max_ratio=0.5), "max_ratio"),
        (lambda: targets.regular(5, 2, max_ratio=np.nan), "max_ratio"),
        (lambda: targets.regular(5, 2, max_ratio="2"), "max_ratio"),
        (lambda: targets.banded(5, -1), "bandwidth"),
        (lambda: targets.causal_window(5, 0), "window"),
        (lambda: targets.block_diagonal(5, 6), "block_size"),
        (lambda: targets.big_bird(5, 1, 6, 0), "global_tokens"),
        (lambda: targets.vertical_slash(5, 1, 0), "slashes"),
        (lambda: targets.from_attention(np.eye(3), 4), "top_k"),
    ],
)
def test_generators_name_the_bad_argument(call, argument):
    with pytest.raises(jla.ParameterError, match=f"^{argument}="):
        call()


def test_from_graph_reads_networkx_and_matrices():
    graph = nx.path_graph(3)
    walk = targets.from_graph(graph, self_loops=False).toarray()
    np.testing.assert_allclose(walk, [[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]])
    same = targets.from_graph(nx.to_scipy_sparse_array(graph), self_loops=False).toarray()
    np.testing.assert_array_equal(walk, same)
    lazy = targets.from_graph(graph).toarray()
    np.testing.assert_allclose(lazy[0], [0.5, 0.5, 0])
    graph.add_edge(0, 1, weight=3.0)
    np.testing.assert_allclose(targets.from_graph(graph).toarray()[0], [0.25, 0.75, 0])
    graph.add_node(3)
    with pytest.raises(jla.TargetError, match="row 3"):
        targets.from_graph(graph, self_loops=False)
    with pytest.raises(jla.TargetError, match="empty"):
        targets.from_graph(nx.Graph())


def test_from_attention_keeps_the_largest_entries():
    attention = np.array([[0.1, 0.6, 0.3], [0.25, 0.25, 0.5], [1, 0, 0]])
    kept = targets.from_attention(attention, 2).toarray()
    np.testing.assert_allclose(kept, [[0, 2 / 3, 1 / 3], [1 / 3, 0, 2 / 3], [1, 0, 0]])
    attention[1, 0] = np.nan
    with pytest.raises(jla.TargetError, match="row 1"):
        targets.from_attention(attention, 2)


@given(weights=hnp.arrays(np.float64, (4, 4), elements=st.floats(0, 1e308)))
def test_normalize_rows_never_overflows(weights):
    weights[:, 0] += 1e-300
    target = targets.normalize_rows(weights)
    np.testing.assert_allclose(target.sum(axis=1), 1, rtol=1e-12)


# --- check_target --------------------------------------------------------------------------------


@given(target=sparse_targets())
def test_check_target_accepts_every_format_and_is_idempotent(target):
    dense = target.toarray()
    for form in (
        dense,
        dense.tolist(),
        np.asfortranarray(dense),
        target,
        target.tocsc(),
        target.tocoo(),
        target.tolil(),
        sparse.csr_matrix(dense),
    ):
        checked = check_target(form)
        assert_canonical(checked)
        np.testing.assert_array_equal(checked.toarray(), dense)
    again = check_target(check_target(target))
    np.testing.assert_array_equal(again.data, target.data)


def test_check_target_copies():
    target = targets.regular(5, 2, rng=0)
    checked = check_target(target)
    checked.data[:] = 0
    assert target.data.min() > 0


def test_check_target_canonicalises():
    indices, indptr = np.array([1, 0, 0, 1, 1]), np.array([0, 3, 5])
    messy = sparse.csr_array((np.array([0.5, 0.25, 0.25, 0.0, 1.0]), indices, indptr))
    checked = check_target(messy)
    assert_canonical(checked)
    np.testing.assert_array_equal(checked.toarray(), [[0.5, 0.5], [0, 1]])
    assert checked.nnz == 3


def test_check_target_accepts_ints_bools_and_half_precision():
    for dtype in (int, bool, np.float16, np.float32, np.uint8):
        np.testing.assert_array_equal(check_target(np.eye(3, dtype=dtype)).toarray(), np.eye(3))


def spoilt(row, column, value):
    matrix = np.full((4, 4), 0.25)
    matrix[row, column] = value
    return matrix


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (spoilt(2, 1, np.nan), "row 2.*not finite"),
        (spoilt(2, 1, np.inf), "row 2.*not finite"),
        (spoilt(3, 0, -0.25), "row 3.*negative"),
        (spoilt(1, 1, 0.3), r"row 1: sums to 1\.05"),
        (np.full((2, 2), 1e308), "row 0: sums to inf"),
        (np.diag([1.0, 0, 1]), "row 1: has no nonzero entry"),
        (np.eye(3, dtype=complex), "complex"),
        (np.array([["1"]]), "real numbers"),
        (np.array([[None]]), "real numbers"),
        (np.array([["2026-01-01"]], dtype="M8[D]"), "real numbers"),
        ([[1, 0], [1]], "not a matrix"),
        (np.ones(3), r"shape \(3,\)"),
        (np.ones((2, 2, 2)), r"shape \(2, 2, 2\)"),
        (1.0, r"shape \(\)"),
        (np.ones((2, 3)) / 3, "square"),
        (np.zeros((0, 0)), "empty"),
        (sparse.csr_array((3, 3)), "row 0: has no nonzero entry"),
        (sparse.csr_array(np.eye(2, dtype=complex)), "complex"),
        (sparse.coo_array(([np.nan], ([0], [0])), shape=(1, 1)), "row 0.*not finite"),
    ],
)
def test_check_target_names_row_and_reason(bad, message):
    with pytest.raises(jla.TargetError, match=message) as caught:
        check_target(bad)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).startswith("target: ")


def test_a_negative_duplicate_is_refused_even_if_the_sum_is_not_negative():
    matrix = sparse.csr_array((np.array([2.0, -1.0]), np.array([0, 0]), np.array([0, 2])))
    with pytest.raises(jla.TargetError, match=r"row 0.*negative"):
        check_target(matrix)


def test_row_sum_tolerance_is_what_it_says():
    assert ROW_SUM_TOLERANCE == 1e-6
    for share, accepted in ((1 + 0.9e-6, True), (1 - 0.9e-6, True), (1 + 1.1e-6, False)):
        matrix = np.eye(3)
        matrix[1] *= share
        if accepted:
            check_target(matrix)
        else:
            with pytest.raises(jla.TargetError, match=r"row 1: sums to 1\.0000011, not to 1"):
                check_target(matrix)


SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
KINDS = st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.complex128, bool])


@st.composite
def nearly_targets(draw):
    """Draw arrays of which about half are targets."""
    if draw(st.booleans()):
        return draw(hnp.arrays(KINDS, SHAPES))
    length = draw(st.integers(1, 4))
    rows = st.lists(st.sampled_from([0, 0, 1, 2, 4]), min_size=length, max_size=length)
    weights = np.array([draw(rows) for _ in range(length)], dtype=float)
    weights[weights.sum(axis=1) == 0, 0] = 1
    matrix = weights / weights.sum(axis=1, keepdims=True)
    if draw(st.booleans()):
        row, column = draw(st.integers(0, length - 1)), draw(st.integers(0, length - 1))
        matrix[row, column] += draw(st.sampled_from([0.9e-6, 1e-5, -1e-5, -2, np.nan, np.inf]))
    return matrix


def is_target(array):
    """Say whether an array is a target, in other words than `check_target`."""
    if array.ndim != 2 or array.dtype.kind == "c" or array.shape != (len(array),) * 2:
        return False
    rows = [[float(entry) for entry in row] for row in array]
    return bool(rows) and all(min(row) >= 0 and abs(sum(row) - 1) <= 1e-6 for row in rows)


@settings(max_examples=400)
@given(array=nearly_targets())
def test_check_target_accepts_targets_and_nothing_else(array):
    if is_target(array):
        checked = check_target(array)
        assert_canonical(checked)
        np.testing.assert_array_equal(checked.toarray(), array.astype(float))
    else:
        with pytest.raises(jla.TargetError):
            check_target(array)


def test_such_arrays_are_targets_often_enough():
    drawn = []

    @settings(max_examples=200, database=None)
    @given(array=nearly_targets())
    def collect(array):
        drawn.append(is_target(array))

    collect()
    assert 0.1 < np.mean(drawn) < 0.9


@pytest.mark.parametrize("form", ["csr", "csc", "bsr"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("indices", 9), ("indices", 4), ("indices", -1), ("indptr", 9), ("indptr", -1)],
)
def test_index_arrays_that_lead_out_of_bounds_are_refused(form, name, value):
    matrix = sparse.eye_array(4, format="csr").asformat(form)
    getattr(matrix, name)[2] = value
    with pytest.raises(jla.TargetError, match="index arrays"):
        jla.check_target(matrix)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("value", [4, -1, 2**40])
def test_triples_that_lead_out_of_bounds_are_refused(axis, value):
    matrix = sparse.eye_array(4, format="coo", dtype=float)
    coords = [index.astype(np.int64) for index in matrix.coords]
    coords[axis][2] = value
    matrix.coords = tuple(coords)
    with pytest.raises(jla.TargetError, match="an index is outside the matrix"):
        check_target(matrix)
    matrix.coords = tuple(index[:3] for index in sparse.eye_array(4, format="coo").coords)
    with pytest.raises(jla.TargetError, match="not as long as its data"):
        check_target(matrix)
