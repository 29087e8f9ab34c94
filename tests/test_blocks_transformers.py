"""Stock blocks show the patterns: models of every family, built from a configuration.

Needs the extra ``blocks`` (PyTorch and transformers); nothing is downloaded.
"""

import dataclasses

import numpy as np
import pytest

import jl_attention as jla
from jl_attention import blocks
from jl_attention.blocks import measure_rows

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [
    # Of the libraries, not of this package.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

LENGTH, LEAK = 96, 0.01
SMALL = {"num_hidden_layers": 1, "vocab_size": 32, "intermediate_size": 32}
GROUPED = SMALL | {
    "hidden_size": 324,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 64,
}
SEPARATE = SMALL | {"hidden_size": 512, "num_attention_heads": 4}
ENCODER = SEPARATE | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 150000.0,
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 64,
}
MODELS = {
    "llama": ("Llama", GROUPED),
    "llama3": ("Llama", GROUPED | {"rope_parameters": LLAMA3, "attention_bias": True}),
    "mistral": ("Mistral", GROUPED | {"sliding_window": 48}),
    "qwen2": ("Qwen2", GROUPED | {"num_key_value_heads": 2, "hidden_size": 388}),
    "qwen3": ("Qwen3", GROUPED | {"head_dim": 128, "hidden_size": 644}),
    "gemma2": ("Gemma2", GROUPED | {"query_pre_attn_scalar": 64, "sliding_window": 48}),
    "gemma3": (
        "Gemma3Text",
        GROUPED | {"head_dim": 128, "hidden_size": 644, "query_pre_attn_scalar": 32},
    ),
    "gpt_oss": (
        "GptOss",
        GROUPED
        | {"rope_parameters": YARN, "num_local_experts": 1, "num_experts_per_tok": 1}
        | {
            "layer_types": ["full_attention"],
            "hidden_size": 384,
        },  # its experts need multiples of 8
    ),
    "glm": ("Glm", GROUPED | {"pad_token_id": 0, "attention_bias": True}),
    "gpt_neox": ("GPTNeoX", SEPARATE),
    "gptj": ("GPTJ", SMALL | NO_DROPOUT | {"n_embd": 512, "n_head": 4, "n_layer": 1}),
    "gpt2": ("GPT2", SMALL | NO_DROPOUT | {"n_embd": 512, "n_head": 4, "n_layer": 1}),
    "bert": ("Bert", ENCODER),
}
LOOSE = {"qwen3": 0.05, "gemma3": 0.05}  # their norms forbid more, see `bounds`


def build(name, attention):
    """Return a stock model with one layer and random weights."""
    prefix, entries = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{prefix}Config")(**entries)
    model = getattr(transformers, f"{prefix}Model")
    try:
        return model._from_config(config, attn_implementation=attention).eval()
    except ValueError as error:
        if "does not support an attention implementation" in str(error):
            pytest.skip(f"this release has no {attention} for {prefix}")
        raise


def patterns_for(spec):
    """Return four different patterns that a causal block with a window of 48 can show."""
    rng = np.random.default_rng(0)
    tokens = np.arange(LENGTH)
    first = np.zeros((LENGTH, LENGTH))
    first[tokens, np.maximum(tokens - 40, 0)] = 1
    pair = jla.targets.causal_window(LENGTH, 2, max_ratio=3.0, rng=rng)
    found = [
        pair,
        jla.targets.causal_window(LENGTH, 1),
        first,
        jla.targets.vertical_slash(LENGTH, 0, 2, rng=4),
    ]
    if spec.window is not None:
        found[3] = jla.targets.causal_window(LENGTH, 3, rng=rng)
    if not spec.causal:
        found[3] = jla.targets.regular(LENGTH, 2, max_ratio=2.0, rng=rng)
    return found


