"""A format of somebody else's is registered, recognised and read like our own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracelab.core.errors import ConfigError, ImportFormatError
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace, Turn
from tracelab.sources import SOURCES, read, read_last
from tracelab.sources.base import Seen, SourceFormat
from tracelab.sources.files.sniff import Head


class Mine(SourceFormat):
    """Question and answer on two lines."""

    suffixes = (".mine",)

    @staticmethod
    def sniff(head: Head) -> bool:
        return head.start.startswith(b"Q: ")

    @staticmethod
    def read(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
        lines = path.read_text().splitlines()
        for n in range(0, len(lines), 2):
            if len(lines) < n + 2:
                yield Reject(str(path), n + 1, "The question has no answer.", lines[n])
                continue
            turns = (Turn("user", lines[n][3:]), Turn("assistant", lines[n + 1]))
            yield Trace(turns, f"{path.name}:{n + 1}", source=str(path), line=n + 1)


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SOURCES, "_members", {name: s for name, s in SOURCES.items()})
    monkeypatch.setattr(SOURCES, "_order", dict(SOURCES._order))
    SOURCES.register("mine")(Mine)


def test_a_format_of_ones_own(mine: None, tmp_path: Path) -> None:
    file = tmp_path / "runs.mine"
    file.write_text("Q: 2 + 2?\n4\nQ: 3 + 3?\n")
    (tmp_path / "plain.jsonl").write_text('{"prompt": "1 + 1?", "response": "2"}\n')
    (tmp_path / "notes.txt").write_text("Q: is this read? No.\n")
    trace, reject = read(file, "mine")
    assert isinstance(trace, Trace) and (trace.turns[0].text, trace.response) == ("2 + 2?", "4")
    assert isinstance(reject, Reject) and reject.line == 3
    assert [*read(file)] == [trace, reject]
    both = [t.response for t in read(tmp_path) if isinstance(t, Trace)]
    assert both == ["2", "4"]  # in the order of the files' names
    assert [t for t in read(tmp_path, "mine")] == [trace, reject]
    assert [t.response for t in read(tmp_path, "jsonl") if isinstance(t, Trace)] == ["2"]


def test_it_is_asked_before_formats_that_take_nearly_anything(mine: None) -> None:
    names = list(SOURCES)
    assert names.index("inspect") < names.index("mine") < names.index("openai-chat")
    assert names.index("mine") < names.index("jsonl")


def test_errors_list_it(mine: None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such format; did you mean 'mine'"):
        read(tmp_path, "min")
    prose = tmp_path / "notes.txt"
    prose.write_text("Hello.")
    with pytest.raises(ImportFormatError, match=r"that tracelab reads \(.*mine.*\)"):
        read(prose)


def test_a_name_is_taken_once() -> None:
    class Other(SourceFormat):
        @staticmethod
        def read(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
            return iter(())

    with pytest.raises(ValueError, match="two formats are called 'otel'"):
        SOURCES.register("otel")(Other)


def test_every_format_says_what_it_is() -> None:
    assert all(source.about() for source in SOURCES.values())


@pytest.mark.parametrize("name", ["rag.jsonl", "one.json", "given"])
def test_a_record_of_a_context_is_known_whatever_its_file_is_called(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.write_text('{"context": "Kale costs 4.", "query": "How much?", "response": "4."}\n')
    [trace] = read(file)
    assert isinstance(trace, Trace) and trace.response == "4."
    assert "Kale costs 4." in trace.turns[0].text


@pytest.mark.parametrize("first", ["context", "jsonl", "agents.openai_chat", "files.records"])
def test_any_module_may_be_imported_first(first: str) -> None:
    code = f"import tracelab.sources.{first}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_line_that_comes_again_with_an_outcome_is_no_second_trace(tmp_path: Path) -> None:
    record = {"prompt": "2 + 2?", "response": "4."}
    lines = [record, record | {"success": True}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    [trace, reject] = read_last([tmp_path / "a.jsonl"])
    assert isinstance(trace, Trace) and not trace.outcome_known
    assert isinstance(reject, Reject) and "came before, without an outcome" in reject.reason
