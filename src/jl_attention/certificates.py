"""Proofs in exact arithmetic that a row has a query, or has none.

A floating-point number is a rational number, so keys and queries of floats make exact statements.
`prove_infeasible` turns the convex combination that a solver found up to rounding into one that
holds exactly; `prove_feasible` turns a query into one with exact ratios and returns its exact gap;
`radon` splits m + 2 points of R^m into two parts whose hulls meet. Nothing is trusted but integers:
linear systems are solved by elimination without fractions, in O(n^3) products of integers of O(n)
machine words. Meant for up to a few dozen dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from .errors import ConstructionError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from .methods.margin_solver import ConvexCombination

__all__ = [
    "ExactCombination",
    "ExactQuery",
    "prove_feasible",
    "prove_infeasible",
    "radon",
    "solve_exactly",
]


@dataclass(frozen=True)
class ExactCombination:
    """A point in two hulls, exactly: sum u_j0 c_j0 = sum a_j c_j, and both sums of weights 1.

    The logits of a query at this point are at most Delta below the weakest on the one side, and
    more than that on the other: `contradiction` = Delta + sum a_j (b_j - b_s) > 0. Where `weights`
    is empty, sum a = 0: the support's codes are dependent, and the ratios break the dependency.

    Attributes
    ----------
    competitors, support : tuple of int
    weights, coefficients : tuple of Fraction
        u >= 0 and a.
    contradiction : Fraction
    """

    competitors: tuple
    weights: tuple
    support: tuple
    coefficients: tuple
    contradiction: Fraction


@dataclass(frozen=True)
class ExactQuery:
    """A query with exact ratios on the support.

    Attributes
    ----------
    query : tuple of Fraction
    gap : Fraction or None
        By how much every other logit is below the smallest on the support; None if there is none.
    """

    query: tuple
    gap: Fraction | None


def prove_infeasible(
    certificate: ConvexCombination,
    keys: ArrayLike,
    values: ArrayLike | None = None,
    gap: float = 1.0,
) -> ExactCombination:
    """Return an exact proof that a row has no query, of any length.

    Parameters
    ----------
    certificate : ConvexCombination
        The reason that `methods.margin_solver.shortest_queries` gives; its tokens are kept.
    keys : array_like, shape (L, m)
    values : array_like, optional
        b_j on the support, in the order of `certificate.support`; equal if None.
    gap : float, optional
        Delta.

    Returns
    -------
    ExactCombination

    Raises
    ------
    ConstructionError
        These tokens have no such combination.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from jl_attention.methods.margin_solver import shortest_queries
    >>> keys = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [0.25, 0.5]])
    >>> result = shortest_queries(sparse.csr_array([[0, 0, 0, 0, 1.0]]), keys)
    >>> proof = prove_infeasible(result.certificates[0], keys)
    >>> sum(proof.weights), proof.contradiction
    (Fraction(1, 1), Fraction(1, 1))
    """
    support = [int(j) for j in certificate.support]
    competitors = [int(j) for j in certificate.competitors]
    b = _rational(np.zeros(len(support)) if values is None else values)
    if len(b) != len(support):
        raise ParameterError(f"values: {len(b)} of them for a support of {len(support)}")
    differences, gap = [value - min(b) for value in b], Fraction(gap)
    columns = [_rational(keys[j]) for j in competitors]
    columns += [[-x for x in _rational(keys[j])] for j in support]
    one = Fraction(int(bool(competitors)))
    matrix = [list(row) for row in zip(*columns, strict=True)]
    matrix.append([Fraction(1)] * len(competitors) + [Fraction(0)] * len(support))
    matrix.append([Fraction(0)] * len(competitors) + [Fraction(1)] * len(support))
    right = [Fraction(0)] * (len(matrix) - 2) + [one, one]
    if not competitors:  # fix the scale: the contradiction is 1
        matrix.append(differences)
        right.append(Fraction(1))
    guess = [*certificate.weights, *certificate.coefficients]
    solution = solve_exactly(matrix, right, _rational(guess))
    if solution is None:
        raise ConstructionError("these tokens have no common point of their two hulls")
    weights, coefficients = solution[: len(competitors)], solution[len(competitors) :]
    contradiction = gap * one + sum(
        (a * d for a, d in zip(coefficients, differences, strict=True)), Fraction(0)
    )
    if min(weights, default=0) < 0 or contradiction <= 0:
        raise ConstructionError(
            "the exact combination of these tokens is not convex, or proves nothing"
        )
    return ExactCombination(
        tuple(competitors), tuple(weights), tuple(support), tuple(coefficients), contradiction
    )


def prove_feasible(
    query: ArrayLike,
    keys: ArrayLike,
    support: Sequence[int] | np.ndarray,
    values: ArrayLike | None = None,
    visible: int | None = None,
) -> ExactQuery:
    """Return the query next to a given one whose ratios are exact, with its exact gap.

    With equal values and a gap above 0, a multiple of it has any gap: the row is feasible.

    Parameters
    ----------
    query : array_like, shape (m,)
    keys : array_like, shape (L, m)
    support : sequence of int
    values : array_like, optional
        b_j on the support; equal if None.
    visible : int, optional
        Only the first so many tokens compete.

    Returns
    -------
    ExactQuery

    Raises
    ------
    ConstructionError
        No query has these ratios.

    Examples
    --------
    >>> proof = prove_feasible([0.1, 0.3], [[1, 1], [-1, 1], [-1, -1], [1, -1]], [0, 1])
    >>> proof.query == (0, Fraction(0.3)), proof.gap == 2 * Fraction(0.3)
    (True, True)
    """
    support = [int(j) for j in support]
    b = _rational(np.zeros(len(support)) if values is None else values)
    q, c = _rational(query), [_rational(row) for row in keys]
    weakest = b.index(min(b))
    rows = [_minus(c[j], c[support[weakest]]) for j in support]
    missing = [x - b[weakest] - _dot(row, q) for row, x in zip(rows, b, strict=True)]
    gram = [[_dot(x, y) for y in rows] for x in rows]
    shift = solve_exactly(gram, missing)
    if shift is None:
        raise ConstructionError(f"support {support}: no query has these ratios")
    for factor, row in zip(shift, rows, strict=True):
        q = [x + factor * y for x, y in zip(q, row, strict=True)]
    least, visible = _dot(c[support[weakest]], q), len(c) if visible is None else visible
    gaps = [least - _dot(c[j], q) for j in range(visible) if j not in set(support)]
    return ExactQuery(tuple(q), min(gaps, default=None))


def radon(points: ArrayLike) -> tuple[tuple[int, ...], tuple[int, ...], tuple[Fraction, ...]]:
    """Split points into two parts whose convex hulls meet, by an exact affine dependency.

    Parameters
    ----------
    points : array_like, shape (n, m)
        n >= m + 2.

    Returns
    -------
    positive, negative : tuple of int
    weights : tuple of Fraction
        Their sum is 0, and sum w_j c_j = 0: no query puts all of `positive` above all of
        `negative`, nor the other way round.

    Raises
    ------
    ParameterError
        There are too few points.

    Examples
    --------
    >>> radon([[0, 0], [2, 0], [0, 2], [2, 2]])[:2]
    ((0, 3), (1, 2))
    """
    points = [_rational(row) for row in points]
    if len(points) < len(points[0]) + 2:
        raise ParameterError(f"points: {len(points)} in dimension {len(points[0])}: too few")
    points = points[: len(points[0]) + 2]
    matrix = [*map(list, zip(*points, strict=True)), [Fraction(1)] * len(points)]
    for fixed in range(len(points)):
        rest = [row[:fixed] + row[fixed + 1 :] for row in matrix]
        solution = solve_exactly(rest, [-row[fixed] for row in matrix])
        if solution is not None:
            weights = [*solution[:fixed], Fraction(1), *solution[fixed:]]
            break
    return (
        tuple(j for j, w in enumerate(weights) if w > 0),
        tuple(j for j, w in enumerate(weights) if w < 0),
        tuple(weights),
    )


def solve_exactly(
    matrix: Sequence[Sequence[Fraction]],
    right: Sequence[Fraction],
    free: Sequence[Fraction] | None = None,
) -> list[Fraction] | None:
    """Return an exact solution of a linear system, or None if there is none.

    Parameters
    ----------
    matrix : sequence of sequences of Fraction, shape (r, c)
    right : sequence of Fraction, shape (r,)
    free : sequence of Fraction, shape (c,), optional
        The values of unknowns that the equations leave free; 0 by default.

    Returns
    -------
    list of Fraction, or None
    """
    columns = len(matrix[0])
    rows = [_integers([*row, value]) for row, value in zip(matrix, right, strict=True)]
    pivots, last = [], 1
    for column in range(columns):
        done = len(pivots)
        pivot = next((i for i in range(done, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[done], rows[pivot] = rows[pivot], rows[done]
        top = rows[done]
        for i in range(done + 1, len(rows)):
            row = rows[i]
            factor = row[column]
            rows[i] = [
                (top[column] * x - factor * y) // last for x, y in zip(row, top, strict=True)
            ]
        last = top[column]
        pivots.append(column)
    if any(row[-1] for row in rows[len(pivots) :]):
        return None
    solution = [Fraction(0)] * columns if free is None else list(free)
    for row, column in reversed(list(zip(rows, pivots, strict=False))):
        known = sum((row[j] * solution[j] for j in range(column + 1, columns)), Fraction(0))
        solution[column] = (row[-1] - known) / row[column]
    return solution


def _integers(row):
    """Return a multiple of a row of fractions that is integer."""
    scale = math.lcm(*(x.denominator for x in row))
    return [x.numerator * (scale // x.denominator) for x in row]


def _rational(vector):
    """Return the entries of a vector as fractions."""
    return [Fraction(x) if isinstance(x, Fraction) else Fraction(float(x)) for x in vector]


def _minus(x, y):
    return [a - b for a, b in zip(x, y, strict=True)]


def _dot(x, y):
    return sum((a * b for a, b in zip(x, y, strict=True)), Fraction(0))
