"""Messages of any provider as plain ones: `{role, content, reasoning_content?, tool_calls?, …}`.

One function a dialect, each from JSON values to a list of plain messages in order:

* `messages`: OpenAI chat, Anthropic content blocks, Gemini contents and ShareGPT turns, also mixed.
* `items`: items of the OpenAI Responses API, which Codex writes too.

A plain message has a role of `system`, `user`, `assistant` or `tool`, or a name of its own where
the log has one that is nothing of these. A tool's answer is a message of its own, with
`tool_call_id`, and `is_error` where the log says that it failed. What has no text stays a part, so
that whoever reads the content can say so. What is left out is counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tracelab.core.messages import reasoning_of, text_of
from tracelab.core.outside import OutsideError, decode
from tracelab.sources.base import BadRecordError

Plain = dict[str, Any]

ROLES = {
    "system": "system", "developer": "system", "instructions": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "ai": "assistant", "gpt": "assistant", "chatgpt": "assistant",
    "model": "assistant", "bot": "assistant", "agent": "assistant", "llm": "assistant",
    "tool": "tool", "function": "tool", "ipython": "tool", "observation": "tool",
    "tool_result": "tool", "tool_response": "tool", "function_response": "tool",
    "environment": "tool",
}  # fmt: skip
"""Spellings of the four roles, lower case."""

_TEXT = ("content", "value", "text")
_CALLS = ("tool_use", "server_tool_use", "mcp_tool_use", "tool_call", "function_call", "toolUse")
_THINKING = ("thinking", "reasoning", "reasoning_content", "redacted_thinking")


def role_of(message: Mapping[str, Any]) -> str | None:
    """A message's role, in plain spelling; an unknown one as it is written, None without one."""
    said = message.get("role", message.get("from"))
    if said is None and message.get("type") in ("human", "ai", "system", "tool", "function"):
        said = message["type"]  # LangChain
    if not isinstance(said, str) or not said.strip():
        return None
    return ROLES.get(said.strip().lower(), said.strip())


def messages(raw: Any, dropped: Counter[str] | None = None, at: str = "") -> list[Plain]:
    """A conversation as plain messages.

    Args:
        raw: A list of messages, of one dialect or of several.
        dropped: Counts what is left out, by kind.
        at: Name of the list; with one, a message's `place` says which entry it comes from.

    Raises:
        BadRecordError: It is no list, or an entry is no message.
    """
    if not isinstance(raw, list):
        raise BadRecordError("`messages` is missing or not a list.", "messages")
    dropped = Counter() if dropped is None else dropped
    out: list[Plain] = []
    for i, message in enumerate(raw):
        role = role_of(message) if isinstance(message, dict) else None
        if role is None:
            raise BadRecordError(f"`messages[{i}]` is not a message with a role.", "messages")
        out += _placed(_plain(message, role, dropped), at, i)
    return out


def _placed(made: list[Plain], at: str, number: int) -> list[Plain]:
    for plain in made if at else ():
        plain["place"] = f"{at}[{number}]"
    return made


def _plain(message: Mapping[str, Any], role: str, dropped: Counter[str]) -> list[Plain]:
    body = message.get("parts")
    if not isinstance(body, list):
        body = next((message[k] for k in _TEXT if message.get(k) is not None), None)
    named = {k: message[k] for k in ("name", "tool_call_id") if isinstance(message.get(k), str)}
    kept: Plain = {"role": role, **named}
    for key in ("tool_calls", "function_call", "refusal", "usage"):
        if message.get(key):
            kept[key] = message[key]
    beside = message.get("additional_kwargs")  # of LangChain
    beside = beside if isinstance(beside, dict) else {}
    if thought := reasoning_of(message) or reasoning_of(beside):
        kept["reasoning_content"] = thought
    for key in ("tool_calls", "function_call", "refusal"):
        if beside.get(key) and key not in kept and "tool_calls" not in kept:
            kept[key] = beside[key]
    if message.get("usage_metadata") and "usage" not in kept:
        kept["usage"] = message["usage_metadata"]
    if role == "tool" and (message.get("status") == "error" or message.get("is_error") is True):
        kept["is_error"] = True
    if isinstance(error := message.get("error"), str | dict) and error and role == "tool":
        kept["is_error"] = True
        if not body:
            body = error if isinstance(error, str) else error.get("message", json.dumps(error))
    if not isinstance(body, list):
        if body is not None or any(k in message for k in _TEXT):
            kept["content"] = body
        return [kept]
    parts, calls, results = _sorted(body, role, dropped)
    if calls:
        kept["tool_calls"] = [*_listed(kept.get("tool_calls")), *calls]
    if (
        thought := reasoning_of({"content": [_as_thought(p) for p in body if _thinks(p)]})
        or thought
    ):
        kept["reasoning_content"] = thought
    kept["content"] = joined(parts)
    empty = not parts and not calls and not thought and "refusal" not in kept
    if results and empty and role in ("user", "tool"):
        return results
    # Results stand before what the user says with them: they answer the message before.
    return [*results, kept] if role != "assistant" else [kept, *results]


