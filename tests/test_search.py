"""The search for the smallest dimension, and the exact law of the Gram matrices it draws."""

import csv
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from toc import ROOT

import jl_attention as jla
from jl_attention import search
from jl_attention.methods import Interpolate
from jl_attention_book import sweeps

TABLE = ROOT / "book/results/smallest_dim.csv"
LOOSE = {"ratio_error": 1.0, "leak": 0.5}


# --- Gram matrices -------------------------------------------------------------------------------


@pytest.mark.parametrize("gram", [search.gaussian_gram, search.streamed_gram])
@pytest.mark.parametrize("dim", [2, 5, 40])
def test_gram_matrices_have_the_exact_law_of_a_projection(gram, dim):
    # For a unit x, m x^T (G^T G) x is chi-square with m degrees of freedom, whatever x is. The
    # Kolmogorov-Smirnov distance of 4000 draws exceeds the threshold with probability 1e-9.
    n, draws = 5, 4000
    x = np.array([0.5, -0.5, 0.5, 0.1, np.sqrt(0.24)])
    assert x @ x == pytest.approx(1)
    rng = np.random.default_rng(0)
    lengths = np.array([x @ gram(dim, n, rng) @ x for _ in range(draws)]) * dim
    limit = stats.kstwo.isf(1e-9, draws)
    assert stats.ks_1samp(lengths, stats.chi2(dim).cdf).statistic < limit
    # The same test sees a wrong number of degrees of freedom.
    assert stats.ks_1samp(lengths, stats.chi2(1.4 * dim).cdf).statistic > limit


def test_both_ways_to_draw_a_gram_matrix_agree_off_the_diagonal():
    # m <Gx, Gy> for orthogonal unit x, y: the difference of two halved chi-squares with m degrees.
    m, draws = 12, 4000
    for gram in (search.gaussian_gram, search.streamed_gram):
        rng = np.random.default_rng(1)
        products = np.array([gram(m, 3, rng)[0, 2] for _ in range(draws)])
        tails = jla.concentration.inner_product_tail(m, np.abs(products), 0.0, side="upper")
        uniform = np.where(products > 0, 1 - tails, tails)
        limit = stats.kstwo.isf(1e-9, draws)
        assert stats.ks_1samp(uniform, stats.uniform.cdf).statistic < limit


@given(dim=st.integers(1, 30), n=st.integers(1, 10), seed=st.integers(0, 2**32))
def test_gram_matrices_are_symmetric_and_of_the_right_rank(dim, n, seed):
    for gram in (search.gaussian_gram(dim, n, seed), search.streamed_gram(dim, n, seed)):
        np.testing.assert_allclose(gram, gram.T)
        assert np.linalg.matrix_rank(gram, rtol=1e-12) == min(dim, n)


def test_streaming_in_chunks_gives_the_same_sum():
    whole = search.streamed_gram(50, 4, 3)
    chunked = search.streamed_gram(50, 4, 3, chunk_bytes=8 * 4 * 7)
    np.testing.assert_allclose(chunked, whole, rtol=1e-12)


# --- Drawn logits --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["svd_projection", "row_projection"])
@pytest.mark.parametrize("dim", [10, 20_000])
def test_drawn_logits_have_mean_b(method, dim):
    target = jla.targets.regular(24, 2, 2.0, rng=0)
    sampler = search.LogitSampler(target, method, 3.0)
    rng = np.random.default_rng(0)
    mean = np.mean([sampler.draw(dim, rng).logits() if dim < 24 else sampler.draw(dim, rng)
                    for _ in range(400)], axis=0)  # fmt: skip
    # Each entry has a standard deviation of at most sqrt(2/m) times the product of two norms,
    # which is at most k beta < 8; 6.9 standard errors of 576 nearly normal means miss once in 1e9.
    assert np.abs(mean - sampler.B.toarray()).max() < 6.9 * 8 * np.sqrt(2 / dim / 400)


def test_the_sampler_draws_what_construct_builds():
    # Same target, same m below L: the share of successes agrees, as two samples of one law.
    target, m, draws = jla.targets.regular(96, 2, rng=0), 90, 200
    tau = jla.logits.smallest_logit_scale(**LOOSE)
    for method in ("svd_projection", "row_projection", "interpolate"):
        scale = None if method == "interpolate" else tau
        sampler = search.LogitSampler(target, method, scale or 3 * np.log(2))
        leaks = [np.log(jla.measure(sampler.draw(m, seed), target).leak) for seed in range(draws)]
        built_with = Interpolate("gaussian") if method == "interpolate" else method
        others = [
            np.log(
                jla.measure(
                    jla.construct(target, built_with, **LOOSE, dim=m, rng=seed), target
                ).leak
            )
            for seed in range(1000, 1000 + draws)
        ]
        assert stats.ks_2samp(leaks, others).pvalue > 1e-9


