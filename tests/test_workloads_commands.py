"""``jl-attention workload`` and ``jl-attention score``, through the parser they are hooked into."""

import argparse

import numpy as np
import pytest
from scipy import sparse

import jl_attention as jla
from jl_attention import workloads as wl
from jl_attention.workloads import commands
from jl_attention.workloads.commands import add_commands


def run(*arguments):
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true")
    shared.add_argument("--normalize", action="store_true")
    shared.add_argument("--max-bytes", type=int, default=2**30)
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True), shared)
    options = parser.parse_args([str(argument) for argument in arguments])
    return options.run(options)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("workload") / "w.npz"
    arguments = ("--length", 128, "--head-dim", 64, "--set", "count=1", "--seed", 3)
    code, result, text = run("workload", "needles", "-o", path, *arguments)
    assert code == 0
    assert result["certificate"]["leak"] <= 0.5
    assert text.endswith(f"wrote {path}")
    return path


def test_the_file_is_what_make_makes(path):
    w = wl.make("needles", 128, head_dim=64, count=1, rng=3)
    assert np.array_equal(wl.load(path).Q, w.Q)
    assert wl.load(path).certificate == w.certificate


def test_a_method_is_scored(path):
    code, result, text = run("score", path, "quest", "--set", "budget=32", "--max-rows", 50)
    w = wl.load(path)
    assert code == 0
    assert result["rows"] == 50
    expected = wl.score(wl.selectors.quest(w.Q, w.K, budget=32), w, max_rows=50)
    assert result["recall"] == pytest.approx(expected.recall, rel=1e-12)
    assert text.startswith("recall ")


def test_pairs_from_a_file_are_scored(path, tmp_path):
    truth = wl.load(path).truth[0]
    sparse.save_npz(tmp_path / "pairs.npz", truth)
    np.save(tmp_path / "pairs.npy", truth.toarray())
    for suffix in ("npz", "npy"):
        assert run("score", path, tmp_path / f"pairs.{suffix}")[1]["recall"] == 1


def test_a_target_from_a_file(tmp_path):
    np.save(tmp_path / "target.npy", np.tril(np.ones((12, 12)), 0))
    arguments = ("--normalize", "--head-dim", 16, "--logit-scale", 6, "--format", "float32")
    result = run("workload", tmp_path / "target.npy", "-o", tmp_path / "w.npz", *arguments)[1]
    assert (result["length"], result["heads"]) == (12, 1)


class Stopped(Exception):
    """Raised by a recorder instead of what it stands in for."""


@pytest.fixture
def calls(monkeypatch):
    """Let nothing be made or read, and return the calls that would have."""
    seen = []

    def record(*args, **options):
        seen.append((args, options))
        raise Stopped

    for module, name in (
        (commands.bench, "make"),
        (commands.files, "read_target"),
        (commands.files, "read_matrix"),
        (commands.bench, "load"),
    ):
        monkeypatch.setattr(module, name, record)
    return seen


@pytest.mark.parametrize(
    ("words", "name", "value", "default"),
    [
        (("--head-dim", 24), "head_dim", 24, 128),
        (("--heads", 6), "heads", 6, None),
        (("--kv-heads", 3), "kv_heads", 3, 1),
        (("--geometry", "smooth"), "geometry", "smooth", "random"),
        (("--leak", 0.25), "leak", 0.25, 0.5),
        (("--total-variation", 0.125), "total_variation", 0.125, 0.05),
        (("--tv", 0.125), "total_variation", 0.125, 0.05),
        (("--logit-scale", 7), "logit_scale", 7.0, None),
        (("--format", "float16"), "number_format", "float16", "bfloat16"),
        (("--seed", 5), "rng", 5, 0),
        (("--set", "count=4"), "count", 4, None),
    ],
)
def test_every_option_of_a_workload_arrives(words, name, value, default, calls, tmp_path):
    for chosen, expected in ((words, value), ((), default)):
        with pytest.raises(Stopped):
            run("workload", "needles", "-o", tmp_path / "w.npz", "--length", 99, *chosen)
        assert calls[-1][0] == ("needles", 99)
        assert calls[-1][1].get(name) == expected


@pytest.mark.parametrize(
    ("words", "name", "value", "default"),
    [
        (("--normalize",), "normalize", True, False),
        (("--max-bytes", 12345), "max_bytes", 12345, 2**30),
    ],
)
def test_every_option_of_reading_arrives(words, name, value, default, calls, tmp_path):
    lines = [["workload", "target.npz", "-o", tmp_path / "w.npz"]]
    if name == "max_bytes":
        lines.append(["score", "w.npz", "quest"])
    for line in lines:
        for chosen, expected in ((words, value), ((), default)):
            with pytest.raises(Stopped):
                run(*line, *chosen)
            assert calls[-1][1][name] == expected


def test_pairs_are_read_with_the_limit(calls, monkeypatch):
    monkeypatch.setattr(commands.bench, "load", lambda *args, **options: None)
    with pytest.raises(Stopped):
        run("score", "w.npz", "pairs.npz", "--max-bytes", 12345)
    assert calls == [(("pairs.npz",), {"max_bytes": 12345})]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("quests",), "METHOD='quests'"),
        (("quest", "--set", "budget=many"), "--set budget=many"),
        (("quest", "--set", "colour=1"), "quest: .*colour"),
        (("pairs.npy", "--set", "budget=1"), "have no settings"),
        (("missing.npy",), "missing.npy: no such file"),
        (("quest", "h2o"), "unknown suffix"),
    ],
)
def test_bad_arguments_are_named(path, arguments, message):
    with pytest.raises(jla.ParameterError, match=message):
        run("score", path, *arguments)
