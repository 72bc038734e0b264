"""The kind of each record of a file whose records stand alone: files mix traces, chats, rows.

Where the format was not said, a reader asks `foreign` before it takes a record for one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tracelab.core.episode import Episode
from tracelab.core.trace import Trace
from tracelab.sources.base import BadRecordError, Seen, SourceFormat
from tracelab.sources.files.sniff import Head
from tracelab.sources.registry import SOURCES

One = Callable[[Any, Path, int], Iterator[Trace]]


def foreign(record: Any, mine: str, path: Path, number: int, seen: Seen) -> Iterator[Trace] | None:
    """The traces of a record that is of another format than its file's; else None.

    Args:
        record: Its JSON value.
        mine: The format that the file is read with.
        path: The file.
        number: The record's number.
        seen: What the import knows: whether formats are guessed at all.
    """
    if not seen.by_record or not isinstance(record, dict):
        return None
    if not seen.alone:
        seen.alone = tuple(
            (name, s) for name, s in SOURCES.items() if s.one is not SourceFormat.one
        )
    # As of a document: what takes every line would take this one from the file's own format.
    head = Head("record.json", b"{", record, by_line=True)
    for name, source in seen.alone:
        if source.sniff(head):
            return None if name == mine else _fresh(source.one(record, path, number), seen, path)
    return None


def _fresh(traces: Iterator[Trace], seen: Seen, path: Path) -> Iterator[Trace]:
    for trace in traces:
        if duplicate := seen.duplicate_of(trace, str(path), trace.line, None):
            raise BadRecordError(duplicate)
        yield trace


def one_run(read: Callable[[Any, Path, int], Episode]) -> One:
    """`SourceFormat.one` of a format whose record is an agent's run."""

    def traces(record: Any, path: Path, number: int) -> Iterator[Trace]:
        episode = read(record, path, number)
        if not episode.steps:
            raise BadRecordError(f"{episode.name}: the run has no steps.")
        yield Trace.of_episode(episode)

    return traces
