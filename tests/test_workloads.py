"""Workloads: the certificate is true, seeds reproduce them, files hold them."""

import hashlib
import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, sparse

import jl_attention as jla
from jl_attention import workloads as wl
from jl_attention.blocks import Rope
from jl_attention.workloads import certificate, geometry, scale, workload
from jl_attention.workloads.formats import FORMATS, exact_formats, to_format

EVERY_GEOMETRY = list(geometry.GEOMETRIES)


@pytest.fixture(scope="module")
def small():
    return wl.make("needles", 512, head_dim=64, heads=4, kv_heads=2, count=1, rng=0)


def exact(w, head):
    """Return ratio error, margin and total variation of each row, from the whole matrix."""
    Q, K = (array.astype(np.float64) for array in w.head(head))
    logits = Q @ K.T / np.sqrt(w.head_dim)
    truth = w.truth[head].toarray()
    visible = np.tril(np.ones_like(truth, dtype=bool))
    on = truth > 0
    support = np.where(on, logits, np.nan)
    off = np.where(visible & ~on, logits, -np.inf).max(axis=1)
    deviation = support - np.log(np.where(on, truth, 1))
    ratio = np.expm1(np.nanmax(deviation, axis=1) - np.nanmin(deviation, axis=1))
    weights = np.where(visible, np.exp(logits - np.nanmax(support, axis=1)[:, None]), 0)
    M = weights / weights.sum(axis=1, keepdims=True)
    return ratio, np.nanmin(support, axis=1) - off, np.abs(M - truth).sum(axis=1) / 2


# --- The certificate -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_GEOMETRY)
def test_the_certificate_bounds_the_exact_values_closely(name):
    w = wl.make("needles", 300, head_dim=64, heads=2, count=1, geometry=name, rng=1)
    ratio, margin, variation = np.hstack([exact(w, head) for head in range(2)])
    found = w.certificate
    assert found.ratio_error == pytest.approx(float(ratio.max()), rel=1e-6)
    assert found.margin <= margin.min() < found.margin + 1e-3
    assert found.total_variation >= variation.max() > found.total_variation * (1 - 1e-3)
    assert found.mean_total_variation >= variation.mean() > found.mean_total_variation * (1 - 1e-3)
    assert found.leak == pytest.approx(np.exp(-found.margin), rel=1e-12)
    assert found.leak <= 0.5


def test_it_is_measured_again_bit_for_bit_in_any_blocks(small, monkeypatch):
    assert small.certify() == small.certificate
    monkeypatch.setattr(certificate.causal_blocks, "__defaults__", (4 * 512 * 7,))
    again = small.certify()
    assert again.margin == pytest.approx(small.certificate.margin, rel=1e-4)
    assert again.total_variation == pytest.approx(small.certificate.total_variation, rel=1e-4)


@pytest.mark.parametrize("number_format", FORMATS)
def test_it_holds_in_every_format(small, number_format):
    assert small.certificate.formats == FORMATS
    assert small.certify(number_format) == small.certificate


def test_a_finer_workload_is_certified_per_format():
    w = wl.make("needles", 256, head_dim=64, count=1, number_format="float32", rng=0)
    assert w.certificate.formats == ("float32",)
    coarse = [w.certify(name).ratio_error for name in FORMATS]
    assert coarse[0] < 1e-5 < coarse[1] < coarse[2] / 2
    half = wl.make("needles", 256, head_dim=64, count=1, number_format="float16", rng=0)
    assert half.certificate.formats == ("float32", "float16")


def test_one_wrong_query_or_key_is_seen(small):
    Q = small.Q.copy()
    Q[3, 400] = -Q[3, 400]
    broken = workload.Workload(Q, small.K, small.patterns, small.certificate, {})
    assert broken.certify().leak > 1
    assert broken.certify().total_variation > 0.9
    K = small.K.copy()
    K[1, 300] = K[1, 20]  # two keys alike: whoever wants token 20 gets both
    broken = workload.Workload(small.Q, K, small.patterns, small.certificate, {})
    assert broken.certify().leak >= 0.99


