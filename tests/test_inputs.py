"""Targets from what people have: masks, edges, graphs, tensors, frames; and what is refused."""

import decimal
import fractions

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import jl_attention as jla
from jl_attention import targets
from jl_attention.interop.arrays import real_array, real_csr

SMALL = np.array([[0.5, 0.5, 0, 0], [0.25, 0.75, 0, 0], [0, 0, 1, 0], [0, 0, 0.5, 0.5]])
"""A target whose entries are exact in every format of eight bits and more."""

FORMS = ("csr", "csc", "coo", "bsr", "dia", "dok", "lil")


def same(target, dense):
    assert isinstance(target, sparse.csr_array)
    assert target.dtype == np.float64
    assert target.has_canonical_format
    np.testing.assert_array_equal(target.toarray() > 0, np.asarray(dense) > 0)
    np.testing.assert_allclose(target.toarray(), dense, rtol=1e-15)


# --- NumPy and SciPy -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f8", ">f8", "f4", ">f4", "f2", ">f2", "g", "O"])
def test_every_real_dtype_is_read(dtype):
    same(jla.check_target(SMALL.astype(dtype)), SMALL)


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", ">i2", "<u4", "i8", "u8"])
def test_whole_numbers_become_float64_before_they_are_added(dtype):
    same(targets.normalize_rows((SMALL > 0).astype(dtype)), (SMALL > 0) / [[2], [2], [1], [2]])


