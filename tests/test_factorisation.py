"""The balanced factorisation: its values, its law, and that no basis or sign enters it."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, sparse

import jl_attention as jla
from jl_attention import factorisation
from jl_attention.factorisation import balanced_factors
from jl_attention.methods.svd_projection import connected_blocks


def with_singular_values(rng, left, right, values):
    """Return a left x right matrix with these singular values and random singular vectors."""
    U = linalg.qr(rng.standard_normal((left, left)))[0]
    V = linalg.qr(rng.standard_normal((right, right)))[0]
    return U[:, : len(values)] * values @ V[:, : len(values)].T


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_the_example_in_the_docstring():
    assert doctest.testmod(factorisation).failed == 0


def test_written_values():
    # diag(4, 9) with its columns swapped: the roots are 2 and 3.
    left, right = balanced_factors([[0, 4], [9, 0]])
    close(left, [[0, 2], [3, 0]])
    close(right, [[3, 0], [0, 2]])
    # (3, 4) has the one singular value 5 with right vector (.6, .8).
    left, right = balanced_factors([[3, 4]])
    close(left, [[5**0.5]])
    close(right, [[0.6 * 5**0.5], [0.8 * 5**0.5]])
    # All ones, n x n: singular value n, and 1/n everywhere in the projection on its vector.
    left, right = balanced_factors(np.ones((4, 4)))
    close(left, np.full((4, 4), 0.5))
    close(right, np.full((4, 4), 0.5))
    left, right = balanced_factors(np.zeros((2, 3)))
    close(left, np.zeros((2, 2)))
    close(right, np.zeros((3, 2)))


def test_the_halves_of_a_permutation_are_itself_and_the_identity():
    P = jla.targets.permutation(30, rng=0).toarray()
    left, right = balanced_factors(9 * P)
    close(left, 3 * P)
    close(right, 3 * np.eye(30))


@given(n=st.integers(1, 12), p=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_the_halves_multiply_to_the_matrix_and_have_the_law_of_the_vectors(n, p, seed):
    matrix = np.random.default_rng(seed).standard_normal((n, p))
    left, right = balanced_factors(matrix)
    assert left.shape == (n, min(n, p))
    assert right.shape == (p, min(n, p))
    close(left @ right.T, matrix)
    # Queries and keys are Gaussian with covariance F F^T, F = [left; right]; the singular
    # vectors' own halves have the same one.
    U, sigma, Vt = linalg.svd(matrix, full_matrices=False)
    plain, balanced = np.vstack([U, Vt.T]) * np.sqrt(sigma), np.vstack([left, right])
    close(balanced @ balanced.T, plain @ plain.T)
    smaller = left if n < p else right
    close(smaller, smaller.T)
    assert linalg.eigvalsh(smaller).min() > -1e-10


@pytest.mark.parametrize("shape", [(9, 9), (12, 9), (9, 12)])
@pytest.mark.parametrize("values", [np.ones(9), [5, 5, 5, 2, 2, 1], [3, 1e-3, 1e-3, 1e-6, 1e-9]])
def test_another_basis_of_the_singular_subspaces_gives_the_same_halves(monkeypatch, shape, values):
    rng = np.random.default_rng(0)
    matrix = with_singular_values(rng, *shape, np.array(values, dtype=float))
    expected = balanced_factors(matrix)
    svd = linalg.svd

    def rotated(matrix, **options):
        U, sigma, Vt = svd(matrix, **options)
        for value in np.unique(np.round(sigma, 11)):
            same = np.abs(sigma - value) < 1e-10
            Q = linalg.qr(rng.standard_normal((same.sum(), same.sum())))[0]
            U[:, same], Vt[same] = U[:, same] @ Q, Q.T @ Vt[same]
        return U, sigma, Vt

    monkeypatch.setattr(linalg, "svd", rotated)
    vectors = rotated(matrix, full_matrices=False)[0]
    assert np.abs(vectors - svd(matrix, full_matrices=False)[0]).max() > 0.1
    for found, wanted in zip(balanced_factors(matrix), expected, strict=True):
        close(found, wanted)


def test_a_zero_that_rounding_has_touched_is_a_zero():
    # Rank 2 in 20 dimensions; noise of 1e-15 would show as 3e-8 in the halves, were it rooted.
    rng = np.random.default_rng(1)
    matrix = with_singular_values(rng, 20, 20, np.array([4.0, 1.0]))
    noise = 1e-15 * rng.standard_normal((20, 20))
    for found, wanted in zip(
        balanced_factors(matrix + noise), balanced_factors(matrix), strict=True
    ):
        close(found, wanted)
        assert np.linalg.matrix_rank(found, tol=1e-9) == 2


def test_the_blocks_of_a_matrix():
    # Rows 0 and 2 meet in column 3; row 1 has columns 0 and 4; columns 1 and 2 are empty.
    B = sparse.csr_array(
        np.array([[0, 0, 0, 7, 0], [2, 0, 0, 0, 3], [0, 0, 0, 1, 0]] + 2 * [[0, 0, 0, 1, 0]])
    )
    blocks = [(rows.tolist(), columns.tolist()) for rows, columns in connected_blocks(B)]
    assert blocks == [([0, 2, 3, 4], [3]), ([1], [0, 4])]


@pytest.mark.parametrize("length", [7, 40])
def test_blocks_cover_every_nonzero_once_in_the_order_of_their_first_row(length):
    B = jla.targets.row_sparse(length, 1, rng=3)
    covered = np.zeros((length, length), dtype=int)
    first = []
    for rows, columns in connected_blocks(B):
        covered[np.ix_(rows, columns)] += 1
        first.append(rows[0])
    assert covered.max() == 1
    assert (covered[B.toarray() > 0] == 1).all()
    assert first == sorted(first)


def test_factors_of_the_blocks_are_blocks_of_the_factors():
    B = jla.targets.block_diagonal(12, 3, 2.0, rng=0)
    whole = balanced_factors(B.toarray())
    for rows, columns in connected_blocks(B):
        parts = balanced_factors(B[rows][:, columns].toarray())
        close(parts[0], whole[0][np.ix_(rows, columns)])
        close(parts[1], whole[1][np.ix_(columns, columns)])
