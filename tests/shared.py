"""Published data beside the repository: where it is, and when a test may do without.

`../shared`, or $TRACELAB_SHARED. Only where the folder does not exist are tests of it skipped;
where it does, what they need must be in it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("TRACELAB_SHARED", Path(__file__).parents[1].parent / "shared"))
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"there is no folder {SHARED}")


def shared(name: str) -> Path:
    """A file or folder of it.

    Raises:
        FileNotFoundError: The shared folder is there, and this is not in it.
    """
    path = SHARED / name
    if SHARED.is_dir() and not path.exists():
        raise FileNotFoundError(f"{SHARED} is there, but has no {name}")
    return path


def thought_anchors() -> list[Path]:
    """Folders of the published Thought Anchors traces; none where there is no shared folder.

    Raises:
        FileNotFoundError: The shared folder is there and holds none, or one without its problem.
    """
    root = shared("data/thought_anchors")
    found = sorted(p.parent for p in root.rglob("base_solution.json"))
    if SHARED.is_dir() and not found:
        raise FileNotFoundError(f"{root} holds no trace")
    for folder in found:
        for name in ("problem.json", "chunks_labeled.json"):
            shared(str((folder / name).relative_to(SHARED)))
    return found
