"""T5: in real arithmetic query dimension m = 2k is enough, for every L.

Keys lie on the trigonometric moment curve, key j = (cos t theta_j, sin t theta_j) for t = 1..k at
theta_j = 2 pi j/L: the vertices of a cyclic polytope, of which any k form a face. A query is a
trigonometric polynomial without its constant term, and a logit its value at theta_j:

    p(theta) = -C prod_{s in S} (1 - cos(theta - theta_s)) + r(theta).

The product vanishes on the support S and is positive off it; r interpolates log A on S; C is the
least factor that pushes everything off the support tau below its smallest entry. The constant term
is the same for the whole row, and softmax does not see it. The ratios are exact, but C grows like
L^2 for spread supports and up to L^(2k) for clustered ones: the price is the size of the logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..codes import MomentCurveCodes
from ..errors import ConstructionError
from ..logits import exact_gap_scale
from ..targets import row_counts
from .base import Method

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from numpy.typing import DTypeLike
    from scipy import sparse

    from ..codes.base import Codes, Seed
    from .base import TargetClass

__all__ = [
    "LOST_DIGITS",
    "MOST_ROUNDINGS",
    "MomentCurve",
]

LOST_DIGITS = 1e-6
"""Largest accepted error of a logit difference on the support that one rounding makes."""

MOST_ROUNDINGS = 1e3
"""How many such errors may add up."""


@dataclass(frozen=True)
class MomentCurve(Method):
    """Keys on the trigonometric moment curve, polynomials as queries (Theorem T5).

    Attributes
    ----------
    logit_scale : float, optional
        tau, the gap; log(1/eps2) and a little if None.

    Examples
    --------
    >>> MomentCurve().required_dim(10**6, 4)
    8
    """

    name: ClassVar[str] = "moment_curve"
    theorem: ClassVar[str] = "T5"
    hypotheses: ClassVar[str] = "Real arithmetic: the logits grow with L, up to L^(2k)."

    logit_scale: float | None = None

    def default_logit_scale(self, ratio_error: float, leak: float) -> float:
        """Return log(1/eps2) and a little."""
        return exact_gap_scale(leak)

    def largest_logit(self, asked: TargetClass, dim: int | np.ndarray) -> float | np.ndarray:
        """Return the largest spread of a row of equal weights: that of a support around a gap.

        The product falls to prod_{s=1..k} (1 - cos(2 pi ceil(s/2)/L)) at a token between the k
        tokens of its support and rises to at most 2^k; the lowest point must be tau below 0.
        """
        k = int(np.max(asked.row_nnz))
        steps = 2 * np.pi * (np.arange(2, k + 2) // 2) / np.asarray(asked.length)[..., None]
        fall = np.log(2) + 2 * np.log(np.sin(np.minimum(steps, np.pi) / 2))
        with np.errstate(over="ignore"):
            return asked.logit_scale * np.exp(k * np.log(2) - fall.sum(axis=-1))

    def least_dim(self, row_nnz: int | np.ndarray) -> int | np.ndarray:
        """Return 2k."""
        return 2 * row_nnz

    def log_failure(
        self, dim: int | np.ndarray, asked: TargetClass, bound: str, scope: str
    ) -> np.ndarray:
        """Return -inf from m = 2k on: nothing is random."""
        return np.where(dim >= self.least_dim(asked.row_nnz), -np.inf, 0.0)

    def closed_form(self, asked: TargetClass, log_eta: float | np.ndarray) -> float | np.ndarray:
        """Return 2k."""
        return self.least_dim(asked.row_nnz) + 0.0 * (asked.length + asked.max_ratio + log_eta)

    def required_dim_for_target(
        self,
        target: sparse.csr_array,
        precision: tuple[float, float, float],
        failure_prob: float = 0.01,
    ) -> int:
        """Return 2k."""
        return 2 * int(row_counts(target).max())

    def build(
        self,
        B: sparse.csr_array,
        dim: int,
        rng: Seed,
        dtype: DTypeLike,
        *,
        keys: Codes | None = None,
        executor: Executor | None = None,
        progress: Callable | None = None,
    ) -> tuple[np.ndarray, Codes]:
        """Put keys on the curve and polynomials into queries.

        A row that rounding would spoil is refused: the message names it and the size of its logits.
        """
        length = B.shape[0]
        counts = np.diff(B.indptr)
        degree = min(dim // 2, int(counts.max()))
        if counts.max() > dim // 2:
            row = int(np.argmax(counts))
            raise ConstructionError(
                f"row {row}: its support of {counts[row]} tokens needs dim >= {2 * counts[row]}, "
                f"not dim={dim}"
            )
        codes = MomentCurveCodes(length, dim, degree, np.dtype(dtype))
        keys = codes.array()
        theta = 2 * np.pi * np.arange(length) / length
        queries = np.zeros((length, dim), dtype=dtype)
        gap = B.data.min()
        for row in range(length):
            support = B.indices[B.indptr[row] : B.indptr[row + 1]]
            values = B.data[B.indptr[row] : B.indptr[row + 1]]
            query = _query(theta, support, values - values.min(), gap, degree)
            queries[row, : 2 * degree] = query
            _check_rounding(queries[row], keys, support, values, row)
        return queries, codes


def _query(theta, support, values, gap, degree):
    """Return the coefficients of one row's polynomial without its constant, shape (2 degree,)."""
    curve = _curve(theta, degree)
    design = np.hstack([curve[support], np.ones((len(support), 1))])
    # The least-norm interpolant of the values, up to a constant.
    smooth = np.linalg.lstsq(design, values, rcond=None)[0]
    smooth_at = curve @ smooth[:-1] + smooth[-1]
    # 1 - cos(x) = 2 sin(x/2)^2 keeps its digits near the support.
    product_at = np.prod(2 * np.sin((theta[:, None] - theta[support]) / 2) ** 2, axis=1)
    off = np.ones(len(theta), dtype=bool)
    off[support] = False
    needed = np.max((smooth_at[off] + gap) / product_at[off], initial=0.0)
    return smooth[:-1] - needed * _product_coefficients(theta[support], degree)


def _product_coefficients(roots, degree):
    """Return the cosine and sine coefficients of prod_s (1 - cos(theta - theta_s))."""
    nodes = 2 * np.pi * np.arange(2 * degree + 1) / (2 * degree + 1)
    at = np.prod(2 * np.sin((nodes[:, None] - roots) / 2) ** 2, axis=1)
    return 2 / len(nodes) * _curve(nodes, degree).T @ at


def _curve(theta, degree):
    waves = theta[:, None] * np.arange(1, degree + 1)
    return np.hstack([np.cos(waves), np.sin(waves)])


def _check_rounding(query, keys, support, values, row):
    """Refuse a row whose ratios rounding may spoil.

    Rounding scales with the terms of the inner products, that is with the query's length, and so
    does the verdict: what it did to the sums differs from machine to machine, and only has to be
    of that order.
    """
    length = np.linalg.norm(query)
    expected = length * np.finfo(query.dtype).eps
    error = np.ptp(keys[support] @ query - values)
    if not (expected <= LOST_DIGITS and error <= MOST_ROUNDINGS * expected):
        raise ConstructionError(
            f"row {row}: its query has length {length:.1e}, and rounding in {query.dtype} spoils "
            f"the ratios by about {max(expected, LOST_DIGITS):.1e}; spread the support out, take a "
            "smaller support or a smaller gap, or use method 'interpolate'"
        )