@pytest.mark.parametrize("dtype", ["f8", ">f8", "f4", ">f4", "f2", ">f2", "g", "i1", ">u2", "?"])
@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("kind", [sparse.coo_array, sparse.coo_matrix])
def test_every_format_of_scipy_with_every_dtype(form, dtype, kind):
    values = SMALL if np.dtype(dtype).kind == "f" else np.eye(4)
    matrix = kind(values).asformat(form)
    matrix.data = matrix.data.astype(dtype)  # SciPy's own conversions refuse some of these
    same(jla.check_target(matrix), values)


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble, np.uint8, bool])
def test_formats_of_python_objects(dtype):
    by_row = sparse.lil_array((2, 2))
    by_row.rows[:] = [[0], [0, 1]]
    by_row.data[:] = [[dtype(1)], [dtype(1), dtype(1)]]
    same(targets.normalize_rows(by_row), [[1, 0], [0.5, 0.5]])
    by_key = sparse.dok_array((2, 2))
    by_key[0, 0], by_key[1, 0], by_key[1, 1] = dtype(1), dtype(1), dtype(1)
    same(targets.normalize_rows(by_key), [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize(("dtype", "count"), [("u1", 256), ("i1", 200), ("?", 3), ("f2", 4096)])
def test_parallel_entries_are_added_up_in_float64(dtype, count):
    # A byte wraps round at 256 and at 128, true and true is true, and 2048 + 1 = 2048 in float16.
    rows, columns = [0] * count + [0, 1], [1] * count + [0, 1]
    coo = sparse.coo_array((np.ones(count + 2), (rows, columns)), shape=(2, 2))
    indptr = np.array([0, count + 1, count + 2])
    csr = sparse.csr_array((np.ones(count + 2), np.array(columns), indptr), shape=(2, 2))
    expected = [[1 / (count + 1), count / (count + 1)], [0, 1]]
    for matrix in (coo, csr):
        matrix.data = matrix.data.astype(dtype)
        np.testing.assert_allclose(
            targets.normalize_rows(matrix).toarray(), expected, rtol=1e-15, atol=0
        )


@given(
    count=st.integers(1, 40),
    seed=st.integers(0, 2**32),
    form=st.sampled_from(["csr", "csc", "coo"]),
)
def test_duplicates_mean_the_same_in_every_format(count, seed, form):
    rng = np.random.default_rng(seed)
    at = rng.integers(3, size=(2, count))
    coo = sparse.coo_array((rng.integers(1, 9, count).astype(np.int8), at), shape=(3, 3))
    dense = np.eye(3)
    np.add.at(dense, tuple(at), coo.data)
    # Duplicates stay apart in all three: a csr or csc matrix is made of sorted triples.
    if form != "coo":
        order = np.argsort(at[0 if form == "csr" else 1], kind="stable")
        major, minor = at[:, order] if form == "csr" else at[::-1, order]
        indptr = np.concatenate([[0], np.cumsum(np.bincount(major, minlength=3))])
        kind = {"csr": sparse.csr_array, "csc": sparse.csc_array}[form]
        matrix = kind((coo.data[order], minor, indptr), shape=(3, 3))
    else:
        matrix = coo
    np.testing.assert_array_equal(real_csr(matrix, "A").toarray() + np.eye(3), dense)


def test_a_negative_duplicate_is_refused_in_every_format():
    for matrix in (
        sparse.coo_array(([1.0, 2, -1], ([0, 1, 1], [0, 1, 1])), shape=(2, 2)),
        sparse.csr_array(([1.0, 2, -1], [0, 1, 1], [0, 1, 3]), shape=(2, 2)),
        sparse.csc_array(([1.0, 2, -1], [0, 1, 1], [0, 1, 3]), shape=(2, 2)),
    ):
        with pytest.raises(jla.TargetError, match=r"row 1: entry -1\.0 in column 1 is negative"):
            jla.check_target(matrix)


def test_masked_entries_are_absent():
    values = [[0.5, 0.5, 0.7], [0.3, 0.7, 0.9], [0, 0, 1]]
    masked = np.ma.masked_array(values, mask=[[0, 0, 1], [0, 0, 1], [0, 0, 0]])
    expected = [[0.5, 0.5, 0], [0.3, 0.7, 0], [0, 0, 1]]
    same(jla.check_target(masked), expected)
    same(targets.normalize_rows(masked), expected)
    integers = np.ma.masked_equal(np.eye(2, dtype=int) * 7 + 1, 1)
    same(targets.normalize_rows(integers), np.eye(2))


def test_numbers_of_python():
    same(
        jla.check_target([[fractions.Fraction(1, 4), 0.75], [False, True]]), [[0.25, 0.75], [0, 1]]
    )
    for bad in (decimal.Decimal(1), "1", None, 1j):
        with pytest.raises(jla.TargetError, match=r"^target: entries of dtype .* real numbers"):
            jla.check_target([[1.0, 0.0], [bad, 1.0]])
    with pytest.raises(jla.TargetError, match="too large"):
        jla.check_target([[10**400]])


@pytest.mark.parametrize(
    "thing", [None, "words", b"bytes", {}, {"a": 1}, object(), iter([1]), len, 3, [[1, 2], [3]]]
)
def test_what_is_no_matrix_is_refused_by_every_reader(thing):
    readers = (
        jla.check_target,
        targets.normalize_rows,
        targets.from_graph,
        targets.from_mask,
        targets.from_attention,
        targets.from_edges,
        targets.pad_rows,
        targets.with_self_loops,
    )
    for read in readers:
        with pytest.raises(jla.TargetError):
            read(thing, "self") if read is targets.pad_rows else read(thing)


class Broken:
    """Something whose conversion fails in its own way."""

    def __array__(self, dtype=None, copy=None):
        raise ZeroDivisionError("inside\nof it")


def test_other_people_s_errors_become_ours():
    with pytest.raises(jla.TargetError, match="^target: .*Broken: inside$"):
        jla.check_target(Broken())
    with pytest.raises(jla.ParameterError, match="^logits: .*Broken: inside$"):
        jla.measure(Broken(), np.eye(2))


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "int4"])
def test_formats_of_ml_dtypes(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    same(jla.check_target(np.eye(3).astype(getattr(ml_dtypes, name))), np.eye(3))
    if name != "int4":
        same(jla.check_target(SMALL.astype(getattr(ml_dtypes, name))), SMALL)


def test_bytes_without_a_format_are_refused(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    np.save(tmp_path / "A.npy", SMALL.astype(ml_dtypes.bfloat16))
    with pytest.raises(jla.TargetError, match=r"dtype \|V2 .*forget which format bfloat16"):
        jla.files.read_target(tmp_path / "A.npy")


# --- PyTorch -------------------------------------------------------------------------------------


def torch_kinds(torch):
    floats = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]
    for dtype in floats:
        yield torch.tensor(SMALL).to(dtype)
    dense = torch.tensor(SMALL)
    yield dense.clone().requires_grad_()
    yield torch.nn.Parameter(dense)
    yield dense.T.contiguous().T
    yield torch.quantize_per_tensor(dense.float(), 0.25, 0, torch.qint8)
    for dtype in floats[:4]:
        yield dense.to(dtype).to_sparse()
        yield dense.to(dtype).to_sparse_csr()
        yield dense.to(dtype).to_sparse_csc()
        yield dense.to(dtype).to_sparse_bsr((2, 2))
        yield dense.to(dtype).to_sparse_bsc((2, 2))
    yield dense.to_sparse().requires_grad_()


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning")
def test_every_tensor_of_torch_is_read():
    torch = pytest.importorskip("torch")
    kinds = list(torch_kinds(torch))
    assert len(kinds) == 30
    for tensor in kinds:
        same(jla.check_target(tensor), SMALL)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_tensors_of_torch_that_hold_no_target():
    torch = pytest.importorskip("torch")
    for tensor, message in [
        (torch.empty(2, 2, device="meta"), "no data"),
        (torch.eye(2, dtype=torch.complex64), "complex64"),
        (torch.eye(2, dtype=torch.complex64).conj(), "complex64"),
        (torch.eye(2, dtype=torch.complex64).to_sparse(), "complex64"),
        (torch.ones(3), r"shape \(3,\)"),
        (torch.ones(2, 3), "square"),
        (torch.nested.nested_tensor([torch.eye(2)]), "NestedTensor"),
        (torch.eye(2).to_sparse(1), "sparse tensor"),
        (torch.full((2, 2), torch.nan), "row 0: entry nan"),
    ]:
        with pytest.raises(jla.TargetError, match=message):
            jla.check_target(tensor)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
def test_parallel_entries_of_a_sparse_tensor():
    torch = pytest.importorskip("torch")
    at = torch.tensor([[0] * 257 + [1], [1] * 256 + [0, 1]])
    tensor = torch.sparse_coo_tensor(at, torch.ones(258, dtype=torch.uint8), (2, 2))
    np.testing.assert_allclose(
        targets.normalize_rows(tensor).toarray(), [[1 / 257, 256 / 257], [0, 1]], rtol=1e-15
    )


def test_keys_and_logits_may_be_tensors():
    torch = pytest.importorskip("torch")
    keys = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    built = jla.construct(SMALL, keys=keys.requires_grad_())
    assert np.array_equal(built.keys, keys.detach().numpy())
    logits = torch.tensor(built.logits()).requires_grad_()
    assert jla.measure(logits, SMALL).leak == jla.measure(built.logits(), SMALL).leak
    with pytest.raises(jla.ParameterError, match="keys"):
        jla.construct(SMALL, keys=keys.to("meta"))
    with pytest.raises(jla.ParameterError, match="attention, not logits"):
        jla.measure(torch.softmax(logits, 1), SMALL)


def test_attention_of_a_model_of_torch():
    torch = pytest.importorskip("torch")
    heads = torch.stack([torch.eye(4, dtype=torch.float64), torch.tensor(SMALL)])[None]
    layers = (torch.zeros_like(heads).requires_grad_(), heads.bfloat16().requires_grad_())
    same(targets.from_attention(heads.half(), head=1), SMALL)
    same(targets.from_attention(layers, head=(1, 1)), SMALL)
    same(targets.from_attention(layers[1], 1, head=1), np.eye(4)[[0, 1, 2, 2]])
    with pytest.raises(jla.TargetError, match=r"a stack of 4 matrices; head= .* with 2 indices"):
        targets.from_attention(layers)


# --- pandas and PyData ---------------------------------------------------------------------------


def test_frames_of_pandas():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(SMALL)
    same(jla.check_target(frame), SMALL)
    same(jla.check_target(frame.astype("float32")), SMALL)
    same(jla.check_target(frame.astype("Float64")), SMALL)
    same(jla.check_target(frame.astype(object)), SMALL)
    same(jla.check_target(frame.astype(pd.SparseDtype(float, 0))), SMALL)
    same(jla.check_target(frame.astype(pd.SparseDtype(float, np.nan))), SMALL)
    same(targets.normalize_rows(frame > 0), (SMALL > 0) / [[2], [2], [1], [2]])
    for bad, message in [
        (frame.astype(str), "real numbers"),
        (frame.astype(complex), "dtype complex128"),
        (frame.where(frame > 0.3).astype("Float64"), "row 0: entry nan in column 2"),
        (pd.DataFrame({"when": pd.to_datetime(["2020", "2021"]), "w": [1, 1]}), "'when'"),
        (pd.Series([1.0, 2.0]), r"shape \(2,\)"),
        (pd.DataFrame(), "empty"),
        (pd.DataFrame({"a": [1, 0], "b": [0, "x"]}), r"'x' at \(1, 1\)"),
    ]:
        with pytest.raises(jla.TargetError, match=message):
            jla.check_target(bad)


def test_labels_of_a_frame_name_tokens():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame([[1, 3], [0, 5]], index=["a", "b"], columns=["b", "a"])
    expected = [[0.75, 0.25], [1, 0]]
    same(targets.normalize_rows(frame), expected)
    same(targets.normalize_rows(frame.astype(pd.SparseDtype(float, 0))), expected)
    # Labels that do not name the same tokens are not looked at.
    frame.columns = [0, 1]
    same(targets.normalize_rows(frame), [[0.25, 0.75], [0, 1]])


def test_sparse_arrays_of_pydata():
    pydata = pytest.importorskip("sparse")
    for kind in (pydata.COO, pydata.GCXS, pydata.DOK):
        same(jla.check_target(kind.from_numpy(SMALL)), SMALL)
    same(jla.check_target(pydata.COO.from_numpy(SMALL.astype(np.float16))), SMALL)
    stack = pydata.COO.from_numpy(np.stack([np.eye(4), SMALL]))
    same(targets.from_attention(stack, head=1), SMALL)
    for bad, message in [
        (pydata.COO.from_numpy(SMALL) + 1, "fill_value is 1.0"),
        (pydata.COO.from_numpy(SMALL * 1j), "complex128"),
        (pydata.COO.from_numpy(SMALL[0]), "shape"),
    ]:
        with pytest.raises(jla.TargetError, match=message):
            jla.check_target(bad)


# --- Graphs --------------------------------------------------------------------------------------


def test_weights_of_networkx_by_name():
    graph = nx.Graph([("a", "b", {"cost": 3}), ("b", "c", {"cost": np.float32(1)}), ("c", "c", {})])
    walk = targets.from_graph(graph, self_loops=False, weight="cost")
    same(walk, [[0, 1, 0], [0.75, 0, 0.25], [0, 0.5, 0.5]])
    same(targets.from_graph(graph, False), [[0, 1, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    same(targets.from_graph(graph, False, weight=None), targets.from_graph(graph, False).toarray())
    with pytest.raises(jla.TargetError, match="no edge has an attribute 'coast'; there: 'cost'"):
        targets.from_graph(nx.Graph([(0, 1, {"cost": 2})]), weight="coast")


def test_graphs_of_networkx_have_the_matrix_of_networkx():
    for graph in (
        nx.karate_club_graph(),
        nx.MultiDiGraph([(0, 1), (0, 1, {"weight": 2.0}), (1, 0), (2, 2), (2, 0)]),
        nx.MultiGraph([(0, 1), (0, 1), (1, 1), (2, 0)]),
        nx.DiGraph([(3, 1), (1, 2), (2, 3)]),
    ):
        expected = nx.to_scipy_sparse_array(graph, dtype=float)
        np.testing.assert_allclose(
            targets.from_graph(graph, self_loops=False).toarray(),
            targets.normalize_rows(expected).toarray(),
            rtol=1e-15,
        )


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ("heavy", "weight 'heavy' is not a real number"),
        ("2", "weight '2' is not a real number"),
        (1j, "weight 1j is not a real number"),
        ([1, 2], r"weight \[1, 2\] is not a real number"),
        (float("nan"), "weight nan is negative or not finite"),
        (float("inf"), "weight inf is negative or not finite"),
        (-1, r"weight -1\.0 is negative"),
    ],
)
def test_weights_that_are_none_name_the_edge(weight, message):
    graph = nx.path_graph(5)
    graph.add_edge(2, 3, weight=weight)
    with pytest.raises(jla.TargetError, match=r"^graph: edge \(2, 3\): " + message):
        targets.from_graph(graph)


def test_a_graph_is_not_a_matrix_of_numbers():
    graph = nx.path_graph(3)
    for read in (jla.check_target, jla.construct, targets.normalize_rows):
        with pytest.raises(jla.TargetError, match=r"a graph, Graph; targets\.from_graph"):
            read(graph)


def test_graphs_of_igraph():
    igraph = pytest.importorskip("igraph")
    graph = igraph.Graph([(0, 1), (1, 2), (1, 1)])
    same(targets.from_graph(graph, False), [[0, 1, 0], [1 / 3, 1 / 3, 1 / 3], [0, 1, 0]])
    graph.es["weight"] = [1, 3, 4]
    same(targets.from_graph(graph, False), [[0, 1, 0], [0.125, 0.5, 0.375], [0, 1, 0]])
    graph.es["cost"] = [1, "x", 1]
    with pytest.raises(jla.TargetError, match=r"edge \(1, 2\): weight 'x'"):
        targets.from_graph(graph, weight="cost")
    with pytest.raises(jla.TargetError, match="no edge has an attribute 'toll'"):
        targets.from_graph(graph, weight="toll")
    directed = igraph.Graph([(0, 1), (0, 1), (1, 1)], directed=True)
    same(targets.from_graph(directed), [[1 / 3, 2 / 3], [0, 1]])
    with pytest.raises(jla.TargetError, match="graph: is empty"):
        targets.from_graph(igraph.Graph())


def test_data_sets_of_scikit_network():
    data = pytest.importorskip("sknetwork.data")
    adjacency = data.karate_club()
    expected = targets.from_graph(adjacency.toarray().astype(float))
    same(targets.from_graph(data.karate_club(True)), expected.toarray())
    same(targets.from_graph(adjacency), expected.toarray())
    with pytest.raises(jla.TargetError, match="is bipartite"):
        targets.from_graph(data.movie_actor(True))
    with pytest.raises(jla.TargetError, match=r"a graph, Dataset; targets\.from_graph"):
        jla.check_target(data.karate_club(True))


class Bunch:
    """As scikit-network's data sets: a matrix under a name."""

    adjacency = sparse.csr_array(np.array([[0, 1], [1, 1]], dtype=bool))


def test_an_object_with_an_adjacency_matrix():
    same(targets.from_graph(Bunch(), self_loops=False), [[0, 1], [0.5, 0.5]])


def test_graphs_of_torch_geometric():
    geometric = pytest.importorskip("torch_geometric.data")
    torch = pytest.importorskip("torch")
    edges = torch.tensor([[0, 1, 2], [1, 2, 2]])
    graph = geometric.Data(edge_index=edges, num_nodes=4)
    # 0 sends to 1, 1 to 2: the receivers attend.
    same(
        targets.from_graph(graph),
        [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]],
    )
    graph.edge_weight = torch.tensor([1.0, 3, 1])
    graph.edge_attr = torch.tensor([[1.0], [1], [3]])
    same(targets.from_graph(graph)[[2]], [[0, 0.75, 0.25, 0]])
    same(targets.from_graph(graph, weight="edge_attr")[[2]], [[0, 0.25, 0.75, 0]])
    for bad, message in [
        (geometric.Data(), "no edge_index"),
        (geometric.HeteroData(), "HeteroData is not read"),
    ]:
        with pytest.raises(jla.TargetError, match=message):
            targets.from_graph(bad)


# --- Edges ---------------------------------------------------------------------------------------

EDGES = [[0, 1, 1], [1, 2, 2]]
"""0 sends to 1, and 1 to 2 twice."""


def test_rows_are_receivers():
    same(targets.from_edges(EDGES), [[1, 0, 0], [0.5, 0.5, 0], [0, 2 / 3, 1 / 3]])
    same(
        targets.from_edges(EDGES, receivers="first"), [[0.5, 0.5, 0], [0, 1 / 3, 2 / 3], [0, 0, 1]]
    )
    same(
        targets.from_edges(EDGES, 4, weight=[[1], [2], [5]], self_loops=False, padding="self"),
        [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]],
    )
    same(targets.from_edges(EDGES, weight=[1, 2, 5])[[2]], [[0, 0.875, 0.125]])
    same(
        targets.from_edges(np.array(EDGES, dtype=np.int32), 3), targets.from_edges(EDGES).toarray()
    )
    same(targets.from_edges(np.zeros((2, 0), dtype=int), 2), np.eye(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: targets.from_edges([[0, 1, 7], [1, 0, 1]], 3), r"edge 2: \[7, 1\] is not between"),
        (lambda: targets.from_edges([[0, 1, 3], [1, 0, 1]], 3), r"edge 2: \[3, 1\] is not between"),
        (lambda: targets.from_edges([[0, 1], [1, -1]]), r"edge 1: \[1, -1\] is not between"),
        (lambda: targets.from_edges([[0.0, 1.0], [1, 0]]), "not node numbers"),
        (lambda: targets.from_edges([[0, 1], [1, 2], [2, 0]]), "transpose it"),
        (lambda: targets.from_edges([0, 1]), r"edge_index: .*shapes|has shape"),
        (lambda: targets.from_edges([[0, 1], [1]]), "rows of shapes"),
        (lambda: targets.from_edges(np.zeros((2, 0), dtype=int)), "is empty"),
        (lambda: targets.from_edges(EDGES, weight=[1, np.nan, 1]), "weight: edge 1: nan"),
        (lambda: targets.from_edges(EDGES, weight=[1, 1, -2]), r"weight: edge 2: -2\.0"),
        (lambda: targets.from_edges(EDGES, weight=[1, 1]), r"expected one a edge, \(3,\)"),
        (lambda: targets.from_edges(EDGES, self_loops=False), "row 0: has no nonzero entry"),
        (lambda: targets.from_edges(EDGES, receivers="both"), "receivers='both'"),
        (lambda: targets.from_edges(EDGES, 0), "num_nodes=0"),
        (lambda: targets.from_graph(np.array([[0, 1], [1, 0]])), "may be an adjacency matrix or"),
        (lambda: targets.from_graph(np.array([[0, 1, 2], [1, 0, 0]])), "from_edges reads one"),
    ],
)
def test_what_is_no_list_of_edges(call, message):
    with pytest.raises(jla.ParameterError, match=message):
        call()


