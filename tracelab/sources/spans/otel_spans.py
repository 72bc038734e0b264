"""OTLP JSON and flat span exports, as plain spans: attributes unwrapped and unflattened.

Knows nothing about agents: `otel` gives the spans their meaning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tracelab.core.outside import OutsideError, decode, whole
from tracelab.sources.base import BadRecordError

_MAX_INDEX = 100_000
_FREE_NAMES, _NAMES_RATIO = 20_000, 16  # characters of flattened names, and for each of the nested


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
            try:
                yield from spans_of(item, line)
            except BadRecordError as e:  # the others can be read
                yield e.reason
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
    parent = first("parentSpanId", "parent_span_id", "parent_id")
    status = data.get("status")
    message = status.get("message") if isinstance(status, dict) else data.get("status_message")
    if message is None and isinstance(status, dict):
        message = status.get("description")
    code = (
        status.get("code", status.get("status_code"))
        if isinstance(status, dict)
        else data.get("status_code")
    )
    failed = code in (2, "STATUS_CODE_ERROR", "ERROR")
    events = data.get("events")
    held = attributes(data.get("attributes"))
    if isinstance(kind := data.get("span_kind"), str):  # Phoenix has it beside the attributes
        held.setdefault("openinference.span.kind", kind)
    return OTelSpan(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent if isinstance(parent, str) and parent else None,
        name=str(first("name", "span_name") or ""),
        start=time_of(
            first(
                "startTimeUnixNano",
                "start_time_unix_nano",
                "start_time",
                "start_timestamp",
                "startTime",
            )
        ),
        end=time_of(
            first("endTimeUnixNano", "end_time_unix_nano", "end_time", "end_timestamp", "endTime")
        ),
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
    if (number := whole(value, 20)) is not None:
        return number
    try:
        moment = datetime.fromisoformat(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = int(moment.replace(microsecond=0).timestamp())
    except (TypeError, ValueError, OverflowError):
        return 0
    return seconds * 1_000_000_000 + moment.microsecond * 1000


def attributes(raw: Any) -> dict[str, Any]:
    """Attributes as a plain object, from OTLP's key/value list or from an object."""
    if isinstance(raw, dict):
        if not any(isinstance(v, dict) for v in raw.values()):
            return dict(raw)
        out: dict[str, Any] = {}
        _flatten(raw, "", out, [_FREE_NAMES + _NAMES_RATIO * _names(raw)])
        return out
    out = {}
    for item in raw if isinstance(raw, list) else []:
        if isinstance(item, dict) and isinstance(item.get("key"), str):
            out[item["key"]] = _value(item.get("value"))
    return out


def _flatten(nested: dict[str, Any], prefix: str, out: dict[str, Any], left: list[int]) -> None:
    """Dotted keys of nested objects (Phoenix nests what OTLP flattens).

    Every leaf repeats the names above it, so a long name over many leaves would be a bomb: `left`
    is how many characters the names may still have.
    """
    for key, value in nested.items():
        if isinstance(value, dict):
            _flatten(value, f"{prefix}{key}.", out, left)
            continue
        name = prefix + str(key)
        left[0] -= len(name)
        if left[0] < 0:
            raise BadRecordError("Nested attributes have names that are too long for their number.")
        out[name] = value


def _names(nested: dict[str, Any]) -> int:
    """Characters of all keys at any depth."""
    size, todo = 0, [nested]
    while todo:
        item = todo.pop()
        for key, value in item.items():
            size += len(key) + 1
            if isinstance(value, dict):
                todo.append(value)
    return size


def _value(raw: Any) -> Any:
    if not isinstance(raw, dict):
        return raw
    for key, value in raw.items():
        if key == "intValue":
            number = whole(value, 20)
            return value if number is None else number
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
    given = flat.get(prefix)
    if isinstance(given, list):
        return [attributes(item) if isinstance(item, dict) else item for item in given]
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
            return decode(value, repair=True)
        except OutsideError:
            return value
    return value


def as_json_text(value: Any) -> Any:
    """A value that is written as JSON text of any kind, a string included; else as it is."""
    if isinstance(value, str):
        try:
            return decode(value, repair=True)
        except OutsideError:
            return value
    return value
