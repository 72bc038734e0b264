"""Messages as chat templates take them, from what logs and environments hold.

Logs write the same message in many ways: tool calls flat or nested, their arguments as JSON text
or as a value, content as a text or in parts. A template takes one: `{"role", "content"}` with a
text, and `tool_calls` of `{"id", "type", "function": {"name", "arguments": value}}`. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from tracelab.core.episode import Arguments, Episode, Step, ToolCall
from tracelab.core.errors import PlanError
from tracelab.core.outside import INNER_DEPTH, OutsideError, decode
from tracelab.core.seam import Message
from tracelab.core.trace import Role, Turn

_BINARY = re.compile("[\x00-\x08\x0e-\x1f\ufffd]")
_ROLES = {"developer": "system", "function": "tool"}
_PASSED = ("name", "tool_call_id")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
"""Where logs and servers keep a message's reasoning apart from its content."""


def as_turn(message: Message) -> Turn:
    """A message in the form of chat templates as a turn of a trace; `as_message` inverts it."""
    rest = {k: v for k, v in message.items() if k not in ("role", "content")}
    name = rest.pop("name") if isinstance(rest.get("name"), str) else None
    return Turn(cast(Role, message["role"]), str(message.get("content") or ""), name, fields=rest)


def as_message(turn: Turn) -> dict[str, Any]:
    """A turn in the form of chat templates, with all that it has besides its text."""
    named = {"name": turn.name} if turn.name else {}
    return {"role": turn.role, "content": turn.text, **named, **turn.fields}


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


def canonical(arguments: object) -> str:
    """One text for equal arguments, or whatever else JSON holds: sorted keys, no spaces."""
    if isinstance(arguments, str):
        try:
            arguments = decode(arguments, depth=INNER_DEPTH)
        except OutsideError:
            return " ".join(str(arguments).split())
    return json.dumps(arguments, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


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


def input_of(
    episode: Episode, step: Step, made: dict[int, dict[str, Any]] | None = None
) -> list[Message]:
    """What a step's model was given: as recorded, or the conversation before the step.

    Args:
        episode: The run.
        step: The step.
        made: Messages in the form of templates by the identity of the episode's, filled on the
            way: inputs share most of theirs. None where one input is asked only.

    Raises:
        PlanError: It holds what is no text.
    """
    made = {} if made is None else made
    recorded = episode.model_input(step.index) or []
    if recorded and all(isinstance(m, dict) and "role" in m for m in recorded):
        try:
            for m in recorded:
                if id(m) not in made:
                    made[id(m)] = plain(m)
            return [made[id(m)] for m in recorded]
        except PlanError as e:
            raise PlanError(f"the input of step {step.index} cannot be made again: {e}") from None
    # Token ids alone say nothing to an environment, so they are reconstructed too.
    return _reconstructed(episode, step)


def tools_offered(episode: Episode, step: Step) -> tuple[Message, ...]:
    """Definitions of the tools that a step's model could call, in the form of templates."""
    tools = None if step.tools is None else episode.messages.get(step.tools)
    return definitions(tools) if tools else ()


def _reconstructed(episode: Episode, step: Step) -> list[Message]:
    """The conversation before a step, for logs that do not hold the model's input."""
    messages = conversation(episode.steps[: step.index])
    if not messages or messages[0]["role"] not in ("user", "system"):
        messages.insert(0, {"role": "user", "content": episode.task})
    return messages


def conversation(steps: Sequence[Step]) -> list[Message]:
    """Steps as messages, without results that the log does not have: they are not empty ones."""
    return [_replayed(s) for s in steps if "missing_result" not in s.flags]


def _replayed(step: Step) -> Message:
    if step.kind == "llm":
        return as_written(step)
    _refuse_no_text(step)
    if step.kind != "tool":
        return {"role": step.kind, "content": step.content}
    message = {"role": "tool", "content": step.result or ""}
    if step.tool_call_id is not None:
        message["tool_call_id"] = step.tool_call_id
    if step.tool is not None:
        message["name"] = step.tool
    return message


def _refuse_no_text(step: Step) -> None:
    if "non_text" in step.flags:
        raise PlanError(
            f"step {step.index} ({step.kind}) has parts that are no text, which no chat template "
            "of a text model shows"
        )


def as_written(step: Step) -> Message:
    """What a model wrote at a step, as a message with its reasoning and its calls.

    Raises:
        PlanError: It has parts that are no text.
    """
    _refuse_no_text(step)
    message: dict[str, object] = {"role": "assistant", "content": step.content}
    if step.reasoning:
        message["reasoning_content"] = step.reasoning
    if step.calls:
        message["tool_calls"] = [call(c, i) for i, c in enumerate(step.calls)]
    return message


def text_of(content: Any) -> tuple[str, tuple[str, ...]]:
    """Text of a message's content, and flags: `non_text` for parts left out, `binary`."""
    flags: list[str] = []
    if content is None:
        text = ""
    elif isinstance(content, str):
        text = content
    elif isinstance(content, list):
        parts = []
        for part in content:
            body = part if isinstance(part, str) else _part_text(part)
            if _thought(part) is not None:
                continue  # see `reasoning_of`
            if body is None:
                kind = part.get("type") if isinstance(part, dict) else None
                body = f"[{kind if isinstance(kind, str) else 'part'}]"
                flags.append("non_text")
            parts.append(body)
        text = "".join(parts)
    else:
        text = json.dumps(content, ensure_ascii=False, sort_keys=True)
    if _BINARY.search(text):
        flags.append("binary")
    return text, tuple(dict.fromkeys(flags))


def reasoning_of(message: Any) -> str:
    """What a model thought before a message, where the log keeps it apart; else empty."""
    if not isinstance(message, dict):
        return ""
    for key in REASONING_KEYS:
        if isinstance(said := message.get(key), str) and said:
            return said
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return "\n".join(t for part in parts if (t := _thought(part)))


def _thought(part: Any) -> str | None:
    """The text of a part that is reasoning (\"\" where it is redacted); None for other parts."""
    if not isinstance(part, dict) or part.get("type") not in ("reasoning", "thinking"):
        return None
    said = next((part[k] for k in ("reasoning", "thinking", "content", "text") if k in part), "")
    return said if isinstance(said, str) else ""


def _part_text(part: Any) -> str | None:
    if isinstance(part, dict):
        for key in ("text", "content", "refusal"):
            if isinstance(part.get(key), str):
                return str(part[key])
    return None


def text_or_none(value: Any) -> str | None:
    """A label, answer or name as text; None for nothing and for blanks."""
    if value is None or isinstance(value, dict | list):
        return None
    text = str(value).strip()
    return text or None


def calls_of(message: dict[str, Any]) -> tuple[ToolCall, ...]:
    """Tool calls of an OpenAI-style message, the older `function_call` included."""
    raw = message.get("tool_calls")
    listed = list(raw) if isinstance(raw, list) else []
    if isinstance(old := message.get("function_call"), dict):
        listed.append({"function": old})
    calls = []
    for item in listed:
        if not isinstance(item, dict):
            continue
        body = item.get("function")
        body = {"name": body, **item} if isinstance(body, str) else body
        body = body if isinstance(body, dict) else item.get("custom") or item
        if not isinstance(body, dict):
            body = item
        arguments = next((body[k] for k in ("arguments", "input", "args") if k in body), "")
        name = text_or_none(body.get("name")) or "unknown"
        calls.append(ToolCall(name, Arguments.of(arguments), text_or_none(item.get("id"))))
    return tuple(calls)
