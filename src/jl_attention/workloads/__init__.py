"""A test bench for sparse attention: queries and keys whose attention is known entry by entry.

`make` makes them, at real head sizes and up to 128k tokens, with a certificate; `selectors` has the
published methods that look at a part of the keys only; `score` says what a method found.
"""

from . import formats, geometry, patterns, scale, selectors
from .certificate import Certificate
from .patterns import Pattern
from .scoring import Score, score
from .workload import Workload, load, make

__all__ = [
    "Certificate",
    "Pattern",
    "Score",
    "Workload",
    "formats",
    "geometry",
    "load",
    "make",
    "patterns",
    "scale",
    "score",
    "selectors",
]
