"""What graders that cannot be asked twice have said, by a hash of everything that was asked.

A judge may answer differently the second time, and a deadline may be missed on a busy machine. So
the first result is kept, and other threads, later sessions and rebuilds read that one. A run keeps
them in its journal (`tracelab.store.grades`); without one they are kept in memory.
"""

from __future__ import annotations

from typing import Any, Protocol

_LIMIT = 100_000  # entries in memory


class OutcomeCache(Protocol):
    """Results by key; the first put under a key stays. Safe among threads."""

    def get(self, key: str) -> dict[str, Any] | None:
        """What was recorded under a hex key, or None."""
        ...

    def put(self, key: str, value: dict[str, Any]) -> dict[str, Any]:
        """Record a value unless there is one; the one that is recorded."""
        ...

    def lost(self, key: str, why: str, cost: dict[str, Any]) -> None:
        """Record that nothing could be had, and what that cost; it is asked again."""
        ...


class MemoryOutcomes:
    """For this process only."""

    def __init__(self) -> None:
        """Start empty."""
        self._held: dict[str, dict[str, Any]] = {}

    def get(self, key: str) -> dict[str, Any] | None:
        """See `OutcomeCache.get`."""
        return self._held.get(key)

    def put(self, key: str, value: dict[str, Any]) -> dict[str, Any]:
        """See `OutcomeCache.put`."""
        if len(self._held) >= _LIMIT:
            self._held.clear()
        return self._held.setdefault(key, value)

    def lost(self, key: str, why: str, cost: dict[str, Any]) -> None:
        """See `OutcomeCache.lost`."""