def test_two_nodes_are_an_adjacency_matrix_where_that_is_said():
    for kind in (float, bool, np.uint8):
        same(targets.from_graph(np.array([[0, 1], [1, 0]], dtype=kind), False), [[0, 1], [1, 0]])
    same(targets.from_graph(sparse.csr_array(np.array([[0, 1], [1, 0]])), False), [[0, 1], [1, 0]])


# --- Masks ---------------------------------------------------------------------------------------

CAUSAL = np.tri(4, dtype=bool)
HALF, SINGLE = np.finfo(np.float16).min, np.finfo(np.float32).min


@pytest.mark.parametrize(
    ("mask", "convention"),
    [
        (CAUSAL, "keep"),
        (CAUSAL.astype(np.int8), "keep"),
        (sparse.csr_array(CAUSAL), "keep"),
        (~CAUSAL, "masked"),
        ((~CAUSAL).astype(float), "masked"),
        (sparse.coo_array(~CAUSAL), "masked"),
        (np.where(CAUSAL, 0, -np.inf), "additive"),
        (np.where(CAUSAL, 0, SINGLE).astype(np.float32), "additive"),
        (np.where(CAUSAL, 0, HALF).astype(np.float16), "additive"),
        (np.where(CAUSAL, 0, -1e4), "additive"),
        (np.where(CAUSAL, 3, -1e9), "additive"),
        (np.where(CAUSAL, 0, -np.inf)[None, None], "additive"),
    ],
)
def test_masks_of_three_conventions(mask, convention):
    expected = CAUSAL / np.arange(1, 5)[:, None]
    same(targets.from_mask(mask, convention), expected)


