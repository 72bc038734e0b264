"""What a span says: its kind, and its messages as plain `{role, content, tool_calls?}` objects.

Understands, in this order: GenAI `gen_ai.input.messages` / `gen_ai.output.messages` (attribute or
event, JSON text or structured, `parts` or plain), OpenInference `llm.input_messages.N.message.*`,
`gen_ai.prompt.N.*` of OpenLLMetry, and the older `gen_ai.*.message` / `gen_ai.choice` events.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from tracelab.core.episode import ToolCall
from tracelab.core.messages import calls_of, reasoning_of, text_of, text_or_none
from tracelab.sources.otel_spans import OTelSpan, as_json, listed

_LLM = {"chat", "text_completion", "generate_content"}
_KINDS = {"LLM": "llm", "TOOL": "tool", "RETRIEVER": "tool"}


def kind_of(span: OTelSpan) -> Literal["llm", "tool"] | None:
    """Whether a span is a model call or a tool's work; None for containers and the rest."""
    a = span.attributes
    operation = text_or_none(a.get("gen_ai.operation.name"))
    if operation in _LLM:
        return "llm"
    if operation == "execute_tool":
        return "tool"
    kind = _KINDS.get(str(a.get("openinference.span.kind", "")).upper())
    if kind is None and operation is None:
        if "gen_ai.prompt.0.role" in a or a.get("llm.request.type") in ("chat", "completion"):
            kind = "llm"
        elif a.get("traceloop.span.kind") == "tool":
            kind = "tool"
    return kind  # type: ignore[return-value]


def input_messages(span: OTelSpan) -> list[dict[str, Any]]:
    """The exact model input, system instructions first; empty when it was not recorded."""
    found = _recorded(span, "gen_ai.input.messages")
    if found is not None:
        system = as_json(_recorded_raw(span, "gen_ai.system_instructions"))
        first = [{"role": "system", "parts": system if isinstance(system, list) else
                  [{"type": "text", "content": system}]}] if system else []  # fmt: skip
        return [m for raw in [*first, *found] for m in _plain(raw)]
    a = span.attributes
    if flat := listed(a, "llm.input_messages"):
        return [_openinference(m) for m in flat]
    if flat := listed(a, "gen_ai.prompt"):
        return [_openllmetry(m) for m in flat]
    names = {f"gen_ai.{r}.message": r for r in ("system", "user", "assistant", "tool")}
    return [_event(names[n], e) for n, e in span.events if n in names]


def output_message(span: OTelSpan) -> tuple[str, tuple[ToolCall, ...], str] | None:
    """Text, tool calls and reasoning of the first choice; None when no output was recorded."""
    a = span.attributes
    found = _recorded(span, "gen_ai.output.messages")
    if found is not None:
        messages = [m for raw in found[:1] for m in _plain(raw)]
    elif flat := listed(a, "llm.output_messages"):
        messages = [_openinference(m) for m in flat[:1]]
    elif flat := listed(a, "gen_ai.completion"):
        messages = [_openllmetry(m) for m in flat[:1]]
    else:
        messages = [_event("assistant", e) for n, e in span.events if n == "gen_ai.choice"][:1]
    if not messages:
        value = a.get("output.value")
        return (value, (), "") if isinstance(value, str) and value else None
    text = "".join(text_of(m.get("content"))[0] for m in messages)
    thought = "\n".join(t for m in messages if (t := reasoning_of(m)))
    return text, tuple(c for m in messages for c in calls_of(m)), thought


def tool_definitions(span: OTelSpan) -> Any:
    """The tools the model was offered; None when not recorded."""
    a = span.attributes
    whole = as_json(_recorded_raw(span, "gen_ai.tool.definitions"))
    if whole:
        return whole
    tools = [as_json(t.get("tool.json_schema", t)) for t in listed(a, "llm.tools")
             if isinstance(t, dict)]  # fmt: skip
    return tools or None


