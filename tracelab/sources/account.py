"""What an import read of each file, and what it left out, by kind: nothing is lost in silence.

Counted from what readers hand over: traces with their steps (or turns), what their readers say they
left out (`dropped` of a run's `meta` or a trace's `extra`), and rejects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from tracelab.core.seam import Reject
from tracelab.core.trace import Trace

_STEPS = {"llm": "messages of models", "user": "messages of users", "system": "other messages"}
_TURNS = {"assistant": "llm", "user": "user"}


@dataclass(frozen=True, slots=True)
class ReadingRow:
    """A row of `readings`: so many things of one kind, in one file.

    `what` is `read`, `left_out` or `rejected`; `kind` names the things, in plain words.
    """

    table: ClassVar[str] = "readings"

    file: str
    what: str
    kind: str
    n: int


@dataclass(slots=True)
class Account:
    """Counts by file; add whatever a reader yields."""

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    better: int = 0
    _known: set[str] = field(default_factory=set)

    def add(self, item: Trace | Reject) -> None:
        """Count one trace or reject; a trace that comes again with its outcome is one."""
        if isinstance(item, Reject):
            self.counts[item.file, "rejected", "records"] += 1
            return
        if item.trace_id in self._known:
            self.better += 1
            return
        self._known.add(item.trace_id)
        for what, kind, n in _of(item):
            if n:
                self.counts[item.source, what, kind] += n

    def refuse(self, item: Trace, reject: Reject) -> None:
        """Take a trace back that was counted and could not be kept."""
        for what, kind, n in _of(item):
            self.counts[item.source, what, kind] -= n
        self._known.discard(item.trace_id)
        self.add(reject)

    def total(self, what: str) -> Counter[str]:
        """Counts by kind over all files."""
        out: Counter[str] = Counter()
        for (_, w, kind), n in self.counts.items():
            if w == what and n > 0:
                out[kind] += n
        return out

    @property
    def files(self) -> list[str]:
        """The files that anything was found in."""
        return sorted({file for file, _, _ in self.counts})

    def rows(self) -> list[ReadingRow]:
        """As rows of the database."""
        return [ReadingRow(f, w, k, n) for (f, w, k), n in sorted(self.counts.items()) if n > 0]

    def lines(self) -> Iterator[str]:
        """What was read and what was left out, a sentence each."""
        read = self.total("read")
        traces = read.pop("traces", 0)
        yield f"read: traces {traces}" + "".join(f", {kind} {n}" for kind, n in read.items())
        if left := self.total("left_out"):
            most = left.most_common(_MOST_SAID)
            more = len(left) - len(most)
            yield (
                "left out: "
                + ", ".join(f"{kind} {n}" for kind, n in most)
                + (f" and {more} kinds more (table readings)" if more > 0 else "")
            )


_MOST_SAID = 8


def _of(trace: Trace) -> Iterator[tuple[str, str, int]]:
    yield "read", "traces", 1
    episode = trace.episode
    if episode is None:
        roles = Counter(_TURNS.get(t.role, "system") for t in trace.turns)
        for role, kind in _STEPS.items():
            yield "read", kind, roles[role]
        told = trace.extra.get("dropped")
    else:
        kinds = Counter(s.kind for s in episode.steps)
        for role, kind in _STEPS.items():
            yield "read", kind, kinds[role]  # type: ignore[index]
        flags = Counter(f for s in episode.steps if s.kind == "tool" for f in s.flags)
        yield "read", "calls", sum(len(s.calls) for s in episode.steps)
        yield "read", "results", kinds["tool"] - flags["missing_result"]
        yield "read", "calls without a result", flags["missing_result"]
        yield "read", "results without a call", flags["orphan_result"]
        yield "read", "errors of tools", flags["error"]
        yield "read", "messages with reasoning", sum(bool(s.reasoning) for s in episode.steps)
        parts = sum("non_text" in s.flags for s in episode.steps)
        yield "left_out", "messages with parts that are no text", parts
        told = episode.meta.get("dropped")
    for kind, n in told.items() if isinstance(told, dict) else ():
        if isinstance(n, int) and not isinstance(n, bool):
            yield "left_out", str(kind)[:200], n
