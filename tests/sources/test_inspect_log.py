"""Inspect logs, in the layout that inspect-ai 0.3.285 writes: deflated, zstandard, and JSON."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tracelab.core.episode import Episode
from tracelab.core.errors import ImportFormatError
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources import read, read_last

HEADER = {"version": 2, "status": "success", "plan": {},
          "eval": {"task": "shop", "task_version": 3, "model": "mock/m"}}  # fmt: skip
LONG = "57090f1c01191c02cbd9ae2447278029"


def sample(epoch: int = 1, **fields: Any) -> dict[str, Any]:
    user = {"id": "u", "role": "user", "content": f"attachment://{LONG}", "source": "input"}
    call = {"id": "c1", "type": "function", "function": "lookup", "arguments": {"item": "Kale"}}
    asked = {"id": "m1", "role": "assistant", "content": "Looking.", "tool_calls": [call]}
    answer = {"id": "t", "role": "tool", "content": "4", "tool_call_id": "c1", "function": "lookup"}
    said = {"id": "m2", "role": "assistant", "content": "It is 5."}
    choice = lambda m: {"choices": [{"message": m, "stop_reason": "stop"}],  # noqa: E731
                        "usage": {"input_tokens": 9, "output_tokens": 2}}  # fmt: skip
    model = {"event": "model", "model": "mock/m", "input": [], "span_id": "s2",
             "tools": [{"name": "lookup"}]}  # fmt: skip
    return {
        "id": "a b/1",
        "epoch": epoch,
        "input": "What does Kale cost?",
        "target": "4",
        "messages": [user, asked, answer, said],
        "scores": {"match": {"value": "I", "answer": "It is 5."}},
        "events": [
            {"event": "span_begin", "id": "s1", "type": "agent", "name": "shopper"},
            {"event": "span_begin", "id": "s2", "type": "solver", "parent_id": "s1"},
            {**model, "input_refs": [[0, 1]], "output": choice(asked)},
            {"event": "tool", "id": "c1", "function": "lookup", "arguments": {"item": "Kale"},
             "result": "4", "span_id": "s2"},
            {**model, "input_refs": [[0, 1], [1, 3]], "output": choice(said)},
        ],
        "events_data": {"messages": [user, asked, answer], "calls": []},
        "attachments": {LONG: "What does Kale cost?"},
        **fields,
    }  # fmt: skip


def write_eval(path: Path, *samples: Any, zstd: bool = False) -> Path:
    files = {"header.json": HEADER, "_journal/start.json": {"version": 2, "eval": HEADER["eval"]}}
    files |= {f"samples/x_{i}_epoch_1.json": s for i, s in enumerate(samples)}
    how = zipfile.ZIP_STORED if zstd else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, value in files.items():
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            if zstd:
                sink = pa.BufferOutputStream()
                with pa.CompressedOutputStream(sink, "zstd") as out:
                    out.write(data)
                data = sink.getvalue().to_pybytes()
            archive.writestr(name, data)
    if zstd:  # stored entries that say they are method 93: what a writer with zstandard makes
        raw = bytearray(path.read_bytes())
        plain = [v if isinstance(v, bytes) else json.dumps(v).encode() for v in files.values()]
        for mark, method, crc, size in ((b"PK\x03\x04", 8, 14, 22), (b"PK\x01\x02", 10, 16, 24)):
            place = -1
            for data in plain:
                place = raw.index(mark, place + 1)
                raw[place + method : place + method + 2] = (93).to_bytes(2, "little")
                raw[place + crc : place + crc + 4] = zlib.crc32(data).to_bytes(4, "little")
                raw[place + size : place + size + 4] = len(data).to_bytes(4, "little")
        path.write_bytes(raw)
    return path


def episodes(path: Path) -> list[Episode]:
    found = [t if isinstance(t, Reject) else t.episode for t in read(path)]
    assert not [r for r in found if isinstance(r, Reject)], found
    return [e for e in found if isinstance(e, Episode)]


@pytest.mark.parametrize("how", ["deflate", "zstd", "json"])
def test_a_sample(tmp_path: Path, how: str) -> None:
    if how == "json":
        path = tmp_path / "log.json"
        path.write_text(json.dumps({**HEADER, "samples": [sample(), sample(2)]}))
    else:
        path = write_eval(tmp_path / "log.eval", sample(), sample(2), zstd=how == "zstd")
    e, again = episodes(path)
    assert (e.name, again.name) == ("a b/1/1", "a b/1/2")  # epochs that went alike stay two
    assert [(s.kind, s.agent, s.text()) for s in e.steps] == [
        ("user", "user", "What does Kale cost?"),
        ("llm", "shopper", 'Looking.\n[call lookup {"item": "Kale"}]'),
        ("tool", "shopper", "4"),
        ("llm", "shopper", "It is 5."),
    ]
    first, last = e.model_input(1), e.model_input(3)
    assert first is not None and last is not None
    assert [m["content"] for m in last] == ["What does Kale cost?", "Looking.", "4"]
    assert first == last[:1]
    assert e.messages[e.steps[1].tools or ""] == [{"name": "lookup"}]
    assert (e.steps[1].prompt_tokens, e.steps[1].output_tokens) == (9, 2)
    assert (e.success, e.reward, e.answer, e.reference) == (False, 0.0, "It is 5.", "4")
    assert (e.model, e.version, e.meta["task"]) == ("mock/m", "3", "shop")
    assert Trace.of_episode(e).episode == e


def test_without_events_the_messages_are_the_steps(tmp_path: Path) -> None:
    (e,) = episodes(write_eval(tmp_path / "log.eval", sample(events=[])))
    assert [s.kind for s in e.steps] == ["user", "llm", "tool", "llm"]
    assert e.steps[0].content == "What does Kale cost?" and e.notes


def test_blemishes(tmp_path: Path) -> None:
    events = sample()["events"]
    events[2]["output"]["choices"][0]["message"]["tool_calls"][0]["parse_error"] = "bad JSON"
    events[3]["result"], events[3]["error"] = "", {"type": "timeout", "message": "too slow"}
    events[4]["input_refs"] = [[0, 99]]
    events[1]["parent_id"] = "s2"  # its own parent
    (e,) = episodes(write_eval(tmp_path / "x.eval", sample(events=events, error={"message": "E"})))
    call = e.steps[1].calls[0]
    assert call.arguments.error and "bad JSON" in call.arguments.raw
    assert e.steps[2].content == "too slow" and "error" in e.steps[2].flags
    assert e.steps[1].agent == "assistant"
    assert [n.split(" ")[0:2] for n in e.notes] == [["A", "model"], ["The", "sample"]]


def test_a_bad_sample_costs_only_itself(tmp_path: Path) -> None:
    path = write_eval(
        tmp_path / "x.eval", sample(), b'{"id": ', 7, sample(3), sample(events=[], messages=[])
    )
    found = list(read(path))
    reasons = [r.reason for r in found if isinstance(r, Reject)]
    assert len(found) == 5 and len(reasons) == 3
    assert "Not valid JSON" in reasons[0] and "not a JSON object" in reasons[1]
    assert "no steps" in reasons[2]


def test_a_damaged_log_is_one_sentence(tmp_path: Path) -> None:
    path = write_eval(tmp_path / "x.eval", sample())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ImportFormatError, match="is not an Inspect log"):
        list(read(path, "inspect"))


def log(path: Path, *samples: dict[str, Any], run_id: str = "r") -> Path:
    spec = {**HEADER["eval"], "run_id": run_id}  # type: ignore[dict-item]
    path.write_text(json.dumps({**HEADER, "eval": spec, "samples": samples}))
    return path


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [
        ({"topic": {"value": "algebra"}, "match": {"value": "I", "answer": "5"}}, (False, 0.0)),
        ({"a": {"value": "C"}, "b": {"value": 1}}, (True, 1.0)),
        ({"a": {"value": "C"}, "b": {"value": "I"}}, (None, None)),
        ({"half": {"value": 0.5}}, (None, 0.5)),
        ({"topic": {"value": "algebra"}}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_the_outcome_is_what_scorers_agree_on(
    tmp_path: Path, scores: Any, wanted: tuple[Any, Any]
) -> None:
    (e,) = episodes(log(tmp_path / "log.json", sample(scores=scores)))
    assert (e.success, e.reward) == wanted
    assert e.meta["scores"] == scores, "all are kept"
    assert len(scores) < 2 or any("scorers" in n for n in e.notes), "the rule is told"


def test_a_pool_beside_the_events(tmp_path: Path) -> None:
    """Older logs: `message_pool` of the sample."""
    old = sample(events_data=None, message_pool=sample()["events_data"]["messages"])
    (e,) = episodes(log(tmp_path / "log.json", old))
    assert [s.kind for s in e.steps] == ["user", "llm", "tool", "llm"]
    assert e.task == "What does Kale cost?" and e.model_input(3) is not None


def test_what_a_user_says_twice_is_two_steps(tmp_path: Path) -> None:
    yes, ok = {"role": "user", "content": "yes"}, {"role": "assistant", "content": "ok"}
    event = {"event": "model", "output": {"choices": [{"message": ok}]}}
    events = [{**event, "input": [yes]}, {**event, "input": [yes, ok, yes]}]
    (e,) = episodes(log(tmp_path / "log.json", sample(events=events)))
    assert [s.kind for s in e.steps] == ["user", "llm", "user", "llm"]


def test_a_run_that_was_scored_later_has_its_outcome(tmp_path: Path) -> None:
    log(tmp_path / "a.json", *(sample(i, scores={}) for i in range(3)), run_id="r1")
    log(tmp_path / "b.json", *(sample(i) for i in range(3)), run_id="r2")
    log(tmp_path / "c.json", *(sample(i, scores={}) for i in range(3)), run_id="r3")
    found = list(read_last([tmp_path]))
    assert [t.success for t in found if isinstance(t, Trace)] == [False] * 3
    rejects = [r for r in found if isinstance(r, Reject)]
    assert [r.line for r in rejects] == [1, 2, 3], "a duplicate is a reject of its own"
