"""What a number format stores, and when a score in it is certain."""

import numpy as np
from numpy.typing import ArrayLike

from ..errors import check_array, check_choice

__all__ = [
    "ACCUMULATOR",
    "FORMATS",
    "LEVELS",
    "ROUNDING",
    "STORED",
    "gamma",
    "is_returned",
    "stored",
]

FORMATS = ("float64", "float32", "float16", "int8")
"""Number formats, the finest first."""

STORED = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11}
"""Unit roundoff of a stored number."""

ACCUMULATOR = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-24, "int8": 0.0}
"""Unit roundoff of a sum."""

ROUNDING = 1e-12
"""By how much an entry of a normalised vector may exceed 1."""

LEVELS = 127
"""The largest int8 in use; it stands for 1."""


def stored(vectors: ArrayLike, dtype: str) -> np.ndarray:
    """Return vectors as a number format holds them.

    Parameters
    ----------
    vectors : array_like
        Entries in [-1, 1].
    dtype : {"float64", "float32", "float16", "int8"}
        int8 counts in steps of 1/127.

    Returns
    -------
    ndarray of float64
        The stored numbers, exactly; for int8 the integers.

    Raises
    ------
    ParameterError
        An unknown format, or an entry beyond 1.

    Examples
    --------
    >>> stored([0.3, 1.0], "int8")
    array([ 38., 127.])
    """
    check_choice("dtype", dtype, FORMATS)
    largest = 1 + ROUNDING
    vectors = check_array("vectors", vectors, at_least=-largest, at_most=largest)
    if dtype == "int8":
        return np.rint(LEVELS * vectors)
    return vectors.astype(dtype).astype(np.float64)


def is_returned(
    queries: np.ndarray, documents: np.ndarray, sets: np.ndarray, dtype: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return which queries are certain to return their set, and the R/Delta of each.

    Parameters
    ----------
    queries : ndarray, shape (s, d)
    documents : ndarray, shape (n, d)
        Both as `stored` makes them.
    sets : array_like of int, shape (s, k)
    dtype : {"float64", "float32", "float16", "int8"}

    Returns
    -------
    certain : ndarray of bool, shape (s,)
        Every order of summation in the format's accumulator puts the set on top.
    scale_ratio : ndarray, shape (s,)
        inf where the set is not on top.
    """
    scores = queries @ documents.T
    lowest = np.take_along_axis(scores, sets, axis=1).min(axis=1)
    np.put_along_axis(scores, sets, -np.inf, axis=1)
    gap = lowest - scores.max(axis=1)
    size = np.linalg.norm(queries, axis=1) * np.linalg.norm(documents, axis=1).max()
    # The sums made here may be off by as much as float64's, on top of the accumulator's.
    off = sum(gamma(documents.shape[1], u) for u in (ACCUMULATOR[dtype], STORED["float64"]))
    with np.errstate(divide="ignore", invalid="ignore"):
        return gap > 2 * off * size, np.where(gap > 0, size / gap, np.inf)


def gamma(terms: int, roundoff: float) -> float:
    """Return gamma_n = n u/(1 - n u), what n operations lose at most, relatively."""
    return terms * roundoff / (1 - terms * roundoff)
