"""Matrix Market: the dialects that are read, the malformed files that are not, and SciPy's word."""

import io
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import jl_attention as jla
from jl_attention.errors import FileError
from jl_attention.interop.files import read_target
from jl_attention.interop.matrix_market import read_matrix_market

COORDINATE = "%%MatrixMarket matrix coordinate real general\n"
PLAIN = COORDINATE + "2 2 3\n1 1 0.5\n1 2 0.5\n2 2 1\n"
HALVES = [[0.5, 0.5], [0, 1]]
WEIGHTS = [[2, 1], [0, 1]]


def read(text):
    content = text if isinstance(text, bytes) else text.encode()
    return read_matrix_market(content, lambda shape, entries: None).toarray().tolist()


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("\n", "\r\r\n"),
        PLAIN.replace("\n", "\n\n"),
        PLAIN.rstrip("\n"),
        PLAIN + "\n \n\t\n",
        PLAIN.replace(" ", "  ").replace("0.5\n", "0.5 \t\n"),
        PLAIN.replace(COORDINATE, "").replace(" ", "\t").join([COORDINATE, ""]),
        PLAIN.replace("\n1", "\n  1").replace("\n2 2 1", "\n\t2 2 1"),
        PLAIN.replace("%%", "%", 1),
        PLAIN.replace("real", "double"),
        PLAIN.upper(),
        " " + PLAIN,
        PLAIN.replace("general", "general and more"),
        COORDINATE + "% one\n%\n  % two\n" + PLAIN.removeprefix(COORDINATE),
        PLAIN.replace("0.5\n", "0.5 % half\n").replace("2 2 1", "% all of it\n2 2 1"),
        PLAIN + "% the end",
        PLAIN.replace("0.5", "5e-1").replace("2 2 1\n", "2 2 1E0\n"),
        PLAIN.replace("0.5", ".5").replace("2 2 1\n", "2 2 1.\n"),
        PLAIN.replace("0.5", "+0.5").replace("2 2 1\n", "+2 2 +1.e+0\n"),
        PLAIN.replace("0.5", "5D-1").replace("2 2 1\n", "2 2 1d+0\n"),
        PLAIN.replace("0.5", "0.5000000000000000000000000000000000000000000"),
        PLAIN.replace("1 1 0.5", "1 1 0.25\n1 1 0.25").replace("2 2 3", "2 2 4"),
        "%%MatrixMarket matrix array real general\n2 2\n0.5\n0\n0.5\n1\n",
    ],
)
def test_dialects(text):
    assert read(text) == HALVES


@pytest.mark.parametrize(
    ("field", "entries", "expected"),
    [
        ("integer", "1 1 2\n1 2 1\n2 2 1\n", WEIGHTS),
        ("unsigned-integer", "1 1 2\n1 2 1\n2 2 1\n", WEIGHTS),
        ("integer", "1 1 2.5\n1 2 1\n2 2 1\n", [[2.5, 1], [0, 1]]),  # for SciPy 2.5 is 2
        ("integer", "1 1 36893488147419103232\n1 2 1\n2 2 1\n", [[2**65, 1], [0, 1]]),
        ("pattern", "1 1\n1 2\n2 2\n", [[1, 1], [0, 1]]),
        ("real", "1 1 1e-400\n1 2 1e400\n2 2 1\n", [[0, np.inf], [0, 1]]),
    ],
)
def test_fields(field, entries, expected):
    assert read(COORDINATE.replace("real", field) + "2 2 3\n" + entries) == expected


@pytest.mark.parametrize("symmetry", ["symmetric", "hermitian"])
@pytest.mark.parametrize("entries", ["2 1 3\n2 2 1\n", "1 2 3\n2 2 1\n"])
def test_either_half_of_a_symmetric_matrix(symmetry, entries):
    text = COORDINATE.replace("general", symmetry) + "2 2 2\n" + entries
    assert read(text) == [[0, 3], [3, 1]]
    packed = "%%MatrixMarket matrix array real symmetric\n3 3\n1\n2\n3\n4\n5\n6\n"
    assert read(packed) == [[1, 2, 3], [2, 4, 5], [3, 5, 6]]


