"""T1 and T2 stated in differences of logits (S2): (P1) and (P2) never speak of a single logit.

The difference of two logits of a row is one inner product of projected vectors,

    Lambda_ij - Lambda_ij' = <G x, G y>,

with mean r = B_ij - B_ij' and ||x|| ||y|| <= N:

- T2 (``row_projection``): x = B_i., y = e_j - e_j', N = sqrt(2) ||B_i.|| <= sqrt(2k) beta;
- T1 (``svd_projection``): x = row i of U Sigma^(1/2), y = Sigma^(1/2) V^T (e_j - e_j'), and
  N = sqrt(2) ||B||_2 <= sqrt(2) k beta.

(P1) with eps1 is |Lambda_ij - Lambda_ij' - r| <= 2 delta = log(1+eps1) for j, j' in S_i, and (P2)
with eps2 is Lambda_ij0 - Lambda_ij <= -log(1/eps2) for j in S_i, j0 off it: a rise of
B_ij - log(1/eps2) over its mean -B_ij. A row with k nonzeros has k(k-1) events of the first kind
(pairs and sides), and k(L-k) of the second. With the cumulant function
K_{r,N}(s) = -s r - log((1 - s r)^2 - s^2 N^2)/2 of one coordinate, Chernoff's bound is exp(-m I),

    I1 = sup_s  2 delta s - K_{log gamma,N}(s),
    I2 = sup_s  (tau - log(1/eps2)) s - K_{-tau,N}(s),
    P(fail) <= L k(k-1) exp(-m I1) + L k(L-k) exp(-m I2),

because K rises with N, and over |r| <= log gamma it is largest at r = log gamma (proof of L2a'),
and s (b - log(1/eps2)) - K_{-b,N}(s) = log((1 + s b)^2 - s^2 N^2)/2 - s log(1/eps2) is least at
the least b, tau. Both suprema are `inner_products.correlated_exponent` at correlation r/N.

Nothing but tau > log(1/eps2) is needed. The default here, log(1/eps2) + sqrt(2) log(1+eps1), gives
the leak sqrt(2) times the tolerance of the ratios: it has about L^2 events where the ratios have
L, so twice the logarithm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ParameterError, check_array, check_choice, check_real
from ..logits import check_precision, logit_tolerance, max_logit, row_norms, target_logits
from ..targets import check_target, row_counts
from . import inner_products, one_bit, orthogonal
from .search import as_int, doubling_search, log_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike
    from scipy import sparse

__all__ = [
    "CLASS_LAWS",
    "LAWS",
    "METHODS",
    "class_log_failure",
    "default_logit_scale",
    "expected_failures_for_target",
    "failure_probability",
    "failure_probability_for_target",
    "required_dim",
    "required_dim_for_target",
    "target_log_failure",
]

METHODS = ("row_projection", "svd_projection")
"""The methods whose logits are inner products of projected vectors."""


def _chernoff(eps, rho, length):
    exponent = inner_products.correlated_exponent(eps, rho)
    return lambda dim: -dim * exponent


def _signs(eps, rho, length):
    return lambda dim: one_bit.inner_product_log_tail(dim, eps)


def _exact(eps, rho, length):
    return lambda dim: inner_products.inner_product_log_tail(dim, eps, rho, "upper")


def _orthogonal(eps, rho, length):
    def log_tail(dim):
        return orthogonal.inner_product_log_tail(np.minimum(dim, length), length, eps, rho, "upper")

    return log_tail


LAWS = {"chernoff": _chernoff, "signs": _signs, "exact": _exact, "orthogonal": _orthogonal}
"""For unit vectors of R^L, a function of (eps, rho, L) that returns m -> log of a tail.

