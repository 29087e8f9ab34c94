"""`interop.files` under the name it had before."""

from .interop.files import (
    MAX_BYTES,
    arrays,
    check_writable,
    load,
    read_matrix,
    read_target,
    save,
    write_target,
)
from .interop.torch import to_torch

__all__ = [
    "MAX_BYTES",
    "arrays",
    "check_writable",
    "load",
    "read_matrix",
    "read_target",
    "save",
    "to_torch",
    "write_target",
]
