"""The pages that `make pdf` prints, before a browser prints them."""

import re

import pytest
from print_book import document, plain

PAGE = """<html><head><title>-</title>{head}</head><body><article><h1>{name}</h1>
<a href="b.html#x">there</a> <a href="c.html">not here</a> <a href="https://example.org">out</a>
<p id="x">x</p>{more}</article></body></html>"""
CANONICAL = '<link rel="canonical" href="https://owner.github.io/NAME/book/a.html">'


@pytest.fixture
def small(tmp_path):
    """Return ``write(head, more)``: a book of two pages that link to the second and to a third."""

    def write(head="", more=""):
        (tmp_path / "book").mkdir()
        for name in "ab":
            page = PAGE.format(name=name, head=head, more=more)
            (tmp_path / f"book/{name}.html").write_text(page)
        return tmp_path

    return write


def links(text):
    """Return the addresses that the links of an HTML text lead to, None for a link that is cut."""
    return [found or None for found in re.findall(r'<a(?: href="([^"]*)")?>', text)]


def test_a_link_stays_in_the_file_where_it_can(small):
    own = ["#b--x", None, "https://example.org"]
    assert links(document(small(), ["book/a", "book/b"])) == own * 2


def test_a_link_leads_to_the_published_book_where_there_is_one(small):
    base = "https://owner.github.io/NAME/book/"
    assert links(document(small(CANONICAL), ["book/a"])) == [
        f"{base}b.html#x",
        f"{base}c.html",
        "https://example.org",
    ]


def test_formulas_of_a_heading_become_text():
    assert plain(r"\(d = O(\log L)\)") == "d = O(log L)"
    assert plain(r"\(\tau\) too small") == "τ too small"


def test_solutions_are_printed_and_the_code_of_figures_is_not(small):
    hidden = '<div class="{}"><details class="hide"><summary>Show</summary>{}</details></div>'
    cells = hidden.format("tag_hide-cell", "answer") + hidden.format("tag_hide-input", "plot()")
    text = document(small(more=cells), ["book/a"])
    assert "answer" in text
    assert "plot()" not in text
    assert "<details" not in text
    assert "Show" not in text
