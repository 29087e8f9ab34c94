"""Fuzz the readers and `check_target`: ``python tests/fuzz_readers.py`` (about two minutes).

100 000 inputs by default: valid files with bytes flipped, cut, repeated or spliced, files whose
announced sizes and values are drawn from nasty ones, bytes from nowhere, and arrays for
`check_target`. Each must either be refused with the package's own error, within a second, or be a
target: right-stochastic, canonical and, where SciPy's or NumPy's own reader takes the same bytes,
the same matrix.
"""

import argparse
import collections
import faulthandler
import io
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import scipy.io
from scipy import sparse

import jl_attention as jla
from jl_attention.interop import files

SLOW = 1.0
"""Seconds after which an input counts as a hang; files are at most a few kilobytes."""

NASTY = [0, 1, -1, 2, 3, 7, 2**31 - 1, 2**31, 2**63 - 1, -(2**63), 10**9, 255]
NASTY_FLOATS = [
    0.0,
    -0.0,
    1.0,
    0.5,
    -1.0,
    np.nan,
    np.inf,
    -np.inf,
    5e-324,
    1e308,
    1 + 1e-9,
    1 + 1e-5,
]


def random_target(rng):
    length = int(rng.integers(1, 7))
    return jla.targets.row_sparse(length, int(rng.integers(1, length + 1)), 3.0, rng=rng)


def valid_file(kind, rng):
    """Return the bytes of a file that a reader must accept."""
    target, buffer = random_target(rng), io.BytesIO()
    if kind == "A.npy":
        np.save(buffer, np.asarray(target.toarray(), order=rng.choice(["C", "F"])))
    elif kind == "A.npz":
        form = rng.choice(["csr", "csc", "coo", "bsr", "dia"])
        sparse.save_npz(buffer, target.asformat(form), compressed=bool(rng.integers(2)))
    elif kind == "A.mtx":
        matrix = target if rng.integers(2) else target.toarray()
        scipy.io.mmwrite(buffer, matrix, precision=17)
    else:
        built = jla.construct(target, dim=target.shape[0], rng=rng, leak=0.5)
        with tempfile.TemporaryDirectory() as folder:
            files.save(built, Path(folder) / kind, full=bool(rng.integers(2)))
            buffer.write((Path(folder) / kind).read_bytes())
    return buffer.getvalue()


