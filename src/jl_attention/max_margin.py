"""Theorem T9: for given codes, the shortest query with exact ratios and a given gap.

Row i asks for the least-norm q with

    <q, c_j - c_j'> = B_ij - B_ij' for j, j' in S_i,   <q, c_s - c_j0> >= tau for j0 not in S_i,

s the entry of S_i with the smallest B_is. With D the differences of codes within the support,
p = D^+ (differences of B) and P the projector onto the null space of D, q = p + y with y in that
null space, and what is left is a least-distance problem: minimise ||y|| subject to G y >= h, with
G = (c_s - c_j0) P and h = tau - <p, c_s - c_j0>. It is a hard-margin support vector machine,
solved as non-negative least squares on [G^T; h^T] (Lawson and Hanson 1974): the residual r gives
y = -r / r_last, and r = 0 means that no query separates the support. The code takes from it which
constraints are active, and solves these.

Few constraints are active, so the problem is solved on the tokens of the largest logits, checked
against all of them, and solved again with the violators, until there are none.
"""

import numpy as np

from .codes import unit_codes
from .errors import ConstructionError

CANDIDATES = 0.25
"""Constraints of the first round, in units of m."""

TOLERANCE = 1e-6
"""Accepted violation of the gap, relative to it: what rounding leaves of the longest queries."""

ROUNDING = 1e-9
"""Accepted error of a logit difference on the support, relative to the gap."""

SMALLEST_RESIDUAL = 1e-7
"""An NNLS residual r below this means ||y|| > 1/r: no query, or one too long to be of use."""


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
    queries, infeasible = max_margin_queries(B, keys)
    if len(infeasible):
        listed = ", ".join(map(str, infeasible[:5])) + (", ..." if len(infeasible) > 5 else "")
        raise ConstructionError(
            f"row {listed}: no query of dim={dim} separates the support from the other tokens "
            f"({len(infeasible)} of {B.shape[0]} rows)"
        )
    return queries.astype(dtype), keys.astype(dtype)


def max_margin_queries(B, keys, *, candidates=CANDIDATES):
    """Return the shortest queries for given keys, and the rows that have none.

    Parameters
    ----------
    B : scipy.sparse.csr_array, shape (n, L)
        Target logits.
    keys : ndarray, shape (L, m)
    candidates : float, optional
        The first round looks at 1 + `candidates` m tokens off the support, of the largest logits.
        The queries do not depend on it, the time does.

    Returns
    -------
    queries : ndarray, shape (n, m)
        Rows of NaN where there is no query.
    infeasible : ndarray of int
        These rows.
    """
    keys = np.asarray(keys, dtype=np.float64)
    gap = B.data.min()
    queries = np.full((B.shape[0], keys.shape[1]), np.nan)
    for row in range(B.shape[0]):
        at = slice(B.indptr[row], B.indptr[row + 1])
        query = _shortest_query(keys, B.indices[at], B.data[at], gap, candidates)
        if query is not None:
            queries[row] = query
    return queries, np.nonzero(np.isnan(queries[:, 0]))[0]


def _shortest_query(keys, support, values, gap, candidates):
    """Return the shortest query of one row, or None."""
    weakest = support[np.argmin(values)]
    D = keys[support] - keys[weakest]
    inverse = np.linalg.pinv(D)
    wanted = values - values.min()
    p = inverse @ wanted
    if np.abs(D @ p - wanted).max() > ROUNDING * max(1.0, gap):
        return None  # the ratios themselves are out of reach
    mask = np.zeros(len(keys), dtype=bool)
    mask[support] = True
    logits = keys @ p
    logits[mask] = -np.inf
    first_round = min(1 + int(candidates * keys.shape[1]), len(keys) - len(support))
    chosen = np.argsort(-logits)[:first_round]
    query = p
    while len(chosen):
        query = _least_distance(keys[weakest] - keys[chosen], p, D, inverse, gap)
        if query is None:
            return None
        logits = keys @ query
        slack = logits[weakest] - gap - logits
        slack[mask] = np.inf
        violators = np.nonzero(slack < -TOLERANCE * gap)[0]
        if not len(violators):
            break
        worst = violators[np.argsort(slack[violators])[: keys.shape[1]]]
        more = np.union1d(chosen, worst)
        if len(more) == len(chosen):
            return None  # the same constraints again: beyond the digits of the solver
        chosen = more
    return query


def _least_distance(differences, p, D, inverse, gap):
    """Return p + y for the shortest y in D's null space with `differences` @ (p + y) >= gap."""
    h = gap - differences @ p
    if (h <= 0).all():
        return p
    projected = differences - (differences @ inverse) @ D
    system = np.vstack([projected.T, h])
    last = np.zeros(len(system))
    last[-1] = 1.0
    from scipy.optimize import nnls  # slow to import, and only this needs it

    multipliers, residual = nnls(system, last)
    if residual < SMALLEST_RESIDUAL:
        return None
    # y = -r / r_last loses its digits where ||y|| is large; its active constraints do not.
    active = multipliers > 0
    return p + np.linalg.lstsq(projected[active], h[active], rcond=None)[0]
