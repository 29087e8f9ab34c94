"""A quiz answers to a mouse, to the keyboard and to a finger, without a script."""

import checks
import pytest
from conftest import DESKTOP, PHONE

PAGE = "book/01-attention-matrices.html"


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_keyboard_opens_an_answer_that_says_right_or_wrong(visit, size):
    with visit(PAGE, size) as visited:
        page = visited.page
        quiz = page.locator(".quiz").first
        choices = quiz.locator("summary")
        choices.first.focus()
        for number in range(choices.count()):
            said = quiz.locator("details > div").nth(number)
            assert not said.is_visible()
            page.keyboard.press("Enter")
            said.wait_for(state="visible")
            assert said.inner_text().startswith("Right." if number == 2 else "Wrong.")
            page.keyboard.press("Tab")
        assert not quiz.locator(".math:not(:has(mjx-container))").count()
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            page.wait_for_function(f"document.documentElement.dataset.theme === '{theme}'")
            assert checks.contrast_problems(page) + checks.axe_problems(page) == []
        assert checks.overflow_problems(page) == []


def test_without_scripts_a_click_opens_it(visit):
    with visit(PAGE, java_script_enabled=False) as visited:
        answer = visited.page.locator(".quiz-answer").first
        assert not answer.locator("div").is_visible()
        answer.locator("summary").click()
        assert answer.locator("div").is_visible()
        answer.locator("summary").click()
        assert not answer.locator("div").is_visible()


def test_paper_shows_answers_and_what_is_said(visit):
    with visit(PAGE) as visited:
        page = visited.page
        page.emulate_media(media="print")
        for part in page.locator(".quiz-answer > *").all():
            assert part.is_visible()


def test_the_search_does_not_find_wrong_answers(visit):
    with visit("search.html?q=Rows+are+normalised+one+by+one") as visited:
        page = visited.page
        page.locator("#search-results p.search-summary").filter(has_text="search").wait_for()
        page.wait_for_timeout(1000)
        assert "normalised one by one" not in page.locator("#search-results").inner_text()
