"""Records today's numbers: `python -m tests.snapshot.record [STUDY ...]`, default: all of them.

For changes that are meant to change numbers; say in the commit which, and why. It prints what
differs from what was recorded before.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.snapshot.pinned import STUDIES
from tests.snapshot.warehouse import (
    RECORDED,
    differences,
    read,
    record,
    recorded,
    run_study,
    workers,
)


def main(names: Sequence[str]) -> int:
    if unknown := sorted(set(names) - set(STUDIES)):
        print(f"there is no study {unknown[0]!r}; there are {', '.join(STUDIES)}", file=sys.stderr)
        return 2
    with workers():
        for name in names or STUDIES:
            began = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                found = read(run_study(name, Path(folder)))
            before = recorded(name) if (RECORDED / f"{name}.json.gz").exists() else None
            print(f"{name}: {record(name, found):,} bytes, {time.monotonic() - began:.0f} s")
            if before is None:
                print("  was not there before")
            else:
                print("\n".join(differences(name, before, found)) or "  as before")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
