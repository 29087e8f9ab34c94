"""What attention matrices are like: how sparse, how changeable, how used their columns are.

Functions take stacks of right-stochastic matrices M, shape (..., rows, L). In a causal decoder row
i sees the columns 0 to i only and M is zero beyond; the first rows are then short whatever the
head does, so `head_statistics` begins at a row of its own.
"""

import itertools

import numpy as np
from scipy.special import softmax

import jl_attention as jla
from jl_attention.errors import check_real
from jl_attention.targets import from_attention, top_columns

MASSES = (0.8, 0.9, 0.95)
"""Shares of a row's mass whose entries are counted."""

SUPPORT = 5
"""Size k of the supports behind the counts of columns and the overlap of two texts."""

TOP = 8
"""Entries of each row that are compared between texts."""

KEPT = (4, 8)
"""Sizes k of the targets whose dropped mass and output error are recorded."""

RANK_TOLERANCE = 0.01
"""Singular values below this share of the largest do not count for the rank."""

SCALES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
"""Logit scales tau among which `best_distance` looks for the best."""


# --- Rows ----------------------------------------------------------------------------------------


def entries_for_mass(attention, mass=0.9):
    """Return how many of its largest entries each row needs to hold the given mass.

    Parameters
    ----------
    attention : ndarray, shape (..., L)
        Right-stochastic rows.
    mass : float, optional
        Between 0 and 1, exclusive.

    Returns
    -------
    ndarray of int, shape (...)
        The least n such that the n largest entries of the row sum to `mass` or more.

    Raises
    ------
    ParameterError
        `mass` is out of range.

    Examples
    --------
    >>> entries_for_mass(np.array([[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]]))
    array([3, 1])
    """
    mass = check_real("mass", mass, above=0, below=1)
    held = np.cumsum(-np.sort(-attention, axis=-1), axis=-1)
    return 1 + (held[..., :-1] < mass).sum(axis=-1)


def top_entries(attention, row_nnz):
    """Return the `row_nnz` largest entries of each row: their columns and values, (..., k) each."""
    columns = top_columns(attention, row_nnz)
    return columns, np.take_along_axis(attention, columns, axis=-1)


def total_variation(attention, other):
    """Return half the sum of absolute differences, row by row, shape (..., L) to (...)."""
    return np.abs(attention - other).sum(axis=-1) / 2


def without_first_token(attention):
    """Return the rows without column 0, rescaled; a row with all its mass there becomes zero."""
    rest = attention[..., 1:]
    total = rest.sum(axis=-1, keepdims=True)
    return np.divide(rest, total, out=np.zeros_like(rest), where=total > 0)


# --- Columns and ranks ---------------------------------------------------------------------------


def column_use(columns, length=None):
    """Return how many rows have each column in their support.

    Parameters
    ----------
    columns : ndarray of int, shape (..., rows, k)
        The support of each row, as `jl_attention.targets.top_columns` gives it.
    length : int, optional
        L; the number of rows if None.

    Returns
    -------
    ndarray of int, shape (..., L)
    """
    *stack, rows, row_nnz = columns.shape
    length = rows if length is None else length
    flat = columns.reshape(-1, rows * row_nnz).astype(np.int64)
    matrix = np.arange(len(flat))[:, None]
    counts = np.bincount((matrix * length + flat).ravel(), minlength=len(flat) * length)
    return counts.reshape(*stack, length)


def ranks(matrix, tolerance=RANK_TOLERANCE):
    """Return the numerical rank and the stable rank of each matrix, shape (..., n, p) to (...).

    Parameters
    ----------
    matrix : ndarray, shape (..., n, p)
    tolerance : float, optional
        Singular values count if they exceed this share of the largest.

    Returns
    -------
    rank : ndarray of int, shape (...)
    stable_rank : ndarray, shape (...)
        The squared Frobenius norm over the squared spectral norm: at most the rank, and insensitive
        to weak directions.

    Examples
    --------
    >>> rank, stable_rank = ranks(np.diag([2.0, 2.0, 1.0, 0.001]))
    >>> print(f"{rank} {stable_rank:.3f}")
    3 2.250
    """
    sigma = np.linalg.svd(matrix, compute_uv=False)
    largest = sigma[..., :1]
    return (sigma > tolerance * largest).sum(axis=-1), ((sigma / largest) ** 2).sum(axis=-1)


# --- Two texts -----------------------------------------------------------------------------------


def jaccard(columns, other):
    """Return the Jaccard index of two supports, row by row: common columns over all columns.

    Parameters
    ----------
    columns, other : ndarray of int, shape (..., k)
        Supports, each with k distinct columns a row.

    Returns
    -------
    ndarray of float64, shape (...)
    """
    common = (columns[..., :, None] == other[..., None, :]).sum(axis=(-2, -1))
    return common / (columns.shape[-1] + other.shape[-1] - common)


