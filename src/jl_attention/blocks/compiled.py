"""What `compile` returns: an input, the weights it is for, and how well it does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ParameterError, check_int
from ..result import Result
from . import reference
from .spec import BlockSpec

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import ArrayLike, DTypeLike
    from scipy import sparse

__all__ = [
    "BLOCK_BYTES",
    "BlockReport",
    "CompiledBlock",
    "measure_rows",
]

BLOCK_BYTES = 2**26
"""Memory for one block of rows of an attention matrix."""


@dataclass(frozen=True, eq=False)
class BlockReport(Result):
    """How well one head of a block shows its pattern; scalars are the worst over the rows.

    Attributes
    ----------
    ratio_error, leak : float
        Smallest eps1 and eps2 for which (P1) and (P2) hold.
    total_variation : float
        Largest total variation distance of a row, what goes to a sink included.
    sink : float
        Largest share of a row that goes to the sink.
    row_leak, row_total_variation : ndarray, shape (L,)
    """

    ratio_error: float
    leak: float
    total_variation: float
    sink: float
    row_leak: np.ndarray = field(repr=False)
    row_total_variation: np.ndarray = field(repr=False)

    def __post_init__(self):
        self._freeze("row_leak", "row_total_variation")


def measure_rows(
    M: np.ndarray, target: sparse.csr_array
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Measure rows of an attention matrix, which may lose to a sink, against rows of a target.

    Parameters
    ----------
    M : ndarray, shape (n, L)
        Rows that sum to at most 1.
    target : scipy.sparse.csr_array, shape (n, L)

    Returns
    -------
    ratio_error, leak, total_variation, sink : ndarray, shape (n,)
        Where a weight on the support underflowed to 0 the first two are infinite.
    """
    M = np.array(M, dtype=np.float64)
    start, counts = target.indptr[:-1], np.diff(target.indptr)
    at = np.repeat(np.arange(len(counts)), counts), target.indices
    sink = np.maximum(1 - M.sum(axis=1), 0)
    on = M[at]
    M[at] = 0
    off = M.max(axis=1)
    share = on / target.data
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.maximum.reduceat(share, start) / np.minimum.reduceat(share, start) - 1
        leak = np.where(off > 0, off / np.minimum.reduceat(on, start), 0.0)
    moved = np.add.reduceat(np.abs(on - target.data), start) + M.sum(axis=1) + sink
    return np.where(np.isnan(ratio), np.inf, ratio), leak, moved / 2, sink


