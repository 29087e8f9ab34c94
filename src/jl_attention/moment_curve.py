"""Theorem T5: in real arithmetic query dimension m = 2k is enough, for every L.

Keys lie on the trigonometric moment curve, key j = (cos t theta_j, sin t theta_j) for t = 1..k at
theta_j = 2 pi j/L: the vertices of a cyclic polytope, of which any k form a face. A query is a
trigonometric polynomial without its constant term, and a logit its value at theta_j:

    p(theta) = -C prod_{s in S} (1 - cos(theta - theta_s)) + r(theta).

The product vanishes on the support S and is positive off it; r interpolates log A on S; C is the
least factor that pushes everything off the support tau below its smallest entry. The constant term
is the same for the whole row, and softmax does not see it. The ratios are exact, but C grows like
L^2 for spread supports and up to L^(2k) for clustered ones: the price is the size of the logits.
"""

import numpy as np

from .errors import ConstructionError

LOST_DIGITS = 1e-6
"""Largest accepted error of a logit difference on the support, from rounding."""


def moment_curve(B, dim, rng=None, dtype=np.float64):
    """Put the keys on the trigonometric moment curve, and polynomials into the queries.

    Parameters
    ----------
    B : scipy.sparse.csr_array, shape (L, L)
        Target logits, at most k = m // 2 nonzeros in a row.
    dim : int
        m, at least twice the largest support.
    rng : object, optional
        Not used: nothing is random.
    dtype : {numpy.float64, numpy.float32}, optional

    Returns
    -------
    queries, keys : ndarray, shape (L, m)
        An odd m leaves the last coordinate zero.

    Raises
    ------
    ConstructionError
        A support is larger than m // 2, or rounding would spoil the ratios: the message names the
        row and the size of its logits.
    """
    length = B.shape[0]
    counts = np.diff(B.indptr)
    degree = min(dim // 2, int(counts.max()))
    if counts.max() > dim // 2:
        row = int(np.argmax(counts))
        raise ConstructionError(
            f"row {row}: its support of {counts[row]} tokens needs dim >= {2 * counts[row]}, "
            f"not dim={dim}"
        )
    theta = 2 * np.pi * np.arange(length) / length
    waves = theta[:, None] * np.arange(1, degree + 1)
    keys = np.zeros((length, dim), dtype=dtype)
    keys[:, : 2 * degree] = np.hstack([np.cos(waves), np.sin(waves)])
    queries = np.zeros((length, dim), dtype=dtype)
    gap = B.data.min()
    for row in range(length):
        support = B.indices[B.indptr[row] : B.indptr[row + 1]]
        values = B.data[B.indptr[row] : B.indptr[row + 1]]
        query = _query(theta, support, values - values.min(), gap, degree)
        queries[row, : 2 * degree] = query
        _check_rounding(queries[row], keys, support, values, row)
    return queries, keys


def _query(theta, support, values, gap, degree):
    """Return the coefficients of one row's polynomial without its constant, shape (2 degree,)."""
    curve = _curve(theta, degree)
    design = np.hstack([curve[support], np.ones((len(support), 1))])
    # The least-norm interpolant of the values, up to a constant.
    smooth = np.linalg.lstsq(design, values, rcond=None)[0]
    smooth_at = curve @ smooth[:-1] + smooth[-1]
    # 1 - cos(x) = 2 sin(x/2)^2 keeps its digits near the support.
    product_at = np.prod(2 * np.sin((theta[:, None] - theta[support]) / 2) ** 2, axis=1)
    off = np.ones(len(theta), dtype=bool)
    off[support] = False
    needed = np.max((smooth_at[off] + gap) / product_at[off], initial=0.0)
    return smooth[:-1] - needed * _product_coefficients(theta[support], degree)


def _product_coefficients(roots, degree):
    """Return the cosine and sine coefficients of prod_s (1 - cos(theta - theta_s))."""
    nodes = 2 * np.pi * np.arange(2 * degree + 1) / (2 * degree + 1)
    at = np.prod(2 * np.sin((nodes[:, None] - roots) / 2) ** 2, axis=1)
    return 2 / len(nodes) * _curve(nodes, degree).T @ at


def _curve(theta, degree):
    waves = theta[:, None] * np.arange(1, degree + 1)
    return np.hstack([np.cos(waves), np.sin(waves)])


def _check_rounding(query, keys, support, values, row):
    """Refuse a row whose ratios rounding has spoilt."""
    reached = keys[support] @ query
    error = np.ptp(reached - values)
    # Rounding scales with the terms of the inner products, not with their sums.
    scale = np.linalg.norm(query) * np.finfo(query.dtype).eps
    if not max(error, scale) <= LOST_DIGITS:
        raise ConstructionError(
            f"row {row}: its query has length {np.linalg.norm(query):.1e}, and rounding in "
            f"{query.dtype} spoils the ratios by about {max(error, scale):.1e}; spread the support "
            "out, take a smaller support or a smaller gap, or use method 'interpolate'"
        )
