"""What a workload is certified to be: every row looked at, every visible pair, in blocks.

For row i with support S_i and visible tokens j <= i:

- margin: min of Lambda_ij over S_i, minus the largest logit of a visible token off S_i;
- leak, (P2): exp(-margin);
- total variation: sum over S_i of (A_ij - M_ij)_+, which grows with the mass off the support.

Logits on the support are summed in double precision, the others in single, on the numbers as they
are stored. Rounding changes such a sum by at most g |q| |c|/sqrt(m), g = n u/(1 - n u), n = m + 2,
u = 2^-24, in any order of summation; the logits off the support are raised by that. So margin,
leak and total variation are bounds for exact arithmetic, not estimates.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..attention import row_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from scipy import sparse

__all__ = [
    "BLOCK_BYTES",
    "Certificate",
    "RowReport",
    "causal_blocks",
    "joined",
    "longest",
    "measure_head",
    "measure_rows",
    "rounding_allowance",
    "summarise",
    "support_logits",
    "visible_logits",
]

BLOCK_BYTES = 2**26
"""Memory for one block of rows of Lambda."""

_UNIT = 2.0**-24  # of single precision
_SUM_ALLOWANCE = 2.0**-14  # exp and pairwise sums in single precision are good to about 2^-18


@dataclass(frozen=True)
class Certificate:
    """The worst over all rows of all heads, and the mean where it says so.

    Attributes
    ----------
    formats : tuple of str
        Number formats in which Q and K are exact, so that all of this holds there.
    ratio_error : float
        eps1: largest relative error of a ratio of two entries of a support.
    leak, margin : float
        eps2 = exp(-margin); the margin is the least gap between a logit on the support and a
        visible one off it, infinite if no row has one.
    total_variation, mean_total_variation : float
        Between a row of the attention and of the truth: the worst and the mean.
    max_abs_logit : float
        Of the supports and of the largest logit off each.
    solved_again : int
        Rows whose least-norm query missed the margin and was solved with it as a constraint.
    """

    formats: tuple
    ratio_error: float
    leak: float
    margin: float
    total_variation: float
    mean_total_variation: float
    max_abs_logit: float
    solved_again: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes as a dict that JSON can hold."""
        return {**asdict(self), "formats": list(self.formats)}


@dataclass(frozen=True, eq=False)
class RowReport:
    """What `measure_rows` found, one entry a row; see `Certificate` for the words."""

    ratio_error: np.ndarray
    margin: np.ndarray
    total_variation: np.ndarray
    max_abs_logit: np.ndarray


def measure_rows(
    logits: np.ndarray,
    queries: np.ndarray,
    keys: np.ndarray,
    truth: sparse.csr_array,
    longest_key: float,
) -> RowReport:
    """Measure rows of logits against rows of the truth.

    Parameters
    ----------
    logits : ndarray of float32, shape (n, width)
        From `visible_logits`; overwritten.
    queries : ndarray of float32, shape (n, m)
    keys : ndarray of float32, shape (L, m)
    truth : scipy.sparse.csr_array, shape (n, L)
        These rows of the truth; every entry visible.
    longest_key : float
        From `longest`.

    Returns
    -------
    RowReport
    """
    start, counts = truth.indptr[:-1], np.diff(truth.indptr)
    row = np.repeat(np.arange(len(counts)), counts)
    support = support_logits(queries, keys, truth)
    smallest, largest = np.minimum.reduceat(support, start), np.maximum.reduceat(support, start)
    logits[row, truth.indices] = -np.inf
    rounding = rounding_allowance(queries, longest_key)
    off = logits.max(axis=1) + rounding

    deviation = support - np.log(truth.data)
    spread = np.maximum.reduceat(deviation, start) - np.minimum.reduceat(deviation, start)
    logits -= largest[:, None].astype(np.float32)
    with np.errstate(over="ignore"):  # of a row that is wrong: its total variation is then 1
        np.exp(logits, out=logits)
    background = logits.sum(axis=1) * (1 + _SUM_ALLOWANCE) * np.exp(rounding)
    weights = np.exp(support - largest[row])
    partition = np.add.reduceat(weights, start) + background
    missing = np.maximum(truth.data - weights / partition[row], 0)
    return RowReport(
        ratio_error=np.expm1(spread),
        margin=smallest - off,
        total_variation=np.add.reduceat(missing, start),
        max_abs_logit=np.maximum(np.maximum(largest, -smallest), np.where(off > 0, off, 0)),
    )


