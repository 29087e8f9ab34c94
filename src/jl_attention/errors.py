"""The package's exceptions, and the argument checks that raise them."""

from __future__ import annotations

import importlib
import math
import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "ClaimError",
    "ConstructionError",
    "FileError",
    "JLAttentionError",
    "MissingExtraError",
    "MissingFileError",
    "ParameterError",
    "PrecisionWarning",
    "TargetError",
    "check_array",
    "check_choice",
    "check_int",
    "check_real",
    "require",
]


class JLAttentionError(Exception):
    """Base of every error this package raises on purpose."""


class ParameterError(JLAttentionError, ValueError):
    """An argument is out of range; the message names it, its value and the reason."""


class TargetError(ParameterError):
    """A target matrix is not a sparse right-stochastic matrix; names the row and the reason."""


class FileError(ParameterError):
    """A file cannot be read as what it should be, or not be written; names it and the reason."""


class MissingFileError(FileError, FileNotFoundError):
    """A file is not there."""


class MissingExtraError(JLAttentionError, ImportError):
    """An optional dependency is not installed; names it, and the extra that brings it."""


class ConstructionError(JLAttentionError, RuntimeError):
    """A construction is impossible or numerically unsafe; names the row and the reason."""


class ClaimError(JLAttentionError, AssertionError):
    """A measured value violates the bound that a claim states."""


class PrecisionWarning(UserWarning):
    """A number format moves the attention by more than was asked for; says by how much."""


def require(module: str, extra: str) -> Any:
    """Return an optional dependency, imported, or raise `MissingExtraError` naming its extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f"{package} cannot be imported: pip install 'jl-attention[{extra}]' ({error})",
            name=package,
        ) from None


def check_int(name: str, value: Any, minimum: int | None = 1, maximum: int | None = None) -> int:
    """Return `value` as an int in [minimum, maximum], or raise `ParameterError`."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ParameterError(f"{name}={value!r}: expected an integer") from None
    if number < minimum:
        raise ParameterError(f"{name}={number}: must be at least {minimum}")
    if maximum is not None and number > maximum:
        raise ParameterError(f"{name}={number}: must be at most {maximum}")
    return number


def check_real(
    name: str,
    value: Any,
    above: float | None = None,
    below: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> float:
    """Return `value` as a finite float in the given range, or raise `ParameterError`."""
    try:
        if isinstance(value, (str, bytes, complex, np.complexfloating)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise ParameterError(f"{name}={value!r}: expected a real number") from None
    if not math.isfinite(number):
        raise ParameterError(f"{name}={number}: must be finite")
    _check_range(name, number, above, below, at_least, at_most)
    return number


def check_array(
    name: str,
    value: Any,
    above: float | None = None,
    below: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    integer: bool = False,
) -> np.ndarray:
    """Return `value` as an array of finite reals in the given range, or raise `ParameterError`.

    Integer arguments are returned as int64 arrays when `integer` is true and must be whole.
    """
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise ParameterError(f"{name}={value!r}: expected real numbers")
    if array.size and not np.isfinite(array).all():
        raise ParameterError(f"{name}: every entry must be finite")
    if integer:
        if array.dtype.kind == "f" and not (array == np.floor(array)).all():
            raise ParameterError(f"{name}={value!r}: expected integers")
        _check_extremes(name, array, at_least=-(2.0**62), at_most=2.0**62)
        array = array.astype(np.int64)
    else:
        array = array.astype(np.float64)
    _check_extremes(name, array, above, below, at_least, at_most)
    return array


def check_choice(name: str, value: Any, choices: Iterable[str]) -> Any:
    """Return `value` if it is one of `choices`, or raise `ParameterError` listing them."""
    choices = list(choices)
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ParameterError(f"{name}={value!r}: expected one of {listed}")
    return value


def _check_extremes(name, array, above=None, below=None, at_least=None, at_most=None):
    for extreme in (array.min(), array.max()) if array.size else ():
        _check_range(name, extreme.item(), above, below, at_least, at_most)


def _check_range(name, number, above, below, at_least, at_most):
    if above is not None and not number > above:
        raise ParameterError(f"{name}={number}: must be greater than {above}")
    if below is not None and not number < below:
        raise ParameterError(f"{name}={number}: must be less than {below}")
    if at_least is not None and not number >= at_least:
        raise ParameterError(f"{name}={number}: must be at least {at_least}")
    if at_most is not None and not number <= at_most:
        raise ParameterError(f"{name}={number}: must be at most {at_most}")
