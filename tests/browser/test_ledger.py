"""The claims ledger as published: the page and claims.json hold what the notebooks printed."""

import json

import pytest
from conftest import PHONE, ROOT

from jl_attention_book.ledger import ledger, outcome

PAGE = "book/claims.html"
SCREENS = 8
SHOWN = "details.ledger-entry:not([hidden])"


def test_the_page_and_the_file_hold_the_ledger(visit):
    entries = ledger(ROOT / "book")
    with visit(PAGE) as visited:
        published = visited.page.evaluate(
            "fetch(document.querySelector('a[href$=\"claims.json\"]').href).then(r => r.json())"
        )
        rows = visited.page.eval_on_selector_all(
            "details.ledger-entry li", "rows => rows.map(r => r.textContent)"
        )
    assert published["results"] == json.loads(json.dumps(entries))
    for entry in entries:
        for check in entry["checks"]:
            for record in check["records"]:
                measured = f": {outcome(record)}"
                assert any(row.startswith(check["id"]) and measured in row for row in rows), check


def test_it_is_short_on_a_phone(visit):
    with visit(PAGE, PHONE) as visited:
        height = visited.page.evaluate("document.documentElement.scrollHeight")
    assert height < SCREENS * PHONE[1]


def test_without_a_script_everything_is_visible(visit):
    with visit(PAGE, PHONE, java_script_enabled=False) as visited:
        closed = visited.page.locator("details.ledger-entry:not([open])").count()
        assert closed == 0
        assert not visited.page.locator(".ledger-filters").is_visible()


@pytest.mark.parametrize(
    ("control", "value", "wanted"),
    [
        ("status", "in part", lambda entry: entry["status"] == "in part"),
        ("kind", "law", lambda entry: any(c["kind"] == "test" for c in entry["checks"])),
    ],
)
def test_a_filter_leaves_what_it_names(visit, control, value, wanted):
    entries = ledger(ROOT / "book")
    with visit(PAGE) as visited:
        page = visited.page
        assert page.locator(SHOWN).count() == len(entries)
        page.locator(f'[data-filter="{control}"]').select_option(value)
        titles = page.locator(f"{SHOWN} > summary").all_inner_texts()
        expected = [entry["id"] for entry in entries if wanted(entry)]
        assert [title.split(".")[0].strip() for title in titles] == expected
        assert (
            page.locator(".ledger-filters [role=status]")
            .inner_text()
            .startswith(str(len(expected)))
        )


def test_words_filter_and_links_open_what_they_lead_to(visit):
    with visit(f"{PAGE}#claim-t5") as visited:
        page = visited.page
        page.wait_for_selector("details.ledger-entry[open]")
        assert page.locator("details.ledger-entry[open] > summary").inner_text().startswith("T5")
        page.locator('[data-filter="words"]').fill("moment curve")
        assert 0 < page.locator(SHOWN).count() < 6
