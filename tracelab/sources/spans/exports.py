"""Exports of LangSmith and Langfuse: runs and observations with parents, a run a trace id.

Both are spans under other names; they are turned into those and read as `otel` reads them, so
that order, agents, calls and results follow the same rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tracelab.core.messages import text_or_none
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.agents.agent_log import finish
from tracelab.sources.agents.build import first_of, reward_of, text_at
from tracelab.sources.base import BadRecordError, Seen, SourceFormat, refused
from tracelab.sources.records import records
from tracelab.sources.registry import SOURCES
from tracelab.sources.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.spans.otel import episode_of_spans
from tracelab.sources.spans.otel_spans import OTelSpan, as_json, time_of

_KINDS = {"llm": "LLM", "chat_model": "LLM", "generation": "LLM", "tool": "TOOL",
          "retriever": "RETRIEVER", "agent": "AGENT", "chain": "CHAIN"}  # fmt: skip


def _read(path: Path, seen: Seen | None, format: str) -> Iterator[Trace | Reject]:
    seen = Seen() if seen is None else seen
    runs: dict[str, list[OTelSpan]] = {}
    scores: dict[str, list[Mapping[str, Any]]] = {}
    for number, value, data in records(path):
        try:
            if isinstance(value, Exception):
                raise value
            if not isinstance(value, dict):
                raise BadRecordError("The record is not a JSON object.")
            for one in _flat(value):
                span = _span(one, value, number)
                runs.setdefault(span.trace_id, []).append(span)
            trace = text_or_none(value.get("id" if "observations" in value else "traceId"))
            held = value.get("scores")
            if trace and isinstance(held, list):
                scores.setdefault(trace, []).extend(s for s in held if isinstance(s, dict))
        except Exception as e:
            yield refused(e, str(path), number, data)
    for trace_id in list(runs):
        spans = runs.pop(trace_id)
        told = scores.get(trace_id, [])
        success, reward = reward_of(told[0].get("value")) if len(told) == 1 else (None, None)
        episode = episode_of_spans(
            trace_id, spans, path, format=format,
            **({} if reward is None and success is None else
               {"success": success, "reward": reward}),
            more={"scores": told} if told else {},
        )  # fmt: skip
        if episode.steps:
            yield finish(episode, seen, f"trace {trace_id}")
        else:
            reason = f"Trace {trace_id} has no model call and no tool."
            yield Reject(str(path), episode.line, reason, "")


def _flat(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Runs of a record: its own, its observations, its children at any depth."""
    todo = [record] if "observations" not in record else []
    todo += [o for o in record.get("observations") or () if isinstance(o, dict)]
    while todo:
        one = todo.pop(0)
        yield one
        todo += [c for c in one.get("child_runs") or () if isinstance(c, dict)]


def _span(one: dict[str, Any], whole: dict[str, Any], number: int) -> OTelSpan:
    identity = text_or_none(one.get("id"))
    if identity is None:
        raise BadRecordError("A run has no id.", "id")
    trace = first_of(one, "trace_id", "traceId") or first_of(whole, "trace_id", "id")
    kind = str(first_of(one, "run_type", "type") or "").lower()
    usage = first_of(one, "usage", "usageDetails", "usage_metadata") or {}
    usage = usage if isinstance(usage, dict) else {}
    given = as_json(first_of(one, "inputs", "input"))
    came = as_json(first_of(one, "outputs", "output"))
    # Of a tool, LangChain wraps what it was given and what it returned.
    if kind == "tool" and isinstance(given, dict) and set(given) == {"input"}:
        given = as_json(given["input"])
    if kind in ("tool", "retriever") and isinstance(came, dict) and len(came) == 1:
        came = next(iter(came.values()))
    if isinstance(came, dict) and kind == "tool" and came.get("content") is not None:
        came = came["content"]
    attributes: dict[str, Any] = {
        "openinference.span.kind": _KINDS.get(kind, kind.upper()),
        "input.value": given,
        "output.value": came,
        "tool.name": one.get("name") if kind == "tool" else None,
        "llm.model_name": first_of(one, "model")
        or text_at(one, "extra", "metadata", "ls_model_name")
        or text_at(one, "extra", "invocation_params", "model"),
        "llm.token_count.prompt": first_of(one, "prompt_tokens")
        or first_of(usage, "input", "prompt_tokens", "input_tokens", "promptTokens"),
        "llm.token_count.completion": first_of(one, "completion_tokens")
        or first_of(usage, "output", "completion_tokens", "output_tokens", "completionTokens"),
        "agent.name": text_at(one, "extra", "metadata", "langgraph_node")
        or text_at(one, "metadata", "langgraph_node"),
        "llm.tools": first_of(one.get("extra", {}).get("invocation_params") or {}, "tools")
        if isinstance(one.get("extra"), dict) else None,
    }  # fmt: skip
    call = text_at(one, "outputs", "tool_call_id") or text_at(one, "outputs", "output",
                                                              "tool_call_id")  # fmt: skip
    attributes["tool_call.id"] = call
    error = first_of(one, "error") or (
        (one.get("statusMessage") or "error") if one.get("level") == "ERROR" else None
    )
    return OTelSpan(
        trace_id=str(trace or identity),
        span_id=identity,
        parent_id=text_or_none(
            first_of(one, "parent_run_id", "parentObservationId", "parent_observation_id")
        ),  # fmt: skip
        name=str(one.get("name") or ""),
        start=time_of(first_of(one, "start_time", "startTime")),
        end=time_of(first_of(one, "end_time", "endTime")),
        attributes={k: v for k, v in attributes.items() if v is not None},
        error=None if error is None else str(error),
        line=number,
    )


@SOURCES.register("langsmith", order=20)
class LangSmith(SourceFormat):
    """Runs exported from LangSmith (JSON lines, an array, or nested `child_runs`)."""

    suffixes = (*LINES, *DOCUMENTS)

    @staticmethod
    def read(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
        """See `SourceFormat.read`."""
        return _read(path, seen, "langsmith")

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        return "run_type" in head.record and ("inputs" in head.record or "outputs" in head.record)


@SOURCES.register("langfuse", order=20)
class Langfuse(SourceFormat):
    """Traces with observations, or observations alone, exported from Langfuse."""

    suffixes = (*LINES, *DOCUMENTS)

    @staticmethod
    def read(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
        """See `SourceFormat.read`."""
        return _read(path, seen, "langfuse")

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        held = head.record.get("observations")
        alone = "traceId" in head.record and "startTime" in head.record and "type" in head.record
        return (isinstance(held, list) and "id" in head.record) or alone
