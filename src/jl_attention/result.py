"""Results: read-only, and equal when all that they hold is equal."""

from dataclasses import fields

import numpy as np

__all__ = [
    "Result",
]


class Result:
    """Base of frozen dataclasses that hold arrays; ``==`` gives one bool."""

    __hash__ = None

    def __eq__(self, other):
        """Return whether the other is of the same type and holds the same."""
        if type(self) is not type(other):
            return NotImplemented
        return all(
            _same(getattr(self, field.name), getattr(other, field.name))
            for field in fields(self)
            if field.compare
        )

    def _freeze(self, *names):
        """Replace arrays by read-only views of them."""
        for name in names:
            view = np.asarray(getattr(self, name)).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)


def _same(one, other):
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        one, other = np.asarray(one), np.asarray(other)
        return one.dtype == other.dtype and np.array_equal(one, other)
    return one == other
