"""How well an attention matrix M meets a target A: (P1), (P2) and total variation, in blocks.

For row i with support S_i, everything follows from the logits Lambda_i.:

- ratio error, (P1): the largest |(M_ij/M_ij') / (A_ij/A_ij') - 1| over j, j' in S_i. With
  r_j = Lambda_ij - log A_ij it is exp(max r - min r) - 1.
- leak, (P2): the largest M_ij0 / M_ij over j in S_i, j0 not in S_i; it is
  exp(max off the support - min on it), and 0 for a full row.
- total variation: (1/2) sum_j |M_ij - A_ij|.
"""

from dataclasses import dataclass, field

import numpy as np

from .attention import BLOCK_BYTES, row_blocks
from .errors import ParameterError, check_int, check_real
from .targets import check_target, row_counts


@dataclass(frozen=True)
class PrecisionReport:
    """What `measure` found. Scalars are the worst over the measured rows.

    Attributes
    ----------
    ratio_error : float
        Smallest eps1 for which (P1) holds.
    leak : float
        Smallest eps2 for which (P2) holds.
    total_variation : float
        Largest total variation distance between a row of M and of A, in [0, 1].
    max_abs_logit : float
        Largest |Lambda_ij|.
    logit_scale : float
        omega, not tau: the largest spread max_j Lambda_ij - min_j Lambda_ij of a row, which is the
        scale that softmax sees, whatever row shift the logits carry.
    rows : ndarray of int, shape (n,)
        The measured rows.
    row_ratio_error, row_leak, row_total_variation : ndarray, shape (n,)
        The same, row by row.
    """

    ratio_error: float
    leak: float
    total_variation: float
    max_abs_logit: float
    logit_scale: float
    rows: np.ndarray = field(repr=False)
    row_ratio_error: np.ndarray = field(repr=False)
    row_leak: np.ndarray = field(repr=False)
    row_total_variation: np.ndarray = field(repr=False)

    def meets(self, ratio_error, leak):
        """Return whether (P1) holds with eps1 = `ratio_error` and (P2) with eps2 = `leak`."""
        return self.ratio_error <= ratio_error and self.leak <= leak


def measure(built, target, rows=None, block_bytes=BLOCK_BYTES):
    """Measure the precision of a construction against a target, streaming over blocks of rows.

    Exact: every pair of every measured row is looked at. Costs O(L^2 m) time and one block of
    rows of memory, never an L x L array.

    Parameters
    ----------
    built : constructions.Construction, or ndarray of shape (L, L)
        Anything with a method ``logits(rows)`` that returns rows of Lambda, or Lambda itself.
    target : array_like or scipy.sparse array, shape (L, L)
        Checked by `targets.check_target`.
    rows : array_like of int, optional
        Measure these rows only; all of them if None.
    block_bytes : int, optional
        Size of one block of rows of Lambda; a few such blocks are held at a time.

    Returns
    -------
    PrecisionReport

    Raises
    ------
    TargetError
        The target is not right-stochastic.
    ParameterError
        Lambda is not of the target's size or not finite, or a row index is out of range.
    """
    target = check_target(target)
    length = target.shape[0]
    rows = np.arange(length) if rows is None else _check_rows(rows, length)
    logits = built.logits if hasattr(built, "logits") else np.asarray(built).__getitem__
    parts = []
    for block in row_blocks(len(rows), length, block_bytes):
        some = rows[block]
        # A slice reads a block without copying the queries; an index array would copy.
        contiguous = some[-1] - some[0] == len(some) - 1 and (np.diff(some) == 1).all()
        wanted = slice(some[0], some[-1] + 1) if contiguous else some
        parts.append(_measure_block(logits(wanted), target[some], some))
    ratio_error, leak, total_variation, largest, spread = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    return PrecisionReport(
        ratio_error=float(ratio_error.max()),
        leak=float(leak.max()),
        total_variation=float(total_variation.max()),
        max_abs_logit=float(largest.max()),
        logit_scale=float(spread.max()),
        rows=rows,
        row_ratio_error=ratio_error,
        row_leak=leak,
        row_total_variation=total_variation,
    )


def _check_rows(rows, length):
    rows = np.asarray(rows)
    if rows.ndim != 1 or rows.size == 0 or rows.dtype.kind not in "iu":
        raise ParameterError("rows: expected a nonempty one-dimensional array of integers")
    if rows.min() < 0 or rows.max() >= length:
        raise ParameterError(f"rows: must lie between 0 and {length - 1}")
    return rows.astype(np.int64)


