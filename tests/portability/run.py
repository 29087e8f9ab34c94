"""Run the unit tests and the notebooks as other machines would: ``make portability``.

A machine is a processor (its OpenBLAS kernel, NumPy's wide instructions, threads), a perturbed
linear algebra (see `perturbed`), or a Python with its packages. Each runs the unit tests and
executes every notebook once; nbval compares what is printed, as in ``make notebooks-check``. The
table says which notebook's cells came out different, and where.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))
import toc  # noqa: E402

KERNELS = ("Prescott", "Nehalem", "Sandybridge", "Haswell", "Zen", "SkylakeX", "Cooperlake")
"""OpenBLAS's kernels for x86, from the oldest to the newest; where none applies, none is tried."""

SEEDS = (1, 2, 3, 4)
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = ("book", "test", "browser", "cluster", "files", "kernels", "threads")
NBVAL = ("--nbval", "--nbval-current-env", "--nbval-cell-timeout", "240")
UNIT = "unit tests"
MARKS = "<!-- portability -->\n", "<!-- /portability -->"

PROBE = """
import numpy, scipy.linalg, threadpoolctl
A = numpy.random.default_rng(0).standard_normal((300, 300))
scipy.linalg.svd(A @ A), numpy.linalg.eigh(A + A.T), numpy.exp(A)
found = {pool.get("architecture") for pool in threadpoolctl.threadpool_info()}
print(*(name for name in found if name))
"""

WIDE = """
from numpy._core._multiarray_umath import __cpu_dispatch__ as names, __cpu_features__ as here
print(*(name for name in names if here[name]))
"""


@dataclass
class Machine:
    """A way to run Python.

    Attributes
    ----------
    name, group : str
        The group is "default", "kernel", "perturbed", "python" or "versions".
    environment : dict
        Variables set for every process.
    python : callable
        Returns the path of the interpreter; it may have to be installed first.
    skipped : str
        Why it cannot run here, or "".
    own : bool
        Its kernel or its Python is what is used here anyway.
    """

    name: str
    group: str
    environment: dict = field(default_factory=dict)
    python: object = lambda: sys.executable
    skipped: str = ""
    own: bool = False


@dataclass
class Outcome:
    """What differed on a machine: failed tests, cells by notebook, and how long it took."""

    tests: list | None = None
    cells: dict = field(default_factory=dict)
    seconds: float = 0.0


def run(command, environment=(), **options):
    """Run a command in the repository, quietly, with more environment variables."""
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **dict(environment)}, text=True,
        capture_output=True, check=False, **options,
    )  # fmt: skip


# --- Machines ------------------------------------------------------------------------------------


def kernels():
    """Return a machine for each OpenBLAS kernel, with wide instructions or not, 1 or 2 threads."""
    wide = run([sys.executable, "-c", WIDE]).stdout.split()
    default = run([sys.executable, "-c", PROBE]).stdout.strip()
    machines, taken = [], {}
    for kernel in KERNELS:
        chosen = {"OPENBLAS_CORETYPE": kernel}
        probe = run([sys.executable, "-c", PROBE], chosen)
        found = probe.stdout.strip()
        reason = f"the same here as {taken[found]}" if found in taken else ""
        if probe.returncode or not found:
            reason = "it needs instructions that this processor does not have"
        if reason:
            machines.append(Machine(kernel, "kernel", skipped=reason))
            continue
        taken[found] = kernel
        for narrow in (False, True):
            for threads in ("1", "2"):
                name = f"{kernel}{', no wide NumPy' if narrow else ''}, {threads} thread"
                name += "s" if threads != "1" else ""
                settings = {**chosen, "OMP_NUM_THREADS": threads}
                if narrow:
                    settings["NPY_DISABLE_CPU_FEATURES"] = " ".join(wide)
                machines.append(Machine(name, "kernel", settings, own=found == default))
    return machines


def perturbed():
    """Return a machine for each seed, and the one that watches what is nearly rounded otherwise."""
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    return [
        Machine(
            "rounding boundaries" if seed == "watch" else f"perturbed, seed {seed}",
            "perturbed",
            {"JL_MACHINE": str(seed), "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": os.devnull},
        )
        for seed in (*SEEDS, "watch")
    ]


def interpreters():
    """Return {version: path} of the Pythons found, on PATH or by pyenv."""
    found = {}
    for version in PYTHONS:
        candidates = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        for candidate in (*candidates, f"python{version}"):
            try:
                probe = run([str(candidate), "-c", "import sys; print(sys.executable)"])
            except OSError:
                continue
            if probe.returncode == 0:
                found[version] = probe.stdout.strip()
                break
    return found


