"""What an ingest read and what it left out: said, kept, and the same when it is asked again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tracelab
from tests.helpers import invoke, rows

CHAT = [
    {"role": "user", "content": "What is 7?"},
    {"role": "assistant", "content": [
        {"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "c", "name": "get", "input": {"id": 7}}]},
    {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "c", "content": "404", "is_error": True}]},
    {"role": "assistant", "content": "It is lost."},
]  # fmt: skip


def session(path: Path) -> Path:
    lines = [{"type": "summary", "summary": "s", "leafUuid": "u"}]
    lines += [
        {"uuid": f"u{i}", "parentUuid": None, "sessionId": "s", "type": m["role"], "message": m}  # type: ignore[misc]
        for i, m in enumerate(CHAT)
    ]
    lines += [{"type": "file-history-snapshot"}] * 2  # type: ignore[list-item]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


WANTED = {
    ("read", "traces"): 1, ("read", "messages of models"): 2, ("read", "messages of users"): 1,
    ("read", "calls"): 1, ("read", "results"): 1, ("read", "errors of tools"): 1,
    ("left_out", "rows of type summary"): 1, ("left_out", "rows of type file-history-snapshot"): 2,
    ("left_out", "reasoning that the provider encrypted"): 1,
}  # fmt: skip


def test_it_is_said_and_kept(tmp_path: Path, home: Path) -> None:
    path = session(tmp_path / "s.jsonl")
    for _ in range(2):
        result = invoke("ingest", path)
        assert result.exit_code == 0, result.output
        assert "read: traces 1, messages of models 2" in result.stderr
        assert "left out: rows of type file-history-snapshot 2" in result.stderr
        found = {(r["what"], r["kind"]): r["n"] for r in rows("from readings")}
        assert found == WANTED
    path.write_text("".join(path.read_text().splitlines(True)[:-1]))
    assert invoke("ingest", path).exit_code == 0
    found = {(r["what"], r["kind"]): r["n"] for r in rows("from readings")}
    assert found[("left_out", "rows of type file-history-snapshot")] == 1
    assert invoke("check").exit_code == 0


def test_one_trace_is_shown_as_it_is_read(tmp_path: Path, home: Path) -> None:
    path = session(tmp_path / "s.jsonl")
    result = invoke("ingest", "--explain", path)
    assert result.exit_code == 0, result.output
    places = [line.split()[3:5] for line in result.stdout.splitlines() if " line " in line]
    assert ["line", "4"] in places, "a result stands on its own line"
    assert '-> get({"id": 7})' in result.stdout and "[error]" in result.stdout
    assert not (home / "tracelab.duckdb").exists(), "nothing is stored"
    result = invoke("ingest", "--explain", "--trace", "2", path)
    assert result.exit_code == 2 and "none has the number 2" in result.stderr


def test_rejects_that_say_the_same_are_rows_of_their_own(tmp_path: Path, home: Path) -> None:
    spans = [{"traceId": "t", "spanId": "s", "name": "chat", "attributes": {
        "gen_ai.operation.name": "chat", "gen_ai.output.messages": "[]"}}]  # fmt: skip
    spans += [{"traceId": "t", "name": "no id"}] * 4  # type: ignore[list-item]
    (tmp_path / "s.json").write_text(json.dumps(spans))
    assert invoke("ingest", tmp_path / "s.json").exit_code == 3
    assert len({r["reason"] for r in rows("from rejects")}) == 4


def test_from_python(tmp_path: Path, home: Path) -> None:
    trace = {"prompt": "q", "response": "a"}
    records = [trace, {"messages": CHAT, "success": False}, {"question": "q?", "solution": "a."}]
    done = tracelab.ingest(records, name="mem", quiet=True)
    assert (done.run_id, done.traces, done.rejects) == ("mem", 3, ())
    assert (done.read["calls"], done.read["results"]) == (1, 1)
    assert done.left_out == {"reasoning that the provider encrypted": 1}
    assert len(rows("from traces where run_id = 'mem'")) == 3
    (tmp_path / "logs").mkdir()
    path = session(tmp_path / "logs" / "s.jsonl")
    for data in (path, str(path), [path], path.parent, trace, json.dumps(trace)):
        assert tracelab.ingest(data, name="again", quiet=True).traces == 1
    done = tracelab.ingest([trace, {"a": 1}], name="bad", quiet=True)
    assert len(done.rejects) == 1
    with pytest.raises(tracelab.TracelabError, match="no record can be used"):
        tracelab.ingest([{"a": 1}], name="bad", quiet=True)


def test_a_later_outcome_reaches_what_is_there(tmp_path: Path, home: Path) -> None:
    run = {"id": "r", "messages": CHAT}
    (tmp_path / "a.json").write_text(json.dumps(run))
    (tmp_path / "b.json").write_text(json.dumps({**run, "success": False}))
    assert invoke("ingest", tmp_path / "a.json").exit_code == 0
    assert [r["success"] for r in rows("from traces")] == [None]
    for path in (tmp_path / "b.json", tmp_path / "a.json"):
        assert invoke("ingest", path).exit_code == 0
        assert [r["success"] for r in rows("from traces")] == [False]
    result = invoke("ingest", tmp_path, "--name", "both")
    assert result.exit_code == 0, result.output
    (both,) = rows("from traces where run_id = 'both'")
    assert both["success"] is False and "took their outcome" in result.stderr
