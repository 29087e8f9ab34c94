"""A short run of the fuzzer, and a proof that it sees what it looks for."""

import pytest
from fuzz_readers import KINDS, fuzz
from scipy import sparse

from jl_attention import targets


def test_a_short_run_finds_nothing():
    counts = fuzz(1600, seed=1)
    assert sum(counts.values()) == 1600
    assert all(counts[kind, verdict] for kind in KINDS for verdict in ("refused", "accepted"))


def test_a_wrong_acceptance_is_found(monkeypatch):
    def careless(matrix, name):
        return sparse.csr_array(matrix, dtype=float)

    monkeypatch.setattr(targets, "check_target", careless)
    with pytest.raises(AssertionError, match="input"):
        fuzz(1600, seed=1)
