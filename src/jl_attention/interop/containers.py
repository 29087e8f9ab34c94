"""Arrays in files: ``.npy``, ``.npz`` and ``.safetensors`` (extra ``files``); never with pickle.

A reader looks at the sizes that a file claims before it reads or allocates anything, so a
truncated, lying or hostile file costs a `FileError` and neither memory nor time.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import math
import sys
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FileError, MissingFileError, TargetError, require
from .atomic import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

__all__ = [
    "ARRAY_FILES",
    "MAX_BYTES",
    "STDIN",
    "UNREADABLE",
    "NpzArchive",
    "check_writable",
    "decompress",
    "errors_named",
    "listed",
    "read_arrays",
    "read_bytes",
    "read_content",
    "read_npy",
    "read_safetensors",
    "reason",
    "suffix_of",
    "write_arrays",
    "write_content",
]

MAX_BYTES = 2**30
"""Largest file, and largest unpacked content, that is read unless asked otherwise: 1 GiB."""

ARRAY_FILES = (".npz", ".safetensors")
"""Suffixes of files of several arrays."""

STDIN = "-"
"""The path that stands for the standard input."""

UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    OverflowError,
    RuntimeError,
    NotImplementedError,
    MemoryError,
    RecursionError,
    SyntaxError,
    Warning,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the parsers of the standard library, NumPy and SciPy raise on malformed bytes."""

_MAGIC = {
    b"PK\x03\x04": ".npz",
    b"\x93NUMPY": ".npy",
    b"\x1f\x8b": ".mtx.gz",
    b"BZh": ".mtx.bz2",
    b"%": ".mtx",
}
"""How contents begin that come without a suffix."""

_SAFETENSORS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


@contextmanager
def errors_named(name: str | Path, suffix: str = "") -> Iterator[None]:
    """Name the file in our own errors, and turn those of parsers into `FileError`."""
    name = "the standard input" if name == STDIN else name
    try:
        yield
    except (FileError, TargetError) as error:
        raise type(error)(f"{name}: {error}") from None
    except UNREADABLE as error:
        kind = f"{suffix} file" if suffix else "file"
        raise FileError(f"{name}: not a readable {kind}: {reason(error)}") from None


def write_arrays(path: str | Path, arrays: dict[str, np.ndarray], text: str) -> None:
    """Write arrays and a text to an ``.npz`` or ``.safetensors`` file, atomically.

    Parameters
    ----------
    path : str or path
    arrays : dict of str to ndarray
    text : str
        Stands beside them, as JSON does: under "settings" or in the metadata.

    Raises
    ------
    FileError
        As `check_writable`.
    MissingExtraError
        ``.safetensors`` without safetensors.
    """
    check_writable(path)
    if str(path).lower().endswith(".npz"):

        def write(file):
            np.savez(file, settings=np.array(text), **arrays)
    else:
        library = require("safetensors.numpy", "files")
        # Arrays that are not C-contiguous would be scrambled.
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        write = library.save(contiguous, metadata={"jl_attention": text})
    write_content(path, write)


def write_content(path: str | Path, content: bytes | memoryview | Callable) -> None:
    """Write as `write_atomically`, or raise `FileError`."""
    try:
        write_atomically(path, content)
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {reason(error)}") from None


def check_writable(path: str | Path, inputs: Sequence[str | Path] = ()) -> None:
    """Raise `FileError` where `write_arrays` would, before anything is computed.

    Parameters
    ----------
    path : str or path
    inputs : sequence of str or path, optional
        Files that are read for what is written: none of them may be overwritten.
    """
    path = Path(path)
    if suffix_of(path, None, ARRAY_FILES) == ".safetensors":
        require("safetensors.numpy", "files")
    if path.is_dir() or not path.parent.is_dir():
        why = "is a directory" if path.is_dir() else f"there is no directory {path.parent}"
        raise FileError(f"{path}: cannot be written: {why}")
    for source in inputs:
        if source != STDIN and path.exists() and Path(source).exists() and path.samefile(source):
            raise FileError(f"{path}: is what is read; write to another file")


