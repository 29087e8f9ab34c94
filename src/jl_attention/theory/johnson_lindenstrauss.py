"""L1: the dimension in which a Gaussian projection keeps all distances (Johnson-Lindenstrauss)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import check_array, check_choice
from .inner_products import polarisation_exponent
from .search import as_int, least_dim
from .tails import chi_square_log_failure

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "JL_BOUNDS",
    "jl_dim",
]

JL_BOUNDS = ("exact", "chernoff", "dasgupta_gupta")


def jl_dim(
    n_points: ArrayLike, distortion: ArrayLike, failure_prob: ArrayLike = 0.05, bound: str = "exact"
) -> int | np.ndarray:
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
    rate = polarisation_exponent(eps)
    if bound == "dasgupta_gupta":
        return as_int(2 * np.log(points) / rate)
    log_ordered_pairs = np.log(points) + np.log(points - 1)
    closed = (log_ordered_pairs - log_eta) / rate
    if bound == "chernoff":
        return as_int(closed)

    def log_failure(dim):
        pairs = log_ordered_pairs - np.log(2)
        return pairs + chi_square_log_failure(dim, eps)

    return as_int(least_dim(log_failure, log_eta, 1, closed))
