"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil

import pytest

import jl_attention
import jl_attention_book

MODULES = [
    info.name
    for package in (jl_attention, jl_attention_book)
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    try:
        module = importlib.import_module(name)
    except ImportError as error:  # an extra
        pytest.skip(str(error))
    assert doctest.testmod(module).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    counted = 0
    for name in ("constructions", "codes.base", "methods.interpolate", "theory.absorption"):
        module = importlib.import_module(f"jl_attention.{name}")
        counted += sum(len(test.examples) > 0 for test in finder.find(module))
    assert counted > 10
