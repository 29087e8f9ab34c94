"""Model families: a configuration as a `BlockSpec`, and the weights under a model's own names.

`from_config` reads what ``config.json`` holds (a dict, or an object of the library that wrote it)
and imports nothing. `load_into` needs PyTorch (extra ``blocks``).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FileError, ParameterError, check_int, require
from ..interop.atomic import write_atomically
from ..interop.files import check_writable
from .rotary import Rope
from .spec import BlockSpec

if TYPE_CHECKING:
    from typing import Any

    import torch

    from .compiled import CompiledBlock

__all__ = [
    "FAMILIES",
    "LAYOUTS",
    "NORM_NAMES",
    "POSITION_NAMES",
    "SCALED",
    "UNIT_OFFSET",
    "from_config",
    "load_into",
    "save",
]

# --- Reading a configuration ---------------------------------------------------------------------


def from_config(config: Any, layer: int = 0) -> BlockSpec:
    """Return the `BlockSpec` of a layer of a model, from its configuration.

    Parameters
    ----------
    config : dict or object with ``to_dict``
        As ``config.json`` has it. ``model_type`` is a key of `FAMILIES`; of a model of text and
        images the text's part is read.
    layer : int, optional
        Layers may differ in window and rotary embedding.

    Returns
    -------
    BlockSpec

    Raises
    ------
    ParameterError
        An unknown family, a missing entry, or a kind of rotary embedding that is not known.

    Examples
    --------
    >>> spec = from_config({"model_type": "llama", "hidden_size": 512, "num_attention_heads": 4,
    ...                     "num_key_value_heads": 1, "head_dim": 64, "rope_theta": 500000.0})
    >>> spec.group, spec.rope.theta, spec.norm
    (4, 500000.0, 'rms')
    """
    entries = config.to_dict() if hasattr(config, "to_dict") else config
    if not isinstance(entries, dict):
        raise ParameterError(f"config: expected a dict or a configuration, not {type(config)}")
    if isinstance(entries.get("text_config"), dict):
        entries = entries["text_config"]
    family = entries.get("model_type")
    if family not in FAMILIES:
        raise ParameterError(
            f"config: model_type={family!r} is not known; those known are {', '.join(FAMILIES)}"
        )
    layer = check_int("layer", layer, minimum=0)
    return BlockSpec(family=family, **FAMILIES[family](_Config(entries), layer))


class _Config:
    """The entries of a configuration; a missing one is an error unless it has a default."""

    def __init__(self, entries):
        self.entries = entries

    def __call__(self, name, default=None, required=False):
        value = self.entries.get(name)
        if value is None:
            if required:
                raise ParameterError(f"config: {name} is missing")
            return default
        return value

    def sizes(
        self, kv_heads=None, head_dim=None, hidden="hidden_size", heads="num_attention_heads"
    ):
        """Return the sizes that every family has."""
        hidden, heads = (check_int(f"config: {n}", self(n, required=True)) for n in (hidden, heads))
        return {
            "hidden_size": hidden,
            "query_heads": heads,
            "kv_heads": self("num_key_value_heads", kv_heads or heads),
            "head_dim": self("head_dim", head_dim or hidden // heads),
        }

    def rope(self, head_dim, kind=None, theta=10000.0, pairing="half", fraction=1.0, local=False):
        """Return the rotary embedding; of one kind of layer where kinds differ.

        A `local` one has entries of its own only: those for all layers are not for it.
        """
        entries = self("rope_parameters") or {}
        entries = entries.get(kind, {} if local else entries)
        if not local:
            entries = {**(self("rope_scaling") or {}), **entries}
            theta = self("rope_theta", theta)
        theta = entries.get("rope_theta", theta)
        fraction = entries.get("partial_rotary_factor", self("partial_rotary_factor", fraction))
        rope = Rope(theta=theta, pairing=pairing, fraction=fraction)
        kind = entries.get("rope_type", entries.get("type", "default"))
        if kind == "default":
            return rope
        if kind not in SCALED:
            raise ParameterError(
                f"config: rope_type={kind!r} is not known; those known are default, "
                f"{', '.join(SCALED)}"
            )
        try:
            frequencies, factor = SCALED[kind](rope, rope.rotated(head_dim), entries)
        except KeyError as error:
            raise ParameterError(f"config: rope_parameters: {error.args[0]} is missing") from None
        return Rope(theta, pairing, fraction, tuple(frequencies.tolist()), factor)

    def layer_type(self, layer, default):
        """Return whether a layer sees a window ("sliding_attention") or everything."""
        types = self("layer_types")
        if types is None:
            return default
        if layer >= len(types):
            raise ParameterError(f"layer={layer}: config has {len(types)} layers")
        return types[layer]


def _linear(rope, rotated, entries):
    return _frequencies(rope, rotated) / np.float32(entries["factor"]), 1.0


def _llama3(rope, rotated, entries):
    """Llama 3.1: long waves are stretched by a factor, short ones kept, those between blended."""
    frequencies = _frequencies(rope, rotated)
    low, high = entries["low_freq_factor"], entries["high_freq_factor"]
    turns = entries["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1).astype(np.float32)
    return (1 - kept) * frequencies / np.float32(entries["factor"]) + kept * frequencies, 1.0


def _yarn(rope, rotated, entries):
    """YaRN (Peng et al.): the blend is linear in the number of the pair."""
    frequencies = _frequencies(rope, rotated)
    factor, original = entries["factor"], entries["original_max_position_embeddings"]

    def pair(turns):
        """Return which pair makes this many turns over the original length."""
        return rotated * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    first, last = pair(entries.get("beta_fast") or 32), pair(entries.get("beta_slow") or 1)
    if entries.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rotated - 1)
    ramp = (np.arange(rotated // 2) - first) / (last - first if last > first else 1e-3)
    kept = (1 - np.clip(ramp, 0, 1)).astype(np.float32)

    def concentration(weight):
        return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0

    attention_factor = entries.get("attention_factor")
    if attention_factor is None:
        weights = entries.get("mscale"), entries.get("mscale_all_dim")
        attention_factor = (
            concentration(weights[0]) / concentration(weights[1])
            if all(weights)
            else concentration(1)
        )
    scaled = frequencies / np.float32(factor)
    return (1 - kept) * scaled + kept * frequencies, float(attention_factor)


def _frequencies(rope, rotated):
    """Return theta^(-2t/r) in float32, as the models compute them."""
    exponents = np.arange(0, rotated, 2, dtype=np.float32) / np.float32(rotated)
    return np.float32(1) / np.float32(rope.theta) ** exponents


SCALED = {"linear": _linear, "llama3": _llama3, "yarn": _yarn}
"""Scaled rotary embeddings: (rope, r, entries) -> (frequencies, attention factor)."""


def _llama(c, layer, kv_heads=None, head_dim=None, bias=None, **more):
    sizes = c.sizes(kv_heads, head_dim)
    return {
        **sizes,
        "rope": c.rope(sizes["head_dim"]),
        "bias": c("attention_bias", False) if bias is None else bias,
        "norm_eps": c("rms_norm_eps", 1e-6),
        **more,
    }


def _mistral(c, layer):
    return _llama(c, layer, kv_heads=8, bias=False, window=c("sliding_window"))


def _qwen2(c, layer, bias=True, **more):
    slides = c("use_sliding_window", False) and layer >= c("max_window_layers", 28)
    kind = c.layer_type(layer, "sliding_attention" if slides else "full_attention")
    window = c("sliding_window", 4096) if kind == "sliding_attention" else None
    return _llama(c, layer, kv_heads=32, bias=bias, window=window, **more)


def _qwen3(c, layer):
    return _qwen2(c, layer, bias=c("attention_bias", False), head_dim=128, qk_norm=True)


def _gemma2(c, layer, every=2, softcap=50.0, rope=None, **more):
    kind = c.layer_type(layer, "sliding_attention" if (layer + 1) % every else "full_attention")
    sizes = c.sizes(4, 256)
    return {
        **sizes,
        "rope": rope(sizes["head_dim"], kind) if rope else c.rope(sizes["head_dim"]),
        "bias": c("attention_bias", False),
        "norm_eps": c("rms_norm_eps", 1e-6),
        "scale": c("query_pre_attn_scalar", 256) ** -0.5,
        "softcap": c("attn_logit_softcapping", softcap),
        "window": c("sliding_window", 4096) if kind == "sliding_attention" else None,
        **more,
    }


def _gemma3(c, layer):
    def rope(head_dim, kind):
        local = kind == "sliding_attention"
        theta = c("rope_local_base_freq", 1e4) if local else 1e6
        return c.rope(head_dim, kind, theta, local=local)

    every = c("sliding_window_pattern", 6)
    return _gemma2(c, layer, every=every, softcap=None, rope=rope, qk_norm=True)


def _gpt_oss(c, layer):
    kind = c.layer_type(layer, "sliding_attention" if (layer + 1) % 2 else "full_attention")
    sizes = c.sizes(8, 64)
    return {
        **sizes,
        "rope": c.rope(sizes["head_dim"], theta=150000.0),
        "bias": c("attention_bias", True),
        "norm_eps": c("rms_norm_eps", 1e-5),
        "window": c("sliding_window", 128) if kind == "sliding_attention" else None,
        "sink": True,
    }


def _glm(c, layer):
    sizes = c.sizes(2, 128)
    return {
        **sizes,
        "rope": c.rope(sizes["head_dim"], pairing="neighbour", fraction=0.5),
        "bias": c("attention_bias", True),
        "norm_eps": c("rms_norm_eps", 1.5625e-7),
    }


def _gpt_neox(c, layer):
    sizes = c.sizes()
    fraction = c("rotary_pct", 0.25)
    theta = c("rotary_emb_base", 10000.0)
    return {
        **sizes,
        "norm": "layer",
        "rope": c.rope(sizes["head_dim"], theta=theta, fraction=fraction),
        "bias": c("attention_bias", True),
        "norm_eps": c("layer_norm_eps", 1e-5),
    }


def _gptj(c, layer):
    sizes = c.sizes(hidden="n_embd", heads="n_head")
    rotated = c("rotary_dim", 64)
    return {
        **sizes,
        "norm": "layer",
        "rope": Rope(pairing="neighbour", fraction=rotated / sizes["head_dim"]),
        "norm_eps": c("layer_norm_epsilon", 1e-5),
    }


def _gpt2(c, layer):
    sizes = c.sizes(hidden="n_embd", heads="n_head")
    scale = sizes["head_dim"] ** -0.5 if c("scale_attn_weights", True) else 1.0
    if c("scale_attn_by_inverse_layer_idx", False):
        scale /= layer + 1
    return {
        **sizes,
        "norm": "layer",
        "bias": True,
        "scale": scale,
        "norm_eps": c("layer_norm_epsilon", 1e-5),
    }


def _encoder(c, layer, bias="qkv_bias"):
    return {
        **c.sizes(),
        "norm": "layer",
        "bias": c(bias, True),
        "causal": False,
        "norm_eps": c("layer_norm_eps", 1e-12),
    }


FAMILIES = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "gpt_oss": _gpt_oss,
    "glm": _glm,
    "gpt_neox": _gpt_neox,
    "gptj": _gptj,
    "gpt2": _gpt2,
    "bert": _encoder,
    "vit": _encoder,
}
"""What is known, by ``model_type``."""

# --- Loading weights -----------------------------------------------------------------------------

UNIT_OFFSET = ("gemma2", "gemma3_text")
"""Families whose RMSNorm multiplies by 1 + weight."""

NORM_NAMES = ("input_layernorm", "ln_1", "layernorm_before")
POSITION_NAMES = ("wpe", "position_embeddings", "token_type_embeddings")


def load_into(compiled: CompiledBlock, module: torch.nn.Module) -> torch.nn.Module:
    """Copy a compiled block's weights into a PyTorch module; returns the module.

    Parameters
    ----------
    compiled : CompiledBlock
    module : torch.nn.Module
        An attention, a layer or a whole model of the spec's family, or a
        ``torch.nn.MultiheadAttention``. Of a model the first layer is filled, and the position
        and token-type embeddings, which it would add to ``inputs_embeds``, are set to zero. Values
        and output projections stay as they are.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ParameterError
        The module has no attention that is known, or the shapes do not fit.
    """
    torch = require("torch", "blocks")
    spec, weights = compiled.spec, compiled.weights

    def copy(parameter, array):
        if tuple(parameter.shape) != array.shape:
            raise ParameterError(
                f"module: a parameter of shape {tuple(parameter.shape)}, expected {array.shape}"
            )
        parameter.copy_(torch.as_tensor(np.ascontiguousarray(array)))

    with torch.no_grad():
        attention = _first(module, lambda part: any(hasattr(part, name) for name in LAYOUTS))
        if attention is None:
            raise ParameterError(
                f"module: no attention of a known layout in {type(module).__name__}"
            )
        layout = next(LAYOUTS[name] for name in LAYOUTS if hasattr(attention, name))
        for parameter, array in layout(attention, spec, weights):
            copy(parameter, array)
        offset = 1.0 if spec.family in UNIT_OFFSET else 0.0
        for name in ("q_norm", "k_norm"):
            if spec.qk_norm:
                copy(getattr(attention, name).weight, weights[f"{name}.weight"] - offset)
        if spec.sink is not False:
            copy(attention.sinks, weights["sinks"])
        norm = _norm_before(module)
        if spec.norm and norm is not None:
            copy(norm.weight, weights["input_layernorm.weight"] - offset)
            if getattr(norm, "bias", None) is not None:
                copy(norm.bias, weights["input_layernorm.bias"])
        for part in module.modules():
            for name in POSITION_NAMES:
                if hasattr(part, name):
                    getattr(part, name).weight.zero_()
    return module


def _norm_before(module):
    """Return the norm in front of the first layer's attention, or None."""
    for name in NORM_NAMES:
        layer = _first(module, lambda part, name=name: hasattr(part, name))
        if layer is not None:
            return getattr(layer, name)
    # BERT normalises after its layers: in front of the first one are the embeddings.
    embeddings = _first(module, lambda part: hasattr(part, "word_embeddings"))
    return getattr(embeddings, "LayerNorm", None)


