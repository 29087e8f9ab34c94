"""``jl-attention dim | build | measure``: dimensions, and Q and K for a pattern, from a shell.

Exit codes: 0 done; 1 ``measure`` found the precision missed; 2 a bad argument or file; 3 the
construction is impossible at this dimension. Messages go to stderr, results to stdout; with
``--json`` a result is one JSON object.
"""

import argparse
import json
import math
import sys

from . import __version__, files
from .blocks import commands as block_commands
from .constructions import Construction, construct
from .dimensions import THEOREMS, necessary_dim, required_dim, required_dim_for_target
from .errors import ConstructionError, JLAttentionError, ParameterError, check_int
from .methods import METHODS
from .precision import measure
from .targets import column_counts, row_counts, row_ratios

DONE, MISSED, BAD_INPUT, IMPOSSIBLE = range(4)

BITS = 16
"""Of a number of X in the lower bound that ``dim`` shows: half precision."""


def main(arguments=None):
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : list of str, optional
        ``sys.argv[1:]`` if None.

    Returns
    -------
    int

    Raises
    ------
    SystemExit
        As `argparse` does: 0 after ``--help``, 2 after a usage error.
    """
    options = _parser().parse_args(arguments)
    try:
        code, result, text = options.run(options)
    except ConstructionError as error:
        print(f"jl-attention: {error}", file=sys.stderr)
        return IMPOSSIBLE
    except JLAttentionError as error:
        print(f"jl-attention: {error}", file=sys.stderr)
        return BAD_INPUT
    print(json.dumps(_finite(result), allow_nan=False) if options.json else text)
    return code


def dim(options):
    """Tabulate the dimensions required and necessary, of a class or of one target."""
    asked = {"leak": options.leak, "failure_prob": options.failure_prob}
    asked["logit_scale"] = options.logit_scale
    if options.target is None:
        if options.length is None or options.row_nnz is None:
            raise ParameterError("dim: give a TARGET file, or --length and --row-nnz")
        about = {"length": options.length, "row_nnz": options.row_nnz}
        about["max_ratio"] = options.max_ratio
    else:
        if options.length is not None or options.row_nnz is not None:
            raise ParameterError("dim: give a TARGET file or --length and --row-nnz, not both")
        target = _read_target(options)
        about = _about(target)
    rows = []
    for method, theorem in THEOREMS.items():
        eps1 = options.ratio_error if METHODS[method].approximates_ratios else 0.0
        row = {"theorem": theorem, "method": method, "ratio_error": eps1}
        if options.target is not None:
            row["dim"] = required_dim_for_target(target, method, eps1, **asked)
        else:
            row["dim"] = required_dim(method=method, ratio_error=eps1, **asked, **about)
            row["closed_form"] = required_dim(
                method=method, ratio_error=eps1, bound="closed_form", **asked, **about
            )
        rows.append(row)
    length, row_nnz = about["length"], about["row_nnz"]
    necessary = {
        "radon": necessary_dim(length, row_nnz, "radon"),
        "bits": necessary_dim(length, row_nnz, "bits", bits=BITS),
    }
    result = {**about, **asked, "required": rows, "necessary": necessary}
    text = (
        f"{_description(about)}\n{_table(rows)}\nno head serves every such pattern below "
        f"m = {necessary['radon']} (T5), nor, with {BITS} bits a number, below "
        f"d = {necessary['bits']} (T7)"
    )
    return DONE, result, text


def build(options):
    """Construct X, W_Q, W_K, Q and K for a target and write them."""
    files.check_writable(options.output)
    target = _read_target(options)
    eps1 = options.ratio_error
    if eps1 is None:
        eps1 = 0.1 if METHODS[options.method].approximates_ratios else 0.0
    built = construct(
        target,
        options.method,
        ratio_error=eps1,
        leak=options.leak,
        dim=options.dim,
        failure_prob=options.failure_prob,
        logit_scale=options.logit_scale,
        rng=check_int("seed", options.seed, minimum=0),
        retries=options.retries,
        dtype=options.dtype,
    )
    built.save(options.output)
    result = {
        **_about(target),
        "method": built.method,
        "dim": built.dim,
        "hidden_size": 2 * built.dim,
        "logit_scale": built.logit_scale,
        "output": str(options.output),
    }
    text = (
        f"{_description(_about(target))}\n{built.method} with m = {built.dim}, hidden size "
        f"d = {2 * built.dim}, logit scale {built.logit_scale:.4g}\n"
        f"wrote X, W_Q, W_K, Q, K to {options.output}"
    )
    return DONE, result, text


def measure_file(options):
    """Measure a construction against a target; `MISSED` if it is not as precise as it says."""
    built = Construction.load(options.construction, max_bytes=options.max_bytes)
    target = _read_target(options)
    if target.shape[0] != built.length:
        raise ParameterError(
            f"{options.construction} is for {built.length} tokens, {options.target} for "
            f"{target.shape[0]}"
        )
    report = measure(built, target)
    meets = built.meets(report)
    names = ("ratio_error", "leak", "total_variation", "max_abs_logit", "logit_scale")
    result = {name: getattr(report, name) for name in names}
    result |= {"asked": {"ratio_error": built.ratio_error, "leak": built.leak}, "meets": meets}
    lines = [f"{name:16s}{result[name]:.4g}" for name in names]
    verdict = "meets" if meets else "MISSES"
    lines.append(f"{verdict} the ratio error {built.ratio_error:g} and leak {built.leak:g} asked")
    return DONE if meets else MISSED, result, "\n".join(lines)


def _finite(value):
    """Replace infinities, which JSON has no word for, by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_target(options):
    return files.read_target(
        options.target, normalize=options.normalize, max_bytes=options.max_bytes
    )


