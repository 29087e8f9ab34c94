"""``jl-attention workload`` and ``jl-attention score``: the test bench from a shell.

`add_commands` hooks both into the parser of `jl_attention.cli`; each returns, as the commands there
do, an exit code, a result for ``--json`` and a text.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .. import files
from ..errors import ParameterError, check_choice
from . import workload as bench
from .formats import FORMATS
from .geometry import GEOMETRIES
from .patterns import PATTERNS
from .scoring import MAX_ROWS, score
from .selectors import SELECTORS

if TYPE_CHECKING:
    import argparse
    from typing import Any

__all__ = [
    "add_commands",
    "make_file",
    "score_file",
]


def add_commands(commands: argparse._SubParsersAction, shared: argparse.ArgumentParser) -> None:
    """Add both commands.

    Parameters
    ----------
    commands : argparse._SubParsersAction
        What ``add_subparsers`` returned.
    shared : argparse.ArgumentParser
        Parent parser with ``--json``, ``--normalize`` and ``--max-bytes``.
    """
    command = commands.add_parser("workload", parents=[shared], help=make_file.__doc__)
    command.add_argument(
        "pattern", metavar="NAME", help=f"{', '.join(PATTERNS)}, or a file with a causal target"
    )
    command.add_argument("-o", "--output", required=True, help=".npz or .safetensors")
    command.add_argument("--length", type=int, metavar="L", help="of a named pattern")
    command.add_argument("--head-dim", type=int, default=128, metavar="M", help="(%(default)s)")
    command.add_argument("--heads", type=int, metavar="H", help="query heads (as key heads)")
    command.add_argument("--kv-heads", type=int, default=1, help="key heads (%(default)s)")
    command.add_argument("--geometry", choices=list(GEOMETRIES), default="random")
    command.add_argument("--leak", type=float, default=0.5, metavar="EPS2", help="(%(default)s)")
    command.add_argument(
        "--total-variation", "--tv", type=float, default=0.05, metavar="T", help="(%(default)s)"
    )
    command.add_argument("--logit-scale", type=float, metavar="TAU")
    command.add_argument("--format", choices=list(FORMATS), default="bfloat16")
    command.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    _add_settings(command, "of the pattern, such as count=1")
    command.set_defaults(run=make_file)

    command = commands.add_parser("score", parents=[shared], help=score_file.__doc__)
    command.add_argument("workload", metavar="FILE", help="what workload wrote")
    command.add_argument(
        "selection",
        metavar="METHOD",
        nargs="+",
        help=f"{', '.join(SELECTORS)}; or for each query head a file with the pairs kept: "
        "SciPy's sparse .npz, Matrix Market .mtx, or dense .npy",
    )
    command.add_argument("--max-rows", type=int, default=MAX_ROWS, help="scored (%(default)s)")
    _add_settings(command, "of the method, such as budget=4096")
    command.set_defaults(run=score_file)


def make_file(options: argparse.Namespace) -> tuple[int, dict[str, Any], str]:
    """Make queries and keys whose attention is known, and write them with their certificate."""
    pattern = options.pattern
    in_a_file = bool(Path(pattern).suffix)
    files.check_writable(options.output, inputs=[pattern] if in_a_file else [])
    if in_a_file:
        pattern = files.read_target(
            pattern, normalize=options.normalize, max_bytes=options.max_bytes
        )
    made = bench.make(
        pattern,
        options.length,
        head_dim=options.head_dim,
        heads=options.heads,
        kv_heads=options.kv_heads,
        geometry=options.geometry,
        leak=options.leak,
        total_variation=options.total_variation,
        logit_scale=options.logit_scale,
        number_format=options.format,
        rng=options.seed,
        **_settings(options),
    )
    made.save(options.output)
    result = {
        "heads": made.heads,
        "kv_heads": made.kv_heads,
        "length": made.length,
        "head_dim": made.head_dim,
        "certificate": made.certificate.as_dict(),
        "output": str(options.output),
    }
    certified = made.certificate
    text = (
        f"{made.heads} query heads on {made.kv_heads} of keys, L = {made.length}, "
        f"m = {made.head_dim}, exact in {', '.join(certified.formats)}\n"
        f"leak {certified.leak:.3g}, total variation {certified.mean_total_variation:.3g} in the "
        f"mean, {certified.total_variation:.3g} in the worst row\nwrote {options.output}"
    )
    return 0, result, text


def score_file(options: argparse.Namespace) -> tuple[int, dict[str, Any], str]:
    """Score a method, or the pairs that one of yours keeps, on a workload."""
    loaded = bench.load(options.workload, max_bytes=options.max_bytes)
    if len(options.selection) == 1 and not Path(options.selection[0]).suffix:
        name = check_choice("METHOD", options.selection[0], SELECTORS)
        try:
            selection = SELECTORS[name](loaded.Q, loaded.K, **_settings(options))
        except TypeError as error:
            raise ParameterError(f"{name}: {error}") from None
    else:
        if options.set:
            raise ParameterError("--set: pairs from a file have no settings")
        selection = [
            files.read_matrix(path, max_bytes=options.max_bytes) for path in options.selection
        ]
    result = asdict(score(selection, loaded, max_rows=options.max_rows))
    return 0, result, "\n".join(f"{name:14s}{value:.4g}" for name, value in result.items())


def _add_settings(command, help_text):
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=help_text)


def _settings(options):
    """Return what ``--set`` gave as keyword arguments; numbers as JSON has them."""
    settings = {}
    for text in options.set:
        key, _, value = text.partition("=")
        try:
            settings[key] = json.loads(value)
        except json.JSONDecodeError:
            raise ParameterError(f"--set {text}: expected KEY=NUMBER") from None
    return settings
