"""States of LangGraph: threads, checkpoints and streams of updates, a run a thread.

A state holds its messages under `values` (threads, history) or `channel_values` (checkpoints); of
several states of one thread, the one that was written last is the run. A stream of updates is one
object a node, `{"agent": {"messages": […]}}`: the nodes are the agents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracelab.core.episode import Episode
from tracelab.core.messages import text_or_none
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.agents.agent_log import finish
from tracelab.sources.agents.build import episode_of, text_at
from tracelab.sources.agents.dialects import Plain, messages
from tracelab.sources.agents.openai_chat import outcome_of, plain_steps
from tracelab.sources.base import BadRecordError, Seen, SourceFormat, caught, refused
from tracelab.sources.files.records import records
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import SOURCES

FORMAT = "langgraph"
_HOLDERS = ("values", "channel_values")


def read_states(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the run of each thread, and a reject for each record that is no state."""
    seen = Seen() if seen is None else seen
    threads: dict[str, _Thread] = {}
    for number, value, data in records(path):
        try:
            if isinstance(value, Exception):
                raise value
            if not isinstance(value, dict):
                raise BadRecordError("The record is not a JSON object.")
            state = value.get("checkpoint") if "values" not in value else None
            name = _name(value) or "-"
            thread = threads.setdefault(name, _Thread(name, number))
            thread.add(state if isinstance(state, dict) else value, value)
        except Exception as e:
            yield refused(e, str(path), number, data)
    for thread in threads.values():

        def made(thread: _Thread = thread) -> Trace | Reject:
            return finish(thread.episode(path), seen, f"thread {thread.name}")

        if thread.states:
            yield caught(made, str(path), thread.line, place=f"Thread {thread.name[:80]}")


def _name(record: dict[str, Any]) -> str | None:
    places = [("thread_id",)]
    for key in ("config", "metadata", "checkpoint"):
        places += [(key, "configurable", "thread_id"), (key, "thread_id")]  # type: ignore[list-item]
    return next((t for p in places if (t := text_at(record, *p))), None)


def _told(state: dict[str, Any]) -> list[Any] | None:
    """The messages of a state; None where it is none."""
    for name in _HOLDERS:
        held = state.get(name)
        if isinstance(held, dict) and isinstance(held.get("messages"), list):
            return list(held["messages"])
    return None


def _updates(record: dict[str, Any]) -> list[tuple[str, list[Any]]] | None:
    """Messages by node of a piece of a stream; None where it is none."""
    if not record or not all(isinstance(v, dict | list | None) for v in record.values()):
        return None
    found = []
    for node, update in record.items():
        told = update.get("messages") if isinstance(update, dict) else None
        if isinstance(told, dict):
            told = [told]
        if isinstance(told, list):
            found.append((node, told))
    return found or None


class _Thread:
    """What is known of a thread: its last state, and what a stream added."""

    def __init__(self, name: str, line: int) -> None:
        self.name, self.line, self.states = name, line, 0
        self._last: tuple[str, int] = ("", -1)
        self._raw: list[tuple[str | None, str, Any]] = []
        self._meta: dict[str, Any] = {}
        self._record: dict[str, Any] = {}

    def add(self, state: dict[str, Any], record: dict[str, Any]) -> None:
        told = _told(state)
        if told is None:
            updates = _updates(record)
            if updates is None:
                raise BadRecordError(
                    "The record is no state: neither `values` nor `channel_values` has messages."
                )
            self._raw += [(node, f"update {self.states} messages[{i}]", m)
                          for node, some in updates for i, m in enumerate(some)]  # fmt: skip
            self.states += 1
            return
        when = text_or_none(record.get("created_at")) or text_or_none(state.get("ts")) or ""
        self.states += 1
        if (when, len(told)) < self._last:
            return
        self._last = (when, len(told))
        self._record = record
        self._raw = [(None, f"messages[{i}]", m) for i, m in enumerate(told)]
        self._meta = {k: v for k, v in record.items() if k not in (*_HOLDERS, "checkpoint")}
        inside = next(state[n] for n in _HOLDERS if isinstance(state.get(n), dict))
        if more := {k: v for k, v in inside.items() if k != "messages"}:
            self._meta["state"] = more

    def episode(self, path: Path) -> Episode:
        dropped: Counter[str] = Counter()
        plain: list[Plain] = []
        for node, place, raw in self._raw:
            for message in messages([_unwrapped(raw)], dropped):
                if node is not None and message["role"] == "assistant":
                    message.setdefault("name", node)
                plain.append({**message, "place": place})
        success, reward = outcome_of(self._record)
        return episode_of(
            plain_steps(plain), path, self.line, format=FORMAT, dropped=dropped,
            name=None if self.name == "-" else self.name, success=success, reward=reward,
            meta={**self._meta, "states": self.states},
        )  # fmt: skip


def _unwrapped(raw: Any) -> Any:
    """A message that LangChain serialised, with its class as its role."""
    held = raw.get("kwargs") if isinstance(raw, dict) else None
    if isinstance(held, dict) and isinstance(raw.get("id"), list) and raw["id"]:
        return {**held, "role": str(raw["id"][-1]).removesuffix("Chunk").removesuffix("Message")}
    if isinstance(raw, dict) and isinstance(raw.get("data"), dict) and "type" in raw:
        return {"type": raw["type"], **raw["data"]}  # messages_to_dict
    if isinstance(raw, dict) and isinstance(raw.get("type"), str):
        return {**raw, "type": raw["type"].removesuffix("MessageChunk").lower()}
    return raw


def _is_message(value: Any) -> bool:
    held = _unwrapped(value)
    return isinstance(held, dict) and ("content" in held) and ("type" in held or "role" in held)


@SOURCES.register(FORMAT, order=35)
class LangGraph(SourceFormat):
    """States, checkpoints and streamed updates of LangGraph, a run a thread."""

    suffixes = (*LINES, *DOCUMENTS)
    read = staticmethod(read_states)

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        data = head.data[0] if isinstance(head.data, list) and head.data else head.data
        if not isinstance(data, dict):
            return False
        inner = data.get("checkpoint")
        for state in (data, inner):
            if isinstance(state, dict) and _told(state) is not None:
                return True
        updates = _updates(data) if len(data) == 1 and "data" not in data else None
        return bool(updates and updates[0][1] and _is_message(updates[0][1][0]))
