"""Figures as vectors: what the pages show beside the PNG of the notebooks."""

import base64
import itertools
import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pictures
import pytest
from docutils import nodes
from docutils.utils import new_document

from jl_attention_book import figures, vector

BOOK = Path(__file__).parents[1] / "book"
FILES = sorted((BOOK / "figures").glob("*"))
PHONE, LEAST = 390, 11
"""Pixels that a phone is wide, and that a letter is high at least."""


@pytest.fixture(autouse=True)
def agg():
    """Draw without a screen, in the book's style, and leave no figure open."""
    plt.switch_backend("agg")
    figures.style()
    yield
    plt.close("all")
    mpl.rcParams.update(mpl.rcParamsDefault)


def shown_in_notebooks():
    """Return the names that the files of every figure in a notebook should have."""
    return {
        vector.stem(base64.b64decode(output["data"]["image/png"]))
        for path in BOOK.glob("*.ipynb")
        for cell in json.loads(path.read_text())["cells"]
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    }


# --- The committed files -------------------------------------------------------------------------


def test_every_figure_of_a_notebook_has_its_files_and_no_file_is_of_another():
    names = shown_in_notebooks()
    assert len(names) > 40
    stems = {path.stem for path in FILES}
    assert names <= stems, "run make notebooks"
    assert {stem.removesuffix("-narrow") for stem in stems} == names, "run make notebooks"
    assert {path.suffix for path in FILES} == {".svg"}


def test_no_letter_is_small_on_a_phone_nor_beside_a_narrow_window():
    small = {}
    for path in FILES:
        heights = vector.letter_heights(path.read_bytes())
        assert heights, path
        wide, _ = pictures.size(path)
        other = path.with_name(f"{path.stem}-narrow.svg")
        at = min(wide, 36 * 16) if other.exists() else PHONE
        if min(heights) * at < LEAST:
            small[path.name] = min(heights) * at
    assert not small


def test_the_files_are_light():
    weights = {path.name: path.stat().st_size for path in FILES}
    assert max(weights.values()) < 120_000
    assert sum(weights.values()) < 3_000_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_loads_nothing_and_says_nothing_of_its_machine(path):
    text = path.read_text("utf-8")
    links = re.findall(r'href="([^"]{0,30})', text) + re.findall(r"url\(([^)]*)\)", text)
    assert all(link.startswith(("#", "data:image/png;base64")) for link in links)
    named = set(re.findall(r' id="([^"]*)"', text))
    assert {link[1:] for link in links if link.startswith("#")} <= named
    assert not re.search(r"metadata|matplotlib|\d{4}-\d\d-\d\d", text, re.IGNORECASE)


# --- How they are made ---------------------------------------------------------------------------


def grid(rows, columns, **options):
    """Return a figure with a line in each panel, labelled at its left and lower edge."""
    figure, axes = plt.subplots(rows, columns, figsize=(6.4, 3), squeeze=False, **options)
    for ax in axes.flat:
        ax.plot([0, 1], [0, 1])
    for k, ax in enumerate(axes[:, 0]):
        ax.set_ylabel(f"up {k}")
    for k, ax in enumerate(axes[-1]):
        ax.set_xlabel(f"across {k}")
    for k, ax in enumerate(axes[0]):
        ax.set_title(f"column {k}")
    return figure, axes.ravel()


def boxes(figure):
    figure.draw_without_rendering()
    return [ax.get_window_extent() for ax in figure.axes]


def test_panels_come_below_each_other_with_the_labels_they_shared():
    figure, axes = grid(2, 2, sharex=True, sharey=True)
    vector.one_column(figure)
    assert figure.get_size_inches()[0] == pytest.approx(vector.PHONE)
    left, top = [box.x0 for box in boxes(figure)], [box.y1 for box in boxes(figure)]
    assert max(left) - min(left) < 2
    assert top == sorted(top, reverse=True)
    assert [ax.get_ylabel() for ax in axes] == ["up 0", "up 0", "up 1", "up 1"]
    assert [ax.get_xlabel() for ax in axes] == ["across 0", "across 1"] * 2
    assert [ax.get_title() for ax in axes] == ["column 0", "column 1"] * 2
    figure.draw_without_rendering()
    for ax in axes:
        assert any(label.get_text() and label.get_visible() for label in ax.get_yticklabels())
        assert any(label.get_text() and label.get_visible() for label in ax.get_xticklabels())


