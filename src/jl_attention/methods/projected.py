"""What T1 and T2 share: B = F H^T is projected, and inner products survive up to an error."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from .. import codes
from ..codes.base import check_dtype, generator, stream_key
from ..codes.projections import FAMILIES
from ..errors import ParameterError, check_choice, check_real
from ..logits import logit_tolerance, off_support_tolerance, smallest_logit_scale
from ..theory import differences
from ..theory.inner_products import (
    inner_product_exponent,
    orthogonal_exponent,
    polarisation_exponent,
)
from ..theory.search import doubling_search
from .base import Method

if TYPE_CHECKING:
    from numpy.typing import DTypeLike
    from scipy import sparse

    from ..codes.base import Codes, Seed
    from .base import TargetClass

__all__ = [
    "PROVED",
    "PROVED_SIGNS",
    "Projected",
]

PROVED = ("gaussian", "orthogonal")
"""Projections whose sharp bounds are proved; the orthogonal one inherits the Gaussian's."""

PROVED_SIGNS = (*PROVED, "rademacher", "achlioptas")
"""Projections for which the closed form and the form in differences are proved (`one_bit`)."""


@dataclass(frozen=True)
class Projected(Method):
    """A method that projects the rows of two factors of B.

    Attributes
    ----------
    projection : str or object, optional
        A key of `codes.projections.FAMILIES`, or an object with a method
        ``sample(dim_out, dim_in, rng, dtype)``. The theorem is proved for "gaussian" and
        "orthogonal" (where m never needs to exceed L), for "rademacher" and "achlioptas" in closed
        form and in differences; for the others a dimension must be given.
    logit_scale : float, optional
        tau; log((1 + eps1)/eps2) if None.
    """

    approximates_ratios: ClassVar[bool] = True
    bounds: ClassVar[tuple] = ("differences", "sharp", "closed_form")
    sides: ClassVar[int]  # how many sides of an off-support error leak

    projection: str | object = "gaussian"
    logit_scale: float | None = None

    def __post_init__(self):
        """Check the projection."""
        if not callable(getattr(self.projection, "sample", None)):
            check_choice("projection", self.projection, FAMILIES)

    def norm(self, asked: TargetClass) -> float | np.ndarray:
        """Return the bound on ||x|| ||y|| for the pairs whose inner products are the logits."""
        raise NotImplementedError

    def default_logit_scale(self, ratio_error: float, leak: float) -> float:
        """Return log((1 + eps1)/eps2), the smallest that the theorem allows."""
        return smallest_logit_scale(ratio_error, leak)

    def least_dim(self, row_nnz: int | np.ndarray) -> np.ndarray:
        """Return 1."""
        return np.ones_like(row_nnz)

    def log_failure(
        self, dim: int | np.ndarray, asked: TargetClass, bound: str, scope: str
    ) -> float | np.ndarray:
        """Return the log of the union bound over all entries, or over differences of them."""
        self._check_proved(bound)
        if bound == "differences":
            precision = asked.ratio_error, asked.leak, asked.logit_scale
            law = "chernoff" if self.projection in PROVED else "signs"
            log_failure = differences.class_log_failure(
                asked.length, asked.row_nnz, self.name, asked.max_ratio, precision, law
            )(dim)
        elif bound == "closed_form":
            rate = polarisation_exponent(np.minimum(*self._errors(asked)))
            log_failure = 2 * np.log(asked.length) + np.log(4) - dim * rate
        else:
            on, off = self._errors(asked)
            on_pairs = np.log(2.0 * asked.row_nnz * asked.length)
            off_pairs = np.log(self.sides * asked.length.astype(float) ** 2)
            log_failure = np.logaddexp(
                on_pairs - dim * inner_product_exponent(on),
                off_pairs - dim * orthogonal_exponent(off),
            )
        if self.projection == "orthogonal":
            return np.where(dim >= asked.length, -np.inf, log_failure)  # a rotation
        return log_failure

    def closed_form(self, asked: TargetClass, log_eta: float | np.ndarray) -> float | np.ndarray:
        """Return ln(4 L^2/eta)/(eps^2/4 - eps^3/6)."""
        self._check_proved("closed_form")
        rate = polarisation_exponent(np.minimum(*self._errors(asked)))
        enough = np.maximum(1, (2 * np.log(asked.length) + np.log(4) - log_eta) / rate)
        return np.minimum(enough, asked.length) if self.projection == "orthogonal" else enough

    def required_dim_for_target(
        self,
        target: sparse.csr_array,
        precision: tuple[float, float, float],
        failure_prob: float = 0.01,
    ) -> int:
        """Return the least m by the form in differences, summed over the rows of the target."""
        self._check_proved("differences")
        law = "chernoff" if self.projection in PROVED else "signs"
        log_failure = differences.target_log_failure(target, self.name, precision, law)
        log_eta = np.log(check_real("failure_prob", failure_prob, above=0, below=1))
        dim = doubling_search(log_failure, log_eta, 1)
        return min(dim, target.shape[0]) if self.projection == "orthogonal" else dim

    def within_length(self, length: int, dim: int) -> tuple[Projected, int]:
        """Return a rotation at m = L where the theorem asks for more: it makes no error at all."""
        if dim < length:
            return self, dim
        return replace(self, projection="orthogonal"), length

    def projected_identity(self, length: int, dim: int, rng: Seed, dtype: DTypeLike) -> Codes:
        """Return P^T for a projection P of R^L, as codes of shape (L, m)."""
        if self.projection in PROVED:
            kind = codes.KINDS[self.projection]
            return kind(length, dim, stream_key(rng), check_dtype(dtype), 1 / np.sqrt(dim))
        named = isinstance(self.projection, str)
        family = FAMILIES[self.projection] if named else self.projection
        P = family.sample(dim, length, generator(stream_key(rng)), dtype=dtype)
        P = P.toarray() if hasattr(P, "toarray") else np.asarray(P)
        return codes.GivenCodes(np.ascontiguousarray(P.T, dtype=dtype))

    def _errors(self, asked):
        """Return the errors allowed on the support and off it, in units of the norms."""
        norm = self.norm(asked)
        on = logit_tolerance(asked.ratio_error) / norm
        off = off_support_tolerance(asked.ratio_error, asked.leak, asked.logit_scale) / norm
        _check_rise(off)
        return on, off

    def _check_proved(self, bound):
        proved = PROVED if bound == "sharp" else PROVED_SIGNS
        if self.projection not in proved:
            raise ParameterError(
                f"projection={self.projection!r}: no dimension is proved for it with "
                f"bound={bound!r}; give dim, or take one of {', '.join(proved)}"
            )


def _check_rise(rise):
    if (rise <= 0).any():
        raise ParameterError(
            "logit_scale: must exceed log(1/leak) + log(1 + ratio_error)/2, or approximate logits "
            "may leak more than asked"
        )
