"""What a span says: its kind, and its messages as plain `{role, content, tool_calls?}` objects.

Understands, in this order: GenAI `gen_ai.input.messages` / `gen_ai.output.messages` (attribute or
event, JSON text or structured, `parts` or plain), OpenInference `llm.input_messages.N.message.*`,
`gen_ai.prompt.N.*` of OpenLLMetry, and the older `gen_ai.*.message` / `gen_ai.choice` events.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from tracelab.core.episode import ToolCall
from tracelab.core.messages import calls_of, reasoning_of, text_of, text_or_none
from tracelab.sources.agents.dialects import messages
from tracelab.sources.spans.otel_spans import OTelSpan, as_json, as_json_text, listed

_LLM = {"chat", "text_completion", "generate_content"}
_KINDS = {"LLM": "llm", "CHAT_MODEL": "llm", "TOOL": "tool", "RETRIEVER": "tool"}
_VERCEL = (".doGenerate", ".doStream")
_ADK = "gcp.vertex.agent."


def kind_of(span: OTelSpan) -> Literal["llm", "tool"] | None:
    """Whether a span is a model call or a tool's work; None for containers and the rest."""
    a = span.attributes
    operation = text_or_none(a.get("gen_ai.operation.name"))
    if operation in _LLM:
        return "llm"
    if operation == "execute_tool":
        return "tool"
    said = a.get("openinference.span.kind", as_json_text(a.get("mlflow.spanType")))
    kind = _KINDS.get(str(said or "").upper())
    if (vercel := a.get("ai.operationId")) is not None:
        kind = "llm" if str(vercel).endswith(_VERCEL) else None
        kind = "tool" if vercel == "ai.toolCall" else kind
    if kind is None and _ADK + "llm_request" in a:
        kind = "llm"
    if kind is None and operation is None:
        if "gen_ai.prompt.0.role" in a or a.get("llm.request.type") in ("chat", "completion"):
            kind = "llm"
        elif a.get("traceloop.span.kind") == "tool" or (
            a.get("gen_ai.tool.name") and a.get("gen_ai.tool.call.id")
        ):
            kind = "tool"
    return kind  # type: ignore[return-value]


def input_messages(span: OTelSpan) -> list[dict[str, Any]]:
    """The exact model input, system instructions first; empty when it was not recorded."""
    found = _recorded(span, "gen_ai.input.messages")
    a = span.attributes
    if found is not None:
        system = as_json(_recorded_raw(span, "gen_ai.system_instructions"))
        first = [{"role": "system", "parts": system if isinstance(system, list) else
                  [{"type": "text", "content": system}]}] if system else []  # fmt: skip
        return [m for raw in [*first, *found] for m in _plain(raw)]
    if flat := listed(a, "llm.input_messages"):
        return [_openinference(m) for m in flat]
    if flat := listed(a, "gen_ai.prompt"):
        return [_openllmetry(m) for m in flat]
    if isinstance(said := as_json(a.get("ai.prompt.messages")), list):
        return [m for raw in said for m in _plain(raw)]
    if isinstance(request := as_json(a.get(_ADK + "llm_request")), dict):
        return _gemini_request(request)
    given = as_json(a.get("mlflow.spanInputs", a.get("input.value")))
    if isinstance(given, dict | list) and (told := _conversation(given)):
        return told
    names = {f"gen_ai.{r}.message": r for r in ("system", "user", "assistant", "tool")}
    return [m for n, e in _events(span) if n in names for m in _event(names[n], e)]


def _conversation(given: Any) -> list[dict[str, Any]]:
    """The messages that a structured input holds: a list, `{"messages": […]}`, nested lists."""
    if isinstance(given, dict):
        given = next((given[k] for k in ("messages", "contents", "input") if given.get(k)), given)
    while isinstance(given, list) and len(given) == 1 and isinstance(given[0], list):
        given = given[0]
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return [m for raw in (given if isinstance(given, list) else []) for m in _plain(raw)]


def _gemini_request(request: dict[str, Any]) -> list[dict[str, Any]]:
    config = request.get("config")
    held = config.get("system_instruction") if isinstance(config, dict) else None
    held = held if held is not None else request.get("system_instruction")
    parts = held.get("parts") if isinstance(held, dict) else held
    first = [{"role": "system", "parts": parts if isinstance(parts, list) else
              [{"type": "text", "text": parts}]}] if parts else []  # fmt: skip
    contents = request.get("contents")
    return [m for raw in [*first, *(contents if isinstance(contents, list) else [])]
            for m in _plain(raw)]  # fmt: skip


