"""Real blocks: what each feature does, its inverse, and what a block cannot show."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, sparse

import jl_attention as jla
from jl_attention import blocks, patterns
from jl_attention.blocks import BlockSpec, Rope, bounds, norms, reference
from jl_attention.blocks.compiled import measure_rows
from jl_attention.blocks.queries import _one_row, capped_queries

LENGTH = 96


def few(length=LENGTH):
    """Return two different causal patterns, the second of one token far back."""
    rows = np.arange(length)
    far = sparse.csr_array((np.ones(length), (rows, np.maximum(rows - 20, 0))), (length, length))
    return [patterns.causal_window(length, 3, max_ratio=4.0, rng=0), far]


def block(**changes):
    """Return a block of two query heads on one key head of size 64 with room for both."""
    sizes = {"hidden_size": 194, "query_heads": 2, "kv_heads": 1, "head_dim": 64}
    return BlockSpec(**sizes | changes)


def shows(compiled, leak=0.01, ratio_error=1e-9):
    """Return whether every head shows its pattern, and the heads are told apart."""
    reports = [compiled.measure(head) for head in range(compiled.spec.query_heads)]
    return all(r.leak <= leak and r.ratio_error <= ratio_error for r in reports)


# --- The features, one by one --------------------------------------------------------------------

FEATURES = {
    "nothing": {"norm": None},
    "rms": {},
    "layer": {"norm": "layer"},
    "large eps": {"norm_eps": 0.3},
    "half": {"rope": Rope()},
    "neighbour": {"rope": Rope(theta=500.0, pairing="neighbour")},
    "partial": {"rope": Rope(fraction=0.25)},
    "partial neighbour": {"rope": Rope(fraction=0.5, pairing="neighbour"), "norm": "layer"},
    "scaled": {"rope": Rope(frequencies=tuple(np.geomspace(1, 1e-3, 32)), factor=1.3)},
    "bias": {"bias": True, "rope": Rope()},
    "softcap": {"softcap": 50.0, "rope": Rope()},
    "tight softcap": {"softcap": 15.0},
    "sink": {"sink": True},
    "high sink": {"sink": 9.0},
    "window": {"window": 21, "rope": Rope()},
    "alibi": {"alibi": True},
    "slopes": {"alibi": (0.3, 0.0)},
    "scale": {"scale": 1.0, "rope": Rope()},
    "both ways": {"causal": False},
    "qk norm": {"qk_norm": 4.0, "rope": Rope()},
    "qk norm, factor": {"qk_norm": 3.0, "rope": Rope(factor=1.4)},
    "qk norm, softcap": {"qk_norm": 6.0, "softcap": 40.0},
    "two key heads": {"kv_heads": 2, "hidden_size": 257, "rope": Rope()},
    "wide": {"hidden_size": 400, "norm": "layer"},
}


@pytest.mark.parametrize("name", FEATURES)
def test_a_block_shows_different_patterns_in_its_heads(name):
    spec = block(**FEATURES[name])
    wanted = few()
    compiled = blocks.compile(spec, wanted, rng=0)
    assert compiled.inputs_embeds.shape == (LENGTH, spec.hidden_size)
    assert shows(compiled)
    assert not shows(dataclasses.replace(compiled, patterns=compiled.patterns[::-1]))
    M = compiled.attention(1, [5, 70])
    assert M.shape == (2, LENGTH)
    assert M[1, 50] > 0.5
    assert not M[0, 6:].any() or not spec.causal
    single = compiled.astype(np.float32)
    assert single.inputs_embeds.dtype == single.attention(0).dtype == np.float32
    assert shows(single, 0.0101, 1e-3)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("half", {"rope": Rope(pairing="neighbour")}),
        ("half", {"rope": Rope(theta=1e6)}),
        ("half", {"rope": None}),
        ("partial", {"rope": Rope()}),
        ("rms", {"norm": "layer"}),
        ("tight softcap", {"softcap": None}),
        ("both ways", {"causal": True}),
        ("alibi", {"alibi": False}),
        ("scale", {"scale": None}),
        ("window", {"window": 20}),
    ],
)
def test_a_block_with_another_feature_does_not(name, change):
    compiled = blocks.compile(block(**FEATURES[name]), few(), rng=0)
    other = dataclasses.replace(compiled.spec, **change)
    weights = blocks.weights.default_weights(other, compiled.dim, range(2))
    weights["q_proj.weight"] = compiled.weights["q_proj.weight"]
    weights["k_proj.weight"] = compiled.weights["k_proj.weight"]
    found = dataclasses.replace(compiled, spec=other, weights=weights)
    if name == "both ways":  # a mask takes away and renormalises
        assert found.measure(0).leak < compiled.measure(0).leak
    else:
        assert not shows(found, 0.05, 0.01)


def test_qk_norm_ignores_what_comes_before_it_and_a_plain_block_does_not():
    compiled = blocks.compile(block(qk_norm=4.0), few(), rng=0)
    for spec, same in ((compiled.spec, True), (block(), False)):
        weights = {name: array.copy() for name, array in compiled.weights.items()}
        weights["k_proj.weight"] *= 2
        found = dataclasses.replace(compiled, spec=spec, weights=weights)
        assert np.allclose(found.attention(0), compiled.attention(0), atol=1e-5) == same


# --- Rotation ------------------------------------------------------------------------------------


def test_rotations_by_hand():
    x = np.arange(1.0, 5.0)[None]
    angles = np.float32(3) * np.float32([1.0, 0.1])
    c, s = np.cos(angles.astype(float)), np.sin(angles.astype(float))
    half = [1 * c[0] - 3 * s[0], 2 * c[1] - 4 * s[1], 1 * s[0] + 3 * c[0], 2 * s[1] + 4 * c[1]]
    neighbour = [1 * c[0] - 2 * s[0], 1 * s[0] + 2 * c[0], 3 * c[1] - 4 * s[1], 3 * s[1] + 4 * c[1]]
    assert np.allclose(Rope(100.0).rotate(x, [3]), [half], rtol=1e-12)
    assert np.allclose(Rope(100.0, "neighbour").rotate(x, [3]), [neighbour], rtol=1e-12)
    partial = Rope(100.0, fraction=0.5).rotate(x, [3])
    assert np.allclose(partial, [[c[0] - 2 * s[0], s[0] + 2 * c[0], 3, 4]], rtol=1e-12)


@given(
    st.sampled_from(["half", "neighbour"]),
    st.sampled_from([1.0, 0.5, 0.25]),
    st.floats(0.5, 2),
    st.integers(0, 200),
    st.integers(0, 200),
    st.integers(0, 99),
)
def test_a_rotation_is_undone_and_sees_distances_only(pairing, fraction, factor, i, j, seed):
    rope = Rope(theta=50.0, pairing=pairing, fraction=fraction, factor=factor)
    q, k = np.random.default_rng(seed).standard_normal((2, 1, 16))
    assert np.allclose(rope.unrotate(rope.rotate(q, [i]), [i]), q, atol=1e-12)
    assert np.allclose(rope.rotate(rope.unrotate(k, [j]), [j]), k, atol=1e-12)
    product = rope.rotate(q, [i]) @ rope.rotate(k, [j]).T
    moved = rope.rotate(q, [i + 64]) @ rope.rotate(k, [j + 64]).T
    assert np.allclose(product, moved, atol=2e-3)  # angles are float32 numbers


def test_what_is_left_of_a_head_splits_no_pair():
    spec = block(head_dim=16, rope=Rope(fraction=0.5), hidden_size=40)
    assert [spec.usable(dim) for dim in (3, 8, 9, 10, 16)] == [3, 8, 8, 10, 16]
    assert spec.coordinates(10).tolist() == [3, 7, *range(8, 16)]
    spec = block(head_dim=16, rope=Rope(pairing="neighbour"), hidden_size=40)
    assert spec.usable(7) == 6
    assert spec.coordinates(4).tolist() == [12, 13, 14, 15]
    assert spec.largest_dim() == 12  # 3 heads of 12 and the norm are 37 of 40
    assert spec.room == (12, 37)


# --- Norms ---------------------------------------------------------------------------------------


def test_norms_by_hand():
    x = np.array([[3.0, -3.0, 1.0, 1.0]])
    assert np.allclose(norms.rms_norm(x, 2.0, eps=4.0), x * 2 / 3)
    assert np.allclose(norms.layer_norm(x + 7, 1.0, 1.0, eps=4.0), 1 + (x - 0.5) / np.sqrt(8.75))


@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_a_norm_forgets_the_length_so_one_coordinate_is_needed(norm):
    spec = block(norm=norm)
    compiled = blocks.compile(spec, few(), rng=0)
    weights = compiled.weights
    X = compiled.inputs_embeds
    assert np.allclose((X**2).mean(axis=1), 1, rtol=1e-12)
    assert np.allclose(reference.normed(spec, weights, X), X / math.sqrt(1 + 1e-6), rtol=1e-9)
    without = X.copy()
    without[:, 192:] = 0  # what makes up the length, and the mean
    assert not shows(dataclasses.replace(compiled, inputs_embeds=without), 0.05, 0.01)


def test_the_hidden_size_that_is_needed():
    assert block().needed_hidden_size(64) == 3 * 64 + 1
    assert block(norm="layer").needed_hidden_size(64) == 3 * 64 + 2
    assert block(norm=None, kv_heads=2).needed_hidden_size(64) == 4 * 64
    assert block(query_heads=8, kv_heads=2).needed_hidden_size(10, [0, 1, 7]) == 5 * 10 + 1
    with pytest.raises(jla.ConstructionError, match="hidden_size=192: .* need 193, 1 of it .*=63"):
        blocks.compile(block(hidden_size=192), few(), dim=64)
    exact = blocks.compile(block(hidden_size=193), few(), dim=64, rng=0)
    assert shows(exact)
    assert blocks.compile(block(hidden_size=192), few(), rng=0).dim == 63


# --- Parameters as they are ----------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_given_parameters_biases_and_norms_are_undone(norm):
    spec = block(norm=norm, bias=True, rope=Rope(), hidden_size=256)
    rng = np.random.default_rng(0)
    weights = {
        name: rng.standard_normal(shape) * (4 if "proj.weight" in name else 1)
        for name, shape in blocks.weights.weight_shapes(spec).items()
    }
    weights["input_layernorm.weight"] = rng.uniform(0.5, 2, 256)
    compiled = blocks.compile(spec, few(), rng=1, weights=weights)
    assert compiled.weights["q_proj.bias"].any()
    assert shows(compiled, ratio_error=1e-7)
    for name in weights:
        other = compiled.weights | {name: np.roll(compiled.weights[name], 1)}
        assert not shows(dataclasses.replace(compiled, weights=other), 0.05, 0.01)


def test_a_key_bias_matters_only_where_keys_are_rotated():
    for rope, same in ((None, True), (Rope(), False)):
        spec = block(bias=True, rope=rope)
        compiled = blocks.compile(spec, few(), rng=0)
        shifted = compiled.weights | {"k_proj.bias": np.full(64, 3.0)}
        found = dataclasses.replace(compiled, weights=shifted)
        assert np.allclose(found.attention(0), compiled.attention(0), atol=1e-9) == same


def test_weights_that_leave_no_freedom_are_refused():
    spec = block(norm=None, hidden_size=256)
    weights = blocks.weights.default_weights(spec, 64, range(2))
    twice = {name: array.copy() for name, array in weights.items()}
    twice["q_proj.weight"][64:] = twice["q_proj.weight"][:64]
    with pytest.raises(jla.ConstructionError, match="linearly dependent"):
        blocks.compile(spec, few(), weights=twice)
    with pytest.raises(jla.ParameterError, match="k_proj.weight is missing"):
        blocks.compile(spec, few(), weights={"q_proj.weight": weights["q_proj.weight"]})
    with pytest.raises(jla.ParameterError, match=r"q_proj.weight of shape \(3, 3\)"):
        blocks.compile(spec, few(), weights=weights | {"q_proj.weight": np.eye(3)})
    small = blocks.weights.default_weights(block(), 64, range(2))
    small = {name: array * (0.01 if "proj" in name else 1) for name, array in small.items()}
    with pytest.raises(jla.ConstructionError, match="the norm fixes the length"):
        blocks.compile(block(), few(), weights=small)
    with pytest.raises(jla.ConstructionError, match="a larger BlockSpec.radius"):
        blocks.compile(block(radius=2.0), few())


def test_the_weights_are_the_specs_and_exact_in_every_format():
    spec = block(rope=Rope(), bias=True, sink=2.0)
    one = blocks.compile(spec, few(), rng=0)
    other = blocks.compile(spec, [patterns.causal_window(50, 1)] * 2, leak=0.1, rng=3)
    for name, array in one.weights.items():
        assert np.array_equal(array, other.weights[name])
    used = one.weights["q_proj.weight"]
    gains = np.unique(used[used != 0])
    assert len(gains) == 1
    assert math.log2(gains[0]).is_integer()
    allowed = gains[0] ** 2 * spec.logit_factor * spec.hidden_size / 2  # half of U's length each
    assert allowed >= spec.radius > allowed / 4


def test_a_head_left_free():
    wanted = [few()[0], None, None, few()[1]]
    spec = BlockSpec(150, 4, 2, 64, rope=Rope())
    compiled = blocks.compile(spec, wanted, leak=0.1, rng=0)
    assert compiled.dim == 36  # four blocks in 149
    assert compiled.measure(0).leak <= 0.1
    assert compiled.measure(3).leak <= 0.1
    with pytest.raises(jla.ParameterError, match="head=1: was left free"):
        compiled.measure(1)


# --- Queries under a ceiling ---------------------------------------------------------------------


def problem(seed, length, dim, row_nnz, level=2.0):
    rng = np.random.default_rng(seed)
    codes = rng.standard_normal((length, dim))
    wanted = jla.logits.target_logits(patterns.row_sparse(length, row_nnz, 2.0, rng), level)
    return codes, wanted, lambda rows: np.full((len(rows), length), level - 1.0)


@given(st.integers(0, 10**6), st.integers(6, 14), st.integers(3, 5), st.integers(1, 2))
@settings(max_examples=25)
def test_capped_queries_are_the_shortest(seed, length, dim, row_nnz):
    codes, wanted, ceiling = problem(seed, length, dim, row_nnz)
    queries, _ = capped_queries(codes, wanted, ceiling)
    for row in range(3):
        at = wanted.indices[wanted.indptr[row] : wanted.indptr[row + 1]]
        value = wanted.data[wanted.indptr[row] : wanted.indptr[row + 1]]
        rest = np.setdiff1d(np.arange(length), at)
        # Whether a query exists is a linear programme's to say.
        feasible = optimize.linprog(
            np.zeros(dim), codes[rest], np.full(len(rest), 1.0), codes[at], value, (None, None)
        ).status
        assert np.isfinite(queries[row, 0]) == (feasible == 0)
        if feasible != 0:
            continue
        assert np.allclose(codes[at] @ queries[row], value, atol=1e-7)
        assert (codes[rest] @ queries[row] <= 1 + 1e-7).all()
        # Shortest: q = C_S^T y - C_W^T u with u >= 0 on the tokens that touch the ceiling.
        touching = rest[codes[rest] @ queries[row] >= 1 - 1e-7]
        pull = np.vstack([codes[at], -codes[at], -codes[touching]])
        assert optimize.nnls(pull.T, queries[row])[1] <= 1e-6 * np.linalg.norm(queries[row])


def test_both_solvers_agree_and_the_fast_one_does_the_work():
    codes, wanted, ceiling = problem(1, 400, 60, 4, level=3.0)
    fast, corrected = capped_queries(codes, wanted, ceiling, certain=False)
    sure, _ = capped_queries(codes, wanted, ceiling)
    assert np.isnan(fast[:, 0]).mean() < 0.2
    both = np.isfinite(fast[:, 0])
    assert np.allclose(fast[both], sure[both], rtol=1e-9)
    assert 0.5 < corrected.mean() <= 1
    level = ceiling(np.arange(400))
    for row in np.nonzero(both)[0][:8]:
        at = wanted.indices[wanted.indptr[row] : wanted.indptr[row + 1]]
        support = np.zeros(400, dtype=bool)
        support[at] = True
        level[row, at] = wanted.data[wanted.indptr[row] : wanted.indptr[row + 1]]
        alone = _one_row(codes, support, level[row], 1e-8)
        assert np.allclose(alone, fast[row], rtol=1e-6, atol=1e-9)


def test_where_t3_stays_below_the_ceiling_its_query_is_kept():
    codes, wanted, _ = problem(2, 64, 40, 3)
    queries, corrected = capped_queries(codes, wanted, lambda rows: np.full((len(rows), 64), 1e9))
    assert not corrected.any()
    assert np.allclose(queries, jla.methods.interpolating_queries(wanted, codes))


def test_a_row_without_a_query_by_hand():
    codes = np.array([[1.0], [2.0], [-1.0]])
    wanted = sparse.csr_array(np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]))
    queries, _ = capped_queries(codes, wanted, lambda rows: np.full((len(rows), 3), 0.6))
    # Token 1 gets twice token 0's logit; the other way it gets half; token 2 has its side alone.
    assert np.isnan(queries[0, 0])
    assert np.allclose(queries[1:, 0], [0.5, -1.0])


def test_equal_codes_are_told_apart_by_nobody():
    spec = block(norm=None)
    codes = np.random.default_rng(0).standard_normal((LENGTH, 64))
    codes[1] = codes[0]
    one = np.zeros((LENGTH, LENGTH))
    one[:, 0] = 1
    with pytest.raises(jla.ConstructionError, match="row 1: no query"):
        blocks.compile(spec, [one, one], codes=[codes])
    both = np.zeros((LENGTH, LENGTH))
    both[:, :2] = 0.5
    both[0, :2] = 1, 0
    assert shows(blocks.compile(spec, [both, both], codes=[codes]))


# --- Feasibility, at every size ------------------------------------------------------------------


def test_patterns_people_know_from_one_input():
    """Causal rows that see everything they want, dense rows and dense columns included."""
    length = 160
    wanted = [
        patterns.causal_window(length, 4, max_ratio=2.0, rng=0),
        patterns.vertical_slash(length, 3, 3, rng=1),
        jla.targets.normalize_rows(np.tril(np.ones((length, length)))),
        np.eye(length),
    ]
    spec = BlockSpec(321, 4, 1, 64, rope=Rope())
    compiled = blocks.compile(spec, wanted, rng=0)
    reports = [compiled.measure(head) for head in range(4)]
    assert max(report.leak for report in reports) <= 0.01
    # Rows of more tokens than dimensions that want all alike: the query is zero, and exact.
    assert np.allclose(compiled.attention(2, [150])[0, :151], 1 / 151, rtol=1e-9)
    with pytest.raises(jla.ConstructionError, match="head 2, row 64: attends equally to all 65"):
        blocks.compile(dataclasses.replace(spec, sink=True), wanted)
    some = np.tril(np.ones((length, length)))
    some[100, 3] = 0
    wanted[2] = jla.targets.normalize_rows(some)
    with pytest.raises(jla.ConstructionError, match="head 2, row 100: a support of 100 tokens"):
        blocks.compile(spec, wanted)


# --- What a block cannot show --------------------------------------------------------------------


def dense_contrast(spec, chosen):
    """Return T of `bounds.largest_gap`, written as it is defined."""
    length = chosen[0].shape[0]
    seen = reference.visible(spec, np.arange(length), length)
    rows = []
    for pattern in chosen:
        for row, support in enumerate(pattern.toarray() > 0):
            rest = seen[row] & ~support
            if rest.any():
                rows.append(support / support.sum() - rest / rest.sum())
    return np.array(rows)


@given(st.integers(2, 12), st.booleans(), st.integers(0, 1000))
@settings(max_examples=25)
def test_the_norm_of_the_contrast(length, causal, seed):
    rng = np.random.default_rng(seed)
    chosen = [patterns.causal_window(length, int(rng.integers(1, 4))) for _ in range(2)]
    spec = block(causal=causal, window=5 if causal and seed % 2 else None)
    wanted = dense_contrast(spec, chosen)
    norm, rows = bounds.contrast_norm(spec, chosen)
    assert rows == len(wanted)
    if rows:
        assert norm == pytest.approx(np.linalg.norm(wanted, 2), rel=1e-6)


@given(st.integers(0, 10**6))
@settings(max_examples=40)
def test_no_input_beats_the_floors(seed):
    rng = np.random.default_rng(seed)
    length, size = 9, 4
    spec = BlockSpec(8, 1, 1, size, norm=None, qk_norm=float(rng.uniform(0.5, 3)), causal=False)
    pattern = patterns.regular(length, 2, rng=rng)
    weights = blocks.weights.default_weights(spec, size, [0])
    X = rng.standard_normal((length, 8)) * 5
    if seed % 2:  # queries that look where they should
        X[:, :4] = pattern.toarray() @ X[:, 4:]
    z = reference.logits(spec, weights, X, 0)
    on = pattern.toarray() > 0
    gap = (np.where(on, z, np.inf).min(axis=1) - np.where(on, -np.inf, z).max(axis=1)).min()
    assert np.abs(z).max() <= bounds.largest_logit(spec) + 1e-9
    assert gap <= bounds.largest_gap(spec, [pattern]) + 1e-9
    mass = np.where(on, reference.softmax_with_sink(z), 0).sum(axis=1).max()
    assert mass <= bounds.largest_mass(spec, 2, length) + 1e-12


def simplex(count):
    """Return the corners of a regular simplex around 0, shape (count, count - 1)."""
    corners = np.linalg.svd(np.eye(count) - 1 / count)[0][:, : count - 1]
    return corners * math.sqrt(count / (count - 1))


def test_the_spectral_floor_is_attained():
    """Blocks of tokens with the corners of a simplex as codes have exactly the gap it allows."""
    size, length = 16, 64
    spec = BlockSpec(33, 1, 1, size, norm="rms", qk_norm=True, causal=False)
    pattern = patterns.block_diagonal(length, length // size)
    codes = np.repeat(simplex(size), length // size, axis=0)  # 15 dimensions and the spare one
    gap = bounds.largest_gap(spec, [pattern])
    assert gap == pytest.approx(4 * 16 / 15, rel=1e-6)
    # Two heads that want the same on one key head: the same bound, from twice the rows.
    assert bounds.largest_gap(spec, [pattern] * 2) == pytest.approx(gap, rel=1e-6)
    compiled = blocks.compile(spec, [pattern], leak=math.exp(0.02 - gap), codes=[codes])
    assert compiled.measure(0).leak == pytest.approx(math.exp(-gap), rel=0.02)
    with pytest.raises(jla.ConstructionError, match=r"spectral bound.*leaks less than 0.014"):
        blocks.compile(spec, [pattern], leak=0.01)
    with pytest.raises(jla.ConstructionError, match="head 0, row"):
        blocks.compile(spec, [pattern], leak=0.02, rng=0)


def test_the_softcaps_floor():
    spec = block(softcap=2.0)
    with pytest.raises(
        jla.ConstructionError, match="differ by at most 4: .* leaks less than 0.0183"
    ):
        blocks.compile(spec, few(), leak=0.01)
    with pytest.raises(jla.ConstructionError, match="softcap=2 has no room"):
        blocks.compile(spec, few(), leak=0.1)
    assert bounds.largest_mass(spec, 1, 101) == pytest.approx(1 / (1 + 100 * math.exp(-4)))
    assert bounds.largest_mass(block(), 1, 101) == 1
    # Two tokens, logits +-c tanh(x/c): the leak falls to exp(-2c) and no further.
    pair = BlockSpec(2, 1, 1, 1, norm=None, softcap=2.0, causal=False)
    weights = blocks.weights.default_weights(pair, 1, [0])
    for size, close in ((3.0, 1.5), (30.0, 1 + 1e-9)):
        M = reference.attention(pair, weights, np.array([[size, size], [-size, -size]]), 0)
        assert 1 - 1e-12 <= M[0, 1] / M[0, 0] * math.exp(4) <= close


def test_alibis_price():
    spec = block(alibi=(0.5, 0.25))
    far = few()[1]
    assert bounds.alibi_price(spec, far, 0) == 10.0  # 20 tokens back against itself
    assert bounds.alibi_price(spec, far, 1) == 5.0
    assert bounds.alibi_price(spec, patterns.causal_window(LENGTH, 7), 0) == 0
    assert bounds.alibi_price(block(), far, 0) == 0
    capped = block(alibi=(0.5, 0.25), softcap=7.0)
    with pytest.raises(jla.ConstructionError, match="= 4.605 and 10 for ALiBi, but with softcap=7"):
        blocks.compile(capped, few()[::-1])
    roomier = block(alibi=(0.5, 0.25), softcap=8.0)  # not forbidden, and still too tight
    with pytest.raises(jla.ConstructionError, match="softcap=8 has no room .* what ALiBi"):
        blocks.compile(roomier, few()[::-1])
    enough = blocks.compile(block(alibi=(0.5, 0.25), softcap=30.0), few()[::-1], rng=0)
    assert shows(enough)
    compiled = blocks.compile(spec, few()[::-1], rng=0)
    plain = dataclasses.replace(compiled, spec=dataclasses.replace(spec, alibi=False))
    z = plain.logits(0)
    rows = np.arange(20, LENGTH)
    assert (z[rows, rows - 20] - z[rows, rows] >= 10 + math.log(100)).all()


def test_a_mask_hides_for_every_input():
    with pytest.raises(
        jla.ConstructionError, match="row 6: wants token 0, but sees tokens 1 to 6 only"
    ):
        blocks.compile(block(window=6), [np.eye(LENGTH), few()[1]])
    with pytest.raises(jla.ConstructionError, match="head 0, row 0: wants token 1"):
        blocks.compile(block(), [patterns.banded(LENGTH, 1), few()[1]])


def test_a_sink_takes_what_is_not_pinned():
    compiled = blocks.compile(block(sink=True), few(), rng=0)
    assert compiled.measure(0).sink < 1e-5
    lower = {name: array.copy() for name, array in compiled.weights.items()}
    lower["sinks"][:] = 20
    lost = dataclasses.replace(compiled, weights=lower)
    assert lost.measure(0).sink > 0.9
    assert lost.measure(0).total_variation > 0.9
    assert lost.measure(0).ratio_error < 1e-9
    assert blocks.compile(block(sink=20.0), few(), rng=0).measure(0).sink < 0.01


# --- What part of an input can do, and outputs ---------------------------------------------------


def test_a_prefix_rescales_the_rest_of_a_row():
    """Petrov, Torr and Bibi 2023: with the other tokens fixed, ratios among them do not move."""
    compiled = blocks.compile(block(rope=Rope()), few(), rng=0)
    X = compiled.inputs_embeds.copy()
    X[:8] = np.random.default_rng(1).standard_normal((8, X.shape[1])) * 3
    other = dataclasses.replace(compiled, inputs_embeds=X)
    rows = np.arange(8, LENGTH)
    seen = reference.visible(compiled.spec, rows, LENGTH)[:, 8:]
    for head in range(2):
        before, after = (c.attention(head, rows)[:, 8:] for c in (compiled, other))
        factor = np.where(seen, after / np.where(seen, before, 1), after[:, :1] / before[:, :1])
        assert np.allclose(factor, factor[:, :1], rtol=1e-9)
        assert np.abs(factor[:, 0] - 1).max() > 1e-3


@pytest.mark.parametrize("sink", [False, 3.0])
def test_outputs_are_those_of_the_patterns(sink):
    compiled = blocks.compile(block(rope=Rope(), sink=sink), few(), leak=0.2, rng=0)
    rng = np.random.default_rng(0)
    W_V, W_O = rng.standard_normal((64, 194)), rng.standard_normal((194, 128))
    wanted, bound = compiled.target_output(W_V, W_O)
    U = reference.normed(compiled.spec, compiled.weights, compiled.inputs_embeds)
    by_hand = sum(
        compiled.patterns[head] @ (U @ W_V.T) @ W_O[:, 64 * head : 64 * head + 64].T
        for head in range(2)
    )
    assert np.allclose(wanted, by_hand)
    off = np.abs(compiled.output(W_V, W_O) - wanted)
    assert (off <= bound + 1e-9).all()
    assert off.max() > 0.01 * bound.max()
    assert (np.abs(wanted - wanted[::-1]) > bound).any()


def test_outputs_with_two_key_heads():
    spec = block(kv_heads=2, hidden_size=257, norm=None)
    compiled = blocks.compile(spec, few(), rng=0)
    rng = np.random.default_rng(0)
    W_V, W_O = rng.standard_normal((6, 257)), rng.standard_normal((257, 6))
    X = compiled.inputs_embeds
    by_hand = sum(
        compiled.attention(head) @ (X @ W_V[at].T) @ W_O[:, at].T
        for head, at in enumerate((slice(0, 3), slice(3, 6)))
    )
    assert np.allclose(compiled.output(W_V, W_O), by_hand)


def test_measured_rows_by_hand():
    target = sparse.csr_array([[0.5, 0.5, 0], [0, 0, 1.0]])
    M = np.array([[0.4, 0.2, 0.1], [0.0, 0.25, 0.5]])
    ratio, leak, moved, sink = measure_rows(M, target)
    assert np.allclose(ratio, [1, 0])
    assert np.allclose(leak, [0.5, 0.5])
    assert np.allclose(sink, [0.3, 0.25])
    assert np.allclose(moved, [(0.1 + 0.3 + 0.1 + 0.3) / 2, (0.5 + 0.25 + 0.25) / 2])
    ratio, leak, _, _ = measure_rows(np.array([[0.0, 1.0, 0.0]]), target[:1])
    assert ratio == [np.inf]
    assert leak == [0]


# --- Arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: block(hidden_size=0), "hidden_size=0"),
        (lambda: block(query_heads=3, kv_heads=2), "query_heads=3: must be a multiple"),
        (lambda: block(norm="batch"), "norm='batch'"),
        (lambda: block(rope=10000.0), "rope=10000.0: expected a blocks.Rope"),
        (lambda: block(rope=Rope(fraction=0.01)), "rope.fraction=0.01: rotates 0"),
        (lambda: block(rope=Rope(frequencies=(1.0,))), "rope.frequencies: 1 of them, expected 32"),
        (lambda: Rope(pairing="full"), "rope.pairing='full'"),
        (lambda: Rope(theta=-1.0), "rope.theta=-1.0"),
        (lambda: Rope().rotate(np.zeros((1, 4)), [-1]), "positions"),
        (lambda: block(qk_norm=-1.0), "qk_norm=-1.0"),
        (lambda: block(qk_norm=True, rope=Rope(fraction=0.5, factor=2.0)), "needs fraction=1"),
        (lambda: block(softcap=0.0), "softcap=0.0"),
        (lambda: block(scale=math.nan), "scale=nan"),
        (lambda: block(window=0), "window=0"),
        (lambda: block(window=3, causal=False), "causal=False"),
        (lambda: block(alibi=(1.0,)), "alibi: 1 slopes"),
        (lambda: blocks.compile(block(), few()[:1]), "patterns: 1 of them"),
        (lambda: blocks.compile(block(), few()[0]), "patterns: expected a list"),
        (lambda: blocks.compile(block(), [None, None]), "patterns: of lengths"),
        (lambda: blocks.compile(block(), [np.eye(3), np.eye(4)]), r"of lengths \[3, 4\]"),
        (lambda: blocks.compile(block(), [np.eye(3), np.ones((3, 3))]), r"patterns\[1\]: row 0"),
        (lambda: blocks.compile(block(), few(), leak=1.0), "leak=1.0"),
        (lambda: blocks.compile(block(), few(), logit_scale=2.0), "logit_scale=2.0"),
        (lambda: blocks.compile(block(), few(), dim=65), "dim=65"),
        (lambda: blocks.compile(block(rope=Rope()), few(), dim=63), "dim=63: splits a rotary pair"),
        (lambda: blocks.compile(block(), few(), dtype=np.float16), "dtype=float16"),
        (lambda: blocks.compile(block(), few(), codes=[]), "codes: 0 of them, expected 1"),
        (lambda: blocks.compile(block(), few(), codes=[np.ones((9, 64))]), r"codes\[0\] of shape"),
        (
            lambda: blocks.compile(block(qk_norm=True), few(), codes=[np.zeros((LENGTH, 63))]),
            "codes: a row is zero",
        ),
        (lambda: blocks.compile(block(), few(), rng=0).attention(2), "head=2"),
        (lambda: blocks.compile(block(), few(), rng=0).save("x.npz"), "written as .safetensors"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(jla.ParameterError, match=message):
        make()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (block(hidden_size=3), "leaves 0 coordinates to each of 2"),
        (block(hidden_size=7), "row 2: a support of 3 tokens needs"),
        (block(hidden_size=19), "no query of 6 dimensions"),
    ],
)
def test_too_small_a_block_says_so(spec, message):
    with pytest.raises(jla.ConstructionError, match=message):
        blocks.compile(spec, few(), rng=0)


def test_the_same_seed_gives_the_same_block():
    one, two, other = (blocks.compile(block(), few(), rng=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.inputs_embeds, two.inputs_embeds)
    assert not np.array_equal(one.inputs_embeds, other.inputs_embeds)
    with pytest.raises(ValueError, match="read-only"):
        one.inputs_embeds[0] = 0
    spec = block(kv_heads=2, hidden_size=257)
    U = blocks.compile(spec, [few()[0]] * 2, rng=1).inputs_embeds
    assert not np.allclose(U[:, 128:192], U[:, 192:256])  # each key head has codes of its own


# --- Queries and keys as they are -----------------------------------------------------------------


def given_vectors(heads=2, kv_heads=1, size=64, seed=0):
    rng = np.random.default_rng(seed)
    return (3 * rng.standard_normal((n, LENGTH, size)) for n in (heads, kv_heads))


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": None},
        {"rope": Rope()},
        {"rope": Rope(fraction=0.25, pairing="neighbour"), "norm": "layer"},
        {"bias": True, "scale": 0.5},
        {"softcap": 20.0, "rope": Rope()},
    ],
)
def test_embedded_queries_and_keys_come_back(changes):
    spec = block(**changes)
    Q, K = given_vectors()
    built = blocks.embed(spec, Q, K)
    U = reference.normed(spec, built.weights, built.inputs_embeds)
    queries, keys = (U @ built.weights[f"{name}_proj.weight"].T for name in "qk")
    if spec.rope is None:  # not balanced: what is given is what the layer computes
        assert np.allclose(queries[:, :64], Q[0], rtol=0, atol=1e-9)
        assert np.allclose(keys, K[0], rtol=0, atol=1e-9)
    for head in range(2):
        logits = (spec.scale or 1 / 8) * Q[head] @ K[0].T
        if spec.softcap:
            logits = spec.softcap * np.tanh(logits / spec.softcap)
        seen = np.tril(np.ones((LENGTH, LENGTH), dtype=bool))
        assert np.allclose(built.logits(head)[seen], logits[seen], rtol=0, atol=1e-9)
    assert math.isnan(built.leak)


def test_embedded_patterns_are_measured():
    Q, K = given_vectors()
    built = blocks.embed(block(), Q, K, few())
    assert built.measure(0).leak > 1
    with pytest.raises(jla.ParameterError, match="was left free"):
        blocks.embed(block(), Q, K).measure(0)


def test_what_cannot_be_embedded_is_refused():
    Q, K = given_vectors()
    for spec, queries, keys, message in [
        (block(qk_norm=True), Q, K, "QK-norm"),
        (block(), Q[0], K, r"queries of shape \(96, 64\): expected \(2, L, 64\)"),
        (block(), Q, Q, r"keys of shape \(2, 96, 64\): expected \(1, L, 64\)"),
        (block(), Q, K[:, 1:], "queries of 96 tokens, keys of 95"),
        (block(), Q, np.where(K > 9, np.nan, K), r"keys\[0\]"),
    ]:
        with pytest.raises(jla.ParameterError, match=message):
            blocks.embed(spec, queries, keys)
    with pytest.raises(jla.ConstructionError, match="hidden_size=192"):
        blocks.embed(block(hidden_size=192), Q, K)
    with pytest.raises(jla.ConstructionError, match=r"row \d+: .* a larger BlockSpec.radius"):
        blocks.embed(block(radius=30.0), Q, K)
