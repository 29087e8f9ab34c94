"""Real attention to look at: an extract of all-MiniLM-L6-v2, and what to measure on it.

The extract holds queries, keys and the largest attention weights of a trained encoder with 6 layers
of 12 heads of query dimension 32, on texts of L = 128 tokens. ``data/README.md`` says what each of
its arrays is, `jl_attention_book.minilm` computes it. Layers, heads and tokens count from 0.
"""

import json
from dataclasses import dataclass
from importlib import resources

import numpy as np
from scipy import sparse
from scipy.special import softmax

from jl_attention.errors import ParameterError, check_choice, check_int, check_real
from jl_attention.targets import normalize_rows, top_columns

__all__ = [
    "EXTRACT",
    "MiniLM",
    "column_use",
    "entries_for_mass",
    "jaccard",
    "load_minilm",
    "load_texts",
    "top_columns",
]

EXTRACT = "minilm_attention_extract.npz"


# --- What an attention matrix is like ------------------------------------------------------------


def entries_for_mass(attention, mass=0.9):
    """Return how many of its largest entries each row needs to hold the given mass.

    Parameters
    ----------
    attention : ndarray, shape (..., L, L)
        Right-stochastic matrices.
    mass : float, optional
        Between 0 and 1, exclusive.

    Returns
    -------
    ndarray of int, shape (..., L)
        The least n such that the n largest entries of the row sum to `mass` or more.

    Raises
    ------
    ParameterError
        `mass` is out of range.
    """
    mass = check_real("mass", mass, above=0, below=1)
    held = np.cumsum(-np.sort(-attention, axis=-1), axis=-1)
    return 1 + (held[..., :-1] < mass).sum(axis=-1)


def column_use(columns):
    """Return how many rows have each column in their support.

    Parameters
    ----------
    columns : ndarray of int, shape (..., L, k)
        The support of each row, as `top_columns` gives it.

    Returns
    -------
    ndarray of int, shape (..., L)
    """
    *stack, length, row_nnz = columns.shape
    flat = columns.reshape(-1, length * row_nnz).astype(np.int64)
    matrix = np.arange(len(flat))[:, None]
    counts = np.bincount((matrix * length + flat).ravel(), minlength=len(flat) * length)
    return counts.reshape(*stack, length)


def jaccard(columns, other):
    """Return the Jaccard index of two supports, row by row: common columns over all columns.

    Parameters
    ----------
    columns, other : ndarray of int, shape (..., L, k)
        Supports, each with k distinct columns a row.

    Returns
    -------
    ndarray of float64, shape (..., L)
    """
    common = (columns[..., :, None] == other[..., None, :]).sum(axis=(-2, -1))
    return common / (columns.shape[-1] + other.shape[-1] - common)


