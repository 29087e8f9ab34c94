"""The command line: what it prints, writes and returns, and that every option arrives."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
from scipy import sparse

import jl_attention as jla
from jl_attention import cli
from jl_attention.cli import BAD_INPUT, DONE, IMPOSSIBLE, MISSED, main
from jl_attention.interop import files

TARGET = jla.targets.regular(32, 3, max_ratio=5.0, rng=0)


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "A.npz"
    sparse.save_npz(path, TARGET)
    return str(path)


def run_json(capsys, *arguments, code=DONE):
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


# --- From a pattern to a kernel ------------------------------------------------------------------


def test_from_a_pattern_to_a_kernel(target, tmp_path, capsys):
    built = str(tmp_path / "built.npz")
    result = run_json(capsys, "build", target, "-o", built, "--leak", "0.05", "--full")
    expected = jla.construct(TARGET, leak=0.05, rng=0)
    assert result["dim"] == expected.dim
    assert result["hidden_size"] == 2 * expected.dim
    assert result["meets"] is True
    with np.load(built, allow_pickle=False) as stored:
        Q, K = stored["Q"], stored["K"]
        queries, keys = stored["queries"], stored["keys"]
    for logits in (Q @ K.T / np.sqrt(Q.shape[1]), queries @ keys.T):
        M = np.exp(logits)
        M /= M.sum(axis=1, keepdims=True)
        assert np.allclose(M, expected.attention(), atol=1e-12)
    report = run_json(capsys, "measure", built, target)
    assert report["meets"] is True
    assert report["leak"] == result["leak"] == jla.measure(expected, TARGET).leak <= 0.05
    assert report["asked"] == {"ratio_error": 0.0, "leak": 0.05}


def test_a_total_variation_is_asked_for_and_met(target, tmp_path, capsys):
    built = str(tmp_path / "built.npz")
    for option in ("--tv", "--total-variation"):
        result = run_json(capsys, "build", target, "-o", built, option, "0.02")
        assert result["asked"]["total_variation"] == 0.02
        assert result["total_variation"] <= 0.02
        assert result["meets"] is True
        assert sorted(np.load(built)) == ["keys", "queries", "settings"]
    assert main(["measure", built, target]) == DONE
    assert "meets the total variation 0.02 asked" in capsys.readouterr().out
    # What is asked of the total variation decides, not the leak that T8 chose for it.
    loaded = jla.Construction.load(built)
    assert loaded == jla.construct(TARGET, total_variation=0.02, rng=0)


def test_tables_for_people(target, tmp_path, capsys):
    built = str(tmp_path / "built.npz")
    assert main(["dim", target]) == DONE
    assert main(["build", target, "-o", built, "--dtype", "float32"]) == DONE
    assert main(["measure", built, target]) == DONE
    printed = capsys.readouterr().out
    for part in (
        "L = 32, k = 3, gamma = 5; at most 3 nonzeros in a column",
        "svd_projection",
        "m >= L = 32 is no gain",
        "a theorem is proved, a law an exact distribution; either fails 0.01 of the time",
        "~: a prediction",
        "wrote queries, keys to",
        "attention = softmax(queries keys^T) = softmax(Q K^T / sqrt(m))",
        "total_variation",
        "meets the ratio error 0 and leak 0.01 asked",
    ):
        assert part in printed


def test_an_example_to_start_from(tmp_path, capsys):
    for name, pattern in (("a.npz", "causal_window"), ("b.mtx", "big_bird"), ("c.npy", None)):
        path = str(tmp_path / name)
        chosen = ["--pattern", pattern] if pattern else ["--pattern", "vertical_slash"]
        result = run_json(capsys, "example", "-o", path, "--length", "64", *chosen)
        assert result["length"] == 64
        assert files.read_target(path).shape == (64, 64)
    expected = jla.targets.causal_window(64, 4, 2.0, rng=0)
    assert (files.read_target(tmp_path / "a.npz") != expected).nnz == 0
    run_json(capsys, "example", "-o", str(tmp_path / "d.npz"), "--length", "64", "--seed", "1")
    assert (files.read_target(tmp_path / "d.npz") != expected).nnz > 0
    assert main(["example", "-o", str(tmp_path / "e.npz")]) == DONE
    command = next(line for line in capsys.readouterr().out.splitlines() if " build " in line)
    words = command.split()[1:]
    words[words.index("built.npz")] = str(tmp_path / "built.npz")
    assert main(words) == DONE
    assert "meets the total variation 0.01 asked" in capsys.readouterr().out


# --- dim -----------------------------------------------------------------------------------------


def by_theorem(result):
    return {row["theorem"]: row for row in result["required"]}


def test_dimensions_of_a_class_and_of_a_target(target, capsys):
    result = run_json(capsys, "dim", "--length", "1024", "--row-nnz", "4")
    found = by_theorem(result)
    assert result["necessary"] == {"radon": 8, "bits": 3}  # 2k; log2 C(1024, 4)/16 = 2.2
    assert found["T3"]["dim"] == jla.required_dim(1024, 4) == 304
    assert found["T1"]["dim"] == jla.required_dim(1024, 4, "svd_projection", ratio_error=0.1)
    assert found["T3"]["closed_form"] == jla.required_dim(1024, 4, bound="closed_form")
    found = by_theorem(run_json(capsys, "dim", target, "--leak", "0.1"))
    assert found["T3"]["dim"] == jla.required_dim_for_target(TARGET, leak=0.1)


@pytest.mark.parametrize(
    ("option", "value", "changed"),
    [
        ("--leak", "0.1", {"leak": 0.1}),
        ("--failure-prob", "0.5", {"failure_prob": 0.5}),
        ("--logit-scale", "20", {"logit_scale": 20.0}),
        ("--max-ratio", "9", {"max_ratio": 9.0}),
        ("--row-nnz", "7", {"row_nnz": 7}),
        ("--length", "333", {"length": 333}),
    ],
)
def test_every_option_of_a_class_arrives(option, value, changed, capsys):
    asked = {"length": 1024, "row_nnz": 4} | changed
    found = by_theorem(run_json(capsys, "dim", "--length", "1024", "--row-nnz", "4", option, value))
    assert found["T3"]["dim"] == jla.required_dim(**asked)
    of_rows = {"method": "row_projection", "ratio_error": 0.1}
    assert found["T2"]["dim"] == jla.required_dim(**asked, **of_rows)
    assert found["T2"]["dim"] != jla.required_dim(1024, 4, **of_rows)


@pytest.mark.parametrize(
    ("option", "value", "changed"),
    [
        ("--leak", "0.1", {"leak": 0.1}),
        ("--failure-prob", "0.5", {"failure_prob": 0.5}),
        ("--logit-scale", "20", {"logit_scale": 20.0}),
        ("--ratio-error", "0.5", {"ratio_error": 0.5}),
    ],
)
def test_every_option_of_a_target_arrives(option, value, changed, target, capsys):
    found = by_theorem(run_json(capsys, "dim", target, option, value))["T2"]["dim"]
    asked = {"ratio_error": 0.1} | changed
    assert found == jla.required_dim_for_target(TARGET, "row_projection", **asked)
    assert found != jla.required_dim_for_target(TARGET, "row_projection", ratio_error=0.1)


def test_a_total_variation_becomes_a_leak(target, capsys):
    result = run_json(capsys, "dim", "--length", "1024", "--row-nnz", "4", "--tv", "0.01")
    # Exact ratios: x/(1+x) = t at x = (L-1) eps2, rows of one nonzero being the worst.
    assert result["leak"] == pytest.approx(0.01 / 0.99 / 1023, rel=1e-12)
    found = by_theorem(result)
    assert found["T3"]["dim"] == jla.required_dim(1024, 4, leak=result["leak"])
    # Half of the total variation goes to the ratios: (sqrt(c) - 1)/(sqrt(c) + 1) = t/2.
    root = np.sqrt(1 + found["T2"]["ratio_error"])
    assert (root - 1) / (root + 1) == pytest.approx(0.005, rel=1e-12)
    assert found["T2"]["leak"] < result["leak"]
    result = run_json(capsys, "dim", target, "--tv", "0.01")
    chosen = jla.construct(TARGET, total_variation=0.01, rng=0).leak
    assert result["leak"] == pytest.approx(chosen, rel=1e-12)


def test_what_a_dimension_rests_on_and_the_size_of_its_logits(capsys):
    result = run_json(capsys, "dim", "--length", "256", "--row-nnz", "2")
    found = by_theorem(result)
    standings = {name: row["standing"] for name, row in found.items()}
    assert standings == dict.fromkeys(["T1", "T2", "T3", "T5"], "theorem") | {"T9": "law"}
    predicted = [name for name, row in found.items() if row["logit_standing"] == "prediction"]
    assert predicted == ["T9"]
    assert found["T3"]["largest_logit"] == pytest.approx(3 * np.log(100), rel=1e-12)
    # A support around a token: logits fall by (1 - cos(2 pi/256))^2 there and reach 2^2.
    fall = (1 - np.cos(2 * np.pi / 256)) ** 2
    spread = found["T5"]["largest_logit"]
    assert spread * fall / 4 == pytest.approx(np.log(100), abs=0.02)
    assert found["T3"]["gains"]
    assert not found["T1"]["gains"]
    assert found["T1"]["dim"] > 256 == found["T1"]["dim_built"]
    # Keys that are drawn together are a tight frame, which needs fewer dimensions.
    tight = jla.required_dim(256, 2, codes="tight")
    assert found["T3"]["dim_built"] == tight < found["T3"]["dim"]


def test_the_dimension_built_is_the_one_that_build_takes(target, tmp_path, capsys):
    path = str(tmp_path / "pattern.npz")
    run_json(capsys, "example", "-o", path, "--length", "512")
    found = by_theorem(run_json(capsys, "dim", path, "--tv", "0.05"))
    for theorem, method in (("T3", "interpolate"), ("T9", "max_margin")):
        line = ["build", path, "-o", str(tmp_path / "built.npz"), "--tv", "0.05"]
        built = run_json(capsys, *line, "--method", method)
        assert found[theorem]["dim_built"] == built["dim"] < 512
        assert built["meets"] is True


def test_the_predicted_size_of_max_margin_logits(tmp_path, capsys):
    found = by_theorem(run_json(capsys, "dim", "--length", "512", "--row-nnz", "4"))["T9"]
    target = jla.targets.row_sparse(512, 4, rng=0)
    built = jla.construct(target, "max_margin", dim=found["dim_built"], rng=0)
    typical = np.median(np.linalg.norm(built.queries, axis=1)) * np.sqrt(built.dim)
    assert found["largest_logit"] == pytest.approx(typical, rel=0.1)


def test_the_largest_logit_of_the_moment_curve_is_reached(capsys):
    around = np.roll(np.eye(64), 1, axis=1) + np.roll(np.eye(64), -1, axis=1)
    target = jla.targets.from_mask(around)
    report = jla.measure(jla.construct(target, "moment_curve"), target)
    found = by_theorem(run_json(capsys, "dim", "--length", "64", "--row-nnz", "2"))
    assert 0.99 < report.logit_spread / found["T5"]["largest_logit"] < 1


# --- Options that are passed on ------------------------------------------------------------------


class Stopped(Exception):
    """Raised by a recorder instead of what it stands in for."""


def recorder(calls):
    def record(*args, **options):
        calls.append((args, options))
        raise Stopped

    return record


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--method", "max_margin"], "method", "max_margin"),
        (["--ratio-error", "0.25"], "ratio_error", 0.25),
        (["--method", "row_projection"], "ratio_error", 0.1),
        ([], "ratio_error", 0.0),
        (["--leak", "0.125"], "leak", 0.125),
        (["--tv", "0.125"], "total_variation", 0.125),
        ([], "leak", None),
        (["--dim", "77"], "dim", 77),
        (["--failure-prob", "0.25"], "failure_prob", 0.25),
        (["--logit-scale", "33"], "logit_scale", 33.0),
        (["--seed", "12"], "rng", 12),
        ([], "rng", 0),
        (["--retries", "5"], "retries", 5),
        (["--dtype", "float32"], "dtype", "float32"),
    ],
)
def test_build_passes_its_options_on(words, name, value, target, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(cli, "construct", recorder(calls))
    with pytest.raises(Stopped):
        main(["build", target, "-o", str(tmp_path / "built.npz"), *words])
    (args, options) = calls[0]
    assert (dict(zip(("target", "method"), args, strict=True)) | options)[name] == value


READING = [
    (["--normalize"], "normalize", True),
    (["--max-bytes", "123456"], "max_bytes", 123456),
    (["--array", "adj"], "array", "adj"),
    (["--head", "3"], "head", 3),
    (["--head", "0,3"], "head", (0, 3)),
    (["--mask", "additive"], "mask", "additive"),
    (["--top-k", "5"], "top_k", 5),
    (["--threshold", "0.25"], "threshold", 0.25),
    (["--self-loops"], "self_loops", True),
    (["--padding", "uniform"], "padding", "uniform"),
]


@pytest.mark.parametrize("command", ["dim", "build", "measure"])
@pytest.mark.parametrize(("words", "name", "value"), READING)
def test_every_command_reads_with_these_options(
    command, words, name, value, target, tmp_path, monkeypatch
):
    built = tmp_path / "built.npz"
    jla.construct(TARGET, dim=32, rng=0).save(built)
    line = {
        "dim": ["dim", target],
        "build": ["build", target, "-o", str(tmp_path / "other.npz")],
        "measure": ["measure", str(built), target],
    }
    calls = []
    monkeypatch.setattr(files, "read_target", recorder(calls))
    monkeypatch.setattr(cli.files, "read_target", recorder(calls))
    defaults = {"normalize": False, "max_bytes": 2**30, "self_loops": False}
    for chosen, expected in ((words, value), ([], defaults.get(name))):
        with pytest.raises(Stopped):
            main(line[command] + chosen)
        assert calls[-1][0] == (target,)
        assert calls[-1][1][name] == expected


def test_measure_reads_the_construction_with_the_limit(target, tmp_path, capsys):
    jla.construct(TARGET, dim=32, rng=0).save(tmp_path / "built.npz")
    line = ["measure", str(tmp_path / "built.npz"), target]
    assert main([*line, "--max-bytes", "9000"]) == BAD_INPUT
    assert "built.npz: more than max_bytes=9000" in capsys.readouterr().err


def test_options_do_what_they_say(tmp_path, capsys):
    weights = np.array([[4.0, 2, 1, 0], [0, 4, 2, 1], [0, 0, 4, 2], [0, 0, 0, 0]])
    stack = str(tmp_path / "stack.npy")
    np.save(stack, np.stack([np.eye(4), weights])[None])
    for words, expected in [
        (["--head", "0"], (1, 1)),
        (["--head", "1", "--top-k", "2", "--padding", "self"], (2, 2)),
        (["--head", "1", "--normalize", "--padding", "drop"], (None, None)),
        (["--head", "1", "--normalize", "--padding", "uniform"], (4, 4)),
        (["--head", "1", "--self-loops"], (3, 4)),
        (["--head", "1", "--threshold", "2", "--padding", "self"], (2, 2)),
    ]:
        if expected == (None, None):  # row 2 attends to the token that would be dropped
            assert main(["dim", stack, *words]) == BAD_INPUT
            assert "row 1: attends to token 3" in capsys.readouterr().err
            continue
        about = run_json(capsys, "dim", stack, *words)
        assert (about["row_nnz"], about["max_ratio"]) == pytest.approx(expected, rel=1e-12)


def test_the_standard_input(target, tmp_path, monkeypatch, capsys):
    market = io.BytesIO()
    scipy.io.mmwrite(market, TARGET, precision=17)
    with open(target, "rb") as file:
        contents = file.read(), market.getvalue()
    for content in contents:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert run_json(capsys, "dim", "-")["length"] == 32
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(contents[0])))
    assert main(["dim", "-", "--max-bytes", "99"]) == BAD_INPUT
    assert "the standard input: more than max_bytes=99" in capsys.readouterr().err


def test_a_construction_from_the_standard_input(target, tmp_path, monkeypatch, capsys):
    built = str(tmp_path / "built.npz")
    result = run_json(capsys, "build", target, "-o", built)
    with open(built, "rb") as file:
        content = file.read()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert run_json(capsys, "measure", "-", target)["leak"] == result["leak"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content[:-9])))
    assert main(["measure", "-", target]) == BAD_INPUT
    assert "the standard input: not a readable .npz file" in capsys.readouterr().err


def test_a_target_that_stays_on_disk(target, tmp_path, capsys):
    path, built = str(tmp_path / "target"), str(tmp_path / "built.npz")
    jla.targets.write_mapped(path, TARGET)
    asked = ("--tv", "0.02")
    on_disk, in_memory = (run_json(capsys, "dim", name, *asked) for name in (path, target))
    assert list(by_theorem(on_disk)) == ["T3"]
    assert by_theorem(on_disk)["T3"] == by_theorem(in_memory)["T3"]
    assert {name: on_disk[name] for name in ("length", "row_nnz", "max_ratio", "leak")} == {
        name: in_memory[name] for name in ("length", "row_nnz", "max_ratio", "leak")
    }
    results = [run_json(capsys, "build", name, "-o", built, *asked) for name in (path, target)]
    assert results[0] == results[1]
    assert run_json(capsys, "measure", built, path)["meets"] is True
    for words, message in [
        (["--normalize"], "is read as it is there"),
        (["--method", "max_margin"], "needs its target in memory"),
    ]:
        assert main(["build", path, "-o", built, *words]) == BAD_INPUT
        assert message in capsys.readouterr().err


# --- Codes and errors ----------------------------------------------------------------------------


def test_a_missed_precision_is_an_exit_code(target, tmp_path, capsys):
    built = str(tmp_path / "built.npz")
    assert main(["build", target, "-o", built, "--dim", "4"]) == DONE
    assert "MISSES" in capsys.readouterr().out
    assert run_json(capsys, "measure", built, target, code=MISSED)["meets"] is False
    assert main(["measure", built, target]) == MISSED
    assert "MISSES" in capsys.readouterr().out


def test_nothing_is_measured_if_not_asked_to(target, tmp_path, capsys, monkeypatch):
    built = str(tmp_path / "built.npz")
    monkeypatch.setattr(cli, "measure", recorder([]))
    assert "meets" not in run_json(capsys, "build", target, "-o", built, "--no-measure")
    with pytest.raises(Stopped):
        main(["build", target, "-o", built])


def test_infinities_are_null_in_json(tmp_path, capsys):
    sparse.save_npz(tmp_path / "A.npz", sparse.eye_array(2))
    keys = np.array([[-1000.0], [1000.0]])
    built = jla.Construction(np.ones((2, 1)), keys, "interpolate", 0.0, 0.1, 0.1, 7.0)
    built.save(tmp_path / "built.npz")
    paths = str(tmp_path / "built.npz"), str(tmp_path / "A.npz")
    assert run_json(capsys, "measure", *paths, code=MISSED)["leak"] is None
    np.save(tmp_path / "A.npy", [[1, 5e-324], [0, 1]])
    result = run_json(capsys, "dim", str(tmp_path / "A.npy"))
    assert by_theorem(result)["T3"]["largest_logit"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["dim"], BAD_INPUT, "give a TARGET file, or --length and --row-nnz"),
        (["dim", "TARGET", "--length", "9"], BAD_INPUT, "not both"),
        (["dim", "--length", "9", "--row-nnz", "10"], BAD_INPUT, "row_nnz=10"),
        (["dim", "--length", "9", "--row-nnz", "1", "--tv", "2"], BAD_INPUT, "total_variation=2"),
        (["dim", "none.npz"], BAD_INPUT, "none.npz: no such file"),
        (["build", "TARGET", "-o", "none/x.npz"], BAD_INPUT, "there is no directory none"),
        (["build", "TARGET", "-o", "x.pt"], BAD_INPUT, "expected .npz, .safetensors"),
        (["build", "TARGET", "-o", "TARGET"], BAD_INPUT, "is what is read"),
        (["build", "TARGET", "-o", "OUT", "--leak", "2"], BAD_INPUT, "leak=2.0"),
        (["build", "TARGET", "-o", "OUT", "--tv", "0"], BAD_INPUT, "total_variation=0.0"),
        (["build", "TARGET", "-o", "OUT", "--seed", "-1"], BAD_INPUT, "seed=-1"),
        (["build", "TARGET", "-o", "OUT", "--max-bytes", "9"], BAD_INPUT, "max_bytes=9"),
        (["build", "TARGET", "-o", "OUT", "--dim", "2"], IMPOSSIBLE, "needs dim >= 3"),
        (["build", "TARGET", "-o", "OUT", "--dim", "4", "--retries", "1"], IMPOSSIBLE, "2 draws"),
        (["build", "TARGET", "-o", "OUT", "--mask", "keep"], BAD_INPUT, "neither 0 nor 1"),
        (["build", "TARGET", "-o", "OUT", "--head", "0"], BAD_INPUT, "is one matrix"),
        (
            ["build", "TARGET", "-o", "OUT", "--array", "A"],
            BAD_INPUT,
            "array='A': the file",
        ),
        (["measure", "TARGET", "TARGET"], BAD_INPUT, "not a construction"),
        (["measure", "-", "-"], BAD_INPUT, "cannot both be the standard input"),
        (["example", "-o", "x.txt"], BAD_INPUT, "expected .npz, .mtx, .npy"),
        (["example", "-o", "OUT", "--length", "0"], BAD_INPUT, "length=0"),
        (["example", "-o", "OUT", "--seed", "-1"], BAD_INPUT, "seed=-1"),
    ],
)
def test_errors_say_what_is_wrong(arguments, code, message, target, tmp_path, capsys):
    names = {"TARGET": target, "OUT": str(tmp_path / "built.npz")}
    assert main([names.get(word, word) for word in arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("jl-attention: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "built.npz").exists()


def test_the_input_is_not_overwritten_under_another_name(target, tmp_path):
    (tmp_path / "link.npz").symlink_to(target)
    before = (tmp_path / "A.npz").read_bytes()
    assert main(["build", target, "-o", str(tmp_path / "link.npz")]) == BAD_INPUT
    assert main(["build", str(tmp_path / "link.npz"), "-o", target]) == BAD_INPUT
    assert main(["workload", target, "-o", str(tmp_path / "link.npz")]) == BAD_INPUT
    assert (tmp_path / "A.npz").read_bytes() == before


def test_a_lack_of_memory_is_said(target, tmp_path, capsys, monkeypatch):
    def exhausted(*args, **options):
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr(cli, "construct", exhausted)
    assert main(["build", target, "-o", str(tmp_path / "built.npz")]) == IMPOSSIBLE
    assert "not enough memory: Unable to allocate 9 GiB" in capsys.readouterr().err


def test_a_construction_for_another_length_is_refused(target, tmp_path, capsys):
    other = jla.construct(jla.targets.permutation(8, rng=0), dim=8)
    files.save(other, tmp_path / "built.npz")
    assert main(["measure", str(tmp_path / "built.npz"), target]) == BAD_INPUT
    assert "is for 8 tokens" in capsys.readouterr().err


def test_usage_errors_exit_with_2(capsys, target):
    for arguments in (
        [],
        ["build"],
        ["dim", "--length", "many"],
        ["other"],
        ["dim", target, "--leak", "0.1", "--tv", "0.1"],
        ["dim", target, "--head", "one"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert jla.__version__ in capsys.readouterr().out


def test_the_module_runs_and_a_closed_pipe_is_no_error():
    line = [sys.executable, "-m", "jl_attention.cli", "dim", "--length", "64", "--row-nnz", "1"]
    run = subprocess.run(line, capture_output=True, text=True, check=True)
    assert "interpolate" in run.stdout
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0