def probed(model, X):
    """Return what scaled_dot_product_attention computes, (H, L, L): its values are the identity."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
    from transformers.modeling_utils import AttentionInterface

    found = []

    def probing(module, query, key, value, attention_mask, **settings):
        size, length = value.shape[-1], value.shape[-2]
        parts = []
        for start in range(0, length, size):
            unit = torch.zeros_like(value)
            stop = min(start + size, length)
            unit[:, :, start:stop, : stop - start] = torch.eye(stop - start, dtype=value.dtype)
            out, _ = sdpa_attention_forward(module, query, key, unit, attention_mask, **settings)
            parts.append(out.transpose(1, 2)[..., : stop - start])
        found.append(torch.cat(parts, dim=-1))
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)

    AttentionInterface.register("probing_sdpa", probing)
    AttentionMaskInterface.register("probing_sdpa", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model.set_attn_implementation("probing_sdpa")
    with torch.no_grad():
        model(inputs_embeds=X, use_cache=False)
    return found[0][0].float().numpy()


def shown(model, compiled, attention, dtype):
    """Return the attention of the first layer, (H, L, L), as the stock model computes it."""
    compiled.load_into(model)
    model = model.to(dtype)
    X = torch.tensor(compiled.inputs_embeds, dtype=dtype)[None]
    if attention == "sdpa":
        return probed(model, X)
    options = {} if isinstance(model, transformers.BertModel) else {"use_cache": False}
    with torch.no_grad():
        result = model(inputs_embeds=X, output_attentions=True, **options)
    return result.attentions[0][0].float().numpy()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", MODELS)
def test_a_stock_model_shows_the_patterns(name, attention, dtype):
    if (name, attention) == ("gptj", "sdpa"):
        pytest.skip("its attention is not an exchangeable function")
    model = build(name, attention)
    spec = blocks.from_config(model.config)
    leak = LOOSE.get(name, LEAK)
    compiled = blocks.compile(spec, patterns_for(spec), leak=leak, rng=1)
    M = shown(model, compiled, attention, getattr(torch, dtype))
    for head, pattern in enumerate(compiled.patterns):
        exact = compiled.attention(head)
        assert compiled.measure(head).leak <= leak
        if name == "gemma2" and attention == "sdpa":
            continue  # see test_sdpa_drops_the_softcap
        ratio, leaks, moved, _ = measure_rows(M[head], pattern)
        close = {"float32": 2e-4, "bfloat16": 0.15}[dtype]
        assert np.abs(M[head] - exact).max() < close
        assert leaks.max() < leak * {"float32": 1.01, "bfloat16": 1.6}[dtype]
        assert ratio.max() < {"float32": 1e-3, "bfloat16": 1.0}[dtype]
        # Theorem T8, with what a row sees in place of all tokens.
        counts = np.diff(pattern.indptr)
        x = (spec.visible_counts(LENGTH) - counts) * leak / counts
        assert (moved <= x / (1 + x) + close).all()


def test_sdpa_drops_the_softcap():
    """Release 5.2 has an SDPA path of Gemma 2, of other ratios; release 5.24 has none."""
    compiled = {}
    for attention in ("eager", "sdpa"):
        model = build("gemma2", attention)
        spec = blocks.from_config(model.config)
        assert spec.softcap == 50
        compiled[attention] = blocks.compile(spec, patterns_for(spec), rng=1)
        M = shown(model, compiled[attention], attention, torch.float32)
        ratio = measure_rows(M[0], compiled[attention].patterns[0])[0].max()
        assert (ratio < 1e-3) == (attention == "eager")


@pytest.mark.parametrize("name", ["vit", "multihead"])
def test_layers_that_take_hidden_states(name):
    spec = blocks.BlockSpec(512, 4, 4, 128, norm=None, bias=True, causal=False)
    if name == "vit":
        config = transformers.ViTConfig(**ENCODER)
        config._attn_implementation = "eager"
        layer = transformers.models.vit.modeling_vit.ViTLayer(config).eval()
        spec = blocks.from_config(config)
        assert spec.norm == "layer"
    else:
        layer = torch.nn.MultiheadAttention(512, 4, batch_first=True).eval()
    compiled = blocks.compile(spec, patterns_for(spec), rng=0)
    compiled.load_into(layer)
    X = torch.tensor(compiled.inputs_embeds, dtype=torch.float32)[None]
    with torch.no_grad():
        if name == "vit":
            found = []
            # Releases before 5.20 or so have a self-attention inside the attention.
            inner = getattr(layer.attention, "attention", layer.attention)
            inner.register_forward_hook(lambda *all: found.append(all[-1][1]))
            layer(X)
            M = found[0][0].numpy()
        else:
            M = layer(X, X, X, average_attn_weights=False)[1][0].numpy()
    for head in range(4):
        assert np.abs(M[head] - compiled.attention(head)).max() < 2e-4
        assert compiled.measure(head).leak <= LEAK


def test_the_output_is_that_of_the_patterns():
    """With the model's own values and output projection, within the bound of Theorem T8."""
    model = build("llama", "eager")
    spec = blocks.from_config(model.config)
    compiled = blocks.compile(spec, patterns_for(spec), leak=1e-3, rng=1)
    compiled.load_into(model)
    attention = model.layers[0].self_attn
    found = []
    attention.register_forward_hook(lambda *all: found.append(all[-1][0]))
    X = torch.tensor(compiled.inputs_embeds, dtype=torch.float32)[None]
    with torch.no_grad():
        model(inputs_embeds=X, use_cache=False)
    W_V, W_O = (
        layer.weight.detach().numpy().astype(float)
        for layer in (attention.v_proj, attention.o_proj)
    )
    wanted, bound = compiled.target_output(W_V, W_O)
    off = np.abs(found[0][0].numpy() - wanted)
    assert (off <= bound + 1e-5 * np.abs(wanted).max()).all()
    swapped = dataclasses.replace(compiled, patterns=compiled.patterns[::-1])
    other = swapped.target_output(W_V, W_O)[0]
    assert (np.abs(found[0][0].numpy() - other) > 10 * bound + 1e-3 * np.abs(wanted).max()).any()


@pytest.mark.parametrize("name", ["llama", "llama3", "gpt_neox", "glm", "gpt_oss"])
def test_frequencies_are_the_models(name):
    model = build(name, "eager")
    spec = blocks.from_config(model.config)
    ours = spec.rope.table(np.arange(200), spec.head_dim)
    position_ids = torch.arange(200)[None]
    theirs = model.rotary_emb(torch.zeros(1, 200, 1), position_ids)
    half = spec.rope.rotated(spec.head_dim) // 2
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a - b[0, :, :half].numpy()).max() < 3e-5


def test_a_model_of_another_shape_is_refused():
    model = build("llama", "eager")
    spec = blocks.BlockSpec(324, 4, 1, 32)
    compiled = blocks.compile(spec, patterns_for(spec), leak=0.1, rng=1)
    with pytest.raises(jla.ParameterError, match="a parameter of shape"):
        compiled.load_into(model)
    with pytest.raises(jla.ParameterError, match="no attention"):
        compiled.load_into(torch.nn.Linear(2, 2))
