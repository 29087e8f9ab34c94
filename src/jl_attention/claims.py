"""The book's claims, and the one call that checks a measurement against a bound.

A claim is registered once, in `CLAIMS`, and checked where the book states it:
``check("T3-leak", measured=report.leak, bound=0.01)`` prints one line and raises `ClaimError` if
the claim does not hold, so that a ledger made of those lines cannot drift from the checks.
"""

import math
import operator
from dataclasses import dataclass

from .errors import ClaimError, ParameterError, check_choice, check_real

RELATIONS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


@dataclass(frozen=True)
class Claim:
    """One claim: what is stated, whose it is, and the chapter that checks it.

    Attributes
    ----------
    statement : str
        One plain sentence.
    source : str
        "paper" for a claim of the paper's abstract, else the theorem of this book.
    chapter : int
        Where the book checks it.
    """

    statement: str
    source: str
    chapter: int


CLAIMS = {
    "C1-sparse": Claim("Half of the real heads need few entries for 90% of a row", "paper", 1),
    "C1-dynamic": Claim("Real supports change with the input", "paper", 1),
    "C2-fixed": Claim("One W_Q, W_K serves different targets", "paper", 5),
    "T1-ratio": Claim("The projected SVD keeps the ratios within eps1", "T1", 5),
    "T1-leak": Claim("The projected SVD keeps the leak within eps2", "T1", 5),
}


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
        return large / small if small else math.inf

    def __str__(self):
        """Return the line that the book prints."""
        verdict = "holds" if self.holds else "FAILS"
        return (
            f"[{self.id}] measured {self.measured:.3g} {self.relation} {self.bound:.3g} bound: "
            f"{verdict} (slack {self.slack:.2g}x)"
        )


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
    return record
