"""Another machine's arithmetic, on this one: equally valid factorisations, and rounding as noise.

A singular vector has no sign, equal singular values have no basis, equal keys have no order, and
the last digits of a sum depend on who adds. A processor or a library decides all of these in its
own way. `install` decides them at random, so that whatever reaches an output is seen to change:

- `svd`, `eigh`, `qr` of NumPy and SciPy, and what they build on these (null spaces, ranks,
  pseudo-inverses, spectral norms): random signs, a random rotation inside every cluster of equal
  singular or eigenvalues, rounding in the values;
- solutions (`solve`, `inv`, `lstsq`, `pinv`, `cholesky`): those of a system a few ulps away;
  linear programs with their variables and constraints in another order;
- sorts that do not promise an order among equal keys: a random order;
- in the package, its tests and the notebooks' cells, by rewriting their syntax trees: in the
  results of ``@``, `dot`, `einsum`, `sum`, `mean`, `norm` the most that another order of adding can
  do, and a few ulps in those of `exp`, `log` and their like. Integers in floating point are left
  alone: adding them is exact.

All of it is a function of the seed and of the numbers at hand. The same operation on the same
numbers gives the same result twice, as it does on a real machine.

In *watch* mode nothing is perturbed: every number that is formatted or rounded to an integer within
`BOUNDARY` of the point where its digits change is reported on stderr, which a notebook's comparison
sees as a difference.
"""

import ast
import builtins
import functools
import importlib.machinery
import itertools
import math
import string
import sys
import zlib

import numpy as np

LARGE = 1e3
"""A larger number is near an integer at `BOUNDARY` times this."""

RESULTS = 1000
"""Most numbers that are watched when they are rounded at once."""

PACKAGES = ("jl_attention", "jl_attention_book")
"""Whose source is rewritten."""

NOISE = 1e-13
"""The most relative noise in a sum of n terms, of their sizes; if n/2 ulps are less, these."""

BACKWARD_ULPS = 2
"""How far the entries are from the system that a solver has solved."""

ELEMENTARY_ULPS = 4
"""By how much two libraries' exponentials may differ."""

EQUAL = 1e-12
"""Singular and eigenvalues this close, relative to the largest, share a subspace."""

CHUNK = 2**18
"""How many numbers are made noisy at a time."""

BOUNDARY = 1e-9
"""How close to a change of its last printed digit a number may be, relative to itself."""

SUMS = {
    "dot",
    "einsum",
    "inner",
    "matmul",
    "mean",
    "norm",
    "std",
    "sum",
    "tensordot",
    "var",
    "vdot",
}
ELEMENTARY = {"cos", "exp", "exp2", "expm1", "log", "log10", "log1p", "log2", "logsumexp", "power"}
ELEMENTARY |= {"sin", "softmax", "tanh"}
INTEGERS = {"ceil", "floor", "int", "rint", "round"}
NAME = "_another_machine"
"""The builtin that rewritten code calls."""


# --- Numbers -------------------------------------------------------------------------------------


