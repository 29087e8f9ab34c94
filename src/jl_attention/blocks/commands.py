"""``jl-attention compile``: an input for a model's block, from a shell.

`add_commands` hooks it into the parser of `jl_attention.cli`; it returns, as the commands there do,
an exit code, a result for ``--json`` and a text.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import files
from ..errors import FileError, MissingFileError, ParameterError, check_int
from .compile import compile
from .families import from_config

if TYPE_CHECKING:
    import argparse
    from typing import Any

__all__ = [
    "add_commands",
    "compile_file",
    "read_config",
]


def add_commands(commands: argparse._SubParsersAction, shared: argparse.ArgumentParser) -> None:
    """Add the command.

    Parameters
    ----------
    commands : argparse._SubParsersAction
        What ``add_subparsers`` returned.
    shared : argparse.ArgumentParser
        Parent parser with ``--json``, ``--normalize`` and ``--max-bytes``.
    """
    command = commands.add_parser("compile", parents=[shared], help=compile_file.__doc__)
    command.add_argument("config", metavar="CONFIG.json", help="a model's configuration")
    command.add_argument(
        "patterns",
        metavar="PATTERN",
        nargs="+",
        help="one for each query head, or one for all: SciPy's sparse .npz, Matrix Market .mtx or "
        "dense .npy; - leaves a head free",
    )
    command.add_argument("-o", "--output", required=True, help=".safetensors")
    command.add_argument("--layer", type=int, default=0, help="(%(default)s)")
    command.add_argument(
        "--leak", type=float, default=0.01, metavar="EPS2", help="leak asked for (%(default)s)"
    )
    command.add_argument("--dim", type=int, metavar="M", help="coordinates of a head to use")
    command.add_argument("--logit-scale", type=float, metavar="TAU")
    command.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    command.add_argument("--dtype", choices=["float64", "float32"], default="float32")
    command.set_defaults(run=compile_file)


def compile_file(options: argparse.Namespace) -> tuple[int, dict[str, Any], str]:
    """Find the inputs_embeds for which a model's heads show given patterns, and write them."""
    files.check_writable(options.output, inputs=[options.config, *options.patterns])
    spec = from_config(read_config(options.config, options.max_bytes), options.layer)
    names = options.patterns
    if len(names) == 1:
        names = names * spec.query_heads
    read = {
        name: files.read_target(name, normalize=options.normalize, max_bytes=options.max_bytes)
        for name in dict.fromkeys(names)
        if name != "-"
    }
    compiled = compile(
        spec,
        [read.get(name) for name in names],
        options.leak,
        check_int("seed", options.seed, minimum=0),
        dim=options.dim,
        logit_scale=options.logit_scale,
        dtype=np.dtype(options.dtype),
    )
    compiled.save(options.output)
    heads = [head for head, pattern in enumerate(compiled.patterns) if pattern is not None]
    reports = {head: compiled.measure(head) for head in heads}
    result = {
        "spec": asdict(spec),
        "length": compiled.length,
        "dim": compiled.dim,
        "corrected": compiled.corrected,
        "heads": [
            {"head": head}
            | {
                name: getattr(report, name)
                for name in ("ratio_error", "leak", "total_variation", "sink")
            }
            for head, report in reports.items()
        ],
        "output": str(options.output),
    }
    worst = max(reports.values(), key=lambda report: report.total_variation)
    text = (
        f"{spec.family}: {len(heads)} of {spec.query_heads} query heads on {spec.kv_heads} key "
        f"heads, L = {compiled.length}, {compiled.dim} of {spec.head_dim} coordinates a head, "
        f"hidden size {spec.hidden_size}\n"
        f"largest leak {max(report.leak for report in reports.values()):.3g}, largest total "
        f"variation of a row {worst.total_variation:.3g}, as NumPy computes them\n"
        f"wrote inputs_embeds and the weights of layer {options.layer} to {options.output}"
    )
    return 0, result, text


def read_config(path: str | Path, max_bytes: int = files.MAX_BYTES) -> dict[str, Any]:
    """Return what a model's ``config.json`` holds, or raise `FileError`."""
    path = Path(path)
    try:
        if path.stat().st_size > max_bytes:
            raise FileError(f"{path}: larger than {max_bytes} bytes")
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"{path}: there is no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{path}: not a readable JSON file: {error}") from None
    if not isinstance(entries, dict):
        raise ParameterError(f"{path}: expected a JSON object, as a model's config.json is")
    return entries
