"""Real attention to look at: extracts of two models, an encoder and a causal decoder.

all-MiniLM-L6-v2 has 6 layers of 12 heads of query dimension 32, and every token looks at all
tokens; SmolLM2-135M-Instruct has 30 layers of 9 heads of query dimension 64, and a token looks at
those up to itself. Both read the same texts, L = 128 tokens of each. ``data/README.md`` says what
each array is, `jl_attention_book.minilm` and `jl_attention_book.smollm2` compute them. Layers,
heads and tokens count from 0.
"""

import json
from dataclasses import dataclass
from importlib import resources

import numpy as np
from scipy import sparse
from scipy.special import softmax

from jl_attention.errors import ParameterError, check_choice, check_int

MINILM = "minilm_attention_extract.npz"
SMOLLM2 = "smollm2_attention_extract.npz"


@dataclass(frozen=True, eq=False)
class RealAttention:
    """Self-attention of a trained model, as `load_minilm` and `load_smollm2` return it.

    For three texts there are the whole queries, keys and values of five heads, and for all or one
    of these texts the largest entries of the rows of every head. For these three and nine more
    texts there are statistics of every head. Arrays are read-only.

    Attributes
    ----------
    name : str
    causal : bool
        Row i of an attention matrix is zero beyond column i.
    first_row : int
        Statistics and largest entries are about the rows from here on: 0, or 64 in a causal model,
        whose first rows are short whatever the head does.
    texts : tuple of str
        Names of the three texts.
    heads : tuple of (int, int)
        The five (layer, head) with queries, keys and values.
    token : ndarray of str, shape (3, L)
        Text, position: the tokens.
    query, key, value : ndarray of float64, shape (3, 5, L, m)
        Text, stored head, token, dimension. Rounded to half precision when stored.
    top_texts : tuple of str
        Names of the texts with the largest entries of every head: all three, or "story" alone.
    top_column : ndarray of int64, shape (len(top_texts), layers, heads, L - first_row, 8)
        Text, layer, head, row: the columns of the eight largest entries, largest first.
    top_value : ndarray of float64, shape (len(top_texts), layers, heads, L - first_row, 8)
        These entries. Rounded to half precision when stored.
    all_texts : tuple of str
        Names of the twelve texts that the statistics are about; `texts` are among them.
    statistics : dict of ndarray
        By name; the axes are text, an axis of the statistic's own if it has one, layer, head. See
        `attention_statistics.head_statistics` and `attention_statistics.text_statistics`.
    control_name : tuple of str
        The key sets of `controls`, see `attention_statistics.control_keys`.
    controls : ndarray, shape (3, 5, layers, heads)
        Text, key set, layer, head: see `attention_statistics.control_distances`.
    long_texts : tuple of str
    lengths : tuple of int
    entries_by_length : ndarray, shape (2, 2, len(lengths), layers, heads)
        Long text, with the first token or without it, length, layer, head: the median over rows of
        how many entries hold 90% of the mass.
    """

    name: str
    causal: bool
    first_row: int
    texts: tuple
    heads: tuple
    token: np.ndarray
    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    top_texts: tuple
    top_column: np.ndarray
    top_value: np.ndarray
    all_texts: tuple
    statistics: dict
    control_name: tuple
    controls: np.ndarray
    long_texts: tuple
    lengths: tuple
    entries_by_length: np.ndarray

    @property
    def length(self):
        """Sequence length L = 128 of every text."""
        return self.token.shape[1]

    @property
    def shape(self):
        """Number of layers, and of heads in each."""
        return self.top_column.shape[1:3]

    def statistic(self, name):
        """Return one of `statistics`: an array that begins with text and ends with layer, head.

        Raises
        ------
        ParameterError
            There is none of that name.
        """
        return self.statistics[check_choice("name", name, tuple(self.statistics))]

    def tokens(self, text):
        """Return the tokens of a text in `texts`, a list of L strings."""
        return self.token[self._text(text)].tolist()

    def queries(self, text, layer, head):
        """Return the queries of a stored head, shape (L, m)."""
        return self.query[self._text(text), self._stored_head(layer, head)]

    def keys(self, text, layer, head):
        """Return the keys of a stored head, shape (L, m)."""
        return self.key[self._text(text), self._stored_head(layer, head)]

    def values(self, text, layer, head):
        """Return the values of a stored head, shape (L, m): its output is M V."""
        return self.value[self._text(text), self._stored_head(layer, head)]

    def logits(self, text, layer, head):
        """Return Lambda = Q K^T / sqrt(m) of a stored head, shape (L, L), without a causal mask."""
        queries, keys = self.queries(text, layer, head), self.keys(text, layer, head)
        return queries @ keys.T / np.sqrt(queries.shape[1])

    def attention(self, text, layer, head):
        """Return the attention matrix of a stored head, right-stochastic, shape (L, L).

        It is the softmax of `logits`, over the visible columns, so its rows sum to 1 in float64;
        each entry is near the model's own, as queries and keys are stored in half precision
        (``data/README.md`` says how near).

        Parameters
        ----------
        text : str
            One of `texts`.
        layer, head : int
            One of `heads`.

        Returns
        -------
        ndarray of float64, shape (L, L)

        Raises
        ------
        ParameterError
            The text or the head is not stored.
        """
        logits = self.logits(text, layer, head)
        if self.causal:
            logits = np.where(np.tri(self.length, dtype=bool), logits, -np.inf)
        return softmax(logits, axis=1)

    def top_k(self, text, layer, head, row_nnz=8):
        """Return the largest entries of each row, from `first_row` on, of any attention matrix.

        Parameters
        ----------
        text : str
            One of `top_texts`.
        layer, head : int
        row_nnz : int, optional
            k, between 1 and 8.

        Returns
        -------
        columns : ndarray of int64, shape (L - first_row, k)
            Largest entry first.
        values : ndarray of float64, shape (L - first_row, k)

        Raises
        ------
        ParameterError
            An argument is out of range.
        """
        layers, heads = self.shape
        layer = check_int("layer", layer, minimum=0, maximum=layers - 1)
        head = check_int("head", head, minimum=0, maximum=heads - 1)
        row_nnz = check_int("row_nnz", row_nnz, maximum=self.top_column.shape[-1])
        text = self.top_texts.index(check_choice("text", text, self.top_texts))
        where = text, layer, head, slice(None), slice(row_nnz)
        return self.top_column[where], self.top_value[where]

    def target(self, text, layer, head, row_nnz=8):
        """Return the entries of `top_k` as a target: rows rescaled to sum to 1, zero elsewhere.

        Entries below 3e-8 are stored as 0, so a few rows have fewer than k nonzeros. For a causal
        model it is not square: its rows are those from `first_row` on.

        Parameters and errors as in `top_k`.

        Returns
        -------
        scipy.sparse.csr_array, shape (L - first_row, L)
        """
        columns, values = self.top_k(text, layer, head, row_nnz)
        values = values / values.sum(axis=1, keepdims=True)
        start = np.arange(0, columns.size + 1, columns.shape[1])
        shape = (len(columns), self.length)
        target = sparse.csr_array((values.ravel(), columns.ravel(), start), shape)
        target.sort_indices()
        target.eliminate_zeros()
        return target

    def _text(self, text):
        return self.texts.index(check_choice("text", text, self.texts))

    def _stored_head(self, layer, head):
        if (layer, head) not in self.heads:
            raise ParameterError(
                f"layer={layer!r}, head={head!r}: queries, keys and values are stored for the "
                f"heads {', '.join(map(str, self.heads))} only"
            )
        return self.heads.index((layer, head))