def _first(module, wanted):
    return next((part for part in module.modules() if wanted(part)), None)


def _separate(attention, spec, weights, names=("q_proj", "k_proj")):
    """Yield (parameter, array) of an attention with a linear layer each for queries and keys."""
    for name, ours in zip(names, ("q_proj", "k_proj"), strict=True):
        layer = getattr(attention, name)
        yield layer.weight, weights[f"{ours}.weight"]
        if layer.bias is not None:
            yield layer.bias, weights[f"{ours}.bias"]


def _query_key(attention, spec, weights):
    return _separate(attention, spec, weights, ("query", "key"))


def _stacked(attention, spec, weights):
    """One matrix (in, out) for queries, keys and values, as GPT-2 has it."""
    d = spec.hidden_size
    layer = attention.c_attn
    for place, name in enumerate(("q_proj", "k_proj")):
        at = slice(place * d, (place + 1) * d)
        yield layer.weight[:, at], weights[f"{name}.weight"].T
        yield layer.bias[at], weights[f"{name}.bias"]


def _interleaved(attention, spec, weights):
    """One matrix (out, in), head by head queries, keys and values, as GPT-NeoX has it."""
    layer, m = attention.query_key_value, spec.head_dim
    for place, name in enumerate(("q_proj", "k_proj")):
        for head in range(spec.query_heads):
            ours, at = slice(head * m, (head + 1) * m), (3 * head + place) * m
            yield layer.weight[at : at + m], weights[f"{name}.weight"][ours]
            if layer.bias is not None:
                yield layer.bias[at : at + m], weights[f"{name}.bias"][ours]