def _measure_block(logits, target, rows):
    """Return five arrays, one entry a row: ratio error, leak, TV, max |logit|, spread."""
    logits = np.array(logits, dtype=np.float64)
    if logits.shape != target.shape:
        raise ParameterError(f"logits of shape {logits.shape}: expected {target.shape}")
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        raise ParameterError(f"logits: row {rows[np.argmin(finite)]}: is not finite")
    start = target.indptr[:-1]
    counts = np.diff(target.indptr)
    at = np.repeat(np.arange(len(counts)), counts), target.indices
    support = logits[at]
    high, low = logits.max(axis=1), logits.min(axis=1)
    weights = np.exp(logits - high[:, None])
    partition = weights.sum(axis=1)
    support_low = np.minimum.reduceat(support, start)

    deviation = support - np.log(target.data)
    ratio = np.maximum.reduceat(deviation, start) - np.minimum.reduceat(deviation, start)
    on_support = np.abs(weights[at] / np.repeat(partition, counts) - target.data)

    logits[at] = -np.inf
    off_high = logits.max(axis=1)
    weights[at] = 0
    off_mass = weights.sum(axis=1) / partition
    with np.errstate(over="ignore"):
        ratio_error, leak = np.expm1(ratio), np.exp(off_high - support_low)
    total_variation = 0.5 * (np.add.reduceat(on_support, start) + off_mass)
    return ratio_error, leak, total_variation, np.maximum(high, -low), high - low


# --- From precision to total variation (T8) ------------------------------------------------------


def total_variation_bound(target, ratio_error, leak):
    """Return a bound on the total variation of each row from (eps1, eps2) alone (Theorem T8).

    TV(M_i, A_i) <= x/(1 + x) + (sqrt(1 + eps1) - 1)/(sqrt(1 + eps1) + 1) with
    x = (L - |S_i|) eps2 a_i, a_i = min((1 + eps1) min_{S_i} A_ij, 1/|S_i|). The first term is the
    mass off the support, the second what wrong ratios move within it; at eps1 = 0 the second
    vanishes and the first is attained.

    Parameters
    ----------
    target : array_like or scipy.sparse array, shape (L, L)
    ratio_error, leak : float
        eps1 >= 0 and eps2 >= 0, as `measure` finds them or as they are asked for.

    Returns
    -------
    ndarray, shape (L,)

    Raises
    ------
    TargetError, ParameterError
    """
    target = check_target(target)
    ratio_error = check_real("ratio_error", ratio_error, at_least=0)
    leak = check_real("leak", leak, at_least=0)
    counts = row_counts(target)
    smallest = np.minimum.reduceat(target.data, target.indptr[:-1])
    x = (target.shape[0] - counts) * leak * np.minimum((1 + ratio_error) * smallest, 1 / counts)
    root = np.sqrt(1 + ratio_error)
    return x / (1 + x) + (root - 1) / (root + 1)


def leak_for_total_variation(length, row_nnz, total_variation):
    """Return an eps2 that keeps total variation within t when the ratios are exact (T8).

    x/(1 + x) <= t for every row with |S_i| >= k once eps2 = k t/((L - k)(1 - t)), because the
    smallest entry of a row is at most 1/|S_i|. At least t/L; capped below 1.

    Parameters
    ----------
    length, row_nnz : int
        L, and the least number of nonzeros of a row.
    total_variation : float
        t in (0, 1).

    Returns
    -------
    float

    Raises
    ------
    ParameterError
    """
    length = check_int("length", length)
    row_nnz = check_int("row_nnz", row_nnz, maximum=length)
    t = check_real("total_variation", total_variation, above=0, below=1)
    largest = np.nextafter(1.0, 0.0)
    if row_nnz == length:
        return float(largest)
    return float(min(row_nnz * t / ((length - row_nnz) * (1 - t)), largest))


def output_error_bound(total_variation, values):
    """Return 2 TV max|V|, a bound on every entry of |M V - A V| (Theorem T8).

    Parameters
    ----------
    total_variation : float
        Largest total variation of a row.
    values : ndarray, shape (L, p)
        The values V that attention averages.

    Returns
    -------
    float
    """
    return 2 * total_variation * float(np.abs(values).max())
