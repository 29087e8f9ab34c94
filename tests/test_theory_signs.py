"""Codes of signs, and what conditioning on Gx gives (S4)."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jl_attention import concentration as con
from jl_attention.errors import ParameterError
from jl_attention.theory import conditioning, one_bit


def coordinate_law(x, density):
    """Return the values of one coordinate sum_j x_j r_j and their probabilities, exactly."""
    entries = np.array([0.0, 1.0, -1.0]) / np.sqrt(density)
    chances = np.array([1 - density, density / 2, density / 2])
    picks = np.array(list(itertools.product(range(3), repeat=len(x))))
    return entries[picks] @ x, chances[picks].prod(axis=1)


@pytest.mark.parametrize("density", [1.0, 0.7, 1 / 3])
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(0.01, 0.49), st.floats(0.01, 0.99))
def test_the_two_moment_bounds_of_the_proof(density, seed, size, h, eps):
    x = np.random.default_rng(seed).standard_cauchy(size)
    x /= np.linalg.norm(x)
    q, chance = coordinate_law(x, density)
    assert chance @ np.exp(h * q**2) <= (1 - 2 * h) ** -0.5 * (1 + 1e-12)
    assert chance @ q**4 <= 3 * (1 + 1e-12)
    lower = np.exp(eps / 2 * (1 - eps)) * (chance @ np.exp(-eps / 2 * q**2))
    assert lower <= np.exp(-con.polarisation_exponent(eps)) * (1 + 1e-12)


def test_sparser_signs_break_both():
    q, chance = coordinate_law(np.array([1.0]), 0.1)
    assert chance @ q**4 > 3
    assert chance @ np.exp(0.3 * q**2) > (1 - 0.6) ** -0.5
    assert pytest.approx(1 / 3) == one_bit.LEAST_DENSITY


@pytest.mark.parametrize("density", [1.0, 1 / 3])
def test_the_tail_of_an_inner_product_is_bounded_exactly(density):
    """X and y in R^2, m = 8: all 4^8 or 9^8 outcomes, by convolution of one product's law."""
    for x, y in (([0.6, 0.8], [1.0, 0.0]), ([0.6, 0.8], [0.8, -0.6]), ([1, 0], [1, 0])):
        x, y = np.array(x), np.array(y)
        first, chance = coordinate_law(x, density)
        second, _ = coordinate_law(y, density)
        law = {}
        for value, weight in zip(np.round(first * second, 9), chance, strict=True):
            law[value] = law.get(value, 0.0) + weight
        total = {0.0: 1.0}
        for _ in range(8):
            step = {}
            for (a, p), (b, q) in itertools.product(total.items(), law.items()):
                step[round(a + b, 9)] = step.get(round(a + b, 9), 0.0) + p * q
            total = step
        sums, weights = np.array(list(total)), np.array(list(total.values()))
        for eps in (0.3, 0.6, 0.9):
            bound = np.exp(one_bit.inner_product_log_tail(8, eps))
            for sign in (-1, 1):
                assert weights[sign * (sums / 8 - x @ y) > eps + 1e-9].sum() <= bound


def test_the_sign_bound_is_a_known_number():
    # e^(-50 (0.5 - ln 1.5)) + e^(-100 (1/16 - 1/48))
    assert np.exp(one_bit.inner_product_log_tail(100, 0.5)) == pytest.approx(
        0.0088551 + 0.0155039, rel=1e-4
    )


@given(st.integers(1, 500), st.floats(0.001, 0.99))
def test_a_wrong_sign_is_a_student_tail(dim, rho):
    expected = con.inner_product_tail(dim, rho, rho, "lower")
    assert conditioning.wrong_sign_tail(dim, rho) == pytest.approx(expected, rel=1e-8)
    assert conditioning.wrong_sign_tail(dim, rho) <= conditioning.wrong_sign_bound(dim, rho)


def test_wrong_signs_are_known_numbers():
    # m = 1: both images have the sign of a normal, and disagree with probability arccos(rho)/pi.
    assert conditioning.wrong_sign_tail(1, 0.5) == pytest.approx(1 / 3)
    # m = 2: (1 - rho)/2.
    assert conditioning.wrong_sign_tail(2, 0.6) == pytest.approx(0.2)
    assert conditioning.wrong_sign_bound(2, 0.6) == pytest.approx(0.32)
    assert conditioning.wrong_sign_bound(400, 0.1) == pytest.approx(0.0669899, rel=1e-5)


@given(st.integers(1, 10**5), st.floats(1e-3, 3))
def test_half_of_the_chernoff_bound_is_enough_for_orthogonal_vectors(dim, eps):
    bound = conditioning.orthogonal_log_bound(dim, eps)
    assert con.inner_product_log_tail(dim, eps, 0.0, "upper") <= bound
    chernoff = -dim * con.correlated_exponent(eps, 0.0)
    assert bound == pytest.approx(chernoff - np.log(2), rel=1e-9)


@pytest.mark.parametrize(
    "call",
    [
        lambda: one_bit.inner_product_log_tail(0, 0.5),
        lambda: one_bit.inner_product_log_tail(5, 1.0),
        lambda: conditioning.wrong_sign_tail(5, 0.0),
        lambda: conditioning.wrong_sign_bound(5, 1.0),
        lambda: conditioning.orthogonal_log_bound(5, 0.0),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(ParameterError):
        call()