def test_the_wrong_key_head_is_seen(small):
    swapped = workload.Workload(
        small.Q, small.K[::-1].copy(), small.patterns, small.certificate, {}
    )
    assert swapped.certify().mean_total_variation > 0.9
    assert np.array_equal(small.head(1)[1], small.K[0])
    assert np.array_equal(small.head(2)[1], small.K[1])


def test_rows_that_miss_the_margin_are_solved_again(monkeypatch):
    asked = {"length": 1024, "head_dim": 64, "total_variation": 0.2, "leak": 0.2, "rng": 0}
    w = wl.make("needles", **asked)
    assert w.certificate.solved_again > 0
    assert w.certificate.leak <= 0.2
    monkeypatch.setattr(workload, "ROUNDS", 0)
    with pytest.raises(jla.ConstructionError, match=r"row \d+: no query was found"):
        wl.make("needles", **asked)


def test_what_is_out_of_reach_is_refused():
    with pytest.raises(jla.ConstructionError, match=r"row 255: 4 entries among 256 tokens need"):
        wl.make("needles", 256, head_dim=16)
    with pytest.raises(jla.ConstructionError, match=r"row \d+: no query was found"):
        wl.make("needles", 256, head_dim=6, logit_scale=20.0, rng=0)


def test_a_row_solved_again_is_the_shortest_with_its_support_held():
    rng = np.random.default_rng(2)
    codes = rng.standard_normal((40, 20))
    margin = 6.5
    B = sparse.csr_array(([9.0, 10.0], ([39, 39], [5, 20])), shape=(40, 40))
    C = codes[[5, 20]]
    query = C.T @ np.linalg.solve(C @ C.T, B.data)
    off = np.delete(np.arange(40), [5, 20])
    assert (codes[off] @ query).max() > 9 - margin
    found = workload._with_margin(39, query, codes, B, margin, lambda q, row: (q, codes @ q, 0.0))
    assert C @ found == pytest.approx(B.data, rel=1e-9)
    assert (codes[off] @ found).max() <= 9 - margin
    problem = optimize.minimize(
        lambda q: q @ q,
        query,
        jac=lambda q: 2 * q,
        method="SLSQP",
        constraints=[
            {"type": "eq", "fun": lambda q: C @ q - B.data, "jac": lambda q: C},
            {
                "type": "ineq",
                "fun": lambda q: 9 - margin - workload.SLACK - codes[off] @ q,
                "jac": lambda q: -codes[off],
            },
        ],
    )
    assert problem.success
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(problem.x), rel=0.05)


@given(st.integers(0, 2**32 - 1), st.integers(3, 20), st.integers(1, 6))
def test_the_shortest_step_meets_its_constraints(seed, dim, count):
    rng = np.random.default_rng(seed)
    G, h = rng.standard_normal((count, dim)), rng.uniform(-1, 1, count)
    h[0] = 1.0
    step = workload._least_distance(G, h)
    if count <= dim:
        assert (G @ step >= h - 1e-8 * np.linalg.norm(step)).all()
        # No shorter: the step is a nonnegative combination of the constraints that bind.
        binding = np.abs(G @ step - h) < 1e-6 * (1 + np.linalg.norm(step))
        weights, *_ = np.linalg.lstsq(G[binding].T, step, rcond=None)
        assert (weights > -1e-6).all()
        np.testing.assert_allclose(G[binding].T @ weights, step, atol=1e-6)


def test_contradictory_constraints_have_no_step():
    assert workload._least_distance(np.array([[1.0], [-1.0]]), np.array([1.0, 1.0])) is None


# --- What a workload is made of ------------------------------------------------------------------