def read_arrays(
    path: str | Path, max_bytes: int = MAX_BYTES, kind: str = "a file of arrays"
) -> tuple[dict[str, np.ndarray], str]:
    """Return the arrays and the text of a file that `write_arrays` wrote.

    Parameters
    ----------
    path : str or path
    max_bytes : int, optional
        Refuse files that are, or unpack to, more than this.
    kind : str, optional
        What the file should be, for the error message.

    Returns
    -------
    arrays : dict of str to ndarray
    text : str

    Raises
    ------
    FileError
        The file is too large, truncated, holds Python objects or no such text.
    MissingFileError
        There is no such file.
    """
    suffix, content = read_content(path, max_bytes, ARRAY_FILES)
    with errors_named(path, suffix):
        if suffix == ".npz":
            archive = NpzArchive(content, max_bytes)
            if "settings" not in archive:
                raise FileError(f"not {kind}: its settings are missing; {listed(archive)}")
            arrays = {name: archive[name] for name in archive}
            return arrays, str(arrays.pop("settings").item())
        arrays, metadata = read_safetensors(content)
        return arrays, metadata.get("jl_attention", "null")


def read_content(path: str | Path, max_bytes: int, known: Collection[str]) -> tuple[str, bytes]:
    """Return the suffix and the content of a file, or of the standard input.

    Parameters and errors as in `suffix_of` and `read_bytes`. The suffix of a file is looked at
    before its content is, that of the standard input afterwards.
    """
    suffix = None if path == STDIN else suffix_of(path, None, known)
    content = read_bytes(path, max_bytes)
    return suffix or suffix_of(path, content, known), content


def read_bytes(path: str | Path, max_bytes: int) -> bytes:
    """Return the content of a file, or of the standard input, of at most `max_bytes`.

    Raises
    ------
    FileError
        It is not a regular file, cannot be read, or is larger: that is seen before it is read.
    MissingFileError
        There is no such file.
    """
    if path == STDIN:
        content = sys.stdin.buffer.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise FileError(_too_large("the standard input", max_bytes))
        return content
    path = Path(path)
    try:
        if not path.exists():
            raise MissingFileError(f"{path}: no such file")
        if not path.is_file():
            raise FileError(f"{path}: is not a file")
        if path.stat().st_size > max_bytes:
            raise FileError(_too_large(path, max_bytes))
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except FileError:
        raise
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be read: {reason(error)}") from None
    if len(content) > max_bytes:  # it has grown, or never said its size
        raise FileError(_too_large(path, max_bytes))
    return content


def _too_large(name, max_bytes):
    return f"{name}: more than max_bytes={max_bytes} bytes (--max-bytes)"


def suffix_of(path: str | Path, content: bytes | None, known: Collection[str]) -> str:
    """Return the suffix of a path, or of what content on the standard input looks like.

    Parameters
    ----------
    path : str or path
    content : bytes or None
    known : collection of str
        The suffixes that can be read, or written.

    Raises
    ------
    FileError
        The suffix is not one of them.
    """
    if path == STDIN:
        for magic, suffix in _MAGIC.items():
            if content.startswith(magic) and suffix in known:
                return suffix
        if content[8:9] == b"{" and ".safetensors" in known:
            return ".safetensors"
        raise FileError(f"the standard input: begins like none of {', '.join(known)}")
    name = Path(path).name.lower()
    for suffix in sorted(known, key=len, reverse=True):
        if name.endswith(suffix):
            return suffix
    raise FileError(f"{path}: unknown suffix {Path(path).suffix!r}; expected {', '.join(known)}")


