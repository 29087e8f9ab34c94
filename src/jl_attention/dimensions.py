"""Dimensions: the query dimension m that each theorem asks for, and the probability it leaves.

Every function reads one theorem, either way: `required_dim` gives the least m whose failure
probability is at most eta, `failure_probability` the failure probability of a given m. Two forms:

- ``bound="closed_form"``: the theorem's displayed formula, rounded up;
- ``bound="sharp"``: the least m for which the sum of the exact or sharper tails is at most eta.

`required_dim` is for the whole class of targets with at most k nonzeros a row and ratio bound
gamma; `required_dim_for_target` sums over the rows of one target and is never larger.
"""

import numpy as np
from scipy import special

from . import concentration
from .errors import ParameterError, check_array, check_choice, check_real
from .logits import (
    check_precision,
    logit_tolerance,
    max_logit,
    off_support_tolerance,
    row_norms,
    target_logits,
)
from .targets import check_target, row_counts

BOUNDS = ("sharp", "closed_form")
JL_BOUNDS = ("exact", "chernoff", "dasgupta_gupta")

LARGEST_DIM = 2**62
"""Dimensions beyond this are refused: they no longer fit an integer of 64 bits."""

NORM_GRID = 1e-4
"""Relative spacing of the norms on which `required_dim_for_target` brackets its search."""


def required_dim(
    length,
    row_nnz,
    method="interpolate",
    max_ratio=1.0,
    ratio_error=0.0,
    leak=0.01,
    failure_prob=0.01,
    logit_scale=None,
    bound="sharp",
):
    """Return the least query dimension m for which a method's theorem promises the precision.

    For each target with at most k nonzeros in a row (for "svd_projection" also in a column) and
    ratio bound gamma, (P1) with eps1 and (P2) with eps2 hold with probability at least 1 - eta
    over the random codes. With n targets served by the same codes, pass eta/n.

    Parameters
    ----------
    length : int or array_like of int
        L.
    row_nnz : int or array_like of int
        k, between 1 and L.
    method : {"interpolate", "svd_projection", "row_projection", "moment_curve", "max_margin"}
        Theorem T3, T1, T2 or T5; for "max_margin" (T9) an estimate, not a promise.
    max_ratio : float or array_like, optional
        gamma >= 1.
    ratio_error : float, optional
        eps1; positive for the two projection methods.
    leak : float, optional
        eps2 in (0, 1).
    failure_prob : float or array_like, optional
        eta in (0, 1).
    logit_scale : float, optional
        tau; see `logits.default_logit_scale`.
    bound : {"sharp", "closed_form"}, optional

    Returns
    -------
    int, or ndarray of int64 when an argument is an array
        The arguments broadcast against each other.

    Raises
    ------
    ParameterError
        An argument is out of range, or m would exceed 2**62.

    Notes
    -----
    With delta = log(1+eps1)/2, beta = tau + log gamma, l = log(1/eps2), E the exponent of
    `concentration.inner_product_exponent` and I0 that of `concentration.orthogonal_exponent`:

    - T1, closed form: m >= ln(4 L^2/eta)/(eps^2/4 - eps^3/6) with eps = delta/(k beta);
      sharp: 2 k L exp(-m E(eps)) + 2 L^2 exp(-m I0(eps')) <= eta with
      eps' = (tau - l - delta)/(k beta), which equals eps at the default tau.
    - T2: the same with sqrt(k) in place of k, and L^2 in place of 2 L^2 (only a rise leaks).
    - T3, closed form: m >= k - 1 + 2 ln(L^2/(2 eta))/ln(1 + theta^2) with
      theta = (tau - l)/(sqrt(k) beta); sharp: L (L-1) P(t_nu > sqrt(nu) theta) <= eta with
      nu = m - k + 1 degrees of freedom.
    - T5: m = 2k whatever L, the precision and eta, in real arithmetic; nothing is random.
    - T9: 1.5 times the solution of m = 2k ln(L/m), at least 2k. The latter is where, for random
      supports and codes and large L, half of the supports are faces (Donoho and Tanner 2009): an
      asymptotic estimate. `bound` and eta do not matter.
    """
    theorem = _Theorem(length, row_nnz, method, max_ratio, ratio_error, leak, logit_scale, bound)
    eta = check_array("failure_prob", failure_prob, above=0, below=1)
    closed = theorem.closed_form(np.log(eta))
    if bound == "closed_form" or theorem.estimated:
        return _as_int(closed)
    return _as_int(_least_dim(theorem.log_failure, np.log(eta), theorem.least, closed))


