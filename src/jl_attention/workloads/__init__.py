"""A test bench for sparse attention: queries and keys whose attention is known entry by entry.

`make` makes them, at real head sizes and up to 128k tokens, with a certificate; `selectors` has the
published methods that look at a part of the keys only; `score` says what a method found;
`edge_case` prescribes extreme scores for kernels.
"""

from . import backends, edges, formats, geometry, patterns, scale, selectors
from .certificate import Certificate
from .edges import EdgeCase, edge_case
from .patterns import Pattern
from .scoring import Score, score, scores
from .workload import Workload, load, make

__all__ = [
    "Certificate",
    "EdgeCase",
    "Pattern",
    "Score",
    "Workload",
    "backends",
    "edge_case",
    "edges",
    "formats",
    "geometry",
    "load",
    "make",
    "patterns",
    "scale",
    "score",
    "scores",
    "selectors",
]