def load_minilm():
    """Load the extract of all-MiniLM-L6-v2, an encoder: 6 layers of 12 heads, m = 32.

    Returns
    -------
    RealAttention
    """
    return _load("all-MiniLM-L6-v2", MINILM, causal=False)


def load_smollm2():
    """Load the extract of SmolLM2-135M-Instruct, a causal decoder: 30 layers of 9 heads, m = 64.

    Returns
    -------
    RealAttention
    """
    return _load("SmolLM2-135M-Instruct", SMOLLM2, causal=True)


def _load(name, file_name, causal):
    with _data_file(file_name).open("rb") as file, np.load(file, allow_pickle=False) as stored:
        stored = dict(stored)
    arrays = {
        "token": stored["token"],
        "query": stored["q"].astype(np.float64),
        "key": stored["k"].astype(np.float64),
        "value": stored["v"].astype(np.float64),
        "top_column": stored["topk_index"].astype(np.int64),
        "top_value": stored["topk_value"].astype(np.float64),
        "controls": stored.pop("stat_controls").astype(np.float64),
        "entries_by_length": stored.pop("stat_entries_by_length").astype(np.float64),
    }
    names = {
        "texts": stored["text_name"],
        "top_texts": stored["topk_text"],
        "all_texts": stored.pop("stat_text"),
        "control_name": stored["control_name"],
        "long_texts": stored["long_text"],
        "lengths": stored["length"],
    }
    statistics = {
        key.removeprefix("stat_"): array.astype(np.float64)
        for key, array in stored.items()
        if key.startswith("stat_")
    }
    for array in (*arrays.values(), *statistics.values()):
        array.setflags(write=False)
    return RealAttention(
        name=name,
        causal=causal,
        first_row=arrays["token"].shape[1] - arrays["top_column"].shape[3],
        heads=tuple(map(tuple, stored["stored_head"].tolist())),
        statistics=statistics,
        **{key: tuple(array.tolist()) for key, array in names.items()},
        **arrays,
    )


def load_texts():
    """Return the twelve texts behind the extracts: a dict from name to text.

    The models read the first 128 tokens of each, [CLS] and [SEP] included.
    """
    return json.loads(_data_file("texts.json").read_text(encoding="utf-8"))


def load_long_texts():
    """Return the texts for lengths up to 1024: a dict from name to text.

    "bridge" is one story; "twelve" is the texts of `load_texts`, one after the other.
    """
    return {
        "bridge": _data_file("bridge.txt").read_text(encoding="utf-8").strip(),
        "twelve": "\n\n".join(load_texts().values()),
    }


def _data_file(name):
    return resources.files(__package__) / "data" / name