def failure_probability(
    dim,
    length,
    row_nnz,
    method="interpolate",
    max_ratio=1.0,
    ratio_error=0.0,
    leak=0.01,
    logit_scale=None,
    bound="sharp",
):
    """Return the failure probability that a method's theorem leaves at query dimension m = `dim`.

    The same theorems as `required_dim`, read the other way; parameters and errors as there.

    Returns
    -------
    float, or ndarray when an argument is an array
        At most 1; 1 where the theorem says nothing.
    """
    theorem = _Theorem(length, row_nnz, method, max_ratio, ratio_error, leak, logit_scale, bound)
    if theorem.estimated:
        raise ParameterError(f"method={method!r}: no theorem says how often it fails")
    dim = check_array("dim", dim, at_least=1, integer=True)
    log_failure = (
        theorem.log_failure(dim) if bound == "sharp" else theorem.closed_form_log_failure(dim)
    )
    probability = np.exp(np.minimum(np.where(dim < theorem.least, 0.0, log_failure), 0.0))
    return probability if probability.ndim else probability.item()


def required_dim_for_target(
    target,
    method="interpolate",
    ratio_error=0.0,
    leak=0.01,
    *,
    failure_prob=0.01,
    logit_scale=None,
):
    """Return the least m for which a method's theorem promises the precision for this target.

    The sharp bound of `required_dim`, summed over the rows i of the target with their own support
    sizes and norms ||b_i|| instead of the class's worst case sqrt(k) beta. For "svd_projection"
    the norm bound is sqrt(||B||_1 ||B||_inf).

    Parameters
    ----------
    target : array_like or scipy.sparse array, shape (L, L)
    method, ratio_error, leak, failure_prob, logit_scale
        As in `required_dim`, scalars.

    Returns
    -------
    int

    Raises
    ------
    TargetError, ParameterError
    """
    target = check_target(target)
    check_choice("method", method, THEOREMS)
    ratio_error, leak, logit_scale = check_precision(method, ratio_error, leak, logit_scale)
    log_eta = np.log(check_real("failure_prob", failure_prob, above=0, below=1))
    length, counts = target.shape[0], row_counts(target).astype(np.int64)
    if method in ("moment_curve", "max_margin"):  # which look at L and k only
        return required_dim(length, int(counts.max()), method, leak=leak, logit_scale=logit_scale)
    B = target_logits(target, logit_scale)
    if method == "svd_projection":
        norms = np.full(length, np.sqrt(abs(B).sum(axis=0).max() * abs(B).sum(axis=1).max()))
    else:
        norms = row_norms(B)
    precision = ratio_error, leak, logit_scale
    least = int(counts.max()) if method == "interpolate" else 1
    # Norms rounded down, then up, to a fine grid bracket m; the exact sum decides what is left.
    steps = np.floor(np.log(norms) / NORM_GRID)
    rounded = (_merge_rows(counts, np.exp(NORM_GRID * step)) for step in (steps - 1, steps + 2))
    low, high = (
        _search(_row_sum(method, length, precision, *rows), log_eta, least) for rows in rounded
    )
    exact = _row_sum(method, length, precision, *_merge_rows(counts, norms))
    return int(_least_dim(exact, log_eta, low, high))


