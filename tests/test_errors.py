"""Argument checks return the plain value or raise an error that names the argument."""

import importlib

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


def test_a_missing_file_and_a_missing_extra_are_python_s_errors_too():
    assert issubclass(errors.MissingFileError, jla.FileError)
    assert issubclass(errors.MissingFileError, jla.JLAttentionError)
    assert issubclass(errors.MissingFileError, OSError)
    with pytest.raises(ImportError, match=r"no_such_module cannot be imported: pip install") as no:
        errors.require("no_such_module.part", "kernels")
    assert isinstance(no.value, jla.JLAttentionError)
    assert "'jl-attention[kernels]'" in str(no.value)
    assert no.value.name == "no_such_module"
    assert errors.require("numpy", "kernels") is np


@pytest.mark.parametrize(
    ("call", "module", "extra"),
    [
        (lambda built, path: built.save(path / "A.safetensors"), "safetensors", "files"),
        (lambda built, path: built.to_torch(), "torch", "torch"),
        (lambda built, path: jla.kernels.multihead_attention(built), "torch", "torch"),
        (lambda built, path: jla.kernels.rounded(built.Q, "bfloat16"), "ml_dtypes", "kernels"),
        (lambda built, path: jla.kernels.onnx_attention(built.Q, built.K), "onnxr", "kernels"),
    ],
)
def test_every_extra_is_named_where_it_is_missing(call, module, extra, tmp_path, monkeypatch):
    built = jla.construct(np.eye(3), dim=3, rng=0)
    whole = importlib.import_module

    def without(name, *args):
        if name.startswith(module):
            raise ImportError("it is not there")
        return whole(name, *args)

    monkeypatch.setattr(errors.importlib, "import_module", without)
    with pytest.raises(errors.MissingExtraError, match=rf"\[{extra}\]'.*it is not there"):
        call(built, tmp_path)


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
