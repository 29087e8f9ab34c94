"""`jl_dim` against known values, its own definition and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.random_projection import johnson_lindenstrauss_min_dim

import jl_attention as jla
from jl_attention.concentration import chi_square_failure, chi_square_log_failure
from jl_attention.errors import ParameterError


@pytest.mark.parametrize(
    ("n_points", "bound", "expected"),
    [
        (100, "exact", 3958),
        (1000, "exact", 5806),
        (100, "chernoff", 5227),
        (100, "dasgupta_gupta", 3948),
        (1000, "dasgupta_gupta", 5921),
    ],
)
def test_known_values(n_points, bound, expected):
    dim = jla.jl_dim(n_points, 0.1, 0.05, bound=bound)
    assert dim == expected
    assert type(dim) is int


def test_the_default_is_exact_with_eta_five_percent():
    assert jla.jl_dim(100, 0.1) == 3958


@given(st.integers(2, 10**6), st.floats(0.02, 0.99), st.floats(1e-6, 0.9))
def test_exact_is_the_least_dimension_that_its_tail_allows(n_points, eps, eta):
    dim = jla.jl_dim(n_points, eps, eta)
    pairs = n_points * (n_points - 1) / 2
    assert pairs * chi_square_failure(dim, eps) <= eta * (1 + 1e-9)
    if dim > 1:
        assert pairs * chi_square_failure(dim - 1, eps) > eta * (1 - 1e-9)
    assert dim <= jla.jl_dim(n_points, eps, eta, bound="chernoff")


@pytest.mark.parametrize("eps", [1e-3, 0.1, 0.5, 0.9, 0.999])
def test_the_failure_falls_with_the_dimension(eps):
    # So that a bisection finds the least m, and every larger m does too.
    assert (np.diff(chi_square_log_failure(np.arange(1, 2000), eps)) < 0).all()


def test_the_textbook_value_is_rounded_up():
    n_points, eps = np.array([2, 3, 10, 100, 10**4, 10**6]), np.array([[0.05], [0.1], [0.5]])
    ours = jla.jl_dim(n_points, eps, bound="dasgupta_gupta")
    theirs = johnson_lindenstrauss_min_dim(
        np.broadcast_to(n_points, (3, 6)), eps=np.broadcast_to(eps, (3, 6))
    )
    # scikit-learn truncates the same number.
    np.testing.assert_array_equal(ours, theirs + 1)


def test_arguments_broadcast():
    dims = jla.jl_dim([[10], [100]], [0.1, 0.2, 0.3], failure_prob=0.01)
    assert dims.shape == (2, 3)
    assert dims.dtype == np.int64
    assert dims[1, 0] == jla.jl_dim(100, 0.1, 0.01)


def test_huge_cases_stay_exact_and_fast():
    dims = jla.jl_dim(10**9, [1e-2, 1e-4, 1e-6])
    # m eps^2 tends to a constant as eps falls.
    np.testing.assert_allclose(dims[1:] * np.array([1e-8, 1e-12]), dims[2] * 1e-12, rtol=1e-4)


@pytest.mark.parametrize(
    "arguments",
    [
        (1, 0.1),
        (2.5, 0.1),
        (100, 0.0),
        (100, 1.0),
        (100, 0.1, 0.0),
        (100, 0.1, 1.0),
        (100, np.nan),
        ("many", 0.1),
        (100, 1e-12),
    ],
)
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ParameterError):
        jla.jl_dim(*arguments)


def test_an_unknown_bound_is_refused():
    with pytest.raises(ParameterError, match="bound"):
        jla.jl_dim(100, 0.1, bound="sharp")