def _row_sum(method, length, precision, counts, norms, weights):
    """Return m -> log of the sharp failure probability, summed over rows with these weights."""
    ratio_error, leak, logit_scale = precision
    if method == "interpolate":
        rise = off_support_tolerance(0.0, leak, logit_scale) / norms

        def log_failure(dim):
            tails = concentration.student_log_tail(dim - counts + 1, rise)
            return _log_sum(np.log(weights) + _log(length - counts) + tails)

        return log_failure
    rise = off_support_tolerance(ratio_error, leak, logit_scale) / norms
    _check_rise(rise)
    sides = 2 if method == "svd_projection" else 1
    on = concentration.inner_product_exponent(logit_tolerance(ratio_error) / norms)
    off = concentration.orthogonal_exponent(rise)

    def log_failure(dim):
        on_support = np.log(weights) + np.log(2.0 * counts) - dim * on
        off_support = np.log(weights) + _log(sides * (length - counts)) - dim * off
        return _log_sum(np.concatenate([on_support, off_support]))

    return log_failure


def _search(log_failure, log_eta, low):
    """Return the least m >= low with log_failure(m) <= log_eta."""
    high = low
    while log_failure(high) > log_eta:
        high *= 2
        if high > LARGEST_DIM:
            raise ParameterError("the dimension asked for exceeds 2**62")
    return int(_least_dim(log_failure, log_eta, low, high))


def universal_dim(
    length,
    row_nnz,
    max_ratio=1.0,
    leak=0.01,
    failure_prob=0.01,
    logit_scale=None,
    bound="sharp",
    route="supports",
):
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
    length = check_array("length", length, at_least=1, integer=True)
    row_nnz = check_array("row_nnz", row_nnz, at_least=1, integer=True)
    if (row_nnz > length).any():
        raise ParameterError(f"row_nnz={row_nnz!r}: must be at most length={length!r}")
    max_ratio = check_array("max_ratio", max_ratio, at_least=1)
    eta = check_array("failure_prob", failure_prob, above=0, below=1)
    infinite = logit_scale is not None and np.isposinf(logit_scale)
    _, leak, tau = check_precision("interpolate", 0.0, leak, None if infinite else logit_scale)
    # What a token off the support may have, and the largest logit on it, in units of tau.
    allowed = 1.0 if infinite else off_support_tolerance(0.0, leak, tau) / tau
    largest = np.ones_like(max_ratio) if infinite else max_logit(tau, max_ratio) / tau
    route = _supports_route if route == "supports" else _coherence_route
    with np.errstate(divide="ignore"):
        return _as_int(route(length, row_nnz, max_ratio, np.log(eta), allowed, largest, bound))


@np.vectorize(otypes=[np.int64], excluded={"bound"})
def _supports_route(length, row_nnz, max_ratio, log_eta, allowed, largest, bound):
    """Return m so that no support and no corner of the box of weights leaks."""
    sizes, raised = np.tril_indices(row_nnz)  # raised: how many weights of a support are largest
    sizes = sizes + 1
    if max_ratio == 1:
        sizes, raised = sizes[raised == 0], raised[raised == 0]
    rows = _log_binomial(length, sizes) + _log_binomial(sizes, raised)
    pairs = rows + _log(length - sizes)
    rise = allowed / np.sqrt(raised * largest**2 + (sizes - raised))
    rate = np.log1p(allowed**2 / (row_nnz * largest**2)) / 2
    closed = np.maximum(1, np.ceil((_log_sum(pairs) - np.log(2) - log_eta) / rate)) + row_nnz - 1
    if bound == "closed_form":
        return _ceil(closed)

    def log_failure(dim):
        return _log_sum(pairs + concentration.student_log_tail(dim - sizes + 1, rise))

    return _least_dim(log_failure, log_eta, row_nnz, closed)


def _coherence_route(length, row_nnz, max_ratio, log_eta, allowed, largest, bound):
    """Return m so that random unit codes have the coherence that T4 needs."""
    alpha = allowed / largest
    coherence = alpha / (row_nnz + (row_nnz - 1) * alpha)
    log_pairs = _log(length * (length - 1.0))
    rate = -np.log1p(-(coherence**2)) / 2
    closed = np.maximum(2, 1 + np.ceil((log_pairs - np.log(2) - log_eta) / rate))
    if bound == "closed_form":
        return closed

    def log_failure(dim):
        return log_pairs + _log(concentration.cap_tail(dim, coherence))

    return _least_dim(log_failure, log_eta, 2, closed)


def _log_binomial(n, k):
    return -np.log1p(n) - special.betaln(n - k + 1, k + 1)


