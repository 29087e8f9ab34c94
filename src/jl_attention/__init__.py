"""Sparse attention from random projections: constructions, bounds and checks.

A self-attention module with fixed parameters approximates any sparse attention matrix by changing
only its input. This package builds such inputs, says how large the hidden size has to be, and
measures what was built. It accompanies the book of the same name.
"""

import importlib

from . import (
    attention,
    codes,
    concentration,
    constructions,
    dimensions,
    engine,
    errors,
    files,
    kernels,
    logits,
    max_margin,
    methods,
    moment_curve,
    precision,
    projections,
    search,
    streaming,
    targets,
    theory,
)
from .constructions import Construction, construct
from .dimensions import (
    expected_failures,
    failure_probability,
    jl_dim,
    necessary_dim,
    required_dim,
    required_dim_for_target,
    universal_dim,
)
from .errors import (
    ClaimError,
    ConstructionError,
    FileError,
    JLAttentionError,
    ParameterError,
    TargetError,
)
from .precision import PrecisionReport, measure
from .streaming import StreamingHead
from .targets import check_target

__version__ = "0.1.0"

__all__ = [
    "ClaimError",
    "Construction",
    "ConstructionError",
    "FileError",
    "JLAttentionError",
    "ParameterError",
    "PrecisionReport",
    "StreamingHead",
    "TargetError",
    "attention",
    "blocks",
    "check_target",
    "codes",
    "concentration",
    "construct",
    "constructions",
    "dimensions",
    "engine",
    "errors",
    "expected_failures",
    "failure_probability",
    "files",
    "jl_dim",
    "kernels",
    "logits",
    "max_margin",
    "measure",
    "methods",
    "moment_curve",
    "necessary_dim",
    "precision",
    "projections",
    "required_dim",
    "required_dim_for_target",
    "retrieval",
    "search",
    "streaming",
    "targets",
    "theory",
    "universal_dim",
    "workloads",
]


_ROOMS = ("blocks", "retrieval", "workloads")
_BOOK = ("claims", "datasets", "figures", "ledger", "minilm")


def __getattr__(name):
    """Import what few need when it is asked for; find the book's modules where they once were."""
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    if name in _BOOK:
        return importlib.import_module(f"jl_attention_book.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
