"""Other people's attention kernels and number formats for constructions (extra ``kernels``).

A kernel takes Q = X W_Q and K = X W_K (`files.arrays`) and computes softmax(Q K^T / sqrt(m)) V.
"""

import math

import numpy as np

from .errors import ParameterError, check_choice

FORMATS = ("float64", "float32", "float16", "bfloat16")
"""Number formats that `rounded` knows, the finest first."""

ONNX_FORMATS = ("float32", "float16")
"""Number formats in which ONNX Runtime's Attention runs on a CPU."""

_OPSET, _IR_VERSION = 23, 11
_PROBABILITIES = 3  # what the fourth output of Attention holds: the scores after the softmax


def rounded(array, number_format):
    """Return an array rounded to a number format, as float64.

    Parameters
    ----------
    array : ndarray
    number_format : {"float64", "float32", "float16", "bfloat16"}
        bfloat16 is rounded to from float32, as hardware does.

    Returns
    -------
    ndarray of float64
        Numbers beyond the format's range become infinite.

    Raises
    ------
    ParameterError
    """
    check_choice("number_format", number_format, FORMATS)
    array = np.asarray(array)
    with np.errstate(over="ignore"):
        if number_format == "bfloat16":
            import ml_dtypes

            return array.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)
        return array.astype(number_format).astype(np.float64)


def onnx_attention(queries, keys, number_format="float32", causal=False):
    """Run the standard ONNX operator Attention in ONNX Runtime; return its probabilities.

    Parameters
    ----------
    queries, keys : ndarray, shape (L, m)
        Q and K; the operator divides Q K^T by sqrt(m).
    number_format : {"float32", "float16"}, optional
        Of inputs, scores and probabilities.
    causal : bool, optional
        Token i sees the tokens up to i only.

    Returns
    -------
    ndarray of float64, shape (L, L)
        M as the kernel has it.

    Raises
    ------
    ParameterError
        An unknown format, shapes that do not fit, or numbers beyond the format's range.
    """
    import onnxruntime

    check_choice("number_format", number_format, ONNX_FORMATS)
    if queries.ndim != 2 or queries.shape != keys.shape:
        raise ParameterError(
            f"queries of shape {queries.shape} and keys of shape {keys.shape}: expected (L, m) both"
        )
    with np.errstate(over="ignore"):
        Q, K = (array.astype(number_format)[None, None] for array in (queries, keys))
    if not (np.isfinite(Q).all() and np.isfinite(K).all()):
        raise ParameterError(f"queries, keys: an entry is not finite in {number_format}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        _attention_model(number_format, causal), options, providers=["CPUExecutionProvider"]
    )
    (probabilities,) = session.run(["P"], {"Q": Q, "K": K, "V": K})
    return probabilities[0, 0].astype(np.float64)


def _attention_model(number_format, causal):
    """Return the serialised graph of one Attention node with P as its output."""
    from onnx import TensorProto, checker, helper

    kind = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[number_format]
    node = helper.make_node(
        "Attention",
        ["Q", "K", "V"],
        ["Y", "", "", "P"],
        is_causal=int(causal),
        qk_matmul_output_mode=_PROBABILITIES,
    )
    inputs = [helper.make_tensor_value_info(n, kind, [1, 1, "L", "m"]) for n in ("Q", "K", "V")]
    outputs = [helper.make_tensor_value_info("P", kind, [1, 1, "L", "L"])]
    model = helper.make_model(
        helper.make_graph([node], "attention", inputs, outputs),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    checker.check_model(model)
    return model.SerializeToString()


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
    import torch

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