def uniform(seed, numbers, places):
    """Return numbers in [-1, 1) that depend on the seed, on each number and on its place."""
    with np.errstate(over="ignore"):
        # The finaliser of splitmix64 (Steele, Lea and Flood 2014).
        place = (places.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = numbers.astype(np.float64).view(np.uint64) ^ (place + np.uint64(seed))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return z / 2.0**63 - 1


def generator(seed, *arrays):
    """Return a generator that depends on the seed and on the arrays' contents."""
    digest = [zlib.crc32(np.ascontiguousarray(array).tobytes()) for array in arrays]
    return np.random.Generator(np.random.PCG64([seed, *digest]))


class Machine:
    """The noise of one machine."""

    def __init__(self, seed, watch=False):
        self.seed, self.watching = seed, watch

    def noise(self, result, size, ulps=None, by_place=True):
        """Return results with errors of at most `ulps` units in the last place of `size`.

        An integer is taken for the exact result of adding integers, and stays. Equal results have
        other errors in other places, except those of a function of one number.
        """
        if self.watching or getattr(result, "dtype", np.dtype(int)).kind != "f":
            return result
        if _is_sparse(result):
            result = result.copy()
            result.data = self.noise(result.data, np.abs(result.data), ulps)
            return result
        if result.dtype.itemsize > 8:
            return result
        eps = float(np.finfo(result.dtype).eps)
        most = max(NOISE, eps)
        relative = most if ulps is None else min(most, ulps * eps)
        noisy = np.array(result).reshape(-1)
        sizes = np.broadcast_to(size, np.shape(result)).reshape(-1)
        for start in range(0, noisy.size, CHUNK):
            part, size = noisy[start : start + CHUNK], sizes[start : start + CHUNK]
            inexact = np.isfinite(part) & (part != np.rint(part))
            place = np.arange(start, start + len(part)) if by_place else 0
            off = uniform(self.seed, part[inexact], np.broadcast_to(place, part.shape)[inexact])
            part[inexact] += (off * relative * size[inexact]).astype(part.dtype)
        noisy = noisy.reshape(np.shape(result))
        return noisy if isinstance(result, np.ndarray) else type(result)(noisy)

    def product(self, left, right):
        """Return a matrix product: n terms are off by n/2 ulps at most, in whatever order."""
        result = left @ right
        if getattr(result, "dtype", np.dtype(int)).kind != "f":
            return result
        if not all(isinstance(a, np.ndarray) or _is_sparse(a) for a in (left, right)):
            return self.noise(result, np.abs(result), np.shape(left)[-1] / 2)  # a map, a list
        ulps = np.shape(left)[-1] / 2
        for factor, axis in ((left, -1), (right, -2 if right.ndim > 1 else -1)):
            if isinstance(factor, np.ndarray) and factor.size:  # adding a zero is exact
                ulps = min(ulps, np.count_nonzero(factor, axis=axis).max() / 2)
        terms = abs(left) @ abs(right)
        if _is_sparse(terms) and not _is_sparse(result):
            terms = terms.toarray()
        return self.noise(result, terms, ulps)

    def system(self, matrix):
        """Return a matrix that is off by a few ulps: solvers are right about one such."""
        array = np.asarray(matrix)
        if array.dtype.kind != "f" or not array.size:
            return matrix
        return self.noise(array, np.abs(array), BACKWARD_ULPS)

    def called(self, function, *args, **kwargs):
        """Call a function that adds, or an elementary one."""
        result = function(*args, **kwargs)
        if getattr(result, "dtype", np.dtype(int)).kind != "f":
            return result
        name, owner = getattr(function, "__name__", ""), getattr(function, "__self__", None)
        operand = owner if hasattr(owner, "dtype") else args[0] if args else 0.0
        if getattr(operand, "dtype", np.dtype(type(operand))).kind in "biu":
            return result
        if name not in SUMS:
            return self.noise(result, np.abs(result), ELEMENTARY_ULPS, by_place=False)
        size = np.abs(result)
        ulps = max(2, np.size(operand) / max(1, np.size(result)) / 2)
        if name in ("sum", "mean") and isinstance(operand, np.ndarray):
            if operand is owner:
                size = getattr(np.abs(operand), name)(*args, **kwargs)
            else:
                size = function(np.abs(operand), *args[1:], **kwargs)
        return self.noise(result, size, ulps)

    def near(self, value, others, what):
        """Report a number whose neighbours read otherwise."""
        if self.watching and len(set(others)) > 1:
            print(f"{what}: {value!r} is within {BOUNDARY:g} of {set(others)}", file=sys.stderr)

    def shown(self, value, spec):
        """Watch a number that is formatted."""
        if self.watching and spec and isinstance(value, float | np.floating):
            wide = float(value)
            rounds = "." in spec or spec[-1] in "efgEFGn%"  # else all digits are shown
            if math.isfinite(wide) and rounds:
                texts = [format(wide * (1 + d), spec) for d in (-BOUNDARY, 0, BOUNDARY)]
                if "-" in texts[1] and not any(c in "123456789" for c in texts[1]):
                    texts.append(texts[1].replace("-", ""))
                self.near(wide, texts, f"format {spec}")
        return value

    def format(self, template, *args, **kwargs):
        """Format as `str.format`, watching every number."""
        watch = self

        class Formatter(string.Formatter):
            def format_field(self, value, spec):
                return super().format_field(watch.shown(value, spec), spec)

        return Formatter().vformat(template, args, kwargs)

    def to_integer(self, name, value, *rest):
        """Watch numbers that are about to become integers, few enough to be results, not data."""
        number = getattr(value, "dtype", np.dtype(float)).kind == "f"
        if self.watching and not rest and number and np.size(value) <= RESULTS:
            jump = 0.5 if name in ("rint", "round") else 0.0
            for number in np.ravel(value) if isinstance(value, np.ndarray | float) else ():
                off = (number - jump) - np.rint(number - jump)
                if off != 0 and abs(off) <= BOUNDARY * min(max(1.0, abs(number)), LARGE):
                    print(f"{name}: {number!r} is within {BOUNDARY:g} of a jump", file=sys.stderr)
        return value


# --- Factorisations ------------------------------------------------------------------------------


def rotation(rng, size):
    """Return a uniformly random rotation or reflection."""
    Q, R = _qr(rng.standard_normal((size, size)))
    return Q * np.sign(np.diag(R))


def clusters(values):
    """Yield slices of equal values; they are sorted, up or down."""
    gaps = np.abs(np.diff(values)) > EQUAL * np.abs(values).max(initial=0)
    edges = np.r_[0, np.nonzero(gaps)[0] + 1, len(values)]
    for start, stop in itertools.pairwise(edges):
        if stop > start:
            yield slice(start, stop)


def values_off(rng, values):
    """Return singular or eigenvalues with rounding, in their order."""
    eps, largest = np.finfo(values.dtype).eps, np.abs(values).max(axis=-1, keepdims=True)
    ulps = np.where(np.abs(values) > EQUAL * largest, 4, 0.5)  # rounding leaves a zero small
    return (values + rng.uniform(-1, 1, values.shape) * ulps * eps * largest).astype(values.dtype)


def singular_values(rng, values):
    """Return singular values with rounding, falling."""
    return -np.sort(-np.abs(values_off(rng, values)), axis=-1)


def other_svd(rng, U, sigma, Vt):
    """Return another singular value decomposition of the same matrix."""
    U, Vt, count = U.copy(), Vt.copy(), len(sigma)
    zero = sigma <= EQUAL * sigma.max(initial=0)
    kept = int(count - zero.sum())
    for part in clusters(sigma[:kept]):
        Q = rotation(rng, part.stop - part.start)
        U[:, part], Vt[part] = U[:, part] @ Q, Q.T @ Vt[part]
    for vectors in (U.T, Vt):  # the null spaces have nothing to do with each other
        if len(vectors) > kept:
            vectors[kept:] = rotation(rng, len(vectors) - kept) @ vectors[kept:]
    return U, singular_values(rng, sigma), Vt


def other_eigh(rng, values, vectors):
    """Return other eigenvalues and eigenvectors of the same matrix."""
    vectors = vectors.copy()
    for part in clusters(values):
        vectors[:, part] = vectors[:, part] @ rotation(rng, part.stop - part.start)
    return np.sort(values_off(rng, values)), vectors


def other_qr(rng, Q, R):
    """Return another QR decomposition of the same matrix."""
    Q, R = Q.copy(), R.copy()
    count = min(Q.shape[1], *R.shape)
    signs = rng.choice([-1.0, 1.0], count).astype(Q.dtype)
    Q[:, :count] *= signs
    R[:count] *= signs[:, None]
    if Q.shape[1] > count:  # a basis of the complement, any of which will do
        Q[:, count:] = Q[:, count:] @ rotation(rng, Q.shape[1] - count)
    return Q, R


_qr = np.linalg.qr


def is_real(array):
    """Return whether perturbing is defined: real floating point, not empty."""
    array = np.asarray(array)
    return array.dtype.kind in "fiub" and array.size > 0


def replacements(machine):
    """Return {module: {name: decorator}} for every function that is replaced."""
    seed = machine.seed

    def numpy_svd(svd):
        @functools.wraps(svd)
        def wrapper(a, full_matrices=True, compute_uv=True, hermitian=False):
            found = svd(a, full_matrices, compute_uv, hermitian)
            if not is_real(a):
                return found
            rng = generator(seed, np.asarray(a))
            if not compute_uv:
                return singular_values(rng, found)
            return type(found)(*_each(lambda *parts: other_svd(rng, *parts), a, found))

        return wrapper

    def scipy_svd(svd):
        @functools.wraps(svd)
        def wrapper(a, full_matrices=True, compute_uv=True, *args, **kwargs):
            rng = generator(seed, np.asarray(a))
            found = svd(a, full_matrices, compute_uv, *args, **kwargs)
            if not is_real(a):
                return found
            return other_svd(rng, *found) if compute_uv else singular_values(rng, found)

        return wrapper

    def numpy_eigh(eigh):
        @functools.wraps(eigh)
        def wrapper(a, UPLO="L"):
            found = eigh(a, UPLO)
            if not is_real(a):
                return found
            rng = generator(seed, np.asarray(a))
            return type(found)(*_each(lambda *parts: other_eigh(rng, *parts), a, found))

        return wrapper

    def scipy_eigh(eigh):
        @functools.wraps(eigh)
        def wrapper(a, *args, **kwargs):
            rng = generator(seed, np.asarray(a))
            found = eigh(a, *args, **kwargs)
            if not is_real(a):
                return found
            return other_eigh(rng, *found) if isinstance(found, tuple) else values_off(rng, found)

        return wrapper

    def numpy_qr(qr):
        @functools.wraps(qr)
        def wrapper(a, mode="reduced"):
            found = qr(a, mode)
            if not is_real(a) or mode == "raw" or np.asarray(a).ndim > 2:
                return found
            rng = generator(seed, np.asarray(a))
            if mode == "r":
                return other_qr(rng, np.eye(len(found)), found)[1]
            return type(found)(*other_qr(rng, *found))

        return wrapper

    def scipy_qr(qr):
        @functools.wraps(qr)
        def wrapper(a, overwrite_a=False, lwork=None, mode="full", *args, **kwargs):
            rng = generator(seed, np.asarray(a))
            found = qr(a, overwrite_a, lwork, mode, *args, **kwargs)
            if not is_real(a) or mode not in ("full", "economic"):
                return found
            return (*other_qr(rng, *found[:2]), *found[2:])

        return wrapper

    def solution(solve):  # of a system next to the one at hand
        @functools.wraps(solve)
        def wrapper(a, *args, **kwargs):
            return solve(machine.system(a), *args, **kwargs)

        return wrapper

    def by_factor(solve):
        @functools.wraps(solve)
        def wrapper(factor, *args, **kwargs):
            return solve((machine.system(factor[0]), factor[1]), *args, **kwargs)

        return wrapper

    def program(linprog):
        """Solve the program with its variables and constraints in another order."""

        @functools.wraps(linprog)
        def wrapper(c, A_ub=None, b_ub=None, A_eq=None, b_eq=None, bounds=(0, None), **kwargs):
            c = np.asarray(c, dtype=float)
            rng = generator(seed, c)
            order = rng.permutation(len(c))
            if np.shape(bounds) not in ((2,), (1, 2)):
                bounds = [tuple(bounds[j]) for j in order]
            parts = []
            for A, b in ((A_ub, b_ub), (A_eq, b_eq)):
                if A is not None:
                    A = A.tocsr() if hasattr(A, "tocsr") else np.asarray(A)
                    rows = rng.permutation(A.shape[0])
                    A, b = A[rows][:, order], np.ravel(b)[rows]
                parts += [A, b]
            found = linprog(c[order], *parts, bounds=bounds, **kwargs)
            if found.x is not None:
                back = np.empty(len(c))
                back[order] = found.x
                found.x = back
            return found

        return wrapper

    def sort(argsort):
        @functools.wraps(argsort)
        def wrapper(a, axis=-1, kind=None, order=None, **kwargs):
            if kind in ("stable", "mergesort") or kwargs or np.ndim(a) == 0:
                return argsort(a, axis, kind, order, **kwargs)
            return _in_any_order(seed, lambda x: argsort(x, axis, kind, order), a, axis)

        return wrapper

    def partition(argpartition):
        @functools.wraps(argpartition)
        def wrapper(a, kth, axis=-1, *args, **kwargs):
            return _in_any_order(
                seed, lambda x: argpartition(x, kth, axis, *args, **kwargs), a, axis
            )

        return wrapper

    common = {name: solution for name in ("solve", "inv", "lstsq", "pinv", "cholesky", "eigvalsh")}
    return {
        "numpy": {"argsort": sort, "argpartition": partition},
        "numpy.linalg": {**common, "svd": numpy_svd, "eigh": numpy_eigh, "qr": numpy_qr},
        "scipy.linalg": {
            **common,
            **{"svd": scipy_svd, "eigh": scipy_eigh, "qr": scipy_qr, "svdvals": solution},
            **{"solve_triangular": solution, "cho_factor": solution, "cho_solve": by_factor},
        },
        "scipy.optimize": {"nnls": solution, "linprog": program},
        "scipy.sparse.linalg": {"spsolve": solution},
    }


def _is_sparse(array):
    return hasattr(array, "tocsr") and hasattr(array, "data")


def _in_any_order(seed, find, array, axis):
    """Return indices that `find` makes of an array whose equal keys stand in a random order."""
    array = np.asarray(array)
    if axis is None:
        array, axis = array.reshape(-1), 0
    if array.dtype.kind == "O":
        return find(array)
    order = generator(seed, array).permutation(array.shape[axis])
    return order[find(np.take(array, order, axis=axis))]


def _each(other, a, found):
    """Apply `other` to the factors of a matrix, or of every matrix of a stack."""
    if np.ndim(a) == 2:
        return other(*found)
    made = [other(*(part[at] for part in found)) for at in np.ndindex(np.shape(a)[:-2])]
    stacks = map(np.stack, zip(*made, strict=True))
    return (np.reshape(part, like.shape) for part, like in zip(stacks, found, strict=True))


# --- Source --------------------------------------------------------------------------------------


class Rewriter(ast.NodeTransformer):
    """Pass the results of sums and elementary functions, and what is formatted, to the machine."""

    def __init__(self, watching):
        self.watching = watching

    def machine(self, method, at):
        """Return the expression of a method of the machine."""
        name = ast.Attribute(ast.Name(NAME, ast.Load()), method, ast.Load())
        return ast.fix_missing_locations(ast.copy_location(name, at))

    def call(self, method, node, *args):
        """Return the expression of a call of a method of the machine."""
        call = ast.copy_location(ast.Call(self.machine(method, node), list(args), []), node)
        return ast.fix_missing_locations(call)

    def visit_BinOp(self, node):
        """Rewrite ``a @ b``."""
        self.generic_visit(node)
        if isinstance(node.op, ast.MatMult) and not self.watching:
            return self.call("product", node, node.left, node.right)
        return node

    def visit_Call(self, node):
        """Rewrite ``x.sum()``, ``np.exp(x)``, ``"{:.2f}".format(x)``, ``np.ceil(x)``."""
        self.generic_visit(node)
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if not self.watching:
            if name in ELEMENTARY or (name in SUMS and isinstance(called, ast.Attribute)):
                node.args.insert(0, called)
                node.func = self.machine("called", node)
            return node
        if name == "format" and isinstance(getattr(called, "value", None), ast.Constant):
            node.args.insert(0, called.value)
            node.func = self.machine("format", node)
            return node
        if name in INTEGERS and len(node.args) == 1 and not isinstance(node.args[0], ast.Starred):
            node.args[0] = self.call("to_integer", node, ast.Constant(name), node.args[0])
        return node

    def visit_FormattedValue(self, node):
        """Rewrite the value in ``f"{value:spec}"``."""
        self.generic_visit(node)
        if self.watching and node.format_spec is not None:
            node.value = self.call("shown", node, node.value, node.format_spec)
        return node


class Loader(importlib.machinery.SourceFileLoader):
    """Compile from rewritten source, never from a cache."""

    watching = False

    def get_code(self, fullname):
        """Return the module's code."""
        path = self.get_filename(fullname)
        tree = Rewriter(self.watching).visit(ast.parse(self.get_data(path), path))
        return compile(tree, path, "exec", dont_inherit=True)


def replace(module, decorators):
    """Replace a module's functions, in all modules beside it that have them by name."""
    changed = {
        id(getattr(module, name)): decorate(getattr(module, name))
        for name, decorate in decorators.items()
        if hasattr(module, name)
    }
    for other in list(sys.modules.values()):
        if getattr(other, "__name__", "").startswith(module.__name__):
            for name, value in list(vars(other).items()):
                if id(value) in changed:
                    setattr(other, name, changed[id(value)])


def rewrite_tests(module):
    """Rewrite the test modules that pytest compiles."""
    rewrite, rewriter = module.rewrite_asserts, Rewriter(Loader.watching)

    def rewrite_asserts(tree, source, *args):
        rewriter.visit(tree)
        rewrite(tree, source, *args)

    module.rewrite_asserts = rewrite_asserts


def rewrite_cells(module):
    """Rewrite the cells that IPython compiles."""
    shell, rewriter = module.InteractiveShell, Rewriter(Loader.watching)
    transform = shell.transform_ast
    shell.transform_ast = lambda self, tree: transform(self, rewriter.visit(tree))


PATCHES = {
    "_pytest.assertion.rewrite": rewrite_tests,
    "IPython.core.interactiveshell": rewrite_cells,
}
"""What is done to a module once it is loaded; `install` adds the replacements."""


class Patched(importlib.machinery.SourceFileLoader):
    """Load a module and patch it."""

    def exec_module(self, module):
        """Execute the module, and patch it."""
        super().exec_module(module)
        PATCHES[self.name](module)


class Finder:
    """Find modules as everybody does, and load some with `Loader` or `Patched`."""

    @staticmethod
    def find_spec(fullname, path=None, target=None):
        """Return the spec of a module that is rewritten or patched."""
        if fullname.partition(".")[0] in PACKAGES:
            kind = Loader
        elif fullname in PATCHES:
            kind = Patched
        else:
            return None
        for finder in sys.meta_path:
            spec = finder is not Finder and finder.find_spec(fullname, path, target)
            if spec:
                if isinstance(spec.loader, importlib.machinery.SourceFileLoader):
                    spec.loader = kind(fullname, spec.loader.path)
                return spec
        return None


def install(name):
    """Make this process the machine of that name, a seed or "watch"."""
    watch = name == "watch"
    machine = Machine(0 if watch else int(name), watch)
    setattr(builtins, NAME, machine)
    Loader.watching = watch
    sys.meta_path.insert(0, Finder)
    for module, decorators in ({} if watch else replacements(machine)).items():
        if module in sys.modules:
            replace(sys.modules[module], decorators)
        else:
            PATCHES[module] = functools.partial(replace, decorators=decorators)
