"""The published methods on cases small enough to work out by hand, and what is true of each."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jl_attention as jla
from jl_attention.workloads import selectors
from jl_attention.workloads.selectors import SELECTORS, Selection

OPTIONS = {
    "exact_top_k": {"budget": 5},
    "streaming_llm": {"first": 2, "recent": 5},
    "vertical_slash": {
        "verticals": 3,
        "slashes": 4,
        "last": 8,
        "first": 1,
        "nearest": 2,
        "block": 4,
    },
    "flex_prefill": {"min_budget": 4, "block": 4},
    "block_sparse": {"blocks": 2, "block": 4},
    "quest": {"budget": 8, "page": 4},
    "h2o": {"heavy": 3, "recent": 3},
    "tova": {"budget": 6},
    "snapkv": {"budget": 10, "last": 4, "kernel": 3},
}


def one_coordinate(logits, queries=None):
    """Return Q and K of query dimension 1 for which row i has the logits q_i k."""
    K = np.asarray(logits, dtype=float)[:, None]
    return (np.ones_like(K) if queries is None else np.asarray(queries, float)[:, None]), K


def kept(selection, row):
    """Return the keys that a row keeps, a list."""
    return np.nonzero(selection.mask([row])[0])[0].tolist()


def random_head(length, dim=6, seed=0, size=2.0):
    rng = np.random.default_rng(seed)
    return size * rng.standard_normal((length, dim)), rng.standard_normal((length, dim))


# --- By hand -------------------------------------------------------------------------------------


def test_exact_top_k_by_hand():
    Q, K = one_coordinate([3, 1, 2, 3, 0])
    selection = selectors.exact_top_k(Q, K, budget=2)
    assert [kept(selection, row) for row in range(5)] == [[0], [0, 1], [0, 2], [0, 3], [0, 3]]
    # A tie goes to the earlier token.
    assert kept(selectors.exact_top_k(Q, K, budget=1), 4) == [0]


def test_streaming_llm_by_hand():
    selection = selectors.streaming_llm(*one_coordinate(np.zeros(6)), first=1, recent=2)
    assert [kept(selection, row) for row in (0, 1, 2, 5)] == [[0], [0, 1], [0, 1, 2], [0, 4, 5]]


def test_vertical_slash_by_hand():
    # The last query's weights: token 2 the largest, then 5 (offset 2), then 0 (forced).
    Q, K = one_coordinate([1, 0, 5, 0, 0, 3, 0, 0])
    options = {"last": 1, "first": 1, "nearest": 1}
    # Columns: 0 is forced and 2 is the largest; offsets: 0 is forced and 5 = 7 - 2 the largest.
    lines = selectors.vertical_slash(Q, K, verticals=2, slashes=2, block=1, **options)
    assert [kept(lines, row) for row in (0, 3, 6, 7)] == [[0], [0, 2, 3], [0, 1, 2, 6], [0, 2, 7]]
    # In blocks of 2, rows 6 and 7 both keep tokens 6, 7 of offset 0 and tokens 1, 2 of offset 5.
    blocks = selectors.vertical_slash(Q, K, verticals=2, slashes=2, block=2, **options)
    assert [kept(blocks, row) for row in (4, 6, 7)] == [[0, 2, 4], [0, 1, 2, 6], [0, 1, 2, 6, 7]]
    assert kept(blocks, 5) == [0, 2, 4, 5]


def test_vertical_slash_against_its_definition():
    length = 90
    Q, K = random_head(length, size=4.0)
    weights = np.tril(np.exp(Q @ K.T / np.sqrt(6)))
    weights /= weights.sum(axis=1, keepdims=True)
    column = weights[-16:].sum(axis=0)
    offset = [sum(weights[i, i - s] for i in range(74, length) if i >= s) for s in range(length)]
    verticals = {0, 1} | set(2 + np.argsort(-column[2:])[:3])
    slashes = {0, 1, 2} | set(3 + np.argsort(-np.array(offset)[3:])[:4])
    for block in (1, 8):
        selection = selectors.vertical_slash(
            Q, K, verticals=5, slashes=7, last=16, first=2, nearest=3, block=block
        )
        for row in range(length):
            start = row // block * block
            seen = {start - s + step for s in slashes for step in range(block)}
            expected = sorted(j for j in range(row + 1) if j in verticals or j in seen)
            assert kept(selection, row) == expected


def test_block_sparse_by_hand():
    # Means of the key blocks: 0, 2, 1, -1; a query block keeps the larger means it sees.
    Q, K = one_coordinate([0, 0, 4, 0, 1, 1, -2, 0])
    selection = selectors.block_sparse(Q, K, blocks=1, block=2)
    assert [kept(selection, row) for row in (1, 2, 3, 5, 7)] == [
        [0, 1],
        [2],
        [2, 3],
        [2, 3],
        [2, 3],
    ]
    # A query block with negative mean wants the smallest mean.
    Q, K = one_coordinate([0, 0, 4, 0, 1, 1, -2, 0], [1, 1, 1, 1, 1, 1, -3, 1])
    assert kept(selectors.block_sparse(Q, K, blocks=1, block=2), 7) == [6, 7]


def test_flex_prefill_follows_columns_where_the_pooled_map_misleads():
    # The last block's queries want token 2; the mean of its block says nothing of it.
    Q, K = one_coordinate([0, 0, 9, -9, 0, 0, 0, 0, 0, 0, 0, 0])
    selection = selectors.flex_prefill(Q, K, gamma=0.9, tau=0.1, min_budget=2, block=2)
    # One column gathers 0.9 of the mean row: 1 // 2 + 1 = 1 block of columns, the forced first
    # one. The same weight lies at offsets 8 and 9, one for each row: 2 // 2 + 1 = 2 block
    # diagonals, the main one and the one of offsets 8, 9.
    assert kept(selection, 11) == [0, 1, 2, 3, 10, 11]
    assert kept(selection, 5) == [0, 1, 4, 5]


def test_flex_prefill_follows_the_pooled_map_where_it_is_right():
    # All keys of a block are equal, so the pooled map is the true one: query-aware.
    Q, K = one_coordinate([0, 0, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0])
    selection = selectors.flex_prefill(Q, K, gamma=0.6, tau=0.1, min_budget=2, block=2)
    # Pooled rows: block 0 sees itself (1), all later ones block 1 (nearly 1 each); 0.6 * 6 = 3.6
    # is gathered by four of them, the first block row and three of the five equal ones.
    kept_blocks = [kept(selection, row) for row in range(1, 12, 2)]
    assert kept_blocks[:3] == [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]]
    assert all({0, 1, 2 * b, 2 * b + 1} <= set(k) for b, k in enumerate(kept_blocks))
    assert sum({2, 3} <= set(k) for k in kept_blocks[2:]) == 2


def test_quest_by_hand():
    # Pages of 2: the box of tokens 2, 3 promises (5, 5), though no key in it has both.
    K = np.array([[1, 1], [1, 1], [5, 0], [0, 5], [4, 4], [0, 0], [0, 0], [0, 0]], dtype=float)
    Q = np.ones((8, 2))
    # Bounds for the last row: 2, 10, 8; its own page is kept.
    assert kept(selectors.quest(Q, K, budget=2, page=2), 7) == [6, 7]
    assert kept(selectors.quest(Q, K, budget=4, page=2), 7) == [2, 3, 6, 7]
    assert kept(selectors.quest(Q, K, budget=6, page=2), 7) == [2, 3, 4, 5, 6, 7]
    # A query of mixed signs: the bound of a page is max over each coordinate by itself.
    assert kept(selectors.quest(Q * [1, -1], K, budget=4, page=2), 7) == [2, 3, 6, 7]


def test_h2o_by_hand():
    # Logits log 2, 0, log 3, 0, 0 for every query; heavy = recent = 1.
    Q, K = one_coordinate(np.log([2, 1, 3, 1, 1]))
    selection = selectors.h2o(Q, K, heavy=1, recent=1)
    # Row 1: scores 1 + 2/3, 1/3. Row 2 sees 0, 1, 2: weights 1/3, 1/6, 1/2, scores 2, 1/2, 1/2;
    # token 2 is the newest, so 1 goes. Row 3 sees 0, 2, 3: weights 1/3, 1/2, 1/6: scores 2 1/3, 1;
    # 2 goes. Row 4 sees 0, 3, 4: 3 goes.
    rows = [[0], [0, 1], [0, 1, 2], [0, 2, 3], [0, 3, 4]]
    assert [kept(selection, row) for row in range(5)] == rows


def test_tova_by_hand():
    Q, K = one_coordinate(np.log([2, 1, 3, 1, 4]), [1, 1, -1, 1, 1])
    selection = selectors.tova(Q, K, budget=2)
    # Row 2 weighs by 1/2, 1, 1/3: token 2 itself goes. Row 3 sees 0, 1, 3: weights 2, 1, 1, and of
    # the two smallest the one in the earlier slot goes.
    assert [kept(selection, row) for row in range(4)] == [[0], [0, 1], [0, 1, 2], [0, 1, 3]]
    assert kept(selection, 4) == [0, 3, 4]


def test_snapkv_by_hand():
    # The last query's weights are largest at token 2; a mean of 3 also lifts its neighbours.
    Q, K = one_coordinate([2, 0, 6, 0, 0, 1, 0, 0])
    selection = selectors.snapkv(Q, K, budget=4, last=1, kernel=3)
    assert kept(selection, 7) == [1, 2, 3, 7]
    assert kept(selection, 4) == [1, 2, 3]
    assert kept(selectors.snapkv(Q, K, budget=3, last=1, kernel=1), 7) == [0, 2, 7]


# --- What is true of every one -------------------------------------------------------------------


@pytest.mark.parametrize("name", SELECTORS)
def test_a_selection_is_causal_and_the_same_however_it_is_asked(name):
    Q, K = random_head(50)
    selection = SELECTORS[name](Q, K, **OPTIONS[name])
    whole = selection.mask(np.arange(50))
    assert whole.shape == (50, 50)
    assert not np.triu(whole, 1).any()
    assert np.array_equal(selection.mask([17, 3]), whole[[17, 3]])
    assert np.array_equal(selection.mask(41), whole[[41]])


@pytest.mark.parametrize("name", SELECTORS)
def test_all_heads_at_once_with_grouped_keys(name):
    Q, K = random_head(4 * 50)
    Q, K = Q.reshape(4, 50, 6), K.reshape(4, 50, 6)[:2]
    selections = SELECTORS[name](Q, K, **OPTIONS[name])
    rows = np.arange(50)
    for head, key_head in enumerate((0, 0, 1, 1)):
        alone = SELECTORS[name](Q[head], K[key_head], **OPTIONS[name])
        assert np.array_equal(selections[head].mask(rows), alone.mask(rows))


@pytest.mark.parametrize("name", SELECTORS)
def test_it_is_shorter_than_forty_lines_and_names_its_paper(name):
    selector = inspect.unwrap(SELECTORS[name])
    assert len(inspect.getsource(selector).splitlines()) < 40
    assert name == "exact_top_k" or "20" in selector.__doc__


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12))
def test_caches_hold_their_budget_and_what_went_never_returns(seed, heavy, recent):
    Q, K = random_head(40, seed=seed)
    rows = np.arange(40)
    for selection in (
        selectors.h2o(Q, K, heavy=heavy, recent=recent),
        selectors.tova(Q, K, budget=heavy + recent),
    ):
        mask = selection.mask(rows)
        # The row's own key is seen before one is dropped.
        assert np.array_equal(mask.sum(axis=1), np.minimum(rows + 1, heavy + recent + 1))
        present = mask | (rows[:, None] < rows)
        assert (present[1:] <= present[:-1]).all()
    newest = (rows <= rows[:, None]) & (rows > rows[:, None] - recent)
    assert selectors.h2o(Q, K, heavy=heavy, recent=recent).mask(rows)[newest].all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4))
def test_h2o_against_its_definition(seed, heavy, recent):
    Q, K = random_head(24, seed=seed)
    selection, score, held = selectors.h2o(Q, K, heavy=heavy, recent=recent), {}, []
    for row in range(24):
        held.append(row)
        weights = np.exp(K[held] @ Q[row] / np.sqrt(6))
        for token, weight in zip(held, weights / weights.sum(), strict=True):
            score[token] = score.get(token, 0) + weight
        assert kept(selection, row) == sorted(held)
        newest, older = held[-recent:], held[:-recent]
        held = sorted(sorted(older, key=score.get, reverse=True)[:heavy]) + newest


@given(st.integers(0, 2**32 - 1), st.integers(4, 40))
def test_a_large_budget_keeps_everything(seed, length):
    Q, K = random_head(length, seed=seed)
    everything = np.tril(np.ones((length, length), dtype=bool))
    for selection in (
        selectors.exact_top_k(Q, K, budget=length),
        selectors.streaming_llm(Q, K, recent=length),
        selectors.vertical_slash(Q, K, slashes=length),
        selectors.block_sparse(Q, K, block=3),
        selectors.flex_prefill(Q, K, min_budget=2 * length, block=3),
        selectors.quest(Q, K, budget=2 * length, page=3),
        selectors.h2o(Q, K, heavy=length),
        selectors.tova(Q, K, budget=length),
        selectors.snapkv(Q, K, budget=length, last=2),
    ):
        assert np.array_equal(selection.mask(np.arange(length)), everything)


@given(st.integers(0, 2**32 - 1))
def test_quests_bound_is_above_every_logit_of_the_page(seed):
    Q, K = random_head(48, seed=seed)
    low, high = (f.reduceat(K, np.arange(0, 48, 4)) for f in (np.minimum, np.maximum))
    bound = np.maximum(Q, 0) @ high.T + np.minimum(Q, 0) @ low.T
    assert (np.repeat(bound, 4, axis=1) >= Q @ K.T - 1e-9).all()
    # So with room for one page beside the row's own, the page kept is the one of the best bound.
    selection = selectors.quest(Q, K, budget=8, page=4)
    for row in (20, 47):
        own, pages = row // 4, sorted({j // 4 for j in kept(selection, row)})
        assert pages == sorted({own, int(np.argmax(bound[row, :own]))})


@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
def test_the_largest_with_ties(seed, count):
    values = np.random.default_rng(seed).integers(0, 3, (5, 6)).astype(float)
    expected = np.zeros((5, 6), dtype=bool)
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    np.put_along_axis(expected, order, True, axis=1)
    assert np.array_equal(selectors._largest(values, count), expected)


def test_affine_images_of_keys_change_no_selection_but_quests():
    rng = np.random.default_rng(0)
    Q, K = random_head(128, dim=4, seed=1, size=3.0)
    T = np.diag([9.0, 1.0, 1.0, 0.5]) @ np.linalg.qr(rng.standard_normal((4, 4)))[0]
    moved = Q @ np.linalg.inv(T).T, K @ T + 5 * rng.standard_normal(4)
    rows = np.arange(128)
    for name, options in OPTIONS.items():
        before, after = (SELECTORS[name](*pair, **options).mask(rows) for pair in ((Q, K), moved))
        assert np.array_equal(before, after) == (name != "quest"), name


def test_bad_arguments_are_named():
    Q, K = random_head(20)
    with pytest.raises(jla.ParameterError, match="budget=0"):
        selectors.exact_top_k(Q, K, budget=0)
    with pytest.raises(jla.ParameterError, match=r"Q of shape \(20, 6\) and K of shape \(19, 6\)"):
        selectors.quest(Q, K[:-1])
    with pytest.raises(jla.ParameterError, match=r"expected \(L, m\) both"):
        selectors.quest(np.zeros((3, 20, 6)), np.zeros((2, 20, 6)))
    with pytest.raises(jla.ParameterError, match=r"keep: \(2, 1\); expected \(2, 20\)"):
        Selection(20, lambda rows: np.ones((2, 1))).mask([0, 1])
