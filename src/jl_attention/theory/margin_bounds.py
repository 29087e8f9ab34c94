"""How long max-margin queries are (T9, a prediction), and how short no query can be (T5, T6).

Lengths come in units of the gap: R/Delta is the longest query times the longest key over the gap
between the logits on the support and off it, Delta = log(1/eps2).

- `gordon_margin`, `predicted_scale_ratio`: the margin that random codes leave, by the Gaussian
  comparison of Gordon, made sharp by Thrampoulidis, Oymak and Hassibi. **A
  prediction**: the comparison is a limit theorem, read here at finite sizes.
- `simplex_scale_ratio`: keys that serve every support of k tokens.
- `spectral_scale_ratio`: one pattern, by the norm of A - J/L.
- `fixed_keys_dim`: the dimension that one set of keys for every support needs at a given R/Delta.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special
from scipy.sparse.linalg import LinearOperator, svds

from ..errors import ParameterError, check_array, check_choice
from ..targets import check_target
from .search import as_int, log_binomial

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from scipy import sparse

__all__ = [
    "CODES",
    "EXCESS",
    "fixed_keys_dim",
    "gordon_margin",
    "predicted_scale_ratio",
    "simplex_scale_ratio",
    "spectral_scale_ratio",
]

CODES = ("gaussian", "unit")

EXCESS = np.geomspace(1e-3, 1e3, 61)
"""Values of e tried in `fixed_keys_dim`; every one gives a bound."""


def gordon_margin(
    dim: ArrayLike, length: ArrayLike, row_nnz: ArrayLike, codes: str = "gaussian"
) -> float | np.ndarray:
    """Return kappa*, the predicted margin of a row of k equal weights per unit length of query.

    Parameters
    ----------
    dim, length, row_nnz : int or array_like of int
        m, L and k < L; they broadcast.
    codes : {"gaussian", "unit"}, optional
        Unit codes are taken sqrt(m) long, so that both have the same scale.

    Returns
    -------
    float or ndarray
        Not positive where the prediction is that there is no query, which is where m is below
        `absorption.threshold_dim`; -inf where m < k.

    Raises
    ------
    ParameterError
        An argument is out of range.

    Notes
    -----
    kappa* = max over a of sqrt((nu - (L-k) psi(a))/k) - a, nu = m - k + 1 and psi(a) =
    E max(H - a, 0)^2, H a coordinate of a code: normal, or sqrt(m) times one of a uniform point of
    the sphere. In the nu dimensions across the support's codes the margin of a unit query y is
    <y,x> - max_j <y,g_j>, x the support's point and g_j the other codes. It is at least kappa iff
    ||(kappa - <y,x> + Gy)_+|| = 0, whose minimum over y Gordon's comparison replaces by that of
    ||(kappa - <y,x> + h)_+|| + <h', y>, with independent normal vectors h of R^(L-k) and h' of
    R^nu. With <y,x> = kappa + a, |x|^2 = nu/k, ||h'|| = sqrt(nu) and the law of large numbers this
    is sqrt((L-k) psi(a)) - sqrt(nu - k (kappa + a)^2), and kappa* is where it vanishes.

    Examples
    --------
    >>> gordon_margin([20, 30, 64], 1024, 4).round(2)
    array([-0.32,  0.3 ,  1.76])
    """
    check_choice("codes", codes, CODES)
    dim = check_array("dim", dim, at_least=1, integer=True)
    length = check_array("length", length, at_least=2, integer=True)
    row_nnz = check_array("row_nnz", row_nnz, at_least=1, integer=True)
    if (row_nnz >= length).any():
        raise ParameterError(f"row_nnz={row_nnz[()]}: must be below length={length[()]}")
    return _gordon_margin(dim, length, row_nnz, codes)[()]


def predicted_scale_ratio(
    dim: ArrayLike, length: ArrayLike, row_nnz: ArrayLike, codes: str = "gaussian"
) -> float | np.ndarray:
    """Return sqrt(m)/kappa*, the predicted R/Delta of the typical max-margin query.

    Parameters and errors as in `gordon_margin`. For uniform weights; keys count as sqrt(m) long.

    Returns
    -------
    float or ndarray
        inf where `gordon_margin` predicts that there is no query.

    Examples
    --------
    >>> predicted_scale_ratio([40, 64], 1024, 4).round(2)
    array([7.92, 4.56])
    """
    margin = np.asarray(gordon_margin(dim, length, row_nnz, codes))
    with np.errstate(divide="ignore"):
        return (np.sqrt(dim) / np.maximum(margin, 0.0))[()]


def simplex_scale_ratio(length: ArrayLike, row_nnz: ArrayLike) -> float | np.ndarray:
    """Return sqrt(k (L-1)(L-k))/L, the least R/Delta of keys that serve every support of k tokens.

    In every dimension; about sqrt(k). The vertices of a regular simplex reach it.

    Parameters
    ----------
    length, row_nnz : int or array_like of int
        L and k < L; they broadcast.

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        An argument is out of range.

    Notes
    -----
    Keys of length at most 1, and queries: <q_S, mean of S - mean of the rest> >= Delta for every
    S, so Delta/R is at most the length of mean_S - mean_rest = (L/(L-k)) (mean_S - mean). Over
    all S the mean square of mean_S - mean is (L-k)/(k (L-1)) times the keys' mean square distance
    from their mean, at most 1.

    Examples
    --------
    >>> float(simplex_scale_ratio(1024, 4).round(3))
    1.995
    """
    length = check_array("length", length, at_least=2, integer=True).astype(float)
    row_nnz = check_array("row_nnz", row_nnz, at_least=1, integer=True)
    if (row_nnz >= length).any():
        raise ParameterError(f"row_nnz={row_nnz[()]}: must be below length={length[()]}")
    return (np.sqrt(row_nnz * (length - 1) * (length - row_nnz)) / length)[()]


def spectral_scale_ratio(target: ArrayLike | sparse.sparray) -> float:
    """Return (1 - k/L)/||A - J/L||_2, a lower bound on R/Delta for one pattern, in every dimension.

    Parameters
    ----------
    target : array_like or scipy.sparse array, shape (L, L)
        Right-stochastic A, L >= 2; k is the mean number of nonzeros of a row.

    Returns
    -------
    float
        0 where every row is uniform over all tokens.

    Raises
    ------
    TargetError
        The target is not right-stochastic.
    ParameterError
        L = 1.

    Notes
    -----
    For exact ratios (or equal weights, whatever the ratios' precision on average). A row's mean of
    its logits weighted by A is at least their plain mean over S (larger weights have larger
    logits), so <q_i, sum_j (A_ij - 1/L) c_j> >= (1 - |S_i|/L) Delta; and the sum over i, the trace
    of Q^T (A - J/L) C, is at most ||A - J/L||_2 ||Q||_F ||C||_F <= ||A - J/L||_2 L R. Large where A
    has no dominant singular vector beside the constant one: about sqrt(k)/2 for a random regular
    pattern, about 1 for a band.

    Examples
    --------
    >>> float(round(spectral_scale_ratio(np.eye(8)), 6))
    0.875
    """
    target = check_target(target)
    length = target.shape[0]
    if length < 2:
        raise ParameterError("target: expected at least two tokens")
    average = target.nnz / length

    def centred(x):
        return target @ x - x.mean(axis=0)

    def transposed(x):
        return target.T @ x - x.mean(axis=0)

    operator = LinearOperator(target.shape, matvec=centred, rmatvec=transposed, dtype=np.float64)
    if length <= 64:
        norm = np.linalg.norm(operator @ np.eye(length), 2)
    else:
        start = np.cos(np.arange(length))  # not orthogonal to anything in particular
        norm = svds(operator, k=1, v0=start, return_singular_vectors=False)[0]
    share = 1 - average / length
    return float(share / norm) if share > 0 else 0.0


def fixed_keys_dim(
    length: ArrayLike, row_nnz: ArrayLike, scale_ratio: ArrayLike
) -> int | np.ndarray:
    """Return the least m of one set of keys that serves every support of k tokens, R/Delta given.

    Parameters
    ----------
    length, row_nnz : int or array_like of int
        L and k < L.
    scale_ratio : float or array_like
        R/Delta, the longest query times the longest key over the gap. Positive.

    Returns
    -------
    int, or ndarray of int64 when an argument is an array
        The best of the bound over 1 <= d <= k and over e.

    Raises
    ------
    ParameterError
        An argument is out of range.

    Notes
    -----
    For every d and e > 0, with rho = R/Delta,

        m >= (ln C(L,k) - ln sum_(i<d) C(k,i) C(L-k,i) - ln((1+e)/e))/ln(1 + 2 sqrt((1+e)k) rho/d).

    Keys have length at most 1. The mean over S of ||sum over S of (c_j - mean)||^2 is at most k,
    so by Markov a share e/(1+e) of all S has at most (1+e) k; keep these. If |S minus S'| >= d,
    pair S minus S' with S' minus S: <q_S - q_S', sum_S c - sum_S' c> >= 2 d Delta, and the second
    factor is at most 2 sqrt((1+e)k) long, so ||q_S - q_S'|| >= d Delta/sqrt((1+e)k). Choosing
    supports greedily leaves C(L,k) e/(1+e) over sum_(i<d) C(k,i) C(L-k,i) of them, and the balls
    around their queries are disjoint.

    No factor log k is lost against k log(L/k), the order that suffices.

    Examples
    --------
    >>> fixed_keys_dim([1024, 2**20], 8, 12.8).tolist()
    [10, 23]
    """
    length = check_array("length", length, at_least=2, integer=True)
    row_nnz = check_array("row_nnz", row_nnz, at_least=1, integer=True)
    if (row_nnz >= length).any():
        raise ParameterError(f"row_nnz={row_nnz[()]}: must be below length={length[()]}")
    scale = check_array("scale_ratio", scale_ratio, above=0)
    return as_int(np.maximum(np.ceil(_fixed_keys_bound(length, row_nnz, scale) - 1e-9), 0))


@np.vectorize(otypes=[float])
def _fixed_keys_bound(length, row_nnz, scale):
    i = np.arange(row_nnz)
    near = np.logaddexp.accumulate(  # log of sum over i < d, d = 1..k
        log_binomial(row_nnz, i)
        + np.where(i <= length - row_nnz, 0.0, -np.inf)
        + log_binomial(length - row_nnz, np.minimum(i, length - row_nnz))
    )
    counted = log_binomial(length, row_nnz) - near[:, None] - np.log1p(1 / EXCESS)
    reach = 2 * np.sqrt((1 + EXCESS) * row_nnz) * scale / (i[:, None] + 1)
    return (counted / np.log1p(reach)).max()


# --- The prediction ----------------------------------------------------------------------------


@np.vectorize(otypes=[float], excluded={"codes"})
def _gordon_margin(dim, length, row_nnz, codes):
    """Return kappa*, scalars in and out."""
    n, nu = length - row_nnz, dim - row_nnz + 1
    if nu < 1:
        return -np.inf
    excess = _normal_excess if codes == "gaussian" else lambda a: _sphere_excess(dim, a)
    farthest = 40.0 if codes == "gaussian" else np.sqrt(dim)

    def room(a):  # nu - n psi(a), which grows from below 0 to nu
        return nu - n * excess(a)[1]

    def slope(a):  # its sign is that of the derivative in a
        return n * excess(a)[0] - np.sqrt(row_nnz * max(room(a), 0.0))

    from scipy import optimize  # slow to import, and only this needs it

    low = optimize.brentq(room, -np.sqrt(nu / n) - 1, farthest, xtol=1e-13)
    a = optimize.brentq(slope, low, farthest, xtol=1e-13)
    return np.sqrt(room(a) / row_nnz) - a


def _normal_excess(a):
    """Return E max(H - a, 0) and E max(H - a, 0)^2 for normal H."""
    density, above = np.exp(-(a**2) / 2) / np.sqrt(2 * np.pi), special.ndtr(-a)
    return density - a * above, (1 + a**2) * above - a * density


def _sphere_excess(dim, a):
    """Return the same for H = sqrt(m) u_1, u uniform on the unit sphere of R^m."""
    if a < 0:  # E (H - a) = -a and E (H - a)^2 = 1 + a^2
        first, second = _sphere_excess(dim, -a)
        return first - a, 1 + a**2 - second
    square = min(a**2 / dim, 1.0)
    half = (dim - 1) / 2
    if dim == 1:
        return (max(1 - a, 0.0) / 2, max(1 - a, 0.0) ** 2 / 2)
    above = special.betainc(half, 0.5, 1 - square) / 2
    mean = np.sqrt(dim) * (1 - square) ** half / ((dim - 1) * special.beta(half, 0.5))
    mean_square = special.betainc(half, 1.5, 1 - square) / 2
    return mean - a * above, mean_square - 2 * a * mean + a**2 * above
