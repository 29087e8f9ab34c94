"""Sparse attention from random projections: constructions, bounds and checks.

A self-attention module with fixed parameters approximates any sparse attention matrix by changing
only its input. This package builds such inputs, says how large the hidden size has to be, and
measures what was built. It accompanies the book of the same name.
"""

from . import (
    attention,
    claims,
    concentration,
    constructions,
    datasets,
    dimensions,
    errors,
    logits,
    precision,
    projections,
    search,
    targets,
)
from .constructions import Construction, construct
from .dimensions import (
    failure_probability,
    jl_dim,
    required_dim,
    required_dim_for_target,
)
from .errors import ClaimError, ConstructionError, JLAttentionError, ParameterError, TargetError
from .precision import PrecisionReport, measure
from .targets import check_target

__version__ = "0.1.0"

__all__ = [
    "ClaimError",
    "Construction",
    "ConstructionError",
    "JLAttentionError",
    "ParameterError",
    "PrecisionReport",
    "TargetError",
    "attention",
    "check_target",
    "claims",
    "concentration",
    "construct",
    "constructions",
    "datasets",
    "dimensions",
    "errors",
    "failure_probability",
    "figures",
    "jl_dim",
    "logits",
    "measure",
    "precision",
    "projections",
    "required_dim",
    "required_dim_for_target",
    "search",
    "targets",
]


def __getattr__(name):
    """Import `figures` on first use: it alone needs Matplotlib."""
    if name == "figures":
        import importlib

        return importlib.import_module(".figures", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
