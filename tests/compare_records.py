"""Compare the numbers of all checks, with all digits, with the committed ones.

    python tests/compare_records.py book/results/records _build/records

Another processor may change the last digits: a relative difference of `TOLERANCE` is too much.
"""

import math
import sys
from pathlib import Path

from jl_attention_book.claims import read_records

TOLERANCE = 1e-6


def differences(committed, made):
    """Yield a line for each record that differs between two folders."""
    names = {path.name for folder in (committed, made) for path in Path(folder).glob("*.jsonl")}
    for name in sorted(names):
        paths = Path(committed) / name, Path(made) / name
        missing = [path for path in paths if not path.exists()]
        if missing:
            yield f"{missing[0]}: missing"
            continue
        old, new = map(read_records, paths)
        if [(record.id, record.relation) for record in old] != [
            (record.id, record.relation) for record in new
        ]:
            yield f"{name}: other checks, or in another order"
            continue
        for before, after in zip(old, new, strict=True):
            pairs = (before.measured, after.measured), (before.bound, after.bound)
            if not all(math.isclose(*pair, rel_tol=TOLERANCE) for pair in pairs):
                yield f"{name}: {before.id}: {pairs[0]} {before.relation} {pairs[1]}"


if __name__ == "__main__":
    sys.exit("\n".join(differences(*sys.argv[1:3])) or 0)