def test_a_finite_bias_weights_by_its_exponential():
    slopes = np.log([[1.0, 2, 4], [1, 1, 2], [3, 1, 1]])
    expected = [[1 / 7, 2 / 7, 4 / 7], [0.25, 0.25, 0.5], [0.6, 0.2, 0.2]]
    np.testing.assert_allclose(
        targets.from_mask(slopes, "additive").toarray(), expected, rtol=1e-14
    )
    # A bias of a distance, as ALiBi has it: the far tokens vanish, the row does not.
    far = targets.from_mask(
        -np.abs(np.subtract.outer(np.arange(9), np.arange(9))) * 1e3, "additive"
    )
    same(far, np.eye(9))


def test_a_row_that_is_shut_out_is_padding():
    shut = np.where(CAUSAL, 0.0, SINGLE)
    shut[2] = SINGLE  # its softmax would be uniform
    with pytest.raises(jla.TargetError, match="row 2: has no nonzero entry"):
        targets.from_mask(shut, "additive")
    assert targets.from_mask(shut, "additive", padding="self").toarray()[2].tolist() == [0, 0, 1, 0]
    assert targets.from_mask(shut, "additive", self_loops=True).toarray()[2].tolist() == [
        0,
        0,
        1,
        0,
    ]


@pytest.mark.parametrize(
    ("mask", "convention", "message"),
    [
        (CAUSAL * 0.5, "keep", r"row 0: entry 0\.5 in column 0 is neither 0 nor 1"),
        (np.diag([1, 1, 2, 1]), "masked", r"row 2: entry 2\.0 in column 2 is neither"),
        (np.where(CAUSAL, 0, -np.inf), "keep", "neither 0 nor 1"),
        (np.diag([0, 0, np.nan, 0]), "additive", "row 2: entry nan in column 2"),
        (np.diag([0, np.inf, 0, 0]), "additive", "row 1: entry inf in column 1"),
        (~CAUSAL, "keep", "row 3: has no nonzero entry.*--mask masked"),
        (CAUSAL[:2], "additive", "square"),
        (CAUSAL[0], "keep", r"shape \(4,\)"),
        (np.stack([CAUSAL, CAUSAL]), "keep", "a stack of 2 matrices"),
        (CAUSAL, "kept", "convention='kept'"),
    ],
)
def test_what_is_no_mask_of_a_convention(mask, convention, message):
    with pytest.raises(jla.ParameterError, match=message):
        targets.from_mask(mask, convention)


