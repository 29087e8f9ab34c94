"""The NumPy forward pass of a Llama-like decoder, and the model itself where it is installed."""

import math
from importlib import metadata

import numpy as np
import pytest

from jl_attention_book import datasets, smollm2

# --- The forward pass against plain loops ---------------------------------------------------------


def random_weights(rng, layers=2, hidden=8, inner=5, kv_heads=2, head_size=4, vocabulary=7):
    """Draw a small decoder's weights, named as in GGUF: queries as wide as the hidden size."""
    shapes = {"token_embd": (vocabulary, hidden), "output_norm": (hidden,)}
    for layer in range(layers):
        shapes |= {
            f"blk.{layer}.{name}": shape
            for name, shape in {
                "attn_norm": (hidden,),
                "ffn_norm": (hidden,),
                "attn_q": (hidden, hidden),
                "attn_k": (kv_heads * head_size, hidden),
                "attn_v": (kv_heads * head_size, hidden),
                "attn_output": (hidden, hidden),
                "ffn_gate": (inner, hidden),
                "ffn_up": (inner, hidden),
                "ffn_down": (hidden, inner),
            }.items()
        }
    return {f"{name}.weight": rng.standard_normal(shape) for name, shape in shapes.items()}


def forward_by_loops(weights, token_ids, head_size):
    """Run the decoder number by number: the definition, without a matrix product."""

    def linear(name, x):
        W = weights[f"{name}.weight"].tolist()
        return [[sum(w * v for w, v in zip(row, vector, strict=True)) for row in W] for vector in x]

    def norm(name, x):
        scale = weights[f"{name}.weight"].tolist()
        out = []
        for vector in x:
            root = math.sqrt(sum(v * v for v in vector) / len(vector) + 1e-5)
            out.append([v / root * s for v, s in zip(vector, scale, strict=True)])
        return out

    def add(x, y):
        return [[v + w for v, w in zip(a, b, strict=True)] for a, b in zip(x, y, strict=True)]

    def rotated(vector, position):
        out = []
        for p in range(head_size // 2):
            angle = position * 100_000 ** (-2 * p / head_size)
            a, b = vector[2 * p], vector[2 * p + 1]
            out += [a * math.cos(angle) - b * math.sin(angle)]
            out += [a * math.sin(angle) + b * math.cos(angle)]
        return out

    x = [weights["token_embd.weight"][t].tolist() for t in token_ids]
    length, layers = len(x), []
    for layer in range(2):
        name = f"blk.{layer}"
        y = norm(f"{name}.attn_norm", x)
        q, k, v = (linear(f"{name}.attn_{part}", y) for part in "qkv")
        heads, shared = len(q[0]) // head_size, len(q[0]) // len(k[0])
        mixed, found = [[] for _ in range(length)], []
        for head in range(heads):
            own = slice(head * head_size, (head + 1) * head_size)
            kv = slice(head // shared * head_size, (head // shared + 1) * head_size)
            queries = [rotated(q[i][own], i) for i in range(length)]
            keys = [rotated(k[i][kv], i) for i in range(length)]
            values = [v[i][kv] for i in range(length)]
            attention = []
            for i in range(length):
                weight = [
                    math.exp(
                        math.fsum(map(math.prod, zip(queries[i], keys[j], strict=True)))
                        / math.sqrt(head_size)
                    )
                    for j in range(i + 1)
                ]
                row = [w / sum(weight) for w in weight] + [0.0] * (length - i - 1)
                attention.append(row)
                mixed[i] += [
                    sum(row[j] * values[j][c] for j in range(length)) for c in range(head_size)
                ]
            found.append((queries, keys, values, attention))
        x = add(x, linear(f"{name}.attn_output", mixed))
        y = norm(f"{name}.ffn_norm", x)
        gate, up = linear(f"{name}.ffn_gate", y), linear(f"{name}.ffn_up", y)
        inner = [
            [g / (1 + math.exp(-g)) * u for g, u in zip(a, b, strict=True)]
            for a, b in zip(gate, up, strict=True)
        ]
        x = add(x, linear(f"{name}.ffn_down", inner))
        layers.append([np.array(part) for part in zip(*found, strict=True)] + [np.array(x)])
    logits = np.array(norm("output_norm", x)) @ weights["token_embd.weight"].T
    return layers, logits


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_layers_agree_with_loops(kv_heads, seed):
    rng = np.random.default_rng(seed)
    weights = random_weights(rng, hidden=16, kv_heads=kv_heads)
    token_ids = rng.integers(7, size=6)
    expected, logits = forward_by_loops(weights, token_ids, head_size=4)
    computed = list(smollm2.layers(weights, token_ids, head_size=4))
    assert len(computed) == len(expected) == 2
    for layer, parts in zip(computed, expected, strict=True):
        for array, reference in zip(layer, parts, strict=True):
            assert array.shape == reference.shape
            np.testing.assert_allclose(array, reference, rtol=1e-9, atol=1e-11)
    scores = smollm2.log_probabilities(weights, token_ids, head_size=4)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-12)
    shift = logits - scores
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:, :1], shift.shape), rtol=1e-9)