The tail is P(<Gx,Gy> - rho > eps), or a bound on it. "chernoff" holds for Gaussian maps and, where
m <= L, for orthogonal ones; "signs" for maps of independent signs (`one_bit`); "exact" is the law
of Gaussian maps, "orthogonal" that of orthogonal ones, 0 from m = L on.
"""

CLASS_LAWS = ("chernoff", "signs")
"""The laws that are monotone in N and r, so that they speak for a class of targets."""


def default_logit_scale(ratio_error: float, leak: float) -> float:
    """Return tau = log(1/eps2) + sqrt(2) log(1+eps1), close to best for this form of T1 and T2."""
    return np.sqrt(2) * np.log1p(ratio_error) - np.log(leak)


def required_dim(
    length: ArrayLike,
    row_nnz: ArrayLike,
    method: str = "row_projection",
    max_ratio: ArrayLike = 1.0,
    ratio_error: float = 1.0,
    leak: float = 0.01,
    failure_prob: ArrayLike = 0.01,
    logit_scale: float | None = None,
    law: str = "chernoff",
) -> int | np.ndarray:
    """Return the least m for which T1 or T2, stated in differences, promises the precision.

    Parameters
    ----------
    length, row_nnz : int or array_like of int
        L and k.
    method : {"row_projection", "svd_projection"}, optional
        T2, or T1, where the columns have at most k nonzeros, too.
    max_ratio : float or array_like, optional
        gamma >= 1.
    ratio_error, leak : float, optional
        eps1 > 0, and eps2 in (0, 1).
    failure_prob : float or array_like, optional
        eta in (0, 1).
    logit_scale : float, optional
        tau > log(1/eps2); `default_logit_scale` if None.
    law : {"chernoff", "signs"}, optional
        The bound on one inner product, see `LAWS`.

    Returns
    -------
    int, or ndarray of int64 when an argument is an array
        The arguments broadcast against each other.

    Raises
    ------
    ParameterError
        An argument is out of range, or m would exceed 2**62.

    Examples
    --------
    Two equal nonzeros a row, at the scale of T1's statement, tau = log(2/0.5), and at the default:

    >>> precision = {"ratio_error": 1.0, "leak": 0.5, "failure_prob": 0.5}
    >>> required_dim(1024, 2, **precision, logit_scale=np.log(4))
    508
    >>> required_dim(1024, 2, **precision)
    404
    """
    log_failure = class_log_failure(
        length, row_nnz, method, max_ratio, _precision(ratio_error, leak, logit_scale), law
    )
    eta = check_array("failure_prob", failure_prob, above=0, below=1)
    return as_int(doubling_search(log_failure, np.log(eta), 1))


def failure_probability(
    dim: ArrayLike,
    length: ArrayLike,
    row_nnz: ArrayLike,
    method: str = "row_projection",
    max_ratio: ArrayLike = 1.0,
    ratio_error: float = 1.0,
    leak: float = 0.01,
    logit_scale: float | None = None,
    law: str = "chernoff",
) -> float | np.ndarray:
    """Return the failure probability that T1 or T2, in differences, leaves at m = `dim`.

    `required_dim`, read the other way; parameters and errors as there.

    Returns
    -------
    float, or ndarray when an argument is an array
        At most 1.
    """
    log_failure = class_log_failure(
        length, row_nnz, method, max_ratio, _precision(ratio_error, leak, logit_scale), law
    )
    dim = check_array("dim", dim, at_least=1, integer=True)
    probability = np.exp(np.minimum(log_failure(dim), 0.0))
    return probability if np.ndim(probability) else float(probability)


def required_dim_for_target(
    target: ArrayLike | sparse.sparray,
    method: str = "row_projection",
    ratio_error: float = 1.0,
    leak: float = 0.01,
    *,
    failure_prob: float = 0.01,
    logit_scale: float | None = None,
    law: str = "chernoff",
) -> int:
    """Return the least m that T1 or T2, in differences, promises for this target.

    `required_dim` summed over the rows of the target with their own supports, norms and weights.
    For T1 the norm is sqrt(2 ||B||_1 ||B||_inf). For T2 exact laws are allowed, too: then the union
    bound is all that is lost, and each distinct pair of weights in a row costs one quadrature.

    Parameters
    ----------
    target : array_like or scipy.sparse array, shape (L, L)
    method, ratio_error, leak, failure_prob, logit_scale
        As in `required_dim`, scalars.
    law : {"chernoff", "signs", "exact", "orthogonal"}, optional

    Returns
    -------
    int

    Raises
    ------
    TargetError, ParameterError

    Examples
    --------
    >>> from jl_attention import targets
    >>> A = targets.regular(1024, 2, rng=0)
    >>> precision = {"ratio_error": 1.0, "leak": 0.5, "failure_prob": 0.5}
    >>> required_dim_for_target(A, **precision, logit_scale=np.log(4), law="exact")
    425
    >>> required_dim_for_target(A, **precision, law="exact")
    317
    >>> required_dim_for_target(A, **precision, law="orthogonal")
    248
    """
    precision = _precision(ratio_error, leak, logit_scale)
    log_failure = target_log_failure(check_target(target), method, precision, law)
    eta = check_real("failure_prob", failure_prob, above=0, below=1)
    return doubling_search(log_failure, np.log(eta), 1)


def failure_probability_for_target(
    dim: ArrayLike,
    target: ArrayLike | sparse.sparray,
    method: str = "row_projection",
    ratio_error: float = 1.0,
    leak: float = 0.01,
    *,
    logit_scale: float | None = None,
    law: str = "chernoff",
) -> float | np.ndarray:
    """Return the failure probability that T1 or T2, in differences, leaves for this target.

    `required_dim_for_target`, read the other way.
    """
    precision = _precision(ratio_error, leak, logit_scale)
    log_failure = target_log_failure(check_target(target), method, precision, law)
    dim = check_array("dim", dim, at_least=1, integer=True)
    probability = np.vectorize(lambda m: np.exp(min(log_failure(m), 0.0)), otypes=[float])(dim)
    return probability if probability.ndim else float(probability)


def expected_failures_for_target(
    dim: ArrayLike,
    target: ArrayLike | sparse.sparray,
    ratio_error: float = 1.0,
    leak: float = 0.01,
    *,
    logit_scale: float | None = None,
    law: str = "exact",
) -> float | np.ndarray:
    """Return the exact expected number of violations of (P1) and (P2) by T2's construction.

    Counted are pairs j < j' of a support whose ratio is off by more than eps1, and pairs (j, j0)
    with j0 off the support that leak more than eps2. Linearity of expectation and the exact law of
    an inner product: nothing is lost here, so a simulation must agree from both sides.

    Parameters and errors as in `failure_probability_for_target`, with ``law="exact"`` for a
    Gaussian map or ``law="orthogonal"`` for an orthogonal one.

    Returns
    -------
    float, or ndarray when `dim` is an array
    """
    check_choice("law", law, ("exact", "orthogonal"))
    precision = _precision(ratio_error, leak, logit_scale)
    log_failure = target_log_failure(check_target(target), "row_projection", precision, law)
    dim = check_array("dim", dim, at_least=1, integer=True)
    expected = np.vectorize(lambda m: np.exp(log_failure(m)), otypes=[float])(dim)
    return expected if expected.ndim else float(expected)


def class_log_failure(
    length: ArrayLike,
    row_nnz: ArrayLike,
    method: str,
    max_ratio: ArrayLike,
    precision: tuple[float, float, float],
    law: str = "chernoff",
) -> Callable:
    """Return m -> log of the bound on the failure probability, for the class (L, k, gamma)."""
    check_choice("method", method, METHODS)
    check_choice("law", law, CLASS_LAWS)
    length = check_array("length", length, at_least=1, integer=True)
    row_nnz = check_array("row_nnz", row_nnz, at_least=1, integer=True)
    if (row_nnz > length).any():
        raise ParameterError(f"row_nnz={row_nnz!r}: must be at most length={length!r}")
    max_ratio = check_array("max_ratio", max_ratio, at_least=1)
    tolerance, gap, tau = _tolerances(precision)
    k, L = row_nnz.astype(float), length.astype(float)
    norm = np.sqrt(2) * max_logit(tau, max_ratio)
    norm = norm * (k if method == "svd_projection" else np.sqrt(k))
    # A row may have fewer than k nonzeros, which makes k(L-k) larger where k > L/2.
    leaking = np.minimum(k, np.floor(L / 2))
    ratios = LAWS[law](tolerance / norm, np.log(max_ratio) / norm, length)
    leaks = LAWS[law]((tau - gap) / norm, -tau / norm, length)
    ratio_events, leak_events = log_of(L * k * (k - 1)), log_of(L * leaking * (L - leaking))

    def log_failure(dim):
        return np.logaddexp(ratio_events + ratios(dim), leak_events + leaks(dim))

    return log_failure


def target_log_failure(
    target: sparse.csr_array,
    method: str,
    precision: tuple[float, float, float],
    law: str = "chernoff",
) -> Callable:
    """Return m -> log of the bound on the failure probability of one checked target."""
    check_choice("method", method, METHODS)
    check_choice("law", law, LAWS if method == "row_projection" else CLASS_LAWS)
    tolerance, gap, tau = _tolerances(precision)
    B = target_logits(target, tau)
    counts = row_counts(target)
    if method == "svd_projection":
        norms = np.full(len(counts), np.sqrt(abs(B).sum(axis=0).max() * abs(B).sum(axis=1).max()))
    else:
        norms = row_norms(B)
    norms = np.sqrt(2) * norms
    entry_norms = np.repeat(norms, counts)
    elsewhere = np.repeat(len(counts) - counts, counts)
    leaks = elsewhere, (B.data - gap) / entry_norms, -B.data / entry_norms
    if law not in CLASS_LAWS:
        rows, differences = _pairs(B)
        ratios = np.ones(len(rows)), tolerance / norms[rows], differences / norms[rows]
    else:  # of a row's pairs, the most unequal one is the worst
        largest = np.maximum.reduceat(B.data, B.indptr[:-1]) - tau
        ratios = counts * (counts - 1.0), tolerance / norms, largest / norms
    events, eps, rho = _merge(*(np.concatenate(part) for part in zip(ratios, leaks, strict=True)))
    log_events, log_tail = np.log(events), LAWS[law](eps, rho, len(counts))
    return lambda dim: np.logaddexp.reduce(log_events + log_tail(dim))


def _precision(ratio_error, leak, logit_scale):
    """Return (eps1, eps2, tau), checked, with this form's own tau where none is given."""
    if logit_scale is None:
        ratio_error = check_real("ratio_error", ratio_error, at_least=0)
        leak = check_real("leak", leak, above=0, below=1)
        logit_scale = float(default_logit_scale(ratio_error, leak))
    return check_precision(ratio_error, leak, logit_scale)


