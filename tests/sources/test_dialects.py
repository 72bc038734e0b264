"""One conversation, written as every provider would: nothing of it is lost."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracelab.core.episode import Episode
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources import read
from tracelab.sources.account import Account


@dataclass(frozen=True)
class Call:
    name: str
    arguments: dict[str, Any]
    result: str
    failed: bool = False


@dataclass(frozen=True)
class Turn:
    """What a user says, and what the model does about it: rounds of calls, then words."""

    asked: str
    thought: str
    rounds: tuple[tuple[Call, ...], ...]
    said: str


@dataclass(frozen=True)
class Talk:
    system: str
    turns: tuple[Turn, ...] = field(default_factory=tuple)


def steps_of(talk: Talk, errors: bool = True) -> list[tuple[Any, ...]]:
    """What must arrive: (kind, text) and calls, reasoning, errors."""
    out: list[tuple[Any, ...]] = [("system", talk.system)] if talk.system else []
    for turn in talk.turns:
        out.append(("user", turn.asked))
        for k, calls in enumerate((*turn.rounds, ())):
            last = k == len(turn.rounds)
            out.append(("llm", turn.said if last else "", turn.thought if k == 0 else "",
                        tuple((c.name, json.dumps(c.arguments)) for c in calls)))  # fmt: skip
            out += [("tool", c.name, c.result, c.failed and errors) for c in calls]
    return out


def found(episode: Episode) -> list[tuple[Any, ...]]:
    out: list[tuple[Any, ...]] = []
    for s in episode.steps:
        if s.kind == "llm":
            calls = tuple((c.name, json.dumps(c.arguments.parsed)) for c in s.calls)
            out.append(("llm", s.content, s.reasoning, calls))
        elif s.kind == "tool":
            out.append(("tool", s.tool, s.result, "error" in s.flags))
        else:
            out.append((s.kind, s.content))
    return out


def rounds(turn: Turn) -> list[tuple[int, tuple[Call, ...], bool]]:
    return [(k, calls, k == len(turn.rounds)) for k, calls in enumerate((*turn.rounds, ()))]


def openai(talk: Talk) -> list[dict[str, Any]]:
    out = [{"role": "system", "content": talk.system}] if talk.system else []
    for t, turn in enumerate(talk.turns):
        out.append({"role": "user", "content": turn.asked})
        for k, calls, last in rounds(turn):
            message: dict[str, Any] = {"role": "assistant", "content": turn.said if last else None}
            if k == 0 and turn.thought:
                message["reasoning_content"] = turn.thought
            if calls:
                message["tool_calls"] = [
                    {"id": f"c{t}.{k}.{i}", "type": "function",
                     "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
                    for i, c in enumerate(calls)
                ]  # fmt: skip
            out.append(message)
            out += [{"role": "tool", "tool_call_id": f"c{t}.{k}.{i}", "content": c.result}
                    for i, c in enumerate(calls)]  # fmt: skip
    return out


def anthropic(talk: Talk) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for t, turn in enumerate(talk.turns):
        out.append({"role": "user", "content": [{"type": "text", "text": turn.asked}]})
        for k, calls, last in rounds(turn):
            blocks: list[dict[str, Any]] = []
            if k == 0 and turn.thought:
                blocks.append({"type": "thinking", "thinking": turn.thought, "signature": "s"})
            if last:
                blocks.append({"type": "text", "text": turn.said})
            blocks += [{"type": "tool_use", "id": f"t{t}.{k}.{i}", "name": c.name,
                        "input": c.arguments} for i, c in enumerate(calls)]  # fmt: skip
            out.append({"role": "assistant", "content": blocks})
            if calls:
                out.append({"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": f"t{t}.{k}.{i}",
                     "content": [{"type": "text", "text": c.result}], "is_error": c.failed}
                    for i, c in enumerate(calls)
                ]})  # fmt: skip
    return out


def gemini(talk: Talk) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for turn in talk.turns:
        out.append({"role": "user", "parts": [{"text": turn.asked}]})
        for k, calls, last in rounds(turn):
            parts: list[dict[str, Any]] = []
            if k == 0 and turn.thought:
                parts.append({"text": turn.thought, "thought": True})
            if last:
                parts.append({"text": turn.said})
            parts += [{"functionCall": {"name": c.name, "args": c.arguments}} for c in calls]
            out.append({"role": "model", "parts": parts})
            if calls:
                out.append({"role": "user", "parts": [
                    {"functionResponse": {"name": c.name, "response": {"result": c.result}}}
                    for c in calls
                ]})  # fmt: skip
    return out


def responses(talk: Talk) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    if talk.system:
        out.append({"role": "developer", "content": talk.system})
    for t, turn in enumerate(talk.turns):
        out.append({"type": "message", "role": "user",
                    "content": [{"type": "input_text", "text": turn.asked}]})  # fmt: skip
        for k, calls, last in rounds(turn):
            if k == 0 and turn.thought:
                out.append({"type": "reasoning", "summary": [
                    {"type": "summary_text", "text": turn.thought}]})  # fmt: skip
            if last:
                out.append({"type": "message", "role": "assistant",
                            "content": [{"type": "output_text", "text": turn.said}]})  # fmt: skip
            out += [{"type": "function_call", "call_id": f"f{t}.{k}.{i}", "name": c.name,
                     "arguments": json.dumps(c.arguments)}
                    for i, c in enumerate(calls)]  # fmt: skip
            out += [{"type": "function_call_output", "call_id": f"f{t}.{k}.{i}",
                     "output": c.result} for i, c in enumerate(calls)]  # fmt: skip
    return out


def claude_code(talk: Talk) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    parent = None
    for n, message in enumerate(anthropic(talk)):
        blocks = message["content"]
        # One row a block for what the model writes, as the program stores it.
        parts = [[b] for b in blocks] if message["role"] == "assistant" else [blocks]
        for content in parts or [[]]:
            row = {"uuid": f"u{len(rows)}", "parentUuid": parent, "sessionId": "s",
                   "type": message["role"], "isSidechain": False,
                   "message": {**message, "id": f"m{n}", "content": content}}  # fmt: skip
            parent = row["uuid"]
            rows.append(row)
    return rows


def codex(talk: Talk) -> list[dict[str, Any]]:
    meta = {"type": "session_meta", "payload": {"id": "s", "cwd": "/w"}}
    items = [{"timestamp": "t", "type": "response_item", "payload": i} for i in responses(talk)]
    return [meta, *items, {"type": "event_msg", "payload": {"type": "token_count"}}]


def spans(talk: Talk) -> list[dict[str, Any]]:
    """GenAI spans: a chat span an answer with its whole input, a tool span a call."""
    history: list[dict[str, Any]] = []
    if talk.system:
        history.append({"role": "system", "parts": [{"type": "text", "content": talk.system}]})
    out: list[dict[str, Any]] = []

    def span(name: str, attributes: dict[str, Any], error: bool = False) -> None:
        n = len(out)
        out.append({"traceId": "t", "spanId": f"s{n}", "name": name, "startTimeUnixNano": n + 1,
                    "endTimeUnixNano": n + 2, "attributes": attributes,
                    "status": {"code": 2 if error else 1}})  # fmt: skip

    for t, turn in enumerate(talk.turns):
        history.append({"role": "user", "parts": [{"type": "text", "content": turn.asked}]})
        for k, calls, last in rounds(turn):
            parts: list[dict[str, Any]] = []
            if k == 0 and turn.thought:
                parts.append({"type": "reasoning", "content": turn.thought})
            if last:
                parts.append({"type": "text", "content": turn.said})
            parts += [{"type": "tool_call", "id": f"c{t}.{k}.{i}", "name": c.name,
                       "arguments": c.arguments} for i, c in enumerate(calls)]  # fmt: skip
            said = {"role": "assistant", "parts": parts}
            span("chat m", {"gen_ai.operation.name": "chat",
                            "gen_ai.input.messages": json.dumps(history),
                            "gen_ai.output.messages": json.dumps([said])})  # fmt: skip
            history.append(said)
            for i, c in enumerate(calls):
                span(f"execute_tool {c.name}", {
                    "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": c.name,
                    "gen_ai.tool.call.id": f"c{t}.{k}.{i}",
                    "gen_ai.tool.call.arguments": json.dumps(c.arguments),
                    "gen_ai.tool.call.result": c.result,
                }, c.failed)  # fmt: skip
                history.append({"role": "tool", "parts": [
                    {"type": "tool_call_response", "id": f"c{t}.{k}.{i}", "response": c.result}
                ]})  # fmt: skip
    return out


def jaeger(talk: Talk) -> dict[str, Any]:
    made = [
        {"traceID": "t", "spanID": s["spanId"], "operationName": s["name"], "processID": "p1",
         "references": [{"refType": "CHILD_OF", "traceID": "t", "spanID": "root"}],
         "startTime": s["startTimeUnixNano"], "duration": 1, "logs": [],
         "tags": [{"key": k, "type": "string", "value": v} for k, v in s["attributes"].items()]
         + ([{"key": "error", "type": "bool", "value": True}] if s["status"]["code"] == 2 else [])}
        for s in spans(talk)
    ]  # fmt: skip
    root = {"traceID": "t", "spanID": "root", "operationName": "run", "references": [],
            "startTime": 0, "duration": 99, "tags": [], "logs": [], "processID": "p1"}  # fmt: skip
    return {"data": [{"traceID": "t", "spans": [*made[::-1], root],
                      "processes": {"p1": {"serviceName": "shop", "tags": []}}}]}  # fmt: skip


def trail(talk: Talk) -> dict[str, Any]:
    made = [
        {"timestamp": f"2025-01-01T00:00:{n // 60:02}.{n % 60:06}Z", "trace_id": "t",
         "span_id": s["spanId"], "parent_span_id": "root", "span_name": s["name"],
         "span_attributes": s["attributes"], "resource_attributes": {}, "duration": "PT0.5S",
         "status_code": "Error" if s["status"]["code"] == 2 else "Unset", "status_message": "",
         "events": [], "child_spans": []}
        for n, s in enumerate(spans(talk))
    ]  # fmt: skip
    root = {"timestamp": "2025-01-01T00:00:00Z", "trace_id": "t", "span_id": "root",
            "parent_span_id": None, "span_name": "main", "span_attributes": {}, "duration": "PT9M",
            "status_code": "Unset", "events": [], "child_spans": made}  # fmt: skip
    return {"trace_id": "t", "spans": [root]}


def openai_agents(talk: Talk) -> list[dict[str, Any]]:
    """Spans as exporters post them; a generation's messages are of the chat completions API."""
    out: list[dict[str, Any]] = [
        {"object": "trace", "id": "trace_1", "workflow_name": "shop", "group_id": None},
        _agent_span("root", None, 0, {"type": "agent", "name": "assistant", "tools": []}),
    ]
    history: list[dict[str, Any]] = []
    results = {m["tool_call_id"]: m["content"] for m in openai(talk) if m["role"] == "tool"}
    failed = {f"c{t}.{k}.{i}": c.failed for t, turn in enumerate(talk.turns)
              for k, calls in enumerate(turn.rounds) for i, c in enumerate(calls)}  # fmt: skip
    for message in openai(talk):
        if message["role"] == "assistant":
            out.append(
                _agent_span(
                    f"g{len(out)}",
                    "root",
                    len(out),
                    {
                        "type": "generation",
                        "input": list(history),
                        "output": [message],
                        "model": "m",
                    },
                )
            )
            for call in message.get("tool_calls", ()):
                out.append(_agent_span(f"f{len(out)}", "root", len(out), {
                    "type": "function", "name": call["function"]["name"],
                    "input": call["function"]["arguments"], "output": results[call["id"]]},
                    failed[call["id"]]))  # fmt: skip
        history.append(message)
    return out


