"""Other libraries' graphs as weighted edges; no library is imported here."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import TargetError
from .arrays import comes_from, is_graph, real_array, real_csr

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike

__all__ = ["Edges", "edges_of", "read_edge_index"]


class Edges(NamedTuple):
    """Edges of a graph on nodes 0 to n - 1, parallel ones apart.

    Attributes
    ----------
    rows, columns : ndarray of int64, shape (E,)
        Which node attends, and to which.
    weights : ndarray of float64, shape (E,)
    length : int
        n.
    """

    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    length: int


def edges_of(graph: Any, weight: str | None = "weight") -> Edges | None:
    """Return the edges of a graph, or None if it is not a graph but a matrix.

    Parameters
    ----------
    graph : networkx.Graph, igraph.Graph, torch_geometric.data.Data, sknetwork.data.Dataset, other
    weight : str or None
        The name of the edge attribute that is the weight; None for weights of 1.

    Returns
    -------
    Edges or None

    Raises
    ------
    TargetError
        A weight is not a positive real number or a zero, or no edge has the attribute named.
    """
    if callable(getattr(graph, "adjacency", None)) and hasattr(graph, "number_of_nodes"):
        return _from_networkx(graph, weight)
    if comes_from(graph, "igraph") and hasattr(graph, "get_edgelist"):
        return _from_igraph(graph, weight)
    if hasattr(graph, "edge_index") and hasattr(type(graph), "num_nodes"):
        return _from_geometric(graph, weight)
    if hasattr(graph, "adjacency") and not callable(graph.adjacency):  # scikit-network's
        matrix = real_csr(graph.adjacency, "graph.adjacency")
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        return Edges(rows, matrix.indices, matrix.data, matrix.shape[0])
    if hasattr(graph, "biadjacency"):
        raise TargetError("graph: is bipartite: rows and columns are not the same tokens")
    if is_graph(graph):
        raise TargetError(
            f"graph: {type(graph).__name__} is not read; pass its adjacency matrix, or its edges "
            "to from_edges"
        )
    return None


def read_edge_index(
    edge_index: ArrayLike,
    num_nodes: int | None,
    receivers: str,
    weight: ArrayLike | None,
    name: str = "edge_index",
) -> Edges:
    """Return the edges of an edge_index; parameters as in `targets.from_edges`.

    Raises
    ------
    TargetError
        Not two rows of node numbers, a number out of range, or weights that do not fit.
    """
    if isinstance(edge_index, (tuple, list)) and len(edge_index) == 2:
        pair = [real_array(part, name) for part in edge_index]
        if pair[0].shape != pair[1].shape:
            raise TargetError(f"{name}: rows of shapes {pair[0].shape} and {pair[1].shape}")
        edges = np.stack(pair)
    else:
        edges = real_array(edge_index, name)
    if edges.ndim != 2 or edges.shape[0] != 2:
        advice = "; transpose it" if edges.ndim == 2 and edges.shape[1] == 2 else ""
        raise TargetError(
            f"{name}: has shape {edges.shape}; expected two rows of node numbers, (2, E){advice}"
        )
    if edges.size and edges.dtype.kind not in "iu":
        raise TargetError(f"{name}: numbers of dtype {edges.dtype} are not node numbers")
    if num_nodes is None:
        num_nodes = int(edges.max(initial=-1)) + 1
    if num_nodes == 0:
        raise TargetError(f"{name}: is empty, and num_nodes is not given")
    outside = ((edges < 0) | (edges >= num_nodes)).any(axis=0)
    if outside.any():
        at = int(np.argmax(outside))
        raise TargetError(
            f"{name}: edge {at}: {edges[:, at].tolist()} is not between 0 and {num_nodes - 1}"
        )
    weights = np.ones(edges.shape[1]) if weight is None else _edge_weights(weight, edges.shape[1])
    first, second = edges.astype(np.int64)
    rows, columns = (second, first) if receivers == "second" else (first, second)
    return Edges(rows, columns, weights, num_nodes)


def _edge_weights(weight, count):
    """Return one weight an edge, shape (E,)."""
    weights = real_array(weight, "weight")
    if weights.ndim == 2 and weights.shape[1] == 1:  # as edge_attr often is
        weights = weights[:, 0]
    if weights.shape != (count,):
        raise TargetError(f"weight: has shape {weights.shape}; expected one a edge, ({count},)")
    weights = weights.astype(np.float64)
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        at = int(np.argmax(bad))
        raise TargetError(f"weight: edge {at}: {weights[at]} is negative or not finite")
    return weights


def _weight_of(value, edge):
    """Return the weight of an edge as a float; a missing one counts 1."""
    if value is None:
        return 1.0
    if not isinstance(value, (numbers.Real, np.bool_)):
        raise TargetError(f"graph: edge {edge}: weight {value!r} is not a real number")
    value = float(value)
    if not 0 <= value < np.inf:
        raise TargetError(f"graph: edge {edge}: weight {value} is negative or not finite")
    return value


def _from_networkx(graph, weight):
    number = {node: index for index, node in enumerate(graph)}
    rows, columns, weights, named = [], [], [], weight in (None, "weight")
    for one, other, attributes in graph.edges(data=True):
        named = named or weight in attributes
        value = None if weight is None else attributes.get(weight)
        value = _weight_of(value, f"({one!r}, {other!r})")
        pairs = [(one, other)]
        if not graph.is_directed() and one != other:
            pairs.append((other, one))
        for start, end in pairs:
            rows.append(number[start])
            columns.append(number[end])
            weights.append(value)
    if rows and not named:
        raise _no_attribute(weight, attributes)
    return _edges(rows, columns, weights, len(number))


def _from_igraph(graph, weight):
    attributes = graph.es.attributes()
    if weight not in (None, "weight", *attributes) and graph.ecount():
        raise _no_attribute(weight, attributes)
    values = graph.es[weight] if weight in attributes else [None] * graph.ecount()
    rows, columns, weights = [], [], []
    for (start, end), value in zip(graph.get_edgelist(), values, strict=True):
        value = _weight_of(value, f"({start}, {end})")
        pairs = [(start, end)]
        if not graph.is_directed() and start != end:
            pairs.append((end, start))
        for pair in pairs:
            rows.append(pair[0])
            columns.append(pair[1])
            weights.append(value)
    return _edges(rows, columns, weights, graph.vcount())


def _from_geometric(graph, weight):
    """Read PyTorch Geometric's Data: messages go from the first row of edge_index to the second."""
    if graph.edge_index is None:
        raise TargetError("graph: has no edge_index")
    values = None
    if weight == "weight":
        values = getattr(graph, "edge_weight", None)
    elif weight is not None:
        values = getattr(graph, weight, None)
        if values is None:
            raise _no_attribute(weight, ())
    return read_edge_index(
        graph.edge_index, graph.num_nodes, "second", values, name="graph.edge_index"
    )


def _no_attribute(weight, attributes):
    there = ", ".join(repr(name) for name in attributes) or "none"
    return TargetError(f"graph: no edge has an attribute {weight!r}; there: {there}")


def _edges(rows, columns, weights, length):
    if length == 0:
        raise TargetError("graph: is empty")
    rows, columns = (np.array(index, dtype=np.int64) for index in (rows, columns))
    return Edges(rows, columns, np.array(weights, dtype=np.float64), length)
