"""Every page of the built book, as a reader's browser shows it."""

import pytest
from conftest import DESKTOP, HTML, PHONE

PAGES = sorted(str(page.relative_to(HTML)) for page in (HTML / "book").glob("*.html"))


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_wider_than_the_screen(visit, path, size):
    with visit(path, size) as visited:
        assert visited.page.evaluate("document.documentElement.scrollWidth") <= size[0]
