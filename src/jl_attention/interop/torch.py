"""Constructions as PyTorch tensors and modules (extra ``torch``)."""

import math

import numpy as np

from ..errors import require
from .files import arrays


def to_torch(built, *, dtype=None, device=None):
    """Return `arrays` of a construction as PyTorch tensors (extra ``torch``).

    Parameters
    ----------
    built : constructions.Construction
    dtype : torch.dtype, optional
        The construction's own if None.
    device : torch.device or str, optional

    Returns
    -------
    dict of str to torch.Tensor
    """
    torch = require("torch", "torch")
    return {
        name: torch.tensor(array, dtype=dtype, device=device)
        for name, array in arrays(built).items()
    }


def multihead_attention(built, dtype=None):
    """Return a ``torch.nn.MultiheadAttention`` whose parameters are W_Q and W_K (extra ``torch``).

    The module has one head of the hidden size 2m, where ours has query dimension m: the unused
    half of its projections is zero, and W_Q is multiplied by sqrt(2) because the module divides
    by sqrt(2m). V = O = I, so its output for an input X is M X.

    Parameters
    ----------
    built : constructions.Construction
    dtype : torch.dtype, optional
        The construction's own if None.

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
    module = torch.nn.MultiheadAttention(hidden, 1, bias=False, batch_first=True, dtype=dtype)
    with torch.no_grad():  # the module multiplies by the transposes
        module.in_proj_weight.copy_(torch.tensor(np.vstack([W_Q.T, W_K.T, np.eye(hidden)])))
        module.out_proj.weight.copy_(torch.eye(hidden))
    return module.eval()
