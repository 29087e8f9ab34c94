"""Reading a Matrix Market file, beside SciPy's reader, which checks less.

pytest benchmarks/bench_files.py --benchmark-only
"""

import io

import pytest
import scipy.io

import jl_attention as jla
from jl_attention.interop.matrix_market import read_matrix_market

ENTRIES = 800_000


@pytest.fixture(scope="module")
def content():
    file = io.BytesIO()
    target = jla.targets.row_sparse(ENTRIES // 4, 4, max_ratio=3.0, rng=0)
    scipy.io.mmwrite(file, target, precision=17)
    return file.getvalue()


@pytest.mark.benchmark(group="read .mtx, 800 000 entries")
def test_read_matrix_market(benchmark, content):
    matrix = benchmark(read_matrix_market, content, lambda shape, entries: None)
    assert matrix.nnz == ENTRIES


@pytest.mark.benchmark(group="read .mtx, 800 000 entries")
def test_scipy_mmread(benchmark, content):
    matrix = benchmark(lambda: scipy.io.mmread(io.BytesIO(content)))
    assert matrix.nnz == ENTRIES
