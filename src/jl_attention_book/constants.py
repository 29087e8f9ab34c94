"""The constants of the theorems, side by side: what each asks for at one setting, and its formula.

Every number is a call of the library, but for what was measured, which stands in the table that
`sweeps` wrote. Titles and hypotheses are those of the register of `claims`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jl_attention.dimensions import jl_dim, necessary_dim, required_dim, universal_dim

from .claims import RESULTS
from .sweeps import LOOSE, columns

ROW_NNZ, FAILURE_PROB = 2, 0.5
"""The setting: k = 2 equal entries a row, the loose precision, success in half of the draws."""

POINTS_DISTORTION = 0.5
SCALE_RATIO = 4.0
BITS = 16

LENGTHS = 2**10, 2**20
LONGEST = 2**40


@dataclass(frozen=True)
class Row:
    """One theorem, or one form of it.

    Attributes
    ----------
    name : str
        The name of its row in the table.
    result : str
        The key in `claims.RESULTS`.
    label : str
        Where it is stated and proved.
    formula, leading : str
        TeX: the displayed bound on m, and its leading term for large L.
    closed, exact : callable or None
        m as a function of L, in closed form, and by the sum of the theorem's own tails.
    measured : tuple of str, or None
        The sweep and the method of the measured table.
    necessary : bool
        Whether it is a lower bound: no input can do with less.
    """

    name: str
    result: str
    label: str
    formula: str
    leading: str
    closed: Callable | None = None
    exact: Callable | None = None
    measured: tuple | None = None
    necessary: bool = False

    @property
    def dim(self):
        """The smaller of the two functions: the exact one where there is one."""
        return self.exact or self.closed


def _required(method, bound=None, **settings):
    precision = {"leak": LOOSE["leak"], "max_ratio": LOOSE["max_ratio"]}
    if method in ("svd_projection", "row_projection"):
        precision["ratio_error"] = LOOSE["ratio_error"]

    def dim(length):
        return required_dim(
            length,
            ROW_NNZ,
            method,
            failure_prob=FAILURE_PROB,
            bound=bound,
            **precision,
            **settings,
        )

    return dim


def _universal(bound):
    return lambda length: universal_dim(
        length, ROW_NNZ, leak=LOOSE["leak"], failure_prob=FAILURE_PROB, bound=bound
    )


def _points(bound):
    return lambda length: jl_dim(length, POINTS_DISTORTION, FAILURE_PROB, bound)


def _necessary(bound, **settings):
    return lambda length: necessary_dim(length, ROW_NNZ, bound, **settings)


ROWS = (
    Row(
        name="L1",
        result="L1",
        label="thm-jl",
        formula=r"m \ge \frac{\ln(N(N-1)/\eta)}{\varepsilon^2/4 - \varepsilon^3/6}",
        leading=r"\frac{8}{\varepsilon^2 - \frac23 \varepsilon^3} \ln N",
        closed=_points("chernoff"),
        exact=_points("exact"),
    ),
    Row(
        name="T1",
        result="T1",
        label="thm-t1",
        formula=(
            r"m \ge \frac{\ln(4L^2/\eta)}{\varepsilon^2/4 - \varepsilon^3/6},"
            r"\quad \varepsilon = \frac{\delta}{k\beta}"
        ),
        leading=r"\frac{8 k^2 \beta^2}{\delta^2} \ln L",
        closed=_required("svd_projection", "closed_form"),
        exact=_required("svd_projection", "sharp"),
        measured=("length", "svd_projection"),
    ),
    Row(
        name="T2",
        result="T2",
        label="thm-t2",
        formula=(
            r"m \ge \frac{\ln(4L^2/\eta)}{\varepsilon^2/4 - \varepsilon^3/6},"
            r"\quad \varepsilon = \frac{\delta}{\sqrt k\,\beta}"
        ),
        leading=r"\frac{8 k \beta^2}{\delta^2} \ln L",
        closed=_required("row_projection", "closed_form"),
        exact=_required("row_projection", "sharp"),
        measured=("length", "row_projection"),
    ),
    Row(
        name="T2, differences",
        result="T2",
        label="thm-differences",
        formula=r"L k(k-1)\, e^{-m I_1} + L k (L-k)\, e^{-m I_2} \le \eta",
        leading=r"\max\Bigl(\frac{2}{I_2}, \frac{1}{I_1}\Bigr) \ln L",
        exact=_required("row_projection", "differences"),
        measured=("length", "row_projection"),
    ),
    Row(
        name="T3",
        result="T3",
        label="thm-t3",
        formula=(
            r"m \ge k - 1 + \frac{2\ln(L^2/2\eta)}{\ln(1+\theta^2)},"
            r"\quad \theta = \frac{\tau - \log(1/\varepsilon_2)}{\sqrt k\,\beta}"
        ),
        leading=r"\frac{4}{\ln(1+\theta^2)} \ln L",
        closed=_required("interpolate", "closed_form"),
        exact=_required("interpolate", "sharp"),
        measured=("length", "interpolate"),
    ),
    Row(
        name="T3, tight codes",
        result="T3",
        label="thm-codes",
        formula=r"L(L-k)\, \mathbb P(\text{a logit off the support exceeds its level}) \le \eta",
        leading=r"\frac{4}{\ln(1+\theta^2)} \ln L \text{, and never more than } L",
        exact=_required("interpolate", codes="tight"),
    ),
    Row(
        name="T4",
        result="T4",
        label="thm-all-supports",
        formula=(
            r"m \ge k - 1 + \frac{2\ln(N/2\eta)}{\ln(1+\theta^2)},"
            r"\quad N = \sum_{s \le k} \binom Ls (L-s)"
        ),
        leading=r"\frac{2(k+1)}{\ln(1+\theta^2)} \ln L",
        closed=_universal("closed_form"),
        exact=_universal("sharp"),
    ),
    Row(
        name="T5",
        result="T5",
        label="thm-moment-curve",
        formula=r"m \ge 2k",
        leading=r"2k \text{, whatever } L",
        closed=_required("moment_curve"),
    ),
    Row(
        name="T9, a pattern",
        result="T9",
        label="thm-absorption",
        formula=r"L\, p(L, m, k) \le \eta",
        leading=r"\text{of order } k \ln L; \text{ computed, in the table}",
        exact=_required("max_margin", scope="pattern"),
    ),
    Row(
        name="T9, all supports",
        result="T9",
        label="thm-absorption",
        formula=r"\binom Lk\, p(L, m, k) \le \eta",
        leading=r"\text{of order } k \ln L; \text{ computed, in the table}",
        exact=_required("max_margin", scope="every_support"),
    ),
    Row(
        name="T5, needed",
        result="T5",
        label="thm-radon",
        formula=r"m \ge 2k \text{ once } L \ge 4^k - 1",
        leading=r"2k",
        closed=_necessary("radon"),
        necessary=True,
    ),
    Row(
        name="T6, needed",
        result="T6",
        label="thm-packing",
        formula=r"m \ge \frac{\ln \binom Lk}{\ln(1 + 8R/\Delta) + \ln(1 + 4R/\Delta)}",
        leading=r"\frac{k}{\ln(1 + 8R/\Delta) + \ln(1 + 4R/\Delta)} \ln L",
        closed=_necessary("packing", scale_ratio=SCALE_RATIO),
        necessary=True,
    ),
    Row(
        name="T7, needed",
        result="T7",
        label="thm-bits",
        formula=r"d \ge \frac{\log_2 \binom Lk}{b}",
        leading=r"\frac{k}{b} \log_2 L",
        closed=_necessary("bits", bits=BITS),
        necessary=True,
    ),
)


def first_useful(dim):
    """Return the least length from which on a dimension is below it.

    Parameters
    ----------
    dim : callable
        m as a function of L; m - L is to change its sign once between 4 and 2^40.

    Returns
    -------
    int
    """
    low, high = 2, LONGEST
    while high - low > 1:
        middle = int(np.sqrt(low * high)) if high > 2 * low else (low + high) // 2
        low, high = (low, middle) if dim(middle) < middle else (middle, high)
    return high


def per_log(dim):
    """Return by how much a dimension grows when ln L does by 1, between `LENGTHS`."""
    short, long = LENGTHS
    return float((dim(long) - dim(short)) / np.log(long / short))


def worked(row, table):
    """Return the smallest m that worked at L = 1024, the median over draws, or None.

    Parameters
    ----------
    row : Row
    table : list of dict
        From `sweeps.read`.
    """
    if row.measured is None:
        return None
    lengths, dims = columns(table, *row.measured, "length", "dim")
    return int(dims[lengths == LENGTHS[0]].item())


def summary(table, needed=False):
    """Return the numbers of every theorem at one setting, one row a theorem.

    Parameters
    ----------
    table : list of dict
        From `sweeps.read`: what was measured.
    needed : bool, optional
        The lower bounds rather than the constructions.

    Returns
    -------
    str
        A table in MyST Markdown, its rows linked to `details`.
    """
    header = ("", "closed form", "sharp", "worked", "per ln L", "first L")
    rows = [f"| {' | '.join(header)} |", "| - " + "| -: " * 5 + "|"]
    for row in ROWS:
        if row.necessary != needed:
            continue
        closed, exact = (f"{dim(LENGTHS[0]):,}" if dim else "" for dim in (row.closed, row.exact))
        measured = worked(row, table)
        first = "" if needed else f"{first_useful(row.dim):,}"
        cells = (
            f"[{row.name}](#{anchor(row)})",
            closed,
            exact,
            f"{measured:,}" if measured else "",
            f"{per_log(row.dim):.3g}",
            first,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def anchor(row):
    """Return the label of a row's details."""
    return "constant-" + row.name.lower().replace(",", "").replace(" ", "-")


def details(row):
    """Return the formula of one row, its hypotheses, and where it is proved.

    Parameters
    ----------
    row : Row

    Returns
    -------
    str
        MyST Markdown.
    """
    result = RESULTS[row.result]
    kind = "Needed" if row.necessary else "Enough"
    return "\n\n".join(
        [
            f"({anchor(row)})=\n**{row.name}.** {result.title}: {{prf:ref}}`{row.label}`, "
            f"[in the ledger](#claim-{row.result.lower()}).",
            f"$$\n{row.formula}\n$$",
            f"*{kind}.* Leading term: ${row.leading}$.",
            f"*Hypotheses.* {result.hypotheses}",
        ]
    )