def _tolerances(precision):
    """Return 2 delta, log(1/eps2) and tau."""
    ratio_error, leak, tau = precision
    if ratio_error == 0:
        raise ParameterError("ratio_error=0.0: must be positive, projections only approximate")
    return 2 * logit_tolerance(ratio_error), -np.log(leak), tau


def _pairs(B):
    """Return the row and B_ij - B_ij' of each ordered pair of different entries of a row."""
    counts = np.diff(B.indptr)
    rows, differences = [], []
    for size in np.unique(counts[counts > 1]):
        some = np.nonzero(counts == size)[0]
        values = B.data[B.indptr[some][:, None] + np.arange(size)]
        first, second = np.nonzero(~np.eye(size, dtype=bool))
        rows.append(np.repeat(some, len(first)))
        differences.append((values[:, first] - values[:, second]).ravel())
    return np.concatenate([np.empty(0, int), *rows]), np.concatenate([np.empty(0), *differences])


def _merge(events, eps, rho):
    """Return the distinct (eps, rho), to twelve digits, and how many events each stands for."""
    some = events > 0
    pairs = np.round(np.column_stack([eps[some], rho[some]]), 12)
    pairs, at = np.unique(pairs, axis=0, return_inverse=True)
    return np.bincount(at.ravel(), events[some]), *pairs.T
