"""Other people's attention kernels as functions (Q, K, V, mask) -> output, for edge cases.

ONNX Runtime comes with the extra ``kernels``, PyTorch with ``torch``. All of them run on the CPU.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from ..errors import check_choice, require

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "installed",
    "onnx_runtime",
    "torch_sdpa",
]

_OPSET, _IR_VERSION = 23, 11
_TORCH_BACKENDS = ("MATH", "FLASH_ATTENTION")  # the others have no CPU version


def installed() -> dict[tuple[str, str], Callable]:
    """Return the kernels that are installed here.

    Returns
    -------
    dict of (str, str) to callable
        From the kernel's name and number format to ``kernel(Q, K, V, mask)``; see `onnx_runtime`.
    """
    found = {}
    if find_spec("onnxruntime") and find_spec("onnx"):
        for number_format in ("float32", "float16"):
            found["ONNX Runtime", number_format] = partial(onnx_runtime, number_format)
    if find_spec("torch"):
        for backend in _TORCH_BACKENDS:
            for number_format in ("float32", "float16", "bfloat16"):
                name = f"PyTorch {backend.lower().removesuffix('_attention')}"
                found[name, number_format] = partial(torch_sdpa, backend, number_format)
    return found


def onnx_runtime(
    number_format: str, Q: np.ndarray, K: np.ndarray, V: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Run the ONNX operator Attention with a boolean mask in ONNX Runtime.

    Parameters
    ----------
    number_format : {"float32", "float16"}
    Q : ndarray, shape (n, m)
    K, V : ndarray, shape (L, m)
    mask : ndarray of bool, shape (n, L)
        True where a key is visible.

    Returns
    -------
    ndarray of float64, shape (n, m)
    """
    onnxruntime = require("onnxruntime", "kernels")
    check_choice("number_format", number_format, ("float32", "float16"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        _masked_attention(number_format), options, providers=["CPUExecutionProvider"]
    )
    inputs = {
        name: array.astype(number_format)[None, None]
        for name, array in (("Q", Q), ("K", K), ("V", V))
    }
    (output,) = session.run(["Y"], {**inputs, "mask": np.ascontiguousarray(mask)})
    return output[0, 0].astype(np.float64)


def _masked_attention(number_format):
    """Return the serialised graph of one Attention node with a mask."""
    onnx = require("onnx", "kernels")
    TensorProto, checker, helper = onnx.TensorProto, onnx.checker, onnx.helper
    kind = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[number_format]
    shapes = {"Q": [1, 1, "n", "m"], "K": [1, 1, "L", "m"], "V": [1, 1, "L", "m"]}
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()]
    inputs.append(helper.make_tensor_value_info("mask", TensorProto.BOOL, ["n", "L"]))
    output = helper.make_tensor_value_info("Y", kind, [1, 1, "n", "m"])
    node = helper.make_node("Attention", ["Q", "K", "V", "mask"], ["Y"])
    model = helper.make_model(
        helper.make_graph([node], "attention", inputs, [output]),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    checker.check_model(model)
    return model.SerializeToString()


def torch_sdpa(
    backend: str, number_format: str, Q: np.ndarray, K: np.ndarray, V: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Run PyTorch's scaled_dot_product_attention with one of its backends on the CPU.

    Parameters
    ----------
    backend : {"MATH", "FLASH_ATTENTION"}
        A member of ``torch.nn.attention.SDPBackend``.
    number_format : {"float32", "float16", "bfloat16"}
    Q, K, V, mask
        As in `onnx_runtime`.

    Returns
    -------
    ndarray of float64, shape (n, m)

    Raises
    ------
    RuntimeError
        PyTorch has no such backend here.
    """
    torch, choice = require("torch", "torch"), require("torch.nn.attention", "torch")
    dtype = getattr(torch, number_format)
    Q, K, V = (torch.tensor(array, dtype=dtype)[None, None] for array in (Q, K, V))
    with choice.sdpa_kernel(getattr(choice.SDPBackend, backend)):
        output = torch.nn.functional.scaled_dot_product_attention(
            Q, K, V, attn_mask=torch.tensor(np.ascontiguousarray(mask))
        )
    return output[0, 0].double().numpy()
