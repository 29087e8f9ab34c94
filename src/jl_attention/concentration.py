"""The laws of `theory.tails` and `theory.inner_products` under the name they had before."""

from .theory.inner_products import (
    correlated_exponent,
    inner_product_exponent,
    inner_product_log_tail,
    inner_product_tail,
    orthogonal_exponent,
    polarisation_exponent,
)
from .theory.tails import (
    BETA_UNDERFLOW,
    cap_bound,
    cap_tail,
    chi_square_failure,
    chi_square_log_failure,
    student_bound,
    student_log_tail,
    student_tail,
)

__all__ = [
    "BETA_UNDERFLOW",
    "cap_bound",
    "cap_tail",
    "chi_square_failure",
    "chi_square_log_failure",
    "correlated_exponent",
    "inner_product_exponent",
    "inner_product_log_tail",
    "inner_product_tail",
    "orthogonal_exponent",
    "polarisation_exponent",
    "student_bound",
    "student_log_tail",
    "student_tail",
]
