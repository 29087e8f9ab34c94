"""Tables: of text, for a cell to print; of numbers, that a command writes and a chapter reads."""

import csv
import io
from pathlib import Path

from jl_attention.interop.atomic import write_atomically


def write_table(path, rows):
    """Write a table atomically.

    Parameters
    ----------
    path : str or path
    rows : list of dict
        All with the same keys, the names of the columns.
    """
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, table.getvalue().encode())


def read_table(path, **wanted):
    """Return the rows of a table, as dicts of str.

    Parameters
    ----------
    path : str or path
    **wanted : str
        Only the rows with these values in the columns named.

    Returns
    -------
    list of dict
    """
    rows = csv.DictReader(Path(path).read_text(encoding="utf-8").splitlines())
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def table(header, rows):
    """Print rows below a header, each column as wide as its widest entry.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequence of str
        The first column is set to the left, the others to the right.

    Examples
    --------
    >>> table(("head", "k"), [("(0, 2)", "1"), ("all", "128")])
    head      k
    (0, 2)    1
    all     128
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for first, *others in (header, *rows):
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]).rstrip())
