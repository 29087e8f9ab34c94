"""Matrix Market files: validated here, in whole-array steps, and then parsed by SciPy.

`scipy.io.mmread` is fast, but it takes "1.5.2" for 1.5 and "0x1" for 0, leaves out what stands
behind the last number it wants, and may crash on some malformed files. What it is given here has
been checked, and brought into the one dialect that it reads everywhere.
"""

from __future__ import annotations

import inspect
import io
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from ..errors import FileError
from .containers import reason

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FIELDS",
    "SYMMETRIES",
    "Header",
    "read_matrix_market",
]

FIELDS = ("real", "double", "integer", "unsigned-integer", "pattern")
SYMMETRIES = ("general", "symmetric", "hermitian")

_NUMBER = rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+)?"
_NOT_FINITE = re.compile(rb"(?i)(?<!\S)[+-]?(?:nan|inf|infinity)(?!\S)")

# Classes of bytes: digit, point, sign, exponent, space, line end; 0 is anything else.
_CLASSES = {b"0123456789": 1, b".": 2, b"+-": 3, b"eE": 4, b" ": 5, b"\n": 6}
_FOLLOWS = {1: (1, 2, 4, 5, 6), 2: (1, 4, 5, 6), 3: (1, 2), 4: (1, 3), 5: (1, 2, 3), 6: (1, 2, 3)}


def _tables():
    """Return the class of each byte, and a letter for each pair of classes side by side."""
    kinds = bytearray(256)
    for letters, number in _CLASSES.items():
        for letter in letters:
            kinds[letter] = number
    marks = bytearray(b"!" * 256)  # may not stand side by side
    for first, seconds in _FOLLOWS.items():
        for second in seconds:
            begins = {5: b"w", 6: b"l"}.get(first, b".")  # a word, and a line with it
            marks[8 * first + second] = begins[0]
    return bytes(kinds), bytes(marks)


_KINDS, _MARKS = _tables()
_TO_CLEAN = (b"%", b"\t", b"+", b"d", b"D")


class Header(NamedTuple):
    """What stands above the entries.

    Attributes
    ----------
    layout : {"coordinate", "array"}
    field : str
        One of `FIELDS`.
    symmetric : bool
    shape : tuple of int
        (L, L).
    announced : int
        Number of lines of entries.
    width : int
        Numbers in such a line.
    """

    layout: str
    field: str
    symmetric: bool
    shape: tuple
    announced: int
    width: int

    @property
    def wanted(self) -> str:
        """What a line of entries has to hold."""
        return ("one number", "two indices", "two indices and a number")[self.width - 1]


def read_matrix_market(content: bytes, check_extent: Callable) -> sparse.coo_array:
    """Return the matrix of a Matrix Market file.

    Parameters
    ----------
    content : bytes
        Lines end at a line feed, a carriage return or both, and at nothing else.
    check_extent : callable
        Called as ``check_extent(shape, entries)`` before anything of that size is allocated.

    Returns
    -------
    scipy.sparse.coo_array of float64
        Parallel entries apart; a symmetric one has both halves.

    Raises
    ------
    FileError
        It is none, or truncated, or has too many lines; names the line.
    """
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    header, start = _read_header(content)
    check_extent(header.shape, 2 * header.announced)
    numbers = content[start:].strip(b" \n") + b"\n"
    marks = _marks(numbers)
    if b"!" in marks or any(letter in numbers for letter in _TO_CLEAN):
        numbers = _cleaned(numbers)
        marks = _marks(numbers)
    _check_numbers(numbers, marks, header, content, start)
    try:
        rows, columns, values = _parse(numbers, header)
    except (ValueError, OverflowError) as error:
        _refuse_first_bad_line(header, content, start)
        raise FileError(f"not a readable .mtx file: {reason(error)}") from None
    if header.symmetric:
        below, above = (rows > columns).any(), (rows < columns).any()
        if below and above:
            raise FileError("a symmetric matrix has entries on both sides of the diagonal")
        mirrored = rows != columns
        rows, columns = np.append(rows, columns[mirrored]), np.append(columns, rows[mirrored])
        values = np.append(values, values[mirrored])
    return sparse.coo_array((values, (rows, columns)), shape=header.shape)


def _read_header(content):
    """Return the header, and where the entries begin."""
    banner, _, rest = content.partition(b"\n")
    words = banner.decode("latin-1").lower().split()
    known = len(words) >= 5 and words[0] in ("%%matrixmarket", "%matrixmarket")
    if not known or words[1] != "matrix":
        raise FileError("the first line is not '%%MatrixMarket matrix layout field symmetry'")
    layout, field, symmetry = words[2:5]
    if layout not in ("coordinate", "array") or symmetry not in SYMMETRIES:
        raise FileError(f"a matrix of layout {layout!r}, {symmetry!r} is not read")
    if field not in FIELDS[: 5 if layout == "coordinate" else 4]:
        raise FileError(f"entries of field {field!r} are not read")
    start = len(content) - len(rest)
    while start < len(content):
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        line = content[start:end].partition(b"%")[0].split()
        start = end + 1
        if line:
            break
    else:
        raise FileError("truncated: there is no line of sizes")
    coordinate, symmetric = layout == "coordinate", symmetry != "general"
    sizes = b" ".join(line).decode("latin-1")
    if not re.fullmatch(r"\d{1,18} \d{1,18}" + r" \d{1,18}" * coordinate, sizes):
        raise FileError(f"the line of sizes is {sizes[:80]!r}")
    rows, columns, *entries = map(int, sizes.split())
    triangle = rows * (rows + 1) // 2
    announced = entries[0] if coordinate else triangle if symmetric else rows * columns
    width = 1 + coordinate * (1 if field == "pattern" else 2)
    return Header(layout, field, symmetric, (rows, columns), announced, width), start


