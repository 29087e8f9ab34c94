"""Queries and keys whose attention is known entry by entry, with a certificate.

`make` draws a pattern and key codes, solves for the queries, rounds both to the number format that
a kernel takes, and then measures every row of what it made (`certificate`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls
from scipy.special import softmax

from ..errors import ConstructionError, ParameterError, check_choice, check_int, check_real, require
from ..logits import target_logits
from ..methods import interpolating_queries
from . import certificate, storage
from .certificate import measure_head, measure_rows, summarise, visible_logits
from .formats import FORMATS, exact_formats, to_format
from .geometry import keys_of, whitening
from .patterns import Pattern, pattern_of
from .scale import logit_scale_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import torch
    from numpy.typing import ArrayLike
    from scipy import sparse

    from ..blocks.rotary import Rope
    from .certificate import Certificate

ROUNDS = 25
"""How often a row that misses the margin is solved again, each time with more constraints."""

SLACK = 0.1
"""By how much the margin asked of such a row grows in each round, for what rounding takes back."""


@dataclass(frozen=True, eq=False)
class Workload:
    """Queries and keys with known causal attention; `make` and `load` return it.

    Attributes
    ----------
    Q : ndarray of float32, shape (H, L, m)
        As a kernel takes it: the attention is softmax(Q K^T / sqrt(m)) over the tokens up to i.
    K : ndarray of float32, shape (KV, L, m)
        Query head h reads key head h // (H / KV), as grouped heads do.
    patterns : tuple of Pattern
        Of each query head.
    certificate : Certificate
    settings : dict
        What `make` was asked for.
    """

    Q: np.ndarray = field(repr=False)
    K: np.ndarray = field(repr=False)
    patterns: tuple = field(repr=False)
    certificate: certificate.Certificate
    settings: dict

    def __post_init__(self):
        """Make the arrays read-only."""
        for array in (self.Q, self.K):
            array.setflags(write=False)

    @property
    def heads(self) -> int:
        """H, the number of query heads."""
        return self.Q.shape[0]

    @property
    def kv_heads(self) -> int:
        """KV, the number of key heads."""
        return self.K.shape[0]

    @property
    def length(self) -> int:
        """L, the number of tokens."""
        return self.Q.shape[1]

    @property
    def head_dim(self) -> int:
        """m, the query dimension."""
        return self.Q.shape[2]

    @property
    def truth(self) -> list[sparse.csr_array]:
        """The attention matrix of each query head, a list of csr arrays of shape (L, L)."""
        return [pattern.truth for pattern in self.patterns]

    def head(self, head: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (Q, K) of a query head, each of shape (L, m)."""
        head = check_int("head", head, minimum=0, maximum=self.heads - 1)
        return self.Q[head], self.K[head * self.kv_heads // self.heads]

    def logits(self, head: int, rows: ArrayLike) -> np.ndarray:
        """Return rows of Lambda, computed in double precision, -inf above the diagonal.

        Parameters
        ----------
        head : int
        rows : array_like of int, shape (n,)

        Returns
        -------
        ndarray of float64, shape (n, L)
        """
        Q, K = self.head(head)
        rows = np.atleast_1d(rows)
        logits = Q[rows].astype(np.float64) @ K.T.astype(np.float64) / np.sqrt(self.head_dim)
        logits[np.arange(self.length) > rows[:, None]] = -np.inf
        return logits

    def attention(self, head: int, rows: ArrayLike) -> np.ndarray:
        """Return rows of the attention matrix that Q and K have, shape (n, L); see `logits`."""
        return softmax(self.logits(head, rows), axis=1)

    def before_rope(self, rope: Rope) -> tuple[np.ndarray, np.ndarray]:
        """Return Q and K as a layer holds them before it rotates them by their positions.

        Parameters
        ----------
        rope : blocks.Rope
            ``rope.rotate`` of each head gives them back, up to rounding.

        Returns
        -------
        Q : ndarray of float64, shape (H, L, m)
        K : ndarray of float64, shape (KV, L, m)
        """
        positions = np.arange(self.length)
        return tuple(
            np.stack([rope.unrotate(head.astype(np.float64), positions) for head in heads])
            for heads in (self.Q, self.K)
        )

    def certify(
        self, number_format: str = "float32", progress: Callable | None = None
    ) -> Certificate:
        """Measure every row again, and return the certificate.

        Parameters
        ----------
        number_format : {"float32", "float16", "bfloat16"}, optional
            Round Q and K to this format first.
        progress : callable, optional
            Called as ``progress(rows done, rows in all)``.

        Returns
        -------
        Certificate

        Raises
        ------
        ParameterError
            Q or K is beyond the range of the format.
        """
        Q, K = (to_format(array, number_format) for array in (self.Q, self.K))
        reports = [
            measure_head(Q[head], K[head * self.kv_heads // self.heads], truth, progress)
            for head, truth in enumerate(self.truth)
        ]
        return summarise(reports, exact_formats(Q, K), self.certificate.solved_again)

    def save(self, path: str | Path) -> None:
        """Write everything as ``.npz`` or ``.safetensors`` (extra ``files``), atomically.

        Q and K are written in half precision where they are exact in it.

        Raises
        ------
        FileError
            Another suffix, or the file cannot be written.
        """
        storage.save(self, path)

    @classmethod
    def load(cls, path: str | Path, **limits: int) -> Workload:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path
        max_bytes : int, optional
            Refuse larger files.

        Returns
        -------
        Workload

        Raises
        ------
        FileError
            The file is missing, too large, truncated or not a workload.
        """
        return cls(**storage.load(path, **limits))

    def to_torch(
        self, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> dict[str, torch.Tensor]:
        """Return Q and K as PyTorch tensors of shape (1, H, L, m) and (1, KV, L, m), in a dict.

        Parameters
        ----------
        dtype : torch.dtype, optional
            float32 if None. A half precision loses nothing where `certificate.formats` has it.
        device : torch.device or str, optional

        Returns
        -------
        dict of str to torch.Tensor

        Raises
        ------
        MissingExtraError
            PyTorch is not installed (extra ``torch``).
        """
        torch = require("torch", "torch")
        return {
            name: torch.tensor(array[None], dtype=dtype, device=device)
            for name, array in (("Q", self.Q), ("K", self.K))
        }


def make(
    pattern: str | Pattern | ArrayLike | sparse.sparray | Sequence,
    length: int | None = None,
    *,
    head_dim: int = 128,
    heads: int | None = None,
    kv_heads: int = 1,
    geometry: str | Callable | ArrayLike = "random",
    logit_scale: float | None = None,
    total_variation: float = 0.05,
    leak: float = 0.5,
    number_format: str = "bfloat16",
    rng: int | np.random.Generator | None = None,
    progress: Callable | None = None,
    **options: float,
) -> Workload:
    """Make queries and keys whose causal attention is a pattern, and certify them.

    Costs O(H L^2 m) time, most of it for the certificate, and memory for Q and K in double
    precision: a head of 131 072 tokens takes a minute or two.

    Parameters
    ----------
    pattern : str, Pattern, array_like or sparse array, or a sequence of these
        A name in `patterns.PATTERNS`, or a causal right-stochastic matrix; a list has one for each
        query head. Every head with a named pattern draws its own.
    length : int, optional
        L; needed for a named pattern.
    head_dim : int, optional
        m.
    heads, kv_heads : int, optional
        H and KV; H is a multiple of KV, and by default the length of the list, or KV.
    geometry : {"random", "smooth", "clustered", "outlier", "anisotropic"}, callable or ndarray
        What the keys are like: a name or a function of `workloads.geometry`, or keys given, of
        shape (L, m) or (KV, L, m), for which only the queries are solved.
    logit_scale : float, optional
        tau: the logit of a row's smallest entry, against a mean of 0 off the support. If None, the
        least one with the total variation asked for, by `scale.logit_scale_for`.
    total_variation : float, optional
        What to expect of the worst row. The certificate says what it is.
    leak : float, optional
        eps2 in (0, 1): every logit on the support exceeds every visible one off it by log(1/eps2)
        at least, in every row. Rows of which the least-norm query misses this are solved again.
    number_format : {"float32", "float16", "bfloat16"}, optional
        What Q and K are rounded to. "bfloat16" is exact in the other two as well.
    rng : int or numpy.random.Generator, optional
        Patterns and keys are drawn from two streams of it.
    progress : callable, optional
        Called as ``progress(rows done, rows in all)``.
    **options
        Of the named pattern, such as ``count`` and ``weight``.

    Returns
    -------
    Workload

    Raises
    ------
    ParameterError, TargetError
        An argument is out of range, or a pattern is not causal.
    ConstructionError
        The rows have more entries than the head size can show, or a row misses the leak.

    Examples
    --------
    >>> w = make("needles", 1024, head_dim=64, count=1, rng=0)
    >>> w.Q.shape, w.K.shape, w.certificate.formats
    ((1, 1024, 64), (1, 1024, 64), ('float32', 'float16', 'bfloat16'))
    >>> w.certificate.leak <= 0.5
    True
    >>> bool(abs(w.attention(0, [1000]) - w.truth[0][[1000]].toarray()).sum() < 0.2)
    True
    """
    head_dim, kv_heads = check_int("head_dim", head_dim, minimum=2), check_int("kv_heads", kv_heads)
    check_choice("number_format", number_format, FORMATS)
    leak = check_real("leak", leak, above=0, below=1)
    kinds = _per_head(pattern, heads, kv_heads)
    if rng is not None and not isinstance(rng, np.random.Generator):
        rng = check_int("rng", rng, minimum=0)
    pattern_rng, key_rng = np.random.default_rng(rng).spawn(2)
    drawn = tuple(
        pattern_of(kind, length, part, options)
        for kind, part in zip(kinds, pattern_rng.spawn(len(kinds)), strict=True)
    )
    length = drawn[0].length
    if any(one.length != length for one in drawn):
        raise ParameterError(f"pattern: heads of {sorted({p.length for p in drawn})} tokens")
    if logit_scale is None:
        logit_scale = max(logit_scale_for(p.truth, head_dim, total_variation) for p in drawn)
    logit_scale = check_real("logit_scale", logit_scale, above=-np.log(leak))
    K = to_format(keys_of(geometry, kv_heads, length, head_dim, key_rng), number_format)
    solved = []
    for head, one in enumerate(drawn):
        keys = K[head * kv_heads // len(drawn)]
        solved.append(_solve(one.truth, keys, logit_scale, -np.log(leak), number_format, progress))
    queries, reports, again = zip(*solved, strict=True)
    Q = np.stack(queries)
    settings = {
        "pattern": [kind if isinstance(kind, str) else "given" for kind in kinds],
        "options": options,
        "geometry": geometry if isinstance(geometry, str) else _name(geometry),
        "logit_scale": logit_scale,
        "leak": leak,
        "number_format": number_format,
        "seed": rng if isinstance(rng, int) else None,
    }
    return Workload(Q, K, drawn, summarise(reports, exact_formats(Q, K), sum(again)), settings)


def _per_head(pattern, heads, kv_heads):
    """Return the kind of pattern of each query head."""
    if isinstance(pattern, (list, tuple)):
        if heads is not None and heads != len(pattern):
            raise ParameterError(f"heads={heads}: {len(pattern)} patterns are given")
        kinds = list(pattern)
    else:
        kinds = [pattern] * (kv_heads if heads is None else check_int("heads", heads))
    if not kinds or len(kinds) % kv_heads:
        raise ParameterError(f"heads={len(kinds)}: must be a multiple of kv_heads={kv_heads}")
    return kinds


def _name(geometry):
    return getattr(geometry, "__name__", "function") if callable(geometry) else "given"


def _solve(truth, keys, logit_scale, margin, number_format, progress):
    """Return Q of one head, its report, and how many rows were solved again."""
    mu, W = whitening(keys)
    codes = (keys - mu) @ W
    B = target_logits(truth, logit_scale)
    least_norm = interpolating_queries(B, codes)
    longest_key, root = certificate.longest(keys), np.sqrt(keys.shape[1])
    Q = np.empty(keys.shape, dtype=np.float32)
    parts, again = [], 0

    def stored(queries):
        return to_format(root * queries @ W.T, number_format)

    def measured(some, rows):
        logits = visible_logits(some, keys, rows)
        return measure_rows(logits, some, keys, truth[rows], longest_key)

    def measured_row(query, row):
        some = stored(query[None])
        logits = visible_logits(some, keys, np.array([row]))[0]
        return some[0], logits, certificate.rounding_allowance(some, longest_key)[0]

    for rows in certificate.causal_blocks(len(keys)):
        block = stored(least_norm[rows])
        report = measured(block, rows)
        missed = np.nonzero(report.margin < margin)[0]
        for at in missed:
            block[at] = _with_margin(rows[at], least_norm[rows[at]], codes, B, margin, measured_row)
        if len(missed):
            again += len(missed)
            report = measured(block, rows)
        Q[rows] = block
        parts.append(report)
        if progress is not None:
            progress(int(rows[-1]) + 1, len(keys))
    return Q, certificate.joined(parts), again


def _with_margin(row, query, codes, B, margin, measured_row):
    """Return the shortest query with the same logits on the support, and the margin off it.

    The tokens that come too close are constraints; with them the query is the solution of a
    least-distance problem, as in Theorem T9, but with the logits on the support held.
    """
    of_row = slice(B.indptr[row], B.indptr[row + 1])
    support, smallest = B.indices[of_row], B.data[of_row].min()
    C = codes[support]
    inverse = np.linalg.pinv(C)
    close, changed = np.zeros(0, dtype=np.int64), query
    for attempt in range(1, ROUNDS + 1):
        as_stored, logits, rounding = measured_row(changed, row)
        # Two single-precision sums and the certificate's allowance: 4 roundings at the most.
        limit = logits[support].min() - margin - 4 * rounding
        logits[support] = -np.inf
        too_close = np.nonzero(logits > limit)[0]
        if not len(too_close):
            return as_stored
        close = np.union1d(close, too_close)
        excess = codes[close] @ query - (smallest - margin - SLACK * attempt)
        free = codes[close] - (codes[close] @ inverse) @ C
        step = _least_distance(-free, excess)
        if step is None:
            break
        changed = query + step
    raise ConstructionError(
        f"row {row}: no query was found that keeps {len(close)} tokens {margin:.3g} below its "
        "support; raise leak, head_dim or logit_scale"
    )


def _least_distance(G, h):
    """Return the shortest y with G y >= h, or None (Lawson and Hanson 1974, chapter 23)."""
    unit = np.abs(h).max()
    system = np.vstack([G.T, h / unit])
    last = np.zeros(len(system))
    last[-1] = 1.0
    multipliers, _ = nnls(system, last)
    residual = system @ multipliers - last
    return None if residual[-1] > -1e-12 else -unit * residual[:-1] / residual[-1]


def load(path: str | Path, **limits: int) -> Workload:
    """Read a workload; as `Workload.load`."""
    return Workload.load(path, **limits)


__all__ = ["Pattern", "Workload", "load", "make"]
