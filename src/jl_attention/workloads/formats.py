"""Numbers that are exact in the formats of attention kernels.

A workload for a half-precision kernel should hold half-precision numbers: what differs from the
truth is then the kernel's doing. Numbers of format "bfloat16" are made exact in float16 too.
"""

from __future__ import annotations

import numpy as np

from ..errors import ParameterError, check_choice

__all__ = [
    "FORMATS",
    "exact_formats",
    "to_format",
]

FORMATS = ("float32", "float16", "bfloat16")
"""Number formats of a workload, the finest first."""

_BFLOAT16_BITS = 8
_LARGEST_HALF = 65504.0
_SMALLEST_SHARED = 2.0**-17  # of 8 significant bits: the last is worth 2^-24, float16's smallest


def to_format(array: np.ndarray, number_format: str) -> np.ndarray:
    """Return an array rounded to nearest in a number format, as float32.

    Parameters
    ----------
    array : ndarray
    number_format : {"float32", "float16", "bfloat16"}
        In "bfloat16" numbers below 2^-17 become 0, so that the others are exact in float16 too.

    Returns
    -------
    ndarray of float32

    Raises
    ------
    ParameterError
        A number is beyond the range of float16 (65504), in either half precision.
    """
    check_choice("number_format", number_format, FORMATS)
    array = np.asarray(array)
    if number_format == "float32":
        return array.astype(np.float32)
    if number_format == "float16":
        with np.errstate(over="ignore"):
            rounded = array.astype(np.float16).astype(np.float32)
    else:
        mantissa, exponent = np.frexp(array)
        rounded = np.ldexp(np.rint(np.ldexp(mantissa, _BFLOAT16_BITS)), exponent - _BFLOAT16_BITS)
        rounded = np.where(np.abs(rounded) < _SMALLEST_SHARED, 0.0, rounded).astype(np.float32)
    largest = float(np.abs(rounded).max(initial=0.0))
    if not largest <= _LARGEST_HALF:
        raise ParameterError(
            f"number_format={number_format!r}: {np.abs(array).max():.4g} is beyond 65504"
        )
    return rounded


def exact_formats(*arrays: np.ndarray) -> tuple[str, ...]:
    """Return the formats, finest first, in which every number of these float32 arrays is exact."""
    formats = ["float32"]
    with np.errstate(over="ignore"):
        if all(np.array_equal(array, array.astype(np.float16)) for array in arrays):
            formats.append("float16")
    low_half = np.uint32(0xFFFF)  # bfloat16 is the upper half of a float32
    if not any((np.ascontiguousarray(array).view(np.uint32) & low_half).any() for array in arrays):
        formats.append("bfloat16")
    return tuple(formats)
