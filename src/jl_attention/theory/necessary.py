"""T5, T6, T7: dimensions below which no input can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from ..errors import ParameterError, check_array, check_choice
from .search import as_int, least_dim, log_binomial

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "NECESSARY_BOUNDS",
    "necessary_dim",
]

NECESSARY_BOUNDS = ("radon", "warren", "packing", "bits")


def necessary_dim(
    length: ArrayLike,
    row_nnz: ArrayLike,
    bound: str = "radon",
    *,
    scale_ratio: ArrayLike | None = None,
    fixed_keys: bool = False,
    bits: ArrayLike = 16,
) -> int | np.ndarray:
    """Return a dimension below which no input X can do: the lower bounds T5, T6 and T7.

    Each is for every target whose rows have at most ("packing" and "bits": exactly; "warren":
    exactly, and each column too) k nonzeros, with some eps2 < 1; nothing about X is assumed but
    what the bound names.

    Parameters
    ----------
    length, row_nnz : int or array_like of int
        L and k.
    bound : {"radon", "warren", "packing", "bits"}, optional
        "radon" (T5), for real arithmetic of any precision: m >= 2k' for the largest k' <= k with
        L >= 4^k' - 1. The proof takes all nonempty subsets of at most k' of 2k' + 1 tokens as
        supports. Their keys, if in R^(2k'-1), have a Radon partition; its smaller part is one of
        the supports, and no query separates it from the other part. A bound on the query
        dimension m.
        "warren" (T5), for real arithmetic and columns bounded too: the patterns outnumber the sign
        patterns of L^2 quadratic polynomials. About k/2 for fixed k and enormous L.
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
        m >= ln C(L, k)/ln(1 + s); if not, m >= ln C(L, k)/(ln(1 + 8 s) + ln(1 + 4 s)), s =
        `scale_ratio`. See `margin_bounds.fixed_keys_dim` for a third form.
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
    Telgarsky (2023).

    "warren": some t_i != 0 lies between the logits on and off row i's support; scale the query to
    make it 1 or -1. So a pattern is one of 2^L choices, and the signs of L^2 polynomials of degree
    2 in the 2 m L coordinates of queries and keys, of which Warren (1968) allows
    (4 e L/m)^(2 m L). There are at least prod over i < k of L! ((L-i)/L)^L patterns with k
    nonzeros in every row and column, over (k!)^L: choose k perfect matchings one after another,
    by the van der Waerden bound. Solved for m.

    "packing" without `fixed_keys`: scale queries and keys to lengths of at most sqrt(R), and round
    the keys to a net of mesh Delta/(4 sqrt(R)), Delta = log(1/eps2), of at most (1 + 8 s)^m points.
    A gap of Delta/2 is left, so queries of different supports are Delta/(2 sqrt(R)) apart, and at
    most (1 + 4 s)^m of them have disjoint balls: C(L, k)^L <= (1 + 8 s)^(m L) (1 + 4 s)^(m L).
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
    if bound == "warren":
        return _warren(length, row_nnz)
    patterns = log_binomial(length, row_nnz)
    if bound == "bits":
        bits = check_array("bits", bits, at_least=1, integer=True)
        return as_int(_round_up(patterns / np.log(2) / bits))
    if scale_ratio is None:
        raise ParameterError("scale_ratio=None: the packing bound needs the scale of the logits")
    least = 1 if fixed_keys else 0
    scale = check_array("scale_ratio", scale_ratio, above=0, at_least=least)
    room = np.log1p(scale) if fixed_keys else np.log1p(8 * scale) + np.log1p(4 * scale)
    return as_int(_round_up(patterns / room))


def _warren(length, row_nnz):
    """Return the least m with ln(patterns)/L <= ln 2 + 2 m ln(4 e L/m), 0 if m = 0 already does."""
    # sum over i < k of ln((L-i)/L)
    shrinking = special.gammaln(length + 1) - special.gammaln(length - row_nnz + 1)
    shrinking = shrinking - row_nnz * np.log(length)
    matchings = row_nnz * special.gammaln(length + 1) / length
    patterns = matchings + shrinking - special.gammaln(row_nnz + 1)

    def missing(dim):
        polynomials = 2 * dim * np.log(4 * np.e * length / np.maximum(dim, 1))
        return -np.log(2) - polynomials - 1e-9 * patterns

    return as_int(least_dim(missing, -patterns, 0 * patterns, length // 2 + 1))


def _round_up(bound):
    """Round a lower bound up to an integer, forgiving the rounding of its own logarithms."""
    return np.maximum(np.ceil(np.asarray(bound) * (1 - 1e-12) - 1e-9), 0)
