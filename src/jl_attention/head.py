"""A head that was built: queries, keys, and the input of the fixed module that carries them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from . import attention
from .codes import Codes, GivenCodes
from .result import Result

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    import torch
    from numpy.typing import ArrayLike

    from .precision import PrecisionReport

__all__ = [
    "LARGEST_ALLOWANCE",
    "Construction",
]

LARGEST_ALLOWANCE = 0.1
"""Where rounding may move a ratio by more than this, its allowance would excuse anything."""


@dataclass(frozen=True, eq=False)
class Construction(Result):
    """Queries and keys for a target, and the input of the fixed module that carries them.

    Two conventions, the same attention: softmax(queries @ keys.T) in the book's notation
    (X1, X2), and softmax(Q @ K.T / sqrt(m)) with Q = X W_Q and K = X W_K, which is what kernels
    and files take.

    Attributes
    ----------
    queries : ndarray, shape (L, m)
        X1, read-only.
    keys : ndarray, shape (L, m)
        X2, read-only; the logits are Lambda = X1 X2^T.
    method : str
        A key of `methods.METHODS`.
    ratio_error, leak : float
        The precision (eps1, eps2) asked for.
    failure_prob : float
        eta: the probability, over the random codes, that the precision may be missed. A promise
        only where `dim` is at least the theorem's.
    logit_scale : float
        tau, the gap of the target logits B.
    total_variation : float or None
        The total variation asked for, where that is what was asked.
    codes : codes.Codes
        What `keys` came from; a worker elsewhere makes them again from it.
    """

    queries: np.ndarray = field(repr=False)
    keys: np.ndarray = field(repr=False)
    method: str
    ratio_error: float
    leak: float
    failure_prob: float
    logit_scale: float
    total_variation: float | None = None
    codes: Codes | None = field(default=None, repr=False, compare=False)

    def __post_init__(self):
        """Make the arrays read-only, and codes of keys that came without."""
        self._freeze("queries", "keys")
        if self.codes is None:
            object.__setattr__(self, "codes", GivenCodes(self.keys))

    @property
    def length(self) -> int:
        """L, the sequence length."""
        return self.queries.shape[0]

    @property
    def dim(self) -> int:
        """m, the query dimension; the hidden size is d = 2m."""
        return self.queries.shape[1]

    @property
    def Q(self) -> np.ndarray:
        """X W_Q = m^(1/4) queries, shape (L, m): softmax(Q K^T / sqrt(m)) is the attention."""
        return attention.parameter_scale(self.dim, self.queries.dtype) * self.queries

    @property
    def K(self) -> np.ndarray:
        """X W_K = m^(1/4) keys, shape (L, m): softmax(Q K^T / sqrt(m)) is the attention."""
        return attention.parameter_scale(self.dim, self.keys.dtype) * self.keys

    @cached_property
    def X(self) -> np.ndarray:
        """The module's input [X1 | X2], shape (L, 2m)."""
        return attention.attention_input(self.queries, self.keys)

    @property
    def W_Q(self) -> np.ndarray:
        """The fixed query parameters, shape (2m, m); they depend on m alone."""
        return attention.fixed_parameters(self.dim, self.queries.dtype)[0]

    @property
    def W_K(self) -> np.ndarray:
        """The fixed key parameters, shape (2m, m); they depend on m alone."""
        return attention.fixed_parameters(self.dim, self.queries.dtype)[1]

    def logits(self, rows: slice | ArrayLike = slice(None)) -> np.ndarray:
        """Return the rows (slice or index array) of Lambda, shape (n, L).

        Computed as X1 X2^T, which `attention.self_attention_logits` equals up to rounding.
        """
        return self.queries[rows] @ self.keys.T

    def attention(self, rows: slice | ArrayLike = slice(None)) -> np.ndarray:
        """Return the rows (slice or index array) of M = softmax of Lambda, shape (n, L)."""
        return softmax(self.logits(rows), axis=1)

    @property
    def allowance(self) -> float:
        """What rounding may do to a ratio of two entries of a row, as a relative error.

        An inner product of m terms is off by at most (m + 2) u ||q|| ||c|| in arithmetic of unit
        roundoff u, the rounding of q and c themselves included (Higham 2002, section 3.1), and a
        ratio of two entries by e to twice that.
        """
        roundoff = np.finfo(self.queries.dtype).eps / 2
        norms = (float(np.linalg.norm(half, axis=1).max()) for half in (self.queries, self.keys))
        with np.errstate(over="ignore"):
            return float(np.expm1(2 * (self.dim + 2) * roundoff * np.prod(list(norms))))

    def meets(self, report: PrecisionReport) -> bool:
        """Return whether a `precision.PrecisionReport` has the precision asked for.

        One rule: what was asked (the total variation, or else eps1 and eps2), each ratio of two
        entries with the `allowance` of rounding. Where that is more than `LARGEST_ALLOWANCE`,
        nothing is met.
        """
        if not self.allowance <= LARGEST_ALLOWANCE:
            return False
        slack = 1 + self.allowance
        if self.total_variation is not None:
            return report.total_variation <= self.total_variation + self.allowance
        return report.meets((1 + self.ratio_error) * slack - 1, self.leak * slack)

    def save(self, path: str | Path, *, full: bool = False) -> None:
        """Write queries, keys and settings as ``.npz`` or ``.safetensors``; see `files.save`."""
        from . import files

        files.save(self, path, full=full)

    @classmethod
    def load(cls, path: str | Path, **limits: Any) -> Construction:
        """Read a construction that `save` wrote; arguments and `FileError` as in `files.load`."""
        from . import files

        return cls(**files.load(path, **limits))

    def to_torch(
        self,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        **options: Any,
    ) -> dict[str, torch.Tensor]:
        """Return X, W_Q, W_K, Q, K as PyTorch tensors in a dict; see `interop.torch.to_torch`."""
        from .interop.torch import to_torch

        return to_torch(self, dtype=dtype, device=device, **options)
