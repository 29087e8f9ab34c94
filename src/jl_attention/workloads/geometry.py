"""How the key codes of a workload lie in space, and what a linear change of them does.

Independent normal codes have no locality: the mean of a page of keys says nothing of its tokens.
Real keys are smooth along the sequence, come in clusters, have channels of large size and a
covariance far from the identity. Each geometry is a function ``(length, dim, rng) -> keys`` that
draws the codes of `random` first, so that one seed gives comparable keys.

Lemma (affine invariance). For an invertible T and any vector mu, keys K T + 1 mu^T and queries
Q T^(-T) have the attention of K and Q: logit (i, j) grows by <q_i, T^(-T) mu>, whatever j is. So
`outlier` and `anisotropic`, affine images of `random` keys, change no attention, nor anything that
a method computes by softmax from inner products of averages of queries and keys. They do change
key norms and quantisation; and `anisotropic`, which turns the coordinates, changes Quest's boxes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg, signal

from ..codes import GaussianCodes, stream_key
from ..errors import ParameterError, check_choice, check_int, check_real

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

__all__ = [
    "GEOMETRIES",
    "RANK_TOLERANCE",
    "anisotropic",
    "clustered",
    "keys_of",
    "outlier",
    "random",
    "smooth",
    "whitening",
]

RANK_TOLERANCE = 1e-10
"""Directions in which the keys vary less than this share of the most are not used."""


def random(length: int, dim: int, rng: int | np.random.Generator | None = None) -> np.ndarray:
    """Return independent standard normal codes, shape (L, m): the usual test input.

    Parameters
    ----------
    length, dim : int
        L and m.
    rng : int or numpy.random.Generator, optional

    Returns
    -------
    ndarray of float64, shape (L, m)
    """
    return _standard_normal(length, dim, np.random.default_rng(rng))


def smooth(
    length: int,
    dim: int,
    rng: int | np.random.Generator | None = None,
    *,
    share: float = 0.4,
    correlation_length: float = 64.0,
) -> np.ndarray:
    """Return codes of which a share varies slowly along the sequence.

    c_j = sqrt(s) u_j + sqrt(1 - s) g_j: g is independent, u a stationary Gaussian process of
    correlation exp(-|j - j'|/`correlation_length`), so two codes have correlation s times that.

    Parameters
    ----------
    length, dim, rng
        As in `random`.
    share : float, optional
        s in [0, 1).
    correlation_length : float, optional
        In tokens.

    Returns
    -------
    ndarray of float64, shape (L, m)
    """
    share = check_real("share", share, at_least=0, below=1)
    decay = np.exp(-1 / check_real("correlation_length", correlation_length, above=0))
    rng = np.random.default_rng(rng)
    fresh, drive = (_standard_normal(length, dim, rng) for _ in range(2))
    drive[1:] *= np.sqrt(1 - decay**2)
    slow = signal.lfilter([1.0], [1.0, -decay], drive, axis=0)
    return np.sqrt(share) * slow + np.sqrt(1 - share) * fresh


def clustered(
    length: int,
    dim: int,
    rng: int | np.random.Generator | None = None,
    *,
    share: float = 0.4,
    cluster_size: int = 32,
) -> np.ndarray:
    """Return codes in clusters that are scattered over the sequence.

    c_j = sqrt(s) centre + sqrt(1 - s) g_j; each token joins one of L/`cluster_size` clusters at
    random. Parameters otherwise, and returns, as in `smooth`.
    """
    share = check_real("share", share, at_least=0, below=1)
    rng = np.random.default_rng(rng)
    fresh = _standard_normal(length, dim, rng)
    clusters = -(-length // check_int("cluster_size", cluster_size))
    centres = _standard_normal(clusters, dim, rng)
    label = rng.integers(clusters, size=length)
    return np.sqrt(share) * centres[label] + np.sqrt(1 - share) * fresh


def outlier(
    length: int,
    dim: int,
    rng: int | np.random.Generator | None = None,
    *,
    channels: int = 4,
    size: float = 8.0,
    offset: float = 3.0,
) -> np.ndarray:
    """Return codes with a few channels that are `size` times as large and off centre.

    These channels have standard deviation `size` and mean `size` times `offset`, as channels of
    trained keys have. An affine image of `random`. Parameters otherwise, and returns, as there.
    """
    channels = check_int("channels", channels, minimum=0, maximum=dim)
    size = check_real("size", size, above=0)
    rng = np.random.default_rng(rng)
    keys = _standard_normal(length, dim, rng)
    large = rng.permutation(dim)[:channels]
    keys[:, large] = size * (keys[:, large] + check_real("offset", offset))
    return keys


def anisotropic(
    length: int,
    dim: int,
    rng: int | np.random.Generator | None = None,
    *,
    exponent: float = 1.0,
    offset: float = 1.0,
) -> np.ndarray:
    """Return codes whose covariance has eigenvalues r^(-`exponent`), r = 1..m, and a common mean.

    The eigenvectors are random; every key has the same mean, of length `offset` times the
    deviation's root mean square length. An affine image of `random`. Returns as there.
    """
    exponent = check_real("exponent", exponent, at_least=0)
    rng = np.random.default_rng(rng)
    codes = _standard_normal(length, dim, rng)
    basis, R = linalg.qr(_standard_normal(dim, dim, rng))
    basis *= np.sign(np.diag(R))  # the Haar measure, and the same basis from every LAPACK
    deviation = np.arange(1.0, dim + 1) ** (-exponent / 2)
    mean = _standard_normal(1, dim, rng)[0]
    mean *= check_real("offset", offset) * np.linalg.norm(deviation) / np.linalg.norm(mean)
    return (codes * deviation) @ basis.T + mean


GEOMETRIES = {
    "random": random,
    "smooth": smooth,
    "clustered": clustered,
    "outlier": outlier,
    "anisotropic": anisotropic,
}
"""Every named geometry."""


def keys_of(
    geometry: str | Callable | ArrayLike,
    kv_heads: int,
    length: int,
    dim: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the keys of all key heads, shape (KV, L, m), from a name, a function or keys given."""
    if isinstance(geometry, str):
        geometry = GEOMETRIES[check_choice("geometry", geometry, GEOMETRIES)]
    if callable(geometry):
        keys = np.stack([geometry(length, dim, part) for part in rng.spawn(kv_heads)])
    else:
        keys = np.asarray(geometry, dtype=np.float64)
        keys = keys[None] if keys.ndim == 2 else keys
    if keys.shape != (kv_heads, length, dim):
        raise ParameterError(
            f"geometry: keys of shape {keys.shape}; expected (kv_heads, length, head_dim) = "
            f"{(kv_heads, length, dim)}"
        )
    finite = np.isfinite(keys).all(axis=2)
    if not finite.all():
        head, row = np.argwhere(~finite)[0]
        raise ParameterError(f"geometry: key {row} of head {head} is not finite")
    return keys


def whitening(keys: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return mu and W with (keys - mu) W uncorrelated, of unit variance in every direction.

    With codes c' = W^T (c - mu) the least-norm query q' gives q = W q', which has the same logits
    up to a constant of the row: of all queries with these logits on the support it is the one
    whose logits vary least over all tokens (the tight-frame codes of Theorem S5). For L <= m the
    keys span fewer than m directions, and W has as many columns as they do.

    Parameters
    ----------
    keys : ndarray, shape (L, m)

    Returns
    -------
    mu : ndarray, shape (m,)
    W : ndarray, shape (m, r)
    """
    keys = np.asarray(keys, dtype=np.float64)
    mu = keys.mean(axis=0)
    centred = keys - mu
    variance, basis = linalg.eigh(centred.T @ centred / len(keys))
    used = variance > RANK_TOLERANCE * variance[-1]
    return mu, basis[:, used] / np.sqrt(variance[used])


def _standard_normal(length, dim, rng):
    """Draw codes; the one place of this package that does."""
    length, dim = check_int("length", length), check_int("dim", dim)
    return GaussianCodes(length, dim, stream_key(rng)).array().copy()
