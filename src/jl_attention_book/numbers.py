"""Numbers that the chapters' text takes from their cells."""

import numpy as np

DIGITS = 6
"""Significant digits of a number that a cell hands to the text, which shows fewer.

The last few of a double's sixteen depend on the order in which a processor adds, and what is
stored in a notebook must be what another machine stores.
"""


def glue(name, value, display=False):
    """Store a value for the text under a name, a real number with `DIGITS` significant digits.

    Parameters
    ----------
    name : str
        What ``{glue:text}`` calls it.
    value : object
        A float is rounded; anything else, an integer too, is stored as it is.
    display : bool, optional
        Also show it below the cell.

    Examples
    --------
    >>> glue("third", 1 / 3)  # doctest: +SKIP
    """
    from myst_nb import glue

    if isinstance(value, float | np.floating):
        value = rounded(value)
    glue(name, value, display=display)


def rounded(value):
    """Return a real number rounded to `DIGITS` significant digits.

    Examples
    --------
    >>> rounded(2 / 3), rounded(123456789.0), rounded(-0.0), rounded(float("inf"))
    (0.666667, 123457000.0, 0.0, inf)
    """
    return float(f"{float(value):.{DIGITS}g}") + 0.0