def _about(target):
    """Return L, k, gamma and the busiest column of a target."""
    return {
        "length": target.shape[0],
        "row_nnz": int(row_counts(target).max()),
        "column_nnz": int(column_counts(target).max()),
        "max_ratio": float(row_ratios(target).max()),
    }


def _description(about):
    text = f"L = {about['length']}, k = {about['row_nnz']}, gamma = {about['max_ratio']:.4g}"
    if "column_nnz" in about:
        text += f"; at most {about['column_nnz']} nonzeros in a column"
    return text


def _table(rows):
    header = {name: name.replace("_", " ") for name in rows[0]}
    cells = [
        {
            name: f"{value:g}" if isinstance(value, float) else str(value)
            for name, value in r.items()
        }
        for r in rows
    ]
    widths = {name: max(len(line[name]) for line in [header, *cells]) for name in header}
    left = ("theorem", "method")
    return "\n".join(
        "  ".join(
            line[name].ljust(width) if name in left else line[name].rjust(width)
            for name, width in widths.items()
        )
        for line in [header, *cells]
    )


def _parser():
    parser = argparse.ArgumentParser(prog="jl-attention", description=__doc__.split("\n")[0])
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="dim | build | measure | compile")

    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object")
    shared.add_argument(
        "--normalize", action="store_true", help="divide each row of the target by its sum"
    )
    shared.add_argument(
        "--max-bytes", type=int, default=files.MAX_BYTES, help="refuse larger files (%(default)s)"
    )
    precision = argparse.ArgumentParser(add_help=False)
    precision.add_argument(
        "--leak", type=float, default=0.01, metavar="EPS2", help="leak asked for (%(default)s)"
    )
    precision.add_argument(
        "--failure-prob", type=float, default=0.01, metavar="ETA", help="(%(default)s)"
    )
    precision.add_argument(
        "--logit-scale", type=float, metavar="TAU", help="by default the method's own"
    )
    target_help = "SciPy's sparse .npz, Matrix Market .mtx or dense .npy"

    command = commands.add_parser("dim", parents=[shared, precision], help=dim.__doc__)
    command.add_argument("target", nargs="?", metavar="TARGET", help=target_help)
    command.add_argument("--length", type=int, metavar="L")
    command.add_argument("--row-nnz", type=int, metavar="K")
    command.add_argument("--max-ratio", type=float, default=1.0, metavar="GAMMA")
    command.add_argument(
        "--ratio-error",
        type=float,
        default=0.1,
        metavar="EPS1",
        help="for the methods that only approximate the ratios (%(default)s)",
    )
    command.set_defaults(run=dim)

    command = commands.add_parser("build", parents=[shared, precision], help=build.__doc__)
    command.add_argument("target", metavar="TARGET", help=target_help)
    command.add_argument("-o", "--output", required=True, help=".npz or .safetensors")
    command.add_argument("--method", choices=list(METHODS), default="interpolate")
    command.add_argument("--dim", type=int, metavar="M", help="by default the theorem's")
    command.add_argument(
        "--ratio-error",
        type=float,
        metavar="EPS1",
        help="by default 0.1 for the methods that only approximate the ratios, else 0",
    )
    command.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    command.add_argument("--retries", type=int, default=0, help="draw again until it is precise")
    command.add_argument("--dtype", choices=["float64", "float32"], default="float64")
    command.set_defaults(run=build)

    command = commands.add_parser("measure", parents=[shared], help=measure_file.__doc__)
    command.add_argument("construction", metavar="BUILT", help="what build wrote")
    command.add_argument("target", metavar="TARGET", help=target_help)
    command.set_defaults(run=measure_file)

    block_commands.add_commands(commands, shared)
    return parser


if __name__ == "__main__":
    sys.exit(main())
