"""First results of graders that cannot be asked twice, as observations of the run's journal.

A judge may answer differently the second time, and a deadline may be missed on a busy machine: so
what was said first stays, for later sessions and rebuilds too.
"""

from __future__ import annotations

import json
import threading
from typing import Any

from tracelab.core.item import Observation
from tracelab.store.journal import Journal
from tracelab.store.spent import GRADES


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
            self._journal.append([Observation.of(GRADES + key, 0, value)])
            return value

    def lost(self, key: str, why: str, cost: dict[str, Any]) -> None:
        """Record a failure: a later success stands in its place, and what it cost stays."""
        failed = Observation(
            GRADES + key, 0, finish_reason="error", error=why, text=json.dumps(cost)
        )
        with self._lock:
            self._journal.append([failed])

    def _find(self, key: str) -> dict[str, Any] | None:
        for batch in self._journal.recorded({GRADES + key: (0,)}):
            for o in batch:
                if o.error is None:
                    found: dict[str, Any] = o.value
                    return found
        return None
