"""Configurations become specs; the command; blocks as ONNX graphs."""

import argparse
import json
import math

import numpy as np
import pytest
from scipy import sparse

import jl_attention as jla
from jl_attention import blocks, patterns
from jl_attention.blocks import BlockSpec, Rope, commands

SIZES = {"hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
OLD = {"hidden_size": 512, "num_attention_heads": 8}
HALF = Rope()


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"model_type": "llama"}, {"rope": HALF}),
        ({"model_type": "llama", "num_key_value_heads": None}, {"kv_heads": 8, "rope": HALF}),
        ({"model_type": "llama", "rope_theta": 5e5}, {"rope": Rope(5e5)}),
        (
            {"model_type": "llama", "rope_parameters": {"rope_theta": 7.0}, "rms_norm_eps": 0.1},
            {"rope": Rope(7.0), "norm_eps": 0.1},
        ),
        ({"model_type": "llama", "attention_bias": True}, {"rope": HALF, "bias": True}),
        ({"model_type": "mistral", "sliding_window": 9}, {"rope": HALF, "window": 9}),
        ({"model_type": "qwen2"}, {"rope": HALF, "bias": True}),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 0},
            {"rope": HALF, "bias": True, "window": 4096},
        ),
        ({"model_type": "qwen3"}, {"rope": HALF, "qk_norm": True}),
        (
            {"model_type": "gemma2", "query_pre_attn_scalar": 144},
            {"rope": HALF, "softcap": 50.0, "scale": 1 / 12, "window": 4096},
        ),
        (
            {"model_type": "gemma3_text", "sliding_window": 5},
            {"rope": HALF, "scale": 1 / 16, "window": 5, "qk_norm": True},
        ),
        (
            {"model_type": "gpt_oss", "layer_types": ["full_attention"]},
            {"rope": Rope(150000.0), "bias": True, "sink": True, "norm_eps": 1e-5},
        ),
        (
            {"model_type": "glm"},
            {"rope": Rope(pairing="neighbour", fraction=0.5), "bias": True, "norm_eps": 1.5625e-7},
        ),
    ],
)
def test_decoders_with_grouped_heads(config, wanted):
    found = blocks.from_config(SIZES | config)
    sizes = {"hidden_size": 512, "query_heads": 8, "kv_heads": 2, "head_dim": 64}
    assert found == BlockSpec(**sizes | wanted, family=config["model_type"])


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (
            OLD | {"model_type": "gpt_neox", "rotary_pct": 0.5, "rotary_emb_base": 99.0},
            {"rope": Rope(99.0, fraction=0.5), "bias": True, "norm_eps": 1e-5},
        ),
        (
            {"model_type": "gptj", "n_embd": 512, "n_head": 8, "rotary_dim": 16},
            {"rope": Rope(pairing="neighbour", fraction=0.25), "norm_eps": 1e-5},
        ),
        (
            {"model_type": "gpt2", "n_embd": 512, "n_head": 8},
            {"bias": True, "scale": 0.125, "norm_eps": 1e-5},
        ),
        (OLD | {"model_type": "bert"}, {"bias": True, "causal": False, "norm_eps": 1e-12}),
        (
            OLD | {"model_type": "vit", "qkv_bias": False},
            {"causal": False, "norm_eps": 1e-12},
        ),
    ],
)
def test_blocks_with_layer_norm(config, wanted):
    sizes = {"hidden_size": 512, "query_heads": 8, "kv_heads": 8, "head_dim": 64, "norm": "layer"}
    assert blocks.from_config(config) == BlockSpec(**sizes | wanted, family=config["model_type"])


def test_layers_differ_where_they_do():
    gemma = SIZES | {"model_type": "gemma3_text", "rope_theta": 1e6, "rope_local_base_freq": 1e4}
    found = [blocks.from_config(gemma, layer) for layer in range(6)]
    assert [spec.window for spec in found] == [4096] * 5 + [None]
    assert [spec.rope.theta for spec in found] == [1e4] * 5 + [1e6]
    both = gemma | {
        "rope_parameters": {
            "sliding_attention": {"rope_theta": 3.0},
            "full_attention": {"rope_theta": 5.0, "rope_type": "linear", "factor": 8.0},
        }
    }
    assert blocks.from_config(both, 0).rope.theta == 3
    assert blocks.from_config(both, 5).rope.frequencies[0] == 0.125
    typed = SIZES | {"model_type": "gemma2", "layer_types": ["full_attention", "sliding_attention"]}
    assert [blocks.from_config(typed, layer).window for layer in (0, 1)] == [None, 4096]
    gpt2 = {
        "model_type": "gpt2",
        "n_embd": 64,
        "n_head": 1,
        "scale_attn_by_inverse_layer_idx": True,
    }
    assert blocks.from_config(gpt2, 2).scale == pytest.approx(1 / 24, rel=1e-12)
    with pytest.raises(jla.ParameterError, match="layer=2: config has 2 layers"):
        blocks.from_config(typed, 2)


