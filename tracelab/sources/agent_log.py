"""What the importers of agent logs share: steps in the making, and one trace a document.

Unlike plain JSONL, an agent log with a blemish is worth keeping: bytes that are not text become
U+FFFD and a flag, a missing result is a step that says so. A record is refused only when it
cannot be read at all or has no steps.
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracelab.core.episode import Episode, InputStore, Step, ToolCall
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.agent_json import BadRecordError, parse_json
from tracelab.sources.base import Seen, excerpt
from tracelab.sources.lines import MAX_LINE_BYTES, open_bytes, read_lines
from tracelab.sources.sniff import LINES

MAX_FILE_BYTES = 256 << 20


class StepList:
    """Steps in the making; pairs tool calls with results by id, in order where ids repeat."""

    def __init__(self) -> None:
        """Start empty."""
        self.steps: list[Step] = []
        self.store = InputStore()
        self._open: dict[str | None, deque[tuple[int, ToolCall]]] = {}
        self._ids: set[str] = set()

    def add(self, step: Step) -> int:
        """Append a step; its index is set here. Returns the index."""
        index = len(self.steps)
        flags = list(step.flags)
        for call in step.calls:
            if call.arguments.error:
                flags.append("invalid_arguments")
            if call.id is not None and call.id in self._ids:
                flags.append("duplicate_id")
            if call.id is not None:
                self._ids.add(call.id)
            self._open.setdefault(call.id, deque()).append((index, call))
        self.steps.append(replace(step, index=index, flags=tuple(dict.fromkeys(flags))))
        return index

    def place(self, step: Step, parent: int | None) -> None:
        """Append a finished step of another list; its calls are paired already."""
        self.steps.append(replace(step, index=len(self.steps), parent=parent))

    def result(
        self, call_id: str | None, text: str, flags: tuple[str, ...] = (), **more: Any
    ) -> int:
        """Append what a tool answered to an open call, or to no known call (`orphan_result`).

        An answer without an id belongs to the oldest open call of its tool, or to the only one.
        """
        waiting = self._open.get(call_id)
        if not waiting and call_id is None and (still := self._waiting()):
            named = [call for _, call in still if call.name == more.get("tool")]
            if named or len(still) == 1:
                waiting = self._open[(named[0] if named else still[0][1]).id]
        if not waiting:
            return self.add(
                Step(0, "tool", content=text, result=text, tool_call_id=call_id,
                     flags=(*flags, "orphan_result"), **more)
            )  # fmt: skip
        parent, call = waiting.popleft()
        more = {
            "agent": self.steps[parent].agent, "tool": call.name, "arguments": call.arguments,
            **{k: v for k, v in more.items() if v is not None},
        }  # fmt: skip
        if call.arguments.error:
            flags = (*flags, "invalid_arguments")
        return self.add(
            Step(0, "tool", content=text, result=text, tool_call_id=call.id, parent=parent,
                 flags=flags, **more)
        )  # fmt: skip

    def add_call(self, index: int, call: ToolCall) -> None:
        """One call more of a step that is there already; its result may come from now on."""
        step = self.steps[index]
        self.steps[index] = replace(step, calls=(*step.calls, call))
        self._open.setdefault(call.id, deque()).append((index, call))

    def close(self, call: ToolCall) -> None:
        """A call that no tool answers, such as one that ends the run."""
        self._open.pop(call.id, None)

    def is_open(self, call_id: str) -> bool:
        """Whether a call of this id still waits for its result."""
        return bool(self._open.get(call_id))

    def no_result(self, index: int) -> None:
        """Say that a tool step's result is not known, which is not an empty result."""
        self.steps[index] = replace(self.steps[index], content="", result=None)

    def unanswered(self) -> None:
        """Append a `missing_result` step for every call that is still open."""
        for parent, call in self._waiting():
            flags: tuple[str, ...] = ("missing_result",)
            if call.arguments.error:
                flags = (*flags, "invalid_arguments")
            self.add(
                Step(0, "tool", agent=self.steps[parent].agent, tool=call.name,
                     tool_call_id=call.id, arguments=call.arguments, parent=parent, flags=flags)
            )  # fmt: skip
        self._open.clear()

    def _waiting(self) -> list[tuple[int, ToolCall]]:
        return sorted((w for q in self._open.values() for w in q), key=lambda w: w[0])


Read = Callable[[Any, Path, int], Episode]


def read_documents(
    path: Path, seen: Seen | None, one: Read, *, lines: bool
) -> Iterator[Trace | Reject]:
    """Yield the trace, or the reject, of each document of a file: one a line, or the whole file."""
    seen = Seen() if seen is None else seen
    for number, data, problem in documents(path, lines=lines):
        try:
            if problem:
                raise BadRecordError(problem)
            episode = one(parse_json(data), path, number)
        except BadRecordError as e:
            yield Reject(str(path), number, e.reason, excerpt(data), e.field)
        else:
            yield finish(episode, seen, excerpt(data))


def read_records(
    path: Path,
    seen: Seen | None,
    one: Read,
    *,
    inside: str | None = None,
    whole: Callable[[Any], bool] | None = None,
) -> Iterator[Trace | Reject]:
    """Yield the trace, or the reject, of each record: one a line, of an array, or the whole file.

    Args:
        path: The file; named like JSON lines, it holds a record a line.
        seen: What the import has read so far.
        one: Makes an episode of a record, numbered from 1; 0 where the file is one record.
        inside: Key of a document that holds its records as a list.
        whole: Whether a list that begins with this is one record, not one of records.
    """
    seen = Seen() if seen is None else seen
    for number, data, problem in documents(path, lines=path.name.lower().endswith(LINES)):
        try:
            if problem:
                raise BadRecordError(problem)
            value = parse_json(data)
        except BadRecordError as e:
            yield Reject(str(path), number, e.reason, excerpt(data), e.field)
            continue
        if inside is not None and isinstance(value, dict) and isinstance(value.get(inside), list):
            value = value[inside]
        many = number == 0 and isinstance(value, list) and not (whole is not None and value and whole(value[0]))
        for n, record in enumerate(value if many else [value], 1):
            at = number or (n if many else 0)
            start = excerpt(json.dumps(record) if many else data)
            try:
                episode = one(record, path, at)
            except BadRecordError as e:
                yield Reject(str(path), at, e.reason, start, e.field)
            else:
                yield finish(episode, seen, start)


def finish(episode: Episode, seen: Seen, start: str) -> Trace | Reject:
    """Turn an episode into a trace, unless it has no steps or was imported before."""
    file, line = episode.source, episode.line
    if not episode.steps:
        return Reject(file, line, f"{episode.name}: the run has no steps.", start)
    trace = Trace.of_episode(episode)
    if duplicate := seen.duplicate_of(trace, file, line, None):
        return Reject(file, line, duplicate, start)
    return trace


def documents(path: Path, *, lines: bool) -> Iterator[tuple[int, bytes, str | None]]:
    """Yield (line, bytes, problem) of each document: one a line, or the whole file as line 0."""
    if lines:
        for line in read_lines(path, MAX_LINE_BYTES):
            yield line.number, line.data, line.problem
        return
    try:
        with open_bytes(path) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (EOFError, OSError, zlib.error) as e:
        yield 0, b"", f"The file cannot be read ({e})."
        return
    if len(data) > MAX_FILE_BYTES:
        yield 0, data[:1000], f"The file is larger than {MAX_FILE_BYTES >> 20} MiB."
    else:
        yield 0, data, None
