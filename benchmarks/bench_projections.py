"""Our projections against scikit-learn's, and the fast transform against the dense product.

    pytest benchmarks/bench_projections.py --benchmark-only --benchmark-json=OUT.json
    python benchmarks/bench_projections.py OUT.json

The second command prints the tables of `benchmarks/README.md`. All data are float32; both
libraries project the rows of the same arrays, and draw their matrix outside the timed part.
"""

import json
import sys

import numpy as np
import pytest
from scipy import sparse
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from jl_attention.projections import FAMILIES

ROWS, DIM_IN, DIM_OUT = 20_000, 4096, 512
SCIKIT_LEARN = {
    "gaussian": GaussianRandomProjection(DIM_OUT, random_state=0),
    "achlioptas": SparseRandomProjection(DIM_OUT, density=1 / 3, random_state=0),
    "li": SparseRandomProjection(DIM_OUT, density="auto", random_state=0),
}
ENTRIES = 2**25  # of the input in the sweep over m and n
SWEEP_IN = (1024, 4096, 16384)
SWEEP_OUT = (16, 32, 64, 128, 256, 512, 1024)


def make_input(kind):
    """Return the 20 000 x 4 096 input, dense or sparse with 1% nonzeros."""
    rng = np.random.default_rng(0)
    if kind == "dense":
        return rng.standard_normal((ROWS, DIM_IN), dtype=np.float32)
    return sparse.random_array(
        (ROWS, DIM_IN), density=0.01, format="csr", dtype=np.float32, rng=rng
    )


@pytest.fixture(scope="module", params=["dense", "sparse"])
def data(request):
    return request.param, make_input(request.param)


@pytest.mark.parametrize("name", FAMILIES)
def test_ours(benchmark, data, name):
    kind, X = data
    benchmark.group = f"{kind} input"
    P = FAMILIES[name].sample(DIM_OUT, DIM_IN, 0, np.float32)
    projected = benchmark.pedantic(lambda: X @ P.T, rounds=7, iterations=1, warmup_rounds=1)
    assert projected.shape == (ROWS, DIM_OUT)
    assert projected.dtype == np.float32


@pytest.mark.parametrize("name", SCIKIT_LEARN)
def test_scikit_learn(benchmark, data, name):
    kind, X = data
    benchmark.group = f"{kind} input"
    rounds = 2 if (kind, name) == ("dense", "achlioptas") else 7
    P = SCIKIT_LEARN[name].fit(X[:2])
    projected = benchmark.pedantic(P.transform, (X,), rounds=rounds, iterations=1, warmup_rounds=1)
    assert projected.shape == (ROWS, DIM_OUT)
    assert projected.dtype == np.float32


@pytest.mark.parametrize("name", ["gaussian", "srht"])
@pytest.mark.parametrize("dim_out", SWEEP_OUT)
@pytest.mark.parametrize("dim_in", SWEEP_IN)
def test_sweep(benchmark, name, dim_in, dim_out):
    benchmark.group = f"n = {dim_in}, m = {dim_out}"
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ENTRIES // dim_in, dim_in), dtype=np.float32)
    P = FAMILIES[name].sample(dim_out, dim_in, rng, np.float32)
    benchmark.pedantic(lambda: X @ P.T, rounds=7, iterations=1, warmup_rounds=1)


def main(path):
    """Print the tables in Markdown, seconds, the least of the rounds."""
    with open(path) as file:
        runs = json.load(file)["benchmarks"]
    seconds = {(run["group"], run["name"]): run["stats"]["min"] for run in runs}
    print("| map | dense: ours | scikit-learn | sparse: ours | scikit-learn |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in FAMILIES:
        cells = [
            seconds.get((f"{kind} input", f"{test}[{kind}-{name}]"))
            for kind in ("dense", "sparse")
            for test in ("test_ours", "test_scikit_learn")
        ]
        row = " | ".join("" if cell is None else f"{cell:.3f}" for cell in cells)
        print(f"| `{name}` | {row} |")
    print()
    print("| n \\ m | " + " | ".join(map(str, SWEEP_OUT)) + " |")
    print("| --- |" + " ---: |" * len(SWEEP_OUT))
    for n in SWEEP_IN:
        ratios = [
            seconds[f"n = {n}, m = {m}", f"test_sweep[{n}-{m}-gaussian]"]
            / seconds[f"n = {n}, m = {m}", f"test_sweep[{n}-{m}-srht]"]
            for m in SWEEP_OUT
        ]
        print(f"| {n} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")


if __name__ == "__main__":
    main(sys.argv[1])
