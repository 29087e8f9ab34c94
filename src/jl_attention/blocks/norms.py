"""The norms before a block's projections, and how to pass through them.

Both norms send a vector x of R^d to w * u (+ b):

- RMSNorm (Zhang and Sennrich 2019): u = x / sqrt(mean(x^2) + eps);
- LayerNorm (Ba, Kiros and Hinton 2016): u = (x - mean(x)) / sqrt(var(x) + eps).

So u has the length sqrt(d) up to eps, however long x is (and, for LayerNorm, mean 0). To pass a
vector of another length through, leave one direction free and let it make up the length, and a
second one the mean. (In exact arithmetic eps > 0 would do without: a short enough x gives any
shorter u. But then all hangs on eps.)
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "layer_norm",
    "rms_norm",
]


def rms_norm(x: np.ndarray, weight: float | np.ndarray = 1.0, eps: float = 1e-6) -> np.ndarray:
    """Return w * x / sqrt(mean(x^2) + eps) for each row of x."""
    return weight * (x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + x.dtype.type(eps)))


def layer_norm(
    x: np.ndarray,
    weight: float | np.ndarray = 1.0,
    bias: float | np.ndarray = 0.0,
    eps: float = 1e-5,
) -> np.ndarray:
    """Return w * (x - mean)/sqrt(variance + eps) + b for each row of x."""
    return weight * rms_norm(x - x.mean(axis=-1, keepdims=True), eps=eps) + bias
