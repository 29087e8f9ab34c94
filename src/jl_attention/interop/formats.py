"""Number formats that other people's kernels compute in."""

import numpy as np

from ..errors import check_choice, require

FORMATS = ("float64", "float32", "float16", "bfloat16")
"""Number formats that `rounded` knows, the finest first."""


def rounded(array, number_format):
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
