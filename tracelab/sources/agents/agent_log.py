"""What the importers of agent logs share: steps in the making, and one trace a document.

Unlike plain JSONL, an agent log with a blemish is worth keeping: bytes that are not text become
U+FFFD and a flag, a missing result is a step that says so. A record is refused only when it
cannot be read at all or has no steps.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tracelab.core.episode import Episode, InputStore, Step, ToolCall
from tracelab.core.outside import decode, whole
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.base import (
    EXCERPT_CHARS,
    BadRecordError,
    Seen,
    caught,
    excerpt,
    refused,
)
from tracelab.sources.files.guess import foreign
from tracelab.sources.files.records import documents
from tracelab.sources.files.sniff import Head

MAX_STEPS = 20_000
"""Most steps of one run, and most messages of one model input."""


@dataclass(slots=True)
class _Call:
    """A call that was asked for: by which step, and whether its result is still to come."""

    parent: int
    call: ToolCall
    open: bool = True


class StepList:
    """Steps in the making; pairs tool calls with results by id, in order where ids repeat."""

    def __init__(self) -> None:
        """Start empty."""
        self.steps: list[Step] = []
        self.store = InputStore()
        # Queues by id, by tool and of all; closed calls leave them when they come to the front.
        self._by_id: dict[str | None, deque[_Call]] = {}
        self._by_tool: dict[str, deque[_Call]] = {}
        self._all: deque[_Call] = deque()
        self._open = 0
        self._ids: set[str] = set()

    def add(self, step: Step) -> int:
        """Append a step; its index is set here. Returns the index.

        Raises:
            BadRecordError: They are more than `MAX_STEPS`.
        """
        index = len(self.steps)
        if index >= MAX_STEPS:
            raise BadRecordError(f"The run has more than {MAX_STEPS} steps.")
        flags = list(step.flags)
        for call in step.calls:
            if call.arguments.error:
                flags.append("invalid_arguments")
            if call.id is not None and call.id in self._ids:
                flags.append("duplicate_id")
            if call.id is not None:
                self._ids.add(call.id)
            self._await(_Call(index, call))
        self.steps.append(replace(step, index=index, flags=tuple(dict.fromkeys(flags))))
        return index

    def chain(self, messages: list[Any]) -> str | None:
        """Store a whole model input; see `InputStore.chain`.

        Raises:
            BadRecordError: It has more than `MAX_STEPS` messages.
        """
        if len(messages) > MAX_STEPS:
            raise BadRecordError(f"A model input has more than {MAX_STEPS} messages.")
        return self.store.chain(messages)

    def place(self, step: Step, parent: int | None) -> None:
        """Append a finished step of another list; its calls are paired already."""
        self.steps.append(replace(step, index=len(self.steps), parent=parent))

    def result(
        self, call_id: str | None, text: str, flags: tuple[str, ...] = (), **more: Any
    ) -> int:
        """Append what a tool answered to an open call, or to no known call (`orphan_result`).

        An answer without an id belongs to the oldest open call of its tool, or to the only one.
        """
        asked = self._asked(call_id, more.get("tool"))
        if asked is None:
            return self.add(
                Step(0, "tool", content=text, result=text, tool_call_id=call_id,
                     flags=(*flags, "orphan_result"), **more)
            )  # fmt: skip
        asked.open = False
        self._open -= 1
        parent, call = asked.parent, asked.call
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
        self._await(_Call(index, call))

    def close(self, call: ToolCall) -> None:
        """A call that no tool answers, such as one that ends the run."""
        if (asked := _first(self._by_id.get(call.id))) is not None:
            asked.open = False
            self._open -= 1

    def is_open(self, call_id: str) -> bool:
        """Whether a call of this id still waits for its result."""
        return _first(self._by_id.get(call_id)) is not None

    def no_result(self, index: int) -> None:
        """Say that a tool step's result is not known, which is not an empty result."""
        self.steps[index] = replace(self.steps[index], content="", result=None)

    def unanswered(self) -> None:
        """Append a `missing_result` step for every call that is still open."""
        waiting = [(c.parent, c.call) for c in self._all if c.open]
        self._by_id, self._by_tool, self._all, self._open = {}, {}, deque(), 0
        for parent, call in waiting:
            flags: tuple[str, ...] = ("missing_result",)
            if call.arguments.error:
                flags = (*flags, "invalid_arguments")
            self.add(
                Step(0, "tool", agent=self.steps[parent].agent, tool=call.name,
                     tool_call_id=call.id, arguments=call.arguments, parent=parent, flags=flags,
                     place=self.steps[parent].place)
            )  # fmt: skip

    def _await(self, asked: _Call) -> None:
        self._by_id.setdefault(asked.call.id, deque()).append(asked)
        self._by_tool.setdefault(asked.call.name, deque()).append(asked)
        self._all.append(asked)
        self._open += 1

    def _asked(self, call_id: str | None, tool: Any) -> _Call | None:
        """The open call that a result belongs to."""
        found = _first(self._by_id.get(call_id))
        if found is not None or call_id is not None:
            return found
        named = _first(self._by_tool.get(tool)) if isinstance(tool, str) else None
        return named or (_first(self._all) if self._open == 1 else None)


