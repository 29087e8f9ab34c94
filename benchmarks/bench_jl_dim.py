"""`jl_dim` against scikit-learn's `johnson_lindenstrauss_min_dim`, at the same guarantee.

    pytest benchmarks/bench_jl_dim.py --benchmark-only
    python benchmarks/bench_jl_dim.py

The second command prints the dimensions side by side. scikit-learn's formula is Dasgupta and
Gupta's, whose proof leaves a failure probability of 1 - 1/N; the same guarantee from the exact
tail is `jl_dim(N, eps, failure_prob=1 - 1/N)`.
"""

import numpy as np
import pytest
from sklearn.random_projection import johnson_lindenstrauss_min_dim

from jl_attention import jl_dim
from jl_attention.concentration import chi_square_failure

POINTS = np.unique(np.geomspace(10, 10**6, 1000).astype(int))
EPSILON = 0.1


@pytest.mark.benchmark(group="dimension of 1000 sizes")
@pytest.mark.parametrize("bound", ["exact", "chernoff", "dasgupta_gupta"])
def test_ours(benchmark, bound):
    dims = benchmark(jl_dim, POINTS, EPSILON, 1 - 1 / POINTS, bound=bound)
    textbook = johnson_lindenstrauss_min_dim(POINTS, eps=EPSILON)
    if bound == "exact":
        assert (dims <= textbook + 1).all()


@pytest.mark.benchmark(group="dimension of 1000 sizes")
def test_scikit_learn(benchmark):
    benchmark(johnson_lindenstrauss_min_dim, POINTS, eps=EPSILON)


def main():
    """Print the dimensions as a Markdown table."""
    print("| N | eps | scikit-learn | exact, same guarantee | exact, eta = 0.05 |", end="")
    print(" success of scikit-learn's m: promised | at least |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for eps in (0.1, 0.5):
        for points in (100, 10_000, 1_000_000):
            theirs = int(johnson_lindenstrauss_min_dim(points, eps=eps))
            same = jl_dim(points, eps, 1 - 1 / points)
            failure = points * (points - 1) / 2 * chi_square_failure(theirs, eps)
            print(
                f"| {points} | {eps} | {theirs} | {same} | {jl_dim(points, eps)} |"
                f" {1 / points:.0e} | {1 - failure:.3f} |"
            )


if __name__ == "__main__":
    main()
