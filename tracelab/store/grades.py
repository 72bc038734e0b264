"""First results of graders that cannot be asked twice, as observations of the run's journal.

A judge may answer differently the second time, and a deadline may be missed on a busy machine: so
what was said first stays, for later sessions and rebuilds too.
"""

from __future__ import annotations

import threading
from typing import Any

from tracelab.core.item import Observation
from tracelab.store.journal import Journal


class JournalOutcomes:
    """Results by key; the first put under a key stays. Safe among the threads of a grader."""

    def __init__(self, journal: Journal) -> None:
        """Keep them in a run's journal."""
        self._journal = journal
        self._lock = threading.Lock()

    def get(self, key: str) -> dict[str, Any] | None:
        """What was recorded under a hex key, or None."""
        with self._lock:
            return self._find(key)

    def put(self, key: str, value: dict[str, Any]) -> dict[str, Any]:
        """Record a value unless there is one; the one that is recorded."""
        with self._lock:
            if (known := self._find(key)) is not None:
                return known
            self._journal.append([Observation.of(f"grade/{key}", 0, value)])
            return value

    def _find(self, key: str) -> dict[str, Any] | None:
        for batch in self._journal.recorded({f"grade/{key}": (0,)}):
            for o in batch:
                found: dict[str, Any] = o.value
                return found
        return None
