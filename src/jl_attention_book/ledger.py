"""The claims ledger: every result, with what the chapters' checks measured.

The register of `claims` says what is claimed; the committed notebooks say what was measured. This
module joins the two, so that neither holds a copy of the other.
"""

import math
import re
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


KINDS = {"bound": "bound", "test": "law", "observation": "observed"}
"""What the page calls the kinds of `Claim`."""


def outcome(record):
    """Return what a check found: a number beside its bound, or that all of what was tried holds.

    Parameters
    ----------
    record : dict
        Of `ledger`.

    Returns
    -------
    str
        "holds" for a check with the answer yes or no, "6 of 6" for a count of answers, "none" for a
        count of failures, and else as in "0.939 ≤ 1".
    """
    measured, relation, bound = (record[key] for key in ("measured", "relation", "bound"))
    whole = measured == bound and float(bound).is_integer()
    if relation == ">=" and whole:
        return "holds" if bound == 1 else f"{measured:.0f} of {bound:.0f}"
    if relation == "<=" and whole and bound == 0:
        return "none"
    return f"{measured:.3g} {RELATION_SIGNS.get(relation, relation)} {bound:.3g}"


def meaningful_slack(check, record):
    """Return the slack of a theorem's bound on a number, or None where it means nothing.

    A yes has none; that of a test or an observation says how its threshold was chosen.
    """
    if check["kind"] != "bound" or not outcome(record)[0].isdigit() or "of" in outcome(record):
        return None
    return _slack(record)


SYMBOL = re.compile(
    r"(?<![\w$`'’\\-])(?P<letter>[kLmNdpbuRXx]|[αβγδεηθλμντωχΔΣ])(?P<below>[₀-₉]*)(?P<above>[⁻⁰¹²³⁴-⁹]*)"
    r"(?![\w'’`]|-\w)"
)
SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
GREEK = {
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "δ": "delta",
    "ε": "varepsilon",
    "η": "eta",
    "θ": "theta",
    "λ": "lambda",
    "μ": "mu",
    "ν": "nu",
    "τ": "tau",
    "ω": "omega",
    "χ": "chi",
    "Δ": "Delta",
    "Σ": "Sigma",
}


def typeset(text):
    r"""Return plain text with its letters of mathematics as TeX in dollars.

    Examples
    --------
    >>> typeset("At m of order k² log L, ε₁ > 0")
    'At $m$ of order $k^{2}$ log $L$, $\\varepsilon_{1}$ > 0'
    """

    def formula(found):
        letter = found["letter"]
        tex = f"\\{GREEK[letter]}" if letter in GREEK else letter
        if found["below"]:
            tex += f"_{{{found['below'].translate(SUBSCRIPTS)}}}"
        if found["above"]:
            tex += f"^{{{found['above'].translate(SUPERSCRIPTS)}}}"
        return f"${tex}$"

    return SYMBOL.sub(formula, text)


def details(entry):
    """Return all that the ledger knows of one result, folded under its title.

    Parameters
    ----------
    entry : dict
        From `ledger`.

    Returns
    -------
    str
        MyST Markdown: a ``dropdown``, open, which the page's script closes. Its classes are what
        the page's filters look for.
    """
    stated = ", ".join(f"{{prf:ref}}`{label}`" for label in entry["stated"])
    kinds = sorted({KINDS[check["kind"]] for check in entry["checks"]})
    classes = ["ledger-entry", f"status-{entry['status'].replace(' ', '-')}"]
    classes += [f"kind-{kind}" for kind in kinds]
    count = len(_records(entry))
    checks = f"{count} check{'s' if count != 1 else ''}"
    if not count and entry["rests_on"]:
        checks = "checks of " + ", ".join(_results_of(entry["rests_on"]))
    parts = [
        f"(claim-{entry['id'].lower()})=\n"
        f"::::{{dropdown}} {entry['id']}. {entry['title']}: {entry['status']}, {checks}\n"
        f":open:\n:class-container: {' '.join(classes)}",
        typeset(entry["statement"]) + (f" ({stated})" if stated else ""),
        f"*Hypotheses.* {typeset(entry['hypotheses'])}",
        f"*Not covered, or failing in practice.* {typeset(entry['limits'])}",
    ]
    if entry["checks"]:
        lines = []
        for check in entry["checks"]:
            for record in check["records"]:
                slack = meaningful_slack(check, record)
                room = "" if slack is None else f", slack {slack_text(slack)}"
                attained = slack is not None and abs(slack - 1) < 1e-9
                room = ", attained" if attained else room
                lines.append(
                    f"- [{check['id']}]({check['page']}.ipynb), *{KINDS[check['kind']]}*: "
                    f"{typeset(check['statement'])}: **{outcome(record)}**{room}."
                )
        parts.append("\n".join(lines))
    if entry["rests_on"]:
        parts.append("*Rests on* the checks " + ", ".join(entry["rests_on"]) + ".")
    if entry["tests"]:
        parts.append("*Tested in* " + ", ".join(f"`{test}`" for test in entry["tests"]) + ".")
    return "\n\n".join([*parts, "::::"])


def _results_of(checks):
    """Return the results that these checks belong to, each once, in order."""
    return list(dict.fromkeys(CLAIMS[check].result for check in checks))


def _records(entry):
    return [record for check in entry["checks"] for record in check["records"]]


def _slack(record):
    return math.inf if record["slack"] is None else record["slack"]
