"""The harness of `make portability`: what is valid stays valid, and what is fragile is seen."""

import inspect
import os
import re
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from portability import perturbed, run

import jl_attention as jla

FRAGILE = {
    # A sign, a basis, an order among equals, the last digits of a sum, a comparison at its edge.
    "a singular vector": "print(np.linalg.svd(A)[0][0].round(3))",
    "a null space": "print(scipy.linalg.null_space(np.ones((1, 4)))[0].round(3))",
    "an eigenvector": "print(scipy.linalg.eigh(A + A.T)[1][0].round(3))",
    "a basis by QR": "print(np.linalg.qr(A)[0][0].round(3))",
    "a tie": "print(np.argsort(np.ones(40))[:5])",
    "places of maxima": "print(np.argmax((U**2).sum(1).reshape(5, 10), axis=1))",
    "all digits": "print(f'{(A @ A).sum():.16g}')",
    "an edge": "print((np.full((40, 3), 0.1) @ np.ones(3) <= 0.3).sum())",
}
ROBUST = {
    "singular values": "print(np.linalg.svd(A)[1].round(3))",
    "a projection": "N = scipy.linalg.null_space(np.ones((1, 4))); print((N @ N.T).round(3) + 0)",
    "an order of distinct keys": "print(np.argsort([3, 1, 2]))",
    "few digits": "print(f'{(A @ A).sum():.4g}')",
    "a count": "print((A > 0).mean(), (A > 0).sum(), float(np.ones(10) @ np.ones(10)))",
}
SETUP = """\
import numpy as np
import scipy.linalg
A = np.random.default_rng(0).standard_normal((5, 5))
U = np.random.default_rng(1).random((50, 5))
U /= np.linalg.norm(U, axis=1, keepdims=True)
"""
WATCHED = {
    "print(f'{0.125 + 1e-12:.2f}')": True,
    "print('{:.3f} and {:d}'.format(1.2345 - 1e-13, 3))": True,
    "print(int(np.ceil(4 + 1e-12)))": True,
    "print(f'{-1e-17:.2f}')": True,
    "print(f'{0.126:.2f}', f'{3:d}', f'{2.0:.0f}', int(np.ceil(4.0)), int(np.ceil(4.2)))": False,
}


@pytest.fixture(scope="module")
def machines():
    if "JL_MACHINE" in os.environ:
        pytest.skip("the harness does not run inside itself")
    return {machine.name: machine for machine in [run.Machine("here", "default"), *run.perturbed()]}


def executed(path, cells):
    """Write a notebook and execute it as it is here."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, path)
    command = [
        sys.executable,
        "-m",
        "nbconvert",
        "--execute",
        "--inplace",
        "--to",
        "notebook",
        path,
    ]
    subprocess.run(command, check=True, capture_output=True)
    return str(path)


def differing(machine, notebook):
    """Return the numbers of the cells that differ."""
    return run.visit(machine, [notebook], []).cells[notebook]


def test_planted_fragilities_in_a_notebook_are_seen(tmp_path, machines):
    cells = [SETUP, *ROBUST.values(), *FRAGILE.values()]
    notebook = executed(tmp_path / "planted.ipynb", cells)
    assert differing(machines["here"], notebook) == []
    fragile = list(range(1 + len(ROBUST), len(cells)))
    assert differing(machines["perturbed, seed 1"], notebook) == fragile


def test_planted_boundaries_in_a_notebook_are_seen(tmp_path, machines):
    notebook = executed(tmp_path / "watched.ipynb", ["import numpy as np", *WATCHED])
    wanted = [at for at, near in enumerate(WATCHED.values(), start=1) if near]
    assert differing(machines["rounding boundaries"], notebook) == wanted


PLANTED = """
import numpy as np
import jl_attention as jla
def test_signs():
    assert signs() == SIGNS
def test_bits():
    assert drawn() == BITS
def test_value():
    assert abs(float.fromhex(drawn()) - float.fromhex(BITS)) < 1e-9
