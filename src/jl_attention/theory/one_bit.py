"""Codes of independent signs: the closed forms of L1, L2a, T1 and T2 with the same constants.

R is m x n with independent entries +-1/sqrt(p m) with probability p/2 each, else 0: p = 1 is a
one-bit code, p = 1/3 Achlioptas's. For a unit vector x let q be one coordinate of sqrt(m) R x. If
p >= 1/3,

- E exp(h q^2) <= (1-2h)^(-1/2) for 0 <= h < 1/2, as for a normal q;
- E q^4 <= 3.

So the upper tail of ||Rx||^2 has the Gaussian exponent (eps - log(1+eps))/2, and the lower tail
eps^2/4 - eps^3/6, that of the textbook. Hence Lemma L1's closed form, L2a by polarisation, and
T1 and T2 in closed form hold word for word: the keys of T2 may be one-bit codes. **Not proved** for
signs: the exponents of L2a' and I0, which bound the two lengths of the polarisation identity
together, and so the sharp forms. In differences T1 and T2 hold with the bound
`inner_product_log_tail` in place of Chernoff's. Achlioptas (2003) has the tails, for p = 1 and 1/3.

Proof. With r an entry of sqrt(m) R, E exp(t r) = 1 - p + p cosh(t/sqrt(p)) <= exp(t^2/2): compared
power by power, p^(1-j)/(2j)! <= 1/(2^j j!), an equality at j = 1; the step from j to j + 1 divides
the left by p (2j+1)(2j+2) >= 2j+2 and the right by 2j+2. With a standard normal g,
E exp(h q^2) = E exp(sqrt(2h) g q) <= E exp(h g^2) = (1-2h)^(-1/2). And
E q^4 = 3 + (1/p - 3) sum x_j^4. For the lower tail, exp(-t) <= 1 - t + t^2/2 gives
E exp(-h q^2) <= 1 - h + 3h^2/2, so P(||Rx||^2 < 1-eps) <= exp(m f), f = h(1-eps) +
log(1 - h + 3h^2/2), and at h = eps/2 f <= -eps^2/4 + eps^3/6: the derivative of
log(1 - h + 3h^2/2) + h - h^2 - 4h^3/3 is -h^2 (1/2 - h + 6h^2)/(1 - h + 3h^2/2) < 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import check_array
from .inner_products import inner_product_exponent
from .tails import polarisation_exponent

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "LEAST_DENSITY",
    "inner_product_log_tail",
]

LEAST_DENSITY = 1 / 3
"""The least share p of nonzeros for which the tails are proved; for p < 1/3, E q^4 can exceed 3."""


def inner_product_log_tail(dim: ArrayLike, epsilon: ArrayLike) -> float | np.ndarray:
    """Return the log of a bound on P(<Rx,Ry> - <x,y> > eps), for unit x, y and signs R.

    exp(-m (eps - log(1+eps))/2) + exp(-m (eps^2/4 - eps^3/6)), the two lengths of the polarisation
    identity: ||R(x+y)||^2 too large, or ||R(x-y)||^2 too small, by the factor 1 +- eps. The same
    bounds the lower side.

    Parameters
    ----------
    dim : int or array_like of int
        m >= 1.
    epsilon : float or array_like
        In (0, 1).

    Returns
    -------
    float or ndarray

    Raises
    ------
    ParameterError
        An argument is out of range.

    Examples
    --------
    >>> round(float(np.exp(inner_product_log_tail(1000, 0.25))), 7)
    3.7e-06
    """
    dim = check_array("dim", dim, at_least=1, integer=True)
    upper = inner_product_exponent(epsilon)
    lower = polarisation_exponent(epsilon)
    return np.logaddexp(-dim * upper, -dim * lower)[()]
