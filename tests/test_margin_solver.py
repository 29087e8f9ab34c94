"""The shortest query with exact ratios and a given gap, or the proof that there is none."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import linprog, nnls

import jl_attention as jla
from jl_attention.certificates import prove_infeasible
from jl_attention.codes import unit_codes
from jl_attention.methods import least_distance, margin_solver
from jl_attention.methods.margin_solver import shortest_queries


def rows_of(supports, length, values=None):
    """Return target logits with these supports; all 1 if no values are given."""
    indptr = np.cumsum([0, *map(len, supports)])
    data = np.ones(indptr[-1]) if values is None else np.concatenate(values)
    return sparse.csr_array((data, np.concatenate(supports), indptr), (len(supports), length))


def distance_to_optimality(query, keys, support, values, gap, visible=None):
    """Return how far a feasible query is from the conditions of Karush, Kuhn and Tucker.

    The shortest feasible query, and only it, is a combination of the equalities' normals and a
    nonnegative one of those of the constraints that it meets with equality.
    """
    weakest = support[np.argmin(values)]
    off = np.setdiff1d(np.arange(len(keys) if visible is None else visible), support)
    length = np.linalg.norm(query)
    rounding = 1e-13 * length * np.abs(keys).max()
    equal = keys[support] - keys[weakest]
    error = np.abs(equal @ query - (values - values.min())).max()
    assert error <= 1e-8 * gap + rounding
    margins = (keys[weakest] - keys[off]) @ query
    assert margins.min(initial=np.inf) >= gap * (1 - 2e-9) - rounding
    active = keys[weakest] - keys[off[margins < gap * (1 + 1e-6)]]
    if not length:
        return 0.0
    normals = np.vstack([equal, -equal, active]).T / np.abs(keys).max()
    return nnls(normals, query / length)[1]


def assert_proves(certificate, keys, support, values, gap, visible=None):
    """Check a convex combination: it proves that any query is longer than 1e9 gaps."""
    u, a = certificate.weights, certificate.coefficients
    off = np.setdiff1d(np.arange(len(keys) if visible is None else visible), support)
    assert np.isin(certificate.competitors, off).all()
    np.testing.assert_array_equal(certificate.support, support)
    assert (u >= 0).all()
    assert u.sum() == pytest.approx(a.sum(), rel=1e-9, abs=1e-9)
    distance = np.linalg.norm(u @ keys[certificate.competitors] - a @ keys[support])
    contradiction = gap * u.sum() + a @ (values - values.min())
    assert contradiction > 0
    longest = np.linalg.norm(keys, axis=1).max()
    assert contradiction * longest > 0.4e9 * gap * distance
    assert certificate.least_length * longest > 0.4e9 * gap


@st.composite
def problems(draw):
    """Draw keys of several kinds, rows with weights, a gap and how many tokens each row sees."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    length, dim = draw(st.integers(1, 30)), draw(st.integers(1, 10))
    keys = rng.standard_normal((length, dim))
    kind = draw(st.sampled_from(["gaussian", "grid", "twins", "shifted"]))
    if kind == "grid":  # ties everywhere
        keys = np.rint(keys)
    elif kind == "twins":
        keys = keys[rng.integers(0, max(1, length // 2), length)]
    elif kind == "shifted":
        keys += 10 * rng.standard_normal(dim)
    gap = 10.0 ** draw(st.integers(-6, 9))
    visible = rng.integers(1, length + 1, 4)
    supports = [
        np.sort(rng.choice(v, draw(st.integers(1, min(v, 5))), replace=False)) for v in visible
    ]
    spread = draw(st.sampled_from([0.0, 2.0]))
    values = [gap * (1 + spread * rng.random(len(support))) for support in supports]
    return keys, supports, values, gap, visible


@settings(max_examples=150)
@given(problems())
def test_every_row_is_the_shortest_or_proved_impossible(problem):
    keys, supports, values, gap, visible = problem
    B = rows_of(supports, len(keys), values)
    result = shortest_queries(B, keys, gap, visible=visible)
    assert sorted([*result.found, *result.infeasible]) == [0, 1, 2, 3]
    for i in result.found:
        row = keys, supports[i], values[i], gap, visible[i]
        assert distance_to_optimality(result.queries[i], *row) < 1e-8
    for i in result.infeasible:
        assert_proves(result.certificates[i], keys, supports[i], values[i], gap, visible[i])
        assert np.isnan(result.queries[i]).all()


@pytest.mark.parametrize("dim", [14, 18])
def test_agrees_with_linear_programming_near_the_threshold(dim):
    B = jla.logits.target_logits(jla.targets.row_sparse(256, 4, 2.0, rng=0), 1.0)[:40]
    keys = unit_codes(256, dim, 1)
    result = shortest_queries(B, keys)
    assert min(len(result.found), len(result.infeasible)) >= 3
    for i in range(40):
        at = slice(B.indptr[i], B.indptr[i + 1])
        support, values = B.indices[at], B.data[at]
        off = np.setdiff1d(np.arange(256), support)
        weakest = support[np.argmin(values)]
        program = linprog(
            np.zeros(dim),
            keys[off] - keys[weakest],
            -np.ones(len(off)),
            keys[support] - keys[weakest],
            values - values.min(),
            bounds=(None, None),
        )
        assert (program.status == 0) == (i in result.found)


def lengths_by_nnls(B, keys, rows):
    """Return the lengths of the shortest queries by Lawson and Hanson, all constraints at once."""
    gap, lengths = B.data.min(), []
    for row in rows:
        at = slice(B.indptr[row], B.indptr[row + 1])
        support, values = B.indices[at], B.data[at]
        off = np.setdiff1d(np.arange(len(keys)), support)
        weakest = support[np.argmin(values)]
        D = keys[support] - keys[weakest]
        inverse = np.linalg.pinv(D)
        p = inverse @ (values - values.min())
        G = keys[weakest] - keys[off]
        h = (gap - G @ p) / gap
        G -= (G @ inverse) @ D
        last = np.append(np.zeros(keys.shape[1]), 1.0)
        u, _ = nnls(np.vstack([G.T, h]), last)
        y = np.linalg.lstsq(G[u > 0], h[u > 0] * gap, rcond=None)[0]
        lengths.append(np.hypot(np.linalg.norm(p), np.linalg.norm(y)))
    return np.array(lengths)


@pytest.mark.parametrize(("dim", "max_ratio"), [(40, 1.0), (40, 3.0), (64, 2.0)])
def test_lengths_agree_with_nonnegative_least_squares(dim, max_ratio):
    target = jla.targets.row_sparse(512, 4, max_ratio, rng=0)
    B = jla.logits.target_logits(target, np.log(100))[:12]
    keys = unit_codes(512, dim, 0)
    result = shortest_queries(B, keys)
    assert len(result.found) == 12
    lengths = np.linalg.norm(result.queries, axis=1)
    np.testing.assert_allclose(lengths, lengths_by_nnls(B, keys, range(12)), rtol=1e-9)


def test_orthonormal_keys_have_a_formula():
    # q = alpha + d on S and alpha - 1 off it, alpha = (L - k - sum d)/L.
    d = np.array([0.0, 0.3, 1.7])
    B = rows_of([[2, 5, 7], [2, 5, 7]], 9, [1 + d, 1 + 0 * d])
    result = shortest_queries(B, np.eye(9), 1.0)
    np.testing.assert_allclose(result.queries[0][[2, 5, 7]], (6 - 2.0) / 9 + d, rtol=1e-9)
    np.testing.assert_allclose(result.queries[0][[0, 1, 3, 4, 6, 8]], -5 / 9, rtol=1e-9)
    assert np.linalg.norm(result.queries[1]) == pytest.approx(np.sqrt(3 * 6 / 9), rel=1e-9)


def circle(length):
    """Return `length` keys on a circle, and the shortest query's length for one of them, gap 1."""
    angles = 2 * np.pi * np.arange(length) / length
    return np.column_stack([np.cos(angles), np.sin(angles)]), 1 / (1 - np.cos(angles[1]))


@pytest.mark.parametrize("gap", [1e-6, 1e-3, 1.0, 1e6, 1e9])
@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
def test_neither_the_gap_nor_the_keys_unit_matters(gap, unit):
    target = jla.targets.row_sparse(200, 3, rng=0)
    B = jla.logits.target_logits(target, 1.0)[:30]
    keys = unit_codes(200, 16, 0)
    one, other = shortest_queries(B, keys), shortest_queries(gap * B, unit * keys)
    assert 3 <= len(one.infeasible) <= 27
    np.testing.assert_array_equal(one.infeasible, other.infeasible)
    np.testing.assert_allclose(
        other.queries[one.found] * (unit / gap), one.queries[one.found], rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize(("length", "rtol"), [(100, 1e-9), (2000, 1e-9), (20000, 1e-6)])
def test_long_queries_keep_their_digits(length, rtol):
    # 5e2, 2e5 and 2e7 gaps.
    keys, exact = circle(length)
    result = shortest_queries(rows_of([[j] for j in range(7)], length), keys)
    assert len(result.found) == 7
    np.testing.assert_allclose(np.linalg.norm(result.queries, axis=1), exact, rtol=rtol)


def test_queries_beyond_the_digits_are_neither_found_nor_denied_silently():
    keys, exact = circle(400_000)  # 8e9 gaps
    B = rows_of([[0], [5]], len(keys))
    result = shortest_queries(B, 100 * keys)
    assert list(result.infeasible) == [0, 1]
    for certificate in result.certificates.values():
        # Close to the true length, and not a proof that there is no query at all.
        assert 0.3 * exact < 100 * certificate.least_length < 1.001 * exact
        u, a = certificate.weights, certificate.coefficients
        distance = u @ keys[certificate.competitors] - a @ keys[certificate.support]
        assert certificate.distance == pytest.approx(100 * np.linalg.norm(distance), rel=1e-3)
        with pytest.raises(jla.ConstructionError, match="no common point"):
            prove_infeasible(certificate, keys)


def test_a_combination_that_proves_nothing_leaves_the_row_unresolved(monkeypatch):
    keys = unit_codes(40, 5, 0)
    keys[0] = keys[1:].mean(axis=0)
    B = rows_of([[0]], 40)
    assert list(shortest_queries(B, keys).infeasible) == [0]
    monkeypatch.setattr(
        least_distance.LeastDistance, "combination", lambda *_: (np.array([1, 2]), np.ones(2))
    )
    result = shortest_queries(B, keys)
    assert list(result.unresolved) == [0]
    assert not result.certificates


def test_blocks_stay_within_their_memory(monkeypatch):
    shapes, solve = [], margin_solver._Problem.solve

    def record(problem, support, values, visible):
        shapes.append(support.shape)
        return solve(problem, support, values, visible)

    monkeypatch.setattr(margin_solver._Problem, "solve", record)
    supports = [np.arange(1)] * 30 + [np.arange(250)] * 3
    shortest_queries(rows_of(supports, 300), unit_codes(300, 16, 0), block_bytes=2**20)
    assert sum(n for n, _ in shapes) == 33
    assert max(n * size for n, size in shapes) <= 2**20 / (8 * 3 * 16)
    assert len(shapes) > 2


def test_the_least_norm_is_that_of_the_pseudo_inverse():
    rng = np.random.default_rng(0)
    normals, values = rng.standard_normal((5, 6, 9)), rng.standard_normal((5, 6))
    normals[0, 4], values[0, 4] = 0, 0  # an empty slot
    q, u = least_distance.least_norm(normals, values)
    np.testing.assert_allclose(q, (np.linalg.pinv(normals) @ values[..., None])[..., 0], rtol=1e-9)
    np.testing.assert_allclose((u[:, None] @ normals)[:, 0], q, atol=1e-11)
    assert least_distance.largest_error(q, normals, values).max() < 1e-11
    normals[1, 3] = normals[1, 2]  # contradicting twins
    q, _ = least_distance.least_norm(normals, values)
    assert least_distance.largest_error(q, normals, values)[1] > 0.1


def test_the_conditions_of_the_optimum_are_all_checked():
    N, u = np.eye(3)[None, :2], np.array([[2.0, 3.0]])
    q, inequality = np.array([[2.0, 3.0, 0.0]]), np.array([[True, False]])
    check = least_distance.is_shortest
    assert check(q, u, N, u, inequality).all()
    assert not check(q, u, N, u + [[1e-9, 0]], inequality).any()  # a constraint is not met
    off = q + [[0, 0, 1e-8]]
    assert not check(off, u, N, u, inequality).any()  # not a combination of normals
    assert check(-q, -u, N, -u, ~inequality | inequality).sum() == 0  # a negative multiplier
    assert check(-q, -u, N, -u, inequality & False).all()  # of equalities only


def test_repair_drops_negative_multipliers():
    keys = np.array([[0.0, 0.0], [-1.0, 0.0], [-1.0, -0.1]])
    rows = least_distance.Rows(keys, keys[:1], np.zeros((1, 0, 2)), np.zeros((1, 0)))
    search = least_distance.LeastDistance(rows)
    search.active[0] = [
        1,
        2,
    ]  # normals (1, 0) and (1, 0.1): both with equality is (1, 0), u = (1, 0)
    keys[2, 1] = -0.5
    keys[2, 0] = -2.0
    search.repair(np.array([True]))
    assert (search.multipliers >= 0).all()
    assert least_distance.is_shortest(
        search.queries, search.multipliers, *search.system(), search.active >= 0
    ).all()


def test_polishing_restores_the_digits():
    rows_keys = unit_codes(30, 8, 0)
    rows = least_distance.Rows(rows_keys, rows_keys[:1], np.zeros((1, 0, 8)), np.zeros((1, 0)))
    search = least_distance.LeastDistance(rows)
    outcome, _, sound = search.run(np.arange(1, 30)[None])
    assert outcome[0] == least_distance.SOLVED
    assert sound[0]
    exact = search.queries.copy()
    search.queries *= 1 + 1e-6
    assert search._polish().all()
    np.testing.assert_allclose(search.queries, exact, rtol=1e-11)


def test_visible_tokens_alone_compete():
    keys = unit_codes(60, 8, 0)
    seen = np.array([5, 20, 60])
    B = rows_of([[0, 3]] * 3, 60)
    result = shortest_queries(B, keys, visible=seen)
    for i, count in enumerate(seen):
        alone = shortest_queries(rows_of([[0, 3]], count), keys[:count])
        assert (i in result.found) == (0 in alone.found)
        if i in result.found:
            np.testing.assert_allclose(result.queries[i], alone.queries[0], rtol=1e-8)
    assert np.linalg.norm(result.queries[0]) < np.linalg.norm(result.queries[1])


def test_nothing_to_separate():
    keys = unit_codes(4, 3, 0)
    result = shortest_queries(rows_of([[0, 1], [2]], 4), keys, visible=[2, 3])
    assert not result.queries[0].any()
    assert len(result.found) == 2
    alone = shortest_queries(rows_of([[0]], 1), keys[:1])
    assert not alone.queries.any()


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_nothing_to_separate_one_by_one(monkeypatch, backend):
    monkeypatch.setattr(margin_solver, "require", lambda *_: None)
    monkeypatch.setattr(margin_solver, "EXCHANGES", 0)
    result = shortest_queries(rows_of([[0, 1]], 2), unit_codes(2, 3, 0), backend=backend)
    assert not result.queries.any()


def test_ratios_out_of_reach_have_a_certificate_without_competitors():
    keys = np.array([[1.0, 0], [2.0, 0], [3.0, 0], [0, 1.0]])  # the second is the others' mean
    values = np.array([1.0, 2.0, 1.0])
    result = shortest_queries(rows_of([[0, 1, 2]], 4, [values]), keys, 1.0)
    assert list(result.infeasible) == [0]
    certificate = result.certificates[0]
    assert len(certificate.competitors) == len(certificate.weights) == 0
    np.testing.assert_allclose(certificate.coefficients, [-0.5, 1.0, -0.5], atol=1e-12)
    assert certificate.contradiction == pytest.approx(1.0, rel=1e-9)


def test_a_twin_of_the_support_is_its_own_certificate():
    keys = unit_codes(9, 4, 0)
    keys[7] = keys[2]
    certificate = shortest_queries(rows_of([[2]], 9), keys).certificates[0]
    np.testing.assert_array_equal(certificate.competitors, [7])
    assert certificate.distance < 1e-15


def test_what_is_cut_off_is_unresolved(monkeypatch):
    B, keys = rows_of([[0, 1]], 50), unit_codes(50, 12, 0)
    assert len(shortest_queries(B, keys).found) == 1
    monkeypatch.setattr(margin_solver, "EXCHANGES", 0)
    assert len(shortest_queries(B, keys).found) == 1
    monkeypatch.setattr(least_distance, "STEPS", 0.1)
    result = shortest_queries(B, keys)
    assert list(result.unresolved) == [0]
    assert not result.certificates
    assert np.isnan(result.queries).all()
    with pytest.raises(jla.ConstructionError, match="1 unresolved"):
        jla.methods.MaxMargin().build(
            rows_of([[0, 1]] * 50, 50)[:1], 12, 0, np.dtype(float), keys=jla.codes.GivenCodes(keys)
        )


def test_exchanges_and_single_steps_agree(monkeypatch):
    B = jla.logits.target_logits(jla.targets.row_sparse(400, 3, 2.0, rng=0), 4.0)[:40]
    keys = unit_codes(400, 20, 0)
    both = shortest_queries(B, keys)
    monkeypatch.setattr(margin_solver, "EXCHANGES", 0)
    steps = shortest_queries(B, keys)
    np.testing.assert_array_equal(both.infeasible, steps.infeasible)
    np.testing.assert_allclose(
        np.linalg.norm(both.queries[both.found], axis=1),
        np.linalg.norm(steps.queries[both.found], axis=1),
        rtol=1e-9,
    )


def test_spoiled_factors_are_repaired(monkeypatch):
    polish = least_distance.LeastDistance._polish
    calls = []

    def spoil(search):
        calls.append(len(search))
        if len(calls) == 1:
            search.updates *= 1.01
        return polish(search)

    B, keys = rows_of([[0, 1], [2, 3]], 60), unit_codes(60, 14, 0)
    expected = shortest_queries(B, keys).queries
    monkeypatch.setattr(margin_solver, "EXCHANGES", 0)
    monkeypatch.setattr(least_distance.LeastDistance, "_polish", spoil)
    result = shortest_queries(B, keys)
    assert len(calls) > 1
    np.testing.assert_allclose(result.queries, expected, rtol=1e-8)


def test_blocks_do_not_matter():
    rng = np.random.default_rng(0)
    supports = [rng.choice(300, 1 + i % 6, replace=False) for i in range(50)]
    B = rows_of(supports, 300, [1 + rng.random(len(support)) for support in supports])
    keys = unit_codes(300, 30, 0)
    one = shortest_queries(B, keys)
    many = shortest_queries(B, keys, block_bytes=1)
    np.testing.assert_array_equal(one.found, many.found)
    np.testing.assert_allclose(one.queries, many.queries, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("dim", [6, 12])
def test_the_other_factorisation_agrees(monkeypatch, dim):
    # Plain Python where numba is not installed.
    monkeypatch.setattr(margin_solver, "require", lambda *_: None)
    rows, length = (40, 400) if importlib.util.find_spec("numba") else (12, 60)
    B = jla.logits.target_logits(jla.targets.row_sparse(length, 3, 2.0, rng=0), 4.0)[:rows]
    keys = unit_codes(length, dim, 0)
    keys[7] = keys[8]  # ties
    plain, compiled = shortest_queries(B, keys), shortest_queries(B, keys, backend="numba")
    np.testing.assert_array_equal(plain.infeasible, compiled.infeasible)
    np.testing.assert_array_equal(plain.found, compiled.found)
    np.testing.assert_allclose(
        np.linalg.norm(plain.queries[plain.found], axis=1),
        np.linalg.norm(compiled.queries[plain.found], axis=1),
        rtol=1e-9,
    )
    for row, certificate in compiled.certificates.items():
        support = B.indices[B.indptr[row] : B.indptr[row + 1]]
        values = B.data[B.indptr[row] : B.indptr[row + 1]]
        assert_proves(certificate, keys, support, values, B.data.min())


def test_a_missing_extra_is_named():
    if importlib.util.find_spec("numba"):
        pytest.skip("numba is installed")
    with pytest.raises(jla.errors.MissingExtraError, match=r"jl-attention\[numba\]"):
        shortest_queries(rows_of([[0]], 5), unit_codes(5, 4, 0), backend="numba")


def test_results_are_read_only():
    result = shortest_queries(rows_of([[0]], 5), unit_codes(5, 4, 0))
    with pytest.raises(ValueError, match="read-only"):
        result.queries[0] = 0
    with pytest.raises(TypeError):
        result.certificates[0] = None
    with pytest.raises(AttributeError):
        result.found = []
    assert repr(result) == "<MaxMarginResult: 1 rows found, 0 infeasible, 0 unresolved>"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": np.ones(3)}, "expected \\(L, m\\)"),
        ({"keys": np.full((4, 2), np.nan)}, "keys: every entry must be finite"),
        ({"keys": np.ones((5, 2))}, "expected \\(n, L\\) and \\(L, m\\)"),
        ({"gap": 0.0}, "gap=0.0: must be greater than 0"),
        ({"visible": [1, 4]}, "visible: row 0: token 1 of its support"),
        ({"visible": [4]}, "expected \\(2,\\)"),
        ({"backend": "cuda"}, "backend='cuda'"),
        ({"target_logits": sparse.csr_array((2, 4))}, "row 0: is empty"),
        ({"target_logits": rows_of([[0, 1], [2]], 4, [[1, np.inf], [1]])}, "must be finite"),
    ],
)
def test_bad_input_is_named(changes, message):
    good = {"target_logits": rows_of([[0, 1], [2]], 4), "keys": unit_codes(4, 2, 0)}
    with pytest.raises(jla.ParameterError, match=message):
        shortest_queries(**{**good, **changes})