def _agent_span(
    name: str, parent: str | None, n: int, data: dict[str, Any], failed: bool = False
) -> dict[str, Any]:
    return {"object": "trace.span", "id": name, "trace_id": "trace_1", "parent_id": parent,
            "started_at": f"2025-01-01T00:{n // 60:02}:{n % 60:02}+00:00",
            "ended_at": f"2025-01-01T00:{n // 60:02}:{n % 60:02}.5+00:00", "span_data": data,
            "error": {"message": "it failed", "data": None} if failed else None}  # fmt: skip


def autogen(talk: Talk) -> dict[str, Any]:
    out: list[dict[str, Any]] = []

    def add(source: str, kind: str, content: Any) -> None:
        out.append({"source": source, "type": kind, "content": content, "metadata": {},
                    "models_usage": None})  # fmt: skip

    for t, turn in enumerate(talk.turns):
        add("user", "TextMessage", turn.asked)
        for k, calls, last in rounds(turn):
            if k == 0 and turn.thought:
                add("assistant", "ThoughtEvent", turn.thought)
            if last:
                add("assistant", "TextMessage", turn.said)
                continue
            ids = [f"c{t}.{k}.{i}" for i in range(len(calls))]
            add("assistant", "ToolCallRequestEvent", [
                {"id": n, "name": c.name, "arguments": json.dumps(c.arguments)}
                for n, c in zip(ids, calls, strict=True)])  # fmt: skip
            add("assistant", "ToolCallExecutionEvent", [
                {"call_id": n, "name": c.name, "content": c.result, "is_error": c.failed}
                for n, c in zip(ids, calls, strict=True)])  # fmt: skip
    return {"messages": out, "stop_reason": "done"}