def test_a_seed_fixes_every_bit(small):
    again = wl.make("needles", 512, head_dim=64, heads=4, kv_heads=2, count=1, rng=0)
    assert np.array_equal(small.Q, again.Q)
    assert np.array_equal(small.K, again.K)
    assert small.certificate == again.certificate
    other = wl.make("needles", 512, head_dim=64, heads=4, kv_heads=2, count=1, rng=1)
    assert not np.array_equal(small.K, other.K)


def test_the_bits_of_a_small_workload_are_these():
    w = wl.make("needles", 128, head_dim=64, count=1, rng=0)
    digest = hashlib.sha256(w.Q.tobytes() + w.K.tobytes()).hexdigest()
    assert digest[:16] == "46f8f96f45451d78"


def test_heads_differ_and_arrays_are_read_only(small):
    assert (small.truth[0] != small.truth[1]).nnz > 0
    assert (small.heads, small.kv_heads, small.length, small.head_dim) == (4, 2, 512, 64)
    with pytest.raises(ValueError, match="read-only"):
        small.Q[0, 0, 0] = 1


def test_the_attention_is_the_truth(small):
    rows = np.array([0, 1, 100, 511])
    for head in range(4):
        M = small.attention(head, rows)
        difference = np.abs(M - small.truth[head][rows].toarray()).sum(axis=1) / 2
        assert difference.max() <= small.certificate.total_variation
        assert np.triu(small.attention(head, np.arange(512)), 1).max() == 0


def test_a_list_of_patterns_gives_each_head_its_own():
    truth = wl.patterns.drifting_window(96).truth
    w = wl.make([truth, "chains"], 96, head_dim=96, rng=0)
    assert w.heads == 2
    assert (w.truth[0] != truth).nnz == 0
    assert w.settings["pattern"] == ["given", "chains"]
    assert w.patterns[0].planted.all()


def test_keys_given_are_kept():
    keys = np.random.default_rng(0).standard_normal((200, 64))
    w = wl.make("needles", 200, head_dim=64, count=1, geometry=keys, rng=0)
    assert np.array_equal(w.K[0], to_format(keys, "bfloat16"))
    assert w.settings["geometry"] == "given"
    share = partial(geometry.smooth, share=0.2)
    assert wl.make("needles", 200, head_dim=64, count=1, geometry=share, rng=0).heads == 1


def test_affine_images_of_the_keys_have_the_same_attention():
    options = {"head_dim": 64, "count": 1, "number_format": "float32", "rng": 3}
    plain, *moved = (
        wl.make("needles", 300, geometry=name, **options).attention(0, np.arange(300))
        for name in ("random", "outlier", "anisotropic")
    )
    for other in moved:
        assert np.abs(plain - other).max() < 1e-4


def test_the_whitened_query_varies_least():
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((100, 8)) @ rng.standard_normal((8, 8)) + 3
    mu, W = geometry.whitening(keys)
    codes = (keys - mu) @ W
    np.testing.assert_allclose(codes.T @ codes / 100, np.eye(8), atol=1e-10)
    support, wanted = [3, 50, 70], np.array([5.0, 5.0, 6.0])
    q = W @ codes[support].T @ np.linalg.solve(codes[support] @ codes[support].T, wanted)
    logits = keys @ q
    np.testing.assert_allclose(logits[support] - logits[3], wanted - 5, atol=1e-9)
    # Any other query with these differences on the support varies more over all tokens.
    D = keys[support[1:]] - keys[3]
    free = np.eye(8) - np.linalg.pinv(D) @ D
    for _ in range(50):
        other = keys @ (q + 0.1 * free @ rng.standard_normal(8))
        held = other[support] - other[3]
        np.testing.assert_allclose(held, wanted - 5, atol=1e-8)
        # Of those with the same gap over the mean, which a step along q itself would change.
        if other[3] - other.mean() >= logits[3] - logits.mean():
            assert other.var() > logits.var()


def test_few_tokens_need_few_directions():
    _, W = geometry.whitening(np.random.default_rng(0).standard_normal((10, 32)))
    assert W.shape == (32, 9)
    w = wl.make("drifting_window", 64, head_dim=128, rng=0)
    assert w.certificate.total_variation < 0.1


