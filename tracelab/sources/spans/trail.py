"""TRAIL: traces of agents as nested spans, with the errors that people found in them.

A record is a trace, `{"trace_id", "spans": [{…, "child_spans": […]}]}`, or a row of the data set
that holds one as JSON text (`trace`) beside its annotation (`labels`). Errors are kept in
`meta.labels`, with the span that each is in; the record's own outcome is not known.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracelab.core.messages import text_or_none
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.base import BadRecordError, Seen, SourceFormat
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import SOURCES
from tracelab.sources.spans.exports import read_runs
from tracelab.sources.spans.otel_spans import OTelSpan, as_json, attributes, time_of

FORMAT = "trail"
_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?")


def _trace(record: dict[str, Any]) -> dict[str, Any]:
    held = as_json(record.get("trace"))
    return held if isinstance(held, dict) else record


def _spans(record: dict[str, Any], number: int, dropped: Counter[str]) -> Iterator[OTelSpan]:
    trace = _trace(record)
    if not isinstance(trace.get("spans"), list):
        raise BadRecordError("`spans` is missing or not a list.", "spans")
    todo: list[tuple[Any, str | None]] = [(s, None) for s in reversed(trace["spans"])]
    while todo:
        span, parent = todo.pop()
        identity = text_or_none(span.get("span_id")) if isinstance(span, dict) else None
        if identity is None:
            dropped["spans without an id"] += 1
            continue
        inside = span.get("child_spans")
        todo += [(c, identity) for c in reversed(inside if isinstance(inside, list) else [])]
        start = time_of(span.get("timestamp"))
        code = str(span.get("status_code") or "").upper()
        events = [e for e in span.get("events") or () if isinstance(e, dict)]
        yield OTelSpan(
            trace_id=text_or_none(trace.get("trace_id")) or identity,
            span_id=identity,
            parent_id=text_or_none(span.get("parent_span_id")) or parent,
            name=str(span.get("span_name") or ""),
            start=start,
            end=start + _nanoseconds(span.get("duration")),
            attributes=attributes(span.get("span_attributes")),
            error=str(span.get("status_message") or "error") if code == "ERROR" else None,
            events=[
                (str(e.get("Name", e.get("name", ""))),
                 attributes(e.get("Attributes", e.get("attributes"))))
                for e in events
            ],
            resource=attributes(span.get("resource_attributes")),
            line=number,
        )  # fmt: skip


def _nanoseconds(duration: Any) -> int:
    found = _DURATION.fullmatch(duration) if isinstance(duration, str) else None
    if found is None or len(str(duration)) > 40:
        return 0
    hours, minutes, seconds = (float(g or 0) for g in found.groups())
    return int((hours * 3600 + minutes * 60 + seconds) * 1e9)


def _about(record: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    name = text_or_none(_trace(record).get("trace_id"))
    labels = as_json(record.get("labels"))
    return None if name is None or not isinstance(labels, dict) else (name, {"labels": labels})


@SOURCES.register(FORMAT, order=8)
class Trail(SourceFormat):
    """TRAIL: nested spans of agents, with annotated errors."""

    suffixes = (*LINES, *DOCUMENTS)

    @staticmethod
    def read(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
        """See `SourceFormat.read`."""
        return read_runs(path, seen, FORMAT, _spans, _about)

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        spans = _trace(head.record).get("spans")
        first = spans[0] if isinstance(spans, list) and spans else None
        return (isinstance(first, dict) and "span_id" in first and (
            "child_spans" in first or "span_attributes" in first
        )) or head.shows(rb'"child_spans"\s*:\s*\[')  # fmt: skip
