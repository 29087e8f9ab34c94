"""The critical n of each method."""

import math

from .. import codes
from ..errors import ConstructionError, ParameterError, check_choice, check_int, check_real
from ..theory import absorption
from .curve import curve_n
from .formats import FORMATS
from .given import Certificate, CriticalN, bisect, every_set
from .learned import learned_documents

__all__ = [
    "FORMATS",
    "HALF",
    "MAX_SETS",
    "METHODS",
    "critical_n",
    "predicted_n",
]

METHODS = ("moment_curve", "max_margin", "learned")

MAX_SETS = 200_000
"""Most sets that are tried one by one."""

HALF = math.log(2)
"""Sets lost on average, when about half of all draws lose none."""


def critical_n(
    dim: int,
    top_k: int = 2,
    method: str = "moment_curve",
    dtype: str = "float64",
    seed: int = 0,
    *,
    max_sets: int = MAX_SETS,
) -> CriticalN:
    """Return how many documents a construction holds in d dimensions, with a certificate.

    Parameters
    ----------
    dim : int
        d.
    top_k : int, optional
        k.
    method : {"moment_curve", "max_margin", "learned"}, optional
        - "moment_curve" (T5): documents on the trigonometric moment curve of 2k dimensions, the
          other coordinates 0, and polynomials for queries. Rotations make sets with the same gaps
          alike, and rounding is bounded for all of them at once.
        - "max_margin" (T9): the first n of a sequence of random unit documents that begins the same
          for every n, with the shortest queries, rounded. n + 1 fails for a set that no query
          returns, unless rounding gets in the way earlier.
        - "learned": documents that `learned_documents` improves, for n = 2d and then a quarter more
          each time.
    dtype : {"float64", "float32", "float16", "int8"}, optional
        The number format; int8 counts in steps of 1/127 of 1, or of a query's largest entry.
    seed : int, optional
        Of the random documents, and of where learning begins.
    max_sets : int, optional
        Stop before n has more sets than that, with ``stopped_by="limit"``. Learning solves each
        some fifty times.

    Returns
    -------
    CriticalN
        For the given documents n is certain, and for "max_margin" usually the largest; other
        documents may do better.

    Raises
    ------
    ParameterError
        An argument is out of range.

    Examples
    --------
    Four dimensions hold the pairs of 10 documents by gradient descent (arXiv 2508.21038), and of

    >>> [critical_n(4, dtype=name).n for name in FORMATS]
    [19695, 116, 16, 8]

    on a curve. Random documents need more dimensions, and the next document cannot be had:

    >>> found = critical_n(12, method="max_margin")
    >>> found.n, found.certificate.sets, found.certificate.stopped_by
    (41, 820, 'infeasible')
    >>> proof = found.certificate.combination
    >>> sum(proof.weights), sum(proof.coefficients)
    (Fraction(1, 1), Fraction(1, 1))
    """
    dim, top_k = check_int("dim", dim), check_int("top_k", top_k)
    check_choice("method", method, METHODS)
    check_choice("dtype", dtype, FORMATS)
    seed, max_sets = check_int("seed", seed, minimum=0), check_int("max_sets", max_sets)
    if method == "moment_curve":
        if dim < 2 * top_k:
            raise ParameterError(f"dim={dim}: the moment curve needs 2k = {2 * top_k}")
        return curve_n(top_k, dtype, max_sets)
    if method == "learned":
        return _learned_n(dim, top_k, dtype, seed, max_sets)
    most, far = top_k, 4 * predicted_n(dim, top_k) + 8
    while most < far and math.comb(most + 1, top_k) <= max_sets:
        most += 1
    return every_set(codes.draw("unit", most, dim, seed).array(), top_k, dtype)


def _learned_n(dim, top_k, dtype, seed, max_sets):
    best, n = CriticalN(top_k, Certificate(1, 0.0, "limit")), 2 * dim
    while math.comb(n, top_k) <= max_sets:
        try:
            documents = learned_documents(n, dim, top_k, seed)
        except ConstructionError:
            break
        found = every_set(documents, top_k, dtype)
        best = max(best, found, key=lambda each: each.n)
        if found.n < n:
            break
        n += n // 4
    return best


def predicted_n(dim: int, top_k: int = 2, expected: float = HALF) -> int:
    """Return the largest n at which Gaussian documents lose that many sets on average (T9's law).

    With log 2 on average, about half of all draws lose none. Lost are sets without a query of equal
    scores; unit documents lose fewer.

    Parameters
    ----------
    dim : int
        d.
    top_k : int, optional
        k.
    expected : float, optional
        Above 0.

    Returns
    -------
    int
        At least k.

    Raises
    ------
    ParameterError
        An argument is out of range.

    Examples
    --------
    >>> [predicted_n(dim) for dim in (12, 32, 64)]
    [30, 485, 18041]
    """
    dim, top_k = check_int("dim", dim), check_int("top_k", top_k)
    log_expected = math.log(check_real("expected", expected, above=0))

    def few(n):
        return absorption.log_expected_failures(dim, n, top_k, "every_support") <= log_expected

    low, high = top_k, 2 * top_k
    while few(high):
        low, high = high, 2 * high
    return bisect(few, low, high)
