"""Sparse attention from random projections: constructions, bounds and checks.

A self-attention module with fixed parameters approximates any sparse attention matrix by changing
only its input. This package builds such inputs, says how large the hidden size has to be, and
measures what was built. It accompanies the book of the same name.
"""

from . import (
    attention,
    claims,
    codes,
    concentration,
    constructions,
    datasets,
    dimensions,
    errors,
    files,
    kernels,
    ledger,
    logits,
    max_margin,
    moment_curve,
    precision,
    projections,
    search,
    streaming,
    targets,
)
from .constructions import Construction, construct
from .dimensions import (
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
    "check_target",
    "claims",
    "codes",
    "concentration",
    "construct",
    "constructions",
    "datasets",
    "dimensions",
    "errors",
    "failure_probability",
    "figures",
    "files",
    "jl_dim",
    "kernels",
    "ledger",
    "logits",
    "max_margin",
    "measure",
    "moment_curve",
    "necessary_dim",
    "precision",
    "projections",
    "required_dim",
    "required_dim_for_target",
    "search",
    "streaming",
    "targets",
    "universal_dim",
]


def __getattr__(name):
    """Import `figures` on first use: it alone needs Matplotlib."""
    if name == "figures":
        import importlib

        return importlib.import_module(".figures", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