def _cleaned(body):
    """Return lines of numbers with single spaces between them, without comments and blank lines.

    What SciPy spells otherwise (a plus sign in front, Fortran's exponents) is brought into line.
    """
    if b"%" in body:
        body = re.sub(rb"%[^\n]*", b"", body)
    if b"\t" in body or b"  " in body:
        body = re.sub(rb"[ \t]+", b" ", body)
    body = body.replace(b"\n ", b"\n").replace(b" \n", b"\n")
    if b"\n\n" in body:
        body = re.sub(rb"\n+", b"\n", body)
    if b"d" in body or b"D" in body:
        body = re.sub(rb"(?<=[\d.])[dD]", b"e", body)
    body = body.strip(b" \n")
    if body.startswith(b"+") or b"\n+" in body or b" +" in body:
        body = re.sub(rb"(?<![^ \n])\+(?=[\d.])", b"", body)
    return body + b"\n" if body else b""


def _marks(numbers):
    """Return a letter for each two bytes side by side, see `_tables`; a line begins the first."""
    kinds = np.frombuffer((b"\n" + numbers).translate(_KINDS), dtype=np.uint8)
    return (8 * kinds[:-1] + kinds[1:]).tobytes().translate(_MARKS)


def _check_numbers(numbers, marks, header, content, start):
    """Refuse anything but lines of numbers, as many as announced."""
    lines = marks.count(b"l")
    words = lines + marks.count(b"w")
    if lines != header.announced:
        _refuse_first_bad_line(header, content, start)
        many = "truncated" if lines < header.announced else "too many lines"
        raise FileError(f"{many}: {header.announced} entries are announced, {lines} lines follow")
    if b"!" in marks or words != lines * header.width or not _well_formed(numbers, header, lines):
        _refuse_first_bad_line(header, content, start)
        raise FileError(f"an entry is not {header.wanted}")


def _well_formed(numbers, header, lines):
    """Return whether indices are whole, and no number has two points or two exponents."""
    # Without digits and signs, a number is what is left of its point and its exponent.
    letters = numbers.translate(None, delete=b"0123456789+-").replace(b"E", b"e")
    indices = b" " * (header.width - 1)
    whole = letters.startswith(indices) + letters.count(b"\n" + indices)
    if header.layout == "coordinate" and whole < lines:
        return False
    if header.field == "pattern":
        return not letters.strip(b" \n")
    return not any(twice in letters for twice in (b"..", b"ee", b"e."))


def _refuse_first_bad_line(header, content, start):
    """Raise the error for the first line that is not an entry; slow, and only then needed."""
    entry = rb"\s+".join([rb"\d+"] * (header.width - 1) + [_NUMBER])
    if header.field == "pattern":
        entry = rb"\d+\s+\d+"
    entry = re.compile(entry)
    above = content.count(b"\n", 0, start)
    for number, line in enumerate(content[start:].split(b"\n"), start=above + 1):
        words = line.partition(b"%")[0].strip()
        if not words:
            continue
        if entry.fullmatch(words):
            indices = [int(word) for word in words.split()[:2]] if header.width > 1 else []
            if all(1 <= at <= size for at, size in zip(indices, header.shape, strict=False)):
                continue
            raise FileError(f"line {number}: {words.decode()!r} is outside the matrix")
        shown = words[:60].decode("latin-1")
        if _NOT_FINITE.search(words):
            raise FileError(f"line {number}: {shown!r} is not finite")
        raise FileError(f"line {number}: {shown!r} is not {header.wanted}")


def _parse(numbers, header):
    """Return rows, columns and values, by SciPy's parser."""
    from scipy.io import mmread

    rows, columns = header.shape
    if header.layout == "array":
        banner = f"%%MatrixMarket matrix array real general\n{header.announced} 1\n"
    else:
        kind = "pattern" if header.field == "pattern" else "real"
        banner = f"%%MatrixMarket matrix coordinate {kind} general\n"
        banner += f"{rows} {columns} {header.announced}\n"
    # Newer versions have both kinds of sparse results; both have what is needed here.
    new = {"spmatrix": False} if "spmatrix" in inspect.signature(mmread).parameters else {}
    parsed = mmread(io.BytesIO(banner.encode() + numbers), **new)
    if header.layout == "coordinate":
        return parsed.row.astype(np.int64), parsed.col.astype(np.int64), parsed.data
    if header.symmetric:
        columns, rows = np.triu_indices(rows)
    else:
        columns, rows = np.divmod(np.arange(header.announced), rows)
    return rows, columns, parsed[:, 0]
