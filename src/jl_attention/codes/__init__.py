"""What keys are made of: random and given codes, JL projections, and coherence."""

from . import projections
from .base import (
    KINDS,
    Codes,
    GaussianCodes,
    GivenCodes,
    MomentCurveCodes,
    TightCodes,
    UnitCodes,
    draw,
    stream_key,
)
from .coherence import coherence, unit_codes, universal_leak, welch_bound

__all__ = [
    "KINDS",
    "Codes",
    "GaussianCodes",
    "GivenCodes",
    "MomentCurveCodes",
    "TightCodes",
    "UnitCodes",
    "coherence",
    "draw",
    "projections",
    "stream_key",
    "unit_codes",
    "universal_leak",
    "welch_bound",
]
