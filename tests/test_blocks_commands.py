"""``jl-attention compile``: every option arrives, and no input is written over."""

import argparse
import json

import numpy as np
import pytest

import jl_attention as jla
from jl_attention.blocks import commands

CONFIG = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 2}


class Stopped(Exception):
    """Raised by a recorder instead of what it stands in for."""


def recorder(calls):
    def record(*args, **options):
        calls.append((args, options))
        raise Stopped

    return record


def run(*arguments):
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true")
    shared.add_argument("--normalize", action="store_true")
    shared.add_argument("--max-bytes", type=int, default=2**30)
    parser = argparse.ArgumentParser()
    commands.add_commands(parser.add_subparsers(required=True), shared)
    options = parser.parse_args([str(argument) for argument in arguments])
    return options.run(options)


@pytest.fixture
def line(tmp_path, monkeypatch):
    """Return what to type; nothing needs safetensors until something is written."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    np.save(tmp_path / "A.npy", np.eye(12))
    monkeypatch.setattr(commands.files, "check_writable", lambda *args, **options: None)
    return "compile", tmp_path / "config.json", tmp_path / "A.npy", "-o", tmp_path / "x.safetensors"


@pytest.mark.parametrize(
    ("words", "name", "value", "default"),
    [
        (("--dim", 9), "dim", 9, None),
        (("--logit-scale", 7), "logit_scale", 7.0, None),
        (("--dtype", "float64"), "dtype", np.dtype(np.float64), np.dtype(np.float32)),
        (("--leak", 0.25), 2, 0.25, 0.01),
        (("--seed", 5), 3, 5, 0),
    ],
)
def test_every_option_of_compile_arrives(words, name, value, default, line, monkeypatch):
    calls = []
    monkeypatch.setattr(commands, "compile", recorder(calls))
    for chosen, expected in ((words, value), ((), default)):
        with pytest.raises(Stopped):
            run(*line, *chosen)
        args, options = calls[-1]
        assert (args[name] if isinstance(name, int) else options[name]) == expected


@pytest.mark.parametrize(
    ("words", "function", "name", "value", "default"),
    [
        (("--normalize",), "read_target", "normalize", True, False),
        (("--max-bytes", 12345), "read_target", "max_bytes", 12345, 2**30),
        (("--max-bytes", 12345), "read_config", 1, 12345, 2**30),
        (("--layer", 3), "from_config", 1, 3, 0),
    ],
)
def test_every_option_of_reading_arrives(words, function, name, value, default, line, monkeypatch):
    calls = []
    module = commands.files if function == "read_target" else commands
    monkeypatch.setattr(module, function, recorder(calls))
    for chosen, expected in ((words, value), ((), default)):
        with pytest.raises(Stopped):
            run(*line, *chosen)
        args, options = calls[-1]
        assert (args[name] if isinstance(name, int) else options[name]) == expected


def test_no_input_is_written_over(tmp_path):
    pytest.importorskip("safetensors")
    config, pattern = tmp_path / "config.safetensors", tmp_path / "A.safetensors"
    config.write_text(json.dumps(CONFIG))
    pattern.write_bytes(b"a pattern")
    for path in (config, pattern):
        with pytest.raises(jla.FileError, match="is what is read"):
            run("compile", config, pattern, "-o", path)
    assert pattern.read_bytes() == b"a pattern"