def test_a_common_label_is_written_once_below():
    figure, axes = plt.subplots(1, 3, figsize=(6.4, 2.5), sharex=True, sharey=True)
    axes[1].set_xlabel("all three")
    vector.one_column(figure)
    assert [ax.get_xlabel() for ax in axes] == ["", "", "all three"]


def test_letters_keep_their_size_and_panels_do_not_overlap():
    figure, _ = grid(2, 2)
    before = {text.get_fontsize() for text in figure.findobj(mpl.text.Text)}
    vector.one_column(figure)
    assert {text.get_fontsize() for text in figure.findobj(mpl.text.Text)} == before
    around = [ax.get_tightbbox() for ax in figure.axes]
    for above, below in itertools.pairwise(around):
        assert below.y1 <= above.y0 + 1


def test_matrices_stand_in_pairs_and_an_arrangement_can_be_chosen():
    figure, axes = plt.subplots(1, 4, figsize=(6.4, 2))
    for ax in axes:
        figures.show_matrix(ax, np.eye(3))
    vector.one_column(figure)
    left = [round(box.x0) for box in boxes(figure)]
    assert left[0] == left[2] < left[1] == left[3]

    figure, axes = grid(1, 3)
    vector.on_a_phone(figure, rows=[[0, 1], [2]])
    vector.one_column(figure)
    first, second, third = boxes(figure)
    assert first.y0 == pytest.approx(second.y0, abs=2)
    assert third.y1 < first.y0
    assert third.width > 1.5 * first.width


def test_one_panel_is_one_file_that_a_phone_can_show(tmp_path):
    figure, ax = plt.subplots(figsize=(5.6, 3))
    ax.text(0.2, 0.2, "the smallest", fontsize=9)
    vector.write(figure, tmp_path / "name")
    (path,) = tmp_path.iterdir()
    assert path.name == "name.svg"
    assert min(vector.letter_heights(path.read_bytes())) * PHONE > LEAST


def test_a_figure_as_narrow_as_a_phone_stays():
    figure, _ = plt.subplots(1, 2, figsize=(4, 2))
    vector.one_column(figure)
    assert figure.get_size_inches() == pytest.approx([4, 2])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two three four", "one two\nthree four"),
        ("length of $a + b + c + d$", "length of\n$a + b + c + d$"),
        ("word", "word"),
        ("two\nlines already there", "two\nlines already there"),
    ],
)
def test_a_long_label_is_broken_in_no_formula(text, expected):
    assert vector.broken(text) == expected


def busy():
    """Return a figure with lines, marks, a cloud, a picture and a formula."""
    rng = np.random.default_rng(0)
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 3))
    left.plot(*rng.standard_normal((2, 30)), "o-")
    left.plot(*rng.standard_normal((2, 2 * vector.MANY)), ".", ms=2)
    left.set(title="a title", xlabel="$x^2$")
    right.imshow(rng.random((5, 5)))
    right.scatter(*rng.random((2, 40)), c=["#0072B2", "#D55E00"] * 20)
    return figure


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    for folder in ("one", "two"):
        vector.write(busy(), tmp_path / folder / "name")
    files = [sorted((tmp_path / folder).iterdir()) for folder in ("one", "two")]
    assert [path.name for path in files[0]] == ["name-narrow.svg", "name.svg"]
    for one, two in zip(*files, strict=True):
        assert one.read_bytes() == two.read_bytes()


def marks(text):
    """Return the coordinates of the marks of an SVG text, to a tenth."""
    found = re.findall(r'<use\b[^>]*\bx="([\d.-]+)" y="([\d.-]+)"', text)
    return [(round(float(x), 1), round(float(y), 1)) for x, y in found]


def test_a_smaller_file_has_every_mark_and_letter(monkeypatch):
    figure = busy()
    vector.keep_pixels(figure)
    small = vector.svg(figure).decode()
    monkeypatch.setattr(vector, "smaller", lambda text: text)
    full = vector.svg(figure).decode()
    assert len(small) < 0.7 * len(full)
    assert not Counter(marks(full)) - Counter(marks(small))
    assert len(marks(small)) > 70
    assert small.count("<use") == full.count("<use")
    assert small.count("<path") == full.count("<path")
    assert small.count("<image") == full.count("<image") == 2  # the cloud and the matrix
    heights = [10 / (72 * 6.4), 11 / (72 * 6.4)]
    assert sorted(set(np.round(vector.letter_heights(small), 4))) == pytest.approx(
        heights, rel=0.02
    )


