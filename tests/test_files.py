"""Targets from files and constructions to files: round trips, and what is refused."""

import bz2
import gzip
import io
import json
import pickle
import zipfile
from pathlib import Path

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
        theirs = scipy.io.mmread(path, spmatrix=False)
        assert same(files.read_target(path), jla.check_target(theirs))


def test_compressed_matrix_market_is_read(tmp_path):
    scipy.io.mmwrite(tmp_path / "A.mtx", TARGET, precision=17)
    content = (tmp_path / "A.mtx").read_bytes()
    for suffix, compress in ((".gz", gzip.compress), (".bz2", bz2.compress)):
        path = tmp_path / f"A.mtx{suffix}"
        path.write_bytes(compress(content))
        assert same(files.read_target(path), TARGET)
        path.write_bytes(compress(content)[:-9])
        refused(path, "not a readable .mtx")
        path.write_bytes(compress(bytes(10**7)))
        assert path.stat().st_size < 10**5
        refused(path, "unpacks to more than max_bytes=1000000", max_bytes=10**6)


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_csr_parts_under_a_prefix_are_read(tmp_path):
    parts = {"data": TARGET.data, "indices": TARGET.indices, "indptr": TARGET.indptr}
    parts |= {"shape": np.array(TARGET.shape)}
    features = {"data": np.ones(1), "indices": [0], "indptr": [0, 1, 1, 1], "shape": [3, 9]}
    adj = {f"adj_{name}": part for name, part in parts.items()}
    attr = {f"attr_{name}": part for name, part in features.items()}
    names = {"labels": np.arange(12), "class_names": np.array(["a", "b"])}
    path = tmp_path / "A.npz"
    assert same(files.read_target(saved(path, **adj)), TARGET)
    assert same(files.read_target(saved(path, **adj, **attr, **names)), TARGET)
    assert same(files.read_target(saved(path, **parts)), TARGET)
    other = {f"other_{name}": part for name, part in parts.items()}
    saved(path, **adj, **other)
    refused(path, r"2 of them, array= \(--array\) chooses one: \['adj', 'other'\]")
    assert same(files.read_target(path, array="other"), TARGET)
    refused(path, "array='another': is no square matrix here", array="another")
    # Objects beside the matrix are neither read nor in the way.
    pickled = np.array([Hostile()], dtype=object)
    assert same(files.read_target(saved(path, **adj, names=pickled)), TARGET)


def test_what_pydata_writes_is_read(tmp_path):
    coo, csc = TARGET.tocoo(), TARGET.tocsc()
    fill = {"fill_value": np.float64(0), "format": "coo"}
    plain = {"data": coo.data, "coords": np.array(coo.coords), "shape": np.array(coo.shape)}
    path = tmp_path / "A.npz"
    assert same(files.read_target(saved(path, **plain, **fill)), TARGET)
    for matrix, axis in ((TARGET, 0), (csc, 1)):
        parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
        parts |= {"shape": matrix.shape, "compressed_axes": np.array([axis])}
        assert same(files.read_target(saved(path, **parts, **fill)), TARGET)
    refused(saved(path, **plain, fill_value=1.0), "fill_value is 1.0, not 0")
    refused(saved(path, **plain | {"coords": coo.coords[0]}), "coords of shape")
    refused(saved(path, **parts | {"compressed_axes": [2]}), "compressed_axes")
    refused(saved(path, **plain | {"coords": np.array(coo.coords) + 1}), ".", jla.ParameterError)


def test_what_pydata_really_writes_is_read(tmp_path):
    pydata = pytest.importorskip("sparse")
    for kind in (pydata.COO, pydata.GCXS):
        pydata.save_npz(tmp_path / "A.npz", kind.from_numpy(TARGET.toarray()))
        assert same(files.read_target(tmp_path / "A.npz"), TARGET)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("dtype", [">f8", "<f4", ">f2", "<f2", "|i1", ">u2", "|b1"])
def test_sparse_matrices_of_every_dtype(form, dtype, tmp_path):
    matrix = sparse.eye_array(12, format=form)
    sparse.save_npz(tmp_path / "A.npz", matrix)
    with np.load(tmp_path / "A.npz") as stored:
        arrays = dict(stored)
    arrays["data"] = arrays["data"].astype(dtype)
    assert same(files.read_target(saved(tmp_path / "A.npz", **arrays)), sparse.eye_array(12))


