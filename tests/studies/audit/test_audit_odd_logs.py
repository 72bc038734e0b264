"""Odd runs through `tracelab audit`: each is audited, or refused with a reason; none is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.agent_files import failed_runs, messages_of, reference
from tests.helpers import invoke, rows
from tracelab.core.episode import Episode
from tracelab.run.config import parse_config
from tracelab.run.execute import run_config
from tracelab.store.connect import open_reader
from tracelab.store.home import Home
from tracelab.store.query import check

WELL = failed_runs(3, seed=8)
THINK = "<think>\n"


def call(i: int, arguments: str = '{"subject": "Kale"}') -> dict[str, Any]:
    function = {"name": "lookup", "arguments": arguments}
    asked = {"id": f"c{i}", "type": "function", "function": function}
    return {"role": "assistant", "content": f"{THINK}I look {i}.\n</think>\n\n",
            "tool_calls": [asked]}  # fmt: skip


def result(i: int, content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"c{i}", "content": content}


ASK = {"role": "user", "content": "What is the bill?"}
END = {
    "role": "assistant",
    "content": f"{THINK}That is all.\n</think>\n\nThe bill is \\boxed{{1}}.",
}


def chat(steps: int, words: int) -> list[dict[str, Any]]:
    """A run of `steps` model steps and about `words` tokens of results."""
    out: list[dict[str, Any]] = [ASK]
    for i in range(steps - 1):
        out += [call(i), result(i, f"Note {i}: " + "Kale costs 4. " * (words // (4 * steps)))]
    return [*out, END]


ODD: dict[str, list[dict[str, Any]]] = {
    "long": chat(130, 76_000),
    "thousand": chat(1_000, 4_000),
    "binary": [ASK, call(0), result(0, "\x89PNG\r\n\x1a\n\x00\x00\ufffd\x1b[2J"), END],
    "parts": [ASK, call(0), result(0, [{"type": "image_url", "image_url": {"url": "x"}}]), END],
    "missing-middle": [ASK, call(0), call(1), result(1, "Note: Kale costs 4."), END],
    "missing-last": [ASK, call(0), result(0, "Note: Kale costs 4."), call(1)],
    "invalid": [ASK, call(0, '{"subject": '), result(0, "error: bad arguments"), END],
    "empty": [],
    "no-model": [ASK],
    "unknown": [ASK, {"role": "assistant", "content": f"{THINK}a"}],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("odd")
    for name, messages in ODD.items():
        record: dict[str, Any] = {"id": name, "messages": messages, "success": False,
                                  "reference": "7"}  # fmt: skip
        if name == "unknown":
            del record["success"]
        (path / f"{name}.json").write_text(json.dumps(record))
    (path / "nothing.json").write_text("")
    (path / "half.json").write_text(json.dumps({"messages": ODD["binary"]})[:60])
    (path / "well.jsonl").write_text("".join(
        json.dumps({"id": r.name, "messages": messages_of(r), "success": False,
                    "reference": reference(r)}) + "\n" for r in WELL))  # fmt: skip
    return path


def rejects() -> dict[str, str]:
    return {
        f"{Path(r['file']).stem}": r["reason"]
        for r in rows("select file, reason from rejects order by file")
    }


def clean() -> None:
    with open_reader(Home.at().database) as con:
        assert [r for r in check(con) if r.violations] == []


def test_rules_judge_every_run_that_has_steps(folder: Path, home: Path) -> None:
    run = invoke("audit", folder, "--opinion", "error-rule", "--opinion", "busiest-agent", "--json")
    assert run.exit_code == 3, run.output  # three files are no runs
    assert "Traceback" not in run.output and "\x1b[2J" not in run.output
    rules = json.loads(run.stdout)["rules"]
    found = [r for r in rules if r["method"] == "rule:error-rule"]
    wanted = {*ODD, *(r.name for r in WELL)} - {"empty", "unknown"}
    assert {r["trace"] for r in found} == wanted and len(found) == len(wanted)
    assert {r["trace"] for r in found if r["step"] is None} == {"no-model"}
    said = rejects()
    assert "no steps" in said.pop("empty")
    assert "does not say whether the run succeeded" in said.pop("unknown")
    assert set(said) == {"half", "nothing"} and all(said.values())
    flags: dict[str, set[str]] = {}
    for r in rows("select t.name, s.flags from steps s join traces t using (run_id, trace_id)"):
        flags.setdefault(r["name"], set()).update(json.loads(r["flags"]))
    wrong = {"binary": "binary", "parts": "non_text", "invalid": "invalid_arguments",
             "missing-last": "missing_result", "missing-middle": "missing_result"}  # fmt: skip
    for name, flag in wrong.items():
        assert flag in flags[name]
    assert rows("select n_steps from episodes e join traces t using (run_id, trace_id) "
                "where name = 'thousand'") == [{"n_steps": 2000}]  # fmt: skip
    [trace] = rows("select extra from traces where name = 'thousand'")
    episode = Episode.from_json(json.loads(trace["extra"])["episode"])
    assert episode.model_input(1999) == ODD["thousand"][:-1], "inputs are stored, and shared"
    assert len(trace["extra"]) < 3_000_000, "once each, not once a step"
    clean()


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.timeout(600)
def test_a_replay_executes_what_it_can_and_says_why_not(folder: Path, home: Path) -> None:
    """With the bundled model: its context holds 512 tokens, which most runs need less of."""
    config = parse_config({
        "name": "odd", "study": "audit", "source": str(folder), "model": "testbed",
        "engine": {"kind": "transformers", "dtype": "float32"}, "sampling": {"max_tokens": 16},
        "audit": {"environment": "replay", "rollouts": 4, "controls": 1, "ablations": 8},
    }, "odd")  # fmt: skip
    summary = run_config(config, Home.at(), in_process=True, quiet=True)
    assert summary.failed == 0
    verdicts = {r["name"]: r for r in rows(
        "select t.name, v.* from verdicts v join traces t using (run_id, trace_id)")}  # fmt: skip
    said = rejects()
    for name, why in (("long", "tokens, but the model's context holds"),
                      ("thousand", "1000 model steps, more than audit.max_steps"),
                      ("parts", "no text"), ("empty", "no steps"),
                      ("no-model", "no step was written by a model"),
                      ("unknown", "does not say whether the run succeeded")):  # fmt: skip
        assert why in said[name], said
    wanted = {"binary", "missing-middle", "missing-last", "invalid", *(r.name for r in WELL)}
    assert set(verdicts) == wanted
    for name, v in verdicts.items():
        assert v["evidence"] == "replayed" and v["status"] != "nonreproducible", (name, v)
    assert len(rows("from traces")) == len(ODD) - 1 + len(WELL), "what is refused is kept"
    clean()
