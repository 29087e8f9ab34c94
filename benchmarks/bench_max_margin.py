"""Max-margin queries beside other solvers, in one run, on the same rows.

OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/bench_max_margin.py            all tables
OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/bench_max_margin.py speed      one of them

Needs quadprog, clarabel and numba for their columns; what is missing is left out. Times are those
of the processor, so that its other users do not matter; the method's rows are independent, and
numba's steps use all cores if they are allowed to.
"""

import argparse
import importlib.util
import time

import numpy as np
from scipy import sparse
from scipy.optimize import linprog, nnls

import jl_attention as jla
from jl_attention.codes import unit_codes
from jl_attention.methods.margin_solver import shortest_queries


def rows(length, row_nnz, dim, count):
    """Return target logits with a gap of 1 for some random rows, and unit keys."""
    target = jla.targets.regular(length, row_nnz, max_ratio=2.0, rng=0)
    return jla.logits.target_logits(target, 1.0)[:count], unit_codes(length, dim, 0)


def problem(B, keys, row):
    """Return (D, d, G): all q with D q = d and G q >= 1."""
    at = slice(B.indptr[row], B.indptr[row + 1])
    support, values = B.indices[at], B.data[at]
    weakest = support[values.argmin()]
    off = np.delete(np.arange(len(keys)), support)
    others = support[support != weakest]
    d = values[support != weakest] - values.min()
    return keys[others] - keys[weakest], d, keys[weakest] - keys[off]


def by_nnls(D, d, G):
    """Lawson and Hanson's least distance on all constraints; NaN where it finds no query."""
    inverse = np.linalg.pinv(D)
    p = inverse @ d
    h, P = 1 - G @ p, G - (G @ inverse) @ D
    last = np.append(np.zeros(G.shape[1]), 1.0)
    _, residual = nnls(np.vstack([P.T, h]), last)
    if residual < 1e-7:
        return np.nan
    return np.hypot(np.linalg.norm(p), np.sqrt(max(1 / residual**2 - 1, 0)))


def by_quadprog(D, d, G):
    """Goldfarb and Idnani's method in Fortran."""
    import quadprog

    C = np.vstack([D, G]).T
    try:
        q = quadprog.solve_qp(
            np.eye(G.shape[1]), np.zeros(G.shape[1]), C, np.append(d, np.ones(len(G))), len(d)
        )[0]
    except ValueError:  # constraints are inconsistent
        return np.nan
    return np.linalg.norm(q)


def by_clarabel(D, d, G):
    """An interior-point method; what it calls neither solved nor infeasible is 0."""
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    solution = clarabel.DefaultSolver(
        sparse.identity(G.shape[1], format="csc"),
        np.zeros(G.shape[1]),
        sparse.csc_matrix(np.vstack([D, -G])),
        np.append(d, -np.ones(len(G))),
        [clarabel.ZeroConeT(len(d)), clarabel.NonnegativeConeT(len(G))],
        settings,
    ).solve()
    status = str(solution.status)
    if "Infeasible" in status:
        return np.nan
    return np.linalg.norm(solution.x) if status == "Solved" else 0.0


def by_highs(D, d, G):
    """A linear program, feasible or not; a vertex of its own is no shortest query."""
    program = linprog(
        np.zeros(G.shape[1]), -G, -np.ones(len(G)), D, d, bounds=(None, None), method="highs"
    )
    return {0: np.inf, 2: np.nan}.get(program.status, 0.0)


SOLVERS = {
    "SciPy's NNLS": (by_nnls, None),
    "quadprog": (by_quadprog, "quadprog"),
    "Clarabel": (by_clarabel, "clarabel"),
    "HiGHS (feasible or not)": (by_highs, None),
}


def backends():
    """Return the backends that are installed."""
    return ["numpy", *(["numba"] if importlib.util.find_spec("numba") else [])]


def timed(function, *arguments):
    """Return what a function returns, and how many seconds of one processor it took."""
    start = time.process_time()
    value = function(*arguments)
    return value, time.process_time() - start


def speed(count=256, compared=8, rounds=5):
    """L = 4096, k = 4, m = 64: milliseconds a row, the median of several rounds."""
    B, keys = rows(4096, 4, 64, count)
    problems = [problem(B, keys, row) for row in range(compared)]
    times, lengths = {name: [] for name in (*backends(), "nnls")}, {}
    for warm in range(rounds + 1):
        for backend in backends():
            result, seconds = timed(lambda b=backend: shortest_queries(B, keys, backend=b))
            lengths[backend] = np.linalg.norm(result.queries, axis=1)
            times[backend] += [1e3 * seconds / count] if warm else []
        lengths["nnls"], seconds = timed(lambda: [by_nnls(*parts) for parts in problems])
        times["nnls"] += [1e3 * seconds / compared] if warm else []
    best = {name: np.median(values) for name, values in times.items()}
    reference = best["nnls"]
    print("| solver | ms a row | times faster | lengths differ by |")
    print("| --- | ---: | ---: | ---: |")
    print(f"| SciPy's NNLS, all constraints | {reference:.2f} | 1 | |")
    for backend in backends():
        off = np.abs(lengths[backend][:compared] / lengths["nnls"] - 1).max()
        faster = reference / best[backend]
        print(f"| `backend={backend!r}` | {best[backend]:.2f} | {faster:.0f} | {off:.0e} |")
        assert off < 1e-9


def hard(count=48):
    """L = 1024, k = 4 about the threshold: who finds which rows, and how fast."""
    print("| m | solver | found | impossible | neither | ms a row | lengths differ by |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for dim in (16, 24, 28):
        B, keys = rows(1024, 4, dim, count)
        result, seconds = timed(shortest_queries, B, keys)
        ours = np.linalg.norm(result.queries, axis=1)
        print(
            f"| {dim} | this package | {len(result.found)} | {len(result.infeasible)} | "
            f"{len(result.unresolved)} | {1e3 * seconds / count:.1f} | |"
        )
        problems = [problem(B, keys, row) for row in range(count)]
        for name, (solver, needs) in SOLVERS.items():
            if needs and not importlib.util.find_spec(needs):
                continue
            lengths, seconds = timed(lambda s=solver, p=problems: np.array([s(*row) for row in p]))
            gone, lost = np.isnan(lengths), lengths == 0
            both = ~gone & ~lost & ~np.isnan(ours) & np.isfinite(lengths)
            off = f"{abs(lengths[both] / ours[both] - 1).max():.0e}" if both.any() else ""
            print(
                f"| {dim} | {name} | {(~gone & ~lost).sum()} | {gone.sum()} | {lost.sum()} | "
                f"{1e3 * seconds / count:.1f} | {off} |"
            )
        if len(result.found):
            print(f"| {dim} | longest query: {np.nanmax(ours):.0f} gaps | | | | | |")


def large(count=512):
    """L = 65 536, k = 8, m = 128: minutes of one processor for all rows, from some of them."""
    B, keys = rows(65536, 8, 128, count)
    for backend in backends():
        result, seconds = timed(lambda b=backend: shortest_queries(B, keys, backend=b))
        minutes = seconds / count * 65536 / 60
        print(f"{backend}: {result}, {minutes:.1f} minutes for 65 536 rows")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tables = {"speed": speed, "hard": hard, "large": large}
    parser.add_argument("table", nargs="*", choices=[*tables, []], default=[])
    for name in parser.parse_args().table or tables:
        tables[name]()
