"""Real attention blocks: from patterns to the input that makes a stock block show them.

`compile` takes a `BlockSpec` (or a model's configuration, `from_config`) and one pattern a query
head, and returns the hidden states for which the block's attention is these patterns. `embed` takes
the queries and keys themselves.
"""

from . import bounds, families, norms, queries, reference, rotary, weights
from .compile import compile, embed
from .compiled import BlockReport, CompiledBlock, measure_rows
from .families import from_config
from .feasibility import expected_failures
from .rotary import Rope
from .spec import BlockSpec

__all__ = [
    "BlockReport",
    "BlockSpec",
    "CompiledBlock",
    "Rope",
    "bounds",
    "compile",
    "embed",
    "expected_failures",
    "families",
    "from_config",
    "measure_rows",
    "norms",
    "queries",
    "reference",
    "rotary",
    "weights",
]
