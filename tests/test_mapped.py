"""Targets that stay on disk give the bits of those in memory, and are not loaded."""

import os
import tracemalloc

import numpy as np
import pytest

import jl_attention as jla
from jl_attention.interop import mapped
from jl_attention.methods import METHODS, Interpolate, least_norm
from jl_attention.targets import MappedTarget, write_mapped

TARGET = jla.targets.vertical_slash(200, 2, 5, 3.0, rng=0)


def written(path, target=TARGET, **changes):
    """Write a target, with other arrays in place of some of its files."""
    write_mapped(path, target)
    for name, array in changes.items():
        np.save(path / f"{name}.npy", array)
    return path


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    return MappedTarget(written(tmp_path_factory.mktemp("target")))


@pytest.mark.parametrize(
    ("codes", "asked"),
    [
        ("gaussian", {"leak": 0.1}),
        ("gaussian", {"total_variation": 0.02}),
        ("unit", {"leak": 0.1}),
        ("tight", {"leak": 0.1}),
    ],
)
def test_the_same_bits_as_in_memory(codes, asked, on_disk, monkeypatch):
    method = Interpolate(codes)
    expected = jla.construct(TARGET, method, rng=1, **asked)
    for entries in (mapped.BLOCK_ENTRIES, 100):
        monkeypatch.setattr(mapped, "BLOCK_ENTRIES", entries)
        built = jla.construct(on_disk, method, rng=1, **asked)
        assert built == expected
        assert jla.measure(built, on_disk) == jla.measure(expected, TARGET)
        rows = [199, 3, 4]
        assert jla.measure(built, on_disk, rows) == jla.measure(expected, TARGET, rows)


def test_rows_and_blocks(on_disk, monkeypatch):
    assert on_disk.shape == (200, 200)
    assert (on_disk.load() != TARGET).nnz == 0
    for rows in (slice(3, 9), np.array([7, 7, 0]), slice(190, None)):
        assert (on_disk[rows] != TARGET[rows]).nnz == 0
    monkeypatch.setattr(mapped, "BLOCK_ENTRIES", 40)
    blocks = list(on_disk.blocks())
    assert sum(block.shape[0] for block in blocks) == 200
    assert max(block.nnz for block in blocks) <= 40
    monkeypatch.setattr(mapped, "BLOCK_ENTRIES", 1)  # less than a row
    assert [block.shape[0] for block in on_disk.blocks()] == 200 * [1]


def test_a_target_is_written_block_by_block(tmp_path):
    write_mapped(tmp_path / "new", (TARGET[start : start + 7] for start in range(0, 200, 7)))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "data.npy",
        "indices.npy",
        "indptr.npy",
    ]
    assert (MappedTarget(tmp_path / "new").load() != TARGET).nnz == 0


def test_other_number_formats_are_read(tmp_path):
    target = jla.targets.permutation(9, rng=0)
    written(
        tmp_path,
        target,
        indptr=target.indptr.astype(">i2"),
        indices=target.indices.astype(np.uint8),
        data=target.data.astype(">f4"),
    )
    assert (MappedTarget(tmp_path).load() != target).nnz == 0


@pytest.mark.skipif("JL_MACHINE" in os.environ, reason="another machine's noise takes memory")
def test_memory_is_that_of_queries_and_keys(tmp_path, monkeypatch):
    monkeypatch.setattr(mapped, "BLOCK_ENTRIES", 2**13)
    monkeypatch.setattr(least_norm, "BLOCK_BYTES", 2**17)
    length, row_nnz, dim = 4096, 40, 48
    written(tmp_path, jla.targets.row_sparse(length, row_nnz, rng=0))
    on_disk = MappedTarget(tmp_path)
    size = on_disk.data.nbytes + on_disk.indices.nbytes
    halves = 2 * length * dim * 4

    def peak(target):
        tracemalloc.start()
        options = {"dim": dim, "dtype": np.float32, "leak": 0.5, "rng": 0}
        built = jla.construct(target, Interpolate("gaussian"), **options)
        jla.measure(built, target, np.arange(0, length, 16))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert size > 1.5 * halves
    assert peak(on_disk) < halves + size
    assert peak(on_disk.load()) > halves + 1.5 * size


@pytest.mark.parametrize("method", [name for name in METHODS if name != "interpolate"])
def test_methods_that_need_it_in_memory_say_so(method, on_disk):
    for verb in (jla.construct, jla.required_dim_for_target):
        with pytest.raises(jla.ParameterError, match=rf"method='{method}': .*target\.load\(\)"):
            verb(on_disk, method, ratio_error=0.1)
    assert jla.required_dim_for_target(on_disk) == jla.required_dim_for_target(TARGET)
    with pytest.raises(jla.TargetError, match="MappedTarget"):
        jla.check_target(on_disk)


CHANGED = {name: getattr(TARGET, name) for name in ("indptr", "indices", "data")}


def changed(name, at, value):
    array = CHANGED[name].copy()
    array[at] = value
    return {name: array}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (changed("data", 700, -1.0), "row 182: an entry is not positive"),
        (changed("data", 700, np.nan), "row 182: an entry is not positive"),
        (changed("data", 700, 0.0), "row 182: an entry is not positive"),
        (changed("data", 700, 0.9), "row 182: does not sum to 1"),
        (changed("indices", 700, 200), "row 182: its columns"),
        (changed("indices", 700, -1), "row 182: its columns"),
        (changed("indices", 700, CHANGED["indices"][699]), "row 182: its columns"),
        (changed("indptr", 150, CHANGED["indptr"][149]), "row 149: has no nonzero entry"),
        (changed("indptr", 150, CHANGED["indptr"][151] + 1), "row 150: has no nonzero entry"),
        (changed("indptr", -1, 5), "does not fit"),
        (changed("indptr", 0, 1), "does not fit"),
        ({"data": TARGET.data[:-1]}, "does not fit"),
        ({"indptr": np.zeros(1, dtype=int), "indices": np.zeros(0, int)}, "is empty"),
    ],
)
@pytest.mark.parametrize("entries", [mapped.BLOCK_ENTRIES, 64])
def test_a_bad_row_is_named(changes, message, entries, tmp_path, monkeypatch):
    monkeypatch.setattr(mapped, "BLOCK_ENTRIES", entries)
    with pytest.raises(jla.TargetError, match=message):
        MappedTarget(written(tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indices": TARGET.indices + 0.5}, "must be integers"),
        ({"data": TARGET.data * 1j}, "not real numbers"),
        ({"data": TARGET.data[:, None]}, "one axis"),
        ({"data": np.array([{}], dtype=object)}, r"data\.npy: not a readable"),
    ],
)
def test_a_bad_file_is_named(changes, message, tmp_path):
    with pytest.raises(jla.FileError, match=message):
        MappedTarget(written(tmp_path, **changes))


def test_files_that_are_missing_truncated_or_cannot_be_written(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"indptr\.npy: no such file"):
        MappedTarget(tmp_path / "none")
    path = written(tmp_path / "target")
    whole = (path / "data.npy").read_bytes()
    for size in (0, 5, 100, len(whole) - 1):
        (path / "data.npy").write_bytes(whole[:size])
        with pytest.raises(jla.FileError, match=r"data\.npy: not a readable \.npy file"):
            MappedTarget(path)
    with pytest.raises(jla.FileError, match="2 rows of 200 columns are not square"):
        write_mapped(tmp_path / "part", TARGET[:2])
    (tmp_path / "file").write_text("")
    with pytest.raises(jla.FileError, match="cannot be written"):
        write_mapped(tmp_path / "file", TARGET)