def mutated(content, rng):
    """Flip, cut, repeat, zero or splice some bytes."""
    content = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        if not content:
            break
        at = int(rng.integers(len(content)))
        kind = rng.integers(5)
        if kind == 0:
            content[at] = int(rng.integers(256))
        elif kind == 1:
            content[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del content[at:]
        elif kind == 3:
            content[at:at] = content[at : at + int(rng.integers(1, 20))]
        else:
            content[at : at + 8] = int(rng.choice(NASTY)).to_bytes(8, "little", signed=True)
    return bytes(content)


def nasty_file(suffix, rng):
    """Return a well-formed file with nasty contents."""
    buffer, size = io.BytesIO(), int(rng.integers(1, 5))

    def integers(count):
        return rng.choice(NASTY if rng.integers(3) == 0 else range(size + 1), count)

    def reals(count):
        return rng.choice(NASTY_FLOATS if rng.integers(2) else [1.0, 0.5], count)

    if suffix == ".mtx":
        layout = rng.choice(["coordinate", "array"])
        field = rng.choice(["real", "integer", "pattern", "complex"])
        symmetry = rng.choice(["general", "symmetric", "skew-symmetric"])
        shape = integers(3)
        lines = [f"%%MatrixMarket matrix {layout} {field} {symmetry}"]
        lines.append(" ".join(map(str, shape if layout == "coordinate" else shape[:2])))
        for value in reals(size):
            where = integers(2) if layout == "coordinate" else []
            lines.append(" ".join(map(str, [*where, value])))
        return "\n".join(lines).encode()
    if suffix == ".npy":
        kinds = ["<f8", "<i8", "|b1", "<c16", "<U3", "|O", "<f2", ">f4"]
        header = {"descr": str(rng.choice(kinds)), "fortran_order": bool(rng.integers(2))}
        header["shape"] = tuple(int(n) for n in integers(int(rng.integers(4))))
        np.lib.format.write_array_header_1_0(buffer, header)
        buffer.write(reals(size * size).tobytes())
        return buffer.getvalue()
    arrays = {
        "format": np.array(rng.choice([b"csr", b"csc", b"coo", b"bsr", b"dia", b"lil"])),
        "shape": integers(2) if rng.integers(3) == 0 else np.array([size, size]),
        "data": reals(size),
        "indices": integers(size),
        "indptr": integers(size + 1) if rng.integers(2) else np.arange(size + 1),
        "row": integers(size),
        "col": integers(size),
        "offsets": integers(1),
    }
    if arrays["format"] in (b"bsr", b"dia"):
        arrays["data"] = reals(size).reshape((1, size) if rng.integers(2) else (size, 1, 1))
    if rng.integers(4) == 0:
        del arrays[rng.choice(list(arrays))]
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def peer(path):
    """Return the matrix that SciPy or NumPy read from the same file, or None if they refuse.

    Nor is there one for Matrix Market: `scipy.io.mmread` crashes on some of these files.
    """
    if path.suffix == ".mtx":
        return None
    try:
        if path.suffix == ".npz":
            return sparse.load_npz(path)
        return np.load(path, allow_pickle=False)
    except Exception:  # a peer may fail in any way; then there is nothing to compare with
        return None


def is_target(matrix):
    """Whether a matrix is what `check_target` promises, by another computation."""
    dense = matrix.toarray()
    return (
        matrix.has_canonical_format
        and dense.shape[0] == dense.shape[1] > 0
        and bool((matrix.data > 0).all())
        and bool((np.abs(dense.sum(axis=1) - 1) <= 1.1e-6).all())
    )


def try_file(path, content):
    """Read a file; return "refused" or "accepted", or raise AssertionError."""
    path.write_bytes(content)
    try:
        if path.suffix == ".safetensors" or path.name.startswith("built"):
            built = jla.Construction.load(path)
            assert np.isfinite(built.X).all()
            return "accepted"
        target = files.read_target(path, max_bytes=10**6)
    except jla.JLAttentionError:
        return "refused"
    assert is_target(target), "a wrong acceptance"
    other = peer(path)
    assert other is None or np.array_equal(jla.check_target(other).toarray(), target.toarray())
    return "accepted"


def try_array(rng):
    """Hand `check_target` an array, sparse or not, of odd shape, dtype and values."""
    shape = tuple(int(n) for n in rng.integers(0, 5, rng.integers(4)))
    shape = shape[:1] * 2 if rng.integers(2) and shape else shape
    values = rng.choice(NASTY_FLOATS if rng.integers(2) else [0.0, 0.5, 1.0], shape)
    with np.errstate(all="ignore"):
        values = values.astype(rng.choice(["f8", "f4", "f2", "i8", "?", "c16", "U5", "O"]))
    if values.ndim == 2 and rng.integers(2) and values.dtype.kind in "fc" and values.itemsize > 2:
        values = sparse.coo_array(values).asformat(rng.choice(["csr", "csc", "coo", "lil", "dok"]))
        if values.format in ("csr", "csc") and rng.integers(4) == 0:
            array = values.indptr if rng.integers(2) else values.indices
            if array.size:
                array[rng.integers(array.size)] = rng.choice(NASTY[:6])
                return _refused_or_valid(values)
    try:
        target = jla.check_target(values)
    except jla.TargetError:
        return "refused"
    assert is_target(target), "a wrong acceptance"
    dense = values.toarray() if sparse.issparse(values) else values
    assert np.array_equal(target.toarray(), dense.astype(float))
    return "accepted"


def _refused_or_valid(matrix):
    """Hand `check_target` a compressed matrix whose index arrays were changed."""
    try:
        target = jla.check_target(matrix)
    except jla.TargetError:
        return "refused"
    assert is_target(target), "a wrong acceptance"
    return "accepted"


KINDS = ("A.npz", "A.mtx", "A.npy", "built.npz", "built.safetensors", "array")


def fuzz(inputs, seed=0):
    """Try that many inputs; return how many of each kind were refused and accepted."""
    rng, counts = np.random.default_rng(seed), collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        seeds = {kind: [valid_file(kind, rng) for _ in range(40)] for kind in KINDS[:-1]}
        for number in range(inputs):
            kind = KINDS[number % len(KINDS)]
            content, start = b"", time.monotonic()
            try:
                if kind == "array":
                    verdict = try_array(rng)
                else:
                    draw, path = rng.integers(20), Path(folder) / kind
                    content = seeds[kind][rng.integers(40)]
                    if draw == 0:
                        content = rng.bytes(int(rng.integers(300)))
                    elif draw > 12 and kind.startswith("A"):
                        content = nasty_file(path.suffix, rng)
                    elif draw > 1:
                        content = mutated(content, rng)
                    start = time.monotonic()
                    verdict = try_file(path, content)
                    assert draw != 1 or verdict == "accepted", "a valid file was refused"
                assert time.monotonic() - start < SLOW, "a hang"
            except Exception as error:
                raise AssertionError(f"input {number}, {kind}: {content!r}") from error
            counts[kind, verdict] += 1
    return counts


def main():
    """Fuzz and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("error")
    counts = fuzz(options.inputs, options.seed)
    for kind in KINDS:
        refused, accepted = counts[kind, "refused"], counts[kind, "accepted"]
        print(f"{kind:18s} {refused:7d} refused {accepted:7d} accepted")
    print(f"{sum(counts.values())} inputs: no crash, no hang, no wrong acceptance")


if __name__ == "__main__":
    main()
