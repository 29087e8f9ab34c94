"""Max-margin queries with few candidates against non-negative least squares on all constraints.

pytest benchmarks/bench_max_margin.py --benchmark-only
"""

import numpy as np
import pytest

import jl_attention as jla
from jl_attention import max_margin
from jl_attention.codes import unit_codes

LENGTH, ROW_NNZ, DIM, ROWS = 4096, 4, 64, 40


@pytest.fixture(scope="module")
def problem():
    target = jla.targets.regular(LENGTH, ROW_NNZ, max_ratio=2.0, rng=0)
    B = jla.logits.target_logits(target, np.log(100))
    return B[:ROWS], unit_codes(LENGTH, DIM, 0)


@pytest.mark.parametrize("candidates", [max_margin.CANDIDATES, LENGTH], ids=["few", "all"])
@pytest.mark.benchmark(group=f"{ROWS} rows, L = {LENGTH}, k = {ROW_NNZ}, m = {DIM}")
def test_candidates(benchmark, problem, candidates):
    few, _ = max_margin.max_margin_queries(*problem)
    queries, infeasible = benchmark.pedantic(
        max_margin.max_margin_queries,
        problem,
        {"candidates": candidates},
        rounds=3,
        iterations=1,
    )
    assert not len(infeasible)
    lengths = np.linalg.norm(queries, axis=1)
    np.testing.assert_allclose(np.linalg.norm(few, axis=1), lengths, rtol=1e-6)
