"""The book's claims, and the one call that checks a measurement against a bound.

Results and their checks are registered in ``data/claims.toml``. A check is made where the book
states it: ``check("T3-leak", measured=report.leak, bound=0.01)`` prints one line and raises
`ClaimError` if the claim does not hold. Where the variable `JLA_RECORDS` names a folder, the
numbers are kept there with all digits, a file a chapter. `recorded` reads them back and compares
them with the lines of the notebook.
"""

import itertools
import json
import math
import operator
import os
import re
import tomllib
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from jl_attention.errors import ClaimError, ParameterError, check_choice, check_real

RELATIONS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


@dataclass(frozen=True)
class Claim:
    """One check: what is claimed, for which result, and the chapter that checks it.

    Attributes
    ----------
    id : str
    statement : str
        What the measured number is, or what it shows.
    result : str
        The key in `RESULTS` of the result that it belongs to.
    chapter : int
        Where the book checks it.
    kind : {"bound", "test", "observation"}
        Whose the bound is: the theorem's; a statistical test's, exceeded once in 10^9 runs if the
        claim is true; or a number of ours that keeps an observation from changing unnoticed.
    """

    id: str
    statement: str
    result: str
    chapter: int
    kind: str


@dataclass(frozen=True)
class Result:
    """A claim of the paper (C1 to C6), or a lemma or theorem of the book.

    Attributes
    ----------
    id, title, statement, hypotheses : str
        In plain words.
    stated : tuple of str
        Labels of the book where it is stated and proved.
    status : {"proved", "in part", "not checked"}
    limits : str
        What is not covered, and what fails in practice.
    tests : tuple of str
        Tests of the repository, ``tests/FILE.py::NAME``.
    checks : tuple of Claim
    rests_on : tuple of str
        Checks of other results that it follows from.
    """

    id: str
    title: str
    statement: str
    hypotheses: str
    stated: tuple
    status: str
    limits: str
    tests: tuple
    checks: tuple
    rests_on: tuple


def _read_register():
    """Return {id: Result} of data/claims.toml."""
    text = resources.files(__package__).joinpath("data", "claims.toml").read_text("utf-8")
    results = {}
    for name, entry in tomllib.loads(text).items():
        checks = tuple(
            Claim(check, result=name, **fields) for check, fields in entry.pop("checks", {}).items()
        )
        stated, tests, rests_on = (
            tuple(entry.pop(field, ())) for field in ("stated", "tests", "rests_on")
        )
        results[name] = Result(
            id=name, stated=stated, tests=tests, checks=checks, rests_on=rests_on, **entry
        )
    return results


RESULTS = _read_register()
"""What the book claims, by id, in the order of the ledger."""

CLAIMS = {claim.id: claim for result in RESULTS.values() for claim in result.checks}
"""The checks of all results, by id."""


@dataclass(frozen=True)
class Record:
    """A checked claim: the measured value, its bound and how they relate."""

    id: str
    measured: float
    relation: str
    bound: float

    @property
    def holds(self):
        """Whether the measured value meets the bound."""
        return RELATIONS[self.relation](self.measured, self.bound)

    @property
    def slack(self):
        """How many times the bound could be tightened; above 1 when the claim holds."""
        small, large = self.measured, self.bound
        if self.relation.startswith(">"):
            small, large = large, small
        if small == large:
            return 1.0
        return large / small if small else math.inf

    def __str__(self):
        """Return the line that the book prints."""
        verdict = "holds" if self.holds else "FAILS"
        return (
            f"[{self.id}] measured {self.measured:.3g} {self.relation} {self.bound:.3g} bound: "
            f"{verdict} (slack {slack_text(self.slack)})"
        )


def slack_text(slack):
    """Return a slack as the book prints it: with two digits, and without an exponent.

    Parameters
    ----------
    slack : float
        At least 0; may be infinite.

    Returns
    -------
    str
        As in "2.4x", "35,000x" or "unlimited".
    """
    if math.isinf(slack):
        return "unlimited"
    rounded = float(f"{slack:.2g}")
    return f"{rounded:g}x" if rounded < 100 else f"{rounded:,.0f}x"


def check(claim_id, *, measured, bound, relation="<="):
    """Check a claim, print its line and return its record.

    Parameters
    ----------
    claim_id : str
        A key of `CLAIMS`.
    measured, bound : float
        Finite; the claim is ``measured <relation> bound``.
    relation : {"<=", ">=", "<", ">"}, optional

    Returns
    -------
    Record

    Raises
    ------
    ParameterError
        An unknown claim or relation, or a value that is not finite.
    ClaimError
        The claim does not hold.
    """
    if claim_id not in CLAIMS:
        raise ParameterError(f"claim_id={claim_id!r}: not registered in claims.CLAIMS")
    check_choice("relation", relation, RELATIONS)
    record = Record(
        claim_id, check_real("measured", measured), relation, check_real("bound", bound)
    )
    if not record.holds:
        raise ClaimError(f"{record}; claim: {CLAIMS[claim_id].statement}")
    print(record)
    if folder := os.environ.get("JLA_RECORDS"):
        _keep(record, Path(folder))
    return record


def _keep(record, folder):
    """Append a record to its chapter's file; a process begins each file anew."""
    path = folder / f"{CLAIMS[record.id].chapter:02d}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("a" if path in _begun else "w", encoding="utf-8") as file:
        file.write(json.dumps(asdict(record), allow_nan=False) + "\n")
    _begun.add(path)


_begun = set()


def refuse(claim_id, *, measured, bound, relation="<=", planted):
    """Show that a check can fail: make it on a planted bug, and print that it was refused.

    Parameters
    ----------
    claim_id, measured, bound, relation
        As in `check`.
    planted : str
        The bug, in a few words.

    Raises
    ------
    ClaimError
        The check holds in spite of the bug.
    """
    record = Record(
        claim_id, check_real("measured", measured), relation, check_real("bound", bound)
    )
    if claim_id not in CLAIMS or record.holds:
        raise ClaimError(f"{record}; planted: {planted}")
    print(f"[{claim_id}] planted, {planted}: {record.measured:.3g}, refused")


LINE = re.compile(r"^\[[^\]]+\] measured .* holds \(slack [^)]+\)$", re.MULTILINE)
"""What `check` prints."""


def recorded(notebook):
    """Return the records of the checks that a notebook made, in order.

    Parameters
    ----------
    notebook : str or path
        An executed notebook; its records are in ``results/records`` beside it.

    Returns
    -------
    list of Record
        With all digits.

    Raises
    ------
    ClaimError
        The records are not those that the notebook printed.
    """
    notebook = Path(notebook)
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    printed = "".join(
        "".join(output["text"])
        for cell in cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stdout"
    )
    lines = LINE.findall(printed)
    path = notebook.parent / "results" / "records" / f"{notebook.name[:2]}.jsonl"
    records = read_records(path) if path.exists() else []
    for line, record in itertools.zip_longest(lines, records):
        if line != str(record):
            raise ClaimError(
                f"{notebook.name}: printed {line!r}, but its record is {str(record)!r}: execute it "
                "again, as `make notebooks` does"
            )
    return records


def read_records(path):
    """Return the records in a file that `check` wrote."""
    return [Record(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]
