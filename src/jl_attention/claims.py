"""The book's claims, and the one call that checks a measurement against a bound.

A claim is registered once, in `CLAIMS`, and checked where the book states it:
``check("T3-leak", measured=report.leak, bound=0.01)`` prints one line and raises `ClaimError` if
the claim does not hold, so that a ledger made of those lines cannot drift from the checks.
"""

import json
import math
import operator
import re
from dataclasses import dataclass
from pathlib import Path

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
    "C1-sparse": Claim("A quarter of the heads hold 90% of a row in 20 of 128 entries", "paper", 1),
    "C1-dense": Claim("A quarter of the heads need more than half of the row for that", "paper", 1),
    "C1-dynamic": Claim("Top-5 supports of two texts share less than half", "paper", 1),
    "C1-columns": Claim("95% of the matrices have a column in more than 2k rows", "paper", 1),
    "C1-ratios": Claim("One row in ten has a ratio bound above 10", "paper", 1),
    "C2-fixed": Claim("One W_Q, W_K serves different targets", "paper", 5),
    "L1-exact": Claim("A projected squared length is chi-square", "L1", 2),
    "L1-chernoff": Claim("The Chernoff bound holds at every distortion", "L1", 2),
    "L1-union": Claim("At jl_dim, at most a share eta of maps violate a pair", "L1", 2),
    "L2-polarisation": Claim("The polarisation bound holds for every correlation", "L2", 3),
    "L2-exact": Claim("A projected inner product has the stated exact law", "L2", 3),
    "L2-sharp": Claim("The sharp bound holds for every correlation", "L2", 3),
    "L2-worst": Claim("No correlation has a smaller exponent than 1 and -1", "L2", 3),
    "L2-orthogonal": Claim("The orthogonal bound holds at correlation 0", "L2", 3),
    "L2-pairs": Claim("At the union bound's m, at most a share eta of maps miss a pair", "L2", 3),
    "T1-step1": Claim("Logits within delta of B give the precision", "T1", 4),
    "T1-step2": Claim("The spectral norm of B is at most k beta", "T1", 4),
    "T1-step3": Claim("Rows of the two halves are at most ||B||_2 long, squared", "T1", 4),
    "T1-step4": Claim("Some pair is off by more than delta no more often than the bound", "T1", 4),
    "T1-step5": Claim("The module computes X1 X2^T", "T1", 4),
    "T1-probability": Claim("At the theorem's m at most a share eta of the draws fail", "T1", 4),
    "T1-lasvegas": Claim("With retries the returned input has the precision", "T1", 4),
    "C5-algorithm": Claim("An algorithm finds the input for a given target", "paper", 5),
    "T1-ratio": Claim("The projected SVD keeps the ratios within eps1", "T1", 5),
    "T1-leak": Claim("The projected SVD keeps the leak within eps2", "T1", 5),
    "C3-log": Claim("The smallest working m is a straight line in log L", "paper", 6),
    "C3-bound": Claim("No row of the table needs more than the theorem's m", "paper", 6),
    "T2-gain": Claim("T1's closed form is at least k times T2's", "T2", 6),
    "T2-sink": Claim("Row projection meets the precision on a dense column", "T2", 6),
    "T2-slope": Claim("The smallest working m grows like the first power of k", "T2", 6),
    "T8-total-variation": Claim("Total variation stays within the bound", "T8", 6),
    "T8-values": Claim("Outputs on random values stay within 2 TV max|V|", "T8", 6),
    "T3-ratio": Claim("Rows whose solved ratios are off by more than rounding", "T3", 7),
    "T3-leak": Claim("At the theorem's m the leak is within eps2", "T3", 7),
    "T3-student": Claim("A logit off the support follows Student's law", "T3", 7),
    "T3-calibration": Claim("At most the predicted share of code matrices leaks", "T3", 7),
    "T3-patterns": Claim("One key matrix serves many patterns", "T3", 8),
    "T3-stream": Claim("Entries that a streaming head changed after saying them", "T3", 8),
    "T4-universal": Claim("Codes of small coherence serve targets chosen after them", "T4", 8),
    "T4-supports": Claim("At the m of all supports, no support leaks", "T4", 8),
    "T8-exact": Claim("With exact ratios total variation is at most x/(1+x)", "T8", 7),
    "T8-output": Claim("An output moves by at most 2 TV max|V|", "T8", 7),
    "T5-enough": Claim("With m = 2k on the moment curve the leak is within eps2", "T5", 9),
    "T5-needed": Claim("Supports out of reach at m = 2k - 1, for any keys tried", "T5", 9),
    "T6-packing": Claim("Interpolation uses no fewer dimensions than packing allows", "T6", 9),
    "T7-bits": Claim("Interpolation uses no fewer dimensions than counting bits allows", "T7", 9),
    "T9-shortest": Claim(
        "Queries from few candidates are as short as with all constraints", "T9", 10
    ),
    "T9-head": Claim("Random 4-sparse rows without a query at m = 64, L = 4096", "T9", 10),
    "T9-transition": Claim("Half of the supports have a query near m = 2k ln(L/m)", "T9", 10),
    "K-rounding": Claim("Logits that rounding Q and K moves by more than the lemma says", "L3", 11),
    "K-bits": Claim("At the lemma's bits the ratios are within eps1", "L3", 11),
    "K-onnx-float32": Claim("Entries ONNX Runtime in float32 has off by more than L3", "L3", 11),
    "K-onnx-float16": Claim("Entries ONNX Runtime in float16 has off by more than L3", "L3", 11),
    "R-columns": Claim("95% of real top-8 targets break the bound of 2k on columns", "paper", 12),
    "R-dropped": Claim("A top-k target is as far from its matrix as the mass it drops", "T8", 12),
    "R-rebuilt": Claim("At T3's m every row of a rebuilt head is within t of its target", "T8", 12),
    "T9-head-size": Claim(
        "Rows of real top-4 targets without a max-margin query at m = 32", "T9", 12
    ),
    "T9-leak": Claim("Max-margin queries leak at most eps2", "T9", 12),
    "R-own-keys": Claim("At m = 32 own keys rebuild four of five heads within 0.12", "T3", 12),
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
        if small == large:
            return 1.0
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


LINE = re.compile(
    r"^\[(?P<id>[^\]]+)\] measured (?P<measured>\S+) (?P<relation>[<>]=?) (?P<bound>\S+) bound: "
    r"holds \(slack .*x\)$",
    re.MULTILINE,
)
"""What `check` prints: the only copy of a measured number."""


def recorded(notebook):
    """Return the records that the committed outputs of a notebook hold, in order.

    Parameters
    ----------
    notebook : str or path
        An executed notebook.

    Returns
    -------
    list of Record
        With the three digits that were printed.
    """
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    printed = "".join(
        "".join(output["text"])
        for cell in cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stdout"
    )
    return [
        Record(line["id"], float(line["measured"]), line["relation"], float(line["bound"]))
        for line in LINE.finditer(printed)
    ]