def langgraph(talk: Talk) -> list[dict[str, Any]]:
    """The history of a thread, newest first, as the server gives it."""
    kinds = {"system": "system", "user": "human", "assistant": "ai", "tool": "tool"}
    failed = {f"c{t}.{k}.{i}": c.failed for t, turn in enumerate(talk.turns)
              for k, calls in enumerate(turn.rounds) for i, c in enumerate(calls)}  # fmt: skip
    told: list[dict[str, Any]] = []
    for m in openai(talk):
        more: dict[str, Any] = {}
        if m.get("tool_calls"):
            more["tool_calls"] = [
                {"name": c["function"]["name"], "args": json.loads(c["function"]["arguments"]),
                 "id": c["id"], "type": "tool_call"} for c in m["tool_calls"]]  # fmt: skip
        if m["role"] == "tool":
            more["tool_call_id"] = m["tool_call_id"]
            more["status"] = "error" if failed[m["tool_call_id"]] else "success"
        if m.get("reasoning_content"):
            more["additional_kwargs"] = {"reasoning_content": m["reasoning_content"]}
        told.append({"type": kinds[m["role"]], "content": m["content"] or "", **more})
    return [
        {"values": {"messages": told[: len(told) - back]}, "next": [],
         "created_at": f"2025-01-01T00:00:{50 - back:02}+00:00",
         "checkpoint": {"thread_id": "th", "checkpoint_id": str(back)}}
        for back in range(min(len(told), 3))
    ]  # fmt: skip


