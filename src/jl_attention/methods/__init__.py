"""One module a theorem: its construction, its required dimension, its failure probability.

`METHODS` is the registry: a further method is one file and one line here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ParameterError, check_choice
from .base import Method, TargetClass
from .interpolate import Interpolate
from .least_norm import interpolating_queries, least_norm_queries
from .max_margin import MaxMargin
from .moment_curve import MomentCurve
from .row_projection import RowProjection
from .svd_projection import SVDProjection

if TYPE_CHECKING:
    from typing import Any

METHODS = {
    kind.name: kind for kind in (Interpolate, SVDProjection, RowProjection, MomentCurve, MaxMargin)
}
"""Every construction method by name."""


def get(method: str | Method, **settings: Any) -> Method:
    """Return a method object for a name, or a method object as it is.

    Parameters
    ----------
    method : str or Method
        A key of `METHODS`, for the method with its default settings.
    **settings : optional
        Settings for a method named by a string; those that are None are left at their default.

    Returns
    -------
    Method

    Raises
    ------
    ParameterError
        An unknown name, or a setting that the method does not have.

    Examples
    --------
    >>> get("interpolate", codes="tight")
    Interpolate(codes='tight', logit_scale=None)
    """
    settings = {name: value for name, value in settings.items() if value is not None}
    if isinstance(method, Method):
        if settings:
            raise ParameterError(
                f"{', '.join(settings)}: settings of a method object are its own, "
                f"{type(method).__name__}(...)"
            )
        return method
    kind = METHODS[check_choice("method", method, METHODS)]
    try:
        return kind(**settings)
    except TypeError:
        raise ParameterError(f"{', '.join(settings)}: not a setting of method {method!r}") from None


__all__ = [
    "METHODS",
    "Interpolate",
    "MaxMargin",
    "Method",
    "MomentCurve",
    "RowProjection",
    "SVDProjection",
    "TargetClass",
    "get",
    "interpolating_queries",
    "least_norm_queries",
]