def decompress(content: bytes, suffix: str, max_bytes: int) -> bytes:
    """Return what content of a suffix that ends in ``.gz`` or ``.bz2`` unpacks to."""
    opened = gzip.open if suffix.endswith(".gz") else bz2.open
    with opened(io.BytesIO(content), "rb") as file:
        unpacked = file.read(max_bytes + 1)
    if len(unpacked) > max_bytes:
        raise FileError(f"unpacks to more than max_bytes={max_bytes} bytes")
    return unpacked


class NpzArchive(Mapping):
    """The arrays of a NumPy ``.npz`` archive by name, each read when it is asked for.

    Parameters
    ----------
    content : bytes
    max_bytes : int
        What all members together may unpack to.
    """

    def __init__(self, content: bytes, max_bytes: int) -> None:
        self._archive = zipfile.ZipFile(io.BytesIO(content))
        members = self._archive.infolist()
        if sum(member.file_size for member in members) > max_bytes:
            raise FileError(f"unpacks to more than max_bytes={max_bytes} bytes")
        self._members = {member.filename.removesuffix(".npy"): member for member in members}

    def __getitem__(self, name):
        """Return an array; text and numbers only."""
        with self._open(name) as file:
            return read_npy(file)

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Return the shape that an array says it has, or () if it is no array of numbers."""
        with self._open(name) as file:
            try:
                shape, _, dtype = _read_header(file)
            except (FileError, ValueError):
                return ()
        return shape if dtype.kind in "biuf" else ()

    def _open(self, name):
        member = self._members[name]
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FileError(f"{member.filename}: unknown compression")
        return self._archive.open(member)

    def __iter__(self):
        """Iterate over the names."""
        return iter(self._members)

    def __len__(self):
        """Return the number of arrays."""
        return len(self._members)


def read_npy(file: io.BufferedIOBase) -> np.ndarray:
    """Return the array of an open ``.npy`` file, of which no more is read than there is."""
    shape, fortran, dtype = _read_header(file)
    needed = dtype.itemsize * math.prod(shape)
    data = file.read(min(needed, sys.maxsize))
    if len(data) < needed:
        raise FileError(f"truncated: shape {shape} of {dtype} needs {needed} bytes")
    return np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")


def _read_header(file):
    """Return shape, Fortran order and dtype of an open ``.npy`` file."""
    version = np.lib.format.read_magic(file)
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in headers:
        raise FileError(f"unknown version {version} of the .npy format")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NumPy warns of headers that it has to mend
        shape, fortran, dtype = headers[version](file)
    if dtype.hasobject:
        raise FileError("holds pickled Python objects, which are never loaded")
    if dtype.itemsize == 0 or min(shape, default=1) < 0:
        raise FileError(f"an array of dtype {dtype} and shape {shape} is not expected here")
    return shape, fortran, dtype


def read_safetensors(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays of a ``.safetensors`` content by name, and its metadata; extra ``files``.

    bfloat16, which NumPy does not have, comes as float32.
    """
    library = require("safetensors", "files")
    try:
        tensors = library.deserialize(content)
    except library.SafetensorError as error:
        raise FileError(f"not a readable .safetensors file: {reason(error)}") from None
    arrays = {}
    for name, tensor in tensors:
        kind, shape, data = tensor["dtype"], tensor["shape"], tensor["data"]
        if kind == "BF16":
            bits = np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16
            arrays[name] = bits.view(np.float32).reshape(shape)
        elif kind in _SAFETENSORS:
            arrays[name] = np.frombuffer(data, dtype=_SAFETENSORS[kind]).reshape(shape)
        else:
            raise FileError(f"{name}: numbers of format {kind} are not read")
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return arrays, header.get("__metadata__", {})


def listed(arrays: Iterable[str]) -> str:
    """Return a sentence about what a file holds."""
    return f"it holds {sorted(arrays)}"


def reason(error: BaseException) -> str:
    """Return what an error says in one short line, or its name if it says nothing."""
    text = getattr(error, "strerror", None) or str(error)
    lines = text.strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