@pytest.mark.parametrize("value", [-np.inf, SINGLE, HALF, -1e4])
def test_an_additive_mask_is_recognised_where_a_target_is_wanted(value):
    for read in (jla.check_target, targets.normalize_rows):
        with pytest.raises(jla.TargetError, match=r"as in an additive mask; from_mask \(--mask"):
            read(np.where(CAUSAL, 0.0, value))
    with pytest.raises(jla.TargetError, match=r"row 1: sums to 2, .* looks like a mask"):
        jla.check_target(CAUSAL)
    with pytest.raises(jla.TargetError, match=r"row 0: entry -2\.0 in column 1 is negative$"):
        jla.check_target(np.where(CAUSAL, 0.0, -2.0))


# --- Stacks, padding, the largest entries --------------------------------------------------------


def test_a_head_of_a_stack():
    stack = np.zeros((2, 1, 3, 4, 4))
    stack[1, 0, 2] = SMALL
    for head in ((1, 2), (1, 0, 2)):
        same(targets.from_attention(stack, head=head), SMALL)
    same(targets.from_attention(SMALL[None, None]), SMALL)
    same(targets.from_attention(SMALL[None, None], head=(0, 0)), SMALL)
    same(targets.from_mask(np.stack([~CAUSAL, CAUSAL]), head=1), CAUSAL / [[1], [2], [3], [4]])
    for head, error, message in [
        (None, jla.TargetError, r"shape \(2, 1, 3, 4, 4\), a stack of 6 matrices"),
        (1, jla.TargetError, "with 2 indices"),
        ((1, 3), jla.ParameterError, "head=3: must be at most 2"),
        ((-1, 0), jla.ParameterError, "head=-1: must be at least 0"),
        ((1, 1.5), jla.ParameterError, r"head=1\.5: expected an integer"),
    ]:
        with pytest.raises(error, match=message):
            targets.from_attention(stack, head=head)
    with pytest.raises(jla.ParameterError, match="head=0: attention is one matrix"):
        targets.from_attention(SMALL, head=0)