def jl_dim(n_points, distortion, failure_prob=0.05, bound="exact"):
    """Return the least m for which a Gaussian projection keeps the distances of N points (L1).

    With probability at least 1 - eta, every pair has
    (1 - eps) ||x - y||^2 <= ||Gx - Gy||^2 <= (1 + eps) ||x - y||^2, G with N(0, 1/m) entries. The
    guarantee is on squared distances.

    Parameters
    ----------
    n_points : int or array_like of int
        N >= 2. The dimension of the points does not matter.
    distortion : float or array_like
        eps in (0, 1).
    failure_prob : float or array_like, optional
        eta in (0, 1); ignored by ``bound="dasgupta_gupta"``.
    bound : {"exact", "chernoff", "dasgupta_gupta"}, optional
        - "exact": the least m with (N(N-1)/2) P(|chi2_m/m - 1| > eps) <= eta;
        - "chernoff": m >= ln(N(N-1)/eta)/(eps^2/4 - eps^3/6), the closed form that the Chernoff
          bound 2 exp(-m (eps^2/4 - eps^3/6)) gives, rounded up;
        - "dasgupta_gupta": m >= 4 ln N/(eps^2/2 - eps^3/3), the textbook value (Dasgupta and Gupta
          2003), rounded up. Its own argument promises success with probability 1/N only.

    Returns
    -------
    int, or ndarray of int64 when an argument is an array
        The arguments broadcast against each other.

    Raises
    ------
    ParameterError
        An argument is out of range, or m would exceed 2**62.
    """
    check_choice("bound", bound, JL_BOUNDS)
    points = check_array("n_points", n_points, at_least=2, integer=True).astype(float)
    eps = check_array("distortion", distortion, above=0, below=1)
    log_eta = np.log(check_array("failure_prob", failure_prob, above=0, below=1))
    rate = concentration.polarisation_exponent(eps)
    if bound == "dasgupta_gupta":
        return _as_int(2 * np.log(points) / rate)
    log_ordered_pairs = np.log(points) + np.log(points - 1)
    closed = (log_ordered_pairs - log_eta) / rate
    if bound == "chernoff":
        return _as_int(closed)

    def log_failure(dim):
        pairs = log_ordered_pairs - np.log(2)
        return pairs + concentration.chi_square_log_failure(dim, eps)

    return _as_int(_least_dim(log_failure, log_eta, 1, closed))


NECESSARY_BOUNDS = ("radon", "packing", "bits")


