"""Dimensions: the query dimension m that each theorem asks for, and the probability it leaves.

Every function reads one theorem, either way: `required_dim` gives the least m whose failure
probability is at most eta, `failure_probability` the failure probability of a given m. The theorems
themselves are in `methods`. Two forms of most:

- ``bound="closed_form"``: the theorem's displayed formula, rounded up;
- ``bound="sharp"``: the least m for which the sum of the exact or sharper tails is at most eta.

`required_dim` is for the whole class of targets with at most k nonzeros a row and ratio bound
gamma; `required_dim_for_target` sums over the rows of one target and is never larger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import methods
from .theory.johnson_lindenstrauss import JL_BOUNDS, jl_dim
from .theory.necessary import NECESSARY_BOUNDS, necessary_dim
from .theory.universal import BOUNDS, universal_dim

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike
    from scipy import sparse

    from .interop.mapped import MappedTarget
    from .methods import Method

__all__ = [
    "BOUNDS",
    "JL_BOUNDS",
    "NECESSARY_BOUNDS",
    "THEOREMS",
    "expected_failures",
    "failure_probability",
    "jl_dim",
    "necessary_dim",
    "required_dim",
    "required_dim_for_target",
    "universal_dim",
]

THEOREMS = {name: kind.theorem for name, kind in methods.METHODS.items()}
"""The theorem behind each method."""


def required_dim(
    length: ArrayLike,
    row_nnz: ArrayLike,
    method: str | Method = "interpolate",
    max_ratio: ArrayLike = 1.0,
    ratio_error: float = 0.0,
    leak: float = 0.01,
    failure_prob: ArrayLike = 0.01,
    logit_scale: float | None = None,
    bound: str | None = None,
    *,
    scope: str = "pattern",
    **settings: Any,
) -> int | np.ndarray:
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
    method : str or methods.Method, optional
        "interpolate" (Theorem T3), "svd_projection" (T1), "row_projection" (T2), "moment_curve"
        (T5) or "max_margin" (T9), or a method object with its own settings.
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
    bound : {"sharp", "closed_form", ...}, optional
        One of the method's `bounds`; its first if None.
    scope : {"pattern", "every_support"}, optional
        One pattern chosen without looking at the codes, or all of them at once; not every method
        knows both.
    **settings : optional
        Of a method named by a string, such as ``codes="tight"`` or ``projection="orthogonal"``.

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
    method = methods.get(method, **settings)
    return method.required_dim(
        length, row_nnz, max_ratio, ratio_error, leak, failure_prob, logit_scale, bound, scope
    )


def failure_probability(
    dim: ArrayLike,
    length: ArrayLike,
    row_nnz: ArrayLike,
    method: str | Method = "interpolate",
    max_ratio: ArrayLike = 1.0,
    ratio_error: float = 0.0,
    leak: float = 0.01,
    logit_scale: float | None = None,
    bound: str | None = None,
    *,
    scope: str = "pattern",
    **settings: Any,
) -> float | np.ndarray:
    """Return the failure probability that a method's theorem leaves at query dimension m = `dim`.

    The same theorems as `required_dim`, read the other way; parameters and errors as there.

    Returns
    -------
    float, or ndarray when an argument is an array
        At most 1; 1 where the theorem says nothing.
    """
    method = methods.get(method, **settings)
    log_expected = method.log_failure_probability(
        dim, length, row_nnz, max_ratio, ratio_error, leak, logit_scale, bound, scope
    )
    probability = np.exp(np.minimum(log_expected, 0.0))
    return probability if probability.ndim else probability.item()


def expected_failures(
    dim: ArrayLike,
    length: ArrayLike,
    row_nnz: ArrayLike,
    method: str | Method = "interpolate",
    max_ratio: ArrayLike = 1.0,
    ratio_error: float = 0.0,
    leak: float = 0.01,
    logit_scale: float | None = None,
    bound: str | None = None,
    *,
    scope: str = "pattern",
    **settings: Any,
) -> float | np.ndarray:
    """Return how many failures a method's theorem expects, or bounds, at m = `dim`.

    The sum behind `failure_probability`, which is this or 1, whichever is less: expected rows for
    "max_margin", expected entries for the others. Parameters and errors as there.

    Returns
    -------
    float, or ndarray when an argument is an array
    """
    method = methods.get(method, **settings)
    log_expected = method.log_failure_probability(
        dim, length, row_nnz, max_ratio, ratio_error, leak, logit_scale, bound, scope
    )
    with np.errstate(over="ignore"):
        expected = np.exp(log_expected)
    return expected if expected.ndim else expected.item()


def required_dim_for_target(
    target: ArrayLike | sparse.sparray | MappedTarget,
    method: str | Method = "interpolate",
    ratio_error: float = 0.0,
    leak: float = 0.01,
    *,
    failure_prob: float = 0.01,
    logit_scale: float | None = None,
    **settings: Any,
) -> int:
    """Return the least m for which a method's theorem promises the precision for this target.

    The sharp bound of `required_dim`, summed over the rows i of the target with their own support
    sizes and norms ||b_i|| instead of the class's worst case sqrt(k) beta. For "svd_projection"
    the norm bound is sqrt(||B||_1 ||B||_inf).

    Parameters
    ----------
    target : array_like or scipy.sparse array, shape (L, L)
    method, ratio_error, leak, failure_prob, logit_scale, **settings
        As in `required_dim`, scalars.

    Returns
    -------
    int

    Raises
    ------
    TargetError, ParameterError
    """
    method = methods.get(method, **settings)
    precision = method.precision(ratio_error, leak, logit_scale)
    return method.required_dim_for_target(method.read(target), precision, failure_prob)
