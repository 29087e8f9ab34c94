"""Figures and tables of the chapters on real attention: they draw what they are given."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from jl_attention_book import datasets, real_figures
from jl_attention_book.tables import table

ENTRIES = {
    "small": np.array([[1.0, 30.0], [20.0, 50.0]]),
    "large": np.arange(30 * 9).reshape(30, 9) / 4,
}


@pytest.fixture(autouse=True)
def figure(monkeypatch):
    """Keep the figure that a function would show, and close it afterwards."""
    mpl.use("Agg")
    monkeypatch.setattr(plt, "show", lambda: None)
    yield plt.gcf
    plt.close("all")


def test_corners_are_the_attention_of_the_heads(figure):
    model = datasets.load_minilm()
    heads = {"first": {"a": (0, 2), "b": (2, 0)}, "second": {"c": (0, 1), "d": (1, 4)}}
    real_figures.corners({"first": model, "second": model}, heads, "story", size=10)
    titles = {ax.get_title(): ax for ax in figure().axes}
    assert list(titles) == ["a", "b", "c", "d"]
    shown = titles["d"].images[0].get_array()
    np.testing.assert_array_equal(shown, model.attention("story", 1, 4)[:10, :10])


def test_words_are_on_both_axes(figure):
    real_figures.words(np.eye(3), ["one", "two", "three"])
    ax = figure().axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["one", "two", "three"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "two", "three"]


def test_every_head_is_a_dot_and_the_sparse_ones_have_a_colour_of_their_own(figure):
    real_figures.by_layer(ENTRIES)
    for ax, counts in zip(figure().axes, ENTRIES.values(), strict=True):
        dots = ax.collections[0]
        np.testing.assert_array_equal(dots.get_offsets()[:, 1], counts.ravel())
        orange = (dots.get_facecolors() == mpl.colors.to_rgba("#D55E00")).all(axis=1)
        np.testing.assert_array_equal(orange, counts.ravel() <= 20)


def test_growth_draws_the_median_head(figure):
    counts = {
        name: ((64, 128), np.stack([values, 2 * values]) + 1) for name, values in ENTRIES.items()
    }
    real_figures.growth(counts)
    lines = figure().axes[0].lines
    for line, (_, values) in zip(lines[:2], counts.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), (64, 128))
        np.testing.assert_array_equal(line.get_ydata(), np.median(values, axis=(1, 2)))


def test_sparse_and_dynamic_puts_both_halves_on_one_dot(figure):
    variation = {name: counts / 100 for name, counts in ENTRIES.items()}
    parked = {name: counts < 2 for name, counts in ENTRIES.items()}
    real_figures.sparse_and_dynamic(ENTRIES, variation, parked)
    for ax, name in zip(figure().axes, ENTRIES, strict=True):
        dots = ax.collections[0]
        expected = np.stack([ENTRIES[name].ravel(), variation[name].ravel()], axis=1)
        np.testing.assert_array_equal(dots.get_offsets(), expected)
        grey = (dots.get_facecolors() == mpl.colors.to_rgba("#B0B0B0")).all(axis=1)
        np.testing.assert_array_equal(grey, parked[name].ravel())


def test_histograms_hold_all_matrices(figure):
    shares = {name: {"all": np.array([0.1, 0.96, 1.0]), "rest": np.array([0.3])} for name in "ab"}
    real_figures.busiest_columns(shares)
    for ax in figure().axes:
        assert [patch.get_label() for patch in ax.patches] == ["all", "rest"]
        highest = [patch.get_xy()[:, 1].max() for patch in ax.patches]
        assert highest == pytest.approx([2 / 3, 1])


def test_head_maps_have_layers_across(figure):
    maps = {"one": ENTRIES, "two": {name: counts / 2 for name, counts in ENTRIES.items()}}
    real_figures.head_maps(maps, vmax=1)
    axes = [ax for ax in figure().axes if ax.images]
    shown = [ax.images[0].get_array() for ax in axes]
    expected = [values.T for one in maps.values() for values in one.values()]
    for array, reference in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(array, reference)
    assert [ax.get_ylabel() for ax in axes] == ["one", "", "two", ""]
    assert [ax.get_title() for ax in axes] == ["small", "large", "", ""]


def test_distance_by_dimension_draws_both_scales(figure):
    curves = {k: {16: (0.9, 0.5), 64: (0.3, 0.2 + k / 100)} for k in (4, 8, 16)}
    real_figures.distance_by_dimension(curves, head_size=32)
    lines = figure().axes[0].lines
    for at, points in enumerate(curves.values()):
        best, default = lines[2 * at : 2 * at + 2]
        np.testing.assert_array_equal(best.get_ydata(), [points[16][1], points[64][1]])
        np.testing.assert_array_equal(default.get_ydata(), [points[16][0], points[64][0]])


def test_a_table_is_as_wide_as_its_entries(capsys):
    table(("", "m", "found"), [("a long name", "5", "0.25"), ("b", "1024", "")])
    expected = "                m  found\na long name     5   0.25\nb            1024\n"
    assert capsys.readouterr().out == expected


def test_a_ragged_table_is_refused():
    with pytest.raises(ValueError, match="zip"):
        table(("a", "b"), [("1",)])