# --- The search ----------------------------------------------------------------------------------


def test_the_search_brackets_the_success_probability_of_one_half():
    target = jla.targets.regular(64, 2, rng=0)
    found = search.smallest_dim(target, "interpolate", leak=0.1, seeds=15, rng=0)
    assert found.low <= found.dim <= found.high
    assert 0.9 <= found.confidence < 1
    assert len(found.dims) == 15

    def successes(dim):
        gaussian = Interpolate("gaussian")
        draws = (
            jla.construct(target, gaussian, leak=0.1, dim=int(dim), rng=seed) for seed in range(60)
        )
        return sum(jla.measure(built, target).leak <= 0.1 for built in draws)

    # 60 draws with success probability 1/2 lie outside 9..51 once in 1e8.
    assert successes(0.6 * found.dim) < 30 < successes(1.6 * found.dim)


def test_no_theorem_asks_for_less_than_the_draws_need():
    target = jla.targets.regular(64, 3, 2.0, rng=0)
    for method in ("svd_projection", "row_projection", "interpolate"):
        found = search.smallest_dim(target, method, 0.5, 0.1, seeds=5, rng=0)
        promised = jla.required_dim_for_target(target, method, 0.5, 0.1, failure_prob=0.5)
        assert found.low <= promised


def test_the_search_is_reproducible_with_any_executor():
    target = jla.targets.regular(48, 2, rng=0)
    calls = []
    alone = search.smallest_dim(
        target, leak=0.1, seeds=6, rng=5, progress=lambda *call: calls.append(call)
    )
    assert calls == [(i, 6) for i in range(1, 7)]
    with ThreadPoolExecutor(2) as executor:
        threaded = search.smallest_dim(target, leak=0.1, seeds=6, rng=5, executor=executor)
    assert threaded == alone
    assert search.smallest_dim(target, leak=0.1, seeds=6, rng=6) != alone


