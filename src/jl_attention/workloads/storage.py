"""Workloads in files: ``.npz``, or ``.safetensors`` with the extra ``files``.

Q and K stand there as (H, L, m) and (KV, L, m), in float16 where that is exact and in float32
otherwise; of each head h the truth as ``truth_h_indptr``, ``truth_h_indices``, ``truth_h_data`` and
``truth_h_planted``, a csr matrix and a flag for each of its entries. Everything else is JSON.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from ..errors import FileError, TargetError, check_int
from ..interop.containers import errors_named, read_arrays, write_arrays
from .certificate import Certificate
from .patterns import Pattern, given

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from .workload import Workload

__all__ = [
    "FORMAT",
    "MAX_BYTES",
    "load",
    "save",
]

FORMAT = "jl-attention workload 1"
"""What a saved workload calls itself."""

MAX_BYTES = 2**32
"""Largest file that is read unless asked otherwise: 4 GiB, eight heads of 131 072 tokens."""

_PARTS = ("indptr", "indices", "data", "planted")


def save(workload: Workload, path: str | Path) -> None:
    """Write a workload; see `Workload.save`."""
    exact = "float16" in workload.certificate.formats
    arrays = {
        name: array.astype(np.float16) if exact else array
        for name, array in (("Q", workload.Q), ("K", workload.K))
    }
    for head, pattern in enumerate(workload.patterns):
        truth = pattern.truth
        parts = (truth.indptr, truth.indices.astype(np.int32), truth.data, pattern.planted)
        arrays |= {f"truth_{head}_{p}": a for p, a in zip(_PARTS, parts, strict=True)}
    about = {
        "format": FORMAT,
        "settings": workload.settings,
        "certificate": workload.certificate.as_dict(),
    }
    write_arrays(path, arrays, json.dumps(about))


def load(path: str | Path, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Return the fields of the workload in a file; see `Workload.load`."""
    arrays, about = read_arrays(path, check_int("max_bytes", max_bytes), "a workload")
    with errors_named(path):
        about = json.loads(about)
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise FileError(f"not a workload in the format {FORMAT!r}")
        Q, K = (_floats(arrays, name) for name in ("Q", "K"))
        if Q.shape[1:] != K.shape[1:] or not len(K) or len(Q) % len(K):
            raise FileError(f"Q of shape {Q.shape} and K of shape {K.shape} do not fit")
        certificate = Certificate(**about["certificate"])
        return {
            "Q": Q,
            "K": K,
            "patterns": tuple(_pattern(arrays, head, Q.shape[1]) for head in range(len(Q))),
            "certificate": Certificate(
                **{**about["certificate"], "formats": tuple(certificate.formats)}
            ),
            "settings": dict(about["settings"]),
        }


def _floats(arrays, name):
    array = arrays.get(name)
    if array is None or array.ndim != 3 or array.dtype not in (np.float16, np.float32):
        raise FileError(f"{name}: expected an array of three axes in float16 or float32")
    if not np.isfinite(array).all():
        raise FileError(f"{name}: an entry is not finite")
    return array.astype(np.float32)


def _pattern(arrays, head, length):
    indptr, indices, data, planted = (arrays[f"truth_{head}_{part}"] for part in _PARTS)
    if planted.shape != data.shape or planted.dtype != bool:
        raise FileError(f"truth_{head}_planted: expected one flag for each entry")
    try:
        truth = given(sparse.csr_array((data, indices, indptr), shape=(length, length))).truth
    except TargetError as error:
        raise FileError(f"truth_{head}: {error}") from None
    if truth.nnz != len(data):
        raise FileError(f"truth_{head}: has duplicate or zero entries")
    return Pattern(truth, planted.copy())