def test_the_outline_of_a_letter_is_the_same_from_point_to_point():
    path = "M 10 20 L 30 20 Q 40 20 40 30 z M 5 5 L 0 5 z "
    assert vector.relative(path) == "m 10 20 l 20 0 q 10 0 10 10 z m-5-15 l-5 0 z"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("x", "36", "36"),
        ("y", "-25.25", "-25.2"),
        ("d", "M 1 2 L 3 4 ", "m1 2l2 2"),
        ("d", "M 1.23 2 L 3.04 4 z ", "M1.2 2L3 4z"),
        ("transform", "translate(1.26 3) scale(0.015625)", "translate(1.3 3) scale(0.015625)"),
        ("style", "fill: none; stroke: #000000", "fill:none;stroke:#000000"),
        ("clip-path", "url(#p12)", "url(#a1)"),
    ],
)
def test_attributes_get_shorter(key, value, expected):
    assert vector.shorter(key, value, {"p12": "a1"}) == expected


def test_letters_that_are_too_small_are_noticed():
    figure, ax = plt.subplots(figsize=(4, 3))
    ax.text(0.5, 0.5, "small", fontsize=6, rotation=90)
    heights = vector.letter_heights(vector.svg(figure))
    assert min(heights) * PHONE == pytest.approx(6 / 72 / 4 * PHONE, rel=0.01)
    assert min(heights) * PHONE < LEAST


def test_nothing_that_is_drawn_is_cut_off():
    figure, ax = plt.subplots(figsize=(4, 3))
    ax.text(1.3, 0.5, "far to the right", clip_on=False).set_in_layout(True)
    text = vector.svg(figure).decode()
    wide = float(re.search(r'viewBox="0 0 ([\d.]+)', text)[1])
    assert wide >= 4 * 72


# --- How a page shows them -----------------------------------------------------------------------


def page_with(*names):
    """Return a document with pictures as myst-nb makes them."""
    document = new_document("page")
    for name in names:
        uri = f"/_build/jupyter_execute/{name}.png"
        figure = nodes.figure(
            "", nodes.image(uri=uri, alt='it is "good"', width="9px"), nodes.caption()
        )
        document += figure
    return document


def test_a_page_has_the_vectors_that_are_there_and_the_png_of_the_others(tmp_path, monkeypatch):
    folder = tmp_path / "book/figures"
    folder.mkdir(parents=True)
    monkeypatch.setattr(pictures, "FIGURES", folder)
    for name in ("a" * 16, "a" * 16 + "-narrow", "b" * 16):
        (folder / f"{name}.svg").write_text('<svg viewBox="0 0 288 144"></svg>')
    document = page_with("a" * 64, "b" * 64, "c" * 64)
    pictures.replace_figures(SimpleNamespace(srcdir=tmp_path), document)
    uris = [image["uri"] for image in document.findall(nodes.image)]
    assert uris[:2] == [f"/book/figures/{'a' * 16}{kind}.svg" for kind in ("-narrow", "")]
    wide = list(document.findall(nodes.image))[1]
    assert "width" not in wide  # or Sphinx makes it a link to the file
    assert uris[2:] == [f"/book/figures/{'b' * 16}.svg", f"/_build/jupyter_execute/{'c' * 64}.png"]

    writer = SimpleNamespace(body=[])
    writer.builder = SimpleNamespace(
        imgpath="../_images", images={uri: Path(uri).name for uri in uris}
    )
    for picture in document.findall(pictures.Picture):
        with pytest.raises(nodes.SkipNode):
            pictures.visit_picture(writer, picture)
    html = "".join(writer.body)
    assert html.count("<picture>") == html.count("<img") == 2
    assert html.count("<source") == 1
    assert f'srcset="../_images/{"a" * 16}-narrow.svg"' in html
    assert 'alt="it is &quot;good&quot;"' in html
    assert 'width="420" height="210" loading="lazy"' in html