PADDED = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 3]], dtype=float)


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ("self", [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0.25, 0, 0.75]]),
        ("uniform", [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4, [0, 0.25, 0, 0.75]]),
        ("drop", [[1, 0, 0], [0.5, 0.5, 0], [0, 0.25, 0.75]]),
    ],
)
def test_what_a_padded_token_does(padding, expected):
    same(targets.normalize_rows(PADDED, padding=padding), expected)
    same(targets.from_attention(PADDED, padding=padding), expected)
    same(jla.check_target(targets.pad_rows(expected, padding)), expected)
    padded = targets.pad_rows(targets.normalize_rows(np.eye(4)[[0, 1, 1, 3]]) * PADDED, padding)
    assert padded.shape == np.shape(expected)


def test_padding_is_asked_for():
    with pytest.raises(jla.TargetError, match=r"row 2: has no nonzero entry; padding= \(--padding"):
        targets.normalize_rows(PADDED)
    with pytest.raises(jla.ParameterError, match="padding='zero'"):
        targets.normalize_rows(PADDED, padding="zero")
    with pytest.raises(jla.TargetError, match="every row is empty"):
        targets.normalize_rows(np.zeros((2, 2)), padding="drop")
    seen = PADDED + np.diag([0, 1], k=2)[:4, :4] * 1.0
    seen[1, 2] = 1
    with pytest.raises(jla.TargetError, match="row 1: attends to token 2, whose own row is empty"):
        targets.normalize_rows(seen, padding="drop")