def _multihead(attention, spec, weights):
    """torch.nn.MultiheadAttention: one matrix (out, in), all queries, all keys, all values."""
    d = spec.hidden_size
    for place, name in enumerate(("q_proj", "k_proj")):
        at = slice(place * d, (place + 1) * d)
        yield attention.in_proj_weight[at], weights[f"{name}.weight"]
        if attention.in_proj_bias is not None:
            yield attention.in_proj_bias[at], weights.get(f"{name}.bias", np.zeros(d))


LAYOUTS = {
    "q_proj": _separate,
    "query": _query_key,
    "c_attn": _stacked,
    "query_key_value": _interleaved,
    "in_proj_weight": _multihead,
}
"""How attentions store their projections, by an attribute that tells."""

# --- Files ---------------------------------------------------------------------------------------


def save(compiled: CompiledBlock, path: str | Path) -> None:
    """Write ``inputs_embeds`` and the weights of a compiled block (extra ``files``).

    Parameters
    ----------
    compiled : CompiledBlock
    path : str or path
        Ends in .safetensors. The metadata hold the spec as JSON.

    Raises
    ------
    FileError
        The name ends otherwise, or the file cannot be written.
    """
    if Path(path).suffix != ".safetensors":
        raise FileError(f"{path}: a compiled block is written as .safetensors")
    check_writable(path)
    arrays = {"inputs_embeds": compiled.inputs_embeds, **compiled.weights}
    # safetensors stores the memory as it lies, whatever the strides say.
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {"spec": json.dumps(asdict(compiled.spec)), "leak": repr(compiled.leak)}
    library = require("safetensors.numpy", "files")
    write_atomically(path, library.save(arrays, metadata=metadata))
