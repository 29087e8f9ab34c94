"""Hover cards show what a link leads to, to a mouse and to the keyboard, and get out of the way."""

import pytest
from conftest import DESKTOP, PHONE

CARD = ".hover-card"


def link(page, text):
    return page.locator(".bd-article a.reference.internal", has_text=text).first


@pytest.mark.parametrize(
    ("path", "text", "shown"),
    [
        ("book/07-interpolation.html", "Theorem 6.1", "row norms instead of the spectral norm"),
        ("book/glossary.html", "Monte Carlo", "draws once and may fail"),
        ("book/01-attention-matrices.html", "Reimers", "Sentence"),
    ],
)
def test_a_mouse_sees_what_the_link_leads_to(visit, path, text, shown):
    with visit(path) as visited:
        page = visited.page
        link(page, text).hover()
        page.locator(CARD, has_text=shown).wait_for()
        assert not page.locator(f"{CARD} .math:not(:has(mjx-container))").count()
        page.mouse.move(5, 5)
        page.locator(CARD).wait_for(state="detached")
        assert visited.console + visited.missing + visited.outside == []


def test_the_keyboard_sees_it_and_closes_it(visit):
    with visit("book/07-interpolation.html") as visited:
        page = visited.page
        target = link(page, "Theorem 6.1")
        page.keyboard.press("Tab")
        target.focus()
        page.locator(CARD).wait_for()
        assert target.get_attribute("aria-describedby") == "hover-card"
        assert page.locator(CARD).get_attribute("role") == "tooltip"
        page.keyboard.press("Escape")
        assert page.locator(CARD).count() == 0
        assert target.get_attribute("aria-describedby") is None


def test_a_touch_follows_the_link(visit):
    with visit("book/07-interpolation.html", PHONE, has_touch=True) as visited:
        page = visited.page
        link(page, "Theorem 6.1").tap()
        page.wait_for_url("**/06-logarithmic-dimension.html#**")


def test_a_card_stays_on_the_screen(visit):
    with visit("book/07-interpolation.html", DESKTOP) as visited:
        page = visited.page
        for text in ("Theorem 6.1", "Fig. 7.1"):
            link(page, text).hover()
            page.locator(CARD).wait_for()
            box = page.locator(CARD).bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= DESKTOP[0]
            page.keyboard.press("Escape")
            page.mouse.move(5, 5)
