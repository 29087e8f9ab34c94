"""T9: for given codes, the shortest query with exact ratios and a given gap.

`margin_solver` states the problem and solves it.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import special

from .. import codes
from ..errors import ConstructionError, ParameterError, check_choice
from ..logits import exact_gap_scale, target_logits
from ..targets import check_target, row_counts
from .base import Method
from .margin_solver import shortest_queries


@dataclass(frozen=True)
class MaxMargin(Method):
    """The shortest queries on random codes (Theorem T9).

    Attributes
    ----------
    codes : {"unit", "gaussian", "tight", "orthogonal"}, optional
        What keys are made of.
    logit_scale : float, optional
        tau, the gap; log(1/eps2) and a little if None.
    """

    name: ClassVar[str] = "max_margin"
    theorem: ClassVar[str] = "T9"
    hypotheses: ClassVar[str] = "The target is chosen without looking at the codes."
    keeps_keys: ClassVar[bool] = True
    bounds: ClassVar[tuple] = ("closed_form",)

    codes: str = "unit"
    logit_scale: float | None = None

    def __post_init__(self):
        """Check the name of the codes."""
        check_choice("codes", self.codes, codes.KINDS)

    def default_logit_scale(self, ratio_error, leak):
        """Return log(1/eps2) and a little."""
        return exact_gap_scale(leak)

    def least_dim(self, row_nnz):
        """Return 1."""
        return np.ones_like(row_nnz)

    def log_failure(self, dim, asked, bound, scope):
        """Refuse: no theorem says how often it fails."""
        raise ParameterError(f"method={self.name!r}: no theorem says how often it fails")

    def closed_form(self, asked, log_eta):
        """Return 1.5 times the solution of m = 2k ln(L/m), at least 2k."""
        weak = 2 * asked.row_nnz * special.lambertw(asked.length / (2 * asked.row_nnz)).real
        return np.maximum(1.5 * weak, 2 * asked.row_nnz) + 0.0 * log_eta

    def required_dim_for_target(self, target, precision, failure_prob=0.01):
        """Return the least m."""
        return self.required_dim(target.shape[0], int(row_counts(target).max()))

    def build(self, B, dim, rng, dtype, *, keys=None, executor=None, progress=None):
        """Draw codes, unless they are given, and find the shortest query of each row."""
        if keys is None:
            keys = codes.draw(self.codes, B.shape[0], dim, rng, dtype)
        return check_found(shortest_queries(B, keys.array())).astype(dtype), keys

    def queries(self, A, keys, *, leak=0.01, visible=None, backend="numpy"):
        """Return the shortest query of every row for given keys, or why there is none.

        Parameters
        ----------
        A : array_like or sparse matrix, shape (L, L)
            Target.
        keys : array_like, shape (L, m)
        leak : float, optional
            eps2: the gap is log(1/eps2) and a little, or this method's `logit_scale`.
        visible, backend : optional
            As in `margin_solver.shortest_queries`.

        Returns
        -------
        margin_solver.MaxMarginResult

        Raises
        ------
        ParameterError
            The target is none, or an argument does not fit.
        """
        tau = self.precision(0.0, leak)[2]
        B = target_logits(check_target(A), tau)
        return shortest_queries(B, keys, tau, visible=visible, backend=backend)


def check_found(result):
    """Return the queries of a `MaxMarginResult`, or raise `ConstructionError` naming the rows."""
    lost = np.union1d(result.infeasible, result.unresolved)
    if not len(lost):
        return result.queries
    n, dim = result.queries.shape
    listed = ", ".join(map(str, lost[:5])) + (", ..." if len(lost) > 5 else "")
    unresolved = f", {len(result.unresolved)} unresolved" if len(result.unresolved) else ""
    raise ConstructionError(
        f"row {listed}: no query of dim={dim} separates the support from the other tokens "
        f"({len(lost)} of {n} rows{unresolved})"
    )