def pythons(folder):
    """Return a machine for each Python with the locked packages, and for the ranges' two ends."""
    found = interpreters()
    machines = []
    for version in PYTHONS:
        if version in found:
            make = environment(folder / f"python{version}", found[version])
            own = version == f"{sys.version_info.major}.{sys.version_info.minor}"
            machines.append(Machine(f"Python {version}, locked", "python", python=make, own=own))
        else:
            machines.append(Machine(f"Python {version}, locked", "python", skipped="not installed"))
    for name, resolution, version in (
        ("oldest packages", "lowest-direct", min(found, default=None)),
        ("newest packages", "highest", max(found, key=PYTHONS.index, default=None)),
    ):
        if version:
            make = environment(folder / name.split()[0], found[version], resolution)
            machines.append(Machine(f"{name}, Python {version}", "versions", python=make))
    return machines


def environment(folder, interpreter, resolution=None):
    """Return a function that makes a virtual environment and returns its interpreter."""

    def make():
        python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        uv = [str(python), "-m", "uv", "--quiet", "pip"]
        install = [*uv, "install", "--python", str(python)]
        requirements = ROOT / "requirements.lock"
        steps = [
            [interpreter, "-m", "venv", "--clear", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv"],
        ]
        if resolution:
            requirements = folder / "requirements.txt"
            extras = [word for extra in EXTRAS for word in ("--extra", extra)]
            options = ["--python", str(python), "--no-header", "--resolution", resolution]
            steps.append(
                [*uv, "compile", *options, *extras, "pyproject.toml", "-o", str(requirements)]
            )
        steps += [
            [*install, "-r", str(requirements)],
            [*install, "--no-deps", "-e", "."],
        ]
        if not (folder / "ready").exists():
            for step in steps:
                done = run(step)
                if done.returncode:
                    raise SystemExit(f"{' '.join(step)}:\n{done.stdout}{done.stderr}")
            (folder / "ready").touch()
        return str(python)

    return make


# --- Running -------------------------------------------------------------------------------------


def pytest(machine, arguments, jobs=1, log=subprocess.DEVNULL):
    """Run pytest on a machine; yield the tests that failed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        command = [machine.python(), "-m", "pytest", "-v", "--color=no", "-p", "no:cacheprovider"]
        command += ["--continue-on-collection-errors"]
        command += ["--junitxml", str(report), "-o", "junit_family=xunit1"]
        command += ["-n", str(jobs), "--dist", "loadfile"] if jobs > 1 else []
        environment = {**os.environ, **machine.environment}
        subprocess.run(
            [*command, *arguments], cwd=ROOT, env=environment, stdout=log, stderr=log, check=False
        )
        if not report.exists():
            raise SystemExit(f"{machine.name}: pytest did not finish; --log FILE keeps its output")
        cases = list(ElementTree.parse(report).iter("testcase"))
    for case in cases:
        if case.find("failure") is not None or case.find("error") is not None:
            yield f"{case.get('file')}::{case.get('name')}"


def visit(machine, notebooks, unit, **options):
    """Run the unit tests and the notebooks on a machine, and return the `Outcome`."""
    start, outcome = time.monotonic(), Outcome()
    if unit:
        outcome.tests = list(pytest(machine, unit, **options))
    if notebooks:
        outcome.cells = {name: [] for name in notebooks}
        for test in pytest(machine, [*NBVAL, *notebooks], **options):
            name = next(name for name in notebooks if Path(name).name in test)
            cell = re.search(r"Cell (\d+)", test)
            outcome.cells[name].append(int(cell[1]) if cell else test)
    outcome.seconds = time.monotonic() - start
    return outcome


def entries(machine, outcome):
    """Return a machine's row of the table, {column: text}: what was run, and what differed."""
    if machine.skipped:
        return {UNIT: f"not run: {machine.skipped}"}
    row = {}
    if outcome.tests is not None:
        names = [test.rpartition("::")[2].replace("|", "/") for test in outcome.tests]
        row[UNIT] = ", ".join(names) or "same"
    for name, differ in outcome.cells.items():
        row[Path(name).stem.split("-")[0]] = ", ".join(map(str, differ)) or "same"
    return row


def table(rows, notebooks):
    """Return rows, {machine: {column: text}}, in Markdown."""
    columns = [UNIT, *(Path(name).stem.split("-")[0] for name in notebooks)]
    lines = [["machine", *columns], ["---"] * (1 + len(columns))]
    lines += [[name, *(row.get(column, "") for column in columns)] for name, row in rows.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def read(text):
    """Return the rows of a table in Markdown."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    heads, _, *lines = lines or [["machine"], []]
    cells = {line[0]: [text.strip() for text in line[1:]] for line in lines}
    return {name: dict(zip(heads[1:], row, strict=False)) for name, row in cells.items()}


def write(path, rows, machines):
    """Put these rows into the table between the marks of a file, in the order of the machines.

    What was not run now keeps what it had.
    """
    before, _, rest = path.read_text().partition(MARKS[0])
    old, _, after = rest.partition(MARKS[1])
    if not after:
        raise SystemExit(f"{path} has no {MARKS[0].strip()} ... {MARKS[1]}")
    known = read(old)
    merged = {name: known.get(name, {}) | rows.get(name, {}) for name in machines}
    text = table({name: row for name, row in merged.items() if row}, sorted(toc.notebooks()))
    path.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


def choose(machines, names, which):
    """Return (machine, with its unit tests, with its notebooks) by part of the name, or of a set.

    The set "ci" is what fits into half an hour beside `make test`: two seeds, the boundaries, and
    the two kernels least like this processor's own with everything; the other Pythons and the
    oldest packages with the unit tests.
    """
    if names:
        chosen = [m for m in machines if any(name.lower() in m.name.lower() for name in names)]
        return [(machine, True, True) for machine in chosen]
    if which == "all":
        return [(machine, True, True) for machine in machines]
    foreign = [m for m in machines if m.group == "kernel" and not m.skipped and not m.own]
    narrow = [m for m in foreign if "NPY_DISABLE_CPU_FEATURES" in m.environment]
    seeds = [m for m in machines if m.group == "perturbed" and m.name.endswith((" 1", " 2"))]
    watch = [m for m in machines if m.environment.get("JL_MACHINE") == "watch"]
    pythons = [m for m in machines if (m.group == "python" and not m.own) or "oldest" in m.name]
    return [
        *((machine, True, True) for machine in [*narrow[:1], *foreign[-1:], *seeds]),
        *((machine, False, True) for machine in watch),
        *((machine, True, False) for machine in pythons),
    ]


def main(arguments=None):
    """Run the machines that are asked for; fail if anything differs on one of them."""
    parser = argparse.ArgumentParser(prog="make portability", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of machines' names; default: a whole set")
    parser.add_argument("--set", choices=("ci", "all"), default="all", dest="which")
    parser.add_argument("--list", action="store_true", help="list the machines and stop")
    parser.add_argument("--notebooks", nargs="*", help="these only; none given: no notebook")
    parser.add_argument("--unit", nargs="*", help="these tests only; none given: no test")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--environments", type=Path, default=ROOT / ".machines")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="put what is found into the table in FILE"
    )
    parser.add_argument("--log", type=Path, default=os.devnull, help="what pytest prints")
    options = parser.parse_args(arguments)
    machines = [Machine("as it is", "default"), *kernels(), *perturbed()]
    machines += pythons(options.environments.resolve())
    chosen = choose(machines, options.names, options.which)
    if options.list:
        for machine, *_ in chosen:
            print(machine.name + (f": {machine.skipped}" if machine.skipped else ""))
        return
    notebooks = sorted(toc.notebooks()) if options.notebooks is None else options.notebooks
    unit = ["tests"] if options.unit is None else options.unit
    outcomes, rows = [], {}
    with options.log.open("w") as log:
        for machine, tests, books in chosen:
            outcome = Outcome()
            if not machine.skipped:
                print(f"===== {machine.name}", file=log, flush=True)
                outcome = visit(
                    machine, books * notebooks, tests * unit, jobs=options.jobs, log=log
                )
            outcomes.append(outcome)
            rows[machine.name] = entries(machine, outcome)
            found = [f"{column} {text}" for column, text in rows[machine.name].items()]
            print(f"{machine.name}: {'; '.join(found)}; {outcome.seconds:.0f} s", flush=True)
            if options.write:
                write(options.write, rows, [each.name for each in machines])
    print("\n" + table(rows, notebooks))
    if any(outcome.tests or any(outcome.cells.values()) for outcome in outcomes):
        raise SystemExit("Something differs: see the table.")


if __name__ == "__main__":
    main()
