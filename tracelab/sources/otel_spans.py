"""OTLP JSON and flat span exports, as plain spans: attributes unwrapped and unflattened.

Knows nothing about agents: `otel` gives the spans their meaning.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tracelab.sources.agent_json import BadRecordError

_MAX_INDEX = 100_000


@dataclass(slots=True)
class OTelSpan:
    """One span. Times are nanoseconds, 0 where the export has none."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    start: int
    end: int
    attributes: dict[str, Any]
    error: str | None = None
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    resource: dict[str, Any] = field(default_factory=dict)
    line: int = 0


def spans_of(data: Any, line: int) -> Iterator[OTelSpan | str]:
    """Yield the spans of one document, or why one of them cannot be used.

    A document is an OTLP export (`resourceSpans` > `scopeSpans` > `spans`), a list of spans, or
    one span with a plain `attributes` object (as Phoenix and SDK console exporters write).

    Raises:
        BadRecordError: It is none of these.
    """
    if isinstance(data, list):
        for item in data:
            yield from spans_of(item, line)
        return
    if not isinstance(data, dict):
        raise BadRecordError("The document is not a JSON object.")
    if isinstance(data.get("data"), list) and "attributes" not in data:
        yield from spans_of(data["data"], line)  # a page of Phoenix's REST API
        return
    groups = data.get("resourceSpans", data.get("resource_spans"))
    if isinstance(groups, list):
        for group in groups:
            if not isinstance(group, dict):
                yield "An entry of `resourceSpans` is not an object."
                continue
            held = group.get("resource")
            resource = attributes(held.get("attributes")) if isinstance(held, dict) else {}
            scopes: list[Any] = next(
                (group[k] for k in ("scopeSpans", "scope_spans", "instrumentationLibrarySpans")
                 if isinstance(group.get(k), list)), [],
            )  # fmt: skip
            for scope in scopes:
                spans = scope.get("spans") if isinstance(scope, dict) else None
                for span in spans if isinstance(spans, list) else []:
                    yield _span(span, resource, line)
    elif isinstance(data.get("data"), dict) and isinstance(data["data"].get("spans"), list):
        info = data.get("info")
        told = {"mlflow.trace.info": info} if isinstance(info, dict) else {}
        for span in data["data"]["spans"]:
            yield _span(span, told, line)
    elif "attributes" in data or "spanId" in data or "context" in data:
        yield _span(data, {}, line)
    else:
        raise BadRecordError("The document has neither `resourceSpans` nor a span.")


def _span(data: Any, resource: dict[str, Any], line: int) -> OTelSpan | str:
    if not isinstance(data, dict):
        return "A span is not an object."
    context = data.get("context")
    context = context if isinstance(context, dict) else {}

    def first(*names: str) -> Any:
        return next((v for n in names if (v := data.get(n, context.get(n))) is not None), None)

    trace_id, span_id = first("traceId", "trace_id"), first("spanId", "span_id")
    if not isinstance(trace_id, str) or not isinstance(span_id, str) or not trace_id or not span_id:
        return "A span has no trace id or no span id."
    status = data.get("status")
    message = status.get("message") if isinstance(status, dict) else data.get("status_message")
    if message is None and isinstance(status, dict):
        message = status.get("description")
    code = (status.get("code", status.get("status_code")) if isinstance(status, dict)
            else data.get("status_code"))
    failed = code in (2, "STATUS_CODE_ERROR", "ERROR")
    events = data.get("events")
    held = attributes(data.get("attributes"))
    if isinstance(kind := data.get("span_kind"), str):  # Phoenix has it beside the attributes
        held.setdefault("openinference.span.kind", kind)
    return OTelSpan(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=first("parentSpanId", "parent_span_id", "parent_id") or None,
        name=str(first("name", "span_name") or ""),
        start=time_of(first("startTimeUnixNano", "start_time_unix_nano", "start_time",
                            "start_timestamp", "startTime")),
        end=time_of(first("endTimeUnixNano", "end_time_unix_nano", "end_time", "end_timestamp",
                          "endTime")),
        attributes=held,
        error=str(message or "error") if failed else None,
        events=[
            (str(e.get("name") or ""), attributes(e.get("attributes")))
            for e in (events if isinstance(events, list) else [])
            if isinstance(e, dict)
        ],
        resource=resource,
        line=line,
    )


def time_of(value: Any) -> int:
    """Nanoseconds of a Unix time or an ISO 8601 one; 0 for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 21:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return 0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * 1_000_000_000 + moment.microsecond * 1000


def attributes(raw: Any) -> dict[str, Any]:
    """Attributes as a plain object, from OTLP's key/value list or from an object."""
    if isinstance(raw, dict):
        return _flat(raw) if any(isinstance(v, dict) for v in raw.values()) else dict(raw)
    out: dict[str, Any] = {}
    for item in raw if isinstance(raw, list) else []:
        if isinstance(item, dict) and isinstance(item.get("key"), str):
            out[item["key"]] = _value(item.get("value"))
    return out


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys of nested objects (Phoenix nests what OTLP flattens)."""
    out: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            out |= _flat(value, f"{prefix}{key}.")
        else:
            out[prefix + str(key)] = value
    return out


def _value(raw: Any) -> Any:
    if not isinstance(raw, dict):
        return raw
    for key, value in raw.items():
        if key == "intValue":
            try:
                return int(value)
            except (TypeError, ValueError):
                return value
        if key == "arrayValue":
            values = value.get("values") if isinstance(value, dict) else None
            return [_value(v) for v in values] if isinstance(values, list) else []
        if key == "kvlistValue":
            return attributes(value.get("values") if isinstance(value, dict) else None)
        if key in ("stringValue", "boolValue", "doubleValue", "bytesValue"):
            return value
    return None


def listed(flat: dict[str, Any], prefix: str) -> list[Any]:
    """The list that flattened keys `prefix.N.…` spell, in order of N; a real list as it is."""
    whole = flat.get(prefix)
    if isinstance(whole, list):
        return [_flat(item) if isinstance(item, dict) else item for item in whole]
    items: dict[int, dict[str, Any]] = {}
    start = prefix + "."
    for key, value in flat.items():
        if not key.startswith(start):
            continue
        number, _, rest = key[len(start) :].partition(".")
        if number.isascii() and number.isdigit() and len(number) < 7 and int(number) < _MAX_INDEX:
            items.setdefault(int(number), {})[rest] = value
    return [items[n] for n in sorted(items)]


def as_json(value: Any) -> Any:
    """A value that may be written as JSON text; text that is not JSON stays text."""
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def as_json_text(value: Any) -> Any:
    """A value that is written as JSON text of any kind, a string included; else as it is."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