def test_parallel_edges_of_a_byte_do_not_wrap_round(tmp_path):
    rows, columns = [0] * 257 + [1], [0] + [1] * 257
    arrays = {"row": rows, "col": columns, "data": np.ones(258, np.uint8), "format": b"coo"}
    path = saved(tmp_path / "A.npz", **arrays, shape=(2, 2))
    weights = files.read_target(path, normalize=True).toarray()
    assert np.allclose(weights, [[1 / 257, 256 / 257], [0, 1]], rtol=1e-14)


def test_dense_arrays_and_heads_inside_files(tmp_path):
    dense = TARGET.toarray()
    path = saved(tmp_path / "A.npz", attention=dense, tokens=np.array(["a"] * 12))
    assert same(files.read_target(path), TARGET)
    heads = np.stack([np.eye(12), dense])[None]
    saved(path, first=heads, second=heads[:, ::-1], bias=np.ones(12))
    refused(path, "2 of them")
    assert same(files.read_target(path, array="first", head=1), TARGET)
    assert same(files.read_target(path, array="second", head=(0, 0)), TARGET)
    np.save(tmp_path / "A.npy", heads)
    assert same(files.read_target(tmp_path / "A.npy", head=1), TARGET)
    refused(tmp_path / "A.npy", r"A\.npy: has shape .*, a stack of 2 matrices", jla.TargetError)
    refused(saved(path, bias=np.ones(12)), r"no square matrix; it holds \['bias'\]")


def safetensors(**tensors):
    """Return the content of a file of such tensors, (dtype, array of the bytes) by name."""
    header, data = {}, b""
    for name, (kind, shape, content) in tensors.items():
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": offsets}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def test_safetensors_are_read(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "A.safetensors"
    matrix = np.array([[0.5, 0.5], [0.25, 0.75]])
    for kind, dtype in (("F64", "<f8"), ("F32", "<f4"), ("F16", "<f2")):
        path.write_bytes(safetensors(M=(kind, [1, 2, 2], matrix.astype(dtype).tobytes())))
        assert files.read_target(path).toarray().tolist() == matrix.tolist()
    # bfloat16 is the upper half of float32.
    upper = (matrix.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    path.write_bytes(safetensors(M=("BF16", [2, 2], upper), other=("F32", [1], bytes(4))))
    assert files.read_target(path).toarray().tolist() == matrix.tolist()
    path.write_bytes(safetensors(M=("BOOL", [2, 2], b"\1\0\1\1"), N=("U8", [2, 2], b"\1\0\0\1")))
    refused(path, r"2 of them.*\['M', 'N'\]")
    kept = files.read_target(path, array="M", mask="keep")
    assert kept.toarray().tolist() == [[1, 0], [0.5, 0.5]]
    path.write_bytes(safetensors(M=("F8_E4M3", [2, 2], b"8008")))
    refused(path, "M: numbers of format F8_E4M3 are not read")
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, "not a readable .safetensors file")


