"""Files that mix kinds of records: each is read as what it is, whichever comes first."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources import read

ASKED = {"role": "user", "content": "Q"}
USE = {"type": "tool_use", "id": "c", "name": "get", "input": {}}
RECORDS: dict[str, tuple[dict[str, Any], str | None]] = {
    "trace": ({"prompt": "p", "response": "r"}, None),
    "chat": ({"messages": [ASKED, {"role": "assistant", "content": "hello"}]}, None),
    "tools": ({"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": [
        {"id": "c", "function": {"name": "get", "arguments": "{}"}}]}]}, "openai-chat"),
    "blocks": ({"messages": [ASKED, {"role": "assistant", "content": [USE]}]}, "openai-chat"),
    "row": ({"question": "q?", "solution": "s"}, None),
    "context": ({"context": "c", "query": "q", "response": "r"}, None),
    "exchange": ({"messages": [ASKED], "response": {"choices": [
        {"message": {"role": "assistant", "content": "a"}}]}}, "openai-responses"),
    "tau": ({"task_id": 1, "reward": 1.0, "traj": [ASKED]}, "tau-bench"),
    "labelled": ({"problem": "p", "steps": ["a", "b"], "label": -1}, None),
}  # fmt: skip


@pytest.mark.parametrize("first", RECORDS)
@pytest.mark.parametrize("array", [False, True])
def test_each_record_is_what_it_is(tmp_path: Path, first: str, array: bool) -> None:
    names = [first, *(n for n in RECORDS if n != first)]
    rows = [RECORDS[n][0] for n in names]
    path = tmp_path / ("a.json" if array else "a.jsonl")
    text = json.dumps(rows, indent=1) if array else "".join(json.dumps(r) + "\n" for r in rows)
    path.write_text(text)
    found = list(read(path))
    assert not [r for r in found if isinstance(r, Reject)], found
    kinds = [t.episode.format if t.episode else None for t in found if isinstance(t, Trace)]
    assert kinds == [RECORDS[n][1] for n in names]
    assert [t.line for t in found if isinstance(t, Trace)] == list(range(1, len(rows) + 1))
    [context] = [t for t in found if isinstance(t, Trace) and "documents" in t.extra]
    assert context.extra["query"] == "q"


def test_a_format_that_was_said_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    both = [RECORDS["chat"][0], RECORDS["tools"][0]]
    path.write_text("".join(json.dumps(r) + "\n" for r in both))
    found = [t for t in read(path, "openai-chat") if isinstance(t, Trace)]
    assert [t.episode is not None for t in found] == [True, True]


def test_a_bad_record_costs_only_itself(tmp_path: Path) -> None:
    for a, b in itertools.permutations(("tools", "exchange", "row"), 2):
        path = tmp_path / f"{a}-{b}.json"
        path.write_text(json.dumps([RECORDS[a][0], {"a": 1}, RECORDS[b][0], 3]))
        kinds = ["reject" if isinstance(r, Reject) else "trace" for r in read(path)]
        assert kinds == ["trace", "reject", "trace", "reject"]


def test_a_log_of_agents_in_text_is_cut_at_its_speakers(tmp_path: Path) -> None:
    log = "start\n[2025-31-03 19:11:09 INFO] Programmer: I write.\nx: y\n"
    log += "[2025-31-03 19:12:09 INFO] Reviewer: It is wrong.\n"
    for said, wanted in ((log, ["log", "Programmer", "Reviewer"]), ("no speaker", ["log"])):
        row = {"mas_name": "ChatDev", "trace_id": 3, "trace": {"trajectory": said},
               "mast_annotation": {"1.1": 1}}  # fmt: skip
        (tmp_path / "mad.json").write_text(json.dumps([row]))
        [trace] = read(tmp_path / "mad.json")
        assert isinstance(trace, Trace) and trace.episode is not None
        assert [s.agent for s in trace.episode.steps] == wanted
        assert trace.episode.meta["mast_annotation"] == {"1.1": 1} and trace.success is None


def test_streamed_updates_are_steps_of_their_nodes(tmp_path: Path) -> None:
    updates = [
        {"agent": {"messages": [{"type": "ai", "content": "", "tool_calls": [
            {"name": "get", "args": {}, "id": "c"}]}]}},
        {"tools": {"messages": [{"type": "tool", "content": "404", "tool_call_id": "c"}]}},
        {"writer": {"messages": [{"type": "ai", "content": "Lost."}]}},
    ]  # fmt: skip
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(u) + "\n" for u in updates))
    [trace] = read(tmp_path / "s.jsonl")
    assert isinstance(trace, Trace) and trace.episode is not None
    assert [(s.kind, s.agent) for s in trace.episode.steps] == [
        ("llm", "agent"), ("tool", "agent"), ("llm", "writer")]  # fmt: skip


def test_a_chat_of_the_older_autogen(tmp_path: Path) -> None:
    chat = [{"role": "user", "name": "boss", "content": "Go."},
            {"role": "assistant", "name": "coder", "content": "Done."}]  # fmt: skip
    for value in (chat, {"chat_history": chat, "summary": "Done.", "cost": {}}):
        (tmp_path / "a.json").write_text(json.dumps(value))
        [trace] = read(tmp_path / "a.json")
        assert isinstance(trace, Trace) and trace.episode is not None
        assert [(s.kind, s.agent) for s in trace.episode.steps] == [
            ("user", "boss"), ("llm", "coder")]  # fmt: skip
