"""Figures of the built book: legible on a phone and on a desktop, in the light and in the dark."""

import io
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from conftest import DESKTOP, HTML, PHONE
from PIL import Image

from jl_attention_book import vector
from jl_attention_book.figures import COLORS

PAGES = sorted(
    path.relative_to(HTML).as_posix()
    for path in HTML.glob("book/*.html")
    if "<picture>" in path.read_text("utf-8")
)
LEAST = 11
"""Pixels."""

WINDOW = (580, 800)
"""The narrowest that has figures as they were drawn."""

FIGURES = """async () => {
  const found = [];
  for (const image of document.querySelectorAll("picture img")) {
    image.loading = "eager";
    await image.decode();
    const { left, right, width, height } = image.getBoundingClientRect();
    const shape = image.naturalWidth / image.naturalHeight;
    found.push({ address: image.currentSrc, left, right, width, height, shape });
  }
  return found;
}"""
# What is written in an SVG and lies outside its edges.
OUTSIDE = """text => {
  const holder = document.createElement("div");
  holder.innerHTML = text;
  document.body.append(holder);
  const svg = holder.querySelector("svg"), edge = svg.getBoundingClientRect(), outside = [];
  for (const letters of svg.querySelectorAll('g[transform*="scale("]')) {
    const box = letters.getBoundingClientRect();
    if (!box.width) continue;
    if (box.left < edge.left - 1 || box.right > edge.right + 1
        || box.top < edge.top - 1 || box.bottom > edge.bottom + 1)
      outside.push([box.left - edge.left, box.top - edge.top, box.width, box.height]);
  }
  holder.remove();
  return outside;
}"""


def text_of(address):
    """Return the text of a file of the site, given its address."""
    return (HTML / unquote(urlsplit(address).path).lstrip("/")).read_text("utf-8")


def luminance(pixels):
    """Return the relative luminance of colours between 0 and 255 (WCAG)."""
    x = np.asarray(pixels, dtype=float) / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    """Return the contrast of two colours, at least 1."""
    one, other = luminance(one), luminance(other)
    return (np.maximum(one, other) + 0.05) / (np.minimum(one, other) + 0.05)


def pixels_of(locator):
    """Return the colours of a part of the page as it is shown, shape (n, 3)."""
    picture = Image.open(io.BytesIO(locator.screenshot())).convert("RGB")
    return np.asarray(picture).reshape(-1, 3)


def test_most_pages_have_figures_and_all_of_them_are_vectors():
    assert len(PAGES) > 12
    assert not [path for path in PAGES if "<figure" in path and ".png" in text_of(path)]


@pytest.mark.parametrize("size", [PHONE, WINDOW, DESKTOP], ids=["phone", "window", "desktop"])
@pytest.mark.parametrize("path", PAGES)
def test_every_letter_is_large_enough_and_nothing_is_cut_off(visit, path, size):
    problems = []
    with visit(path, size) as visited:
        for figure in visited.page.evaluate(FIGURES):
            name, text = figure["address"].rsplit("/", 1)[1], text_of(figure["address"])
            if name.endswith("-narrow.svg") and size != PHONE:
                problems.append(f"{name}: not for this width")
            letter = min(vector.letter_heights(text)) * figure["width"]
            if letter < LEAST:
                problems.append(f"{name}: letters of {letter:.1f} px")
            if figure["left"] < -0.5 or figure["right"] > size[0] + 0.5:
                problems.append(f"{name}: from {figure['left']:.0f} to {figure['right']:.0f} px")
            if abs(figure["width"] / figure["height"] / figure["shape"] - 1) > 0.02:
                problems.append(f"{name}: out of shape")
            problems += [f"{name}: cut off: {box}" for box in visited.page.evaluate(OUTSIDE, text)]
    assert not problems


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_ink_stands_out_from_the_page(visit, path, theme):
    with visit(path, PHONE, theme) as visited:
        page = visited.page
        page.evaluate(FIGURES)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        ground = [int(x) for x in ground[4:-1].split(",")[:3]]
        for figure in page.locator("picture img").all():
            pixels = pixels_of(figure)
            colours, counts = np.unique(pixels, axis=0, return_counts=True)
            assert contrast(colours[counts.argmax()], ground) < 1.2
            assert np.quantile(contrast(pixels, ground), 0.999) > 7


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_of_the_figures_stands_out(visit, theme):
    inks = [color for name, color in COLORS.items() if name not in ("forbidden", "target")]
    bands = "".join(
        f'<rect y="{10 * k}" width="40" height="10" fill="{ink}"/>' for k, ink in enumerate(inks)
    )
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="{10 * len(inks)}">{bands}'
    with visit(PAGES[0], PHONE, theme) as visited:
        page = visited.page
        page.evaluate(FIGURES)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        ground = [int(x) for x in ground[4:-1].split(",")[:3]]
        page.evaluate(
            """svg => {
              const image = document.querySelector("picture img");
              image.previousElementSibling.remove();
              image.src = "data:image/svg+xml," + encodeURIComponent(svg + "</svg>");
              image.removeAttribute("width"), image.removeAttribute("height");
              return image.decode();
            }""",
            svg,
        )
        picture = Image.open(io.BytesIO(page.locator("picture img").first.screenshot()))
        pixels = np.asarray(picture.convert("RGB"))
        middles = (np.arange(len(inks)) + 0.5) / len(inks) * len(pixels)
        column = pixels[middles.astype(int), pixels.shape[1] // 2]
        assert len(np.unique(column, axis=0)) == len(inks)
        assert contrast(column, ground).min() > 2.9