def visible_logits(queries: np.ndarray, keys: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return Lambda of sorted rows over the tokens up to the last of them, -inf above the diagonal.

    Parameters
    ----------
    queries : ndarray of float32, shape (n, m)
        Rows of Q, as a kernel takes it: Lambda = Q K^T / sqrt(m).
    keys : ndarray of float32, shape (L, m)
    rows : ndarray of int, shape (n,)
        Which rows they are, in increasing order.

    Returns
    -------
    ndarray of float32, shape (n, rows[-1] + 1)
    """
    logits = queries @ keys[: rows[-1] + 1].T
    logits *= np.float32(1 / np.sqrt(keys.shape[1]))
    later = np.arange(rows[0] + 1, rows[-1] + 1)
    logits[:, rows[0] + 1 :][later > rows[:, None]] = -np.inf
    return logits


def support_logits(queries: np.ndarray, keys: np.ndarray, truth: sparse.csr_array) -> np.ndarray:
    """Return Lambda at the stored entries of rows of the truth, in double precision."""
    row = np.repeat(np.arange(truth.shape[0]), np.diff(truth.indptr))
    products = np.einsum("ij,ij->i", queries[row].astype(np.float64), keys[truth.indices])
    return products / np.sqrt(keys.shape[1])


def rounding_allowance(queries: np.ndarray, longest_key: float) -> np.ndarray:
    """Return what rounding may do to a logit of each of these queries, shape (n,)."""
    dim = queries.shape[1]
    norms = np.linalg.norm(queries.astype(np.float64), axis=1)
    relative = (dim + 2) * _UNIT
    return relative / (1 - relative) * norms * longest_key / np.sqrt(dim)


def longest(keys: np.ndarray) -> float:
    """Return the length of the longest key."""
    return float(np.sqrt(np.einsum("ij,ij->i", keys, keys, dtype=np.float64).max()))


def causal_blocks(length: int, block_bytes: int = BLOCK_BYTES) -> Iterator[np.ndarray]:
    """Yield arrays of consecutive rows, so many that their logits take `block_bytes`."""
    for block in row_blocks(length, block_bytes=2 * block_bytes):  # single precision
        yield np.arange(block.start, block.stop)


def measure_head(
    queries: np.ndarray, keys: np.ndarray, truth: sparse.csr_array, progress: Callable | None = None
) -> RowReport:
    """Measure all rows of one head in blocks; parameters as in `measure_rows`.

    Costs O(L^2 m) time and one block of rows of memory.

    Returns
    -------
    RowReport
    """
    longest_key, parts = longest(keys), []
    for rows in causal_blocks(len(keys)):
        block = slice(rows[0], rows[-1] + 1)
        logits = visible_logits(queries[block], keys, rows)
        parts.append(measure_rows(logits, queries[block], keys, truth[block], longest_key))
        if progress is not None:
            progress(int(rows[-1]) + 1, len(keys))
    return joined(parts)


def joined(parts: Sequence[RowReport]) -> RowReport:
    """Return reports of blocks of rows as one."""
    names = RowReport.__dataclass_fields__
    return RowReport(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


def summarise(
    reports: Sequence[RowReport], formats: Iterable[str], solved_again: int = 0
) -> Certificate:
    """Return the certificate of a workload from the `RowReport` of each of its heads."""
    whole = joined(reports)
    margin = float(whole.margin.min())
    return Certificate(
        formats=tuple(formats),
        ratio_error=float(whole.ratio_error.max()),
        leak=float(np.exp(-margin)),
        margin=margin,
        total_variation=float(whole.total_variation.max()),
        mean_total_variation=float(whole.total_variation.mean()),
        max_abs_logit=float(whole.max_abs_logit.max()),
        solved_again=int(solved_again),
    )