class SpanCall(NamedTuple):
    """What a tool's span says of its call; None for what is not recorded."""

    name: str | None
    arguments: Any
    result: Any

    @classmethod
    def of(cls, span: OTelSpan) -> SpanCall:
        """Read either convention."""
        a = span.attributes

        def first(*names: str) -> Any:
            return next((a[n] for n in names if a.get(n) is not None), None)

        name = first("gen_ai.tool.name", "tool.name", "traceloop.entity.name", "tool_call.name")
        arguments = first("gen_ai.tool.call.arguments", "tool.parameters",
                          "tool_call.function.arguments", "input.value",
                          "traceloop.entity.input")  # fmt: skip
        result = first("gen_ai.tool.call.result", "output.value", "traceloop.entity.output")
        if result is None and (documents := listed(a, "retrieval.documents")):
            result = documents
        return cls(text_or_none(name), arguments, result)


def _recorded_raw(span: OTelSpan, name: str) -> Any:
    if span.attributes.get(name) is not None:
        return span.attributes[name]
    return next((e[name] for _, e in span.events if e.get(name) is not None), None)


def _recorded(span: OTelSpan, name: str) -> list[Any] | None:
    value = as_json(_recorded_raw(span, name))
    if isinstance(value, dict):
        value = [value]
    return value if isinstance(value, list) else None


def _plain(raw: Any) -> list[dict[str, Any]]:
    """A GenAI message, whose parts may hold text, calls and results, as plain messages."""
    raw = as_json(raw)
    if not isinstance(raw, dict):
        return [{"role": "user", "content": str(raw)}]
    parts = raw.get("parts")
    if not isinstance(parts, list):
        return [raw]
    role = str(raw.get("role") or "user")
    texts: list[Any] = []
    calls: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "tool_call":
            calls.append({"id": part.get("id"), "function": {
                "name": part.get("name"), "arguments": part.get("arguments", "")}})  # fmt: skip
        elif kind == "tool_call_response":
            answer = part.get("response", part.get("result"))
            results.append({"role": "tool", "tool_call_id": part.get("id"), "content": answer})
        elif kind != "reasoning":
            texts.append(part)
    message: dict[str, Any] = {"role": role, "content": _joined(texts)}
    if thought := reasoning_of({"content": parts}):
        message["reasoning_content"] = thought
    if name := raw.get("name"):
        message["name"] = name
    if calls:
        message["tool_calls"] = calls
    return [message, *results] if texts or calls or not results else results


def _joined(texts: list[Any]) -> Any:
    plain = [t.get("content", t.get("text")) if isinstance(t, dict) else t for t in texts]
    words = [t for t in plain if isinstance(t, str)]
    return "".join(words) if len(words) == len(plain) else texts


def _openinference(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        return {"role": "user", "content": str(item)}
    content = item.get("message.content")
    if content is None:
        parts = listed(item, "message.contents")
        content = [
            {"type": p.get("message_content.type"), "text": p.get("message_content.text")}
            if isinstance(p, dict) else p for p in parts
        ] or ""  # fmt: skip
    message: dict[str, Any] = {"role": item.get("message.role", "user"), "content": content}
    for key in ("name", "tool_call_id"):
        if (value := item.get(f"message.{key}")) is not None:
            message[key] = value
    calls = [
        {"id": c.get("tool_call.id"), "function": {
            "name": c.get("tool_call.function.name"),
            "arguments": c.get("tool_call.function.arguments", "")}}
        for c in listed(item, "message.tool_calls") if isinstance(c, dict)
    ]  # fmt: skip
    if calls:
        message["tool_calls"] = calls
    return message


def _openllmetry(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        return {"role": "user", "content": str(item)}
    message = {k: as_json(v) if k == "content" else v for k, v in item.items() if "." not in k}
    calls = [
        {"id": c.get("id"), "function": {
            "name": c.get("name"), "arguments": c.get("arguments", "")}}
        for c in listed(item, "tool_calls") if isinstance(c, dict)
    ]  # fmt: skip
    if calls:
        message["tool_calls"] = calls
    message.setdefault("role", "assistant")
    return message


def _event(role: str, event: dict[str, Any]) -> dict[str, Any]:
    inner = as_json(event.get("message"))
    body = {**event, **inner} if isinstance(inner, dict) else event
    message: dict[str, Any] = {"role": role, "content": body.get("content", "")}
    if role == "tool":
        message["tool_call_id"] = body.get("id")
    calls = as_json(body.get("tool_calls"))
    if isinstance(calls, list):
        message["tool_calls"] = calls
    return message