# --- The extract ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class MiniLM:
    """Real self-attention of all-MiniLM-L6-v2, as `load_minilm` returns it.

    For three texts the eight largest entries of every row of all 72 attention matrices are here,
    and for five of the heads also the whole queries and keys. For these three and nine more texts
    there are statistics of every head. Arrays are read-only.

    Attributes
    ----------
    texts : tuple of str
        Names of the three texts.
    heads : tuple of (int, int)
        The five (layer, head) with queries and keys.
    token : ndarray of str, shape (3, 128)
        Text, position: the wordpieces, "[CLS]" first and "[SEP]" last.
    query, key : ndarray of float64, shape (3, 5, 128, 32)
        Text, stored head, token, query dimension. Rounded to half precision when stored.
    top_column : ndarray of int64, shape (3, 6, 12, 128, 8)
        Text, layer, head, row: the columns of the eight largest entries, largest first.
    top_value : ndarray of float64, shape (3, 6, 12, 128, 8)
        These entries. Rounded to half precision when stored.
    all_texts : tuple of str
        Names of the twelve texts that the statistics are about; the first three are `texts`.
    entries_for_90 : ndarray of int64, shape (12, 6, 12)
        Text, layer, head: the median over rows of ``entries_for_mass(M, 0.9)``, rounded down.
    busiest_column : ndarray of int64, shape (12, 6, 12)
        The most rows that share a column in their top-5 supports: the maximum of `column_use`.
    cls_mass : ndarray of float64, shape (12, 6, 12)
        The mean over rows of the mass on [CLS], M[:, 0].
    support_overlap : ndarray of float64, shape (6, 12)
        Layer, head: `jaccard` of the top-5 supports of the same row in two texts, averaged over
        the 128 rows and the 66 pairs of texts.
    """

    texts: tuple
    heads: tuple
    token: np.ndarray
    query: np.ndarray
    key: np.ndarray
    top_column: np.ndarray
    top_value: np.ndarray
    all_texts: tuple
    entries_for_90: np.ndarray
    busiest_column: np.ndarray
    cls_mass: np.ndarray
    support_overlap: np.ndarray

    @property
    def length(self):
        """Sequence length L = 128 of every text."""
        return self.token.shape[1]

    def tokens(self, text):
        """Return the wordpieces of a text in `texts`, a list of L strings."""
        return self.token[self._text(text)].tolist()

    def queries(self, text, layer, head):
        """Return the queries of a stored head, shape (L, 32)."""
        return self.query[self._text(text), self._stored_head(layer, head)]

    def keys(self, text, layer, head):
        """Return the keys of a stored head, shape (L, 32)."""
        return self.key[self._text(text), self._stored_head(layer, head)]

    def logits(self, text, layer, head):
        """Return Lambda = Q K^T / sqrt(m) of a stored head, shape (L, L); m = 32."""
        queries, keys = self.queries(text, layer, head), self.keys(text, layer, head)
        return queries @ keys.T / np.sqrt(queries.shape[1])

    def attention(self, text, layer, head):
        """Return the attention matrix of a stored head, right-stochastic, shape (L, L).

        It is the softmax of `logits`, so its rows sum to 1 in float64; each entry is within 1e-3
        of the model's own, because queries and keys are stored in half precision.

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
        return softmax(self.logits(text, layer, head), axis=1)

    def top_k(self, text, layer, head, row_nnz=8):
        """Return the largest entries of each row of any of the 72 attention matrices.

        Parameters
        ----------
        text : str
            One of `texts`.
        layer, head : int
            From 0 to 5 and from 0 to 11.
        row_nnz : int, optional
            k, between 1 and 8.

        Returns
        -------
        columns : ndarray of int64, shape (L, k)
            Largest entry first.
        values : ndarray of float64, shape (L, k)

        Raises
        ------
        ParameterError
            An argument is out of range.
        """
        layers, heads, _, stored = self.top_column.shape[1:]
        layer = check_int("layer", layer, minimum=0, maximum=layers - 1)
        head = check_int("head", head, minimum=0, maximum=heads - 1)
        row_nnz = check_int("row_nnz", row_nnz, maximum=stored)
        where = self._text(text), layer, head, slice(None), slice(row_nnz)
        return self.top_column[where], self.top_value[where]

    def target(self, text, layer, head, row_nnz=8):
        """Return the entries of `top_k` as a target: rows rescaled to sum to 1, zero elsewhere.

        Entries below 3e-8 are stored as 0, so a few rows have fewer than k nonzeros.

        Parameters and errors as in `top_k`.

        Returns
        -------
        scipy.sparse.csr_array, shape (L, L)
        """
        columns, values = self.top_k(text, layer, head, row_nnz)
        start = np.arange(0, columns.size + 1, columns.shape[1])
        shape = (self.length, self.length)
        return normalize_rows(sparse.csr_array((values.ravel(), columns.ravel(), start), shape))

    def _text(self, text):
        return self.texts.index(check_choice("text", text, self.texts))

    def _stored_head(self, layer, head):
        if (layer, head) not in self.heads:
            raise ParameterError(
                f"layer={layer!r}, head={head!r}: queries and keys are stored for the heads "
                f"{', '.join(map(str, self.heads))} only"
            )
        return self.heads.index((layer, head))


def load_minilm():
    """Load the extract of real attention that comes with the package.

    Returns
    -------
    MiniLM
    """
    with _data_file(EXTRACT).open("rb") as file, np.load(file, allow_pickle=False) as stored:
        arrays = {
            "token": stored["token"],
            "query": stored["q"].astype(np.float64),
            "key": stored["k"].astype(np.float64),
            "top_column": stored["topk_index"].astype(np.int64),
            "top_value": stored["topk_value"].astype(np.float64),
            "entries_for_90": stored["stat_k90_median"].astype(np.int64),
            "busiest_column": stored["stat_top5_colmax"].astype(np.int64),
            "cls_mass": stored["stat_cls_mass"].astype(np.float64),
            "support_overlap": stored["stat_top5_jaccard"].astype(np.float64),
        }
        texts = tuple(stored["text_name"].tolist())
        all_texts = tuple(stored["stat_text"].tolist())
        heads = tuple((layer, head) for layer, head in stored["qk_head"].tolist())
    for array in arrays.values():
        array.setflags(write=False)
    return MiniLM(texts=texts, all_texts=all_texts, heads=heads, **arrays)


def load_texts():
    """Return the twelve texts behind the extract: a dict from name to text.

    The model reads the first 126 wordpieces of each.
    """
    return json.loads(_data_file("texts.json").read_text(encoding="utf-8"))


def _data_file(name):
    return resources.files(__package__) / "data" / name
