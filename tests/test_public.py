"""What is public says so, and says of which type it takes and gives what."""

import importlib
import inspect
import pkgutil

import pytest

import jl_attention

MODULES = [module.name for module in pkgutil.walk_packages(jl_attention.__path__, "jl_attention.")]


@pytest.mark.parametrize("name", ["jl_attention", *MODULES])
def test_every_module_says_what_is_public(name):
    module = importlib.import_module(name)
    public = module.__all__
    assert len(set(public)) == len(public)
    for symbol in public:
        assert not symbol.startswith("_")
        getattr(module, symbol)
    defined = {
        symbol
        for symbol, value in vars(module).items()
        if getattr(value, "__module__", None) == name and not symbol.startswith("_")
    }
    if name.endswith(".cli"):  # commands are called by their names in a shell
        defined = {"main"}
    assert not {symbol for symbol in defined if inspect.isroutine(getattr(module, symbol))} - set(
        public
    )


def functions(module):
    """Yield (name, function) of the public functions and methods that a module defines."""
    for symbol in module.__all__:
        value = getattr(module, symbol)
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value):
            yield symbol, value
        elif inspect.isclass(value):
            for attribute, member in vars(value).items():
                function = getattr(member, "fget", None) or getattr(member, "func", member)
                function = getattr(function, "__func__", function)
                own = inspect.isfunction(function) and function.__module__ == module.__name__
                if own and not attribute.startswith("_"):
                    yield f"{symbol}.{attribute}", function


def untyped(function):
    """Return the parameters without a type, and "return" if what it returns has none."""
    signature = inspect.signature(inspect.unwrap(function))
    missing = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.annotation is parameter.empty and name not in ("self", "cls")
    ]
    return missing + ["return"] * (signature.return_annotation is signature.empty)


@pytest.mark.parametrize("name", MODULES)
def test_every_public_function_has_types(name):
    found = {
        symbol: untyped(function) for symbol, function in functions(importlib.import_module(name))
    }
    assert {symbol: missing for symbol, missing in found.items() if missing} == {}


def test_a_function_without_types_is_found():
    def partly(self, a: int, b=1, *, c) -> None:
        pass

    def wholly(a: int, *rest: int, b: str = "") -> str:
        return b

    assert untyped(partly) == ["b", "c"]
    assert untyped(wholly) == []
    assert untyped(lambda: 1) == ["return"]
