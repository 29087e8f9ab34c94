"""Number formats that other people's kernels compute in, and what they cost."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from ..attention import row_blocks
from ..errors import ParameterError, PrecisionWarning, check_choice, check_real, require

if TYPE_CHECKING:
    from ..head import Construction

__all__ = [
    "FORMATS",
    "attention_moved",
    "check_export",
    "rounded",
]

FORMATS = ("float64", "float32", "float16", "bfloat16")
"""Number formats that `rounded` knows, the finest first."""


def rounded(array: np.ndarray, number_format: str) -> np.ndarray:
    """Return an array rounded to a number format, as float64.

    Parameters
    ----------
    array : ndarray
    number_format : {"float64", "float32", "float16", "bfloat16"}
        bfloat16 is rounded to from float32, as hardware does.

    Returns
    -------
    ndarray of float64
        Numbers beyond the format's range become infinite.

    Raises
    ------
    ParameterError
    MissingExtraError
        For bfloat16 without ml_dtypes.
    """
    check_choice("number_format", number_format, FORMATS)
    array = np.asarray(array)
    with np.errstate(over="ignore"):
        if number_format == "bfloat16":
            bfloat16 = require("ml_dtypes", "kernels").bfloat16
            return array.astype(np.float32).astype(bfloat16).astype(np.float64)
        return array.astype(number_format).astype(np.float64)


def attention_moved(
    built: Construction, queries: np.ndarray, keys: np.ndarray
) -> tuple[float, int]:
    """Return how far other queries and keys move a construction's attention, and in which row.

    Parameters
    ----------
    built : Construction
    queries, keys : ndarray, shape (L, m)
        What has become of `built.queries` and `built.keys`, say by rounding.

    Returns
    -------
    moved : float
        The largest total variation distance between a row of attention before and after, computed
        in float64 over every pair; in [0, 1].
    row : int
        Where that is.
    """
    moved = np.empty(built.length)
    before, after = (
        [np.asarray(half, dtype=np.float64) for half in pair]
        for pair in ((built.queries, built.keys), (queries, keys))
    )
    for rows in row_blocks(built.length, 2 * built.length):
        rounded_attention = softmax(after[0][rows] @ after[1].T, axis=1)
        rounded_attention -= softmax(before[0][rows] @ before[1].T, axis=1)
        moved[rows] = 0.5 * np.abs(rounded_attention).sum(axis=1)
    row = int(np.argmax(moved))
    return float(moved[row]), row


def check_export(
    built: Construction,
    pairs: list[tuple[np.ndarray, np.ndarray]],
    number_format: str,
    on_loss: str = "warn",
    tolerance: float | None = None,
) -> None:
    """Warn, or refuse, where a number format does not hold a construction.

    Parameters
    ----------
    built : Construction
    pairs : list of (ndarray, ndarray), each of shape (L, m)
        Q and K as they are in the format, one pair for each way to get them: their attention is
        softmax(Q K^T / sqrt(m)).
    number_format : str
        Its name, for the message.
    on_loss : {"warn", "raise", "ignore"}, optional
        What to do where a row moves by more than the tolerance; with "ignore" it is not measured.
    tolerance : float, optional
        Largest total variation by which the format may move a row; the total variation that was
        asked for if None, or else the leak.

    Raises
    ------
    ParameterError
        A number is beyond the range of the format, whatever `on_loss` says, or a row moves by more
        than the tolerance and `on_loss` is "raise".

    Warns
    -----
    PrecisionWarning
    """
    check_choice("on_loss", on_loss, ("warn", "raise", "ignore"))
    for pair in pairs:
        for name, array in zip("QK", pair, strict=True):
            finite = np.isfinite(array).all(axis=1)
            if not finite.all():
                raise ParameterError(
                    f"{number_format}: {name}: row {int(np.argmin(finite))}: beyond the range of "
                    "the format"
                )
    if on_loss == "ignore":
        return
    if tolerance is None:
        asked = built.total_variation
        tolerance = built.leak if asked is None else asked
    tolerance = check_real("tolerance", tolerance, at_least=0)
    scale = built.dim**-0.25
    moved, row = max(attention_moved(built, scale * Q, scale * K) for Q, K in pairs)
    if moved > tolerance:
        message = (
            f"{number_format} moves the attention of row {row} by {moved:.3g} in total variation, "
            f"more than {tolerance:g}; smaller logits or a finer format move it less"
        )
        if on_loss == "raise":
            raise ParameterError(message)
        warnings.warn(message, PrecisionWarning, stacklevel=4)