OPTIONS = np.array([[4.0, 2, 1, 0], [0, 4, 2, 1], [0, 0, 4, 2], [0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("options", "row", "expected"),
    [
        ({"normalize": True, "padding": "self"}, 0, [4 / 7, 2 / 7, 1 / 7, 0]),
        ({"normalize": True, "padding": "uniform"}, 3, [0.25] * 4),
        ({"top_k": 2, "padding": "self"}, 0, [2 / 3, 1 / 3, 0, 0]),
        ({"threshold": 4, "padding": "self"}, 1, [0, 1, 0, 0]),
        ({"self_loops": True}, 3, [0, 0, 0, 1]),
        ({"self_loops": True, "top_k": 1}, 2, [0, 0, 1, 0]),
    ],
)
def test_options_of_a_reader(options, row, expected, tmp_path):
    np.save(tmp_path / "A.npy", OPTIONS)
    target = files.read_target(tmp_path / "A.npy", **options).toarray()
    assert np.allclose(target[row], expected, rtol=1e-14)
    assert np.allclose(target.sum(axis=1), 1, rtol=1e-14)


def test_padding_alone_does_not_rescale(tmp_path):
    np.save(tmp_path / "A.npy", [[1, 0, 0], [0.5, 0.5, 0], [0, 0, 0]])
    read = files.read_target(tmp_path / "A.npy", padding="uniform").toarray()
    assert np.allclose(read[2], 1 / 3, rtol=1e-14)
    assert files.read_target(tmp_path / "A.npy", padding="drop").shape == (2, 2)
    np.save(tmp_path / "A.npy", [[1, 0, 0], [0.5, 0.6, 0], [0, 0, 0]])
    refused(tmp_path / "A.npy", "row 1: sums to 1.1", jla.TargetError, padding="self")


def test_options_that_do_not_go_together(tmp_path):
    np.save(tmp_path / "A.npy", np.eye(3))
    for options in ({"mask": "keep", "top_k": 1}, {"mask": "keep", "threshold": 0.5}):
        with pytest.raises(jla.ParameterError, match="mask: its entries are alike"):
            files.read_target(tmp_path / "A.npy", **options)
    for options, match in [
        ({"mask": "kept"}, "convention='kept'"),
        ({"padding": "zero"}, "padding='zero'"),
        ({"top_k": 4}, "top_k=4"),
        ({"head": 0}, "is one matrix"),
        ({"max_bytes": 0}, "max_bytes=0"),
    ]:
        with pytest.raises(jla.ParameterError, match=match):
            files.read_target(tmp_path / "A.npy", **options)


@pytest.mark.parametrize("suffix", [".npz", ".mtx", ".npy"])
def test_a_name_is_refused_where_a_file_holds_one_matrix(suffix, tmp_path):
    files.write_target(tmp_path / f"A{suffix}", TARGET)
    refused(tmp_path / f"A{suffix}", "array='A': the file holds one matrix", array="A")


@pytest.mark.parametrize("suffix", [".npz", ".mtx", ".npy"])
def test_targets_are_written_and_read_again(suffix, tmp_path):
    files.write_target(tmp_path / f"A{suffix}", TARGET)
    assert same(files.read_target(tmp_path / f"A{suffix}"), TARGET)
    with pytest.raises(jla.TargetError, match="row 1: sums to 2"):
        files.write_target(tmp_path / f"B{suffix}", np.diag([1, 2, 1]))
    assert not (tmp_path / f"B{suffix}").exists()
    with pytest.raises(FileError, match="cannot be written: No such file"):
        files.write_target(tmp_path / f"none/A{suffix}", TARGET)


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
    with pytest.raises(FileNotFoundError):
        files.read_target(tmp_path / "none.mtx.gz")
    with pytest.raises(FileNotFoundError):
        jla.Construction.load(tmp_path / "none.npz")
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


def test_a_file_is_not_opened_if_it_is_too_large(tmp_path, monkeypatch):
    np.save(tmp_path / "A.npy", TARGET.toarray())
    BUILT.save(tmp_path / "built.npz")

    def opened(*args, **options):
        pytest.fail("it was opened")

    monkeypatch.setattr(Path, "open", opened)
    refused(tmp_path / "A.npy", "more than max_bytes=1000 bytes", max_bytes=1000)
    with pytest.raises(FileError, match="more than max_bytes=1000"):
        jla.Construction.load(tmp_path / "built.npz", max_bytes=1000)


def test_members_of_an_archive_are_counted_together(tmp_path):
    path = tmp_path / "A.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "abc":
            archive.writestr(f"{name}.npy", npy_header((1000,)) + bytes(8000))
    assert path.stat().st_size < 1000
    refused(path, "unpacks to more than max_bytes=20000 bytes", max_bytes=20_000)
    refused(path, "no square matrix", max_bytes=30_000)


def test_a_header_larger_than_the_file(tmp_path):
    header = npy_header((2, 2))
    longer = header[:8] + (60_000).to_bytes(2, "little") + header[10:] + bytes(32)
    (tmp_path / "A.npy").write_bytes(longer)
    refused(tmp_path / "A.npy", "not a readable .npy file")
    (tmp_path / "A.npy").write_bytes(b"\x93NUMPY\x03\x00" + header[8:] + bytes(32))
    refused(tmp_path / "A.npy", "unknown version")


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


def test_what_was_there_stays_until_everything_is_written(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"precious")

    def write(file):
        file.write(b"half of it")
        file.flush()
        assert path.read_bytes() == b"precious"
        file.write(b", and the rest")

    atomic.write_atomically(path, write)
    assert path.read_bytes() == b"half of it, and the rest"

    def interrupted(file):
        file.write(b"half of it")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic.write_atomically(path, interrupted)
    assert path.read_bytes() == b"half of it, and the rest"
    atomic.write_atomically(path, b"bytes")
    assert path.read_bytes() == b"bytes"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


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
    """Return an array with the largest entry of a middle row changed by a relative amount."""
    array = array.copy()
    array[5, np.abs(array[5]).argmax()] *= 1 + by
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
        ({"W_Q": nudged(BUILT.W_Q, 1e-12)}, "W_Q does not belong"),
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
