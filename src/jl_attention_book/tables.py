"""Tables of text: a header and rows of ready strings."""


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