def joined(parts: list[Any]) -> Any:
    """The text of parts that are all text; else the parts."""
    texts: list[str] = []
    for part in parts:
        text = part
        if isinstance(part, dict) and _only_text(part):
            text = part.get("content", part.get("text"))
        if not isinstance(text, str):
            return parts
        texts.append(text)
    return "".join(texts)


def _only_text(part: Mapping[str, Any]) -> bool:
    return part.get("type", "text") in ("text", "input_text", "output_text")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _thinks(part: Any) -> bool:
    return isinstance(part, dict) and (part.get("type") in _THINKING or part.get("thought") is True)


def _sorted(
    body: Iterable[Any], role: str, dropped: Counter[str]
) -> tuple[list[Any], list[Plain], list[Plain]]:
    """Parts of a message: what is content, calls, and results."""
    parts: list[Any] = []
    calls: list[Plain] = []
    results: list[Plain] = []
    for part in body:
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict):
            parts.append(part)
        elif _thinks(part):
            if kind == "redacted_thinking" or not reasoning_of({"content": [_as_thought(part)]}):
                dropped["reasoning that the provider encrypted"] += 1
        elif (call := _call(part, kind)) is not None:
            calls.append(call)
        elif (result := _result(part, kind)) is not None:
            results.append(result)
        else:
            parts.append(part)
    return parts, calls, results


def _as_thought(part: Mapping[str, Any]) -> dict[str, Any]:
    return {**part, "type": "thinking"}


def _call(part: Mapping[str, Any], kind: Any) -> Plain | None:
    """A part that asks for a tool: Anthropic's `tool_use`, Gemini's `functionCall`, Bedrock's."""
    nested = next((part[k] for k in ("functionCall", "function_call", "toolUse")
                   if isinstance(part.get(k), dict)), None)  # fmt: skip
    if kind not in _CALLS and nested is None:
        return None
    body = part if nested is None else nested
    if isinstance(body.get("function"), dict):
        body = {**body, **body["function"]}
    arguments = next((body[k] for k in ("input", "arguments", "args", "parameters") if k in body),
                     "")  # fmt: skip
    name = body.get("name", body.get("tool_name"))
    identity = next((body[k] for k in ("id", "toolUseId", "tool_call_id", "call_id")
                     if isinstance(body.get(k), str)), None)  # fmt: skip
    return {"id": identity, "type": "function",
            "function": {"name": name if isinstance(name, str) else "unknown",
                         "arguments": arguments}}  # fmt: skip


def _result(part: Mapping[str, Any], kind: Any) -> Plain | None:
    """A part that holds a tool's answer: `tool_result` of every kind, Gemini's, Bedrock's."""
    nested = next((part[k] for k in ("functionResponse", "function_response", "toolResult")
                   if isinstance(part.get(k), dict)), None)  # fmt: skip
    known = isinstance(kind, str) and (
        kind in ("tool_result", "tool_response", "tool_call_response")
        or kind.endswith("_tool_result")
    )
    if not known and nested is None:
        return None
    body = part if nested is None else nested
    content = next((body[k] for k in ("content", "response", "result", "output") if k in body), "")
    if isinstance(content, dict) and set(content) == {"result"}:
        content = content["result"]
    identity = next((body[k] for k in ("tool_use_id", "toolUseId", "tool_call_id", "call_id", "id")
                     if isinstance(body.get(k), str)), None)  # fmt: skip
    out: Plain = {"role": "tool", "tool_call_id": identity, "content": content}
    if isinstance(name := body.get("name"), str):
        out["name"] = name
    if body.get("is_error") is True or body.get("status") == "error":
        out["is_error"] = True
    return out


