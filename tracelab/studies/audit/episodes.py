"""The recorded runs of an audit, kept in its journal: many of them, one at a time in memory.

Written once, as they are read; gone through as often as an audit needs to, from the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tracelab.core.episode import Episode
from tracelab.core.trace import Trace
from tracelab.store.journal import Journal

EPISODES = "episodes.jsonl"


@dataclass(frozen=True, slots=True)
class Brief:
    """What is kept in memory of a run: how its verdicts call it."""

    name: str
    task_id: str | None
    version: str | None


class Episodes:
    """The runs of one audit, in order, by trace id."""

    def __init__(self, journal: Journal) -> None:
        """Those that the journal has, if any."""
        self._journal = journal
        self._briefs: dict[str, Brief] | None = None

    def write(self, episodes: Iterable[Episode]) -> None:
        """Replace them all; of runs that are the same, the first is kept.

        Whatever reading them raises is raised here, and then nothing is replaced.
        """
        briefs: dict[str, Brief] = {}

        def rows() -> Iterator[dict[str, Any]]:
            for e in episodes:
                trace = Trace.of_episode(e).trace_id
                if trace not in briefs:
                    briefs[trace] = Brief(e.name, e.task_id, e.version)
                    yield {"trace": trace, "episode": e.to_json()}

        self._journal.write_lines(EPISODES, rows())
        self._briefs = briefs

    @property
    def briefs(self) -> dict[str, Brief]:
        """By trace."""
        if self._briefs is None:
            self._briefs = {t: Brief(e.name, e.task_id, e.version) for t, e in self}
        return self._briefs

    def __len__(self) -> int:
        return len(self.briefs)

    def __iter__(self) -> Iterator[tuple[str, Episode]]:
        """Trace ids and runs, one at a time."""
        for row in self._journal.lines(EPISODES):
            yield row["trace"], Episode.from_json(row["episode"])
