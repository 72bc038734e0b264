"""Agent runs as OpenAI chat messages: one `{messages: […], tools?: […], …}` a line, or a file.

Each message is a step; a tool message becomes the result of its call, and a call without one
becomes a step that says so. The exact model input of an assistant message is the messages before
it. Of a record's other keys, the usual names of id, task, outcome, model and version are
understood; the rest is kept in `meta`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tracelab.core.episode import Episode, Step, StepKind
from tracelab.core.messages import calls_of, reasoning_of, text_of, text_or_none
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.agents.agent_log import StepList, count_or_none, finish, read_records
from tracelab.sources.agents.build import first_of, reward_of
from tracelab.sources.agents.dialects import messages, role_of
from tracelab.sources.base import BadRecordError, Seen, SourceFormat, excerpt
from tracelab.sources.files.guess import one_run
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import GENERIC, SOURCES

_KINDS: dict[str, StepKind] = {
    "system": "system", "user": "user", "assistant": "llm", "tool": "tool",
}  # fmt: skip
_ALIASES = {
    "id": ("id", "run_id", "trace_id"),
    "task_id": ("task_id",),
    "task": ("task", "question"),
    "model": ("model",),
    "version": ("version", "system_version"),
    "answer": ("answer",),
    "reference": ("reference", "ground_truth"),
}
_OUTCOME = ("success", "reward", "score")
_KNOWN = {
    "messages",
    "tools",
    "system",
    *_OUTCOME,
    *(n for names in _ALIASES.values() for n in names),
}


def read_openai_chat(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the trace of each record: one a line, of an array, or the whole file."""
    return read_records(path, seen, _episode, "openai-chat")


def _episode(data: Any, path: Path, line: int) -> Episode:
    if not isinstance(data, dict):
        raise BadRecordError("The record is not a JSON object.")
    dropped: Counter[str] = Counter()
    plain = messages(data.get("messages"), dropped, "messages")
    system = data.get("system")  # Anthropic's stands beside the messages
    if system and not any(m["role"] == "system" for m in plain):
        said = messages([{"role": "system", "content": system}])
        plain = [*({**m, "place": "system"} for m in said), *plain]
    steps = plain_steps(plain, data.get("tools"))
    known: dict[str, Any] = {
        name: next((t for k in keys if (t := text_or_none(data.get(k))) is not None), None)
        for name, keys in _ALIASES.items()
    }
    name = known.pop("id") or (f"{path.name}:{line}" if line else path.stem)
    first = next((s.content for s in steps.steps if s.kind == "user"), "")
    task = known.pop("task") or first
    success, reward = outcome_of(data)
    left = {"dropped": dict(dropped)} if dropped else {}
    return Episode(
        name=name,
        steps=tuple(steps.steps),
        format="openai-chat",
        source=str(path),
        line=line,
        task=task,
        success=success,
        reward=reward,
        messages=steps.store.messages,
        inputs=steps.store.inputs,
        meta={**{k: v for k, v in data.items() if k not in _KNOWN}, **left},
        **known,
    )


def chat_steps(
    raw: Any, tools: Any = None, dropped: Counter[str] | None = None, at: str = "messages"
) -> StepList:
    """Steps of a list of messages, of any provider (see `dialects.messages`).

    A role that is none of the usual ones is a step of the system's by that name.

    Args:
        raw: The messages.
        tools: Definitions of what the model could call.
        dropped: Counts what is left out, by kind.
        at: What the list is called, for `Step.place`.

    Raises:
        BadRecordError: It is no list, or an entry is no message.
    """
    return plain_steps(messages(raw, dropped, at), tools)


def plain_steps(plain: Iterable[dict[str, Any]], tools: Any = None) -> StepList:
    """Steps of plain messages; the input of an assistant's is the messages before it."""
    out = StepList()
    definitions = out.store.put(tools) if tools else None
    node: str | None = None
    for message in plain:
        place = message.pop("place", "")
        role = str(message["role"])
        kind = _KINDS.get(role, "system")
        text, flags = text_of(message.get("content"))
        if message.get("is_error"):
            flags = (*flags, "error")
        if kind != "tool":
            out.unanswered()
        if kind == "tool":
            call_id = text_or_none(message.get("tool_call_id"))
            out.result(call_id, text, flags, tool=text_or_none(message.get("name")), place=place)
        else:
            refusal = message.get("refusal")
            usage = message.get("usage")
            usage = usage if isinstance(usage, dict) else {}
            llm = kind == "llm"
            out.add(
                Step(
                    index=0,
                    kind=kind,
                    agent=text_or_none(message.get("name")) or role,
                    content=text or (refusal if isinstance(refusal, str) else ""),
                    calls=calls_of(message) if llm else (),
                    input=node if llm else None,
                    tools=definitions if llm else None,
                    prompt_tokens=count_or_none(first_of(usage, "prompt_tokens", "input_tokens")),
                    output_tokens=count_or_none(
                        first_of(usage, "completion_tokens", "output_tokens")
                    ),
                    flags=flags,
                    reasoning=reasoning_of(message) if llm else "",
                    place=place,
                )
            )
        node = out.store.extend(node, message)
    out.unanswered()
    return out


def outcome_of(data: dict[str, Any]) -> tuple[bool | None, float | None]:
    """Success flag and numeric score of a record; a score of 1 or 0 also says success."""
    success, (by_reward, reward) = (
        data.get("success"),
        reward_of(data.get("reward", data.get("score"))),
    )
    return (success if isinstance(success, bool) else by_reward), reward


def has_tools(record: dict[str, Any]) -> bool:
    """Whether a record is an agent's: its messages have calls, or results of tools."""
    told = record.get("messages")
    return isinstance(told, list) and _has_tools(told)


def chat_trace(
    record: dict[str, Any], path: Path, line: int, seen: Seen, start: bytes
) -> Trace | Reject:
    """The trace of one record that stands among others, and begins so."""
    return finish(_episode(record, path, line), seen, excerpt(start))


def _has_tools(messages: list[Any]) -> bool:
    return any(
        isinstance(m, dict)
        and (
            m.get("tool_calls")
            or m.get("function_call")
            or role_of(m) == "tool"
            or any(_is_tools(p) for p in _parts(m))
        )
        for m in messages
    )


def _parts(message: dict[str, Any]) -> list[Any]:
    held = message.get("content", message.get("parts"))
    return held if isinstance(held, list) else []


def _is_tools(part: Any) -> bool:
    """Whether a part of a message is a call, or what a tool answered."""
    return isinstance(part, dict) and (
        str(part.get("type", "")).endswith(("tool_use", "tool_result", "tool_call", "tool-call"))
        or not _PARTS.isdisjoint(part)
    )


_PARTS = {"functionCall", "function_call", "functionResponse", "function_response", "toolUse",
          "toolResult"}  # fmt: skip


@SOURCES.register("openai-chat", order=GENERIC)
class OpenAIChat(SourceFormat):
    """Agent runs as OpenAI chat messages with tool calls: a run a line, or a file."""

    suffixes = (*LINES, *DOCUMENTS)
    read = staticmethod(read_openai_chat)
    one = staticmethod(one_run(_episode))

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        messages = head.record.get("messages")
        if isinstance(messages, list):
            # Lines of chats without tools are plain JSONL.
            return not head.by_line or bool(head.record.get("tools")) or _has_tools(messages)
        return head.shows(
            rb'"(tool_calls|function_call)"\s*:\s*[\[{]|"role"\s*:\s*"(tool|function)"'
        )
