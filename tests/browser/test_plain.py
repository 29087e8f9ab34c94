"""What plain notebooks call theorems and figures is what the built book calls them."""

import plain
from bs4 import BeautifulSoup
from conftest import HTML, ROOT


def test_numbers_are_those_of_the_built_book():
    book = plain.Book(ROOT / "book")
    found = {}
    for page in book.pages:
        soup = BeautifulSoup((HTML / f"book/{page}.html").read_text(), "html.parser")
        for caption in soup.select(".caption-number"):
            box = caption.find_parent(class_="proof") or caption.find_parent("figure")
            found[box["id"]] = caption.text.strip()
    assert len(found) > 60
    assert {label: found.get(label) for label in book.names} == book.names
