"""The command line: what it prints, writes and returns."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse

import jl_attention as jla
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


def test_from_a_pattern_to_a_kernel(target, tmp_path, capsys):
    built = str(tmp_path / "built.npz")
    result = run_json(capsys, "build", target, "-o", built, "--leak", "0.05")
    expected = jla.construct(TARGET, leak=0.05, rng=0)
    assert result["dim"] == expected.dim
    assert result["hidden_size"] == 2 * expected.dim
    with np.load(built, allow_pickle=False) as stored:
        Q, K = stored["Q"], stored["K"]
    M = np.exp(Q @ K.T / np.sqrt(Q.shape[1]))
    M /= M.sum(axis=1, keepdims=True)
    assert np.allclose(M, expected.attention(), atol=1e-12)
    report = run_json(capsys, "measure", built, target)
    assert report["meets"] is True
    assert report["leak"] == jla.measure(expected, TARGET).leak <= 0.05


def test_tables_for_people(target, tmp_path, capsys):
    built = str(tmp_path / "built.npz")
    assert main(["dim", target]) == DONE
    assert main(["build", target, "-o", built, "--dtype", "float32"]) == DONE
    assert main(["measure", built, target]) == DONE
    printed = capsys.readouterr().out
    for part in (
        "L = 32, k = 3, gamma = 5; at most 3 nonzeros in a column",
        "svd_projection",
        "wrote X, W_Q, W_K, Q, K to",
        "total_variation",
        "meets the ratio error 0 and leak 0.01 asked",
    ):
        assert part in printed


def test_dimensions_of_a_class_and_of_a_target(target, capsys):
    result = run_json(capsys, "dim", "--length", "1024", "--row-nnz", "4")
    found = {row["theorem"]: row for row in result["required"]}
    assert result["necessary"] == {
        bound: jla.dimensions.necessary_dim(1024, 4, bound) for bound in ("radon", "bits")
    }
    assert found["T3"]["dim"] == jla.required_dim(1024, 4)
    assert found["T1"]["dim"] == jla.required_dim(1024, 4, "svd_projection", ratio_error=0.1)
    assert found["T3"]["closed_form"] == jla.required_dim(1024, 4, bound="closed_form")
    rows = run_json(capsys, "dim", target, "--leak", "0.1")["required"]
    found = {row["theorem"]: row for row in rows}
    assert found["T3"]["dim"] == jla.required_dim_for_target(TARGET, leak=0.1)


def test_a_missed_precision_is_an_exit_code(target, tmp_path, capsys):
    built = str(tmp_path / "built.npz")
    assert main(["build", target, "-o", built, "--dim", "4"]) == DONE
    capsys.readouterr()
    assert run_json(capsys, "measure", built, target, code=MISSED)["meets"] is False
    assert main(["measure", built, target]) == MISSED
    assert "MISSES" in capsys.readouterr().out


def test_infinities_are_null_in_json(tmp_path, capsys):
    sparse.save_npz(tmp_path / "A.npz", sparse.eye_array(2))
    keys = np.array([[-1000.0], [1000.0]])
    built = jla.Construction(np.ones((2, 1)), keys, "interpolate", 0.0, 0.1, 0.1, 7.0)
    built.save(tmp_path / "built.npz")
    paths = str(tmp_path / "built.npz"), str(tmp_path / "A.npz")
    assert run_json(capsys, "measure", *paths, code=MISSED)["leak"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["dim"], BAD_INPUT, "give a TARGET file, or --length and --row-nnz"),
        (["dim", "TARGET", "--length", "9"], BAD_INPUT, "not both"),
        (["dim", "--length", "9", "--row-nnz", "10"], BAD_INPUT, "row_nnz=10"),
        (["dim", "none.npz"], BAD_INPUT, "none.npz: no such file"),
        (["build", "TARGET", "-o", "none/x.npz"], BAD_INPUT, "there is no directory none"),
        (["build", "TARGET", "-o", "x.pt"], BAD_INPUT, "expected .npz, .safetensors"),
        (["build", "TARGET", "-o", "OUT", "--leak", "2"], BAD_INPUT, "leak=2.0"),
        (["build", "TARGET", "-o", "OUT", "--seed", "-1"], BAD_INPUT, "seed=-1"),
        (["build", "TARGET", "-o", "OUT", "--max-bytes", "9"], BAD_INPUT, "max_bytes=9"),
        (["build", "TARGET", "-o", "OUT", "--dim", "2"], IMPOSSIBLE, "needs dim >= 3"),
        (["build", "TARGET", "-o", "OUT", "--dim", "4", "--retries", "1"], IMPOSSIBLE, "2 draws"),
        (["measure", "TARGET", "TARGET"], BAD_INPUT, "not a construction"),
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


def test_a_construction_for_another_length_is_refused(target, tmp_path, capsys):
    other = jla.construct(jla.targets.permutation(8, rng=0), dim=8, rng=0)
    files.save(other, tmp_path / "built.npz")
    assert main(["measure", str(tmp_path / "built.npz"), target]) == BAD_INPUT
    assert "is for 8 tokens" in capsys.readouterr().err


def test_usage_errors_exit_with_2(capsys):
    for arguments in ([], ["build"], ["dim", "--length", "many"], ["other"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert jla.__version__ in capsys.readouterr().out


def test_the_module_runs():
    run = subprocess.run(
        [sys.executable, "-m", "jl_attention.cli", "dim", "--length", "64", "--row-nnz", "1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "interpolate" in run.stdout
