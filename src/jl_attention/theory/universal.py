"""T4: the dimension at which random codes serve every sparse target at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ParameterError, check_array, check_choice, check_real
from ..logits import check_precision, interpolation_scale, max_logit, off_support_tolerance
from .frames import off_support_log_tail
from .search import as_int, ceil_dim, least_dim, log_binomial, log_of, log_sum
from .tails import cap_tail

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "BOUNDS",
    "universal_dim",
]

BOUNDS = ("sharp", "closed_form")


def universal_dim(
    length: ArrayLike,
    row_nnz: ArrayLike,
    max_ratio: ArrayLike = 1.0,
    leak: float = 0.01,
    failure_prob: ArrayLike = 0.01,
    logit_scale: float | None = None,
    bound: str = "sharp",
    route: str = "supports",
    codes: str = "gaussian",
) -> int | np.ndarray:
    """Return the least m at which random codes serve every sparse target at once (T4).

    With probability at least 1 - eta the interpolating queries meet (P2) with eps2, with exact
    ratios, for each target with at most k nonzeros in a row and ratio bound gamma, whoever chose
    it, also with the codes in hand. `required_dim` asks for less, for targets that are independent
    of the codes.

    Parameters
    ----------
    length, row_nnz, max_ratio, leak, failure_prob
        As in `required_dim`.
    logit_scale : float, optional
        tau, 3 log(1/eps2) if None; ``numpy.inf`` for the limit.
    bound : {"sharp", "closed_form"}, optional
        The exact tails, or the displayed formula rounded up.
    route : {"supports", "coherence"}, optional
        - "supports": Gaussian codes; T3 summed over all supports and all extreme weights;
        - "coherence": codes uniform on the unit sphere, so incoherent that the deterministic bound
          of T4 applies.
    codes : {"gaussian", "tight"}, optional
        For the sharp bound of "supports": Student's law, or that of a tight frame, with which m is
        at most L. The closed form holds for both.

    Returns
    -------
    int, or ndarray of int64 when an argument is an array

    Raises
    ------
    ParameterError
        An argument is out of range, or m would exceed 2**62.

    Notes
    -----
    With l = log(1/eps2) and beta = tau + log gamma, the logit at a token off the support may be
    tau - l.

    - supports: it is linear in b, so largest where every b_j is tau or beta, with at least one tau.
      With theta as in T3 and N = sum over s <= k of binom(L, s) (L - s) (2^s - 1), or without the
      last factor if gamma = 1, the closed form is m >= k - 1 + 2 ln(N/(2 eta))/ln(1 + theta^2).
    - coherence: it is at most alpha beta, alpha = k mu/(1 - (k-1) mu). So alpha = (tau - l)/beta
      and mu = alpha/(k + (k-1) alpha), and the L(L-1)/2 pairs of codes exceed it with probability
      at most L(L-1) P(u_1 > mu): m >= 1 + 2 ln(L(L-1)/(2 eta))/(-ln(1 - mu^2)), at least 2.
    """
    check_choice("bound", bound, BOUNDS)
    check_choice("route", route, ("supports", "coherence"))
    check_choice("codes", codes, ("gaussian", "tight"))
    length = check_array("length", length, at_least=1, integer=True)
    row_nnz = check_array("row_nnz", row_nnz, at_least=1, integer=True)
    if (row_nnz > length).any():
        raise ParameterError(f"row_nnz={row_nnz!r}: must be at most length={length!r}")
    max_ratio = check_array("max_ratio", max_ratio, at_least=1)
    eta = check_array("failure_prob", failure_prob, above=0, below=1)
    infinite = logit_scale is not None and np.isposinf(logit_scale)
    leak = check_real("leak", leak, above=0, below=1)
    if logit_scale is None or infinite:
        logit_scale = interpolation_scale(leak)
    _, leak, tau = check_precision(0.0, leak, logit_scale)
    # What a token off the support may have, and the largest logit on it, in units of tau.
    allowed = 1.0 if infinite else off_support_tolerance(0.0, leak, tau) / tau
    largest = np.ones_like(max_ratio) if infinite else max_logit(tau, max_ratio) / tau
    arguments = length, row_nnz, max_ratio, np.log(eta), allowed, largest, bound
    with np.errstate(divide="ignore"):
        if route == "coherence":
            return as_int(_coherence_route(*arguments))
        return as_int(_supports_route(*arguments, codes))


@np.vectorize(otypes=[np.int64], excluded={"bound", "codes"})
def _supports_route(length, row_nnz, max_ratio, log_eta, allowed, largest, bound, codes):
    """Return m so that no support and no corner of the box of weights leaks."""
    sizes, raised = np.tril_indices(row_nnz)  # raised: how many weights of a support are largest
    sizes = sizes + 1
    if max_ratio == 1:
        sizes, raised = sizes[raised == 0], raised[raised == 0]
    rows = log_binomial(length, sizes) + log_binomial(sizes, raised)
    pairs = rows + log_of(length - sizes)
    rise = allowed / np.sqrt(raised * largest**2 + (sizes - raised))
    rate = np.log1p(allowed**2 / (row_nnz * largest**2)) / 2
    closed = np.maximum(1, np.ceil((log_sum(pairs) - np.log(2) - log_eta) / rate)) + row_nnz - 1
    if bound == "closed_form":
        return ceil_dim(closed)

    some = sizes < length  # a support of all tokens leaks nowhere

    def log_failure(dim):
        tails = off_support_log_tail(dim, length, sizes[some], rise[some], codes)
        return log_sum(np.append(pairs[some] + tails, -np.inf))

    return least_dim(
        log_failure, log_eta, row_nnz, min(closed, length) if codes == "tight" else closed
    )


def _coherence_route(length, row_nnz, max_ratio, log_eta, allowed, largest, bound):
    """Return m so that random unit codes have the coherence that T4 needs."""
    alpha = allowed / largest
    coherence = alpha / (row_nnz + (row_nnz - 1) * alpha)
    log_pairs = log_of(length * (length - 1.0))
    rate = -np.log1p(-(coherence**2)) / 2
    closed = np.maximum(2, 1 + np.ceil((log_pairs - np.log(2) - log_eta) / rate))
    if bound == "closed_form":
        return closed

    def log_failure(dim):
        return log_pairs + log_of(cap_tail(dim, coherence))

    return least_dim(log_failure, log_eta, 2, closed)
