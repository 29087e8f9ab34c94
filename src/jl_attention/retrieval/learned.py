"""Documents that learn: a few steps that lengthen the shortest margin, from the moment curve."""

from itertools import combinations

import numpy as np

from ..codes import MomentCurveCodes
from ..errors import ConstructionError, check_int
from ..methods.margin_solver import shortest_queries
from .given import rows_of

__all__ = [
    "HARD",
    "SHAKE",
    "SHARP",
    "STEPS",
    "learned_documents",
]

STEPS = 40

SHAKE = 0.25
"""Length of the random step that breaks the curve's symmetry, in margins; 1/2 would break none."""

HARD = 0.3
"""Sets count with exp(-(margin/least - 1)/HARD)."""

SHARP = 20.0
"""Competitors count with exp(SHARP score), in units of the margin."""

GROW, SHRINK, TRIES = 2.0, 1 / 3, 12
"""Change of the step's length where the least margin grows, and where it does not."""


def learned_documents(
    n: int, dim: int, top_k: int = 2, seed: int = 0, steps: int = STEPS
) -> np.ndarray:
    """Return unit documents with larger margins than the moment curve's, all sets of k returned.

    Alternates: the max-margin query of every set for the documents as they are (T9), then a step of
    the documents along the gradient of a soft least margin for the queries as they are. A step
    that does not enlarge the least margin is shortened, so no set is ever lost. Each step solves
    all C(n, k) sets once or more.

    Parameters
    ----------
    n, dim : int
        Documents, and d >= 2k. The start has d // 2 frequencies.
    top_k : int, optional
        k.
    seed : int, optional
        Of a small random step at the start.
    steps : int, optional

    Returns
    -------
    ndarray, shape (n, d)

    Raises
    ------
    ParameterError
        An argument is out of range.
    ConstructionError
        The margins of the start are below what the solver resolves.

    Examples
    --------
    >>> from jl_attention.retrieval import every_set
    >>> found = every_set(learned_documents(24, 8), dtype="int8")
    >>> found.n, found.certificate.sets
    (24, 276)
    """
    top_k = check_int("top_k", top_k)
    n, dim = check_int("n", n, minimum=top_k + 1), check_int("dim", dim, minimum=2 * top_k)
    rng = np.random.default_rng(check_int("seed", seed, minimum=0))
    sets = np.array(list(combinations(range(n), top_k)))
    documents = MomentCurveCodes(n, dim, dim // 2).array() / np.sqrt(dim // 2)
    least = _margins(documents, sets)[1].min()
    if not least > 0:
        raise ConstructionError(
            f"n={n}: the solver finds no query for some set on the curve; fewer documents, or a "
            "larger dim"
        )
    documents = _moved(documents, SHAKE * least, _unit(rng.standard_normal(documents.shape)))
    queries, margins = _margins(documents, sets)
    length = margins.min()
    for _ in range(check_int("steps", steps, minimum=0)):
        direction = _ascent(documents, sets, queries, margins)
        for _ in range(TRIES):
            moved = _moved(documents, length, direction)
            found = _margins(moved, sets)
            if found[1].min() > margins.min():
                documents, (queries, margins), length = moved, found, GROW * length
                break
            length *= SHRINK
        else:
            break
    return documents


def _margins(documents, sets):
    """Return unit queries, and their gaps; 0 where none was found."""
    queries = shortest_queries(rows_of(sets, len(documents)), documents).queries
    length = np.linalg.norm(queries, axis=1, keepdims=True)
    return queries / length, np.nan_to_num(1 / length[:, 0])


def _ascent(documents, sets, queries, margins):
    """Return the gradient of a soft least margin along the sphere, the longest row of length 1."""
    weights = np.exp(-(margins / margins.min() - 1) / HARD)
    hard = weights > 1e-4
    queries, sets = queries[hard], sets[hard]
    scores = queries @ documents.T
    np.put_along_axis(scores, sets, -np.inf, axis=1)
    scores -= scores.max(axis=1, keepdims=True)
    pull = -np.exp(SHARP / margins[hard, None] * scores)
    pull /= -pull.sum(axis=1, keepdims=True)
    np.put_along_axis(pull, sets, 1 / sets.shape[1], axis=1)
    gradient = (weights[hard, None] * pull).T @ queries
    gradient -= np.sum(gradient * documents, axis=1, keepdims=True) * documents
    return gradient / np.linalg.norm(gradient, axis=1).max()


def _moved(documents, length, direction):
    return _unit(documents + length * direction)


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
