"""Columns that the user names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tracelab
from tests.helpers import invoke, rows
from tracelab.core.errors import ConfigError
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.run.config import parse_config
from tracelab.sources import read

ROW = {"Aufgabe": "6+1?", "response": "of another model", "Antwort": "7.", "meta": {"richtig": "7"},
       "Gedanken": "Six and one."}  # fmt: skip
NAMED = {"question": "Aufgabe", "response": "Antwort", "reference": "meta.richtig",
         "reasoning": "Gedanken"}  # fmt: skip


@pytest.mark.parametrize("form", ["auto", "dataset-rows"])
def test_they_are_what_was_said(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(ROW) + "\n")
    [trace] = read(path, form, NAMED)
    assert isinstance(trace, Trace), trace
    assert [t.text for t in trace.turns] == ["6+1?", "<think>\nSix and one.\n</think>\n\n7."]
    assert trace.reference == "7"
    assert "of another model" in trace.extra.values(), "what stood in the way is kept"


def test_contexts_and_questions(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"Text": "Kale costs 4.", "Frage": "Kale?", "Antwort": "4."}) + "\n")
    named = {"context": "Text", "question": "Frage", "response": "Antwort"}
    [trace] = read(path, columns=named)
    assert isinstance(trace, Trace) and (trace.extra["query"], trace.response) == ("Kale?", "4.")
    [asked] = read(path, "questions", {"question": "Frage"})
    assert isinstance(asked, Trace) and asked.turns[0].text == "Kale?"


def test_through_every_door(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(ROW) + "\n")
    said = [part for name, column in NAMED.items() for part in ("--column", f"{name}={column}")]
    assert invoke("ingest", path, *said).exit_code == 0
    assert tracelab.ingest([ROW], columns=NAMED, name="py", quiet=True).traces == 1
    assert [r["reference"] for r in rows("from traces")] == ["7", "7"]
    result = invoke("ingest", path, "--column", "frage=Aufgabe")
    assert result.exit_code == 2 and "has no `frage`" in result.stderr


def test_bad_ones_are_one_sentence(tmp_path: Path) -> None:
    base = {"name": "a", "source": "s", "model": "m"}
    with pytest.raises(ConfigError, match="has no `frage`"):
        parse_config({**base, "source_options": {"columns": {"frage": "x"}}}, "x")
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW))
    with pytest.raises(ConfigError, match="columns are of rows"):
        read(tmp_path / "a.jsonl", "otel", {"question": "x"})


def test_a_column_that_is_not_there_is_said_and_no_other_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": "Another?", "Antwort": "7"}) + "\n")
    [reject] = read(path, columns={"question": "Frage", "response": "Antwort"})
    assert (
        isinstance(reject, Reject) and "no column `Frage`, which is its question" in reject.reason
    )
