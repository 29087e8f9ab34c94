"""Hypothesis profiles and strategies that the tests share."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

import jl_attention as jla

settings.register_profile("default", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("default")


@st.composite
def sparse_targets(draw, max_length=12):
    """Draw a random target with any support sizes and weights within a ratio of about 1e4."""
    length = draw(st.integers(1, max_length))
    seed = draw(st.integers(0, 2**32 - 1))
    density = draw(st.floats(0, 1))
    rng = np.random.default_rng(seed)
    weights = np.exp(rng.uniform(-5, 5, (length, length)))
    weights *= rng.random((length, length)) < density
    weights[np.arange(length), rng.integers(length, size=length)] = 1.0
    return jla.targets.normalize_rows(weights)
