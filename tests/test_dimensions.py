"""Required dimensions: known values, both readings of each theorem, and what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import jl_attention as jla
from jl_attention import concentration, dimensions

RANDOM = ("interpolate", "row_projection", "svd_projection")

STRICT = {"max_ratio": 2.0, "leak": 0.01, "failure_prob": 0.5}
STRICT_T1 = {**STRICT, "method": "svd_projection", "ratio_error": 0.1}


def test_t1_values():
    assert jla.required_dim(1024, 4, **STRICT_T1, bound="closed_form") == 13_089_306
    assert jla.required_dim(1024, 4, **STRICT_T1, bound="sharp") == pytest.approx(7.98e6, rel=1e-3)
    assert jla.required_dim(1024, 4, **STRICT_T1) == pytest.approx(3.34e6, rel=1e-3)


def test_t1_closed_form_by_hand():
    delta, tau = np.log(1.1) / 2, np.log(1.1 / 0.01)
    eps = delta / (4 * (tau + np.log(2)))
    m = np.ceil(np.log(4 * 1024**2 / 0.5) / (eps**2 / 4 - eps**3 / 6))
    assert jla.required_dim(1024, 4, **STRICT_T1, bound="closed_form") == m


def test_t1_bites_first_at_5380_for_loose_precision():
    lengths = np.arange(5000, 6000)
    dims = jla.required_dim(
        lengths, 2, "svd_projection", ratio_error=1.0, leak=0.5, failure_prob=0.5,
        bound="closed_form",
    )  # fmt: skip
    assert lengths[np.argmax(dims < lengths)] == 5380


@pytest.mark.parametrize(
    ("length", "row_nnz", "closed_form", "sharp"),
    [(1024, 1, 82, 72), (1024, 4, 292, 254), (4096, 4, 350, 310), (65536, 4, 466, 422)],
)
def test_t3_values(length, row_nnz, closed_form, sharp):
    assert jla.required_dim(length, row_nnz, **STRICT, bound="closed_form") == closed_form
    assert jla.required_dim(length, row_nnz, **STRICT) == sharp
    assert jla.required_dim(10**6, 4, **STRICT, bound="closed_form") == 579


precisions = st.fixed_dictionaries(
    {
        "max_ratio": st.floats(1, 100),
        "ratio_error": st.floats(0.01, 2),
        "leak": st.floats(1e-4, 0.9),
    }
)


@given(
    length=st.integers(9, 10**5),
    row_nnz=st.integers(1, 8),
    max_ratio=st.floats(1, 100),
    leak=st.floats(1e-4, 0.9),
    failure_prob=st.floats(1e-9, 0.9),
)
def test_t3_in_both_readings_is_student_s_tail(length, row_nnz, max_ratio, leak, failure_prob):
    gap = np.log(1 / leak)  # at most L (L - 1) pairs may go wrong
    theta = 2 * gap / (np.sqrt(row_nnz) * (3 * gap + np.log(max_ratio)))

    def lost(dim):
        nu = dim - row_nnz + 1
        return length * (length - 1) * stats.t.sf(theta * np.sqrt(nu), nu)

    problem = {"max_ratio": max_ratio, "leak": leak, "logit_scale": 3 * gap}
    dim = jla.required_dim(length, row_nnz, failure_prob=failure_prob, **problem)
    assert lost(dim) <= failure_prob * (1 + 1e-6)
    assert dim == row_nnz or lost(dim - 1) > failure_prob * (1 - 1e-6)
    found = jla.failure_probability(dim, length, row_nnz, **problem)
    assert found == pytest.approx(lost(dim), rel=1e-6)


@given(
    method=st.sampled_from(RANDOM),
    length=st.integers(1, 10**6),
    row_nnz=st.integers(1, 50),
    precision=precisions,
    failure_prob=st.floats(1e-12, 0.99),
    bound=st.sampled_from(dimensions.BOUNDS),
)
def test_the_two_readings_agree(method, length, row_nnz, precision, failure_prob, bound):
    row_nnz = min(row_nnz, length)
    problem = {**precision, "method": method, "bound": bound}
    dim = jla.required_dim(length, row_nnz, failure_prob=failure_prob, **problem)
    at, below = jla.failure_probability([dim, max(dim - 1, 1)], length, row_nnz, **problem)
    assert at <= failure_prob * (1 + 1e-6)
    least = row_nnz if method == "interpolate" else 1
    assert below > failure_prob * (1 - 1e-6) or dim == least
    if bound == "closed_form":
        sharp = jla.required_dim(
            length, row_nnz, failure_prob=failure_prob, method=method, **precision
        )
        assert sharp <= dim


@given(
    method=st.sampled_from(RANDOM),
    length=st.integers(4, 60),
    row_nnz=st.integers(1, 4),
    max_ratio=st.floats(1, 5),
    seed=st.integers(0, 2**32),
)
def test_a_target_needs_no_more_than_its_class(method, length, row_nnz, max_ratio, seed):
    target = jla.targets.regular(length, row_nnz, max_ratio, rng=seed)
    precision = {"ratio_error": 0.5, "leak": 0.1, "failure_prob": 0.1}
    of_class = jla.required_dim(length, row_nnz, method, max_ratio * (1 + 1e-9), **precision)
    assert jla.required_dim_for_target(target, method, **precision) <= of_class


def test_a_target_sums_its_own_rows():
    target = jla.targets.vertical_slash(40, 2, 4, 3.0, rng=0)
    B = jla.logits.target_logits(target, 3 * np.log(100))
    dim = jla.required_dim_for_target(target, failure_prob=0.2)
    counts, norms = jla.targets.row_counts(target), jla.logits.row_norms(B)

    def failure(dim):
        tails = concentration.student_tail(dim - counts + 1, 2 * np.log(100) / norms)
        return ((40 - counts) * tails).sum()

    assert failure(dim) <= 0.2 < failure(dim - 1)


def test_dimensions_move_the_right_way():
    lengths = 2 ** np.arange(4, 20)
    for method in RANDOM:
        problem = {"method": method, "ratio_error": 0.5, "max_ratio": 2.0}
        assert (np.diff(jla.required_dim(lengths, 4, **problem)) > 0).all()
        assert (np.diff(jla.required_dim(4096, np.arange(1, 20), **problem)) > 0).all()
        etas = np.array([1e-9, 1e-3, 0.5])
        assert (np.diff(jla.required_dim(4096, 4, failure_prob=etas, **problem)) < 0).all()
        gammas = np.array([1.0, 2.0, 8.0])
        problem.pop("max_ratio")
        assert (np.diff(jla.required_dim(4096, 4, max_ratio=gammas, **problem)) > 0).all()
    dims = jla.required_dim(4096, [1, 2, 4], "row_projection", ratio_error=0.1)
    assert dims.dtype == np.int64
    assert dims.shape == (3,)
    assert isinstance(jla.required_dim(4096, 4), int)


def test_the_closed_forms_are_linear_in_log_length():
    lengths = 2 ** np.array([10, 20, 30])
    for method in RANDOM:
        dims = jla.required_dim(lengths, 2, method, ratio_error=0.5, bound="closed_form")
        assert abs(np.diff(dims, 2).item()) <= 2  # each is rounded up


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 1), {}, "length"),
        ((4, 5), {}, "row_nnz"),
        ((4, 0), {}, "row_nnz"),
        ((4.5, 1), {}, "length"),
        (("many", 1), {}, "length"),
        ((4, 1), {"method": "magic"}, "method='magic'"),
        ((4, 1), {"bound": "tight"}, "bound='tight'"),
        ((4, 1), {"max_ratio": 0.9}, "max_ratio"),
        ((4, 1), {"max_ratio": np.nan}, "max_ratio"),
        ((4, 1), {"leak": 1.0}, "leak"),
        ((4, 1), {"failure_prob": 0.0}, "failure_prob"),
        ((4, 1), {"method": "svd_projection"}, "ratio_error"),
        ((4, 1), {"logit_scale": 1.0}, "logit_scale"),
        (
            (4, 1),
            {
                "method": "row_projection",
                "ratio_error": 0.5,
                "logit_scale": 4.7,
                "bound": "sharp",
            },
            "logit_scale",
        ),
        ((4, 1), {"method": "svd_projection", "ratio_error": 1e-12}, "2\\*\\*62"),
    ],
)
def test_bad_arguments_are_named(arguments, options, message):
    with pytest.raises(jla.ParameterError, match=message):
        jla.required_dim(*arguments, **options)
