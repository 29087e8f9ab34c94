"""A block as a graph of standard ONNX operators, and its attention in ONNX Runtime.

Opset 23 has every part: RMSNormalization or LayerNormalization, MatMul, RotaryEmbedding and
Attention with grouped heads, scale, softcap and causal mask. Needs the extra ``kernels``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ParameterError, check_choice, check_int, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from .compiled import CompiledBlock
    from .spec import BlockSpec

__all__ = [
    "FORMATS",
    "PROBABILITIES",
    "onnx_attention",
    "onnx_model",
]

FORMATS = ("float32", "float16")
"""Number formats that run on a CPU."""

OPSET, IR_VERSION = 23, 11
PROBABILITIES = 3  # what the fourth output of Attention holds: the scores after the softmax


def onnx_attention(
    compiled: CompiledBlock, head: int, number_format: str = "float32"
) -> np.ndarray:
    """Run a compiled block in ONNX Runtime and return a head's attention matrix.

    Parameters
    ----------
    compiled : CompiledBlock
    head : int
        Query head; it runs with its key head alone, so that a large L fits into memory.
    number_format : {"float32", "float16"}, optional
        Of the input, the weights, and everything between.

    Returns
    -------
    ndarray of float32, shape (L, L)

    Raises
    ------
    ParameterError
        A block with a sink or ALiBi, for which the operators have no place; a number beyond the
        format's range.
    """
    onnxruntime = require("onnxruntime", "kernels")
    spec = compiled.spec
    head = check_int("head", head, minimum=0, maximum=spec.query_heads - 1)
    check_choice("number_format", number_format, FORMATS)
    with np.errstate(over="ignore"):
        X = compiled.inputs_embeds.astype(number_format)[None]
    if not np.isfinite(X).all():
        raise ParameterError(f"inputs_embeds: an entry is not finite in {number_format}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    model = onnx_model(spec, compiled.weights, compiled.length, [head], number_format)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(["P"], {"X": X})[0][0, 0].astype(np.float32)


def onnx_model(
    spec: BlockSpec,
    weights: dict[str, np.ndarray],
    length: int,
    heads: Sequence[int] | None = None,
    number_format: str = "float32",
) -> onnx.ModelProto:
    """Return the block up to its attention as an ONNX model: X (1, L, d) to P (1, H, L, L).

    Parameters
    ----------
    spec : BlockSpec
    weights : dict of ndarray
        As `CompiledBlock.weights`.
    length : int
        L.
    heads : list of int, optional
        Query heads to compute, all of one key head or whole groups; all of them if None.
    number_format : {"float32", "float16"}, optional

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ParameterError
        As `onnx_attention`.
    """
    require("onnx", "kernels")
    from onnx import TensorProto, checker, helper, numpy_helper

    if spec.sink is not False or spec.alibi:
        raise ParameterError("onnx: the Attention operator has no place for a sink or for ALiBi")
    heads = list(range(spec.query_heads)) if heads is None else heads
    kind = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[number_format]
    nodes, constants = [], []

    def constant(name, array, dtype=number_format):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array.astype(dtype)), name))
        return name

    def node(operator, inputs, output, **attributes):
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    U = "X"
    if spec.norm:
        operator = "RMSNormalization" if spec.norm == "rms" else "LayerNormalization"
        inputs = [U, constant("norm_weight", weights["input_layernorm.weight"])]
        if spec.norm == "layer":
            inputs.append(constant("norm_bias", weights["input_layernorm.bias"]))
        U = node(operator, inputs, "U", axis=-1, epsilon=spec.norm_eps)
    if spec.rope:
        cos, sin = spec.rope.table(np.arange(length), spec.head_dim)
        tables = [constant("cos", cos[None]), constant("sin", sin[None])]
        rotated = spec.rope.rotated(spec.head_dim)

    def projection(name, chosen):
        """Return the queries or keys of some heads as they meet in the product."""
        rows = (np.array(chosen)[:, None] * spec.head_dim + np.arange(spec.head_dim)).ravel()
        weight = constant(f"W_{name}", weights[f"{name}_proj.weight"][rows].T)
        x = node("MatMul", [U, weight], f"{name}_product")
        if spec.bias:
            bias = constant(f"b_{name}", weights[f"{name}_proj.bias"][rows])
            x = node("Add", [x, bias], f"{name}_biased")
        shape = np.array([1, length, len(chosen), spec.head_dim])
        x = node("Reshape", [x, constant(f"{name}_shape", shape, "int64")], f"{name}_split")
        x = node("Transpose", [x], f"{name}_heads", perm=[0, 2, 1, 3])
        if spec.qk_norm:
            gain = constant(f"{name}_gain", weights[f"{name}_norm.weight"])
            x = node("RMSNormalization", [x, gain], f"{name}_unit", axis=-1, epsilon=spec.norm_eps)
        if spec.rope:
            x = node(
                "RotaryEmbedding",
                [x, *tables],
                f"{name}_rotated",
                interleaved=int(spec.rope.pairing == "neighbour"),
                rotary_embedding_dim=0 if rotated == spec.head_dim else rotated,
            )
        return x

    Q = projection("q", heads)
    K = projection("k", sorted({head // spec.group for head in heads}))
    attributes = {
        "is_causal": int(spec.causal),
        "scale": spec.logit_factor,
        "qk_matmul_output_mode": PROBABILITIES,
    }
    if spec.softcap is not None:
        attributes["softcap"] = float(spec.softcap)
    inputs = [Q, K, K]
    if spec.window is not None:
        tokens = np.arange(length)
        seen = tokens >= spec.first_visible(tokens)[:, None]
        inputs.append(constant("window", seen, bool))
    nodes.append(helper.make_node("Attention", inputs, ["Y", "", "", "P"], **attributes))
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("X", kind, [1, length, spec.hidden_size])],
        [helper.make_tensor_value_info("P", kind, [1, len(heads), length, length])],
        constants,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    checker.check_model(model)
    return model
