"""The claims ledger: every result, with what the chapters' checks measured.

The register of `claims` says what is claimed; the committed notebooks say what was measured. This
module joins the two, so that neither holds a copy of the other.
"""

import math
from dataclasses import asdict
from pathlib import Path

from jl_attention.errors import ClaimError

from .claims import CLAIMS, RESULTS, recorded, slack_text

RELATION_SIGNS = {"<=": "≤", ">=": "≥"}

IN_USE = "in use (Part III)"
"""What results are called whose letter is not the paper's, a lemma's or a theorem's."""


def ledger(book):
    """Return every result with what its checks measured, ready for JSON.

    Parameters
    ----------
    book : str or path
        The folder of the book's notebooks.

    Returns
    -------
    list of dict
        One a result, with the attributes of `Result`. Each of its ``checks`` has the attributes of
        `Claim`, the ``page`` of its chapter, and ``records``: ``measured``, ``relation``, ``bound``
        and ``slack`` (None if infinite) of each time it was checked there.

    Raises
    ------
    ClaimError
        A chapter holds no record of a check registered for it, or one that is not registered.
    """
    pages = {int(path.name[:2]): path for path in sorted(Path(book).glob("[0-9][0-9]-*.ipynb"))}
    records = {chapter: recorded(path) for chapter, path in pages.items()}
    for chapter, found in records.items():
        for record in found:
            if record.id not in CLAIMS or CLAIMS[record.id].chapter != chapter:
                raise ClaimError(f"{pages[chapter].name}: {record.id} is not registered for it")

    def of_check(claim):
        rows = [record for record in records.get(claim.chapter, ()) if record.id == claim.id]
        if not rows:
            raise ClaimError(f"{claim.id}: chapter {claim.chapter} holds no record of it")
        return asdict(claim) | {
            "page": pages[claim.chapter].stem,
            "records": [
                asdict(row) | {"slack": row.slack if math.isfinite(row.slack) else None}
                for row in rows
            ],
        }

    return [
        asdict(result) | {"checks": [of_check(claim) for claim in result.checks]}
        for result in RESULTS.values()
    ]


def totals(entries):
    """Return a Markdown table that counts results by status, and their checks.

    Parameters
    ----------
    entries : list of dict
        From `ledger`.

    Returns
    -------
    str
        MyST Markdown.
    """
    statuses = ["proved", "in part", "not checked"]
    rows = [f"| | {' | '.join(statuses)} | checks, all hold |", "| - | - | - | - | - |"]
    kinds = {"C": "claims of the paper", "L": "lemmas", "T": "theorems"}
    for kind in (*kinds.values(), IN_USE):
        chosen = [entry for entry in entries if kinds.get(entry["id"][0], IN_USE) == kind]
        named = [
            ", ".join(entry["id"] for entry in chosen if entry["status"] == status)
            for status in statuses
        ]
        count = sum(len(_records(entry)) for entry in chosen)
        rows.append(f"| {kind} | {' | '.join(named)} | {count} |")
    return "\n".join(rows)


def summary(entries):
    """Return a Markdown table of the ledger, one row a result, linked to its details.

    Parameters
    ----------
    entries : list of dict
        From `ledger`.

    Returns
    -------
    str
        MyST Markdown.
    """
    rows = ["| | result | status | checks | tightest slack |", "| - | - | - | - | - |"]
    for entry in entries:
        slacks = [_slack(record) for record in _records(entry)]
        count, tightest = len(slacks), slack_text(min(slacks)) if slacks else ""
        if not count:
            count = "of " + ", ".join(_results_of(entry["rests_on"])) if entry["rests_on"] else 0
        rows.append(
            f"| [{entry['id']}](#claim-{entry['id'].lower()}) | {entry['title']} "
            f"| {entry['status']} | {count} | {tightest} |"
        )
    return "\n".join(rows)


def details(entry):
    """Return all that the ledger knows of one result.

    Parameters
    ----------
    entry : dict
        From `ledger`.

    Returns
    -------
    str
        MyST Markdown.
    """
    stated = ", ".join(f"{{prf:ref}}`{label}`" for label in entry["stated"])
    parts = [
        f"(claim-{entry['id'].lower()})=\n**{entry['id']}. {entry['title']}** "
        f"({entry['status']}{': ' + stated if stated else ''})",
        entry["statement"],
        f"*Hypotheses.* {entry['hypotheses']}",
        f"*Not covered, or failing in practice.* {entry['limits']}",
    ]
    if entry["checks"]:
        rows = ["| check | measured, and its bound | slack |", "| - | - | - |"]
        for check in entry["checks"]:
            for record in check["records"]:
                relation = RELATION_SIGNS.get(record["relation"], record["relation"])
                rows.append(
                    f"| [{check['id']}]({check['page']}.ipynb), {check['kind']}: "
                    f"{check['statement']} | {record['measured']:.3g} {relation} "
                    f"{record['bound']:.3g} | {slack_text(_slack(record))} |"
                )
        parts.append("\n".join(rows))
    if entry["rests_on"]:
        parts.append("*Rests on* the checks " + ", ".join(entry["rests_on"]) + ".")
    if entry["tests"]:
        parts.append("*Tested in* " + ", ".join(f"`{test}`" for test in entry["tests"]) + ".")
    return "\n\n".join(parts)


def _results_of(checks):
    """Return the results that these checks belong to, each once, in order."""
    return list(dict.fromkeys(CLAIMS[check].result for check in checks))


def _records(entry):
    return [record for check in entry["checks"] for record in check["records"]]


def _slack(record):
    return math.inf if record["slack"] is None else record["slack"]