def test_every_weight_matters_but_what_comes_after_the_last_softmax():
    """Changing any other tensor changes the last attention, so the loops above test each."""
    rng = np.random.default_rng(0)
    weights = random_weights(rng)

    def last_attention(tensors):
        return list(smollm2.layers(tensors, np.array([0, 3, 6, 3, 1]), 4))[-1].attention

    original = last_attention(weights)
    silent = set()
    for name, tensor in weights.items():
        changed = weights | {name: tensor + 0.1 * rng.random(tensor.shape)}
        if np.allclose(last_attention(changed), original, atol=1e-9):
            silent.add(name)
    parts = ("attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
    assert silent == {f"blk.1.{part}.weight" for part in parts} | {"output_norm.weight"}


def test_only_differences_of_positions_matter():
    """<R_i q, R_j k> depends on i - j: one token repeated gives logits constant on diagonals."""
    weights = random_weights(np.random.default_rng(3))
    first = next(smollm2.layers(weights, np.full(8, 5), 4))
    logits = first.queries @ first.keys.swapaxes(1, 2)
    np.testing.assert_allclose(logits[:, 1:, 1:], logits[:, :-1, :-1], rtol=1e-9, atol=1e-12)
    assert np.ptp(logits, axis=(1, 2)).min() > 0.1


def test_the_precision_of_the_weights_is_kept():
    weights = random_weights(np.random.default_rng(1))
    single = {name: tensor.astype(np.float32) for name, tensor in weights.items()}
    for dtype, tensors in ((np.float64, weights), (np.float32, single)):
        for layer in smollm2.layers(tensors, np.arange(5), 4):
            assert {array.dtype for array in layer} == {np.dtype(dtype)}


def test_the_forward_pass_is_that_of_transformers():
    """LlamaForCausalLM rotates halves, not neighbours, so W_Q and W_K have other rows."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=24,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=4,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    rng = np.random.default_rng(0)
    weights = random_weights(rng, hidden=24, inner=20, vocabulary=50)
    model = transformers.LlamaForCausalLM(config).double().eval()
    names = {
        "token_embd": "model.embed_tokens",
        "output_norm": "model.norm",
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    state = {}
    for name, tensor in weights.items():
        *block, part, _ = name.split(".")
        if part in ("attn_q", "attn_k"):
            tensor = tensor.reshape(-1, 2, 2, 24).swapaxes(1, 2).reshape(-1, 24)
        prefix = f"model.layers.{block[1]}." if block else ""
        state[f"{prefix}{names[part]}.weight"] = torch.from_numpy(tensor.copy())
    missing = model.load_state_dict(state, strict=False).missing_keys
    assert set(missing) <= {"lm_head.weight"}  # tied to the embedding
    token_ids = rng.integers(50, size=9)
    with torch.no_grad():
        out = model(torch.from_numpy(token_ids)[None], output_attentions=True)
    computed = list(smollm2.layers(weights, token_ids, head_size=4))
    for layer, reference in zip(computed, out.attentions, strict=True):
        np.testing.assert_allclose(layer.attention, reference[0].numpy(), rtol=1e-4, atol=1e-5)
    expected = torch.log_softmax(out.logits[0], dim=1).numpy()
    scores = smollm2.log_probabilities(weights, token_ids, head_size=4)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


# --- The model itself, where it is installed ------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    for module in ("gguf", "tokenizers"):
        pytest.importorskip(module)
    try:
        metadata.distribution(smollm2.PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{smollm2.PACKAGE} is not installed")
    return smollm2.load_weights(), smollm2.load_tokenizer()


def test_tokens_spell_the_text_and_are_enough(model):
    for text in (*datasets.load_texts().values(), "3 x 17 = 51\n\ttab  two spaces"):
        token_ids, tokens = smollm2.tokenize(model[1], text, len(text))
        assert "".join(tokens) == text
        assert len(token_ids) >= smollm2.LENGTH or len(text) < 100
    for text in datasets.load_long_texts().values():
        assert len(smollm2.tokenize(model[1], text, len(text))[0]) >= smollm2.LENGTHS[-1]
    # Common words are one token, with the space before them; every digit is one.
    assert smollm2.tokenize(model[1], "the river 1024")[1] == ["the", " river", " ", *"1024"]


@pytest.mark.parametrize(
    ("prompt", "after"),
    [
        ("The capital of France is", " Paris"),
        ("One, two, three, four,", " five"),
        ("def add(a, b):\n    return a +", " b"),
    ],
)
def test_the_model_knows_what_comes_next(model, prompt, after):
    weights, tokenizer = model
    token_ids, _ = smollm2.tokenize(tokenizer, prompt)
    scores = smollm2.log_probabilities(weights, token_ids)[-1]
    assert tokenizer.decode([int(np.argmax(scores))]) == after
    assert scores.max() > math.log(0.25)


def test_english_surprises_the_model_far_less_than_its_words_in_random_order(model):
    """The order of the words, hence the positions, matters: a wrong rotation would not pass."""
    weights, tokenizer = model
    token_ids, _ = smollm2.tokenize(tokenizer, datasets.load_texts()["biology"])
    shuffled = np.random.default_rng(0).permutation(token_ids)
    assert smollm2.perplexity(weights, token_ids) < 25
    assert smollm2.perplexity(weights, shuffled) > 1000