Writer = Callable[[Talk, Path], Path]


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def document(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value, indent=1))
    return path


DIALECTS: dict[str, Writer] = {
    "openai": lambda t, d: document(d / "a.json", {"messages": openai(t)}),
    "openai array": lambda t, d: document(
        d / "a.json", [{"id": 1, "tools": [{"name": "get"}], "messages": openai(t)}]
    ),
    "anthropic": lambda t, d: document(
        d / "a.json", {"system": t.system, "messages": anthropic(t)}
    ),
    "responses": lambda t, d: document(d / "a.json", {"input": responses(t), "output": [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "."}]}
    ]}),  # fmt: skip
    "claude code": lambda t, d: lines(d / "a.jsonl", claude_code(t)),
    "codex": lambda t, d: lines(d / "a.jsonl", codex(t)),
    "tau": lambda t, d: lines(d / "a.jsonl", [{"task_id": 1, "reward": 0.0, "traj": openai(t)}]),
    "spans": lambda t, d: document(d / "a.json", spans(t)),
    "jaeger": lambda t, d: document(d / "a.json", jaeger(t)),
    "trail": lambda t, d: document(d / "a.json", trail(t)),
    "trail row": lambda t, d: lines(d / "a.jsonl", [
        {"trace": json.dumps(trail(t)), "labels": json.dumps({"errors": []})}]),
    "openai agents": lambda t, d: document(d / "a.json", {"data": openai_agents(t)}),
    "openai agents lines": lambda t, d: lines(d / "a.jsonl", openai_agents(t)),
    "autogen": lambda t, d: document(d / "a.json", autogen(t)),
    "autogen messages": lambda t, d: document(d / "a.json", autogen(t)["messages"]),
    "langgraph": lambda t, d: document(d / "a.json", langgraph(t)),
    "langgraph lines": lambda t, d: lines(d / "a.jsonl", langgraph(t)[::-1]),
    "spans reversed": lambda t, d: document(d / "a.json", spans(t)[::-1]),
}  # fmt: skip
SILENT = ("openai", "openai array", "responses", "codex", "tau")
"""Dialects that have no place to say that a tool failed."""
NO_SYSTEM = ("claude code", "autogen", "autogen messages")

