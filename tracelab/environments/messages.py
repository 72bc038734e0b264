"""Messages as chat templates take them, from what logs and environments hold.

Logs write the same message in many ways: tool calls flat or nested, their arguments as JSON text
or as a value, content as a text or in parts. A template takes one: `{"role", "content"}` with a
text, and `tool_calls` of `{"id", "type", "function": {"name", "arguments": value}}`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tracelab.core.episode import ToolCall
from tracelab.core.errors import PlanError
from tracelab.core.seam import Message
from tracelab.sources.agent_json import reasoning_of, text_of
from tracelab.sources.agent_log import calls_of

_ROLES = {"developer": "system", "function": "tool"}
_PASSED = ("name", "tool_call_id")


def plain(message: Message) -> dict[str, Any]:
    """One message in the form of chat templates.

    Raises:
        PlanError: It has no role, or parts that are no text.
    """
    role = message.get("role")
    if not isinstance(role, str):
        raise PlanError("a message has no role")
    text, flags = text_of(message.get("content"))
    if "non_text" in flags:
        raise PlanError(f"a message of the {role} has parts that are no text")
    out: dict[str, Any] = {"role": _ROLES.get(role, role), "content": text}
    out |= {k: message[k] for k in _PASSED if isinstance(message.get(k), str)}
    if thought := reasoning_of(message):
        out["reasoning_content"] = thought
    if calls := calls_of(dict(message)):
        out["tool_calls"] = [call(c, i) for i, c in enumerate(calls)]
    return out


def call(asked: ToolCall, number: int) -> dict[str, Any]:
    """A tool call in the form of chat templates; arguments that are no JSON stay text."""
    arguments = asked.arguments
    return {
        "id": asked.id or f"call_{number}",
        "type": "function",
        "function": {
            "name": asked.name,
            "arguments": arguments.raw if arguments.parsed is None else arguments.parsed,
        },
    }


def definitions(tools: object) -> tuple[dict[str, Any], ...]:
    """Tool definitions in the form of chat templates: `{"type", "function": {"name", ...}}`.

    Raises:
        PlanError: One has no name.
    """
    listed: Sequence[Any] = tools if isinstance(tools, list | tuple) else [tools]
    return tuple(_definition(x) for x in listed)


def _definition(tool: object) -> dict[str, Any]:
    if isinstance(tool, Mapping):
        if isinstance(tool.get("function"), Mapping):
            return {"type": "function", **tool}
        if isinstance(tool.get("name"), str):
            shape = tool.get("parameters", tool.get("input_schema"))
            function = {k: tool[k] for k in ("name", "description") if tool.get(k) is not None}
            return {
                "type": "function",
                "function": {**function, "parameters": shape if shape is not None else {}},
            }
    raise PlanError("a tool definition has no name")
