"""The one way in which this package and the book's write files: whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "write_atomically",
]


def write_atomically(path: str | Path, content: bytes | memoryview | Callable) -> None:
    """Write a file so that no reader sees half of it; one that was there before is replaced.

    Parameters
    ----------
    path : str or path
    content : bytes-like, or callable
        What to write, or a function that writes it to the open binary file that it is given.

    Raises
    ------
    OSError
        The file cannot be written; one that was there before is then as it was.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("xb") as file:
            content(file) if callable(content) else file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