def test_the_largest_entries_of_a_row():
    attention = np.array([[0.4, 0.3, 0.3, 0], [0.25] * 4, [0, 0.1, 0.2, 0.7], [0, 0, 0, 1]])
    same(
        targets.from_attention(attention, 2),
        [[4 / 7, 3 / 7, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 2 / 9, 7 / 9], [0, 0, 0, 1]],
    )
    same(targets.from_attention(sparse.csc_array(attention), top_k=1), np.eye(4)[[0, 0, 3, 3]])
    same(targets.from_attention(attention, row_nnz=1), np.eye(4)[[0, 0, 3, 3]])
    np.testing.assert_allclose(
        targets.from_attention(attention, threshold=0.25).toarray(),
        [[0.4, 0.3, 0.3, 0], [0.25] * 4, [0, 0, 0, 1], [0, 0, 0, 1]],
    )
    with pytest.raises(jla.TargetError, match=r"row 1: no entry reaches threshold=0\.3; .* 0\.25"):
        targets.from_attention(attention, threshold=0.3)
    with pytest.raises(jla.ParameterError, match="threshold=0"):
        targets.from_attention(attention, threshold=0)


@given(seed=st.integers(0, 2**32), top_k=st.integers(1, 6), density=st.floats(0, 1))
def test_the_largest_entries_are_those_of_a_full_sort(seed, top_k, density):
    rng = np.random.default_rng(seed)
    weights = rng.integers(1, 4, (6, 6)) * (rng.random((6, 6)) < density) + np.eye(6)
    kept = targets.from_attention(weights, top_k).toarray() > 0
    for row, chosen in zip(weights, kept, strict=True):
        order = sorted(np.nonzero(row)[0], key=lambda column: (-row[column], column))
        assert sorted(order[:top_k]) == np.nonzero(chosen)[0].tolist()


def test_real_arrays_keep_what_numpy_knows():
    half = np.ones(3, dtype=np.float16)
    assert real_array(half, "x") is half
    swapped = real_array(half.astype(">f4"), "x")
    assert swapped.dtype == np.float32
    assert swapped.dtype.isnative


def test_a_row_that_is_uniform_up_to_rounding_costs_nothing():
    dense = jla.targets.causal_window(256, 2).toarray()
    dense[100] = 1 / 256
    dense[100, ::3] = np.nextafter(1 / 256, 1)
    built = jla.construct(dense, total_variation=0.05, rng=0)
    assert built.dim < 128
    assert not built.queries[100].any()
    assert built.meets(jla.measure(built, dense))
    dense[100, 0] *= 1 + 1e-9  # that is not rounding
    assert jla.construct(dense, total_variation=0.05, rng=0).dim == 256
