"""The first verb: from a target A to the input X of the fixed attention module.

`construct` checks the target, lets the method choose the dimension, and builds queries and keys;
when asked to, it measures and draws again until the precision is met. The methods themselves are in
`methods`, one module a theorem.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from . import methods
from .codes import GivenCodes
from .codes.base import check_dtype
from .errors import ConstructionError, ParameterError, check_int, check_real
from .head import Construction
from .interop.mapped import MappedLogits, MappedTarget
from .logits import target_logits
from .methods import METHODS, interpolating_queries, least_norm_queries
from .precision import measure_checked
from .theory.total_variation import leak_for_checked_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from numpy.typing import ArrayLike, DTypeLike
    from scipy import sparse

    from .codes import Codes
    from .codes.base import Seed
    from .methods import Method

__all__ = [
    "METHODS",
    "Construction",
    "construct",
    "interpolate",
    "interpolating_queries",
    "least_norm_queries",
    "row_projection",
    "svd_projection",
]


def construct(
    target: ArrayLike | sparse.sparray | MappedTarget,
    method: str | Method = "interpolate",
    *,
    ratio_error: float = 0.0,
    leak: float | None = None,
    total_variation: float | None = None,
    dim: int | None = None,
    failure_prob: float = 0.01,
    logit_scale: float | None = None,
    rng: Seed = None,
    retries: int = 0,
    dtype: DTypeLike = np.float64,
    keys: np.ndarray | Codes | None = None,
    executor: Executor | None = None,
    progress: Callable | None = None,
) -> Construction:
    """Build the input that makes the fixed self-attention module approximate `target`.

    Parameters
    ----------
    target : array_like or scipy.sparse array, shape (L, L), or targets.MappedTarget
        Right-stochastic, see `targets.check_target`.
    method : str or methods.Method, optional
        "interpolate" (Theorem T3), "svd_projection" (T1), "row_projection" (T2), "moment_curve"
        (T5) or "max_margin" (T9), each with its default settings, or a method object.
    ratio_error : float, optional
        eps1 of (P1). Must be positive for the two projection methods; the others make the ratios
        exact whatever it is.
    leak : float, optional
        eps2 of (P2), in (0, 1); 0.01 if None.
    total_variation : float, optional
        In place of `leak`: the total variation distance of a row that is wanted, in (0, 1).
        Theorem T8 chooses the leak from it.
    dim : int, optional
        Query dimension m. If None, the least m that the method's theorem allows for this target,
        and never more than L: at m = L an exact factorisation is free.
    failure_prob : float, optional
        eta in (0, 1): how often, over `rng`, the theorem's m may miss the precision.
    logit_scale : float, optional
        tau; the method's own if None.
    rng : int, numpy.random.SeedSequence, numpy.random.Generator or None, optional
        Seed or generator of the random codes; the same seed gives the same result, and no seed
        shares numbers with a target drawn from it.
    retries : int, optional
        With `retries` > 0 the result is measured and drawn again, at most that many times more,
        until it meets what was asked: a Las Vegas algorithm, whose measurement is the certificate.
    dtype : {numpy.float64, numpy.float32}, optional
        Of queries and keys.
    keys : ndarray or codes.Codes, shape (L, m), optional
        Keep these key codes instead of drawing new ones, so that several targets are served by
        the same keys; for "interpolate" and "max_margin". They fix `dim` and `dtype`, and `rng` is
        not used. The theorems' promises hold for codes drawn independently of the target.
    executor : concurrent.futures.Executor, optional
        Maps blocks of rows, see `engine.run`.
    progress : callable, optional
        Called as ``progress(done, total)``, rows of the current draw, by methods that solve row by
        row.

    Returns
    -------
    Construction

    Raises
    ------
    TargetError
        The target is not right-stochastic.
    ParameterError
        An argument is out of range, or the input would not fit into memory.
    ConstructionError
        The method cannot work at this dimension, or every draw missed the precision.

    Examples
    --------
    >>> from jl_attention import measure, targets
    >>> target = targets.causal_window(512, 3, rng=0)
    >>> built = construct(target, leak=0.01, rng=1)
    >>> built.meets(measure(built, target)), built.dim < 512
    (True, True)
    """
    method = methods.get(method).in_batch()
    target = method.read(target)
    length = target.shape[0]
    if total_variation is not None:
        if leak is not None:
            raise ParameterError(f"leak={leak!r}: give it or total_variation, not both")
        leak = leak_for_checked_target(target, total_variation, ratio_error)
    precision = method.precision(ratio_error, 0.01 if leak is None else leak, logit_scale)
    failure_prob = check_real("failure_prob", failure_prob, above=0, below=1)
    retries = check_int("retries", retries, minimum=0)
    dtype = check_dtype(dtype)
    if keys is not None:
        keys = _given_codes(keys, method, length, dim, retries)
        dim, dtype = keys.dim, keys.dtype
    grows = dim is None and keys is None
    if dim is None:
        dim = method.required_dim_for_target(target, precision, failure_prob)
        method, dim = method.within_length(length, dim)
    dim = check_int("dim", dim)
    _check_memory(length, dim, dtype)
    wanted = MappedLogits if isinstance(target, MappedTarget) else target_logits
    logits = wanted(target, precision[2])
    options = {"keys": keys, "executor": executor, "progress": progress}
    for seed in _seeds(rng, retries):
        queries, codes = _draw(method, logits, dim, seed, dtype, options, grows)
        built = Construction(
            queries,
            codes.array(),
            method.name,
            *precision[:2],
            failure_prob,
            precision[2],
            total_variation,
            codes,
        )
        if not retries:
            return built
        report = measure_checked(built, target, executor=executor)
        if built.meets(report):
            return built
    raise ConstructionError(
        f"dim={dim}: none of {1 + retries} draws met ratio_error={built.ratio_error:g}, "
        f"leak={built.leak:g}; the last one had {report.ratio_error:.3g} and {report.leak:.3g}"
    )


def _seeds(rng, retries):
    """Yield a seed for each draw; the first is the one that a single draw would have."""
    if isinstance(rng, np.random.Generator):
        yield from (rng for _ in range(1 + retries))
    else:
        yield rng
        if retries:
            root = rng if isinstance(rng, np.random.SeedSequence) else np.random.SeedSequence(rng)
            yield from root.spawn(retries)


def _draw(method, logits, dim, rng, dtype, options, grows):
    """Build; where the dimension was ours to choose, raise it until the draw works."""
    while True:
        try:
            return method.build(logits, dim, rng, dtype, **options)
        except ConstructionError:
            if not grows or dim >= logits.shape[0]:
                raise
            dim = min(dim + -(-dim // 8), logits.shape[0])


def _given_codes(keys, method, length, dim, retries):
    """Return given key codes as an object, or refuse them."""
    if not method.keeps_keys:
        keeps = ", ".join(repr(name) for name, kind in METHODS.items() if kind.keeps_keys)
        raise ParameterError(f"keys: method {method.name!r} chooses its own; {keeps} take them")
    if retries:
        raise ParameterError(f"retries={retries}: with given keys there is nothing to draw again")
    codes = GivenCodes(keys) if not hasattr(keys, "array") else keys
    if codes.length != length:
        raise ParameterError(f"keys of shape {codes.shape}: expected ({length}, m)")
    if dim is not None and dim != codes.dim:
        raise ParameterError(f"dim={dim}: the keys given have dimension {codes.dim}")
    return codes


def _check_memory(length, dim, dtype):
    """Refuse queries and keys that this machine cannot hold."""
    if not hasattr(os, "sysconf"):  # not a POSIX system: let the allocation itself fail
        return
    needed = 2 * length * dim * dtype.itemsize
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise ParameterError(
            f"dim={dim}: queries and keys for length={length} would take {needed / 1e9:.3g} GB of "
            f"the machine's {memory / 1e9:.3g} GB; pass a smaller dim or ask for less precision"
        )


# --- The methods as functions of target logits ---------------------------------------------------


def svd_projection(
    B: sparse.csr_array, dim: int, rng: Seed = None, dtype: DTypeLike = np.float64
) -> tuple[np.ndarray, np.ndarray]:
    """Return queries and keys of `methods.SVDProjection` for target logits B."""
    return _built(methods.SVDProjection(), B, dim, rng, dtype)


def row_projection(
    B: sparse.csr_array, dim: int, rng: Seed = None, dtype: DTypeLike = np.float64
) -> tuple[np.ndarray, np.ndarray]:
    """Return queries and keys of `methods.RowProjection` for target logits B."""
    return _built(methods.RowProjection(), B, dim, rng, dtype)


def interpolate(
    B: sparse.csr_array,
    dim: int,
    rng: Seed = None,
    dtype: DTypeLike = np.float64,
    *,
    keys: np.ndarray | None = None,
    progress: Callable | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return queries and keys of `methods.Interpolate` on Gaussian codes for target logits B."""
    keys = None if keys is None else GivenCodes(keys)
    method = methods.Interpolate("gaussian")
    return _built(method, B, dim, rng, dtype, keys=keys, progress=progress)


def _built(method, B, dim, rng, dtype, **options):
    queries, codes = method.build(B, check_int("dim", dim), rng, check_dtype(dtype), **options)
    return queries, codes.array()
