"""Traces of Jaeger's API and interface: `{"data": [{"traceID", "spans", "processes"}]}`, or one.

Tags are attributes, logs are events; times are microseconds. Read as `otel` reads spans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracelab.core.messages import text_or_none
from tracelab.core.outside import whole
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.base import BadRecordError, Seen, SourceFormat
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import SOURCES
from tracelab.sources.spans.exports import read_runs
from tracelab.sources.spans.otel_spans import OTelSpan

FORMAT = "jaeger"


def _spans(record: dict[str, Any], number: int, dropped: Counter[str]) -> Iterator[OTelSpan]:
    held = record.get("data")
    traces = held if isinstance(held, list) else [record]
    for trace in traces:
        if not isinstance(trace, dict) or not isinstance(trace.get("spans"), list):
            raise BadRecordError("A trace has no list of `spans`.", "spans")
        held = trace.get("processes")
        processes = held if isinstance(held, dict) else {}
        for span in trace["spans"]:
            if not isinstance(span, dict) or not text_or_none(span.get("spanID")):
                dropped["spans without an id"] += 1
                continue
            yield _span(span, trace, processes, number)


def _span(
    span: dict[str, Any], trace: dict[str, Any], processes: dict[str, Any], number: int
) -> OTelSpan:
    tags = _fields(span.get("tags"))
    process = processes.get(str(span.get("processID")), span.get("process"))
    process = process if isinstance(process, dict) else {}
    resource = _fields(process.get("tags"))
    if name := text_or_none(process.get("serviceName")):
        resource.setdefault("service.name", name)
    start = (whole(span.get("startTime"), 20) or 0) * 1000
    failed = tags.get("error") in (True, "true") or tags.get("otel.status_code") == "ERROR"
    events = []
    for log in span.get("logs") or () if isinstance(span.get("logs"), list) else ():
        fields = _fields(log.get("fields")) if isinstance(log, dict) else {}
        events.append((str(fields.get("event", fields.get("name", ""))), fields))
    return OTelSpan(
        trace_id=text_or_none(span.get("traceID")) or text_or_none(trace.get("traceID")) or "-",
        span_id=str(span["spanID"]),
        parent_id=_parent(span),
        name=str(span.get("operationName") or ""),
        start=start,
        end=start + (whole(span.get("duration"), 20) or 0) * 1000,
        attributes=tags,
        error=str(tags.get("otel.status_description") or "error") if failed else None,
        events=events,
        resource=resource,
        line=number,
    )


def _parent(span: dict[str, Any]) -> str | None:
    refs = span.get("references")
    refs = [r for r in refs if isinstance(r, dict)] if isinstance(refs, list) else []
    refs.sort(key=lambda r: r.get("refType") != "CHILD_OF")
    found = refs[0].get("spanID") if refs else span.get("parentSpanID")
    return text_or_none(found)


def _fields(raw: Any) -> dict[str, Any]:
    listed = raw if isinstance(raw, list) else []
    return {
        f["key"]: f.get("value")
        for f in listed
        if isinstance(f, dict) and isinstance(f.get("key"), str)
    }


def _is_trace(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("spans"), list):
        return False
    first = value["spans"][0] if value["spans"] else None
    return "traceID" in value or (isinstance(first, dict) and "traceID" in first)


@SOURCES.register(FORMAT, order=9)
class Jaeger(SourceFormat):
    """Traces of Jaeger (its API, and what its interface downloads)."""

    suffixes = (*LINES, *DOCUMENTS)

    @staticmethod
    def read(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
        """See `SourceFormat.read`."""
        return read_runs(path, seen, FORMAT, _spans)

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        page = head.record.get("data")
        first = page[0] if isinstance(page, list) and page else head.record
        return _is_trace(first) or head.shows(rb'"traceID"\s*:.*"operationName"\s*:')