@pytest.mark.parametrize(
    ("name", "options", "near", "far"),
    [
        ("random", {}, 0.0, 0.0),
        ("smooth", {"share": 0.5, "correlation_length": 16.0}, 0.5 * np.exp(-1 / 16), 0.0),
        ("clustered", {"share": 0.5}, 0.0, 0.0),
    ],
)
def test_correlations_along_the_sequence_are_as_said(name, options, near, far):
    keys = geometry.GEOMETRIES[name](4096, 64, 0, **options)
    assert keys.var() == pytest.approx(1, rel=0.05)
    products = [(keys[lag:] * keys[: len(keys) - lag]).mean() for lag in (1, 1000)]
    assert products == pytest.approx([near, far], abs=0.03)


def test_clusters_share_their_centre():
    keys = geometry.clustered(2048, 64, 0, share=0.5, cluster_size=64)
    cosine = keys @ keys.T / 64
    together = (cosine > 0.3).sum(axis=1)
    assert np.median(together) == pytest.approx(64, rel=0.3)


def test_outliers_and_covariances_are_as_said():
    keys = geometry.outlier(4096, 32, 0, channels=3, size=8.0, offset=3.0)
    large = np.sort(keys.std(axis=0))
    assert large[-3:] == pytest.approx(np.full(3, 8.0), rel=0.1)
    assert large[:-3] == pytest.approx(np.ones(29), rel=0.1)
    assert np.sort(keys.mean(axis=0))[-3:] == pytest.approx(np.full(3, 24.0), rel=0.1)
    keys = geometry.anisotropic(8192, 16, 0, exponent=1.0, offset=2.0)
    values = np.linalg.eigvalsh(np.cov(keys.T))[::-1]
    assert values == pytest.approx(1 / np.arange(1, 17), rel=0.15)
    length = np.linalg.norm(keys.mean(axis=0))
    assert length == pytest.approx(2 * np.sqrt((1 / np.arange(1, 17)).sum()), rel=0.1)


# --- Strength ------------------------------------------------------------------------------------


def test_the_scale_is_the_least_one():
    truth = wl.patterns.needles(2048, 0, count=1, weight=3.0).truth
    tau = scale.logit_scale_for(truth, 64, 0.05)
    allowed = 0.05 / 0.95
    assert scale.expected_background(truth, 64, tau).max() <= allowed
    assert scale.expected_background(truth, 64, tau - 1 / 32).max() > allowed


def test_the_expected_background_by_hand():
    # Row 3 of 4 equal-weight entries' worth: k = 2, tau = 6, L = 40, m = 10, row 39 sees 40.
    truth = wl.patterns.drifting_window(40, width=1, local=0).truth
    variance = 2 * 36 * (40 - 10) / ((40 - 2) * (10 - 2 - 1))
    expected = 38 * np.exp(variance / 2) / (2 * np.exp(6))
    assert scale.expected_background(truth, 10, 6.0)[39] == pytest.approx(expected, rel=1e-12)
    assert scale.expected_background(truth, 10, 6.0)[0] == 0


