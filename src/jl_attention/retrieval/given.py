"""Which sets of given documents are returned."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, combinations, islice

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from ..certificates import prove_infeasible
from ..errors import ConstructionError, ParameterError, check_int
from ..methods.margin_solver import shortest_queries
from .formats import is_returned, stored

__all__ = [
    "BLOCK",
    "Certificate",
    "CriticalN",
    "best_queries",
    "bisect",
    "colexicographic",
    "every_set",
    "rows_of",
]

BLOCK = 2048
"""Sets solved at once."""


@dataclass(frozen=True)
class Certificate:
    """Why a critical n is one.

    Attributes
    ----------
    sets : int
        How many sets of k documents were checked in the number format: all C(n, k), or, on the
        moment curve, one for all its rotations.
    scale_ratio : float
        R/Delta over all sets: |q| times the longest document, over the gap between S and the rest.
    stopped_by : {"infeasible", "unequal", "rounding", "unresolved", "limit"}
        What becomes of `obstacle`, a set, among n + 1 documents.

        - "infeasible": no query returns it. `combination` is a point in its hull and in that of the
          others, in exact arithmetic on the documents as stored;
        - "unequal": no query gives it equal scores, by a point in its affine hull;
        - "rounding": this method's query, rounded, is not certain to return it;
        - "unresolved": the solver found neither a query nor a reason;
        - "limit": there is no obstacle. n is as far as was looked.
    obstacle : tuple of int or None
    combination : certificates.ExactCombination or None
    """

    sets: int
    scale_ratio: float
    stopped_by: str
    obstacle: tuple | None = None
    combination: object = None


@dataclass(frozen=True)
class CriticalN:
    """A critical n.

    Attributes
    ----------
    n : int
        Documents of which every k are returned.
    certificate : Certificate
    """

    n: int
    certificate: Certificate

    def __index__(self):
        """Return n: ``range(critical_n(4))``, ``int(critical_n(4))``."""
        return self.n


def every_set(documents: ArrayLike, top_k: int = 2, dtype: str = "float64") -> CriticalN:
    """Return how many of the first documents have all their sets returned, with a certificate.

    Parameters
    ----------
    documents : array_like, shape (n, d)
        Entries in [-1, 1]; rounded to the format first.
    top_k : int, optional
        k.
    dtype : {"float64", "float32", "float16", "int8"}, optional

    Returns
    -------
    CriticalN
        ``n`` is `len(documents)`, with ``stopped_by="limit"``, if they all are.

    Raises
    ------
    ParameterError
        Documents are not an array (n, d) of numbers in [-1, 1].

    Notes
    -----
    A set that has no query among some documents has none among more. So an obstacle cuts the
    documents off where it became one, and the others need not be looked at again. One
    max-margin query a set.

    Examples
    --------
    >>> square = [[1, 0], [0, 1], [-1, 0], [0, -1]]
    >>> found = every_set(square)
    >>> found.n, found.certificate.obstacle
    (3, (0, 2))
    """
    documents = stored(documents, dtype)
    if documents.ndim != 2 or 0 in documents.shape:
        raise ParameterError(f"documents of shape {documents.shape}: expected (n, d)")
    top_k = check_int("top_k", top_k, maximum=len(documents))
    n, why, sets, ratios = len(documents), ("limit", None, None), [], []
    supports = colexicographic(n, top_k)
    while len(block := np.array(list(islice(supports, BLOCK)), dtype=int)):
        block = block[block[:, -1] < n]
        if not len(block):
            break
        certain, ratio = _returned(documents[:n], block, dtype)
        for row in np.nonzero(~certain)[0]:
            if block[row, -1] >= n:
                continue
            held, ratio[row] = _held(documents[:n], block[row], dtype)
            if held < n:
                n, why = held, _obstacle(documents[: held + 1], block[row], dtype)
        sets.append(block)
        ratios.append(ratio)
    sets, ratios = np.concatenate(sets), np.concatenate(ratios)
    inside = sets[:, -1] < n
    sets, ratios = sets[inside], ratios[inside]
    return CriticalN(n, Certificate(len(sets), _largest(documents[:n], sets, ratios, dtype), *why))


def best_queries(documents: ArrayLike, sets: ArrayLike, dtype: str) -> np.ndarray:
    """Return the max-margin query of each set (T9), as the format holds it.

    Parameters
    ----------
    documents : ndarray, shape (n, d)
        As `stored` makes them.
    sets : array_like of int, shape (s, k)
    dtype : {"float64", "float32", "float16", "int8"}

    Returns
    -------
    ndarray, shape (s, d)
        As `stored` makes them; rows of NaN where the solver found none.
    """
    queries = shortest_queries(rows_of(sets, len(documents)), documents).queries.copy()
    # A query's length changes no order, so its entries may be as large as the format likes.
    order = np.inf if dtype == "int8" else None
    found = ~np.isnan(queries[:, 0])
    size = np.linalg.norm(queries[found], order, axis=1, keepdims=True)
    unit = queries[found] / np.where(size > 0, size, 1.0)  # 0 serves the set of all documents
    queries[found] = stored(np.clip(unit, -1, 1), dtype)
    return queries


# --- One by one ----------------------------------------------------------------------------------


def _returned(documents, sets, dtype):
    return is_returned(best_queries(documents, sets, dtype), documents, sets, dtype)


def _held(documents, support, dtype):
    """Return among how many of the first documents a set is returned, and its R/Delta there.

    At least as many as come before its last member: among them there is no such set.
    """

    def holds(n):
        return _returned(documents[:n], support[None], dtype)[0][0]

    n = len(documents)
    if not holds(n):
        n = bisect(holds, int(support[-1]), n)
    return n, _returned(documents[:n], support[None], dtype)[1][0] if n > support[-1] else np.inf


def _obstacle(documents, support, dtype):
    """Return why a set is not returned among these documents, as `Certificate` has it."""
    result = shortest_queries(rows_of(support[None], len(documents)), documents)
    named = tuple(int(j) for j in support)
    if len(result.found):
        return "rounding", named, None
    if len(result.unresolved):
        return "unresolved", named, None
    try:
        proof = prove_infeasible(result.certificates[0], documents)
    except ConstructionError:
        return "unresolved", named, None
    return "infeasible" if min(proof.coefficients) >= 0 else "unequal", named, proof


def _largest(documents, sets, bounds, dtype):
    """Return the largest R/Delta over all sets, each of which has a query with at most its bound.

    The bounds are for queries among more documents; only the sets with the largest are looked at
    again.
    """
    order, largest = np.argsort(-bounds, kind="stable"), 0.0
    for start in range(0, len(order), BLOCK // 8):
        block = order[start : start + BLOCK // 8]
        if bounds[block[0]] <= largest:
            break
        ratio = np.minimum(_returned(documents, sets[block], dtype)[1], bounds[block])
        largest = max(largest, float(ratio.max()))
    return largest


def colexicographic(n: int, top_k: int) -> Iterator[tuple[int, ...]]:
    """Yield the sets of k of n documents, those of the first documents first."""
    return chain.from_iterable(
        ((*rest, last) for rest in combinations(range(last), top_k - 1)) for last in range(n)
    )


def rows_of(sets: np.ndarray, n: int) -> sparse.csr_array:
    """Return target logits of 1 on each set, a sparse matrix (s, n)."""
    sets = np.asarray(sets)
    indptr = np.arange(0, sets.size + 1, sets.shape[1])
    return sparse.csr_array((np.ones(sets.size), sets.ravel(), indptr), shape=(len(sets), n))


def bisect(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Return an n with holds(n) and not holds(n + 1), between a low that holds and a high."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
