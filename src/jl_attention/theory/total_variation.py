"""T8: from ratio error and leak to total variation, and back."""

import numpy as np

from ..errors import ParameterError, check_int, check_real
from ..targets import check_target, row_counts


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


def leak_for_target(target, ratio_error, total_variation):
    """Return the largest eps2 for which T8 keeps every row of a target within a total variation.

    Parameters
    ----------
    target : scipy.sparse.csr_array, shape (L, L)
        A checked target.
    ratio_error : float
        eps1.
    total_variation : float
        t in (0, 1).

    Returns
    -------
    float
        Below 1.

    Raises
    ------
    ParameterError
        An argument is out of range, or ratios within eps1 alone may cost more than t.
    """
    ratio_error = check_real("ratio_error", ratio_error, at_least=0)
    t = check_real("total_variation", total_variation, above=0, below=1)
    root = np.sqrt(1 + ratio_error)
    left = t - (root - 1) / (root + 1)
    if left <= 0:
        raise ParameterError(
            f"total_variation={t:g}: ratios within ratio_error={ratio_error:g} alone may cost "
            f"{(root - 1) / (root + 1):.3g}; ask for a smaller ratio_error"
        )
    counts = row_counts(target)
    smallest = np.minimum.reduceat(target.data, target.indptr[:-1])
    per_leak = (target.shape[0] - counts) * np.minimum((1 + ratio_error) * smallest, 1 / counts)
    worst = float(per_leak.max())
    largest = float(np.nextafter(1.0, 0.0))
    return min(left / (1 - left) / worst, largest) if worst > 0 else largest
