"""T5, T6, T7: dimensions below which no input can do."""

import numpy as np

from ..errors import ParameterError, check_array, check_choice
from .search import as_int, log_binomial

NECESSARY_BOUNDS = ("radon", "packing", "bits")


def necessary_dim(
    length,
    row_nnz,
    bound="radon",
    *,
    scale_ratio=None,
    fixed_keys=False,
    bits=16,
):
    """Return a dimension below which no input X can do: the lower bounds T5, T6 and T7.

    Each is for every target whose rows have at most (for "packing" and "bits": exactly) k
    nonzeros, with some eps2 < 1; nothing about X is assumed but what the bound names.

    Parameters
    ----------
    length, row_nnz : int or array_like of int
        L and k.
    bound : {"radon", "packing", "bits"}, optional
        "radon" (T5), for real arithmetic of any precision: m >= 2k' for the largest k' <= k with
        L >= 4^k' - 1. The proof takes all nonempty subsets of at most k' of 2k' + 1 tokens as
        supports. Their keys, if in R^(2k'-1), have a Radon partition; its smaller part is one of
        the supports, and no query separates it from the other part. A bound on the query
        dimension m.
        "packing" (T6), for bounded logits: different supports need logits that differ by the gap
        log(1/eps2), and only so many fit into a ball. A bound on the query dimension m.
        "bits" (T7), for X stored with b bits a number: there are C(L, k)^L patterns and 2^(L d b)
        inputs. A bound on the hidden size d, not on m.
    scale_ratio : float or array_like, optional
        For "packing", which needs it: with `fixed_keys` the largest spread of a row of logits,
        max - min, divided by the gap log(1/eps2) (at least 1); without, R/log(1/eps2) with R the
        longest query times the longest key.
    fixed_keys : bool, optional
        For "packing": whether one set of keys has to serve every support. If so
        m >= ln C(L, k)/ln(1 + s); if not, m >= ln C(L, k)/(2 ln(1 + 8 s)), s = `scale_ratio`.
    bits : int or array_like of int, optional
        For "bits": b, the bits of one number of X. d >= log2 C(L, k)/b.

    Returns
    -------
    int, or ndarray of int64 when an argument is an array
        At least 0.

    Raises
    ------
    ParameterError
        An argument is out of range, or `scale_ratio` is missing.

    Notes
    -----
    T5 is close kin to the neighbourly polytopes (Gale 1963) and the bounds of Sanford, Hsu and
    Telgarsky (2023). For "packing" without `fixed_keys` the rounding argument is: nets of the two
    balls of radius sqrt(R) with mesh below log(1/eps2)/(4 sqrt(R)) still determine every support,
    so C(L, k)^L <= (1 + 8 s)^(2 m L).
    """
    check_choice("bound", bound, NECESSARY_BOUNDS)
    length = check_array("length", length, at_least=1, integer=True)
    row_nnz = check_array("row_nnz", row_nnz, at_least=1, integer=True)
    if (row_nnz > length).any():
        raise ParameterError(f"row_nnz={row_nnz!r}: must be at most length={length!r}")
    if bound == "radon":
        # The largest k' with 4^k' <= L + 1, from the bit length: exact where logarithms round.
        largest = np.frompyfunc(lambda L: ((int(L) + 1).bit_length() - 1) // 2, 1, 1)(length)
        return as_int(2 * np.minimum(row_nnz, np.asarray(largest, dtype=np.int64)))
    patterns = log_binomial(length, row_nnz)
    if bound == "bits":
        bits = check_array("bits", bits, at_least=1, integer=True)
        return as_int(_round_up(patterns / np.log(2) / bits))
    if scale_ratio is None:
        raise ParameterError("scale_ratio=None: the packing bound needs the scale of the logits")
    least = 1 if fixed_keys else 0
    scale = check_array("scale_ratio", scale_ratio, above=0, at_least=least)
    return as_int(
        _round_up(patterns / (np.log1p(scale) if fixed_keys else 2 * np.log1p(8 * scale)))
    )


def _round_up(bound):
    """Round a lower bound up to an integer, forgiving the rounding of its own logarithms."""
    return np.maximum(np.ceil(np.asarray(bound) * (1 - 1e-12) - 1e-9), 0)