def test_scaled_rotary_embeddings_by_hand():
    def rope(**entries):
        config = {"model_type": "llama", "hidden_size": 8, "num_attention_heads": 1}
        return blocks.from_config(config | {"rope_scaling": entries, "rope_theta": 10000.0}).rope

    plain = [1.0, 0.1, 0.01, 0.001]
    assert np.allclose(rope(type="linear", factor=4.0).frequencies, np.array(plain) / 4, rtol=1e-6)
    # Turns over 1000 positions: 159, 15.9, 1.59, 0.159; kept from 4 on, stretched up to 1.
    kept = (1000 * 0.01 / (2 * math.pi) - 1) / 3
    wanted = [1.0, 0.1, (1 - kept) * 0.01 / 8 + kept * 0.01, 0.001 / 8]
    found = rope(
        rope_type="llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=1000,
    )
    assert np.allclose(found.frequencies, wanted, rtol=1e-6)
    assert found.factor == 1
    found = rope(rope_type="yarn", factor=8.0, original_max_position_embeddings=1000)
    # Pairs that turn 32 times and once: 0.70 and 2.20; whole numbers around them: 0 and 3.
    wanted = [f * (1 - r) + f / 8 * r for f, r in zip(plain, (0, 1 / 3, 2 / 3, 1), strict=True)]
    assert np.allclose(found.frequencies, wanted, rtol=1e-6)
    assert found.factor == pytest.approx(0.1 * math.log(8) + 1, rel=1e-12)
    with pytest.raises(jla.ParameterError, match="rope_type='longrope' is not known"):
        rope(rope_type="longrope", factor=8.0)
    with pytest.raises(jla.ParameterError, match="factor is missing"):
        rope(rope_type="linear")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "mamba"}, "model_type='mamba' is not known.*llama"),
        ({}, "model_type=None"),
        ({"model_type": "llama"}, "hidden_size is missing"),
        ({"model_type": "gptj"}, "n_embd is missing"),
        ({"model_type": "llama", "hidden_size": "wide", "num_attention_heads": 1}, "hidden_size="),
        ([1], "expected a dict"),
    ],
)
def test_bad_configurations_are_refused(config, message):
    with pytest.raises(jla.ParameterError, match=message):
        blocks.from_config(config)


def test_the_text_part_of_a_model_of_images_is_read():
    whole = {"model_type": "gemma3", "text_config": SIZES | {"model_type": "gemma3_text"}}
    assert blocks.from_config(whole).qk_norm is True


# --- The command ---------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs a command line in a folder with a configuration and patterns."""
    monkeypatch.chdir(tmp_path)
    config = {"model_type": "llama", "hidden_size": 194, "num_attention_heads": 2, "head_dim": 64}
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_key_value_heads": 1}))
    sparse.save_npz("window.npz", patterns.causal_window(48, 2, max_ratio=3.0, rng=0))
    np.save("mask.npy", np.eye(48, dtype=bool))
    parser = argparse.ArgumentParser()
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--normalize", action="store_true")
    shared.add_argument("--max-bytes", type=int, default=2**30)
    commands.add_commands(parser.add_subparsers(), shared)

    def run(line):
        options = parser.parse_args(line.split())
        return options.run(options)

    return run


