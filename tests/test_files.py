"""Targets from files and constructions to files: round trips, and what is refused."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import scipy.io
from scipy import sparse

import jl_attention as jla
from jl_attention.attention import self_attention_logits
from jl_attention.errors import FileError
from jl_attention.interop import atomic, files

TARGET = jla.targets.regular(12, 3, max_ratio=5.0, rng=0)
BUILT = jla.construct(TARGET, leak=0.1, rng=1)


def same(first, second):
    return (first != second).nnz == 0


# --- Targets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csr_matrix])
def test_every_format_of_scipy_is_read(form, compressed, kind, tmp_path):
    sparse.save_npz(tmp_path / "A.npz", kind(TARGET).asformat(form), compressed)
    assert same(files.read_target(tmp_path / "A.npz"), TARGET)


def test_matrix_market_is_read(tmp_path):
    scipy.io.mmwrite(tmp_path / "A.mtx", TARGET, precision=17)
    assert same(files.read_target(tmp_path / "A.mtx"), TARGET)
    scipy.io.mmwrite(tmp_path / "dense.mtx", TARGET.toarray(), precision=17)
    assert same(files.read_target(tmp_path / "dense.mtx"), TARGET)
    (tmp_path / "symmetric.mtx").write_text(
        "%%MatrixMarket matrix coordinate pattern symmetric\n% a swap\n2 2 1\n2 1\n"
    )
    assert files.read_target(tmp_path / "symmetric.mtx").toarray().tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, ">f8"])
def test_dense_npy_is_read(order, dtype, tmp_path):
    dense = jla.targets.banded(8, 1).toarray().astype(dtype, order=order)
    np.save(tmp_path / "A.npy", dense)
    assert same(files.read_target(tmp_path / "A.npy"), jla.check_target(dense))


def test_symmetric_and_pattern_files_match_scipy(tmp_path):
    symmetric = sparse.coo_array(jla.targets.from_graph(np.ones((5, 5))))
    for name, matrix, options in [
        ("coordinate", symmetric, {"symmetry": "symmetric"}),
        ("array", symmetric.toarray(), {"symmetry": "symmetric"}),
        ("integer", sparse.coo_array(jla.targets.permutation(5, rng=0)), {"field": "integer"}),
        ("pattern", sparse.coo_array(jla.targets.permutation(5, rng=0)), {"field": "pattern"}),
    ]:
        path = tmp_path / f"{name}.mtx"
        scipy.io.mmwrite(path, matrix, precision=17, **options)
        assert same(files.read_target(path), jla.check_target(scipy.io.mmread(path)))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "first line"),
        ("%%MatrixMarket vector coordinate real general\n1 1 1\n1 1 1\n", "first line"),
        ("%%MatrixMarket matrix coordinate complex general\n1 1 1\n1 1 1 0\n", "'complex'"),
        ("%%MatrixMarket matrix array pattern general\n1 1\n1\n", "'pattern'"),
        ("%%MatrixMarket matrix array real skew-symmetric\n1 1\n", "'skew-symmetric'"),
        ("%%MatrixMarket matrix coordinate real general\n", "no line of sizes"),
        ("%%MatrixMarket matrix coordinate real general\n1 1\n1 1 1\n", "line of sizes"),
        ("%%MatrixMarket matrix coordinate real general\n-1 -1 1\n1 1 1\n", "line of sizes"),
        ("%%MatrixMarket matrix coordinate real general\n1 2 1\n1 1 1\n", "square"),
        ("%%MatrixMarket matrix coordinate real general\n1 1 2\n1 1 1\n", "truncated"),
        ("%%MatrixMarket matrix coordinate real general\n1 1 1\n1 1 1\n1 1 0\n", "too many lines"),
        ("%%MatrixMarket matrix coordinate real general\n1 1 1\n1 1\n", "not 3 numbers"),
        ("%%MatrixMarket matrix coordinate real general\n1 1 1\n1 1 0_1\n", "not 3 numbers"),
        (
            f"%%MatrixMarket matrix coordinate real general\n1 1 1\n1 1 {'1' * 999}\n",
            "not finite",
        ),
        ("%%MatrixMarket matrix coordinate real general\n1 1 1\n0 1 1\n", "outside"),
        ("%%MatrixMarket matrix coordinate real general\n1 1 1\n1.0 1 1\n", "line 3: '1.0 1 1'"),
        ("%%MatrixMarket matrix coordinate real general\n1 1 1\n1 1 one\n", "line 3: '1 1 one'"),
        ("%%MatrixMarket matrix coordinate real general\n1 1 1\n1 1 nan\n", "not finite"),
        ("%%MatrixMarket matrix coordinate real symmetric\n2 2 2\n1 2 1\n2 1 1\n", "both sides"),
    ],
)
def test_what_is_no_matrix_market_target_is_refused(text, match, tmp_path):
    (tmp_path / "A.mtx").write_text(text)
    refused(tmp_path / "A.mtx", match, jla.ParameterError)


def test_a_mask_is_read_when_its_rows_may_be_normalised(tmp_path):
    mask = (TARGET > 0).astype(np.int8)
    sparse.save_npz(tmp_path / "mask.npz", mask)
    with pytest.raises(jla.TargetError, match=r"mask\.npz: row 0: sums to 3"):
        files.read_target(tmp_path / "mask.npz")
    read = files.read_target(tmp_path / "mask.npz", normalize=True)
    assert np.allclose(read.data, 1 / 3)


def refused(path, match, error=FileError, **options):
    with pytest.raises(error, match=match) as caught:
        files.read_target(path, **options)
    assert str(path) in str(caught.value)


def test_files_that_are_not_there_or_not_files(tmp_path):
    refused(tmp_path / "none.npz", "no such file")
    refused(tmp_path / "A.txt", "unknown suffix '.txt'")
    (tmp_path / "folder.npy").mkdir()
    refused(tmp_path / "folder.npy", "is not a file")


@pytest.mark.parametrize("suffix", [".npz", ".mtx", ".npy"])
def test_every_truncation_is_refused(suffix, tmp_path):
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".npz":
        sparse.save_npz(whole, TARGET)
    elif suffix == ".mtx":
        scipy.io.mmwrite(whole, TARGET)
    else:
        np.save(whole, TARGET.toarray())
    content = whole.read_bytes()
    path = tmp_path / f"part{suffix}"
    # The last entry of a text file may lose digits and still be a number: rows no longer sum to 1.
    for end in range(0, len(content) - 1, 7):
        path.write_bytes(content[:end])
        refused(path, ".", jla.ParameterError)


class Hostile:
    """Unpickling this would raise, loudly."""

    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def test_pickles_are_never_loaded(tmp_path):
    np.save(tmp_path / "A.npy", np.array([[Hostile()]], dtype=object), allow_pickle=True)
    refused(tmp_path / "A.npy", "pickled Python objects")
    np.savez(tmp_path / "A.npz", data=np.array([Hostile()]), format=b"csr", shape=(1, 1))
    refused(tmp_path / "A.npz", "pickled Python objects")
    np.savez(tmp_path / "A.npz", settings=np.array([Hostile()]))
    with pytest.raises(FileError, match="pickled Python objects"):
        jla.Construction.load(tmp_path / "A.npz")
    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Hostile()))
    refused(tmp_path / "raw.npy", "not a readable")


def npy_header(shape, dtype="<f8"):
    buffer = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def test_announced_sizes_are_not_believed(tmp_path):
    (tmp_path / "A.npy").write_bytes(npy_header((10**7, 10**7)))
    refused(tmp_path / "A.npy", "truncated")
    (tmp_path / "A.npy").write_bytes(npy_header((-1, -1)))
    refused(tmp_path / "A.npy", "not expected")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", npy_header((10**7,)) + bytes(8 * 10**7))
    assert (tmp_path / "bomb.npz").stat().st_size < 10**5
    refused(tmp_path / "bomb.npz", "unpacks to more than max_bytes=10000000", max_bytes=10**7)
    np.save(tmp_path / "B.npy", TARGET.toarray())
    refused(tmp_path / "B.npy", "more than max_bytes=100 bytes", max_bytes=100)
    huge = sparse.coo_array(([1.0], ([0], [0])), shape=(10**9, 10**9))
    sparse.save_npz(tmp_path / "huge.npz", huge)
    refused(tmp_path / "huge.npz", "some row is empty", jla.TargetError)
    head = "%%MatrixMarket matrix coordinate real general\n"
    for size in ("1000000000 1000000000 1\n1 1 1\n", "9 9 1000000000000\n1 1 1\n"):
        (tmp_path / "A.mtx").write_text(head + size)
        refused(tmp_path / "A.mtx", "truncated|some row is empty", jla.ParameterError)


def test_broken_sparse_arrays_are_refused(tmp_path):
    good = {"data": np.ones(2), "indices": np.arange(2), "indptr": np.arange(3)}
    good |= {"format": b"csr", "shape": (2, 2)}
    path = tmp_path / "A.npz"
    np.savez(path, **good)
    assert files.read_target(path).nnz == 2
    for change, match in [
        ({"indices": np.array([0, 2])}, "outside the matrix"),
        ({"indices": np.array([0, -1])}, "outside the matrix"),
        ({"indices": np.array([0.0, 1.0])}, "are not indices"),
        ({"indptr": np.array([0, 2, 1])}, "index arrays"),
        ({"indptr": np.array([0, 2, 0])}, "index arrays"),
        ({"indptr": np.array([0, 1])}, "not a readable"),
        ({"indptr": np.array([0, 1, 9])}, "outside the matrix"),
        ({"format": b"xyz"}, "unknown sparse format 'xyz'"),
        ({"shape": (2, 3)}, "square"),
        ({"shape": (2, 2, 2)}, "square"),
        ({"data": np.array(["a", "b"])}, "dtype"),
        ({"data": np.ones((2, 1))}, "is not for csr"),
    ]:
        np.savez(path, **(good | change))
        refused(path, match, jla.ParameterError)
    np.savez(path, A=np.ones((2, 3)))
    refused(path, "no square matrix")


# --- Constructions -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_saved_construction_comes_back(suffix, dtype, tmp_path):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    built = jla.construct(TARGET, leak=0.1, rng=1, dtype=dtype)
    path = tmp_path / f"built{suffix}"
    built.save(path)
    again = jla.Construction.load(path)
    assert again.queries.dtype == dtype
    assert np.array_equal(again.X, built.X)
    assert np.array_equal(again.logits(), built.logits())
    for name in ("method", "ratio_error", "leak", "failure_prob", "logit_scale", "dim"):
        assert getattr(again, name) == getattr(built, name)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files_hold_queries_keys_and_settings_and_the_rest_on_demand(suffix, tmp_path):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    few, all_of_it = tmp_path / f"few{suffix}", tmp_path / f"full{suffix}"
    BUILT.save(few)
    BUILT.save(all_of_it, full=True)
    names = {path: names_in(path) for path in (few, all_of_it)}
    assert names[few] == {"queries", "keys"}
    assert names[all_of_it] == {"queries", "keys", "X", "W_Q", "W_K", "Q", "K"}
    assert jla.Construction.load(few) == jla.Construction.load(all_of_it) == BUILT


def names_in(path):
    """Return the names of the arrays in a file, by another reader."""
    if path.suffix == ".safetensors":
        content = path.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return set(header) - {"__metadata__"}
    with np.load(path, allow_pickle=False) as stored:
        return set(stored) - {"settings"}


def test_the_arrays_are_what_a_kernel_takes(tmp_path):
    BUILT.save(tmp_path / "built.npz", full=True)
    with np.load(tmp_path / "built.npz", allow_pickle=False) as stored:
        queries, keys, X, W_Q, W_K, Q, K = (
            stored[name] for name in ("queries", "keys", "X", "W_Q", "W_K", "Q", "K")
        )
        settings = json.loads(stored["settings"].item())
    assert np.allclose(Q, X @ W_Q, rtol=1e-14)
    assert np.allclose(K, X @ W_K, rtol=1e-14)
    assert np.array_equal(queries @ keys.T, BUILT.logits())
    assert np.allclose(Q @ K.T / np.sqrt(BUILT.dim), BUILT.logits(), atol=1e-12)
    assert np.allclose(self_attention_logits(X, W_Q, W_K), BUILT.logits(), atol=1e-12)
    assert settings["format"] == "jl-attention 2"
    assert "softmax(Q K^T / sqrt(m))" in settings["convention"]


def test_a_file_without_the_fixed_parameters_is_small(tmp_path):
    # W_Q and W_K would have 4 m^2 entries, 63 times those of the queries and keys here.
    built = jla.Construction(np.ones((2, 63)), np.ones((2, 63)), "interpolate", 0.0, 0.1, 0.1, 7.0)
    built.save(tmp_path / "built.npz")
    assert (tmp_path / "built.npz").stat().st_size < 8 * 4 * 63 + 2000


def test_the_total_variation_asked_for_is_kept(tmp_path):
    built = jla.construct(TARGET, total_variation=0.05, rng=1)
    built.save(tmp_path / "built.npz")
    again = jla.Construction.load(tmp_path / "built.npz")
    assert again.total_variation == 0.05
    assert again == built


def test_a_file_of_format_1_still_loads(tmp_path):
    settings = {name: getattr(BUILT, name) for name in SETTINGS}
    text = json.dumps({"format": "jl-attention 1", **settings})
    stored = {name: getattr(BUILT, name) for name in ("X", "W_Q", "W_K", "Q", "K")}
    path = tmp_path / "old.npz"
    np.savez(path, settings=np.array(text), **stored)
    assert jla.Construction.load(path) == BUILT
    for change, match in [
        ({"X": BUILT.X[:, 1:]}, "X of shape"),
        ({"Q": BUILT.K}, "Q does not belong"),
        ({"W_Q": BUILT.W_K}, "W_Q does not belong"),
    ]:
        np.savez(path, settings=np.array(text), **(stored | change))
        with pytest.raises(FileError, match=match):
            jla.Construction.load(path)
    del stored["K"]
    np.savez(path, settings=np.array(text), **stored)
    with pytest.raises(FileError, match=r"\['K'\] missing"):
        jla.Construction.load(path)


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "built.npz"
    path.write_bytes(b"precious")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full_disk)
    with pytest.raises(FileError, match="No space left on device"):
        BUILT.save(path)
    assert path.read_bytes() == b"precious"
    assert [entry.name for entry in tmp_path.iterdir()] == ["built.npz"]


def test_places_that_cannot_be_written(tmp_path):
    for name, match in [("none/built.npz", "cannot be written"), ("built.pt", "unknown suffix")]:
        with pytest.raises(FileError, match=match):
            BUILT.save(tmp_path / name)


SETTINGS = ("method", "ratio_error", "leak", "failure_prob", "logit_scale")


def tampered(**changes):
    """Return what a full file holds, with some of it changed; what is None is left out."""
    settings = {"format": "jl-attention 2", "method": "interpolate", "ratio_error": 0.0}
    settings |= {"leak": 0.1, "failure_prob": 0.01, "logit_scale": 7.0}
    settings |= changes.pop("settings", {})
    stored = {"queries": BUILT.queries, "keys": BUILT.keys, **files.arrays(BUILT)}
    stored |= {"settings": np.array(json.dumps(settings))} | changes
    return {name: value for name, value in stored.items() if value is not None}


def nudged(array, by):
    """Return an array with one entry in a middle row changed by a relative amount."""
    array = array.copy()
    array[5, 1] = array[5, 1] * (1 + by) if array[5, 1] else by
    return array


def spoilt(array, row, value):
    return np.where(np.arange(len(array))[:, None] == row, value, array)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"keys": None}, r"\['keys'\] missing"),
        ({"settings": {"format": "other"}}, "not a construction in the format"),
        ({"settings": {"leak": "0.1"}}, "leak='0.1'"),
        ({"settings": {"leak": float("nan")}}, "leak=nan"),
        ({"settings": {"more": 1}}, "settings"),
        ({"settings": {"total_variation": "little"}}, "total_variation='little'"),
        ({"queries": BUILT.queries[:, 1:]}, r"keys of shape \(12, \d+\)"),
        ({"queries": BUILT.queries[:0]}, "queries of shape"),
        ({"queries": BUILT.queries.astype(np.float16)}, "dtype float16"),
        ({"keys": BUILT.keys.astype(np.float32)}, "keys of shape .* float32"),
        ({"queries": spoilt(BUILT.queries, 3, np.nan)}, "queries: row 3: is not finite"),
        ({"keys": spoilt(BUILT.keys, 7, np.inf)}, "keys: row 7: is not finite"),
        ({"Q": BUILT.Q[1:]}, "Q of shape"),
        ({"Q": BUILT.K}, "Q does not belong"),
        ({"W_Q": BUILT.W_K}, "W_Q does not belong"),
        ({"W_K": nudged(BUILT.W_K, 1e-12)}, "W_K does not belong"),
        ({"X": nudged(BUILT.X, 1e-12)}, "X does not belong"),
        ({"Q": nudged(BUILT.Q, 1e-12)}, "Q does not belong"),
        ({"K": nudged(BUILT.K, 1e-12)}, "K does not belong"),
    ],
)
def test_what_is_no_construction_is_refused(changes, match, tmp_path):
    path = tmp_path / "built.npz"
    np.savez(path, **tampered())
    assert jla.Construction.load(path).dim == BUILT.dim
    np.savez(path, **tampered(**changes))
    with pytest.raises(FileError, match=match):
        jla.Construction.load(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_truncated_constructions_are_refused(suffix, tmp_path):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path / f"built{suffix}"
    BUILT.save(path)
    content = path.read_bytes()
    for end in range(0, len(content) - 1, len(content) // 40):
        path.write_bytes(content[:end])
        with pytest.raises(FileError):
            jla.Construction.load(path)


def test_a_target_is_no_construction_and_a_construction_no_target(tmp_path):
    sparse.save_npz(tmp_path / "A.npz", TARGET)
    with pytest.raises(FileError, match="not a construction"):
        jla.Construction.load(tmp_path / "A.npz")
    square = jla.construct(TARGET, dim=12, rng=0)
    square.save(tmp_path / "built.npz", full=True)
    refused(tmp_path / "built.npz", "is a construction, not a target")


def test_tensors_have_the_arrays():
    torch = pytest.importorskip("torch")
    tensors = BUILT.to_torch(dtype=torch.float32)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        name: array.shape for name, array in files.arrays(BUILT).items()
    }
    assert np.array_equal(BUILT.to_torch()["X"].numpy(), BUILT.X)
    assert tensors["Q"].dtype == torch.float32
