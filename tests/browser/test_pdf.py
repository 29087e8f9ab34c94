"""What `make pdf` prints, with Chromium."""

import pytest
from conftest import HTML
from print_book import document, to_pdf


def test_two_pages_make_one_file_with_an_outline_and_formulas(browser):
    printed = to_pdf(browser, HTML, "book", document(HTML, ["book/notation", "book/bibliography"]))
    assert printed.startswith(b"%PDF-")
    assert b"/Outlines" in printed
    assert b"/Type3" in printed  # the fonts of MathJax


def test_a_missing_picture_is_an_error(browser):
    with pytest.raises(FileNotFoundError, match=r"book/nowhere\.png"):
        to_pdf(browser, HTML, "book", '<img src="nowhere.png">')