def top_variation(columns, values, other_columns, other_values):
    """Return the total variation between two rows cut to their largest entries and rescaled.

    Unlike `jaccard` it weighs the entries: two rows that differ in their smallest ones are near.

    Parameters
    ----------
    columns, other_columns : ndarray of int, shape (..., k)
        Distinct columns in each row.
    values, other_values : ndarray, shape (..., k)
        The entries, not all zero.

    Returns
    -------
    ndarray, shape (...)
    """
    values = values / values.sum(axis=-1, keepdims=True)
    other_values = other_values / other_values.sum(axis=-1, keepdims=True)
    same = columns[..., :, None] == other_columns[..., None, :]
    shared = np.minimum(values[..., :, None], other_values[..., None, :])
    return 1 - (same * shared).sum(axis=(-2, -1))


# --- What the extracts record --------------------------------------------------------------------


def head_statistics(attention, values, first_row=0):
    """Return the statistics of every head on one text that the extracts record.

    Parameters
    ----------
    attention : ndarray, shape (..., L, L)
    values : ndarray, shape (..., L, m)
        What the heads average: row i of the output is the i-th row of M V.
    first_row : int, optional
        Counts and means are over the rows from here on.

    Returns
    -------
    dict of ndarray
        ``entries``, shape (3, ...): the median over rows of `entries_for_mass` at `MASSES`.
        ``entries_rest`` (...): the same for 90% of what is left without the first token.
        ``first_mass`` (...): mean mass on the first token.
        ``column_rows``, ``column_mass`` (2, ...): over columns, the most rows with the column among
        their `SUPPORT` largest entries, and the largest mean mass; with the first token, and among
        the others once it is taken out (counts again the largest of what is left; the mass is not
        rescaled).
        ``dropped`` (2, ...): mean mass off the k largest entries of a row, k in `KEPT`.
        ``output_error`` (2, ...): Frobenius norm of (A - M) V over that of M V, for A the k largest
        entries, rescaled.
        ``rank``, ``stable_rank`` (...): `ranks` of the whole matrix.
    """
    rows = attention[..., first_row:, :]
    length = attention.shape[-1]
    uses = (
        column_use(top_columns(rows, SUPPORT), length),
        column_use(top_columns(rows[..., 1:], SUPPORT), length - 1),
    )
    mass = rows.mean(axis=-2)
    dropped, errors = [], []
    output = rows @ values
    for row_nnz in KEPT:
        kept = np.zeros_like(rows)
        columns, largest = top_entries(rows, row_nnz)
        np.put_along_axis(kept, columns, largest, axis=-1)
        held = kept.sum(axis=-1, keepdims=True)
        dropped.append(1 - held[..., 0].mean(axis=-1))
        errors.append(_frobenius(kept / held @ values - output) / _frobenius(output))
    rank, stable_rank = ranks(attention)
    return {
        "entries": np.array([np.median(entries_for_mass(rows, p), axis=-1) for p in MASSES]),
        "entries_rest": median_entries(without_first_token(rows)),
        "first_mass": mass[..., 0],
        "column_rows": np.array([use.max(axis=-1) for use in uses]),
        "column_mass": np.array([mass.max(axis=-1), mass[..., 1:].max(axis=-1)]),
        "dropped": np.array(dropped),
        "output_error": np.array(errors),
        "rank": rank,
        "stable_rank": stable_rank,
    }


def _frobenius(matrix):
    return np.sqrt((matrix**2).sum(axis=(-2, -1)))


def text_statistics(tops):
    """Return how much each head's attention differs from text to text.

    Parameters
    ----------
    tops : list of (columns, values)
        For each text the 8 largest entries of every row, largest first, each of shape
        (..., rows, 8).

    Returns
    -------
    dict of ndarray
        ``overlap``, ``variation``, shape (texts, ...): the `jaccard` index of the `SUPPORT` largest
        entries and the `top_variation` of all 8, at the same row; the mean over rows and over the
        other texts.
    """
    overlap, variation = np.zeros((2, len(tops), *tops[0][0].shape[:-2]))
    for (a, top), (b, other) in itertools.combinations(enumerate(tops), 2):
        pair = [a, b]
        overlap[pair] += jaccard(top[0][..., :SUPPORT], other[0][..., :SUPPORT]).mean(axis=-1)
        variation[pair] += top_variation(*top, *other).mean(axis=-1)
    others = len(tops) - 1
    return {"overlap": overlap / others, "variation": variation / others}


