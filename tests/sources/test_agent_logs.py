"""OpenAI chat, ATIF and Who&When logs: what they say arrives, whatever they are like."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tracelab.core.episode import Episode
from tracelab.core.errors import ImportFormatError
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources import read

CALL = {"id": "c1", "type": "function", "function": {"name": "get", "arguments": '{"id": 7}'}}
CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Use tools."},
    {"role": "user", "content": "What is 7?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "404"},
    {"role": "assistant", "content": "It is lost."},
]


def chat(**fields: Any) -> dict[str, Any]:
    return {"id": "run-1", "messages": CHAT, "success": False, **fields}


def write(path: Path, *records: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def episodes(path: Path, form: str = "auto") -> list[Episode]:
    found = [r if isinstance(r, Reject) else r.episode for r in read(path, form)]
    assert all(isinstance(e, Episode) for e in found), found
    return [e for e in found if isinstance(e, Episode)]


def one(path: Path, form: str = "auto") -> Episode:
    (episode,) = episodes(path, form)
    return episode


def test_a_chat(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "get"}}]
    e = one(write(tmp_path / "a.jsonl", chat(tools=tools, model="m", version=3, seen="x")))
    assert [(s.kind, s.agent) for s in e.steps] == [
        ("system", "system"), ("user", "user"), ("llm", "assistant"), ("tool", "assistant"),
        ("llm", "assistant"),
    ]  # fmt: skip
    call, result = e.steps[2].calls[0], e.steps[3]
    assert (call.name, call.arguments.parsed, call.id) == ("get", {"id": 7}, "c1")
    assert (result.tool, result.result, result.parent) == ("get", "404", 2)
    assert result.arguments == call.arguments
    assert (e.name, e.task, e.model, e.version, e.success) == (
        "run-1", "What is 7?", "m", "3", False)  # fmt: skip
    assert e.meta == {"seen": "x"}
    assert e.model_input(2) == CHAT[:2] and e.model_input(4) == CHAT[:4]
    assert e.messages[e.steps[4].tools or ""] == tools
    assert Trace.of_episode(e).episode == e


def test_what_is_wrong_with_a_chat_is_said_and_kept(tmp_path: Path) -> None:
    broken = {"id": "c1", "function": {"name": "get", "arguments": '{"id": '}}
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "tool_calls": [CALL, broken]},  # one id twice, one not JSON
        {"role": "tool", "tool_call_id": "c1", "content": "first"},
        {"role": "tool", "tool_call_id": "nobody", "content": "\u0000\ufffdPNG"},
        {"role": "assistant", "content": [{"type": "text", "text": "see "},
                                          {"type": "image_url", "image_url": {}}]},
    ]  # fmt: skip
    e = one(write(tmp_path / "a.jsonl", chat(messages=messages)))
    asked, first, orphan, missing, last = e.steps[1:]
    assert asked.flags == ("invalid_arguments", "duplicate_id")
    assert (first.result, first.flags) == ("first", ())
    assert orphan.flags == ("binary", "orphan_result") and orphan.result == "\x00\ufffdPNG"
    assert missing.result is None and missing.flags == ("missing_result", "invalid_arguments")
    assert missing.arguments is not None and missing.arguments.raw == '{"id": '
    assert (last.content, last.flags) == ("see [image_url]", ("non_text",))


def test_bytes_that_are_no_text_do_not_cost_the_run(tmp_path: Path) -> None:
    line = json.dumps(chat()).encode().replace(b"404", b"\xff\xfe\\ud800\\u0000")
    (tmp_path / "a.jsonl").write_bytes(line + b"\n")
    e = one(tmp_path / "a.jsonl")
    assert e.steps[3].flags == ("binary",)
    assert e.steps[3].result == "\ufffd\ufffd\ufffd\x00"
    json.dumps(e.to_json()).encode()


def test_a_thousand_steps(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "go"}]
    for i in range(500):
        call = {"id": f"c{i}", "function": {"name": "get", "arguments": "{}"}}
        messages.append({"role": "assistant", "tool_calls": [call]})  # type: ignore[dict-item]
        messages.append({"role": "tool", "tool_call_id": f"c{i}", "content": str(i)})
    e = one(write(tmp_path / "a.jsonl", chat(messages=messages)))
    assert len(e.steps) == 1001
    assert e.model_input(999) == messages[:999]
    assert len(e.inputs) == 1001  # a chain, not a copy a step


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"messages": []}', "the run has no steps"),
        (b'{"messages": 7}', "`messages` is missing"),
        (b'{"messages": [{"content": "x"}]}', "`messages[0]` is not a message"),
        (b'{"messages": ["hi"]}', "`messages[0]` is not a message"),
        (b'{"messages": [', "Not valid JSON"),
        (b"[]", "not a JSON object"),
        (b"[" * 5000 + b"]" * 5000, "Nested more than"),
        (b'{"n": ' + b"9" * 5000 + b"}", "`messages` is missing"),  # the number becomes null
        (json.dumps(chat()).encode(), "Duplicate of line 1"),
    ],
)
def test_a_bad_record_costs_only_itself(tmp_path: Path, bad: bytes, reason: str) -> None:
    good = [json.dumps(chat(id=i)).encode() for i in ("run-1", "run-2")]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([good[0], bad, good[1]]) + b"\n")
    first, reject, last = read(tmp_path / "a.jsonl", "openai-chat")
    assert isinstance(reject, Reject) and reason in reject.reason and reject.line == 2
    assert not isinstance(first, Reject) and not isinstance(last, Reject)


def test_one_id_for_two_runs_is_two_runs(tmp_path: Path) -> None:
    other = [*CHAT[:-1], {"role": "assistant", "content": "It is 8."}]
    found = episodes(write(tmp_path / "a.jsonl", chat(), chat(messages=other)))
    assert [e.steps[-1].content for e in found] == ["It is lost.", "It is 8."]


ATIF: dict[str, Any] = {
    "schema_version": "ATIF-v1.7",
    "session_id": "s1",
    "agent": {"name": "solver", "version": "2", "model_name": "m",
              "tool_definitions": [{"type": "function"}]},
    "steps": [
        {"step_id": 1, "source": "user", "message": "Find 7."},
        {"step_id": 2, "source": "agent", "message": "Looking.",
         "tool_calls": [{"tool_call_id": "c1", "function_name": "get", "arguments": {"id": 7}},
                        {"tool_call_id": "c2", "function_name": "put", "arguments": {}}],
         "observation": {"results": [
             {"source_call_id": "c1", "content": "404",
              "subagent_trajectory_ref": [{"trajectory_id": "sub"}]}]},
         "metrics": {"prompt_tokens": 5, "completion_tokens": 2, "prompt_token_ids": [3, 1, 4]}},
        {"step_id": 3, "source": "agent", "message": "Lost.", "is_copied_context": True},
    ],
    "subagent_trajectories": [
        {"schema_version": "ATIF-v1.7", "trajectory_id": "sub", "agent": {"name": "helper"},
         "steps": [{"step_id": 1, "source": "agent", "message": "I help.", "tool_calls": [
             {"tool_call_id": "c1", "function_name": "ask", "arguments": {}}]}]}],
    "extra": {"success": False, "task_id": "t9"},
}  # fmt: skip


def test_atif(tmp_path: Path) -> None:
    e = one(write(tmp_path / "run.json", ATIF))
    assert [(s.kind, s.agent, s.tool) for s in e.steps] == [
        ("user", "user", None),
        ("llm", "solver", None),
        ("tool", "solver", "get"),
        ("llm", "helper", None),  # the subagent stands where its result is
        ("tool", "helper", "ask"),
        ("tool", "solver", "put"),
        ("llm", "solver", None),
    ]
    assert [s.parent for s in e.steps] == [None, None, 1, 2, 3, 1, None]
    assert [s.flags for s in e.steps[3:]] == [
        (), ("missing_result",), ("missing_result",), ("copied_context",)]  # fmt: skip
    assert (e.name, e.version, e.model, e.success, e.task_id) == ("s1", "2", "m", False, "t9")
    assert e.model_input(1) == [{"prompt_token_ids": [3, 1, 4]}]
    assert (e.steps[1].prompt_tokens, e.steps[1].output_tokens) == (5, 2)
    assert Trace.of_episode(e).episode == e


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": "ATIF-v2.0"}, "`schema_version` is not ATIF-v1.x."),
        ({"steps": {}}, "`steps` is missing or not a list."),
        ({"steps": []}, "the run has no steps"),
        ({"steps": [{"source": "ghost"}]}, "`steps[0]` is not a step"),
    ],
)
def test_bad_atif(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    change = {"subagent_trajectories": [], **change}
    (reject,) = read(write(tmp_path / "run.json", {**ATIF, **change}), "atif")
    assert isinstance(reject, Reject) and reason in reject.reason


def test_atif_with_unordered_ids_says_so(tmp_path: Path) -> None:
    steps = [{**s, "step_id": 5} for s in ATIF["steps"]]
    e = one(write(tmp_path / "run.json", {**ATIF, "steps": steps}))
    assert any("step ids" in n for n in e.notes)


HAND = {
    "history": [
        {"content": "Find it.", "role": "human"},
        {"content": "Plan.", "role": "Orchestrator (thought)"},
        {"content": "Go.", "role": "Orchestrator (-> WebSurfer)"},
        {"content": "Clicked.", "role": "WebSurfer"},
        {"content": "exitcode: 1", "role": "ComputerTerminal"},
    ],
    "question": "Find it.", "ground_truth": "9", "is_corrected": False, "question_ID": "q",
    "mistake_agent": "WebSurfer", "mistake_step": "3", "mistake_reason": "wrong link",
    "mistake_type": "stray", "level": 2,
}  # fmt: skip
GENERATED = {
    "is_correct": False, "question": "Sum?", "question_ID": "g", "level": "2",
    "ground_truth": "4", "mistake_agent": "Adder_Expert", "mistake_step": "0",
    "mistake_reason": "no", "system_prompt": {"Adder_Expert": "add"}, "labels": 1,
    "history": [
        {"content": "You are led.", "role": "assistant", "name": "Adder_Expert"},
        {"content": "", "role": "user", "name": "Computer_terminal"},
    ],
}  # fmt: skip


def test_who_and_when(tmp_path: Path) -> None:
    write(tmp_path / "ww/hc/1.json", HAND)
    write(tmp_path / "ww/ag/1.json", GENERATED)
    generated, hand = sorted(episodes(tmp_path / "ww"), key=lambda e: e.name)
    assert [(s.kind, s.agent) for s in hand.steps] == [
        ("user", "human"), ("llm", "Orchestrator"), ("llm", "Orchestrator"),
        ("llm", "WebSurfer"), ("tool", "ComputerTerminal"),
    ]  # fmt: skip
    assert hand.label is not None
    assert (hand.label.step, hand.label.agent, hand.label.reason) == (3, "WebSurfer", "wrong link")
    assert (hand.name, hand.reference, hand.success) == ("hc/1", "9", False)
    assert hand.meta == {"mistake_type": "stray", "level": "2", "subset": "hand-crafted"}
    assert generated.label is not None and generated.label.step == 0
    assert [(s.kind, s.agent) for s in generated.steps] == [
        ("llm", "Adder_Expert"), ("tool", "Computer_terminal")]  # fmt: skip
    assert generated.steps[1].flags == ("no_content",)
    assert generated.meta["labels"] == 1


@pytest.mark.parametrize(
    ("fields", "step", "note"),
    [
        ({"mistake_step": 3}, 3, None),
        ({"mistake_step": "5"}, None, "there are 5 steps"),
        ({"mistake_step": "1 2 3"}, None, "not an integer"),
        ({"mistake_step": "٣"}, None, "not an integer"),
        ({"mistake_step": True}, None, "not an integer"),
        ({"mistake_step": None}, None, None),
        ({"mistake_agent": "Orchestrator (thought)"}, 3, "step 3 is 'WebSurfer''s"),
    ],
)
def test_labels(tmp_path: Path, fields: dict[str, Any], step: int | None, note: str | None) -> None:
    e = one(write(tmp_path / "1.json", {**HAND, **fields}), "who-and-when")
    assert e.label is not None and e.label.step == step
    assert [note in n for n in e.notes] == [True] if note else e.notes == ()


def test_the_first_release_called_it_groundtruth(tmp_path: Path) -> None:
    old = {k: v for k, v in HAND.items() if k != "ground_truth"} | {"groundtruth": 9}
    assert one(write(tmp_path / "1.json", old)).reference == "9"


def test_auto_finds_the_format(tmp_path: Path) -> None:
    plain = {"prompt": "Sum?", "response": "4."}
    spans = {"resourceSpans": []}
    write(tmp_path / "plain.jsonl", plain, {**plain, "prompt": "resourceSpans?"})
    write(tmp_path / "a/chat.jsonl", chat())
    write(tmp_path / "a/one.json", chat(id="run-2"))
    write(tmp_path / "a/atif.json", ATIF)
    write(tmp_path / "a/hc/1.json", HAND)
    (tmp_path / "a/packed.jsonl.gz").write_bytes(
        gzip.compress(json.dumps(chat(id="run-3")).encode())
    )
    write(tmp_path / "a/notes.json", {"hello": 1})  # nobody's
    pretty = json.dumps(
        {**HAND, "history": [{"role": "human", "content": "x" * 2_000_000}]}, indent=1
    )
    (tmp_path / "a/hc/2.json").write_text(pretty)
    found = [t.episode for t in read(tmp_path / "a") if not isinstance(t, Reject)]
    formats = Counter(e.format for e in found if e)
    assert formats == {"atif": 1, "openai-chat": 3, "who-and-when": 2}
    assert all(t.episode is None for t in read(tmp_path / "plain.jsonl"))  # type: ignore[arg-type]
    with pytest.raises(ImportFormatError, match="holds nothing that can be read"):
        list(read(write(tmp_path / "b/notes.json", {"hello": 1}).parent))
    (empty,) = read(write(tmp_path / "spans.json", spans))
    assert isinstance(empty, Reject) and "holds no spans" in empty.reason


def test_what_an_atif_agent_is_shown_without_a_call(tmp_path: Path) -> None:
    shown = {"step_id": 2, "source": "agent", "message": "ls", "observation": {"results": [
        {"content": "a.py"}, {"content": "b.py"}]}}  # fmt: skip
    e = one(write(tmp_path / "run.json", {**ATIF, "steps": [ATIF["steps"][0], shown]}))
    results = [(s.agent, s.result, s.flags) for s in e.steps if s.kind == "tool"][:2]
    assert results == [(ATIF["agent"]["name"], n, ()) for n in ("a.py", "b.py")]