def output_message(span: OTelSpan) -> tuple[str, tuple[ToolCall, ...], str] | None:
    """Text, tool calls and reasoning of the first choice; None when no output was recorded."""
    a = span.attributes
    found = _recorded(span, "gen_ai.output.messages")
    if found is not None:
        read = [m for raw in found[:1] for m in _plain(raw)]
    elif flat := listed(a, "llm.output_messages"):
        read = [_openinference(m) for m in flat[:1]]
    elif flat := listed(a, "gen_ai.completion"):
        read = [_openllmetry(m) for m in flat[:1]]
    elif any(k.startswith("ai.response.") for k in a):
        read = [_vercel(a)]
    elif isinstance(reply := as_json(a.get(_ADK + "llm_response")), dict):
        read = _plain({"role": "model", **(reply.get("content") or {})})
    elif isinstance(
        out := as_json(a.get("mlflow.spanOutputs", a.get("output.value"))), dict | list
    ):
        read = _reply(out)
    else:
        choices = [e for n, e in _events(span) if n == "gen_ai.choice"][:1]
        read = [m for e in choices for m in _event("assistant", e)]
    if not read:
        value = a.get("output.value")
        return (value, (), "") if isinstance(value, str) and value else None
    text = "".join(text_of(m.get("content"))[0] for m in read if m["role"] != "tool")
    thought = "\n".join(t for m in read if (t := reasoning_of(m)))
    return text, tuple(c for m in read for c in calls_of(m)), thought


def _vercel(a: dict[str, Any]) -> dict[str, Any]:
    calls = as_json(a.get("ai.response.toolCalls"))
    return {
        "role": "assistant",
        "content": a.get("ai.response.text") or as_json_text(a.get("ai.response.object")) or "",
        "reasoning_content": a.get("ai.response.reasoning") or "",
        "tool_calls": [
            {"id": c.get("toolCallId"), "function": {
                "name": c.get("toolName"), "arguments": c.get("input", c.get("args", ""))}}
            for c in (calls if isinstance(calls, list) else []) if isinstance(c, dict)
        ],
    }  # fmt: skip


def _reply(out: Any) -> list[dict[str, Any]]:
    """The message of a structured output: of `choices`, a message, LangChain's `generations`."""
    while isinstance(out, list) and out:
        out = out[0]
    if isinstance(out, str):
        return [{"role": "assistant", "content": out}]
    if not isinstance(out, dict):
        return []
    for key in ("choices", "generations", "messages", "message", "output", "content", "text"):
        held = out.get(key)
        if key in ("content", "text") and held is not None:
            return _plain({"role": "assistant", **out})
        if held:
            return _reply(held[-1:] if key == "messages" and isinstance(held, list) else held)
    return _plain({"role": "assistant", **out}) if out.get("tool_calls") else []


def tool_definitions(span: OTelSpan) -> Any:
    """The tools the model was offered; None when not recorded."""
    a = span.attributes
    whole = as_json(_recorded_raw(span, "gen_ai.tool.definitions"))
    if whole:
        return whole
    tools = [as_json(t.get("tool.json_schema", t)) for t in listed(a, "llm.tools")
             if isinstance(t, dict)]  # fmt: skip
    vercel = a.get("ai.prompt.tools")
    for given in vercel if isinstance(vercel, list) else []:
        tools.append(as_json(given))
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

        name = first("gen_ai.tool.name", "tool.name", "traceloop.entity.name", "tool_call.name",
                     "ai.toolCall.name")  # fmt: skip
        arguments = first("gen_ai.tool.call.arguments", "tool.parameters",
                          "tool_call.function.arguments", "input.value", "ai.toolCall.args",
                          _ADK + "tool_call_args", "tool_arguments", "mlflow.spanInputs",
                          "traceloop.entity.input")  # fmt: skip
        result = first("gen_ai.tool.call.result", "output.value", "traceloop.entity.output",
                       _ADK + "tool_response", "tool_response")  # fmt: skip
        if result is None:
            result = as_json_text(first("ai.toolCall.result", "mlflow.spanOutputs"))
        for event, e in span.events:  # of Strands
            if event == "gen_ai.tool.message" and arguments is None:
                arguments = e.get("content")
            elif event == "gen_ai.choice" and result is None:
                result = text_of(as_json(e.get("message")))[0]
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
    """A message of any dialect as plain ones: its results are messages of their own."""
    raw = as_json(raw)
    if not isinstance(raw, dict):
        return [{"role": "user", "content": str(raw)}]
    held = raw.get("kwargs")
    if isinstance(held, dict) and isinstance(raw.get("id"), list):  # serialised by LangChain
        raw = {"role": str(raw["id"][-1]).removesuffix("Message").removesuffix("Chunk"), **held}
    role = raw.get("role", raw.get("type", "user"))
    return messages([{**raw, "role": role if isinstance(role, str) and role else "user"}])


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


def _events(span: OTelSpan) -> list[tuple[str, dict[str, Any]]]:
    """Events of a span, also those that an attribute holds (pydantic-ai, Logfire)."""
    held = as_json(span.attributes.get("events"))
    return [*span.events, *((str(e.get("event.name", e.get("event", ""))), e)
                            for e in (held if isinstance(held, list) else [])
                            if isinstance(e, dict))]  # fmt: skip


def _event(role: str, event: dict[str, Any]) -> list[dict[str, Any]]:
    inner = as_json(event.get("message"))
    body = {**event, **inner} if isinstance(inner, dict) else dict(event)
    content = inner if isinstance(inner, list) else as_json(body.get("content", ""))
    message: dict[str, Any] = {"role": role, "content": content}
    if role == "tool":
        message["tool_call_id"] = body.get("id")
    if thought := reasoning_of(body):
        message["reasoning_content"] = thought
    calls = as_json(body.get("tool_calls"))
    if isinstance(calls, list):
        message["tool_calls"] = calls
    return _plain(message)
