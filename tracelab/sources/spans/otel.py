"""OpenTelemetry spans of agents as runs: GenAI conventions and OpenInference; one run a trace id.

A file is an OTLP JSON document, one such document a line, or one flat span a line. Spans may come
in any order and without their parents; those of a trace are put in order of their start. Spans of
model calls become `llm` steps with their exact input where the content was recorded; spans of
tools their results; a call whose result is only seen in a later input gets it from there. The
spans of one file are held until it is read to its end, because a trace has no last span.
"""

from __future__ import annotations

import json
from collections import ChainMap, Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracelab.core.episode import Arguments, Episode, Step
from tracelab.core.hashing import content_hash
from tracelab.core.messages import text_of, text_or_none
from tracelab.core.outside import decode, finite
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.agents.agent_log import StepList, count_or_none, finish
from tracelab.sources.base import Seen, SourceFormat, caught, excerpt, refused
from tracelab.sources.files.records import documents
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import SOURCES
from tracelab.sources.spans.otel_messages import (
    SpanCall,
    input_messages,
    kind_of,
    output_message,
    tool_definitions,
)
from tracelab.sources.spans.otel_spans import OTelSpan, as_json, spans_of

_AGENT = ("gen_ai.agent.name", "agent.name", "agent_name", "graph.node.id", "traceloop.entity.name")
_MODEL = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name", "ai.model.id",
          "model_name")  # fmt: skip
_PROMPT_TOKENS = (
    "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt",
)  # fmt: skip
_OUTPUT_TOKENS = (
    "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion",
)  # fmt: skip
_RESOURCE_SPANS = rb'"resource_?[sS]pans"\s*:\s*\['
_TASK_ID = ("task.id", "task_id", "gen_ai.task.id")
# What is in the steps already, or long.
_TOLD = ("gen_ai.", "llm.", "input.", "output.", "openinference.", "traceloop.", "tool.")
_LABELS = {"pass": True, "passed": True, "correct": True, "success": True,
           "fail": False, "failed": False, "incorrect": False, "failure": False}  # fmt: skip


_MOST_REJECTS = 1000


