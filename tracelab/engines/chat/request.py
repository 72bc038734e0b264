"""A request of a chat as one text and back, and as the API takes it. Pure.

The text is what prompts are made of (`tracelab.engines.chat.tokens`): the tools, and one message a
line, as JSON; then `OPEN`, after which the model writes. What it writes is an action in one form,
whatever form it came in, so that equal content and calls are equal texts:

    words, and after them
    <tool_call>{"arguments":{"id":7},"name":"get"}</tool_call>        one a line, keys sorted

A `<think>` that opens the words is left out, as a chat template that opens it leaves it out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tracelab.core.messages import calls_of, canonical
from tracelab.core.outside import INNER_DEPTH, OutsideError, decode
from tracelab.core.seam import Message

OPEN = "assistant:\n"
"""Ends a prompt: the model's turn begins."""
CLOSE = "\n:assistant\n"
"""Ends a turn that is shown as the model wrote it."""
THINK, THOUGHT = "<think>", "</think>"

_TOOLS = "tools"
_CALL = re.compile(r"<tool_call>(\{.*?\})</tool_call>", re.DOTALL)


def text_of(messages: Sequence[Message], tools: Sequence[Message], *, ask: bool) -> str:
    """A chat as one text; with `ask` the model is to write next."""
    lines = [json.dumps({_TOOLS: list(tools)}, ensure_ascii=False)] if tools else []
    last = messages[-1] if messages and not ask and messages[-1]["role"] == "assistant" else None
    given = messages if last is None else messages[:-1]
    lines += [json.dumps(dict(m), ensure_ascii=False) for m in given]
    head = "".join(f"{line}\n" for line in lines)
    if last is not None:
        return f"{head}{OPEN}{spelled(last)}{CLOSE}"
    return head + OPEN if ask else head


def parsed(text: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The messages and the tools of a text without `OPEN`.

    Raises:
        ValueError: It is no such text.
    """
    rows = [json.loads(line) for line in text.split("\n") if line]
    tools = rows.pop(0)[_TOOLS] if rows and "role" not in rows[0] else []
    return rows, tools


def spelled(message: Message) -> str:
    """What a model wrote, in the one form that equal content and calls share."""
    said = opened(str(message.get("content") or "")).strip()
    calls = [
        canonical({"name": c.name, "arguments": _arguments(c.arguments.raw, c.arguments.parsed)})
        for c in calls_of(dict(message))
    ]
    # An argument that holds the closing mark must not end the call.
    marked = [f"<tool_call>{c.replace('</', '<' + chr(92) + '/')}</tool_call>" for c in calls]
    return "\n".join([said] * bool(said) + marked)


def opened(content: str) -> str:
    """Words without the mark that opens the reasoning in front of them, where one does."""
    bare = content.lstrip()
    if not bare.startswith(THINK):
        return content
    return bare.removeprefix(THINK).removeprefix("\n")


def _arguments(raw: str, value: Any) -> Any:
    return value if value is not None else raw if raw.strip() not in ("", "null") else {}


def read(action: str) -> dict[str, Any] | None:
    """The message that `spelled` made this of, where it has calls; else None."""
    at = action.find("<tool_call>{")
    if at < 0:
        return None
    try:
        found = [decode(c, depth=INNER_DEPTH) for c in _CALL.findall(action[at:])]
        calls = [
            {"type": "function", "function": {"name": c["name"], "arguments": c["arguments"]}}
            for c in found
        ]
    except (OutsideError, LookupError, TypeError):
        return None
    message = {"role": "assistant", "content": action[:at].strip(), "tool_calls": calls}
    return message if spelled(message) == opened(action).strip() else None


def as_sent(
    messages: Sequence[Message], tools: Sequence[Message], reasoning: str | None
) -> list[dict[str, Any]]:
    """Messages as the API takes them.

    Arguments are JSON texts, and every reply of a tool names its call: where nobody has said which,
    replies answer the calls before them in order. Calls that an environment put into the text of a
    message are calls again, where tools are offered; else the text is how this agent calls.

    Args:
        messages: In the form of chat templates.
        tools: What the model is offered.
        reasoning: The field in which earlier reasoning is sent back; None sends none.
    """
    waiting: list[str] = []
    numbers = iter(range(1, 1 << 30))
    return [_sent(m, bool(tools), reasoning, waiting, numbers) for m in messages]


def _sent(
    message: Message, tools: bool, reasoning: str | None, waiting: list[str], numbers: Iterator[int]
) -> dict[str, Any]:
    m = dict(message)
    thought = m.pop("reasoning_content", None)
    if m["role"] == "tool":
        if m.get("tool_call_id") in waiting:
            waiting.remove(m["tool_call_id"])
        elif not m.get("tool_call_id") and waiting:
            m["tool_call_id"] = waiting.pop(0)
    if m["role"] != "assistant":
        return m
    if tools and not m.get("tool_calls"):
        m |= read(str(m.get("content") or "")) or {}
    calls = [_called(c, next(numbers)) for c in m.pop("tool_calls", None) or ()]
    waiting[:] = [c["id"] for c in calls]
    if calls:
        m["tool_calls"] = calls
        m["content"] = m.get("content") or None
    if thought and reasoning is not None:
        m[reasoning] = thought
    return m


def _called(call: Mapping[str, Any], number: int) -> dict[str, Any]:
    function = call["function"]
    arguments = function["arguments"]
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {
        "id": call.get("id") or f"call{number:05d}",  # nine letters and digits: all APIs take it
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments or "{}"},
    }
