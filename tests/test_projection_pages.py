"""What chapters 2 to 6 draw and print, and the table of smallest dimensions they read."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

import jl_attention as jla
from jl_attention_book import claims, figures, sweeps
from jl_attention_book import projections as page


@pytest.fixture(autouse=True)
def _no_windows(monkeypatch):
    figures.style()
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))


# --- Tables and intervals ------------------------------------------------------------------------


def test_a_table_is_aligned_to_the_right(capsys):
    page.table(["L", "exact"], [["16", "7"], ["1024", "123456"]])
    assert capsys.readouterr().out == "   L   exact\n  16       7\n1024  123456\n"


@pytest.mark.parametrize("hits", [0, 1, 7, 20])
def test_intervals_are_clopper_pearson(hits):
    expected = stats.binomtest(hits, 20).proportion_ci(0.95, "exact")
    actual = page.clopper_pearson(np.array([hits]), 20)
    assert actual[:, 0] == pytest.approx([expected.low, expected.high])


# --- Figures -------------------------------------------------------------------------------------


def drawn(monkeypatch, draw, *arguments):
    """Return the axes of a figure as it is when it would be shown."""
    seen = []
    monkeypatch.setattr(plt, "show", lambda: seen.extend(plt.gcf().axes))
    draw(*arguments)
    assert seen
    return seen


def test_shells_keep_the_lengths(monkeypatch):
    images = {m: np.random.default_rng(0).standard_normal((5, m)) for m in (2, 9)}
    axes = drawn(monkeypatch, page.shells, images)
    for ax, points in zip(axes, images.values(), strict=True):
        x, y = ax.lines[1].get_data()
        assert np.hypot(x, y) == pytest.approx(np.linalg.norm(points, axis=1))
    plt.close("all")


def test_simulated_tails_are_shares(monkeypatch):
    errors = np.linspace(0, 1, 1001)[1:]  # P(error > e) = 1 - e
    _, ax = plt.subplots()
    page.simulated_tail(ax, errors, lambda e: 1 - e)
    x, y = ax.lines[0].get_data()
    assert len(x) == 14
    assert y == pytest.approx(1 - x, abs=1.1e-3)
    plt.close("all")


def test_the_other_figures_draw_what_they_are_given(monkeypatch):
    rng = np.random.default_rng(0)
    dims, L = np.array([10, 100]), np.array([64.0, 128.0])
    both = {10: rng.random(5), 100: rng.random(5)}
    page.before_and_after(rng.random(5) + 0.1, both)
    page.length_tail(20, rng.chisquare(20, 5000) / 20)
    labels = "closed form", "textbook", "exact"
    page.dimension_against_points(dims, {x: dims * i for i, x in enumerate(labels, 2)}, dims - 1)
    deviations = {0.0: [0.1, 0.05], 0.1: [0.2, 0.15]}
    page.broken_maps(20, rng.random(9), dims, deviations, lambda m, r: m**-0.5 + r)
    page.maps_compared({str(i): (0.1, 0.2) for i in range(8)}, 0.12)
    page.products_before_and_after(rng.random(5), both)
    page.exponents(0.3)
    page.product_tails(20, {0.0: rng.normal(size=5000) / 5, 1.0: rng.normal(size=5000) / 4})
    many = 2 ** np.arange(5, 11)
    page.dimension_against_length(many, many + 99, many / 2, many / 2.1)
    hits = {"a": np.array([0, 4]), "b": np.array([2, 5])}
    page.successes(dims, hits, 5, {"differences": 500, "sharp": 1500}, 1024)
    page.target_beside_attention(np.eye(20), np.full((20, 20), 1 / 20), 10)
    page.fixed_module()
    page.families({"x": np.eye(50), "y": np.eye(50)}, {"x": np.eye(50), "y": np.eye(50)})
    page.side_by_side({"A": np.eye(4), "B": np.eye(4)})
    page.error_against_dim(dims, {"p": np.array([1.0, 0.5]), "q": np.array([0.9, 0.0])}, 0.3, 90)
    page.lengths(L, {"c": (dims, "-", "theory")}, {"w": (L, dims, dims - 1, dims + 1, True)})
    page.logarithm(L, dims, dims - 1, dims + 1, {"line": (dims, "-", "theory")})
    many = 9 * dims
    sweep = {"x": L, "lines": {"theory": many, "beyond": many}, "points": {"o": many, "D": many}}
    page.scaling({name: sweep for name in "abcd"}, 50)
    assert not plt.get_fignums()


# --- The table -----------------------------------------------------------------------------------


def test_a_straight_line_can_hit_three_of_four_intervals():
    x, low = [0.0, 1.0, 2.0, 3.0], np.array([0.0, 1.0, 5.0, 3.0])
    assert sweeps.most_hits(x, low, low + 0.5) == 3
    assert sweeps.most_hits(x, low, low + 4.0) == 4
    assert sweeps.most_hits(x, np.log(low + 1), np.log(low + 1) + 1e-6) == 2


def test_the_misfit_is_chi_square():
    rng, x = np.random.default_rng(0), np.arange(9.0)
    error = np.linspace(1, 2, 9)
    misfits = [
        sweeps.fit_line(x, 3 * x - 2 + error * rng.standard_normal(9), error)[1]
        for _ in range(2000)
    ]
    assert stats.ks_1samp(misfits, stats.chi2(7).cdf).pvalue > 1e-9
    line, misfit = sweeps.fit_line(x, 3 * x - 2, error)
    assert line == pytest.approx([3, -2])
    assert misfit == pytest.approx(0)


def test_first_bites_are_known_numbers():
    def first(row_nnz, method, bound):
        return sweeps.first_bite(row_nnz, method, bound, sweeps.LOOSE)

    assert first(2, "svd_projection", "closed_form") == 5380
    assert first(2, "row_projection", "differences") == 455
    L = np.array([454, 455])
    options = {**sweeps.LOOSE, "failure_prob": 0.5}
    dims = jla.required_dim(L, 2, "row_projection", **options)
    assert (dims < L).tolist() == [False, True]


def test_columns_and_promises_of_a_table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(
        "sweep,method,length,row_nnz,max_ratio,ratio_error,leak,seeds,dim\n"
        "length,row_projection,1024,2,1.0,1.0,0.5,25,400\n"
        "length,svd_projection,1024,2,1.0,1.0,0.5,25,320\n"
    )
    rows = sweeps.read(path)
    length, dim = sweeps.columns(rows, "length", "row_projection", "length", "dim")
    assert (length.tolist(), dim.tolist()) == ([1024.0], [400.0])
    assert [sweeps.promised(row) for row in rows] == [508, 994]
    assert sweeps.promised(rows[0], bound="sharp") == 1289


def test_a_sweep_is_laid_out_for_its_figure():
    rows = [
        {**sweeps.BASE, "sweep": "row_nnz", "method": method, "row_nnz": float(k), "dim": 100.0 * k}
        for method in ("svd_projection", "row_projection")
        for k in (1, 2)
    ]
    shown = sweeps.scaling(rows, "row_nnz")
    assert shown["x"].tolist() == [1.0, 2.0]
    assert shown["slopes"][2:] == pytest.approx([1.0, 1.0])
    assert (shown["lines"]["beyond"] < shown["lines"]["theory"]).all()


# --- Planted bugs --------------------------------------------------------------------------------


def test_a_planted_bug_is_refused_in_print(capsys):
    claims.refuse("T1-leak", measured=0.7, bound=0.5, planted="an eighth of m")
    assert capsys.readouterr().out == "[T1-leak] planted, an eighth of m: 0.7, refused\n"


@pytest.mark.parametrize(
    ("claim", "measured"), [("T1-leak", 0.5), ("T1-leak", 0.1), ("T0-leak", 0.7)]
)
def test_a_planted_bug_that_passes_is_an_error(claim, measured):
    with pytest.raises(jla.ClaimError, match="planted: none"):
        claims.refuse(claim, measured=measured, bound=0.5, planted="none")
