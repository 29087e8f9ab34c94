"""Committed tables: CSV files that a command of this package writes and a chapter reads."""

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
