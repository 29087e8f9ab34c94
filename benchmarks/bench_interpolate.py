"""`interpolate` against the projections on the same target, and its cost in L.

    pytest benchmarks/bench_interpolate.py --benchmark-only

The methods are timed at the dimension that T3 asks for; `extra_info` holds the dimension that each
method's own theorem asks for at the same precision, which the projections cannot be run at.
"""

import numpy as np
import pytest

import jl_attention as jla

PRECISION = {"ratio_error": 0.1, "leak": 0.01}
METHODS = ("interpolate", "row_projection", "svd_projection")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.benchmark(group="construct, L = 4096, k = 4")
def test_methods_on_the_same_target(benchmark, method):
    target = jla.targets.regular(4096, 4, max_ratio=2.0, rng=0)
    dim = jla.required_dim_for_target(target, **PRECISION)
    built = benchmark.pedantic(
        jla.construct, (target, method), {**PRECISION, "dim": dim}, rounds=1, iterations=1
    )
    report = jla.measure(built, target)
    benchmark.extra_info.update(
        timed_at_dim=dim,
        required_dim=jla.required_dim_for_target(target, method, **PRECISION),
        measured_ratio_error=report.ratio_error,
        measured_leak=report.leak,
    )
    assert report.meets(**PRECISION) == (method == "interpolate")


@pytest.mark.parametrize("length", [4096, 16384, 65536])
@pytest.mark.benchmark(group="interpolate, k = 8, float32")
def test_cost_in_length(benchmark, length):
    target = jla.targets.row_sparse(length, 8, max_ratio=2.0, rng=0)
    dim = jla.required_dim_for_target(target, leak=0.01)
    built = benchmark.pedantic(
        jla.construct,
        (target,),
        {"dim": dim, "leak": 0.01, "dtype": np.float32},
        rounds=2,
        iterations=1,
    )
    benchmark.extra_info.update(dim=dim, microseconds_a_row=benchmark.stats["min"] / length * 1e6)
    sample = jla.measure(built, target, rows=np.arange(0, length, length // 64))
    assert sample.meets(1e-3, 0.01)
