"""The construction algorithms: from a target A to the input X of the fixed attention module.

Each method is one function ``(B, dim, rng, dtype) -> (queries, keys)`` in `METHODS`:

- ``svd_projection`` (Theorem T1, the paper's way): project the two halves of the SVD of B;
- ``row_projection`` (T2): project the rows of B and the identity; only rows need be sparse;
- ``interpolate`` (T3): solve for the query on the support; the ratios are exact;
- ``moment_curve`` (T5): keys on a moment curve, polynomials as queries; m = 2k, huge logits;
- ``max_margin`` (T9): for random unit keys the shortest query with exact ratios and a given gap.

`construct` chooses the dimension, runs the method and, when asked to, retries until the measured
precision is the one asked for.
"""

import os
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.special import softmax

from . import attention, files
from .dimensions import required_dim_for_target
from .errors import ConstructionError, ParameterError, check_choice, check_int, check_real
from .factorisation import balanced_factors, connected_blocks
from .logits import check_precision, target_logits
from .max_margin import max_margin
from .moment_curve import moment_curve
from .precision import measure
from .targets import check_target

MAX_CONDITION = 1e12
"""Largest accepted condition number of a Gram matrix; beyond it few digits of a query are left."""

BLOCK_BYTES = 2**22
"""Memory for one block of gathered key codes: it should stay in a core's cache."""


@dataclass(frozen=True)
class Construction:
    """Queries and keys for a target, and the input of the fixed module that carries them.

    Attributes
    ----------
    queries, keys : ndarray, shape (L, m)
        X1 and X2; the logits are Lambda = X1 X2^T.
    method : str
        A key of `METHODS`.
    ratio_error, leak : float
        The precision (eps1, eps2) asked for.
    failure_prob : float
        eta: the probability, over the random projection, that the precision may be missed. A
        promise only where `dim` is at least the theorem's.
    logit_scale : float
        tau, the gap of the target logits B.
    """

    queries: np.ndarray = field(repr=False)
    keys: np.ndarray = field(repr=False)
    method: str
    ratio_error: float
    leak: float
    failure_prob: float
    logit_scale: float

    @property
    def length(self):
        """L, the sequence length."""
        return self.queries.shape[0]

    @property
    def dim(self):
        """m, the query dimension; the hidden size is d = 2m."""
        return self.queries.shape[1]

    @cached_property
    def X(self):
        """The module's input [X1 | X2], shape (L, 2m)."""
        return attention.attention_input(self.queries, self.keys)

    @property
    def W_Q(self):
        """The fixed query parameters, shape (2m, m); they depend on m alone."""
        return attention.fixed_parameters(self.dim, self.queries.dtype)[0]

    @property
    def W_K(self):
        """The fixed key parameters, shape (2m, m); they depend on m alone."""
        return attention.fixed_parameters(self.dim, self.queries.dtype)[1]

    def logits(self, rows=slice(None)):
        """Return the rows (slice or index array) of Lambda, shape (n, L).

        Computed as X1 X2^T, which `attention.self_attention_logits` equals up to rounding.
        """
        return self.queries[rows] @ self.keys.T

    def attention(self, rows=slice(None)):
        """Return the rows (slice or index array) of M = softmax of Lambda, shape (n, L)."""
        return softmax(self.logits(rows), axis=1)

    def meets(self, report):
        """Return whether a `precision.PrecisionReport` has the precision asked for.

        Ratios that are exact are so up to rounding only, which grows with the logits.
        """
        rounding = 1e4 * np.finfo(self.queries.dtype).eps * max(1.0, report.max_abs_logit)
        return report.meets(self.ratio_error + rounding, self.leak)

    def save(self, path):
        """Write X, W_Q, W_K, Q, K as ``.npz`` or ``.safetensors``; see `files.save`."""
        files.save(self, path)

    @classmethod
    def load(cls, path, **limits):
        """Read a construction that `save` wrote; arguments and `FileError` as in `files.load`."""
        return cls(**files.load(path, **limits))

    def to_torch(self, *, dtype=None, device=None):
        """Return X, W_Q, W_K, Q, K as PyTorch tensors in a dict; see `files.to_torch`."""
        return files.to_torch(self, dtype=dtype, device=device)