def necessary_dim(
    length,
    row_nnz,
    bound="radon",
    *,
    scale_ratio=None,
    fixed_keys=False,
    bits=16,
):
    """Return a dimension below which no input X can do: the lower bounds T5, T6 and T7.

    Each is for every target whose rows have at most (for "packing" and "bits": exactly) k
    nonzeros, with some eps2 < 1; nothing about X is assumed but what the bound names.

    Parameters
    ----------
    length, row_nnz : int or array_like of int
        L and k.
    bound : {"radon", "packing", "bits"}, optional
        "radon" (T5), for real arithmetic of any precision: m >= 2k' for the largest k' <= k with
        L >= 4^k' - 1. The proof takes all nonempty subsets of at most k' of 2k' + 1 tokens as
        supports. Their keys, if in R^(2k'-1), have a Radon partition; its smaller part is one of
        the supports, and no query separates it from the other part. A bound on the query
        dimension m.
        "packing" (T6), for bounded logits: different supports need logits that differ by the gap
        log(1/eps2), and only so many fit into a ball. A bound on the query dimension m.
        "bits" (T7), for X stored with b bits a number: there are C(L, k)^L patterns and 2^(L d b)
        inputs. A bound on the hidden size d, not on m.
    scale_ratio : float or array_like, optional
        For "packing", which needs it: with `fixed_keys` the largest spread of a row of logits,
        max - min, divided by the gap log(1/eps2) (at least 1); without, R/log(1/eps2) with R the
        longest query times the longest key.
    fixed_keys : bool, optional
        For "packing": whether one set of keys has to serve every support. If so
        m >= ln C(L, k)/ln(1 + s); if not, m >= ln C(L, k)/(2 ln(1 + 8 s)), s = `scale_ratio`.
    bits : int or array_like of int, optional
        For "bits": b, the bits of one number of X. d >= log2 C(L, k)/b.

    Returns
    -------
    int, or ndarray of int64 when an argument is an array
        At least 0.

    Raises
    ------
    ParameterError
        An argument is out of range, or `scale_ratio` is missing.

    Notes
    -----
    T5 is close kin to the neighbourly polytopes (Gale 1963) and the bounds of Sanford, Hsu and
    Telgarsky (2023). For "packing" without `fixed_keys` the rounding argument is: nets of the two
    balls of radius sqrt(R) with mesh below log(1/eps2)/(4 sqrt(R)) still determine every support,
    so C(L, k)^L <= (1 + 8 s)^(2 m L).
    """
    check_choice("bound", bound, NECESSARY_BOUNDS)
    length = check_array("length", length, at_least=1, integer=True)
    row_nnz = check_array("row_nnz", row_nnz, at_least=1, integer=True)
    if (row_nnz > length).any():
        raise ParameterError(f"row_nnz={row_nnz!r}: must be at most length={length!r}")
    if bound == "radon":
        # The largest k' with 4^k' <= L + 1, from the bit length: exact where logarithms round.
        largest = np.frompyfunc(lambda L: ((int(L) + 1).bit_length() - 1) // 2, 1, 1)(length)
        return _as_int(2 * np.minimum(row_nnz, np.asarray(largest, dtype=np.int64)))
    patterns = _log_binomial(length, row_nnz)
    if bound == "bits":
        bits = check_array("bits", bits, at_least=1, integer=True)
        return _as_int(_round_up(patterns / np.log(2) / bits))
    if scale_ratio is None:
        raise ParameterError("scale_ratio=None: the packing bound needs the scale of the logits")
    least = 1 if fixed_keys else 0
    scale = check_array("scale_ratio", scale_ratio, above=0, at_least=least)
    return _as_int(
        _round_up(patterns / (np.log1p(scale) if fixed_keys else 2 * np.log1p(8 * scale)))
    )


def _round_up(bound):
    """Round a lower bound up to an integer, forgiving the rounding of its own logarithms."""
    return np.maximum(np.ceil(np.asarray(bound) * (1 - 1e-12) - 1e-9), 0)


class _Theorem:
    """One of T1, T2, T3 for a class of targets: its closed form and its failure probability."""

    def __init__(self, length, row_nnz, method, max_ratio, ratio_error, leak, logit_scale, bound):
        check_choice("method", method, THEOREMS)
        check_choice("bound", bound, BOUNDS)
        self.length = check_array("length", length, at_least=1, integer=True)
        self.row_nnz = check_array("row_nnz", row_nnz, at_least=1, integer=True)
        if (self.row_nnz > self.length).any():
            raise ParameterError(f"row_nnz={row_nnz!r}: must be at most length={length!r}")
        max_ratio = check_array("max_ratio", max_ratio, at_least=1)
        eps1, eps2, tau = check_precision(method, ratio_error, leak, logit_scale)
        beta = max_logit(tau, max_ratio)
        self.interpolates = method == "interpolate"
        self.certain = method == "moment_curve"
        self.estimated = method == "max_margin"
        if self.interpolates or self.certain or self.estimated:
            eps1 = 0.0  # the ratios are exact, whatever was asked for
        # Below this dimension the method cannot work at all.
        least = {"interpolate": self.row_nnz, "moment_curve": 2 * self.row_nnz}
        self.least = least.get(method, np.ones_like(self.row_nnz))
        # The bound on ||x|| ||y|| for the pairs of vectors whose inner products are the logits.
        norm = beta * (self.row_nnz if method == "svd_projection" else np.sqrt(self.row_nnz))
        self.sides = 2 if method == "svd_projection" else 1
        self.epsilon_on = logit_tolerance(eps1) / norm
        self.epsilon_off = off_support_tolerance(eps1, eps2, tau) / norm
        _check_rise(self.epsilon_off)

    def closed_form(self, log_eta):
        """Return the theorem's displayed m, as a float."""
        if self.certain:
            return self.least + 0.0 * (self.length + log_eta)
        if self.estimated:
            weak = 2 * self.row_nnz * special.lambertw(self.length / (2 * self.row_nnz)).real
            return np.maximum(1.5 * weak, 2 * self.row_nnz) + 0.0 * log_eta
        log_pairs = 2 * np.log(self.length)
        if self.interpolates:
            rate = np.log1p(self.epsilon_off**2) / 2
            return self.row_nnz - 1 + np.maximum(1, (log_pairs - np.log(2) - log_eta) / rate)
        return np.maximum(1, (log_pairs + np.log(4) - log_eta) / self._closed_form_rate())

    def closed_form_log_failure(self, dim):
        """Return the log of the failure probability behind the displayed formula."""
        if self.certain:
            return self.log_failure(dim)
        log_pairs = 2 * np.log(self.length)
        if self.interpolates:
            rate = np.log1p(self.epsilon_off**2) / 2
            return log_pairs - np.log(2) - (dim - self.row_nnz + 1) * rate
        return log_pairs + np.log(4) - dim * self._closed_form_rate()

    def _closed_form_rate(self):
        return concentration.polarisation_exponent(np.minimum(self.epsilon_on, self.epsilon_off))

    def log_failure(self, dim):
        """Return the log of the sharp failure probability."""
        if self.certain:
            return np.where(dim >= self.least, -np.inf, 0.0)
        if self.interpolates:
            # A row with fewer than k nonzeros has a smaller tail but up to L - 1 places to leak to.
            degrees = np.maximum(dim - self.row_nnz + 1, 1)
            pairs = _log(self.length * (self.length - 1.0))
            return pairs + concentration.student_log_tail(degrees, self.epsilon_off)
        on_pairs = np.log(2.0 * self.row_nnz * self.length)
        off_pairs = np.log(self.sides * self.length.astype(float) ** 2)
        return np.logaddexp(
            on_pairs - dim * concentration.inner_product_exponent(self.epsilon_on),
            off_pairs - dim * concentration.orthogonal_exponent(self.epsilon_off),
        )


THEOREMS = {
    "interpolate": "T3",
    "svd_projection": "T1",
    "row_projection": "T2",
    "moment_curve": "T5",
    "max_margin": "T9",
}
"""The theorem behind each method."""


def _check_rise(epsilon_off):
    if (epsilon_off <= 0).any():
        raise ParameterError(
            "logit_scale: must exceed log(1/leak) + log(1 + ratio_error)/2, or approximate logits "
            "may leak more than asked"
        )


def _merge_rows(counts, norms):
    """Return the distinct pairs (count, norm) and how often each occurs: equal rows fail alike."""
    order = np.lexsort((norms, counts))
    counts, norms = counts[order], norms[order]
    first = np.append(True, (np.diff(counts) != 0) | (np.diff(norms) != 0))
    weights = np.diff(np.append(np.nonzero(first)[0], len(counts)))
    return counts[first], norms[first], weights.astype(float)


def _log(count):
    with np.errstate(divide="ignore"):
        return np.log(count)


def _log_sum(logs):
    return np.logaddexp.reduce(logs)


def _least_dim(log_failure, log_eta, low, high):
    """Return the least m in [low, high] with log_failure(m) <= log_eta; `high` is taken to do."""
    high = _ceil(high)
    shape = np.broadcast_shapes(np.shape(low), np.shape(high), np.shape(log_eta))
    low, high = (np.array(np.broadcast_to(end, shape), dtype=np.int64) for end in (low, high))
    while (low < high).any():
        middle = low + (high - low) // 2
        enough = log_failure(middle) <= log_eta
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
        low = np.minimum(low, high)
    return high


def _ceil(dim):
    """Round a dimension up to int64."""
    dim = np.asarray(dim)
    if dim.dtype.kind == "f":
        if (dim > LARGEST_DIM).any():
            raise ParameterError("the dimension asked for exceeds 2**62")
        dim = np.ceil(dim)
    return dim.astype(np.int64)


def _as_int(dim):
    dim = _ceil(dim)
    return dim if dim.ndim else dim.item()
