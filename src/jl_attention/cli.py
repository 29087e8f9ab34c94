"""``jl-attention``: dimensions, and queries and keys for a pattern, from a shell.

Exit codes: 0 done; 1 ``measure`` found the precision missed; 2 a bad argument or file; 3 the
construction is impossible at this dimension. Messages go to stderr, results to stdout; with
``--json`` a result is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from typing import TYPE_CHECKING

import numpy as np

from . import __version__, files, methods, patterns
from .blocks.commands import add_commands as add_block_commands
from .constructions import Construction, construct
from .dimensions import necessary_dim
from .errors import ConstructionError, JLAttentionError, ParameterError, check_int, check_real
from .head import LARGEST_ALLOWANCE
from .interop.containers import STDIN
from .methods import METHODS
from .precision import measure
from .targets import (
    CONVENTIONS,
    PADDINGS,
    MappedTarget,
    column_counts,
    row_counts,
    row_ratios,
)
from .theory.total_variation import leak_for_target, leak_for_total_variation
from .workloads.commands import add_commands as add_workload_commands

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BAD_INPUT", "DONE", "IMPOSSIBLE", "MISSED", "main"]

DONE, MISSED, BAD_INPUT, IMPOSSIBLE = range(4)

LEAK = 0.01
"""What is asked for where neither a leak nor a total variation is."""

RATIO_ERROR = 0.1
"""What is asked of the methods that only approximate the ratios, where nothing is."""

EXACT = 1e-9
"""A ratio error below this is rounding, and its digits say nothing."""

BITS = 16
"""Of a number of X in the lower bound that ``dim`` shows: half precision."""

EXAMPLES = {
    "causal_window": lambda length, rng: patterns.causal_window(length, 4, 2.0, rng),
    "vertical_slash": lambda length, rng: patterns.vertical_slash(length, 1, 4, 2.0, rng),
    "big_bird": lambda length, rng: patterns.big_bird(length, 1, 1, 2, 2.0, rng),
    "row_sparse": lambda length, rng: patterns.row_sparse(length, 4, 2.0, rng),
}
"""Patterns that ``example`` writes, with weights within a factor of 2."""

CONVENTION = (
    "attention = softmax(queries keys^T) = softmax(Q K^T / sqrt(m)) with Q = m^(1/4) queries"
)
"""Said wherever queries and keys are written."""


def main(arguments: Sequence[str] | None = None) -> int:
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
        print(json.dumps(_finite(result), allow_nan=False) if options.json else text)
        sys.stdout.flush()
    except ConstructionError as error:
        print(f"jl-attention: {error}", file=sys.stderr)
        return IMPOSSIBLE
    except JLAttentionError as error:
        print(f"jl-attention: {error}", file=sys.stderr)
        return BAD_INPUT
    except MemoryError as error:
        print(f"jl-attention: not enough memory: {error}", file=sys.stderr)
        return IMPOSSIBLE
    except BrokenPipeError:  # whoever reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code


# --- dim -----------------------------------------------------------------------------------------


def dim(options):
    """Tabulate the dimensions required and necessary, of a class or of one target."""
    if options.target is None:
        if options.length is None or options.row_nnz is None:
            raise ParameterError("dim: give a TARGET file, or --length and --row-nnz")
        target = None
        about = {"length": options.length, "row_nnz": options.row_nnz}
        about["max_ratio"] = options.max_ratio
    else:
        if options.length is not None or options.row_nnz is not None:
            raise ParameterError("dim: give a TARGET file or --length and --row-nnz, not both")
        target = _read_target(options)
        about = _about(target)
    fit = {name: methods.get(name) for name in METHODS}
    if isinstance(target, MappedTarget):
        fit = {name: method for name, method in fit.items() if method.reads_blocks}
    rows = [_requirement(name, target, about, options) for name in fit]
    length, row_nnz = about["length"], about["row_nnz"]
    necessary = {
        "radon": necessary_dim(length, row_nnz, "radon"),
        "bits": necessary_dim(length, row_nnz, "bits", bits=BITS),
    }
    result = {
        **about,
        "leak": _leak(options, target, length, 0.0),
        "total_variation": options.total_variation,
        "failure_prob": options.failure_prob,
        "logit_scale": options.logit_scale,
        "required": rows,
        "necessary": necessary,
    }
    return DONE, result, "\n".join(_dim_lines(result, about))


def _requirement(name, target, about, options):
    """Return what one method asks for, as a row of the table."""
    method = methods.get(name)
    eps1 = _ratio_error(options, method)
    leak = _leak(options, target, about["length"], eps1)
    precision = method.precision(eps1, leak, options.logit_scale)
    size = tuple(about[name] for name in ("length", "row_nnz", "max_ratio"))

    def required(method, **form):
        if target is not None:
            return method.required_dim_for_target(target, precision, options.failure_prob)
        asked = {"failure_prob": options.failure_prob, "logit_scale": options.logit_scale}
        return method.required_dim(*size, ratio_error=eps1, leak=leak, **asked, **form)

    row = {"theorem": method.theorem, "method": name, "standing": method.standing}
    row |= {"ratio_error": eps1, "leak": leak, "dim": required(method)}
    if target is None and "closed_form" in method.bounds:
        row["closed_form"] = required(method, bound="closed_form")
    together = method.in_batch()
    row["dim_built"] = together.within_length(about["length"], required(together))[1]
    row["gains"] = row["dim_built"] < about["length"]
    asked = methods.TargetClass(*map(np.asarray, size), *precision)
    row["largest_logit"] = float(together.largest_logit(asked, row["dim_built"]))
    row["logit_standing"] = method.logit_standing
    return row


def _ratio_error(options, method, given=False):
    """Return the ratio error asked for, 0 of methods that make the ratios exact unless `given`."""
    if options.ratio_error is not None and (given or method.approximates_ratios):
        return options.ratio_error
    if not method.approximates_ratios:
        return 0.0
    if options.total_variation is None:
        return RATIO_ERROR
    t = check_real("total_variation", options.total_variation, above=0, below=1)
    return ((1 + t / 2) / (1 - t / 2)) ** 2 - 1  # the ratios alone cost t/2 (T8)


def _leak(options, target, length, ratio_error):
    """Return the leak asked for, which T8 chooses where a total variation is asked for."""
    if options.total_variation is None:
        return LEAK if options.leak is None else options.leak
    if target is not None:
        return leak_for_target(target, options.total_variation, ratio_error)
    # A class has rows of one nonzero, which leave the most room for a leak.
    return leak_for_total_variation(length, 1, options.total_variation, ratio_error)


def _dim_lines(result, about):
    """Yield the lines that ``dim`` prints."""
    yield _description(about)
    if result["total_variation"] is not None:
        yield (
            f"total variation {result['total_variation']:g} of a row asked for: with exact ratios "
            f"a leak of {result['leak']:.3g} (T8)"
        )
    else:
        yield f"leak {result['leak']:g} asked for"
    required = result["required"]
    rows = []
    for row in required:
        shown = {name: row[name] for name in ("theorem", "method", "standing", "ratio_error")}
        shown["m"] = row["dim"]
        if any("closed_form" in other for other in required):
            shown["closed_form"] = row.get("closed_form", "-")
        shown["build"] = f"{row['dim_built']}{' ' if row['gains'] else '*'}"
        about_it = "~" if row["logit_standing"] == "prediction" else ""
        shown["largest_logit"] = f"{about_it}{row['largest_logit']:.3g}"
        rows.append(shown)
    yield _table(rows)
    eta = result["failure_prob"]
    yield f"a theorem is proved, a law an exact distribution; either fails {eta:g} of the time"
    yield "m: keys drawn one by one; build: keys drawn together, as build does; ~: a prediction"
    if not all(row["gains"] for row in required):
        yield (f"* m >= L = {about['length']} is no gain: an exact factorisation has m = L")
    necessary = result["necessary"]
    yield f"no head serves every such pattern below m = {necessary['radon']} (T5),"
    yield f"nor, with {BITS} bits a number, below d = {necessary['bits']} (T7)"


# --- build, measure, example ---------------------------------------------------------------------


def build(options):
    """Construct queries and keys for a target, write them and measure what was built."""
    files.check_writable(options.output, inputs=[options.target])
    target = _read_target(options)
    built = construct(
        target,
        options.method,
        ratio_error=_ratio_error(options, METHODS[options.method], given=True),
        leak=options.leak,
        total_variation=options.total_variation,
        dim=options.dim,
        failure_prob=options.failure_prob,
        logit_scale=options.logit_scale,
        rng=check_int("seed", options.seed, minimum=0),
        retries=options.retries,
        dtype=options.dtype,
    )
    built.save(options.output, full=options.full)
    about = _about(target)
    written = "queries, keys" + (", X, W_Q, W_K, Q, K" if options.full else "")
    result = {
        **about,
        "method": built.method,
        "dim": built.dim,
        "hidden_size": 2 * built.dim,
        "logit_scale": built.logit_scale,
        "output": str(options.output),
        "arrays": written.split(", "),
    }
    lines = [
        _description(about),
        f"{built.method} ({METHODS[built.method].theorem}) with m = {built.dim}, hidden size "
        f"d = {2 * built.dim}, logit scale {built.logit_scale:.4g}",
    ]
    if built.dim >= about["length"]:
        lines.append(f"m >= L = {about['length']} is no gain: an exact factorisation has m = L")
    if options.measure:
        found, said = _measured(built, target)
        result |= found
        lines += said
    lines += [f"wrote {written} to {options.output}", CONVENTION]
    return DONE, result, "\n".join(lines)


def measure_file(options):
    """Measure a construction against a target; `MISSED` if it is not as precise as it says."""
    if options.construction == options.target == STDIN:
        raise ParameterError("measure: BUILT and TARGET cannot both be the standard input")
    built = Construction.load(options.construction, max_bytes=options.max_bytes)
    target = _read_target(options)
    if target.shape[0] != built.length:
        raise ParameterError(
            f"{options.construction} is for {built.length} tokens, {options.target} for "
            f"{target.shape[0]}"
        )
    result, lines = _measured(built, target)
    return DONE if result["meets"] else MISSED, result, "\n".join(lines)


def _measured(built, target):
    """Return what `measure` finds, as a result and as lines."""
    report = measure(built, target)
    meets = built.meets(report)
    names = ("total_variation", "ratio_error", "leak", "max_abs_logit", "logit_spread")
    result = {name: getattr(report, name) for name in names}
    shown = {name: f"{result[name]:.4g}" for name in names}
    if report.ratio_error <= max(built.allowance, EXACT):
        shown["ratio_error"] = "0 up to rounding"
    lines = [f"{name:16s}{text}" for name, text in shown.items()]
    asked = {"ratio_error": built.ratio_error, "leak": built.leak}
    wanted = f"the ratio error {built.ratio_error:g} and leak {built.leak:g} asked"
    if built.total_variation is not None:
        asked["total_variation"] = built.total_variation
        wanted = f"the total variation {built.total_variation:g} asked"
    result |= {
        "logit_scale": report.logit_spread,  # under its old name too
        "asked": asked,
        "allowance": built.allowance,
        "meets": meets,
    }
    verdict = "meets" if meets else "MISSES"
    lines.append(f"{verdict} {wanted}, with {built.allowance:.1g} allowed for rounding")
    if built.allowance > LARGEST_ALLOWANCE:
        lines.append("which is too much to say more: ask for smaller logits or --dtype float64")
    return result, lines


def example(options):
    """Write a pattern to start from."""
    length = check_int("length", options.length)
    target = EXAMPLES[options.pattern](length, check_int("seed", options.seed, minimum=0))
    files.write_target(options.output, target)
    about = _about(target)
    result = {**about, "pattern": options.pattern, "output": str(options.output)}
    lines = [
        f"{options.pattern}: {_description(about)}",
        f"wrote it to {options.output}; now",
        f"  jl-attention dim {options.output}",
        f"  jl-attention build {options.output} -o built.npz --tv 0.01",
    ]
    return DONE, result, "\n".join(lines)


# --- Input and output ----------------------------------------------------------------------------


def _read_target(options):
    return files.read_target(
        options.target,
        normalize=options.normalize,
        max_bytes=options.max_bytes,
        array=options.array,
        head=options.head,
        mask=options.mask,
        top_k=options.top_k,
        threshold=options.threshold,
        self_loops=options.self_loops,
        padding=options.padding,
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


def _finite(value):
    """Replace infinities, which JSON has no word for, by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(rows):
    header = {name: name.replace("_", " ") for name in rows[0]}
    cells = [
        {
            name: f"{value:.3g}" if isinstance(value, float) else str(value)
            for name, value in r.items()
        }
        for r in rows
    ]
    widths = {name: max(len(line[name]) for line in [header, *cells]) for name in header}
    left = ("theorem", "method", "standing")
    return "\n".join(
        "  ".join(
            line[name].ljust(width) if name in left else line[name].rjust(width)
            for name, width in widths.items()
        )
        for line in [header, *cells]
    )


