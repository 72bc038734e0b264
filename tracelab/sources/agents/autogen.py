"""Conversations of AutoGen: results of runs, saved teams, and chats of the older package.

Messages of today's package have a `source` and a `type` (`TextMessage`, `ToolCallRequestEvent`,
`ToolCallExecutionEvent`, `ThoughtEvent`, …); they stand under `messages`, or as the thread of a
saved team. Those of the older one are OpenAI messages with the `name` of who speaks, under
`chat_history` or alone in a list.
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
from tracelab.sources.agents.agent_log import read_records
from tracelab.sources.agents.build import episode_of
from tracelab.sources.agents.dialects import Plain, messages
from tracelab.sources.agents.openai_chat import outcome_of, plain_steps
from tracelab.sources.base import BadRecordError, Seen, SourceFormat
from tracelab.sources.files.guess import one_run
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import SOURCES

FORMAT = "autogen"
_REPEATS = ("ToolCallSummaryMessage", "ModelClientStreamingChunkEvent")
"""What says again what other messages said."""
_NAMES = ("messages", "chat_history", "message_thread")


def read_results(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the run of each record; a list of messages is one run."""
    return read_records(path, seen, _episode, FORMAT, whole=_is_message)


def _episode(data: Any, path: Path, line: int) -> Episode:
    record = data if isinstance(data, dict) else {}
    told = data if isinstance(data, list) else _thread(record)
    if told is None:
        raise BadRecordError("The record has no messages.", "messages")
    dropped: Counter[str] = Counter()
    plain: list[Plain] = []
    for i, message in enumerate(told):
        made = _message(message, i, dropped)
        thought = plain[-1] if plain and plain[-1].get("only_thought") else None
        if thought is not None and made and made[0]["role"] == "assistant":
            plain.pop()
            made[0]["reasoning_content"] = thought["reasoning_content"]
            made[0]["place"] = thought["place"]
        plain += made
    for message in plain:
        message.pop("only_thought", None)
    success, reward = outcome_of(record)
    rest = {k: v for k, v in record.items() if k not in (*_NAMES, "agent_states")}
    return episode_of(
        plain_steps(plain), path, line, format=FORMAT, dropped=dropped, meta=rest, success=success,
        reward=reward, name=text_or_none(record.get("id", record.get("task_id"))),
        task_id=text_or_none(record.get("task_id")),
    )  # fmt: skip


def _thread(record: dict[str, Any]) -> list[Any] | None:
    """The messages of a record; of a saved team, the longest thread of its agents."""
    for name in _NAMES:
        if isinstance(record.get(name), list):
            return list(record[name])
    states = record.get("agent_states")
    threads = [
        s["message_thread"]
        for s in (states.values() if isinstance(states, dict) else ())
        if isinstance(s, dict) and isinstance(s.get("message_thread"), list)
    ]
    return max(threads, key=len, default=None)


def _message(message: Any, number: int, dropped: Counter[str]) -> list[Plain]:
    place = f"messages[{number}]"
    if not isinstance(message, dict):
        raise BadRecordError(f"`{place}` is not an object.", "messages")
    if "role" in message:
        made = messages([message], dropped)
        return [{**m, "place": place} for m in made]
    kind, source = message.get("type"), text_or_none(message.get("source"))
    if not isinstance(kind, str) or source is None:
        raise BadRecordError(f"`{place}` has neither a role nor a source and a type.", "messages")
    content = message.get("content")
    if kind in _REPEATS:
        dropped[f"messages of type {kind}"] += 1
        return []
    if kind == "ToolCallExecutionEvent":
        results = content if isinstance(content, list) else []
        return [_result(r, place) for r in results if isinstance(r, dict)]
    said: Plain = {"role": "user" if source == "user" else "assistant", "name": source,
                   "place": place}  # fmt: skip
    if isinstance(usage := message.get("models_usage"), dict):
        said["usage"] = usage
    if kind == "ThoughtEvent":
        return [{**said, "reasoning_content": str(content or ""), "content": "",
                 "only_thought": True}]  # fmt: skip
    if kind == "ToolCallRequestEvent":
        calls = [c for c in (content if isinstance(content, list) else []) if isinstance(c, dict)]
        return [{**said, "role": "assistant", "content": "", "tool_calls": calls}]
    if kind == "MultiModalMessage" and isinstance(content, list):
        content = [p if isinstance(p, str) else {"type": "image"} for p in content]
    return [{**said, "content": content}]


def _result(result: dict[str, Any], place: str) -> Plain:
    out: Plain = {"role": "tool", "tool_call_id": result.get("call_id"),
                  "content": result.get("content"), "place": place}  # fmt: skip
    if isinstance(result.get("name"), str):
        out["name"] = result["name"]
    if result.get("is_error") is True:
        out["is_error"] = True
    return out


def _is_message(data: Any) -> bool:
    if not isinstance(data, dict) or "content" not in data:
        return False
    typed = isinstance(data.get("type"), str) and isinstance(data.get("source"), str)
    return typed or (isinstance(data.get("role"), str) and isinstance(data.get("name"), str))


@SOURCES.register(FORMAT, order=35)
class AutoGen(SourceFormat):
    """Conversations of AutoGen: results, saved teams, chat histories."""

    suffixes = (*LINES, *DOCUMENTS)
    read = staticmethod(read_results)
    one = staticmethod(one_run(_episode))

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        told = head.data if isinstance(head.data, list) else _thread(head.record)
        first = told[0] if told else None
        if isinstance(head.data, list) or "chat_history" in head.record:
            return _is_message(first)
        return isinstance(first, dict) and _is_message(first) and "source" in first
