"""Constructions as PyTorch tensors and modules (extra ``torch``)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ParameterError, require
from .files import arrays
from .formats import check_export

if TYPE_CHECKING:
    import torch

    from ..head import Construction

__all__ = [
    "multihead_attention",
    "to_torch",
]


def to_torch(
    built: Construction,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    on_loss: str = "warn",
    tolerance: float | None = None,
) -> dict[str, torch.Tensor]:
    """Return a construction's X, W_Q, W_K, Q and K as PyTorch tensors (extra ``torch``).

    Q and K are what ``torch.nn.functional.scaled_dot_product_attention`` takes: it divides by
    sqrt(m). Where the dtype is narrower than the construction's own, the attention is measured
    again with the tensors' own numbers, at the cost of `measure`; what the kernel rounds besides
    is its own.

    Parameters
    ----------
    built : Construction
    dtype : torch.dtype, optional
        The construction's own if None.
    device : torch.device or str, optional
    on_loss : {"warn", "raise", "ignore"}, optional
        What to do where the dtype moves a row of attention by more than the tolerance.
    tolerance : float, optional
        In total variation; what was asked for if None, see `formats.check_export`.

    Returns
    -------
    dict of str to torch.Tensor

    Raises
    ------
    ParameterError
        A number is beyond the range of the dtype, or `on_loss` is "raise" and a row moves too far.
    MissingExtraError
        Without PyTorch.

    Warns
    -----
    PrecisionWarning
        With the number.
    """
    torch = require("torch", "torch")
    tensors = {
        name: torch.tensor(array, dtype=dtype, device=device)
        for name, array in arrays(built).items()
    }
    if _narrower(tensors["Q"].dtype, built):
        products = (_product(tensors, name) for name in ("W_Q", "W_K"))
        pairs = [(_float64(tensors["Q"]), _float64(tensors["K"])), tuple(products)]
        check_export(built, pairs, str(dtype), on_loss, tolerance)
    return tensors


def _narrower(dtype, built):
    """Return whether a dtype of PyTorch may not hold the construction's numbers."""
    torch = require("torch", "torch")
    if not dtype.is_floating_point:
        raise ParameterError(f"dtype={dtype}: expected one of real numbers")
    return torch.finfo(dtype).eps > np.finfo(built.queries.dtype).eps


def _product(tensors, parameters):
    """Return X W in the tensors' own format, from the half of X that is not multiplied by 0."""
    X, W = tensors["X"], tensors[parameters]
    dim = W.shape[1]
    half, scale = (X[:, :dim], W[0, 0]) if parameters == "W_Q" else (X[:, dim:], W[dim, 0])
    return _float64(half * scale)


def _float64(tensor):
    torch = require("torch", "torch")
    return tensor.detach().cpu().to(torch.float64).numpy()


def multihead_attention(
    built: Construction,
    dtype: torch.dtype | None = None,
    *,
    on_loss: str = "warn",
    tolerance: float | None = None,
) -> torch.nn.MultiheadAttention:
    """Return a ``torch.nn.MultiheadAttention`` whose parameters are W_Q and W_K (extra ``torch``).

    The module has one head of the hidden size 2m, where ours has query dimension m: the unused
    half of its projections is zero, and W_Q is multiplied by sqrt(2) because the module divides
    by sqrt(2m). V = O = I, so its output for an input X is M X.

    Parameters
    ----------
    built : Construction
    dtype : torch.dtype, optional
        The construction's own if None.
    on_loss, tolerance
        As in `to_torch`, whose `Raises` and `Warns` apply.

    Returns
    -------
    torch.nn.MultiheadAttention
        Without bias, batch first, in evaluation mode.
    """
    torch = require("torch", "torch")
    hidden, dim = built.W_Q.shape
    unused = np.zeros((hidden, hidden - dim))
    W_Q = np.hstack([math.sqrt(2) * built.W_Q, unused])
    W_K = np.hstack([built.W_K, unused])
    if dtype is None:
        dtype = torch.tensor(built.queries[:0]).dtype
    to_torch(built, dtype=dtype, on_loss=on_loss, tolerance=tolerance)  # what it costs
    module = torch.nn.MultiheadAttention(hidden, 1, bias=False, batch_first=True, dtype=dtype)
    with torch.no_grad():  # the module multiplies by the transposes
        module.in_proj_weight.copy_(torch.tensor(np.vstack([W_Q.T, W_K.T, np.eye(hidden)])))
        module.out_proj.weight.copy_(torch.eye(hidden))
    return module.eval()
