"""Theorem T9 by its first names; see `methods.margin_solver` and `methods.MaxMargin`."""

import numpy as np

from .codes import unit_codes
from .methods.margin_solver import shortest_queries
from .methods.max_margin import check_found


def max_margin(B, dim, rng=None, dtype=np.float64):
    """Draw unit key codes and find the shortest query of each row, with gap tau.

    Parameters
    ----------
    B : scipy.sparse.csr_array, shape (L, L)
        Target logits; the smallest entry is the gap tau.
    dim : int
        m.
    rng : int or numpy.random.Generator, optional
    dtype : {numpy.float64, numpy.float32}, optional

    Returns
    -------
    queries, keys : ndarray, shape (L, m)

    Raises
    ------
    ConstructionError
        Some rows cannot be separated by these codes; names them.
    """
    keys = unit_codes(B.shape[0], dim, rng)
    return check_found(shortest_queries(B, keys)).astype(dtype), keys.astype(dtype)


def max_margin_queries(B, keys):
    """Return the shortest queries for given keys, and the rows that have none.

    Parameters
    ----------
    B : scipy.sparse.csr_array, shape (n, L)
        Target logits.
    keys : ndarray, shape (L, m)

    Returns
    -------
    queries : ndarray, shape (n, m)
        Rows of NaN where there is no query.
    infeasible : ndarray of int
        These rows, with those that are unresolved.
    """
    result = shortest_queries(B, keys)
    return result.queries.copy(), np.union1d(result.infeasible, result.unresolved)
