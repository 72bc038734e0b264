"""`tracelab cite` as its user types it: a run over every line, shown from the warehouse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import everything, invoke, rows

RECORD = {
    "context": " Kale costs 4. Item Fig takes 7. Shop Oak adds 2. Plum costs 5.",
    "query": "How much is it for Kale and Fig at Oak?",
    "template": "Here are the notes.{context} {query}",
    "response": "Let me find the bill for Kale and Fig at Oak. Kale costs 4. \x1b[31mFig takes 7.",
}
OPTIONS = ("--model", "testbed", "--ablations", "16", "--method", "llm-cites", "--method", "at2")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of its own for the module, with a file of three records."""
    folder = tmp_path_factory.mktemp("cite")
    lines = [RECORD | {"id": f"r{i}", "query": f"How much is it for {i} Kale?"} for i in range(3)]
    (folder / "rag.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACELAB_HOME", str(folder / "home"))
        yield folder


@pytest.fixture(scope="module")
def done(place: Path) -> str:
    """What the command printed for the three records."""
    before = invoke("cite", place / "rag.jsonl", *OPTIONS, "--dry-run", "--json")
    assert before.exit_code == 0, before.output
    forecast = json.loads(before.stdout)
    assert sum(s["requests"] for s in forecast["stages"]) > 0
    assert not (place / "home").exists()
    result = invoke("cite", place / "rag.jsonl", *OPTIONS)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_line_is_studied_and_a_second_call_costs_nothing(place: Path, done: str) -> None:
    traces = rows("select distinct trace_name from grounding order by 1")
    assert [t["trace_name"] for t in traces] == ["r0", "r1", "r2"]
    assert len(rows("select distinct trace_id from context_effects")) == 3
    [run] = rows("select run_id, study, status from runs")
    assert run["run_id"].startswith("cite-") and run["study"] == "cite"
    before = everything()
    again = invoke("cite", place / "rag.jsonl", *OPTIONS)
    assert (again.exit_code, again.stdout) == (0, done)
    assert "starting" not in again.stderr
    assert everything() == before
    left = invoke("cite", place / "rag.jsonl", *OPTIONS, "--dry-run")
    assert "nothing is left to do" in left.stderr


def test_few_records_are_shown_whole(done: str) -> None:
    assert [line for line in done.splitlines() if line.startswith("──")] == [
        "── r0", "── r1", "── r2"
    ]  # fmt: skip
    assert "\x1b" not in done  # neither ours (not a terminal) nor the response's
    line = next(x for x in done.splitlines() if x.startswith("grounded    Kale"))
    after = done[done.index(line) :].splitlines()
    assert after[1].strip().startswith("+") and after[1].endswith("0 Kale costs 4.")
    assert "16 ablations; LDS on fresh ablations" in done
    said = [x.strip() for x in done.splitlines() if "llm-cites: " in x]
    assert said and all(x.startswith("llm-cites: no answer, ") for x in said)
    assert "at2 " in done


def test_json_is_one_object_a_record(place: Path, done: str) -> None:
    shown = invoke("cite", place / "rag.jsonl", *OPTIONS, "--json").stdout
    found = [json.loads(line) for line in shown.splitlines()]
    assert len(found) == 3
    for one in found:
        assert [*one] == ["response", "ablation", "notes", "spans", "targets", "pruned"]
        assert one["response"] == RECORD["response"] and one["ablation"] == "delete"
        assert [s["span"] for s in one["spans"]] == [0, 1, 2, 3]
        target = one["targets"][1]
        assert target["label"] == "grounded" and target["oof_lds"] is not None
        assert [s["span"] for s in target["spans"]] == [0, 1, 2, 3]
        assert target["spans"][0]["lo"] > 0
        assert {m["method"] for m in target["methods"]} == {"llm-cites", "at2"}
        assert one["pruned"] is None


def test_a_table_has_a_line_a_statement(place: Path, done: str) -> None:
    shown = invoke("cite", place / "rag.jsonl", *OPTIONS, "--csv").stdout.splitlines()
    assert shown[0] == "trace,label,statement,effect,interval,span"
    assert len(shown) == 1 + 3 * 3


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"context": ""}, (), "nothing can be studied (1 rejected)"),
        ({}, ("--target", "Plum is 9"), "the target 'Plum is 9' is not in the response"),
        ({"sources": [[0, 9], [3, 12]]}, (), "sources 0 and 1 overlap"),
        ({}, ("--ablations", "3"), "'--ablations': 3 is not in the range x>=8"),
        ({}, ("--unit", "letter"), "'letter' is not one of"),
    ],
)
def test_bad_input_is_one_sentence(
    home: Path, tmp_path: Path, changes: dict[str, Any], options: tuple[str, ...], says: str
) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(RECORD | changes))
    result = invoke("cite", path, "--model", "testbed", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(("text", "says"), [("", "stdin: there is no rec"), ('{"a"', "stdin: the")])
def test_what_stdin_lacks_is_told_of_stdin(home: Path, text: str, says: str) -> None:
    result = invoke("cite", "-", "--model", "testbed", stdin=text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    gone = invoke("cite", "/nowhere/x.json", "--model", "testbed")
    assert (gone.exit_code, "/nowhere/x.json" in gone.stderr) == (2, True)


def test_a_forecast_of_stdin_leaves_nothing(home: Path) -> None:
    result = invoke("cite", "-", "--model", "testbed", "--dry-run", stdin=json.dumps(RECORD))
    assert result.exit_code == 0, result.output
    assert "nothing was written" in result.stderr
    assert not home.exists()
