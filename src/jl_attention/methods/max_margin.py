"""T9: for given codes, the shortest query with exact ratios and a given gap.

Row i asks for the least-norm q with

    <q, c_j - c_j'> = B_ij - B_ij' for j, j' in S_i,   <q, c_s - c_j0> >= tau for j0 not in S_i,

s the entry of S_i with the smallest B_is. With D the differences of codes within the support,
p = D^+ (differences of B) and P the projector onto the null space of D, q = p + y with y in that
null space, and what is left is a least-distance problem: minimise ||y|| subject to G y >= h, with
G = (c_s - c_j0) P and h = tau - <p, c_s - c_j0>. It is a hard-margin support vector machine,
solved as non-negative least squares on [G^T; h^T] (Lawson and Hanson 1974): the residual r gives
y = -r / r_last, and r = 0 means that no query separates the support. The code takes from it which
constraints are active, and solves these.

Few constraints are active, so the problem is solved on the tokens of the largest logits, checked
against all of them, and solved again with the violators, until there are none.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import special

from .. import codes
from ..errors import ConstructionError, ParameterError, check_choice
from ..logits import exact_gap_scale
from ..max_margin import max_margin_queries
from ..targets import row_counts
from .base import Method


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
    standing: ClassVar[str] = "prediction"

    codes: str = "unit"
    logit_scale: float | None = None

    def __post_init__(self):
        """Check the name of the codes."""
        check_choice("codes", self.codes, codes.KINDS)

    def default_logit_scale(self, ratio_error, leak):
        """Return log(1/eps2) and a little."""
        return exact_gap_scale(leak)

    def largest_logit(self, asked):
        """Return None: only the gap is chosen."""
        return None

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
        queries, infeasible = max_margin_queries(B, keys.array())
        if len(infeasible):
            listed = ", ".join(map(str, infeasible[:5])) + (", ..." if len(infeasible) > 5 else "")
            raise ConstructionError(
                f"row {listed}: no query of dim={dim} separates the support from the other tokens "
                f"({len(infeasible)} of {B.shape[0]} rows)"
            )
        return queries.astype(dtype), keys