def construct(
    target,
    method="interpolate",
    *,
    ratio_error=0.0,
    leak=0.01,
    dim=None,
    failure_prob=0.01,
    logit_scale=None,
    rng=0,
    retries=0,
    dtype=np.float64,
    keys=None,
    progress=None,
):
    """Build the input that makes the fixed self-attention module approximate `target`.

    Parameters
    ----------
    target : array_like or scipy.sparse array, shape (L, L)
        Right-stochastic, see `targets.check_target`.
    method : {"interpolate", "svd_projection", "row_projection", "moment_curve", "max_margin"}
        Theorem T3, T1, T2, T5 or T9.
    ratio_error : float, optional
        eps1 of (P1). Must be positive for the two projection methods; "interpolate" makes the
        ratios exact whatever it is.
    leak : float, optional
        eps2 of (P2), in (0, 1).
    dim : int, optional
        Query dimension m. If None, the least m that the method's theorem allows for this target;
        for "max_margin", which has an estimate only, the first that works from there upwards.
    failure_prob : float, optional
        eta in (0, 1): how often, over `rng`, the theorem's m may miss the precision.
    logit_scale : float, optional
        tau. If None, log((1 + eps1)/eps2) for the projection methods, 3 log(1/eps2) for
        "interpolate", log(1/eps2) and a little for the other two.
    rng : int or numpy.random.Generator, optional
        Seed or generator of the random codes; the same seed gives the same result.
    retries : int, optional
        With `retries` > 0 the result is measured and drawn again, at most that many times more,
        until it meets (eps1, eps2): a Las Vegas algorithm, whose measurement is the certificate.
    dtype : {numpy.float64, numpy.float32}, optional
        Of queries and keys.
    keys : ndarray, shape (L, m), optional
        Keep these key codes instead of drawing new ones, so that several targets are served by
        the same keys; only for "interpolate". They fix `dim` and `dtype`, and `rng` is not used.
        The promise of T3 holds for Gaussian codes drawn independently of the target.
    progress : callable, optional
        Called as ``progress(done, total)``, rows of the current draw; only "interpolate" calls it.

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
    """
    check_choice("method", method, METHODS)
    target = check_target(target)
    ratio_error, leak, logit_scale = check_precision(method, ratio_error, leak, logit_scale)
    failure_prob = check_real("failure_prob", failure_prob, above=0, below=1)
    retries = check_int("retries", retries, minimum=0)
    dtype = np.dtype(dtype)
    if dtype not in (np.float64, np.float32):
        raise ParameterError(f"dtype={dtype}: expected float64 or float32")
    options = {"progress": progress} if method in KEYED_METHODS else {}
    if keys is not None:
        options["keys"] = keys = _check_keys(keys, method, target.shape[0], dim, retries)
        dim, dtype = keys.shape[1], keys.dtype
    grows = dim is None and method in ESTIMATED_METHODS
    if dim is None:
        dim = required_dim_for_target(
            target, method, ratio_error, leak, failure_prob=failure_prob, logit_scale=logit_scale
        )
    dim = check_int("dim", dim)
    _check_memory(target.shape[0], dim, dtype)
    rng = np.random.default_rng(rng)
    logits = target_logits(target, logit_scale)
    for _ in range(1 + retries):
        queries, keys = _draw(method, logits, dim, rng, dtype, options, grows)
        built = Construction(queries, keys, method, ratio_error, leak, failure_prob, logit_scale)
        if not retries:
            return built
        report = measure(built, target)
        if built.meets(report):
            return built
    raise ConstructionError(
        f"dim={dim}: none of {1 + retries} draws met ratio_error={ratio_error:g}, leak={leak:g}; "
        f"the last one had {report.ratio_error:.3g} and {report.leak:.3g}"
    )


