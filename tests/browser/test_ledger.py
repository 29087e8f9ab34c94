"""The claims ledger as published: the page and claims.json hold what the notebooks printed."""

import json

from conftest import ROOT

from jl_attention_book.ledger import RELATION_SIGNS, ledger


def test_the_page_and_the_file_hold_the_ledger(visit):
    entries = ledger(ROOT / "book")
    with visit("book/claims.html") as visited:
        published = visited.page.evaluate(
            "fetch(document.querySelector('a[href$=\"claims.json\"]').href).then(r => r.json())"
        )
        rows = visited.page.eval_on_selector_all("article tr", "rows => rows.map(r => r.innerText)")
    assert published["results"] == json.loads(json.dumps(entries))
    for entry in entries:
        for check in entry["checks"]:
            for record in check["records"]:
                relation = RELATION_SIGNS.get(record["relation"], record["relation"])
                measured = f"{record['measured']:.3g} {relation} {record['bound']:.3g}"
                assert any(row.startswith(check["id"]) and measured in row for row in rows), check
