"""From precision to total variation (T8): what (P1) and (P2) say of a whole row, jointly (S3).

Let M be a row with precision (eps1, eps2) for the row A, whose support S has |S| of L tokens.

- (P2): the mass of M off S is at most x times that on S, x = (L - |S|) eps2 a, with
  a = min((1+eps1) min_S A, 1/|S|); so M has at least s = 1/(1+x) on S.
- (P1): on S, M = s f A, where f has mean 1 under A and lies in an interval [u, c u], c = 1 + eps1.

TV(M, A) = sum over S of (A - M)_+ = E (1 - s f)_+ under A: convex in f, so largest where f takes
u and c u only. It is then (c u - 1)(1 - s u)/(u (c - 1)) if s c u >= 1, with its maximum at
u = 1/sqrt(s c), and 1 - s otherwise. Hence

    TV <= (sqrt(c) - sqrt(s))^2/(c - 1)  if c s >= 1,  else  1 - s = x/(1+x).

Both are attained, given c and s. Once x >= eps1 the ratio error costs nothing: all of M is below A
on S. At s = 1 it is (sqrt(c) - 1)/(sqrt(c) + 1), the price of wrong ratios alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ParameterError, check_array, check_int, check_real
from ..interop.mapped import blocks_of
from ..targets import check_target, opened_or_checked, row_counts

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from scipy import sparse

    from ..interop.mapped import MappedTarget

__all__ = [
    "LARGEST_LEAK",
    "joint_bound",
    "leak_for_checked_target",
    "leak_for_target",
    "leak_for_total_variation",
    "output_error_bound",
    "total_variation_bound",
]

LARGEST_LEAK = float(np.nextafter(1.0, 0.0))
"""A leak asked for lies below 1."""


def joint_bound(ratio_error: ArrayLike, off_mass: ArrayLike) -> float | np.ndarray:
    """Return the largest total variation that (P1) with eps1 and an off-support mass leave.

    Parameters
    ----------
    ratio_error : float or array_like
        eps1 >= 0.
    off_mass : float or array_like
        x >= 0: the mass off the support is at most x times that on it.

    Returns
    -------
    float or ndarray
        In [0, 1).

    Raises
    ------
    ParameterError
        An argument is out of range.

    Examples
    --------
    Wrong ratios, a leak, and both at once; their sum would be 0.267:

    >>> [round(float(joint_bound(*pair)), 3) for pair in ((0.5, 0), (0, 0.2), (0.5, 0.2))]
    [0.101, 0.167, 0.195]
    """
    c = 1 + check_array("ratio_error", ratio_error, at_least=0)
    x = check_array("off_mass", off_mass, at_least=0)
    s = 1 / (1 + x)
    excess = np.where(c > 1, c - 1, 1.0)
    # sqrt(c) - sqrt(s) = (c - s)/(sqrt(c) + sqrt(s)), and c - s without cancellation
    both = (((c - 1) + x * s) / (np.sqrt(c) + np.sqrt(s))) ** 2 / excess
    return np.where(x < c - 1, both, x * s)[()]


def total_variation_bound(
    target: ArrayLike | sparse.sparray, ratio_error: float, leak: float
) -> np.ndarray:
    """Return a bound on the total variation of each row, from (eps1, eps2) alone (T8).

    `joint_bound` at x = (L - |S_i|) eps2 min((1 + eps1) min_{S_i} A_ij, 1/|S_i|).

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

    Examples
    --------
    A leak of 1/2 says nothing about a row of 1024 tokens:

    >>> from jl_attention import targets
    >>> A = targets.regular(1024, 2, rng=0)
    >>> [round(float(total_variation_bound(A, 0.1, leak)[0]), 3) for leak in (0.5, 0.01, 1e-4)]
    [0.996, 0.836, 0.054]
    """
    target = check_target(target)
    ratio_error = check_real("ratio_error", ratio_error, at_least=0)
    leak = check_real("leak", leak, at_least=0)
    return joint_bound(ratio_error, leak * _mass_per_leak(target, ratio_error))


def leak_for_total_variation(
    length: int, row_nnz: int, total_variation: float, ratio_error: float = 0.0
) -> float:
    """Return the largest eps2 for which T8 keeps the total variation of a row within t.

    `joint_bound` solved for x, which is at most (L - k) eps2/k for a row of at least k nonzeros.
    Capped below 1.

    Parameters
    ----------
    length, row_nnz : int
        L, and the least number of nonzeros of a row.
    total_variation : float
        t in (0, 1).
    ratio_error : float, optional
        eps1, that of (P1): 0 for exact ratios.

    Returns
    -------
    float

    Raises
    ------
    ParameterError
        An argument is out of range, or the ratios alone may cost t: the smallest t is
        (sqrt(1+eps1) - 1)/(sqrt(1+eps1) + 1).

    Examples
    --------
    >>> f"{leak_for_total_variation(1024, 4, 0.01):.3g}"
    '3.96e-05'
    """
    length = check_int("length", length)
    row_nnz = check_int("row_nnz", row_nnz, maximum=length)
    x = _off_mass(total_variation, ratio_error)
    if row_nnz == length:
        return LARGEST_LEAK
    return float(min(row_nnz * x / (length - row_nnz), LARGEST_LEAK))


def leak_for_target(
    target: ArrayLike | sparse.sparray | MappedTarget,
    total_variation: float,
    ratio_error: float = 0.0,
) -> float:
    """Return the largest eps2 for which T8 keeps every row of this target within t.

    `leak_for_total_variation` with each row's own support and smallest weight; never smaller.

    Parameters
    ----------
    target : array_like or scipy.sparse array, shape (L, L), or targets.MappedTarget
    total_variation, ratio_error
        As in `leak_for_total_variation`.

    Returns
    -------
    float

    Raises
    ------
    TargetError, ParameterError
    """
    return leak_for_checked_target(opened_or_checked(target), total_variation, ratio_error)


def leak_for_checked_target(
    target: sparse.csr_array | MappedTarget, total_variation: float, ratio_error: float = 0.0
) -> float:
    """Return what `leak_for_target` does, for a target that has been checked."""
    x = _off_mass(total_variation, ratio_error)
    largest = max(_mass_per_leak(block, ratio_error).max() for block in blocks_of(target))
    return float(min(x / largest, LARGEST_LEAK)) if largest > 0 else LARGEST_LEAK


def output_error_bound(total_variation: ArrayLike, values: ArrayLike) -> np.ndarray:
    """Return TV (max_j V_jp - min_j V_jp), a bound on |(M V - A V)_ip| (T8).

    Two distributions that differ by TV move a mean by at most TV times the range. A constant added
    to a column of V changes nothing, as it must.

    Parameters
    ----------
    total_variation : float or array_like, shape (n,)
        Of one row, or of n rows.
    values : ndarray, shape (L, p)
        The values V that attention averages.

    Returns
    -------
    ndarray, shape (p,) or (n, p)

    Raises
    ------
    ParameterError
        An argument is out of range, or V is not a matrix.

    Examples
    --------
    >>> output_error_bound(0.1, [[0.0, 5.0], [1.0, 5.0], [3.0, 5.0]])
    array([0.3, 0. ])
    """
    total_variation = check_array("total_variation", total_variation, at_least=0, at_most=1)
    values = check_array("values", values)
    if values.ndim != 2 or not values.size:
        raise ParameterError(f"values of shape {values.shape}: expected a nonempty matrix")
    return np.multiply.outer(total_variation, np.ptp(values, axis=0))


def _mass_per_leak(target, ratio_error):
    """Return x/eps2 of each row."""
    counts = row_counts(target)
    smallest = np.minimum.reduceat(target.data, target.indptr[:-1])
    return (target.shape[1] - counts) * np.minimum((1 + ratio_error) * smallest, 1 / counts)


def _off_mass(total_variation, ratio_error):
    """Return the x at which `joint_bound` is t."""
    t = check_real("total_variation", total_variation, above=0, below=1)
    excess = check_real("ratio_error", ratio_error, at_least=0)
    c = 1 + excess
    floor = excess / (np.sqrt(c) + 1) ** 2
    if t <= floor:
        raise ParameterError(
            f"total_variation={t:g}: with ratio_error={excess:g} the ratios alone may cost "
            f"{floor:.3g}; ask for more, or for a smaller ratio_error"
        )
    if c * t >= excess:  # x >= eps1: the ratios cost nothing
        return t / (1 - t)
    return 1 / (np.sqrt(c) - np.sqrt(t * excess)) ** 2 - 1