def entries_by_length(attention, lengths):
    """Return the median entries for 90% of a row's mass at several lengths, in a causal decoder.

    Its first L tokens do not depend on what follows, so one forward pass serves every L.

    Parameters
    ----------
    attention : ndarray, shape (..., L, L)
        Zero above the diagonal.
    lengths : sequence of int

    Returns
    -------
    ndarray, shape (2, len(lengths), ...)
        With the first token and without it (`without_first_token`); the median is over the second
        half of the rows, the tokens that see between L/2 and L others.
    """
    counts = []
    for length in lengths:
        rows = attention[..., length // 2 : length, :length]
        counts.append([median_entries(rows), median_entries(without_first_token(rows))])
    return np.swapaxes(counts, 0, 1)


def median_entries(rows):
    """Return the median over rows of `entries_for_mass`, shape (..., rows, L) to (...)."""
    return np.median(entries_for_mass(rows), axis=-1)


def growth(lengths, counts):
    """Return the exponent of the power of the length that fits the counts best.

    Parameters
    ----------
    lengths : array_like, shape (n,)
    counts : ndarray, shape (n, ...)

    Returns
    -------
    ndarray, shape (...)
        The slope of the least-squares line through log count against log length.

    Examples
    --------
    >>> print(f"{growth([4, 8, 16], np.array([6.0, 12.0, 24.0])):.3f}")
    1.000
    """
    x = np.log(lengths)
    x = x - x.mean()
    return np.tensordot(x, np.log(counts), axes=1) / (x @ x)


# --- Rebuilding with keys that know the text, or do not -------------------------------------------


def interpolation_distance(target, attention, keys, scales=SCALES, *, first_row=0, causal=False):
    """Return each row's distance from the truth, rebuilt by T3 with given keys, at several scales.

    The interpolating query is affine in the logit scale tau, so two constructions give all.

    Parameters
    ----------
    target : scipy.sparse.csr_array, shape (L, L)
        What interpolation is asked for.
    attention : ndarray, shape (L, L)
        The truth that the distance is from.
    keys : ndarray, shape (L, m)
    scales : sequence of float, optional
        Values of tau.
    first_row : int, optional
        Rows before it are left out.
    causal : bool, optional
        Row i of the rebuilt attention sees the columns up to i only.

    Returns
    -------
    ndarray, shape (len(scales), L - first_row)
        Total variation between rows.
    """
    low, high = (
        jla.construct(target, keys=keys, leak=0.5, logit_scale=tau).queries for tau in (1.0, 2.0)
    )
    rows = slice(first_row, None)
    base, slope = low[rows] @ keys.T, (high - low)[rows] @ keys.T
    if causal:
        base = np.where(np.tri(len(keys), dtype=bool)[rows], base, -np.inf)
    return np.array(
        [
            total_variation(softmax(base + (tau - 1) * slope, axis=1), attention[rows])
            for tau in scales
        ]
    )


def best_distance(*args, **kwargs):
    """Return the mean of `interpolation_distance` over rows, at the tau where it is least."""
    return interpolation_distance(*args, **kwargs).mean(axis=1).min()


CONTROLS = ("own", "other text", "same covariance", "permuted", "random")
"""The key sets of `control_keys`, in the order of what they know."""


def control_keys(keys, other_keys, rng):
    """Return key codes that know less and less of the text, by the names in `CONTROLS`.

    All are centred: a common part of all keys only shifts the rows of the logits.

    Parameters
    ----------
    keys : ndarray, shape (L, m)
        The head's keys on this text.
    other_keys : ndarray, shape (L, m)
        The same head's keys on another text: they know positions, and what the head looks for.
    rng : int or numpy.random.Generator

    Returns
    -------
    dict of ndarray, each of shape (L, m)
        ``same covariance``: Gaussian, with the covariance of `keys`. ``permuted``: `keys`, given to
        the tokens in random order. ``random``: Gaussian of variance 1/m, the codes of T3.
    """
    rng = np.random.default_rng(rng)
    length, dim = keys.shape
    own, other = ((one - one.mean(axis=0)).astype(np.float64) for one in (keys, other_keys))
    codes = rng.standard_normal((length, dim)) / np.sqrt(dim)
    # Gaussian combinations of the keys have their covariance; no decomposition is needed.
    alike = rng.standard_normal((length, length)) @ own / np.sqrt(length)
    sets = own, other, alike, own[rng.permutation(length)], codes
    return dict(zip(CONTROLS, sets, strict=True))


def control_distances(reading, other_keys, row_nnz, *, first_row=0, causal=False):
    """Return the `best_distance` of every head on one text from each of its `control_keys`.

    Parameters
    ----------
    reading : extracts.Reading
    other_keys : ndarray, shape (layers, heads, L, m)
        Keys of the same heads on another text.
    row_nnz : int
        k of the targets, the largest entries of the head's rows.
    first_row, causal
        As in `interpolation_distance`.

    Returns
    -------
    ndarray, shape (len(CONTROLS), layers, heads)
    """
    layers, heads = reading.attention.shape[:2]
    found = np.empty((len(CONTROLS), layers, heads))
    for at in np.ndindex(layers, heads):
        attention = reading.attention[at].astype(np.float64)
        target = from_attention(attention, row_nnz)
        sets = control_keys(reading.keys[at], other_keys[at], rng=list(at))
        for c, keys in enumerate(sets.values()):
            found[(c, *at)] = best_distance(
                target, attention, keys, first_row=first_row, causal=causal
            )
    return found
