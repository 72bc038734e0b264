"""OpenTelemetry spans: both conventions, any order, missing parents, and hostile exports."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tracelab.core.episode import Episode
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources import read


def value(v: Any) -> dict[str, Any]:
    if isinstance(v, bool):
        return {"boolValue": v}
    if isinstance(v, int):
        return {"intValue": str(v)}
    if isinstance(v, float):
        return {"doubleValue": v}
    if isinstance(v, list):
        return {"arrayValue": {"values": [value(x) for x in v]}}
    if isinstance(v, dict):
        return {"kvlistValue": {"values": keyed(v)}}
    return {"stringValue": v}


def keyed(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": k, "value": value(v)} for k, v in attributes.items()]


def span(
    span_id: str, start: int, parent: str | None = None, *, name: str = "s", trace: str = "t1",
    failed: str | None = None, events: dict[str, dict[str, Any]] | None = None, lasts: int = 5,
    **attributes: Any,
) -> dict[str, Any]:  # fmt: skip
    made = {
        "traceId": trace, "spanId": span_id, "name": name,
        "startTimeUnixNano": str(1_700_000_000_000_000_000 + start),
        "endTimeUnixNano": str(1_700_000_000_000_000_000 + start + lasts),
        "attributes": keyed({k.replace("__", "."): v for k, v in attributes.items()}),
        "events": [{"name": n, "attributes": keyed(a)} for n, a in (events or {}).items()],
    }  # fmt: skip
    if parent is not None:
        made["parentSpanId"] = parent
    if failed is not None:
        made["status"] = {"code": 2, "message": failed}
    return made


def export(*spans: dict[str, Any]) -> dict[str, Any]:
    resource = {"attributes": keyed({"service.name": "shop", "service.version": "1.2"})}
    return {"resourceSpans": [{"resource": resource,
                               "scopeSpans": [{"scope": {}, "spans": list(spans)}]}]}  # fmt: skip


def episodes(path: Path, *documents: Any) -> list[Episode]:
    path.write_text("\n".join(json.dumps(d) for d in documents))
    found = [t if isinstance(t, Reject) else t.episode for t in read(path)]
    assert not [r for r in found if isinstance(r, Reject)], found
    return [e for e in found if isinstance(e, Episode)]


def genai() -> list[dict[str, Any]]:
    text = lambda role, t: {"role": role, "parts": [{"type": "text", "content": t}]}  # noqa: E731
    call = {"role": "assistant", "parts": [
        {"type": "tool_call", "id": "c1", "name": "get", "arguments": {"id": 7}}]}  # fmt: skip
    answer = {"role": "tool", "parts": [
        {"type": "tool_call_response", "id": "c1", "response": "404"}]}  # fmt: skip
    ask = [text("user", "What is 7?")]
    rules = [{"type": "text", "content": "Use tools."}]
    common = {"gen_ai__operation__name": "chat", "gen_ai__request__model": "m",
              "gen_ai__system_instructions": json.dumps(rules)}  # fmt: skip
    return [
        span("a", 0, name="invoke_agent", gen_ai__operation__name="invoke_agent",
             gen_ai__agent__name="shopper"),
        span("b", 10, "a", **common, gen_ai__input__messages=json.dumps(ask),
             gen_ai__output__messages=json.dumps([call]), gen_ai__usage__input_tokens=9,
             gen_ai__usage__output_tokens=3,
             gen_ai__tool__definitions=json.dumps([{"name": "get"}])),
        span("c", 20, "a", gen_ai__operation__name="execute_tool", gen_ai__tool__name="get",
             gen_ai__tool__call__id="c1", gen_ai__tool__call__arguments='{"id": 7}',
             gen_ai__tool__call__result="404"),
        span("d", 30, "a", **common,
             gen_ai__input__messages=[*ask, call, answer],  # structured, not JSON text
             gen_ai__output__messages=json.dumps([text("assistant", "It is lost.")])),
        span("e", 40, "a", events={"gen_ai.evaluation.result": {
            "gen_ai.evaluation.score.label": "fail", "gen_ai.evaluation.score.value": 0.25}}),
    ]  # fmt: skip


def openinference() -> list[dict[str, Any]]:
    question = {
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "Use tools.",
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.content": "What is 7?",
    }
    called = "message.tool_calls.0.tool_call."
    call = {"id": "c1", "function.name": "get", "function.arguments": '{"id": 7}'}
    out = {f"llm.output_messages.0.{called}{k}": v for k, v in call.items()}
    back = {
        "llm.input_messages.2.message.role": "assistant",
        **{f"llm.input_messages.2.{called}{k}": v for k, v in call.items()},
        "llm.input_messages.3.message.role": "tool",
        "llm.input_messages.3.message.tool_call_id": "c1",
        "llm.input_messages.3.message.content": "404",
    }
    end = {"llm.output_messages.0.message.role": "assistant",
           "llm.output_messages.0.message.content": "It is lost."}  # fmt: skip
    llm = {"openinference__span__kind": "LLM", "llm__model_name": "m"}
    return [
        span("a", 0, name="shopper", openinference__span__kind="AGENT"),
        span("b", 10, "a", **llm, **question, **out, **{
            "llm.token_count.prompt": 9, "llm.token_count.completion": 3,
            "llm.tools.0.tool.json_schema": '{"name": "get"}'}),
        span("c", 20, "a", openinference__span__kind="TOOL", tool__name="get",
             tool__parameters='{"id": 7}', output__value="404"),
        span("d", 30, "a", **llm, **question, **back, **end),
    ]  # fmt: skip


@pytest.mark.parametrize("convention", [genai, openinference])
@pytest.mark.parametrize("by_line", [True, False])
def test_both_conventions_say_the_same(tmp_path: Path, convention: Any, by_line: bool) -> None:
    spans = convention()
    random.Random(3).shuffle(spans)
    documents = [export(s) for s in spans] if by_line else [export(*spans)]
    (e,) = episodes(tmp_path / ("x.jsonl" if by_line else "x.json"), *documents)
    assert [(s.kind, s.agent, s.text()) for s in e.steps] == [
        ("system", "system", "Use tools."),
        ("user", "user", "What is 7?"),
        ("llm", "shopper", '[call get {"id": 7}]'),
        ("tool", "shopper", "404"),
        ("llm", "shopper", "It is lost."),
    ]
    asked, result = e.steps[2], e.steps[3]
    assert (result.tool, result.parent, result.flags) == ("get", 2, ())
    assert result.arguments is not None and result.arguments.parsed == {"id": 7}
    assert (asked.prompt_tokens, asked.output_tokens) == (9, 3)
    given = e.model_input(4)
    assert given is not None
    assert [m["role"] for m in given] == ["system", "user", "assistant", "tool"]
    assert given[-1]["content"] == "404" and given[:2] == e.model_input(2)
    assert e.messages[asked.tools or ""] == [{"name": "get"}]
    assert (e.name, e.model, e.version, e.task) == ("t1", "m", "1.2", "What is 7?")
    if convention is genai:
        assert (e.success, e.reward) == (False, 0.25)
    assert Trace.of_episode(e).episode == e


def test_spans_that_overlap_come_as_they_began(tmp_path: Path) -> None:
    """Parallel tools that end in another order, inside agents that end after all they started."""
    chat = {"gen_ai__operation__name": "chat"}
    tool = {"gen_ai__operation__name": "execute_tool"}

    def said(text: str, *calls: tuple[str, str]) -> str:
        asked = [{"type": "tool_call", "id": c, "name": n, "arguments": {}} for c, n in calls]
        return json.dumps(
            [{"role": "assistant", "parts": [{"type": "text", "content": text}, *asked]}]
        )

    spans = [
        span("a", 0, lasts=100, gen_ai__operation__name="invoke_agent",
             gen_ai__agent__name="boss"),
        span("b", 1, "a", lasts=60, **chat,  # streams while its first call is executed
             gen_ai__output__messages=said("two at once", ("c1", "slow"), ("c2", "quick"))),
        span("c", 10, "a", lasts=40, **tool, gen_ai__tool__name="slow",
             gen_ai__tool__call__id="c1", gen_ai__tool__call__result="S"),
        span("d", 11, "a", lasts=2, **tool, gen_ai__tool__name="quick",
             gen_ai__tool__call__id="c2", gen_ai__tool__call__result="Q"),
        span("e", 70, "a", lasts=25, gen_ai__operation__name="invoke_agent",
             gen_ai__agent__name="helper"),
        span("f", 71, "e", lasts=20, **chat, gen_ai__output__messages=said("long")),
        span("g", 72, "e", lasts=1, **chat, gen_ai__output__messages=said("short")),
    ]  # fmt: skip
    for seed in range(3):
        random.Random(seed).shuffle(spans)
        (e,) = episodes(tmp_path / f"{seed}.json", export(*spans))
        shown = [(s.kind, s.agent, s.tool or s.content) for s in e.steps]
        assert [(s[0], s[2]) for s in shown] == [
            ("llm", "two at once"), ("tool", "slow"), ("tool", "quick"),
            ("llm", "long"), ("llm", "short"),
        ]  # fmt: skip
        assert [s[1] for s in shown if s[0] == "llm"] == ["boss", "helper", "helper"]
        assert [s.result for s in e.steps if s.kind == "tool"] == ["S", "Q"]


def test_results_that_only_the_next_input_shows(tmp_path: Path) -> None:
    spans = [s for s in genai() if s["spanId"] != "c"]
    (e,) = episodes(tmp_path / "x.json", export(*spans))
    assert [(s.kind, s.result) for s in e.steps[2:]] == [
        ("llm", None), ("tool", "404"), ("llm", None)]  # fmt: skip


def test_flat_spans_of_several_runs(tmp_path: Path) -> None:
    flat = [
        {"name": "llm", "context": {"trace_id": t, "span_id": f"{t}{i}"}, "parent_id": None,
         "start_time": f"2026-01-01T00:00:0{9 - i}+00:00",
         "attributes": {"openinference": {"span": {"kind": "LLM"}}, "llm": {
             "output_messages": [{"message": {"role": "assistant", "content": f"{t} {i}"}}]}}}
        for i in range(3) for t in ("x", "y")
    ]  # fmt: skip
    found = episodes(tmp_path / "x.jsonl", *flat)
    assert [[s.content for s in e.steps] for e in found] == [
        ["x 2", "x 1", "x 0"], ["y 2", "y 1", "y 0"]]  # fmt: skip


def test_older_ways_to_record_messages(tmp_path: Path) -> None:
    spans = [
        span("a", 0, **{"gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "Sum?",
                        "gen_ai.completion.0.role": "assistant",
                        "gen_ai.completion.0.content": "4"}),
        span("b", 9, gen_ai__operation__name="chat", events={
            "gen_ai.user.message": {"content": "Sure?"},
            "gen_ai.choice": {"message": json.dumps({"content": "5"})}}),
    ]  # fmt: skip
    (e,) = episodes(tmp_path / "x.json", export(*spans))
    assert [(s.kind, s.content) for s in e.steps] == [
        ("user", "Sum?"), ("llm", "4"), ("user", "Sure?"), ("llm", "5")]  # fmt: skip


def test_blemishes_are_flags(tmp_path: Path) -> None:
    llm = {"gen_ai__operation__name": "chat"}
    spans = [
        span("a", 0, "gone", **llm),
        span("b", 1, "c", **llm, gen_ai__output__messages='[{"role": "agent", "content": "x"}]'),
        span("b", 2, "c", **llm, gen_ai__output__messages='[{"role": "agent", "content": "y"}]'),
        span("c", 3, "b", gen_ai__operation__name="execute_tool", gen_ai__tool__name="get",
             gen_ai__tool__call__arguments='{"id": '),
        span("d", 4, gen_ai__operation__name="execute_tool", gen_ai__tool__name="put",
             failed="no network"),
        span("d", 4, gen_ai__operation__name="execute_tool", gen_ai__tool__name="put",
             failed="no network"),
    ]  # fmt: skip
    (e,) = episodes(tmp_path / "x.json", export(*spans))
    silent, x, y, get, put = e.steps
    assert silent.flags == ("missing_parent", "no_content") and silent.content == ""
    assert (x.content, y.content) == ("x", "y") and "duplicate_id" in y.flags  # a cycle b → c → b
    assert get.result is None and "missing_result" in get.flags
    assert get.arguments is not None and get.arguments.error is not None
    assert put.result == "no network" and "error" in put.flags
    assert "1 spans were exported more than once." in e.notes


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"resourceSpans": []}, "holds no spans"),
        (export(span("a", 0, name="GET /")), "no span of a model call or a tool"),
        (export({"name": "x"}), "no trace id or no span id"),
        ({"resourceSpans": [7]}, "is not an object"),
        (export(7), "A span is not an object"),  # type: ignore[arg-type]
    ],
)
def test_refused(tmp_path: Path, document: Any, reason: str) -> None:
    (tmp_path / "x.json").write_text(json.dumps(document))
    (reject,) = read(tmp_path / "x.json", "otel")
    assert isinstance(reject, Reject) and reason in reject.reason


def test_a_bad_line_costs_only_itself(tmp_path: Path) -> None:
    lines = [json.dumps(export(s)) for s in genai()]
    lines.insert(2, '{"resourceSpans": [')
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    reject, trace = read(tmp_path / "x.jsonl")
    assert isinstance(reject, Reject) and reject.line == 3
    assert not isinstance(trace, Reject)
    episode = trace.episode
    assert episode is not None and len(episode.steps) == 5