@dataclass(frozen=True, eq=False)
class CompiledBlock(Result):
    """An input that makes a block with fixed weights show given attention patterns.

    Attributes
    ----------
    spec : BlockSpec
    inputs_embeds : ndarray, shape (L, d)
        X, the hidden states that enter the block.
    weights : dict of ndarray
        The fixed parameters, as a linear layer stores them, (out, in): ``q_proj.weight``,
        ``k_proj.weight``, and where the block has them ``q_proj.bias``, ``k_proj.bias``,
        ``input_layernorm.weight``, ``input_layernorm.bias``, ``q_norm.weight``,
        ``k_norm.weight``, ``sinks``. They depend on the spec alone, or were given.
    patterns : tuple of scipy.sparse.csr_array or None, length H
    dim : int
        Coordinates of a head that are used.
    leak : float
        eps2, as asked.
    corrected : int
        Rows whose query is not Theorem T3's: tokens had to be held at the ceiling.
    """

    spec: BlockSpec
    inputs_embeds: np.ndarray = field(repr=False)
    weights: dict = field(repr=False)
    patterns: tuple = field(repr=False)
    dim: int
    leak: float
    corrected: int

    def __post_init__(self):
        self._freeze("inputs_embeds")

    @property
    def length(self) -> int:
        """L, the number of tokens."""
        return len(self.inputs_embeds)

    def attention(self, head: int, rows: slice | ArrayLike = slice(None)) -> np.ndarray:
        """Return rows of a head's attention matrix, by the NumPy reference; shape (n, L)."""
        return reference.attention(self.spec, self.weights, self.inputs_embeds, head, rows)

    def logits(self, head: int, rows: slice | ArrayLike = slice(None)) -> np.ndarray:
        """Return rows of a head's logits, minus infinity where the mask hides a token."""
        return reference.logits(self.spec, self.weights, self.inputs_embeds, head, rows)

    def measure(self, head: int) -> BlockReport:
        """Measure a head against its pattern, streaming over blocks of rows.

        Every pair is looked at: O(L^2 m) time, and one block of rows of memory.

        Parameters
        ----------
        head : int

        Returns
        -------
        BlockReport

        Raises
        ------
        ParameterError
            The head was left free.
        """
        pattern = self._pattern(head)
        U = reference.normed(self.spec, self.weights, self.inputs_embeds)
        size = max(1, BLOCK_BYTES // (8 * self.length))
        parts = []
        for start in range(0, self.length, size):
            rows = slice(start, min(start + size, self.length))
            M = reference.attention(self.spec, self.weights, self.inputs_embeds, head, rows, U=U)
            parts.append(measure_rows(M, pattern[rows]))
        ratio, leak, moved, sink = (np.concatenate(part) for part in zip(*parts, strict=True))
        worst = (float(part.max()) for part in (ratio, leak, moved, sink))
        return BlockReport(*worst, leak, moved)

    def _pattern(self, head):
        head = check_int("head", head, minimum=0, maximum=self.spec.query_heads - 1)
        if self.patterns[head] is None:
            raise ParameterError(f"head={head}: was left free, it has no pattern")
        return self.patterns[head]

    def astype(self, dtype: DTypeLike) -> CompiledBlock:
        """Return the same with input and weights in another floating-point dtype."""
        weights = {name: array.astype(dtype) for name, array in self.weights.items()}
        return replace(self, inputs_embeds=self.inputs_embeds.astype(dtype), weights=weights)

    def output(self, W_V: np.ndarray, W_O: np.ndarray) -> np.ndarray:
        """Return what the attention adds to X: sum over h of M_h U W_V^T W_O^T, shape (L, d).

        Parameters
        ----------
        W_V, W_O : ndarray
            ``v_proj.weight`` and ``o_proj.weight`` of the block, whatever they are.
        """
        return reference.output(self.spec, self.weights, self.inputs_embeds, W_V, W_O)

    def target_output(self, W_V: np.ndarray, W_O: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the same with the patterns in place of the attention, and a bound on the error.

        For every head |(M V - A V)_ip| <= TV_i (max_j V_jp - min_j V_jp), V = U W_V^T W_O^T of that
        head (Theorem T8); the heads add up. What goes to a sink counts as a value of 0.

        Parameters
        ----------
        W_V, W_O : ndarray
            As in `output`.

        Returns
        -------
        output, bound : ndarray, shape (L, d)
        """
        U = reference.normed(self.spec, self.weights, self.inputs_embeds)
        total, bound = np.zeros((2, self.length, len(W_O)))
        for head, values in enumerate(reference.head_values(self.spec, U, W_V, W_O)):
            total += self._pattern(head) @ values
            low, high = values.min(axis=0), values.max(axis=0)
            if self.spec.sink is not False:
                low, high = np.minimum(low, 0), np.maximum(high, 0)
            bound += self.measure(head).row_total_variation[:, None] * (high - low)
        return total, bound

    def load_into(self, module: torch.nn.Module) -> torch.nn.Module:
        """Copy the weights into a PyTorch attention, layer or model; see `families.load_into`."""
        from .families import load_into

        return load_into(self, module)

    def save(self, path: str | Path) -> None:
        """Write ``inputs_embeds`` and the weights to a file; see `families.save`."""
        from .families import save

        save(self, path)
