"""What conditioning on Gx gives (S4): the law of a wrong sign, and half of the tail at rho = 0.

Given Gx, the inner product <Gx,Gy> of unit vectors with <x,y> = rho is normal with mean rho w and
variance (1-rho^2) w/m, w = ||Gx||^2, and m w is chi-square with m degrees of freedom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import check_array
from . import inner_products, tails

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "orthogonal_log_bound",
    "wrong_sign_bound",
    "wrong_sign_tail",
]


def wrong_sign_tail(dim: ArrayLike, correlation: ArrayLike) -> float | np.ndarray:
    """Return P(<Gx,Gy> < 0) for unit vectors with <x,y> = rho > 0, exactly.

    A normal variable falls short by its mean, sqrt(m w) rho/sqrt(1-rho^2) standard deviations.
    Over w this is Student's tail P(t_m > sqrt(m) theta), theta = rho/sqrt(1-rho^2).

    Parameters
    ----------
    dim : int or array_like of int
        m >= 1.
    correlation : float or array_like
        rho in (0, 1).

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        An argument is out of range.

    Examples
    --------
    >>> round(float(wrong_sign_tail(100, 0.3)), 5)
    0.00109
    """
    dim, rho = _check(dim, correlation)
    return tails.student_tail(dim, rho / np.sqrt((1 - rho) * (1 + rho)))


def wrong_sign_bound(dim: ArrayLike, correlation: ArrayLike) -> float | np.ndarray:
    """Return (1-rho^2)^(m/2)/2, at least `wrong_sign_tail`, by the Student lemma (L0).

    Parameters and errors as in `wrong_sign_tail`.
    """
    dim, rho = _check(dim, correlation)
    return (np.exp(dim / 2 * (np.log1p(-rho) + np.log1p(rho))) / 2)[()]


def orthogonal_log_bound(dim: ArrayLike, epsilon: ArrayLike) -> float | np.ndarray:
    """Return log of exp(-m I0(eps))/2, at least P(<Gx,Gy> > eps) for orthogonal unit vectors.

    Half of the Chernoff bound: given Gx the error is N(0, w/m), whose tail is at most
    exp(-m eps^2/(2w))/2 <= exp(-m (s eps - s^2 w/2))/2 for every s, and the mean over w of the
    last, at the best s, is Chernoff's exp(-m I0(eps))/2. So the two-sided bound is exp(-m I0(eps)),
    and the terms 2 L^2 of T1 and L^2 of T2, sharp forms, become L^2 and L^2/2.

    For Gaussian maps: the argument needs the normal law given Gx, so orthogonal maps do not
    inherit it.

    Parameters
    ----------
    dim : int or array_like of int
        m >= 1.
    epsilon : float or array_like
        Positive.

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        An argument is out of range.

    Examples
    --------
    >>> bound = np.exp(orthogonal_log_bound(200, 0.2))
    >>> exact = inner_products.inner_product_tail(200, 0.2, 0.0, "upper")
    >>> round(float(bound), 4), round(float(exact), 4)
    (0.0099, 0.0025)
    """
    dim = check_array("dim", dim, at_least=1, integer=True)
    return (-dim * inner_products.orthogonal_exponent(epsilon) - np.log(2))[()]


def _check(dim, correlation):
    dim = check_array("dim", dim, at_least=1, integer=True)
    return dim, check_array("correlation", correlation, above=0, below=1)