@pytest.mark.parametrize(("length", "dim"), [(512, 64), (2048, 64), (2048, 128), (160, 128)])
def test_the_background_is_what_is_expected(length, dim):
    w = wl.make("needles", length, head_dim=dim, heads=2, count=1, leak=0.9, rng=5)
    expected = scale.expected_background(w.truth[0], dim, w.settings["logit_scale"])
    rows = np.arange(length // 2, length)
    measured = np.concatenate([exact(w, head)[2][rows] for head in range(2)])
    predicted = (expected / (1 + expected))[rows].mean()
    assert measured.mean() == pytest.approx(predicted, rel=0.2)


def test_more_entries_than_the_head_holds():
    # k <= m/(2 log(L (1 - t)/(k t))) is 3 <= 3.38 for three entries, and 4 > 3.49 for four.
    for count in (1, 2):
        k, truth = count + 2, wl.patterns.needles(2048, 0, count=count).truth
        bound = 64 / (2 * np.log(2048 * 0.95 / (0.05 * k)))
        if k <= bound:
            scale.logit_scale_for(truth, 64, 0.05)
        else:
            with pytest.raises(jla.ConstructionError, match="4 entries among 2048"):
                scale.logit_scale_for(truth, 64, 0.05)
    assert bound == pytest.approx(3.49, rel=0.01)


# --- Number formats ------------------------------------------------------------------------------


@given(st.floats(-6e4, 6e4, width=64))
def test_rounding_is_the_formats_own(value):
    import ml_dtypes

    x = np.array([value])
    assert to_format(x, "float16") == x.astype(np.float16).astype(np.float32)
    bfloat = to_format(x, "bfloat16")
    once = x.astype(np.float32)
    if once == x and abs(value) >= 2.0**-17:  # ml_dtypes rounds a float64 twice
        assert bfloat == x.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert bfloat == bfloat.astype(np.float16) == bfloat.astype(ml_dtypes.bfloat16)
    assert exact_formats(bfloat) == FORMATS
    assert to_format(bfloat, "bfloat16") == bfloat


def test_formats_that_do_not_hold_a_number():
    assert exact_formats(np.float32([1 + 2**-20])) == ("float32",)
    assert exact_formats(np.float32([1 + 2**-9])) == ("float32", "float16")
    assert exact_formats(np.float32([2.0**100])) == ("float32", "bfloat16")
    for name in ("float16", "bfloat16"):
        with pytest.raises(jla.ParameterError, match="7e\\+04 is beyond 65504"):
            to_format(np.array([7e4]), name)
        with pytest.raises(jla.ParameterError, match="6.553e\\+04 is beyond"):
            to_format(np.array([65530.0]), name)
    assert to_format(np.array([7e4]), "float32") == np.float32(7e4)


# --- Files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("number_format", ["bfloat16", "float32"])
def test_a_file_holds_everything(tmp_path, suffix, number_format):
    w = wl.make("needles", 96, head_dim=64, heads=2, count=1, number_format=number_format, rng=0)
    path = tmp_path / f"w{suffix}"
    w.save(path)
    back = wl.load(path)
    assert np.array_equal(w.Q, back.Q)
    assert np.array_equal(w.K, back.K)
    assert back.Q.dtype == np.float32
    assert w.certificate == back.certificate
    assert w.settings == back.settings
    for one, other in zip(w.patterns, back.patterns, strict=True):
        assert (one.truth != other.truth).nnz == 0
        assert np.array_equal(one.planted, other.planted)
    assert back.certify() == w.certificate
    half = path.stat().st_size < 4 * (w.Q.size + w.K.size)
    assert half == (number_format == "bfloat16")


def test_files_that_are_not_workloads_are_refused(tmp_path):
    w = wl.make("needles", 64, head_dim=64, count=1, rng=0)
    path = tmp_path / "w.npz"
    w.save(path)
    stored = dict(np.load(path))
    about = json.loads(str(stored["settings"]))

    def refused(message, about=about, **changes):
        changed = {k: v for k, v in {**stored, **changes}.items() if v is not None}
        changed["settings"] = np.array(json.dumps(about))
        np.savez(tmp_path / "bad.npz", **changed)
        with pytest.raises(jla.FileError, match=message):
            wl.load(tmp_path / "bad.npz")

    refused("not a workload", about={**about, "format": "other"})
    refused("not a workload", about=[1])
    refused("Q: expected an array", Q=None)
    refused("K: expected an array", K=stored["K"].astype(np.float64))
    refused("do not fit", K=stored["K"][:, :-1])
    refused("do not fit", K=np.concatenate([stored["K"]] * 2))
    refused("Q: an entry is not finite", Q=np.full_like(stored["Q"], np.nan))
    refused("one flag for each entry", truth_0_planted=stored["truth_0_planted"][:-1])
    refused("index arrays", truth_0_indices=stored["truth_0_indices"] + 64)
    refused("not a readable", truth_0_data=None)
    refused("sums to", truth_0_data=stored["truth_0_data"] / 2)
    later = stored["truth_0_indices"].copy()
    later[0] = 5
    refused("row 0: attends to token 5, which is later", truth_0_indices=later)
    refused("not a readable", about={**about, "certificate": {"leak": 1}})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(jla.FileError, match="not a readable"):
        wl.load(path)
    with pytest.raises(jla.FileError, match="no such file"):
        wl.load(tmp_path / "missing.npz")
    with pytest.raises(jla.FileError, match="more than max_bytes=10"):
        wl.load(path, max_bytes=10)
    with pytest.raises(jla.FileError, match="unknown suffix"):
        w.save(tmp_path / "w.pickle")
    with pytest.raises(jla.FileError, match="there is no directory"):
        w.save(tmp_path / "none" / "w.npz")
    assert {p.name for p in tmp_path.iterdir()} == {"w.npz", "bad.npz"}


def test_tensors_have_batch_and_heads(small):
    torch = pytest.importorskip("torch")
    tensors = small.to_torch(dtype=torch.bfloat16)
    assert tensors["Q"].shape == (1, 4, 512, 64)
    assert tensors["K"].shape == (1, 2, 512, 64)
    assert np.array_equal(tensors["Q"].float().numpy()[0], small.Q)


@pytest.mark.parametrize("pairing", ["half", "neighbour"])
def test_rotary_positions_give_the_heads_back(small, pairing):
    rope = Rope(theta=100.0, pairing=pairing)
    Q, K = small.before_rope(rope)
    assert (Q.shape, K.shape) == (small.Q.shape, small.K.shape)
    for before, after in ((Q[3], small.Q[3]), (K[1], small.K[1])):
        assert np.abs(before - after).max() > 1
        np.testing.assert_allclose(rope.rotate(before, np.arange(512)), after, atol=1e-9)


def test_without_torch_the_error_names_the_extra(small, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ImportError, match=r"jl-attention\[torch\]"):
        small.to_torch()


# --- Arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pattern": "haystack"}, "pattern='haystack'"),
        ({"length": None}, "length: is needed"),
        ({"heads": 3, "kv_heads": 2}, "heads=3: must be a multiple of kv_heads=2"),
        ({"pattern": ["needles"], "heads": 2}, "heads=2: 1 patterns are given"),
        ({"pattern": []}, "heads=0"),
        ({"head_dim": 1}, "head_dim=1"),
        ({"leak": 1.0}, "leak=1"),
        ({"logit_scale": 0.1}, "logit_scale=0.1"),
        ({"total_variation": 0}, "total_variation=0"),
        ({"number_format": "int8"}, "number_format='int8'"),
        ({"geometry": "flat"}, "geometry='flat'"),
        ({"geometry": np.zeros((63, 64))}, r"keys of shape \(1, 63, 64\)"),
        ({"geometry": np.full((64, 64), np.nan)}, "key 0 of head 0 is not finite"),
        ({"count": 0}, "count=0"),
        ({"rng": -1}, "rng=-1"),
        ({"colour": 1}, "pattern 'needles': .*colour"),
        ({"pattern": np.eye(64), "count": 1}, "count: only a named pattern has options"),
        ({"pattern": np.eye(63)}, "length=64: the pattern given has 63 tokens"),
        ({"pattern": [np.eye(64), np.eye(63)], "length": None}, "heads of"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    arguments = {"pattern": "needles", "length": 64, "head_dim": 64, **arguments}
    with pytest.raises(jla.ParameterError, match=message):
        wl.make(**arguments)


def test_a_head_that_is_not_there(small):
    with pytest.raises(jla.ParameterError, match="head=4: must be at most 3"):
        small.head(4)


# --- Scores --------------------------------------------------------------------------------------


def test_scores_by_hand():
    # Two tokens attend to themselves and, from the third on, to token 1.
    truth = np.eye(4)
    truth[2] = truth[3] = 0
    truth[2, [1, 2]] = truth[3, [1, 3]] = 0.5
    w = wl.make(truth, head_dim=8, logit_scale=30.0, rng=0)
    pattern = wl.Pattern(w.truth[0], np.array([False, False, True, False, True, False]))
    w = workload.Workload(w.Q, w.K, (pattern,), w.certificate, {})
    own = wl.score(np.eye(4), w)
    assert own.rows == 2
    assert own.recall == 0
    assert own.mass == pytest.approx(0.5, rel=0.02)
    assert own.output_error == pytest.approx(np.sqrt(0.5), rel=0.02)
    assert own.pairs == pytest.approx(2 / 7, rel=1e-12)
    both = wl.score(lambda rows: np.arange(4) > 0, w, rows=[3, 3, 2])
    assert (both.recall, both.rows) == (1, 2)
    assert both.pairs == pytest.approx(5 / 7, rel=1e-12)
    assert wl.score(np.ones((4, 4)), w, max_rows=1).rows == 1


def test_the_score_of_everything_is_the_certificates(small):
    everything = [np.ones((512, 512), dtype=bool)] * 4
    found = wl.score(everything, small, rows=np.arange(512))
    assert (found.recall, found.pairs) == (1, 1)
    assert found.mass == pytest.approx(1, rel=1e-12)
    squares = 0.0
    for head in range(4):
        M = small.attention(head, np.arange(512))
        squares += ((M - small.truth[head].toarray()) ** 2).sum()
    assert found.output_error == pytest.approx(np.sqrt(squares / 2048), rel=1e-9)


def test_several_scores_at_once_are_those_of_each(small):
    methods = {
        "quest": wl.selectors.quest(small.Q, small.K, budget=64),
        "h2o": wl.selectors.h2o(small.Q, small.K, heavy=32, recent=32),
    }
    rows = np.arange(100, 512, 7)
    mass = [
        small.attention(head, rows)[one.mask(rows)].sum() / len(rows)
        for head, one in enumerate(methods["quest"])
    ]
    found = wl.score(methods["quest"], small, rows=rows)
    assert found.mass == pytest.approx(np.mean(mass), rel=1e-9)
    together = wl.scores(methods, small, max_rows=100)
    assert together == {name: wl.score(one, small, max_rows=100) for name, one in methods.items()}
    assert together["quest"].rows == 400


def test_a_sparse_selection_and_its_dense_one_score_alike(small):
    dense = np.tril(np.ones((512, 512))) * (np.random.default_rng(0).random((512, 512)) < 0.3)
    np.fill_diagonal(dense, 1)
    one, other = ([matrix] * 4 for matrix in (dense, sparse.csr_array(dense)))
    assert wl.score(one, small) == wl.score(other, small)


def test_bad_selections_are_named(small):
    with pytest.raises(jla.ParameterError, match="1 for 4 query heads"):
        wl.score(np.eye(512), small)
    with pytest.raises(jla.ParameterError, match=r"shape \(511, 511\)"):
        wl.score([np.eye(511)] * 4, small)
    with pytest.raises(jla.ParameterError, match="keeps no visible key"):
        wl.score([np.zeros((512, 512))] * 4, small)
    selection = wl.selectors.streaming_llm(np.zeros((9, 2)), np.zeros((9, 2)))
    with pytest.raises(jla.ParameterError, match="for 9 tokens; the workload has 512"):
        wl.score([selection] * 4, small)
    with pytest.raises(jla.ParameterError, match="between 0 and 511"):
        wl.score([np.eye(512)] * 4, small, rows=[512])


def test_exact_top_k_finds_everything(small):
    found = wl.score(wl.selectors.exact_top_k(small.Q, small.K, budget=3), small)
    assert found.recall == 1
    assert found.output_error < 0.02