def read_otel(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the trace of each trace id of a file, and a reject for each unusable document."""
    seen = Seen() if seen is None else seen
    file, runs, refused_any = str(path), dict[str, list[OTelSpan]](), False
    for number, data, problem in documents(path, lines=not path.name.lower().endswith(".json")):
        if problem:
            refused_any = True
            yield Reject(file, number, problem, excerpt(data))
            continue
        bad: Counter[str] = Counter()
        try:
            for span in spans_of(decode(data, repair=True), number):
                if isinstance(span, str):
                    bad[span] += 1
                    if bad.total() <= _MOST_REJECTS:
                        refused_any = True
                        yield Reject(file, number, f"{span} (Number {bad.total()}.)", excerpt(data))
                else:
                    runs.setdefault(span.trace_id, []).append(span)
        except Exception as e:
            refused_any = True
            yield refused(e, file, number, data)
        if bad.total() > _MOST_REJECTS:  # a document may hold millions that are bad alike
            more = bad.total() - _MOST_REJECTS
            yield Reject(file, number, f"{more} spans more cannot be used.", excerpt(data))
    if not runs and not refused_any:
        yield Reject(file, 0, f"{path.name} holds no spans.", "")
    for trace_id in list(runs):
        spans = runs.pop(trace_id)

        def made(trace_id: str = trace_id, spans: list[OTelSpan] = spans) -> Trace | Reject:
            episode = episode_of_spans(trace_id, spans, path)
            if episode.steps:
                return finish(episode, seen, f"trace {trace_id}")
            reason = f"Trace {trace_id} has no span of a model call or a tool."
            return Reject(file, episode.line, reason, "")

        place = f"Trace {trace_id[:80]}"
        yield caught(made, file, spans[0].line, place=place)


def episode_of_spans(
    trace_id: str, spans: list[OTelSpan], path: Path, *, format: str = "otel",
    more: Mapping[str, Any] | None = None, **known: Any,
) -> Episode:  # fmt: skip
    """The run that the spans of one trace id are.

    Args:
        trace_id: Its name.
        spans: All of them, in any order; of several exports, with repetitions.
        path: The file.
        format: Name of the format.
        more: What else the log says of the run, kept in `meta`.
        known: Fields of `Episode` that the log says apart from its spans (success, reward).
    """
    notes: list[str] = []
    spans = _distinct(spans, notes)
    spans.sort(key=lambda s: (s.start, s.end))
    by_id = {s.span_id: s for s in reversed(spans)}
    kinds = [kind_of(s) for s in spans]
    executed = {_call_id(s) for s, kind in zip(spans, kinds, strict=True) if kind == "tool"}
    twice = _twice(spans, kinds, by_id)
    if twice:
        notes.append(f"{len(twice)} calls were recorded by two instrumentations.")
    out, said, ids, task = StepList(), Counter[str](), set[str](), ""
    agents: dict[str, str | None] = {}
    for span, kind in zip(spans, kinds, strict=True):
        if id(span) in twice:
            continue
        flags: tuple[str, ...] = () if span.error is None else ("error",)
        if span.parent_id is not None and span.parent_id not in by_id:
            flags = (*flags, "missing_parent")
        if span.span_id in ids:
            flags = (*flags, "duplicate_id")
        ids.add(span.span_id)
        agent = _agent(span, by_id, agents)
        if kind == "llm":
            given = input_messages(span)
            node = out.chain(given)
            _hear(out, given, said, executed, f"input of span {span.span_id}")
            task = task or next((text_of(m.get("content"))[0] for m in given
                                 if m.get("role") == "user"), "")  # fmt: skip
            _add_llm(out, span, node, agent, flags)
        elif kind == "tool":
            _add_tool(out, span, agent, flags)
    out.unanswered()
    roots = [s for s in spans if s.parent_id not in by_id]
    first = roots[0] if roots else spans[0]
    # A resource is shared by many runs, so it is looked into, never copied.
    merged = ChainMap(first.attributes, first.resource)
    conversation = merged.get("gen_ai.conversation.id", merged.get("session.id"))
    success, reward = _outcome(spans)
    asked = merged.get("input.value")
    return Episode(
        name=trace_id,
        steps=tuple(out.steps),
        format=format,
        source=str(path),
        line=min(s.line for s in spans),
        task=task or (asked if isinstance(asked, str) else ""),
        task_id=text_or_none(next((merged[k] for k in _TASK_ID if k in merged), None)),
        model=next((m for s in spans if (m := text_or_none(_first(s, _MODEL)))), None),
        version=text_or_none(merged.get("service.version")),
        success=known.get("success", success),
        reward=known.get("reward", reward),
        messages=out.store.messages,
        inputs=out.store.inputs,
        meta={
            "attributes": {k: v for k, v in first.attributes.items() if not k.startswith(_TOLD)},
            "conversation": conversation,
            "service": merged.get("service.name"),
            "spans": len(spans),
            "errors": [s.error for s in spans if s.error is not None],
            **(more or {}),
        },
        notes=tuple(notes),
    )


def _twice(
    spans: list[OTelSpan], kinds: Sequence[str | None], by_id: dict[str, OTelSpan]
) -> set[int]:
    """Spans (by identity) of calls that an outer span of the same kind records too.

    Where only one of the two holds what was said, that one stays; otherwise the outer one.
    """
    kind_by = {s.span_id: k for s, k in zip(reversed(spans), reversed(kinds), strict=True)}
    above: dict[str, str | None] = {}  # the nearest span with a kind at or above a span

    def nearest(at: str | None) -> str | None:
        passed: list[str] = []
        while at is not None and at in by_id and at not in above and kind_by[at] is None:
            passed.append(at)
            above[at] = None  # parents may run in circles
            at = by_id[at].parent_id
        found = None
        if at is not None and at in by_id:
            found = at if kind_by[at] is not None else above.get(at)
        above.update(dict.fromkeys(passed, found))
        return found

    out: set[int] = set()
    for span, kind in zip(spans, kinds, strict=True):
        name = None if kind is None else nearest(span.parent_id)
        outer = None if name is None else by_id[name]
        if outer is None or outer is span or kind_by[outer.span_id] != kind:
            continue
        mine, theirs = (_did(s, kind) for s in (span, outer))
        if theirs is None and mine is not None:
            out.add(id(outer))
        elif mine is None or mine == theirs:
            out.add(id(span))
    return out


def _did(span: OTelSpan, kind: str | None) -> object:
    """What a span records of its call's outcome; None where that is nothing."""
    if kind == "llm":
        return output_message(span)
    call = SpanCall.of(span)
    return None if call.result is None else (call.name, call.result)


def _distinct(spans: list[OTelSpan], notes: list[str]) -> list[OTelSpan]:
    """Without spans that were exported twice; different spans under one id are all kept."""
    kept: dict[str, list[OTelSpan]] = {}
    for span in spans:
        kept.setdefault(span.span_id, []).append(span)
    repeated = 0
    for span_id, same in kept.items():
        if len(same) > 1:
            contents: dict[str, OTelSpan] = {}
            for s in same:
                contents.setdefault(content_hash([s.name, s.start, s.end, s.attributes]), s)
            repeated += len(same) - len(contents)
            kept[span_id] = list(contents.values())
    if repeated:
        notes.append(f"{repeated} spans were exported more than once.")
    if len(clashes := [i for i, s in kept.items() if len(s) > 1]):
        notes.append(f"{len(clashes)} span ids name more than one span; all are kept.")
    return [s for same in kept.values() for s in same]


def _hear(
    out: StepList,
    given: list[dict[str, Any]],
    said: Counter[str],
    executed: set[str | None],
    place: str,
) -> None:
    """Add what an input holds and no span does: user and system messages, results of tools.

    An input repeats those before it: a message is new where it stands there once more than ever.
    """
    here: Counter[str] = Counter()
    for message in given:
        key = json.dumps(message, sort_keys=True)
        role = message.get("role")
        here[key] += 1
        if here[key] <= said[key]:
            continue
        said[key] += 1
        text, flags = text_of(message.get("content"))
        if role == "tool":
            call_id = text_or_none(message.get("tool_call_id"))
            if call_id is not None and call_id not in executed and out.is_open(call_id):
                out.result(call_id, text, flags, place=place)
        elif role in ("user", "system", "developer"):
            kind = "user" if role == "user" else "system"
            out.add(Step(0, kind, agent=str(role), content=text, flags=flags, place=place))  # type: ignore[arg-type]


def _add_llm(
    out: StepList, span: OTelSpan, node: str | None, agent: str | None, flags: tuple[str, ...]
) -> None:
    found = output_message(span)
    text, calls, thought = found or ("", (), "")
    definitions = tool_definitions(span)
    if found is None:
        flags = (*flags, "no_content")
    elif text_of(text)[1]:
        flags = (*flags, "binary")
    out.add(
        Step(
            index=0,
            kind="llm",
            agent=agent or "assistant",
            content=text,
            calls=calls,
            input=node,
            tools=None if definitions is None else out.store.put(definitions),
            prompt_tokens=count_or_none(_first(span, _PROMPT_TOKENS)),
            output_tokens=count_or_none(_first(span, _OUTPUT_TOKENS)),
            flags=flags,
            reasoning=thought,
            place=f"span {span.span_id}",
        )
    )


def _add_tool(out: StepList, span: OTelSpan, agent: str | None, flags: tuple[str, ...]) -> None:
    a = span.attributes
    call = SpanCall.of(span)
    text, more = text_of(as_text(call.result))
    if call.result is None and span.error is not None:
        text = span.error
    if call.result is None and span.error is None:
        flags = (*flags, "missing_result")
    arguments = None if call.arguments is None else Arguments.of(call.arguments)
    if a.get("openinference.span.kind") == "RETRIEVER" and call.name is None:
        call = call._replace(name="retriever")
    index = out.result(_call_id(span), text, (*flags, *more), agent=agent,
                       tool=call.name or span.name, arguments=arguments,
                       place=f"span {span.span_id}")  # fmt: skip
    if "missing_result" in flags:
        out.no_result(index)


def as_text(value: Any) -> Any:
    """Results are text; a structured one is shown as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(as_json(value), ensure_ascii=False, sort_keys=True)


def _call_id(span: OTelSpan) -> str | None:
    a = span.attributes
    return text_or_none(a.get("gen_ai.tool.call.id", a.get("tool_call.id", a.get("tool.id"))))


def _agent(span: OTelSpan, by_id: dict[str, OTelSpan], known: dict[str, str | None]) -> str | None:
    """Its own agent, or the nearest ancestor's; parents may be missing or run in circles.

    What was found for the spans on the way is kept in `known`.
    """
    way: dict[str, None] = {}
    found: str | None = None
    node: OTelSpan | None = span
    while node is not None:
        if name := text_or_none(_first(node, _AGENT)):
            found = name
            break
        if node.attributes.get("openinference.span.kind") == "AGENT" and node.name:
            found = node.name
            break
        if by_id.get(node.span_id) is node and node.span_id in known:
            found = known[node.span_id]
            break
        if node.span_id in way:  # a circle
            break
        if by_id.get(node.span_id) is node:
            way[node.span_id] = None
        node = by_id.get(node.parent_id) if node.parent_id else None
    known |= dict.fromkeys(way, found)
    return found


def _first(span: OTelSpan, names: tuple[str, ...]) -> Any:
    return next((v for n in names if (v := span.attributes.get(n)) not in (None, "")), None)


def _outcome(spans: list[OTelSpan]) -> tuple[bool | None, float | None]:
    """Success and score of the last `gen_ai.evaluation.result`, which is an event or a span."""
    found = [
        a
        for s in spans
        for a in [s.attributes, *(e for _, e in s.events)]
        if "gen_ai.evaluation.score.label" in a or "gen_ai.evaluation.score.value" in a
    ]
    if not found:
        return None, None
    reward = finite(found[-1].get("gen_ai.evaluation.score.value"))
    label = found[-1].get("gen_ai.evaluation.score.label")
    success = _LABELS.get(label.lower()) if isinstance(label, str) else None
    return success, reward


def _is_span(data: dict[str, Any]) -> bool:
    context = data.get("context")
    places = [data, context] if isinstance(context, dict) else [data]
    ids = {k for place in places for k in place}
    return bool(ids & {"traceId", "trace_id"}) and bool(ids & {"spanId", "span_id"})


@SOURCES.register("otel", order=10)
class OTel(SourceFormat):
    """OpenTelemetry spans of agents (GenAI conventions, OpenInference): a run a trace id."""

    suffixes = (*LINES, *DOCUMENTS)
    read = staticmethod(read_otel)

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        data = head.data
        page = head.record.get("data")
        if isinstance(page, dict) and isinstance(page.get("spans"), list):
            return True
        data = page if isinstance(page, list) else data
        first = data[0] if isinstance(data, list) and data else data
        if isinstance(first, dict) and _is_span(first):
            return True
        keys = ("resourceSpans", "resource_spans")
        return any(k in head.record for k in keys) or head.shows(_RESOURCE_SPANS)
