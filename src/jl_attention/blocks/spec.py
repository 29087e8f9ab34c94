"""What an attention block is, as far as its attention goes: `BlockSpec`.

A block takes hidden states X (L x d) and computes, for query head h and its key head,

    U = norm(X),  q_i = R_i norm_q(W_Q u_i + b_Q),  k_j = R_j norm_k(W_K u_j + b_K),
    z_ij = s <q_i, k_j>,  then c tanh(z_ij / c),  then + slope (j - i),
    M_ij = exp(z_ij) / (exp(sink) + sum over visible j' of exp(z_ij')),

each step only where the block has it. `reference` computes it, `compile` inverts it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ParameterError, check_choice, check_int, check_real
from .rotary import Rope

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "NORMS",
    "BlockSpec",
]

NORMS = ("rms", "layer", None)


@dataclass(frozen=True)
class BlockSpec:
    """The shape and the features of an attention block.

    Parameters
    ----------
    hidden_size : int
        d, the length of a token's vector.
    query_heads, kv_heads : int
        H and how many key heads they share, H/kv_heads query heads in a row a key head.
    head_dim : int
        m, the length of a query.
    norm : {"rms", "layer", None}, optional
        What normalises a token's vector before the projections.
    rope : Rope, optional
        Rotary position embedding.
    bias : bool, optional
        Whether the projections to queries and keys have a bias.
    qk_norm : bool or float, optional
        Whether each query and key is normalised to a mean square of 1 after its projection; a
        number is the gain that multiplies it then (True is 1).
    softcap : float, optional
        c: a logit z becomes c tanh(z/c).
    sink : bool or float, optional
        Whether a logit per head enters the softmax and its column is dropped; a number is that
        logit (True is 0).
    window : int, optional
        A token sees itself and the window - 1 tokens before it; needs `causal`.
    scale : float, optional
        s, what <q, k> is multiplied by; 1/sqrt(m) if None.
    causal : bool, optional
        Whether a token sees itself and the tokens before it only.
    alibi : bool or tuple of float, optional
        Slopes, one a query head, of a logit's linear loss with distance (True is 2^(-8 h/H),
        h = 1, ..., H); needs `causal`.
    norm_eps : float, optional
        What the norms add to the mean square or the variance.
    radius : float, optional
        s |q| |k| that the fixed weights allow where a norm bounds X; it sets their gain, which the
        patterns do not change.
    family : str, optional
        Whose names the weights have where they are loaded, a key of `families.FAMILIES`.

    Raises
    ------
    ParameterError
        An argument is out of range.

    Examples
    --------
    >>> spec = BlockSpec(hidden_size=512, query_heads=4, kv_heads=1, head_dim=64, rope=Rope())
    >>> spec.room
    (64, 321)
    """

    hidden_size: int
    query_heads: int
    kv_heads: int
    head_dim: int
    norm: str | None = "rms"
    rope: Rope | None = None
    bias: bool = False
    qk_norm: bool | float = False
    softcap: float | None = None
    sink: bool | float = False
    window: int | None = None
    scale: float | None = None
    causal: bool = True
    alibi: bool | tuple = False
    norm_eps: float = 1e-6
    radius: float = 1024.0
    family: str = "llama"

    def __post_init__(self):
        for name in ("hidden_size", "query_heads", "kv_heads", "head_dim"):
            check_int(name, getattr(self, name))
        if self.query_heads % self.kv_heads:
            raise ParameterError(
                f"query_heads={self.query_heads}: must be a multiple of kv_heads={self.kv_heads}"
            )
        check_choice("norm", self.norm, NORMS)
        if self.rope is not None:
            if not isinstance(self.rope, Rope):
                raise ParameterError(f"rope={self.rope!r}: expected a blocks.Rope or None")
            self.rope.rotated(self.head_dim)
        for name in ("qk_norm", "sink"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                check_real(name, value, above=0 if name == "qk_norm" else None)
        if self.qk_norm and self.rope and self.rope.factor != 1 and self.rope.fraction != 1:
            raise ParameterError("rope: qk_norm with a factor needs fraction=1")
        if self.softcap is not None:
            check_real("softcap", self.softcap, above=0)
        if self.scale is not None:
            check_real("scale", self.scale, above=0)
        if self.window is not None:
            check_int("window", self.window)
        if not self.causal and (self.window is not None or self.alibi):
            raise ParameterError("causal=False: window and alibi are for causal blocks only")
        if self.alibi is not True and self.alibi is not False:
            slopes = tuple(check_real("alibi", slope, at_least=0) for slope in self.alibi)
            if len(slopes) != self.query_heads:
                raise ParameterError(
                    f"alibi: {len(slopes)} slopes for query_heads={self.query_heads}"
                )
            object.__setattr__(self, "alibi", slopes)
        check_real("norm_eps", self.norm_eps, at_least=0)
        check_real("radius", self.radius, above=0)

    # --- what the block computes with ---

    @property
    def group(self) -> int:
        """g, the number of query heads that share a key head."""
        return self.query_heads // self.kv_heads

    @property
    def logit_factor(self) -> float:
        """s, what <q, k> is multiplied by."""
        return self.head_dim**-0.5 if self.scale is None else float(self.scale)

    @property
    def qk_gain(self) -> float | None:
        """The gain of the queries' and keys' own norm, or None without one."""
        return float(self.qk_norm) if self.qk_norm else None

    @property
    def qk_length(self) -> float:
        """Length of every query and key with QK-norm, for a projection of mean square 1/2."""
        factor = self.rope.factor if self.rope else 1.0
        return factor * self.qk_gain * math.sqrt(self.head_dim / (1 + 2 * self.norm_eps))

    @property
    def sink_logit(self) -> float:
        """The sink's logit, minus infinity without one."""
        if self.sink is False:
            return -math.inf
        return 0.0 if self.sink is True else float(self.sink)

    @property
    def slopes(self) -> np.ndarray:
        """ALiBi's slope of every query head, shape (H,); zeros without it."""
        heads = np.arange(1, self.query_heads + 1)
        if self.alibi is True:
            return 2.0 ** (-8 * heads / self.query_heads)
        return np.array(self.alibi) if self.alibi else np.zeros(len(heads))

    def first_visible(self, rows: np.ndarray) -> np.ndarray:
        """Return the first token that each of these rows sees."""
        rows = np.asarray(rows)
        return np.zeros_like(rows) if self.window is None else np.maximum(rows - self.window + 1, 0)

    def visible_counts(self, length: int) -> np.ndarray:
        """Return how many tokens each of `length` rows sees, shape (L,)."""
        rows = np.arange(length)
        if not self.causal:
            return np.full(length, length)
        return rows + 1 - self.first_visible(rows)

    # --- what the hidden size has room for ---

    @property
    def spare(self) -> int:
        """Coordinates of X that the norm needs: one for the length, one more for the mean."""
        return {"rms": 1, "layer": 2, None: 0}[self.norm]

    def needed_hidden_size(self, dim: int, heads: Iterable[int] | None = None) -> int:
        """Return (g + 1) m + what the norm needs, for all key heads: the least hidden size.

        Parameters
        ----------
        dim : int
            Coordinates of a head that are used, at most `head_dim`.
        heads : iterable of int, optional
            The query heads that are given a pattern; all of them if None.
        """
        heads = range(self.query_heads) if heads is None else heads
        return (len(set(heads)) + len({head // self.group for head in heads})) * dim + self.spare

    @property
    def room(self) -> tuple[int, int]:
        """(m, d): the most coordinates a head can use with all heads, and what that needs."""
        dim = self.largest_dim()
        return dim, self.needed_hidden_size(dim)

    def largest_dim(self, heads: Iterable[int] | None = None) -> int:
        """Return the most coordinates a head can use: whole rotary pairs only; 0 if none."""
        one = self.needed_hidden_size(1, heads) - self.spare
        return self.usable(min(self.head_dim, (self.hidden_size - self.spare) // one))

    def usable(self, dim: int) -> int:
        """Return the largest number of coordinates up to `dim` that splits no rotary pair."""
        if self.rope is None:
            return dim
        still = self.head_dim - self.rope.rotated(self.head_dim)
        return dim if dim <= still else dim - (dim - still) % 2

    def coordinates(self, dim: int) -> np.ndarray:
        """Return the coordinates of a head that are used, in order, shape (dim,).

        Those that are not rotated first, then the slowest pairs, whose angles lose the fewest
        digits at far positions.
        """
        if self.rope is None:
            return np.arange(dim)
        rotated = self.rope.rotated(self.head_dim)
        pairs = self.rope.pairs(self.head_dim)[::-1].ravel()
        return np.sort(np.append(np.arange(rotated, self.head_dim), pairs)[:dim])