@pytest.mark.filterwarnings("default")
def test_the_search_runs_on_dask():
    distributed = pytest.importorskip("distributed")
    target = jla.targets.regular(48, 2, rng=0)
    alone = search.smallest_dim(target, leak=0.1, seeds=6, rng=5)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        executor = client.get_executor(pure=False)
        assert search.smallest_dim(target, leak=0.1, seeds=6, rng=5, executor=executor) == alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "method"),
        ({"method": "svd_projection"}, "ratio_error"),
        ({"seeds": 0}, "seeds=0"),
        ({"resolution": 1.0}, "resolution"),
        ({"executor": "two"}, "executor"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(jla.ParameterError, match=message):
        search.smallest_dim(np.eye(4), **options, rng=0)


def test_the_median_interval_has_its_level():
    # Order statistics r and n-1-r of n draws miss the median with probability 2 P(Bin(n,1/2) <= r).
    assert search._median_interval(15) == (3, pytest.approx(1 - 2 * 576 / 2**15))
    assert search._median_interval(1) == (0, 0.0)
    for count in range(5, 60):
        below, level = search._median_interval(count)
        assert 0.9 <= level < 1
        assert below <= (count - 1) // 2


# --- The committed table -------------------------------------------------------------------------


def table():
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_every_problem_of_the_sweep():
    stored = [
        tuple(row[key] for key in ("sweep", "method", "length", "row_nnz")) for row in table()
    ]
    wanted = [
        tuple(str(problem[key]) for key in ("sweep", "method", "length", "row_nnz"))
        for problem in sweeps.sweep()
    ]
    assert stored == wanted


def slice_of_the_table(longest):
    """Return the problems that take seconds, with the stored rows."""
    problems = zip(sweeps.sweep(), table(), strict=True)
    return [pair for pair in problems if pair[0]["length"] <= longest]


def is_reproduced(problem, stored):
    again = sweeps.solve(problem)
    assert list(again) == list(stored)
    return {key: str(value) for key, value in again.items()} == stored


def test_a_slice_of_the_table_is_reproduced():
    # On another machine a trial within rounding of the precision asked for may come out otherwise,
    # once in many thousands, and move one seed of one problem.
    rows = slice_of_the_table(128)
    assert len(rows) > 12
    assert sum(is_reproduced(*row) for row in rows) >= len(rows) - 1


def test_another_seed_is_not_mistaken_for_the_table(monkeypatch):
    found = search.smallest_dim
    monkeypatch.setattr(
        sweeps, "smallest_dim", lambda *args, **options: found(*args, **{**options, "rng": 1})
    )
    assert sum(is_reproduced(*row) for row in slice_of_the_table(64)) <= 1


def test_the_command_replaces_the_table_when_all_is_solved(tmp_path, monkeypatch, capsys):
    problem = {"sweep": "length", "method": "interpolate", "length": 8, "row_nnz": 1}
    problem |= {"max_ratio": 1.0, "ratio_error": 0.0, "leak": 0.5}
    monkeypatch.setattr(sweeps, "sweep", lambda: [problem])
    output = tmp_path / "table.csv"
    output.write_text("the old table")
    solve = sweeps.solve

    def failing(*args, **options):
        raise RuntimeError("a worker died")

    monkeypatch.setattr(sweeps, "solve", failing)
    with pytest.raises(RuntimeError, match="a worker died"):
        sweeps.main(["-o", str(output)])
    assert output.read_text() == "the old table"
    monkeypatch.setattr(sweeps, "solve", solve)
    sweeps.main(["-o", str(output)])
    header, row = output.read_text().splitlines()
    assert header.startswith("sweep,method,length")
    assert row.startswith("length,interpolate,8,1")
    assert list(tmp_path.iterdir()) == [output]
    assert "interpolate" in capsys.readouterr().err


# --- From precision to total variation (T8) ------------------------------------------------------


@given(
    length=st.integers(2, 20),
    seed=st.integers(0, 2**32),
    noise=st.floats(0, 2),
    logit_scale=st.floats(0.1, 10),
)
def test_total_variation_bound_holds(length, seed, noise, logit_scale):
    rng = np.random.default_rng(seed)
    target = jla.targets.row_sparse(length, int(rng.integers(1, length + 1)), 5.0, rng=rng)
    B = jla.logits.target_logits(target, logit_scale).toarray()
    report = jla.measure(B + noise * rng.uniform(-1, 1, B.shape), target)
    bound = jla.precision.total_variation_bound(target, report.ratio_error, report.leak)
    assert (report.row_total_variation <= bound * (1 + 1e-9) + 1e-12).all()


def test_total_variation_bound_is_attained_by_exact_ratios():
    target = jla.targets.regular(30, 3, rng=0)
    report = jla.measure(jla.logits.target_logits(target, 4.0).toarray(), target)
    bound = jla.precision.total_variation_bound(target, 0.0, report.leak)
    np.testing.assert_allclose(bound, report.row_total_variation, rtol=1e-9)


def test_total_variation_bound_without_a_leak_is_attained_on_two_tokens():
    # Likelihood ratios 1/sqrt(c) and sqrt(c), balanced: the extreme case of the second term.
    c = 4.0
    a = 1 / (1 + np.sqrt(c))
    target = np.array([[a, 1 - a], [a, 1 - a]])
    logits = np.log(target) + np.array([np.log(c), 0.0])
    report = jla.measure(logits, target)
    bound = jla.precision.total_variation_bound(target, report.ratio_error, report.leak)
    np.testing.assert_allclose(bound, report.row_total_variation, rtol=1e-9)


@given(
    length=st.integers(2, 1000),
    row_nnz=st.integers(1, 20),
    total_variation=st.floats(1e-6, 0.99),
)
def test_leak_for_total_variation(length, row_nnz, total_variation):
    row_nnz = min(row_nnz, length)
    leak = jla.precision.leak_for_total_variation(length, row_nnz, total_variation)
    assert min(total_variation / length, 0.999) <= leak < 1
    target = jla.targets.row_sparse(length, row_nnz, 3.0, rng=0)
    bound = jla.precision.total_variation_bound(target, 0.0, leak)
    assert (bound <= total_variation * (1 + 1e-9)).all()


@given(seed=st.integers(0, 2**32), noise=st.floats(0, 3))
def test_outputs_move_by_at_most_the_bound(seed, noise):
    rng = np.random.default_rng(seed)
    target = jla.targets.row_sparse(12, 3, 4.0, rng=rng)
    logits = jla.logits.target_logits(target, 2.0).toarray()
    logits += noise * rng.standard_normal(logits.shape)
    M = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    values = rng.standard_normal((12, 5))
    moved = np.abs(M @ values - target @ values).max()
    total_variation = jla.measure(logits, target).total_variation
    allowed = jla.precision.output_error_bound(total_variation, values).max()
    assert moved <= allowed * (1 + 1e-9)