"""


def signs():
    """Return a fact about this LAPACK: the signs of some singular vectors."""
    return (np.linalg.svd(np.vander(range(1, 9)))[0][0] > 0).tolist()


def drawn():
    """Return a fact about this BLAS: all bits of a query."""
    return jla.construct(np.eye(40)[::-1], rng=0, dim=9).queries[0, 0].hex()


def test_planted_fragilities_in_tests_are_seen(tmp_path, machines):
    planted = tmp_path / "test_planted.py"
    facts = f"SIGNS, BITS = {signs()}, {drawn()!r}\n"
    planted.write_text(facts + "".join(map(inspect.getsource, (signs, drawn))) + PLANTED)
    assert run.visit(machines["here"], [], [str(planted)]).tests == []
    failed = run.visit(machines["perturbed, seed 1"], [], [str(planted)]).tests
    assert [test.rpartition("::")[2] for test in failed] == ["test_signs", "test_bits"]


# --- What replaces a factorisation is one --------------------------------------------------------


@given(n=st.integers(1, 7), p=st.integers(1, 7), rank=st.integers(0, 3), seed=st.integers(0, 99))
def test_other_factorisations_are_factorisations(n, p, rank, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-1, 2, (n, rank)) @ rng.integers(-1, 2, (rank, p)) + 0.0
    for full in (False, True):
        U, sigma, Vt = perturbed.other_svd(rng, *np.linalg.svd(matrix, full_matrices=full))
        count = len(sigma)
        assert (np.diff(sigma) <= 0).all()
        np.testing.assert_allclose(U[:, :count] * sigma @ Vt[:count], matrix, atol=1e-11)
        np.testing.assert_allclose(U.T @ U, np.eye(U.shape[1]), atol=1e-12)
        np.testing.assert_allclose(Vt @ Vt.T, np.eye(len(Vt)), atol=1e-12)
    for mode in ("reduced", "complete"):
        Q, R = perturbed.other_qr(rng, *np.linalg.qr(matrix, mode))
        np.testing.assert_allclose(Q @ R, matrix, atol=1e-12)
        np.testing.assert_allclose(Q.T @ Q, np.eye(Q.shape[1]), atol=1e-12)
    square = matrix @ matrix.T
    values, vectors = perturbed.other_eigh(rng, *np.linalg.eigh(square))
    np.testing.assert_allclose(vectors * values @ vectors.T, square, atol=1e-11)


def test_noise_is_a_function_of_seed_value_and_place():
    machine, other = perturbed.Machine(1), perturbed.Machine(2)
    x = np.array([0.1, 0.1, 3.0, 0.0, np.inf])
    once, again = (machine.noise(x, np.abs(x)) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert once[0] != once[1] != x[0] != other.noise(x, 1.0)[0]
    np.testing.assert_array_equal(once[2:], x[2:])  # integers, zeros and infinities are exact
    np.testing.assert_allclose(once, x, rtol=1e-12)
    assert isinstance(machine.noise(np.float64(0.1), 1.0), np.float64)
    assert machine.noise(np.float32(0.1), 1.0).dtype == np.float32


@pytest.mark.skipif("JL_MACHINE" in os.environ, reason="the product itself would be noisy")
@given(n=st.integers(1, 50), seed=st.integers(0, 99))
def test_noise_in_a_product_is_within_the_bound_of_every_order_of_adding(n, seed):
    rng = np.random.default_rng(seed)
    left, right = rng.standard_normal((3, n)), rng.standard_normal((n, 4))
    # (n + 2) u of the terms' sizes: Higham 2002, section 3.1, and the rounding of the noise.
    bound = (n + 2) * np.finfo(float).eps / 2 * (np.abs(left) @ np.abs(right))
    off = perturbed.Machine(seed).product(left, right) - np.matmul(left, right)
    assert (np.abs(off) <= bound).all()
    assert n < 4 or np.abs(off).max() > 0.1 * bound.max()
    counts = perturbed.Machine(seed).product(np.ones((2, n)), np.ones((n, 2)))
    np.testing.assert_array_equal(counts, n)


def test_the_table_goes_between_its_marks(tmp_path, monkeypatch):
    notebooks = ["book/04-theorem.ipynb", "book/claims.ipynb"]
    monkeypatch.setattr(run.toc, "notebooks", lambda: notebooks)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{run.MARKS[0]}{run.MARKS[1]}\nafter\n")
    outcome = run.Outcome(tests=["a::test_b[x|y]"], cells={notebooks[0]: [3, 7]})
    one = run.entries(run.Machine("one", "default"), outcome)
    two = run.entries(run.Machine("two", "kernel", skipped="no such kernel"), run.Outcome())
    head = "| machine | unit tests | 04 | claims |\n| --- | --- | --- | --- |\n"

    def between():
        before, table, after = re.split("<!-- /?portability -->\n", page.read_text())
        assert (before, after) == ("before\n", "after\n")
        return table.strip("\n") + "\n"

    run.write(page, {"two": two, "one": one}, ["one", "two", "three"])
    assert between() == head + (
        "| one | test_b[x/y] | 3, 7 |  |\n| two | not run: no such kernel |  |  |\n"
    )
    # What is run again replaces what was there; the rest stays.
    mended = run.Outcome(cells={notebooks[0]: [], notebooks[1]: [2]})
    run.write(page, {"one": run.entries(run.Machine("one", "default"), mended)}, ["two", "one"])
    assert between() == head + (
        "| two | not run: no such kernel |  |  |\n| one | test_b[x/y] | same | 2 |\n"
    )
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="has no <!-- portability"):
        run.write(page, {}, [])


def test_the_set_for_continuous_integration():
    machines = [run.Machine("as it is", "default")]
    for name in ("Nehalem", "Haswell", "SkylakeX"):
        for narrow in ({}, {"NPY_DISABLE_CPU_FEATURES": "AVX2"}):
            own = name == "SkylakeX"
            machines.append(run.Machine(name + str(len(narrow)), "kernel", narrow, own=own))
    machines += run.perturbed()
    machines += [run.Machine(f"Python {v}", "python", own=v == 11) for v in (11, 12)]
    machines += [run.Machine(f"{end} packages", "versions") for end in ("oldest", "newest")]
    assert [(machine.name, *what) for machine, *what in run.choose(machines, [], "ci")] == [
        ("Nehalem1", True, True),
        ("Haswell1", True, True),
        ("perturbed, seed 1", True, True),
        ("perturbed, seed 2", True, True),
        ("rounding boundaries", False, True),
        ("Python 12", True, False),
        ("oldest packages", True, False),
    ]
    assert [machine for machine, *_ in run.choose(machines, [], "all")] == machines
    chosen = run.choose(machines, ["seed 1", "haswell0"], "ci")
    assert [machine.name for machine, *_ in chosen] == ["Haswell0", "perturbed, seed 1"]
