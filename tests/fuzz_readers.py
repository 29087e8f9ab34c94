"""Fuzz the readers and `check_target`: ``python tests/fuzz_readers.py`` (about two minutes).

100 000 inputs by default: valid files with bytes flipped, cut, repeated or spliced, files whose
announced sizes and values are drawn from nasty ones, bytes from nowhere, and arrays for
`check_target`. Each must either be refused with the package's own error, within a second, or be a
target: right-stochastic, canonical and, where SciPy's, NumPy's or a slow reader takes the same
bytes, the same matrix. A third of the files are read with options drawn at random.
"""

import argparse
import collections
import faulthandler
import gzip
import io
import re
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import safetensors.numpy
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
    elif kind in ("A.mtx", "A.mtx.gz"):
        matrix = target if rng.integers(2) else target.toarray()
        scipy.io.mmwrite(buffer, matrix, precision=17)
        if kind == "A.mtx.gz":
            return gzip.compress(buffer.getvalue())
    elif kind == "A.safetensors":
        dense = np.ascontiguousarray(target.toarray())
        return safetensors.numpy.save({"attention": dense[(None,) * int(rng.integers(3))]})
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
        return nasty_matrix_market(integers, reals, size, rng)
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


def nasty_matrix_market(integers, reals, size, rng):
    """Return a Matrix Market file with odd spaces, comments, numbers and sizes."""
    layout = rng.choice(["coordinate", "array"])
    field = rng.choice(["real", "integer", "pattern", "complex", "unsigned-integer"])
    symmetry = rng.choice(["general", "symmetric", "skew-symmetric", "hermitian"])
    shape = integers(3) if rng.integers(2) else [size, size, size]
    lines = [rng.choice(["%", "%%"]) + f"MatrixMarket matrix {layout} {field} {symmetry}"]
    lines.append(" ".join(map(str, shape if layout == "coordinate" else shape[:2])))
    for row, value in enumerate(reals(size), start=1):
        where = (integers(2) if rng.integers(3) == 0 else [row, row]) if layout[0] == "c" else []
        value = rng.choice([value, *ODD_NUMBERS]) if rng.integers(3) == 0 else value
        words = [*where, value] if field != "pattern" or rng.integers(4) == 0 else where
        words = map(str, words)
        lines.append(rng.choice([" ", "\t", "  "], p=[0.8, 0.1, 0.1]).join(words))
        if rng.integers(6) == 0:
            lines[-1] = rng.choice([" ", "\t", "", "%x\n"]) + lines[-1] + rng.choice([" ", " % x"])
    return rng.choice(["\n", "\r\n", "\r"]).join([*lines, ""]).encode()


def slow_matrix_market(content):
    """Return what a Matrix Market file holds, line by line, or None if it is to be refused."""
    lines = re.split(rb"\r\n|\r|\n", content)
    banner = lines[0].lower().split()
    if len(banner) < 5 or banner[0].replace(b"%%", b"%") != b"%matrixmarket":
        return None
    kind, layout, field, symmetry = banner[1:5]
    symmetric, coordinate = symmetry in (b"symmetric", b"hermitian"), layout == b"coordinate"
    fields = [b"real", b"double", b"integer", b"unsigned-integer", b"pattern"][: 4 + coordinate]
    if kind != b"matrix" or field not in fields or layout not in (b"coordinate", b"array"):
        return None
    if not (symmetric or symmetry == b"general"):
        return None
    entries = [line.partition(b"%")[0].split() for line in lines[1:]]
    sizes, *entries = [words for words in entries if words] or [[]]
    if len(sizes) != 2 + coordinate or not all(re.fullmatch(rb"\d+", word) for word in sizes):
        return None
    (L, columns), dense = map(int, sizes[:2]), None
    where = [(i, j) for j in range(L) for i in range(j if symmetric else 0, L)] if L < 99 else []
    announced = int(sizes[2]) if coordinate else len(where)
    if columns != L or announced != len(entries) or not 0 < L <= 2 * announced:
        return None
    dense, sides = np.zeros((L, L)), set()
    for number, words in enumerate(entries):
        indices, numbers = (words[:2], words[2:]) if coordinate else ([], words)
        if len(words) != 1 + coordinate * (1 + (field != b"pattern")):
            return None
        if not all(re.fullmatch(rb"\+?\d+", word) for word in indices):
            return None
        if not all(re.fullmatch(PLAIN_NUMBER, word) for word in numbers):
            return None
        i, j = (int(word) - 1 for word in indices) if coordinate else where[number]
        if not (0 <= i < L and 0 <= j < L):
            return None
        value = float(numbers[0].lower().replace(b"d", b"e")) if numbers else 1.0
        if value < 0:  # what adds up to no negative entry is refused all the same
            return None
        sides.add(np.sign(i - j))
        for at in {(i, j), (j, i)} if symmetric else [(i, j)]:
            dense[at] += value
    return None if symmetric and {-1, 1} <= sides else dense


