"""`interop.formats`, `interop.onnx` and `interop.torch` under the name they had before."""

from .interop.formats import FORMATS, rounded
from .interop.onnx import ONNX_FORMATS, onnx_attention
from .interop.torch import multihead_attention

__all__ = ["FORMATS", "ONNX_FORMATS", "multihead_attention", "onnx_attention", "rounded"]