WORDS = st.text("abc é漢{}<>\"'\n", min_size=1, max_size=12).filter(str.strip)
CALLS = st.builds(
    Call, st.sampled_from(["get", "put"]), st.dictionaries(st.sampled_from("xy"), WORDS), WORDS,
    st.booleans(),
)  # fmt: skip
TURNS = st.builds(
    Turn, WORDS, st.just("") | WORDS,
    st.lists(st.lists(CALLS, min_size=1, max_size=2).map(tuple), max_size=2).map(tuple), WORDS,
)  # fmt: skip
TALKS = st.builds(Talk, st.just("") | WORDS, st.lists(TURNS, min_size=1, max_size=3).map(tuple))


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=20)
@given(talk=TALKS)
def test_nothing_is_lost(dialect: str, talk: Talk) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = DIALECTS[dialect](talk, Path(folder))
        [record] = read(path)
    assert isinstance(record, Trace) and not isinstance(record, Reject), record
    assert record.episode is not None
    wanted = steps_of(talk, dialect not in SILENT)
    if dialect in NO_SYSTEM and talk.system:
        wanted = wanted[1:]
    account = Account()
    account.add(record)
    calls = [c for turn in talk.turns for some in turn.rounds for c in some]
    read_of = account.total("read")
    assert (read_of["calls"], read_of["results"]) == (len(calls), len(calls))
    assert read_of["messages of users"] == len(talk.turns)
    assert not {"calls without a result", "results without a call"} & set(read_of)
    assert all(s.place for s in record.episode.steps), "each step says where it comes from"
    arrived = found(record.episode)
    if dialect == "responses":  # the exchange's own answer comes last
        wanted = [*wanted, ("llm", ".", "", ())]
    assert arrived == wanted


def test_lines_need_no_name(tmp_path: Path) -> None:
    """How a file stands decides, not what it is called."""
    talk = Talk("", (Turn("q", "", ((Call("get", {}, "a"),),), "d"),))
    records = [{"id": i, "messages": openai(talk)} for i in range(2)]
    for name in ("log", "log.json", "log.jsonl"):
        found_in = list(read(lines(tmp_path / name, records), "openai-chat"))
        assert [t.name for t in found_in if isinstance(t, Trace)] == ["0", "1"]
        (tmp_path / name).unlink()


def test_gemini_pairs_by_name(tmp_path: Path) -> None:
    """Calls without ids: results belong to the oldest open call of their tool."""
    talk = Talk(
        "", (Turn("q", "hm", ((Call("get", {"x": "1"}, "a"), Call("put", {}, "b")),), "d"),)
    )
    [record] = read(document(tmp_path / "a.json", {"messages": gemini(talk)}))
    assert isinstance(record, Trace) and record.episode is not None
    assert found(record.episode) == steps_of(talk, errors=False)
