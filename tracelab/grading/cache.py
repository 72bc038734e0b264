"""What graders that cannot be asked twice have said, by a hash of everything that was asked.

A judge may answer differently the second time, and a deadline may be missed on a busy machine. So
the first result is kept, in one small JSON file a key, and later sessions, rebuilds and other
threads read that one. Without a folder it is kept in memory, for this process only.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

_LIMIT = 100_000  # entries in memory


class OutcomeCache:
    """Results by key; the first put under a key stays. Safe among threads and processes."""

    def __init__(self, folder: Path | None) -> None:
        """Set the folder, made when first needed; None keeps results in memory."""
        self._folder = folder
        self._memory: dict[str, dict[str, Any]] = {}

    def get(self, key: str) -> dict[str, Any] | None:
        """Return what was recorded under a hex key, or None."""
        if self._folder is None:
            return self._memory.get(key)
        try:
            found = json.loads(self._path(key).read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def put(self, key: str, value: dict[str, Any]) -> dict[str, Any]:
        """Record a value unless there is one; return the one that is recorded.

        Raises:
            OSError: The folder cannot be written.
        """
        if self._folder is None:
            if len(self._memory) >= _LIMIT:
                self._memory.clear()
            return self._memory.setdefault(key, value)
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as f:
                json.dump(value, f)
                f.flush()
                os.fsync(f.fileno())
            try:
                os.link(name, path)  # fails if another was first, unlike a rename
            except FileExistsError:
                known = self.get(key)
                if known is not None:
                    return known
                os.replace(name, path)  # what stood there was not readable
            except OSError:  # a file system without hard links
                os.replace(name, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        return value

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / key[:2] / f"{key}.json"
