"""The front page's picture: its drawn target, and what a pixel of it shows."""

import numpy as np
import pytest

import jl_attention as jla

front = pytest.importorskip("jl_attention_book.front", reason="needs the extra 'book'")


def test_the_drawn_target_has_at_most_four_tokens_a_row_and_its_curves():
    A = front.drawn_curves(256)
    counts = jla.targets.row_counts(A)
    assert counts.max() == 4
    assert counts.min() >= 1
    assert jla.targets.row_ratios(A).max() == pytest.approx(1.0)
    on = A.toarray() > 0
    assert on.diagonal().all()
    # the circle: symmetric about both middles, of radius 0.84
    row = 100
    x = 2 * row / 255 - 1
    half = round((np.sqrt(0.84**2 - x**2) + 1) / 2 * 255)
    assert on[row, half]
    assert on[row, 255 - half]
    # above the circle only the diagonal and the wave
    assert on[5].sum() == 2


def test_a_pixel_is_the_largest_entry_of_its_square():
    A = jla.targets.regular(64, 3, rng=0)
    built = jla.construct(A, "max_margin", dim=40, rng=0)
    pooled = front.pooled_attention(built, pixels=16)
    M = built.attention()
    assert pooled.shape == (16, 16)
    for i, j in [(0, 0), (3, 9), (15, 15)]:
        square = M[4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
        assert pooled[i, j] == pytest.approx(square.max(), rel=1e-12)