def test_comments_of_any_alphabet_end_where_lines_end():
    # The letter U+0445 has the byte 0x85, which is an end of line in Latin-1.
    comment = "% матрица переходов\n% \x0b \x0c \x1c \u2028\n".encode()
    assert read(PLAIN.encode().replace(b"2 2 3\n", comment + b"2 2 3\n")) == HALVES


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("1 1 0.5\n1 2 0.5\n", "truncated: 3 entries are announced, 2 lines follow"),
        ("1 1 0.5\n1 2 0.5\n2 2 1\n2 1 1\n", "too many lines: 3 entries are announced, 4 lines"),
        ("1 1 0.5\n1 2 0.5\n2 2\n", "line 5: '2 2' is not two indices and a number"),
        ("1 1 0.5\n1 2 0.5 7\n2 2 1\n", "line 4: '1 2 0.5 7' is not two indices and a number"),
        (
            "1 1 0.5 1 2 0.5 2 2 1\n\n\n",
            "line 3: '1 1 0.5 1 2 0.5 2 2 1' is not",
        ),
        ("1 1 0.5\n1 2 0.5 2\n2 1\n", "line 4: '1 2 0.5 2' is not"),
        ("1 1\n0.5 1 2 0.5\n2 2 1\n", "line 3: '1 1' is not"),
        ("1 1 0.5\n1.5 2 1\n2 2 1\n", "line 4: '1.5 2 1' is not"),
        ("1 1 0.5\n1 1.5 1\n2 2 1\n", "line 4: '1 1.5 1' is not"),
        ("1 1 0.5\n1 1e0 1\n2 2 1\n", "line 4: '1 1e0 1' is not"),
        ("1 1 0.5\n-1 2 1\n2 2 1\n", "line 4: '-1 2 1' is not"),
        ("1 1 0.5\n0 2 1\n2 2 1\n", "line 4: '0 2 1' is outside the matrix"),
        ("1 1 0.5\n1 3 1\n2 2 1\n", "line 4: '1 3 1' is outside the matrix"),
        ("1 1 0.5\n1 99999999999999999999 1\n2 2 1\n", "is outside the matrix"),
        *(
            (f"1 1 0.5\n1 2 {number}\n2 2 1\n", f"line 4: '1 2 {number}' is not")
            for number in (
                *("1.5.2", "1e5e2", "1e5.2", "1e", "1e-", "e5", ".", "-", "1-2", "--1", "+-1"),
                *("1_0", "0x1", "1,5", "one", "1;", "½", "1e+.5", "..", "1..", "ee"),
            )
        ),
        ("1 1 0.5\n1 2 nan\n2 2 1\n", "line 4: '1 2 nan' is not finite"),
        ("1 1 0.5\n1 2 -Infinity\n2 2 1\n", "line 4: '1 2 -Infinity' is not finite"),
        ("1 1 0.5\n1 2 0.5\0\n2 2 1\n", "line 4"),
        ("1 1 0.5\n1 2 0.5\n2 2 1e\n", "line 5: '2 2 1e' is not"),
        ("1 1 0.5\n1 2\f0.5\n2 2 1\n", "an entry is not two indices and a number"),
    ],
)
def test_the_line_that_is_wrong_is_named(entries, message):
    with pytest.raises(FileError) as caught:
        read((COORDINATE + "2 2 3\n" + entries).encode("latin-1"))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("%%MatrixMarket matrix coordinate real\n", "the first line is not"),
        ("%% MatrixMarket matrix coordinate real general\n", "the first line is not"),
        ("%%MatrixMarket vector coordinate real general\n", "the first line is not"),
        ("MatrixMarket matrix coordinate real general\n", "the first line is not"),
        ("%%MatrixMarket matrix coordinate complex general\n", "field 'complex'"),
        ("%%MatrixMarket matrix coordinate real skew-symmetric\n", "'skew-symmetric'"),
        ("%%MatrixMarket matrix row real general\n", "layout 'row'"),
        ("%%MatrixMarket matrix array pattern general\n", "field 'pattern'"),
    ],
)
def test_headers_that_are_not_read(header, message):
    with pytest.raises(FileError, match=message):
        read(header + "2 2 3\n1 1 0.5\n1 2 0.5\n2 2 1\n")