def test_the_command_writes_what_compile_returns(run):
    code, result, text = run("compile config.json window.npz mask.npy -o out.safetensors --seed 3")
    assert code == 0
    assert json.loads(json.dumps(result))["heads"][0]["leak"] <= 0.01
    assert "2 of 2 query heads on 1 key heads, L = 48, 64 of 64 coordinates" in text
    load = pytest.importorskip("safetensors.numpy").load_file
    spec = blocks.from_config(commands.read_config("config.json"))
    wanted = [patterns.causal_window(48, 2, max_ratio=3.0, rng=0), np.eye(48)]
    same = blocks.compile(spec, wanted, rng=3, dtype=np.float32)
    stored = load("out.safetensors")
    assert set(stored) == {"inputs_embeds", *same.weights}
    assert np.array_equal(stored["inputs_embeds"], same.inputs_embeds)
    _, result, _ = run("compile config.json window.npz - -o out.safetensors --leak 0.5")
    assert [entry["head"] for entry in result["heads"]] == [0]
    assert len(run("compile config.json mask.npy -o out.safetensors")[1]["heads"]) == 2


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("compile none.json window.npz -o o.safetensors", jla.FileError, "no such file"),
        ("compile window.npz window.npz -o o.safetensors", jla.FileError, "readable JSON"),
        ("compile list.json window.npz -o o.safetensors", jla.ParameterError, "a JSON object"),
        ("compile config.json window.npz -o o.npz", jla.FileError, "safetensors"),
        ("compile config.json window.npz -o no/o.safetensors", jla.FileError, "no directory"),
        (
            "compile config.json window.npz mask.npy mask.npy -o o.safetensors",
            jla.ParameterError,
            "patterns: 3 of them",
        ),
        ("compile config.json window.npz -o o.safetensors --max-bytes 5", jla.FileError, "5 bytes"),
        (
            "compile config.json window.npz -o o.safetensors --dim 1",
            jla.ParameterError,
            "dim=1: splits",
        ),
        (
            "compile config.json window.npz -o o.safetensors --leak 1e-200",
            jla.ConstructionError,
            "BlockSpec.radius",
        ),
    ],
)
def test_the_command_refuses(run, line, error, message):
    with open("list.json", "w") as file:
        file.write("[1]")
    with pytest.raises(error, match=message):
        run(line)


# --- ONNX Runtime --------------------------------------------------------------------------------


@pytest.mark.parametrize("number_format", ["float32", "float16"])
@pytest.mark.parametrize(
    "changes",
    [
        {"norm": None},
        {"rope": HALF},
        {"rope": Rope(pairing="neighbour", fraction=0.5), "norm": "layer", "bias": True},
        {"rope": Rope(fraction=0.25), "softcap": 30.0},
        {"rope": HALF, "window": 24},
        {"rope": HALF, "qk_norm": 4.0},
        {"causal": False, "norm": "layer"},
    ],
)
def test_onnx_runtime_computes_the_reference(changes, number_format):
    pytest.importorskip("onnxruntime")
    from jl_attention.blocks.onnx import onnx_attention

    spec = BlockSpec(
        **{"hidden_size": 194, "query_heads": 2, "kv_heads": 1, "head_dim": 64} | changes
    )
    wanted = [patterns.causal_window(64, 3, max_ratio=4.0, rng=0), np.eye(64)]
    compiled = blocks.compile(spec, wanted, rng=0)
    for head in range(2):
        M = onnx_attention(compiled, head, number_format)
        close = {"float32": 1e-5, "float16": 0.02}[number_format]
        assert np.abs(M - compiled.attention(head)).max() < close
        assert np.abs(M - wanted[1 - head]).max() > 0.3


def test_onnx_has_all_heads_in_one_graph():
    onnxruntime = pytest.importorskip("onnxruntime")
    from jl_attention.blocks.onnx import onnx_attention, onnx_model

    spec = BlockSpec(257, 4, 2, 64, rope=HALF)
    wanted = [patterns.causal_window(64, k) for k in (1, 2, 3, 4)]
    compiled = blocks.compile(spec, wanted, rng=0, dim=42)
    session = onnxruntime.InferenceSession(
        onnx_model(spec, compiled.weights, 64).SerializeToString(),
        providers=["CPUExecutionProvider"],
    )
    (P,) = session.run(["P"], {"X": compiled.inputs_embeds.astype(np.float32)[None]})
    assert P.shape == (1, 4, 64, 64)
    for head in range(4):
        assert np.abs(P[0, head] - onnx_attention(compiled, head)).max() < 1e-6
    for changes in ({"sink": True}, {"alibi": True}):
        other = BlockSpec(257, 4, 2, 64, **changes)
        with pytest.raises(jla.ParameterError, match="no place for a sink or for ALiBi"):
            onnx_model(other, compiled.weights, 64)
    with pytest.raises(jla.ParameterError, match="number_format='bfloat16'"):
        onnx_attention(compiled, 0, "bfloat16")
