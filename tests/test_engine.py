"""Blocks of rows give the same bits whatever maps them."""

import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import pytest

import jl_attention as jla
from jl_attention import engine
from jl_attention.codes import GaussianCodes
from jl_attention.methods import least_norm

TARGET = jla.targets.row_sparse(600, 3, 2.0, rng=0)


def squared(block):
    return block**2


def test_results_come_in_order_and_progress_counts():
    seen = []
    with ThreadPoolExecutor(3) as executor:
        for mapper in (None, executor):
            blocks = (np.full(2, i) for i in range(40))
            found = engine.run(squared, blocks, mapper, lambda *done: seen.append(done), 80)
            assert [block[0] for block in found] == [i**2 for i in range(40)]
    assert seen == 2 * [(2 * i, 80) for i in range(1, 41)]


def test_few_blocks_are_in_flight():
    made = []

    def blocks():
        for i in range(100):
            made.append(i)
            yield [i]

    with ThreadPoolExecutor(1) as executor:
        results = engine.run(len, blocks(), executor)
        next(results)
        assert len(made) <= engine.AHEAD + 1
        results.close()


def test_an_error_in_a_block_comes_out():
    def fail(block):
        raise jla.ConstructionError("row 3: no")

    with ThreadPoolExecutor(2) as executor, pytest.raises(jla.ConstructionError, match="row 3"):
        list(engine.run(fail, [[1], [2]], executor))
    with pytest.raises(jla.ParameterError, match="has no method submit"):
        list(engine.run(fail, [[1]], "threads"))


def test_support_blocks_cover_every_row_once():
    target = jla.targets.vertical_slash(200, 3, 4, rng=0)
    rows = np.zeros((200, 200))
    for block in engine.support_blocks(target, 8, 400):
        assert block.columns.shape == block.values.shape
        assert 8 * block.columns.size <= 400 or len(block.rows) == 1
        rows[block.rows[:, None], block.columns] += block.values
    np.testing.assert_array_equal(rows, target.toarray())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_threads_and_processes_give_the_same_bits(dtype):
    options = {"leak": 0.1, "rng": 7, "dtype": dtype}
    alone = jla.construct(TARGET, **options)
    report = jla.measure(alone, TARGET)
    for pool in (ThreadPoolExecutor, ProcessPoolExecutor):
        with pool(2) as executor:
            built = jla.construct(TARGET, executor=executor, **options)
            assert built == alone
            assert jla.measure(built, TARGET, executor=executor) == report


class Counting(ThreadPoolExecutor):
    """Threads that count what they are given."""

    submitted = 0

    def submit(self, *args):
        self.submitted += 1
        return super().submit(*args)


@dataclass(frozen=True)
class Told(GaussianCodes):
    """Codes that write down each block that is drawn."""

    log: str = ""

    def block(self, index):
        with open(self.log, "a") as file:
            file.write(f"{index}\n")
        return super().block(index)

    def drawn(self):
        """Return how many blocks were drawn since the last call."""
        with open(self.log, "r+") as file:
            lines = file.readlines()
            file.truncate(0)
        return len(lines)


def test_codes_are_drawn_once_for_all_blocks(tmp_path):
    target = jla.targets.row_sparse(12_000, 2, 2.0, rng=0)
    codes = Told(12_000, 48, (1, 2), np.dtype(np.float32), log=str(tmp_path / "log"))
    (tmp_path / "log").touch()
    blocks = -(-12_000 // 256)
    solved = len(list(engine.support_blocks(target, 8 * codes.dim, least_norm.BLOCK_BYTES)))
    assert solved > 2
    built = jla.construct(target, keys=codes, leak=0.5)
    assert codes.drawn() == blocks  # to solve, and for `built.keys`
    assert len(pickle.dumps(codes)) < 1000  # a worker makes them itself
    rows = np.arange(0, 12_000, 9)
    report = jla.measure(built, target, rows)
    assert codes.drawn() == 0
    # A fresh process: a fork would inherit what is held here.
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        assert jla.construct(target, keys=codes, leak=0.5, executor=executor) == built
        assert codes.drawn() == blocks  # by the worker, once
        assert jla.measure(built, target, rows, executor=executor) == report
        assert codes.drawn() == 0


@pytest.mark.parametrize("codes", ["gaussian", "tight"])
def test_max_margin_is_mapped_over_blocks_with_the_same_bits(codes):
    method, seen = jla.methods.MaxMargin(codes), []
    alone = jla.construct(TARGET, method, rng=7)
    with Counting(2) as executor:
        told = {"executor": executor, "progress": lambda *done: seen.append(done)}
        assert jla.construct(TARGET, method, rng=7, **told) == alone
        assert executor.submitted == len(seen) == 3
    assert seen[-1] == (600, 600)
    with ProcessPoolExecutor(2) as executor:
        assert jla.construct(TARGET, method, rng=7, executor=executor) == alone


def test_rows_without_a_query_are_the_same_whatever_maps_them():
    keys = jla.codes.draw("gaussian", 600, 30, 0)
    alone = jla.methods.MaxMargin().queries(TARGET, keys)
    assert 0 < len(alone.infeasible) < 600
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2) as processes:
        for executor in (threads, processes):
            for given in (keys, keys.array()):
                found = jla.methods.MaxMargin().queries(TARGET, given, executor=executor)
                np.testing.assert_array_equal(found.queries, alone.queries)
                np.testing.assert_array_equal(found.infeasible, alone.infeasible)
                for row in alone.infeasible:
                    one, other = found.certificates[row], alone.certificates[row]
                    assert one.distance == other.distance
                    np.testing.assert_array_equal(one.weights, other.weights)


def test_dask_gives_the_same_bits():
    distributed = pytest.importorskip("distributed")
    alone = jla.construct(TARGET, leak=0.1, rng=7)
    margin = jla.construct(TARGET, "max_margin", rng=7)
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    )
    with cluster, distributed.Client(cluster) as client:
        executor = client.get_executor(pure=False)
        built = jla.construct(TARGET, leak=0.1, rng=7, executor=executor)
        report = jla.measure(built, TARGET, executor=executor)
        assert jla.construct(TARGET, "max_margin", rng=7, executor=executor) == margin
    assert built == alone
    assert report == jla.measure(alone, TARGET)


def test_a_different_row_is_noticed():
    alone = jla.construct(TARGET, leak=0.1, rng=7)
    changed = alone.queries.copy()
    changed[300] *= 1 + 1e-12
    other = jla.Construction(changed, alone.keys, *(getattr(alone, name) for name in SETTINGS))
    assert other != alone
    assert jla.measure(other, TARGET) != jla.measure(alone, TARGET)


SETTINGS = ("method", "ratio_error", "leak", "failure_prob", "logit_scale")


def test_results_are_read_only():
    built = jla.construct(TARGET, leak=0.1, rng=7)
    report = jla.measure(built, TARGET)
    for array in (built.queries, built.keys, report.row_leak, report.rows):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(TypeError, match="unhashable"):
        hash(report)


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import jl_attention", "matplotlib scipy.stats scipy.optimize jl_attention_book"),
        ("from jl_attention import *", "matplotlib jl_attention_book"),
    ],
)
def test_the_library_is_light(statement, absent):
    code = f"{statement}; import sys; print(*[n for n in {absent.split()} if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