ODD_NUMBERS = ["1.", ".5", "+1", "1e0", "1D0", "1E+0", "0x1", "1_0", "1e", "1.0.0", "--1", "1-1"]
PLAIN_NUMBER = rb"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?"


def peer(path):
    """Return the matrix that SciPy, NumPy or the slow reader have from a file, None if none."""
    try:
        if path.suffix == ".mtx":
            return slow_matrix_market(path.read_bytes())
        if path.suffix == ".npz":
            return sparse.load_npz(path)
        matrix = np.load(path, allow_pickle=False)
        return matrix.reshape(matrix.shape[-2:])
    except Exception:  # a peer may fail in any way; then there is nothing to compare with
        return None


def random_options(rng):
    """Return options of `read_target`, sensible ones and others."""
    options = {
        "normalize": True,
        "head": rng.choice([0, 1, -1]).item(),
        "mask": str(rng.choice(["keep", "masked", "additive"])),
        "top_k": rng.choice([0, 1, 2, 99]).item(),
        "threshold": rng.choice(NASTY_FLOATS).item(),
        "self_loops": True,
        "padding": str(rng.choice(["drop", "self", "uniform"])),
        "array": str(rng.choice(["attention", "data", ""])),
    }
    chosen = rng.choice(list(options), int(rng.integers(1, 4)), replace=False)
    return {name: options[name] for name in chosen}


def is_target(matrix):
    """Whether a matrix is what `check_target` promises, by another computation."""
    dense = matrix.toarray()
    return (
        matrix.has_canonical_format
        and dense.shape[0] == dense.shape[1] > 0
        and bool((matrix.data > 0).all())
        and bool((np.abs(dense.sum(axis=1) - 1) <= 1.1e-6).all())
    )


def try_file(path, content, options):
    """Read a file; return "refused" or "accepted", or raise AssertionError."""
    path.write_bytes(content)
    try:
        if path.name.startswith("built"):
            built = jla.Construction.load(path)
            assert np.isfinite(built.X).all()
            return "accepted"
        target = files.read_target(path, max_bytes=10**6, **options)
    except jla.JLAttentionError:
        assert path.suffix != ".mtx" or options or not could_be_read(path), "a wrong refusal"
        return "refused"
    assert is_target(target), "a wrong acceptance"
    if options:
        return "accepted"
    other = peer(path)
    assert other is not None or path.suffix != ".mtx", "a file that the slow reader refuses"
    assert other is None or np.array_equal(jla.check_target(other).toarray(), target.toarray())
    return "accepted"


def could_be_read(path):
    """Whether the slow reader makes a target of a Matrix Market file."""
    matrix = peer(path)
    try:
        return matrix is not None and is_target(jla.check_target(matrix))
    except jla.TargetError:
        return False


def try_array(rng):
    """Hand `check_target` an array, sparse or not, of odd shape, dtype and values."""
    shape = tuple(int(n) for n in rng.integers(0, 5, rng.integers(4)))
    shape = shape[:1] * 2 if rng.integers(2) and shape else shape
    values = rng.choice(NASTY_FLOATS if rng.integers(2) else [0.0, 0.5, 1.0], shape)
    with np.errstate(all="ignore"):
        kinds = ["f8", ">f8", "f4", "f2", ">f2", "g", "i8", "?", "c16", "U5", "O"]
        values = values.astype(rng.choice(kinds))
    plain = values.dtype.str in ("<f8", "<f4", "<c16")
    if values.ndim == 2 and rng.integers(2) and plain:
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


KINDS = (
    "A.npz",
    "A.mtx",
    "A.npy",
    "A.mtx.gz",
    "A.safetensors",
    "built.npz",
    "built.safetensors",
    "array",
)


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
                    elif draw > 12 and kind in ("A.npz", "A.mtx", "A.npy"):
                        content = nasty_file(path.suffix, rng)
                    elif draw > 1:
                        content = mutated(content, rng)
                    start = time.monotonic()
                    options = random_options(rng) if draw % 3 == 0 else {}
                    verdict = try_file(path, content, options)
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