def items(
    raw: Any, dropped: Counter[str] | None = None, at: str = "", places: Sequence[str] = ()
) -> list[Plain]:
    """Items of the OpenAI Responses API as plain messages.

    What a model returned in one go (reasoning, text, calls) is one message of the assistant.

    Args:
        raw: The items, in order; a text stands for one message of the user.
        dropped: Counts what is left out, by kind.
        at: Name of the list; with one, a message's `place` says where its first item stands.
        places: Where each item stands, if not in a list of this name.

    Raises:
        BadRecordError: It is neither a list nor a text, or an entry is no object.
    """
    if isinstance(raw, str):
        return [{"role": "user", "content": raw}]
    if not isinstance(raw, list):
        raise BadRecordError("`input` is neither a text nor a list of items.", "input")
    dropped = Counter() if dropped is None else dropped
    out: list[Plain] = []
    turn: Plain | None = None
    noted = 0
    for i, item in enumerate(raw):
        for plain in out[noted:] if at or places else ():
            plain["place"] = places[i - 1] if places else f"{at}[{i - 1}]"
        noted = len(out)
        if not isinstance(item, dict):
            raise BadRecordError(f"Item {i} is not an object.", "input")
        kind = item.get("type") or ("message" if "role" in item else None)
        if not isinstance(kind, str):
            raise BadRecordError(f"Item {i} has neither a type nor a role.", "input")
        role = role_of(item) if kind == "message" else None
        said = role == "assistant" or kind == "reasoning" or kind.endswith("_call")
        if not said:
            turn = None
        elif turn is None:
            turn = {"role": "assistant", "content": []}
            out.append(turn)
        if kind == "message" and turn is not None:
            [plain, *_] = _plain(item, "assistant", dropped)
            body = plain.pop("content")
            turn["content"] += body if isinstance(body, list) else [{"type": "text", "text": body}]
            turn.update({k: v for k, v in plain.items() if k != "role"})
        elif kind == "message":
            if role is None:
                raise BadRecordError(f"Item {i} is a message without a role.", "input")
            out += _plain(item, role, dropped)
        elif kind == "reasoning" and turn is not None:
            _think(turn, item, dropped)
        elif kind.endswith("_call_output"):
            out.append(_output(item, kind))
        elif kind.endswith("_call") and turn is not None:
            turn.setdefault("tool_calls", []).append(_item_call(item, kind))
            if (result := item.get("output", item.get("results"))) is not None:
                out.append({"role": "tool", "content": result, "tool_call_id": _id(item)})
                turn = None
        else:
            dropped[f"items of type {kind}"] += 1
    for plain in out[noted:] if at or places else ():
        plain["place"] = places[-1] if places else f"{at}[{len(raw) - 1}]"
    return out


def _id(item: Mapping[str, Any]) -> str | None:
    return next((item[k] for k in ("call_id", "id") if isinstance(item.get(k), str)), None)


def _think(turn: Plain, item: Mapping[str, Any], dropped: Counter[str]) -> None:
    """Reasoning in the clear, or its summary where that is all there is."""
    for key in ("content", "summary"):
        parts = [{"text": p} if isinstance(p, str) else p for p in _listed(item.get(key))]
        if said := "\n".join(t for p in parts if (t := text_of([p])[0])):
            before = turn.get("reasoning_content")
            turn["reasoning_content"] = said if before is None else f"{before}\n{said}"
            if key == "summary":
                turn["reasoning_is_summary"] = True
            return
    dropped["reasoning that the provider encrypted"] += 1


def _item_call(item: Mapping[str, Any], kind: str) -> Plain:
    name = item.get("name")
    arguments = next((item[k] for k in ("arguments", "input", "action", "queries", "code")
                      if item.get(k) is not None), "")  # fmt: skip
    return {"id": _id(item), "type": "function",
            "function": {"name": name if isinstance(name, str) else kind.removesuffix("_call"),
                         "arguments": arguments}}  # fmt: skip


def _output(item: Mapping[str, Any], kind: str) -> Plain:
    out: Plain = {"role": "tool", "tool_call_id": _id(item), "content": item.get("output")}
    # Codex wraps a command's output: {"output": text, "metadata": {"exit_code": n}}.
    held = item.get("output")
    if isinstance(held, str) and held.startswith('{"output":'):
        out["content"] = _unwrapped(held)
    elif isinstance(held, dict) and isinstance(held.get("content"), str):
        out["content"] = held["content"]
        if held.get("success") is False:
            out["is_error"] = True
    if item.get("status") in ("failed", "incomplete"):
        out["is_error"] = True
    return out


def _unwrapped(text: str) -> str:
    try:
        value = decode(text.encode("utf-8", "replace"), repair=True)
    except OutsideError:
        return text
    held = value.get("output") if isinstance(value, dict) else None
    return held if isinstance(held, str) else text
