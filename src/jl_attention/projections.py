"""`codes.projections` under the name it had before."""

from .codes.projections import (
    FAMILIES,
    OSNAP,
    SRHT,
    Gaussian,
    HadamardMap,
    LinearMap,
    Orthogonal,
    Rademacher,
    Sparse,
    SparseMap,
)

__all__ = [
    "FAMILIES",
    "OSNAP",
    "SRHT",
    "Gaussian",
    "HadamardMap",
    "LinearMap",
    "Orthogonal",
    "Rademacher",
    "Sparse",
    "SparseMap",
]