# --- The parser ----------------------------------------------------------------------------------


def _head(text):
    """Return the index of a matrix in a stack: "3", or "0,3"."""
    index = tuple(int(part) for part in text.split(","))
    return index if len(index) > 1 else index[0]


def _parser():
    parser = argparse.ArgumentParser(
        prog="jl-attention",
        description=__doc__.split("\n")[0].replace("``", ""),
        epilog=f"{CONVENTION}: the first is what the book writes, the second what kernels take.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared, reading, asking = _shared_options(), _reading_options(), _asking_options()

    command = commands.add_parser("example", parents=[shared], help=example.__doc__)
    command.add_argument("-o", "--output", required=True, help=".npz, .mtx or .npy")
    command.add_argument("--pattern", choices=list(EXAMPLES), default="causal_window")
    command.add_argument("--length", type=int, default=1024, metavar="L", help="(%(default)s)")
    command.add_argument("--seed", type=int, default=0, help="of the weights (%(default)s)")
    command.set_defaults(run=example)

    command = commands.add_parser("dim", parents=[shared, reading, asking], help=dim.__doc__)
    command.add_argument("target", nargs="?", metavar="TARGET", help=TARGET_HELP)
    command.add_argument("--length", type=int, metavar="L")
    command.add_argument("--row-nnz", type=int, metavar="K")
    command.add_argument("--max-ratio", type=float, default=1.0, metavar="GAMMA")
    command.add_argument(
        "--ratio-error",
        type=float,
        metavar="EPS1",
        help="for the methods that only approximate the ratios " + RATIO_ERROR_HELP,
    )
    command.set_defaults(run=dim)

    command = commands.add_parser("build", parents=[shared, reading, asking], help=build.__doc__)
    command.add_argument("target", metavar="TARGET", help=TARGET_HELP)
    command.add_argument("-o", "--output", required=True, help=".npz or .safetensors")
    command.add_argument("--method", choices=list(METHODS), default="interpolate")
    command.add_argument("--dim", type=int, metavar="M", help="by default the theorem's")
    command.add_argument(
        "--ratio-error",
        type=float,
        metavar="EPS1",
        help="0 where the ratios are exact, else " + RATIO_ERROR_HELP,
    )
    command.add_argument("--seed", type=int, default=0, help="of the codes (%(default)s)")
    command.add_argument("--retries", type=int, default=0, help="draw again until it is precise")
    command.add_argument("--dtype", choices=["float64", "float32"], default="float64")
    command.add_argument(
        "--full",
        action="store_true",
        help="write X, W_Q, W_K, Q and K too, not queries and keys only",
    )
    command.add_argument(
        "--no-measure",
        dest="measure",
        action="store_false",
        help="do not look at every pair of tokens afterwards",
    )
    command.set_defaults(run=build)

    command = commands.add_parser("measure", parents=[shared, reading], help=measure_file.__doc__)
    command.add_argument("construction", metavar="BUILT", help="what build wrote")
    command.add_argument("target", metavar="TARGET", help=TARGET_HELP)
    command.set_defaults(run=measure_file)

    several = argparse.ArgumentParser(add_help=False, parents=[shared])
    several.add_argument("--normalize", action="store_true", help=NORMALIZE_HELP)
    add_block_commands(commands, several)
    add_workload_commands(commands, several)
    return parser


TARGET_HELP = (
    "a sparse matrix in .mtx (.gz, .bz2) or .npz, or a dense one or a stack of heads in .npy, .npz "
    f"or .safetensors; {STDIN} is the standard input; a directory stays on disk, and is read block "
    "by block"
)
RATIO_ERROR_HELP = f"({RATIO_ERROR}, or what costs half the total variation asked for)"
NORMALIZE_HELP = "divide each row of the target by its sum"


def _shared_options():
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object")
    shared.add_argument(
        "--max-bytes", type=int, default=files.MAX_BYTES, help="refuse larger files (%(default)s)"
    )
    return shared


def _reading_options():
    reading = argparse.ArgumentParser(add_help=False)
    group = reading.add_argument_group("reading the target")
    group.add_argument("--normalize", action="store_true", help=NORMALIZE_HELP)
    group.add_argument("--array", metavar="NAME", help="which matrix of a file of several")
    group.add_argument("--head", type=_head, metavar="I[,J]", help="which matrix of a stack")
    group.add_argument(
        "--mask",
        choices=CONVENTIONS,
        help="it is a mask: 1 keeps, 1 is masked, or it is added to logits",
    )
    group.add_argument("--top-k", type=int, metavar="K", help="keep the largest of each row")
    group.add_argument("--threshold", type=float, metavar="W", help="keep what is at least this")
    group.add_argument("--self-loops", action="store_true", help="let every token see itself")
    group.add_argument("--padding", choices=PADDINGS, help="what tokens with an empty row do")
    return reading


def _asking_options():
    asking = argparse.ArgumentParser(add_help=False)
    group = asking.add_argument_group("what is asked for")
    precision = group.add_mutually_exclusive_group()
    precision.add_argument(
        "--total-variation",
        "--tv",
        type=float,
        metavar="T",
        help="how far a row of attention may be from the target's",
    )
    precision.add_argument(
        "--leak",
        type=float,
        metavar="EPS2",
        help=f"largest weight of an unwanted token, in units of a wanted one's ({LEAK})",
    )
    group.add_argument(
        "--failure-prob", type=float, default=0.01, metavar="ETA", help="(%(default)s)"
    )
    group.add_argument(
        "--logit-scale", type=float, metavar="TAU", help="by default the method's own"
    )
    return asking


if __name__ == "__main__":
    sys.exit(main())
