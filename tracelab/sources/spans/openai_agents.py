"""Traces of the OpenAI Agents SDK: `trace` and `trace.span` objects, a line, an entry, or a page.

What its exporters send: `{"data": [...]}` of `{"object": "trace" | "trace.span", ...}`, or these
objects alone. Generations are model calls, functions and MCP tools are tools; a `response` that
holds only an id has no content. Read as `otel` reads spans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracelab.core.messages import text_or_none
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.agents.build import first_of
from tracelab.sources.agents.dialects import items
from tracelab.sources.base import BadRecordError, Seen, SourceFormat
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import SOURCES
from tracelab.sources.spans.exports import read_runs
from tracelab.sources.spans.otel_spans import OTelSpan, as_json, time_of

FORMAT = "openai-agents"
_KINDS = {"generation": "LLM", "response": "LLM", "function": "TOOL", "agent": "AGENT"}


def _objects(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    held = record.get("data")
    inside = [record, *(record.get("spans") or ())] if isinstance(record.get("spans"), list) else [
        record]  # fmt: skip
    for one in held if isinstance(held, list) else inside:
        if isinstance(one, dict):
            yield one


def _spans(record: dict[str, Any], number: int, dropped: Counter[str]) -> Iterator[OTelSpan]:
    for one in _objects(record):
        data = one.get("span_data")
        if isinstance(data, dict):
            kind = str(data.get("type"))
            if kind not in _KINDS:
                dropped[f"spans of type {kind[:80]}"] += 1
            yield _span(one, data, kind, number)
        elif one.get("object") != "trace":
            raise BadRecordError("It is neither a trace nor a span with `span_data`.", "span_data")


def _span(one: dict[str, Any], data: dict[str, Any], kind: str, number: int) -> OTelSpan:
    identity, trace = text_or_none(one.get("id")), text_or_none(one.get("trace_id"))
    if identity is None or trace is None:
        raise BadRecordError("A span has no id or no trace id.", "trace_id")
    held = data.get("usage")
    usage = held if isinstance(held, dict) else {}
    given, came = as_json(data.get("input")), as_json(data.get("output"))
    response = data.get("response")
    if isinstance(response, dict):  # of processors that keep the whole response
        came = came if came is not None else response.get("output")
        usage = usage or (u if isinstance(u := response.get("usage"), dict) else {})
    if kind == "response":
        given = _plain(given, data.get("instructions") or (response or {}).get("instructions")
                       if isinstance(response, dict) else data.get("instructions"))  # fmt: skip
        made = items(came) if isinstance(came, list) else []
        came = made[0] if made else came
    elif kind == "generation" and isinstance(came, list) and len(came) > 1:
        came = items(came)[0] if all(isinstance(m, dict) and "type" in m for m in came) else came
    attributes = {
        "openinference.span.kind": _KINDS.get(kind, kind.upper()),
        "input.value": given,
        "output.value": came,
        "tool.name": data.get("name") if kind == "function" else None,
        "agent.name": data.get("name") if kind == "agent" else None,
        "llm.model_name": first_of(data, "model")
        or (response.get("model") if isinstance(response, dict) else None),
        "llm.token_count.prompt": first_of(usage, "input_tokens", "prompt_tokens"),
        "llm.token_count.completion": first_of(usage, "output_tokens", "completion_tokens"),
        "llm.tools": (response or {}).get("tools") if isinstance(response, dict) else None,
    }
    error = one.get("error")
    said = error.get("message") if isinstance(error, dict) else error
    return OTelSpan(
        trace_id=trace,
        span_id=identity,
        parent_id=text_or_none(one.get("parent_id")),
        name=str(data.get("name") or kind),
        start=time_of(one.get("started_at")),
        end=time_of(one.get("ended_at")),
        attributes={k: v for k, v in attributes.items() if v is not None},
        error=str(said or "error") if error else None,
        line=number,
    )


def _plain(given: Any, instructions: Any) -> Any:
    if given is None:
        return None
    before = [{"role": "system", "content": instructions}] if instructions else []
    return [*before, *items(given)] if isinstance(given, list | str) else given


def _about(record: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    for one in _objects(record):
        name = text_or_none(one.get("id"))
        if one.get("object") == "trace" and name is not None:
            told = {k: one[k] for k in ("workflow_name", "group_id", "metadata") if one.get(k)}
            return name, told
    return None


@SOURCES.register(FORMAT, order=9)
class OpenAIAgents(SourceFormat):
    """Traces of the OpenAI Agents SDK: traces and spans as its exporters write them."""

    suffixes = (*LINES, *DOCUMENTS)

    @staticmethod
    def read(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
        """See `SourceFormat.read`."""
        return read_runs(path, seen, FORMAT, _spans, _about)

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        first = next(_objects(head.record), {})
        return first.get("object") in ("trace", "trace.span") or (
            isinstance(first.get("span_data"), dict) and "trace_id" in first
        )