def _first(queue: deque[_Call] | None) -> _Call | None:
    """The oldest open call of a queue."""
    while queue and not queue[0].open:
        queue.popleft()
    return queue[0] if queue else None


Read = Callable[[Any, Path, int], Episode]


def read_documents(
    path: Path, seen: Seen | None, one: Read, *, lines: bool
) -> Iterator[Trace | Reject]:
    """Yield the trace, or the reject, of each document of a file: one a line, or the whole file."""
    seen = Seen() if seen is None else seen
    for number, data, problem in documents(path, lines=lines):

        def made(data: bytes = data, number: int = number) -> Trace | Reject:
            return finish(one(decode(data, repair=True), path, number), seen, excerpt(data))

        if problem:
            yield Reject(str(path), number, problem, excerpt(data))
        else:
            yield caught(made, str(path), number, data)


def read_records(
    path: Path,
    seen: Seen | None,
    one: Read,
    mine: str,
    *,
    inside: str | None = None,
    whole: Callable[[Any], bool] | None = None,
) -> Iterator[Trace | Reject]:
    """Yield the trace, or the reject, of each record: one a line, of an array, or the whole file.

    Args:
        path: The file.
        seen: What the import has read so far.
        one: Makes an episode of a record, numbered from 1; 0 where the file is one record.
        mine: Name of the format.
        inside: Key of a document that holds its records as a list.
        whole: Whether a list that begins with this is one record, not one of records.
    """
    seen = Seen() if seen is None else seen
    for number, data, problem in documents(path, lines=Head.of(path).by_line):
        if problem:
            yield Reject(str(path), number, problem, excerpt(data))
            continue
        try:
            value = decode(data, repair=True)
        except Exception as e:
            yield refused(e, str(path), number, data)
            continue
        if inside is not None and isinstance(value, dict) and isinstance(value.get(inside), list):
            value = value[inside]
        many = isinstance(value, list) and number == 0
        if many and whole is not None and value and whole(value[0]):
            many = False
        for n, record in enumerate(value if many else [value], 1):
            at = number or (n if many else 0)
            start = data if not many else json.dumps(record)[:EXCERPT_CHARS]

            def made(record: Any = record, at: int = at, start: Any = start) -> Trace | Reject:
                return finish(one(record, path, at), seen, excerpt(start))

            try:
                if at and (others := foreign(record, mine, path, at, seen)) is not None:
                    yield from others
                    continue
            except Exception as e:
                yield refused(e, str(path), at, start)
                continue
            yield caught(made, str(path), at, start)


def finish(episode: Episode, seen: Seen, start: str) -> Trace | Reject:
    """Turn an episode into a trace, unless it has no steps or was imported before."""
    file, line = episode.source, episode.line
    if not episode.steps:
        return Reject(file, line, f"{episode.name}: the run has no steps.", start)
    trace = Trace.of_episode(episode)
    if duplicate := seen.duplicate_of(trace, file, line, None):
        return Reject(file, line, duplicate, start)
    return trace


def count_or_none(value: Any) -> int | None:
    """A count of tokens: a non-negative integer, also one written as a string."""
    count = whole(value)
    return count if count is not None and 0 <= count < 1 << 53 else None
