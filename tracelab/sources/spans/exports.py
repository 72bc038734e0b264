"""Exports of LangSmith and Langfuse: runs and observations with parents, a run a trace id.

Both are spans under other names; they are turned into those and read as `otel` reads them, so
that order, agents, calls and results follow the same rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tracelab.core.messages import text_or_none
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.agents.agent_log import finish
from tracelab.sources.agents.build import first_of, reward_of, text_at
from tracelab.sources.base import BadRecordError, Seen, SourceFormat, caught, refused
from tracelab.sources.files.records import records
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import SOURCES
from tracelab.sources.spans.otel import episode_of_spans
from tracelab.sources.spans.otel_spans import OTelSpan, as_json, time_of

_KINDS = {"llm": "LLM", "chat_model": "LLM", "generation": "LLM", "tool": "TOOL",
          "retriever": "RETRIEVER", "agent": "AGENT", "chain": "CHAIN"}  # fmt: skip


def read_runs(
    path: Path,
    seen: Seen | None,
    format: str,
    spans_of: Callable[[dict[str, Any], int, Counter[str]], Iterator[OTelSpan]],
    about: Callable[[dict[str, Any]], tuple[str, dict[str, Any]] | None] = lambda _: None,
) -> Iterator[Trace | Reject]:
    """Yield the run of each trace id of an export of spans.

    Args:
        path: The file.
        seen: What the import has read so far.
        format: Name of the format.
        spans_of: The spans of a record with its number; counts what it leaves out.
        about: What a record says of a whole run, by its trace id: kept in `meta`; `success` and
            `reward` in it are the run's.
    """
    seen = Seen() if seen is None else seen
    runs: dict[str, list[OTelSpan]] = {}
    told: dict[str, dict[str, Any]] = {}
    dropped: Counter[str] = Counter()
    for number, value, data in records(path):
        try:
            if isinstance(value, Exception):
                raise value
            if not isinstance(value, dict):
                raise BadRecordError("The record is not a JSON object.")
            for span in spans_of(value, number, dropped):
                runs.setdefault(span.trace_id, []).append(span)
            if (said := about(value)) is not None:
                told.setdefault(said[0], {}).update(said[1])
        except Exception as e:
            yield refused(e, str(path), number, data)
    for trace_id in list(runs):
        spans = runs.pop(trace_id)
        more = told.get(trace_id, {})
        known: dict[str, Any] = {k: more.pop(k) for k in ("success", "reward") if k in more}

        def made(
            trace_id: str = trace_id, spans: list[OTelSpan] = spans,
            known: dict[str, Any] = known, more: dict[str, Any] = more,
        ) -> Trace | Reject:  # fmt: skip
            if dropped:  # of the file, as spans that say nothing belong to no run
                more = {**more, "dropped": dict(dropped)}
                dropped.clear()
            episode = episode_of_spans(trace_id, spans, path, format=format, more=more, **known)
            if episode.steps:
                return finish(episode, seen, f"trace {trace_id}")
            reason = f"Trace {trace_id} has no model call and no tool."
            return Reject(str(path), episode.line, reason, "")

        yield caught(made, str(path), spans[0].line, place=f"Trace {trace_id[:80]}")


def _spans(record: dict[str, Any], number: int, dropped: Counter[str]) -> Iterator[OTelSpan]:
    for one in _flat(record):
        yield _span(one, record, number)


def _scores(record: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    trace = text_or_none(record.get("id" if "observations" in record else "traceId"))
    held = record.get("scores")
    scores = [s for s in held if isinstance(s, dict)] if isinstance(held, list) else []
    if not trace or not scores:
        return None
    success, reward = reward_of(scores[0].get("value")) if len(scores) == 1 else (None, None)
    outcome = {} if success is None and reward is None else {"success": success, "reward": reward}
    return trace, {"scores": scores, **outcome}


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
        return read_runs(path, seen, "langsmith", _spans, _scores)

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
        return read_runs(path, seen, "langfuse", _spans, _scores)

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        held = head.record.get("observations")
        alone = "traceId" in head.record and "startTime" in head.record and "type" in head.record
        return (isinstance(held, list) and "id" in head.record) or alone
