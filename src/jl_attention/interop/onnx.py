"""The standard ONNX operator Attention in ONNX Runtime (extra ``kernels``).

A kernel takes Q = X W_Q and K = X W_K and computes softmax(Q K^T / sqrt(m)) V.
"""

from __future__ import annotations

import numpy as np

from ..errors import ParameterError, check_choice, require

__all__ = [
    "ONNX_FORMATS",
    "onnx_attention",
]

ONNX_FORMATS = ("float32", "float16")
"""Number formats in which ONNX Runtime's Attention runs on a CPU."""

_OPSET, _IR_VERSION = 23, 11
_PROBABILITIES = 3  # what the fourth output of Attention holds: the scores after the softmax


def onnx_attention(
    queries: np.ndarray, keys: np.ndarray, number_format: str = "float32", causal: bool = False
) -> np.ndarray:
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
    MissingExtraError
        Without onnx or onnxruntime.
    """
    onnxruntime = require("onnxruntime", "kernels")
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
    onnx = require("onnx", "kernels")
    helper = onnx.helper
    kinds = {"float32": onnx.TensorProto.FLOAT, "float16": onnx.TensorProto.FLOAT16}
    kind = kinds[number_format]
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
    onnx.checker.check_model(model)
    return model.SerializeToString()
