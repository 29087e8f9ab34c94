"""Argument checks return the plain value or raise an error that names the argument."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jl_attention as jla
from jl_attention import errors


def test_the_hierarchy():
    for error in (jla.ParameterError, jla.TargetError, jla.ConstructionError, jla.ClaimError):
        assert issubclass(error, jla.JLAttentionError)
    assert issubclass(jla.TargetError, ValueError)
    assert issubclass(jla.ParameterError, ValueError)


def test_good_values_come_back_as_plain_numbers():
    assert errors.check_int("n", np.int32(3)) == 3
    assert type(errors.check_int("n", np.int32(3))) is int
    assert type(errors.check_real("x", np.float32(0.5))) is float
    assert errors.check_array("n", [1, 2.0], integer=True).dtype == np.int64
    assert errors.check_choice("c", "a", ["a", "b"]) == "a"


@pytest.mark.parametrize("value", [True, 1.0, "1", None, 1j, [1], np.array([1, 2])])
def test_check_int_wants_an_integer(value):
    with pytest.raises(jla.ParameterError, match="^n="):
        errors.check_int("n", value)


@pytest.mark.parametrize("value", ["1", b"1", None, 1j, np.complex128(1), [1, 2], np.nan, -np.inf])
def test_check_real_wants_a_finite_real(value):
    with pytest.raises(jla.ParameterError, match="^x="):
        errors.check_real("x", value)


@pytest.mark.parametrize("value", ["1", [1j], [None], [np.nan], [True], ["a"], [[1], [1, 2]]])
def test_check_array_wants_finite_reals(value):
    with pytest.raises(jla.ParameterError, match="^x"):
        errors.check_array("x", value)


def test_check_array_wants_whole_numbers():
    with pytest.raises(jla.ParameterError, match="integers"):
        errors.check_array("n", [1.5], integer=True)
    with pytest.raises(jla.ParameterError, match="^n=.*at most"):
        errors.check_array("n", [1e30], integer=True)


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_ranges(value):
    limits = {"above": 0, "below": 1}
    if 0 < value < 1:
        assert errors.check_real("x", value, **limits) == value
        assert errors.check_array("x", [value], **limits).item() == value
    else:
        for check in (errors.check_real, errors.check_array):
            with pytest.raises(jla.ParameterError, match="^x="):
                check("x", value, **limits)