@pytest.mark.parametrize("sizes", ["2 2", "2 2 3 4", "2 2 -3", "2 2 3.0", "2 2 x", f"2 2 {10**18}"])
def test_lines_of_sizes_that_are_none(sizes):
    with pytest.raises(FileError, match="the line of sizes is"):
        read(COORDINATE + sizes + "\n1 1 0.5\n1 2 0.5\n2 2 1\n")


def test_both_halves_of_a_symmetric_matrix_are_refused():
    # SciPy would add them up.
    text = COORDINATE.replace("general", "symmetric") + "3 3 3\n2 1 1\n2 3 1\n1 1 1\n"
    with pytest.raises(FileError, match="both sides of the diagonal"):
        read(text)


def test_announced_sizes_are_refused_before_anything_is_made(tmp_path):
    path = tmp_path / "A.mtx"
    for sizes in ("1000000000 1000000000 1", "9 9 1000000000000", "3 3 2"):
        path.write_text(COORDINATE + sizes + "\n1 1 1\n")
        with pytest.raises(jla.ParameterError, match="some row is empty|truncated"):
            read_target(path)


numbers = st.floats(min_value=0, allow_nan=False, allow_infinity=False)


@given(
    entries=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), numbers), max_size=9),
    seed=st.integers(0, 2**32),
)
def test_numbers_are_read_to_the_last_bit_whatever_stands_around_them(entries, seed):
    rng = np.random.default_rng(seed)

    def spelt(value):
        text = rng.choice([repr(value), f"{value:.17e}", f"+{value!r}", f"{value:.17E}"])
        return text.replace("e", rng.choice(["e", "D", "d", "E"])) if "e" in text else text

    def spaced(words):
        left, right = rng.choice(["", " ", "\t"], 2)
        return left + rng.choice([" ", "\t", "  "]).join(words) + right

    lines = [COORDINATE.strip(), spaced(["5", "5", str(len(entries))])]
    for i, j, value in entries:
        lines.append(spaced([str(i + 1), str(j + 1), spelt(value)]))
        lines += rng.choice(["", "% so", "  %1 1 1"], int(rng.integers(2))).tolist()
    content = rng.choice(["\n", "\r\n", "\r"]).join([*lines, ""]).encode()
    matrix = read_matrix_market(content, lambda shape, entries: None)
    found = zip(matrix.row.tolist(), matrix.col.tolist(), matrix.data.tolist(), strict=True)
    assert list(found) == entries


@given(seed=st.integers(0, 2**32), symmetry=st.sampled_from(["general", "symmetric"]))
def test_what_scipy_writes_is_read_as_scipy_reads_it(seed, symmetry):
    rng = np.random.default_rng(seed)
    weights = rng.random((6, 6)) * (rng.random((6, 6)) < 0.5) + np.eye(6)
    weights = weights + weights.T if symmetry == "symmetric" else weights
    for matrix in (weights, sparse.coo_array(weights)):
        file = io.BytesIO()
        scipy.io.mmwrite(file, matrix, precision=17, symmetry=symmetry)
        np.testing.assert_array_equal(read(file.getvalue()), weights)


CRASH = """
import io, sys, scipy.io
scipy.io.mmread(io.BytesIO(sys.stdin.buffer.read()))
"""


def test_what_may_crash_scipy_is_refused_before_it_gets_there(monkeypatch):
    content = PLAIN.replace("2 2 1", "2 2 1\0").encode()
    crashed = subprocess.run([sys.executable, "-c", CRASH], input=content, capture_output=True)
    assert crashed.returncode != 0  # a segmentation fault, or an error in a version without it

    def unreachable(source):
        pytest.fail("SciPy was given it")

    monkeypatch.setattr(scipy.io, "mmread", unreachable)
    with pytest.raises(FileError, match="line 5"):
        read(content)


def test_no_list_of_lines_is_made_of_a_good_file(monkeypatch):
    """A file of 800 000 entries takes under half a second of processor time that way."""

    def slow(header, content, start):
        pytest.fail("every line was looked at")

    monkeypatch.setattr("jl_attention.interop.matrix_market._refuse_first_bad_line", slow)
    target = jla.targets.row_sparse(2000, 4, 3.0, rng=0)
    file = io.BytesIO()
    scipy.io.mmwrite(file, target, precision=17)
    matrix = read_matrix_market(file.getvalue(), lambda shape, entries: None)
    assert (jla.check_target(matrix) != target).nnz == 0