def _draw(method, logits, dim, rng, dtype, options, grows):
    """Run a method; where its dimension is an estimate, raise it by a quarter until it works."""
    while True:
        try:
            return METHODS[method](logits, dim, rng, dtype, **options)
        except ConstructionError:
            if not grows or dim >= logits.shape[0]:
                raise
            dim += -(-dim // 4)


def _check_keys(keys, method, length, dim, retries):
    """Return given key codes as an array, or refuse them."""
    if method not in KEYED_METHODS:
        raise ParameterError(f"keys: method {method!r} chooses its own; {KEYED_METHODS} take them")
    if retries:
        raise ParameterError(f"retries={retries}: with given keys there is nothing to draw again")
    keys = np.asarray(keys)
    if keys.dtype not in (np.float64, np.float32) or keys.ndim != 2 or len(keys) != length:
        raise ParameterError(
            f"keys of shape {keys.shape} and dtype {keys.dtype}: expected ({length}, m) of float64 "
            "or float32"
        )
    if dim is not None and dim != keys.shape[1]:
        raise ParameterError(f"dim={dim}: the keys given have dimension {keys.shape[1]}")
    finite = np.isfinite(keys).all(axis=1)
    if not finite.all():
        raise ParameterError(f"keys: row {int(np.argmin(finite))}: is not finite")
    return keys


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


def svd_projection(B, dim, rng, dtype=np.float64):
    """Project the balanced halves of B's singular value decomposition (Theorem T1).

    B = U Sigma V^T; X1 = U Sigma^(1/2) V^T G^T, X2 = V Sigma^(1/2) V^T G^T with G an m x L
    Gaussian matrix of variance 1/m, so that X1 X2^T has mean B. The rotation V^T changes nothing
    in the law and makes the result a function of B and G alone, see `factorisation`.

    Rows and columns of B that no chain of nonzeros connects are decomposed on their own, so a
    block pattern costs the sum of its blocks; a connected one costs a dense SVD, O(L^3) time and
    O(L^2) memory.

    Parameters
    ----------
    B : scipy.sparse.csr_array, shape (L, L)
        Target logits (`logits.target_logits`).
    dim : int
        m.
    rng : numpy.random.Generator
    dtype : {numpy.float64, numpy.float32}, optional

    Returns
    -------
    queries, keys : ndarray, shape (L, m)
    """
    length = B.shape[0]
    queries = np.zeros((length, dim), dtype=dtype)
    keys = np.zeros((length, dim), dtype=dtype)
    for rows, columns in connected_blocks(B):
        left, right = balanced_factors(B[rows][:, columns].toarray())
        projection = _gaussian(left.shape[1], dim, rng, dtype) / np.sqrt(dim, dtype=dtype)
        queries[rows] = left.astype(dtype) @ projection
        keys[columns] = right.astype(dtype) @ projection
    return queries, keys


def row_projection(B, dim, rng, dtype=np.float64):
    """Project the trivial factorisation B = B I (Theorem T2).

    Keys are random codes, X2 = G^T with variance 1/m; the query X1 = B G^T is the B-weighted sum
    of the codes it wants. Costs O(nnz(B) m), and columns may be dense. Parameters and returns as
    in `svd_projection`.
    """
    keys = _gaussian(B.shape[0], dim, rng, dtype) / np.sqrt(dim, dtype=dtype)
    return B.astype(dtype) @ keys, keys


def interpolate(B, dim, rng, dtype=np.float64, *, keys=None, progress=None):
    """Draw Gaussian key codes and solve for the queries on the support (Theorem T3).

    Row i's query is the least-norm solution of <q_i, c_j> = B_ij for j in S_i. Costs O(L k^2 m).

    Parameters
    ----------
    B, dim, rng, dtype
        As in `svd_projection`.
    keys : ndarray, shape (L, m), optional
        Codes to use in place of fresh ones; `dim`, `rng` and `dtype` are then not looked at.
    progress : callable, optional
        As in `interpolating_queries`.

    Returns
    -------
    queries, keys : ndarray, shape (L, m)

    Raises
    ------
    ConstructionError
        As `interpolating_queries`.
    """
    if keys is None:
        keys = _gaussian(B.shape[0], dim, rng, dtype)
    return interpolating_queries(B, keys, progress=progress), keys


def interpolating_queries(B, keys, *, progress=None):
    """Return the least-norm queries with <q_i, c_j> = B_ij on the support, for given keys.

    q_i = C_S^T (C_S C_S^T)^(-1) b_i, with C_S the codes of the support and b_i = B_{i,S_i}.
    Rows of equal support size are solved together, in blocks, in double precision. What is
    returned has been checked, see `least_norm_queries`.

    Parameters
    ----------
    B : scipy.sparse.csr_array, shape (n, L)
        Target logits.
    keys : ndarray of float64 or float32, shape (L, m)
        Codes c_1..c_L; they must not depend on B for the Student law of T3 to hold.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of rows after each block.

    Returns
    -------
    ndarray, shape (n, m)
        Of the dtype of `keys`.

    Raises
    ------
    ConstructionError
        As `least_norm_queries`.
    """
    counts = np.diff(B.indptr)
    total, dim = B.shape[0], keys.shape[1]
    queries = np.empty((total, dim), dtype=keys.dtype)
    done = 0
    for size in np.unique(counts)[::-1]:  # the largest first: it alone may be too large
        rows = np.nonzero(counts == size)[0]
        for block in attention.row_blocks(len(rows), columns=size * dim, block_bytes=BLOCK_BYTES):
            some = rows[block]
            at = B.indptr[some][:, None] + np.arange(size)
            queries[some] = least_norm_queries(keys[B.indices[at]], B.data[at], some)
            done += len(some)
            if progress is not None:
                progress(done, total)
    return queries


def least_norm_queries(codes, values, rows):
    """Solve <q, c_j> = b_j with least norm for n rows whose supports have the same size s.

    Computed in double precision through the Cholesky factor of each Gram matrix, and checked as
    stored: every query meets its equations to half the digits of its dtype,
    |<q, c_j> - b_j| <= sqrt(machine epsilon) ||b||.

    Parameters
    ----------
    codes : ndarray of float64 or float32, shape (n, s, m)
        C_S of each row.
    values : ndarray, shape (n, s)
        b of each row.
    rows : sequence of int, length n
        What to call the rows in an error message.

    Returns
    -------
    ndarray, shape (n, m)
        Of the dtype of `codes`.

    Raises
    ------
    ConstructionError
        s > m, the condition number of a Gram matrix exceeds `MAX_CONDITION`, or a query misses
        its equations; names the row and the condition.
    """
    dtype, (_, size, dim) = codes.dtype, codes.shape
    if size > dim:
        raise ConstructionError(
            f"row {rows[0]}: its support of {size} tokens needs dim >= {size}, not dim={dim}: "
            "more codes than dimensions are linearly dependent"
        )
    codes = codes.astype(np.float64, copy=False)
    gram = codes @ codes.transpose(0, 2, 1)
    try:
        inverse_factor = np.linalg.inv(np.linalg.cholesky(gram))
    except np.linalg.LinAlgError:
        raise _nearly_dependent(gram, np.linalg.cond(gram), rows) from None
    # tr(G) tr(G^-1) is at least the condition number of G and at most s^2 times it.
    condition = np.trace(gram, axis1=1, axis2=2) * (inverse_factor**2).sum(axis=(1, 2))
    if not (condition <= MAX_CONDITION).all():
        raise _nearly_dependent(gram, condition, rows)
    values, transposed = values[:, :, None], codes.transpose(0, 2, 1)

    def solve(values):
        return transposed @ (inverse_factor.transpose(0, 2, 1) @ (inverse_factor @ values))

    queries = solve(values)
    queries += solve(values - codes @ queries)  # refined once: the Gram matrix squares rounding
    queries = queries.astype(dtype)
    residual = np.abs(codes @ queries - values).max(axis=(1, 2))
    residual /= np.linalg.norm(values, axis=(1, 2))
    if not (residual <= np.sqrt(np.finfo(dtype).eps)).all():
        missed = f"its query in {dtype} misses its logits by {residual.max():.1e} of their norm"
        raise _nearly_dependent(gram, residual, rows, missed)
    return queries[:, :, 0]


def _nearly_dependent(gram, badness, rows, reason=None):
    """Return the error for the row whose `badness` is largest."""
    at = int(np.argmax(badness))
    condition = np.linalg.cond(gram[at])
    shown = f"{condition:.2e}" if condition < 1e15 else "beyond 1e+15"
    return ConstructionError(
        f"row {rows[at]}: the codes of its support are nearly linearly dependent: condition "
        f"number {shown} of their Gram matrix, {reason or f'more than {MAX_CONDITION:.0e}'}"
    )


def _gaussian(rows, dim, rng, dtype):
    return rng.standard_normal((rows, dim), dtype=dtype)


METHODS = {
    "interpolate": interpolate,
    "svd_projection": svd_projection,
    "row_projection": row_projection,
    "moment_curve": moment_curve,
    "max_margin": max_margin,
}
"""Every construction method by name."""

KEYED_METHODS = ("interpolate",)
"""The methods that solve for the queries and leave the key codes as they are."""

ESTIMATED_METHODS = ("max_margin",)
"""The methods whose required dimension is an estimate, not a theorem."""
