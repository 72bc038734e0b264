"""What is printed: exact for programs, harmless for terminals."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import invoke
from tracelab.text.clean import clean
from tracelab.view.output import print_arrow, print_table

HOSTILE = "a\x1b[31mred\x07\x9b2J\u202eevil\u2066\x7f\r\nforged\u2028line\x00end"
"""Colours, a bell, an 8-bit control sequence, reversed text, forged lines."""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(
    monkeypatch: pytest.MonkeyPatch, table: pa.Table, form: str, *, terminal: bool = False
) -> str:
    out = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    print_arrow(table, form)  # type: ignore[arg-type]
    return out.getvalue()


@given(st.text())
def test_cleaned_text_is_one_printable_line(text: str) -> None:
    shown = clean(text)
    assert shown.isprintable()
    assert clean(shown) == shown
    assert len(shown) == len(text)


def test_ordinary_text_is_left_alone() -> None:
    for text in ("Größe ≤ 3 · 日本語 · русский · 😀", "x = \\frac{1}{2}"):
        assert clean(text) == text
    assert clean("10\u00a0000\u3000€") == "10 000 €"  # unusual spaces are spaces


@pytest.mark.parametrize("form", ["table", "csv"])
def test_nothing_a_terminal_acts_on_reaches_it(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("TERM", "dumb")  # so that rich itself writes no escapes
    table = pa.table({HOSTILE: [HOSTILE, "x"]})
    out = printed(monkeypatch, table, form, terminal=True)
    body = out.replace("\n", "")
    assert [c for c in body if not c.isprintable()] == []
    assert "forged" in out
    assert not any(line.startswith("forged") for line in out.splitlines())


@pytest.mark.parametrize("form", ["json", "nl"])
def test_json_escapes_and_loses_nothing(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    out = printed(monkeypatch, pa.table({"text": [HOSTILE, "ü\u00a0"]}), form)
    assert all(c.isprintable() or c == "\n" for c in out)
    found = json.loads(out) if form == "json" else [json.loads(x) for x in out.splitlines()]
    assert [r["text"] for r in found] == [HOSTILE, "ü\u00a0"]
    assert "ü" in out


def test_csv_for_programs_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    out = printed(monkeypatch, pa.table({"text": ["a\x1bb", 'say "hi", twice', None]}), "csv")
    assert out == 'text\na\x1bb\n"say ""hi"", twice"\n""\n'


def test_values_keep_their_meaning(home: Path, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"prompt": "q", "response": "It is 7."}\n')
    assert invoke("ingest", tmp_path / "t.jsonl").exit_code == 0
    sql = (
        "select 1 as a, 2 as a, 0.5::DECIMAL(4,2) as half, 'nan'::DOUBLE as nan, [1, 2] as list, "
        "{'k': 'v'} as struct, 'ab'::BLOB as blob, DATE '2020-01-02' as day, NULL as nothing, "
        "true as yes, 12345678901234567890123::HUGEINT as big"
    )
    assert json.loads(invoke("query", sql, "--json").stdout) == [
        {
            "a": 1, "a_1": 2, "half": 0.5, "nan": None, "list": [1, 2], "struct": {"k": "v"},
            "blob": "6162", "day": "2020-01-02", "nothing": None, "yes": True,
            "big": 12345678901234567890123,
        }
    ]  # fmt: skip
    head, row = invoke("query", sql, "--csv").stdout.splitlines()
    assert head.startswith("a,a,half")
    assert row.startswith('1,2,0.50,nan,"[1, 2]","{""k"": ""v""}",6162,2020-01-02,,True,')
    assert invoke("query", "select 1 where false", "--json").stdout == "[]\n"
    assert invoke("query", "select 1 as a where false", "--csv").stdout == "a\n"


def test_tables_fit_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    wide = {f"column_{i}": [1234.5678] for i in range(9)}
    print_table(list(wide), zip(*wide.values(), strict=True))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 60
    assert out.count("column_") == 9  # a record a block
    assert "1235" in out
    print_table(("name", "text"), [("a", "word " * 30), ("b", None)])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 60
    assert out.count("word") == 30
    assert "NULL" in out


def test_no_color_is_kept_and_colour_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"name": ["a"], "value": [0.5]})
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    plain = printed(monkeypatch, table, "table", terminal=True)
    assert "38;" not in plain and "\x1b[3" not in plain
    assert "0.5" in plain


@pytest.mark.parametrize("shown", [["query", "select text from turns", "--table"], ["check"]])
def test_traces_cannot_reach_the_terminal_through_a_command(
    home: Path, tmp_path: Path, shown: list[str]
) -> None:
    record = {"id": HOSTILE, "prompt": HOSTILE, "response": f"{HOSTILE} It is 7."}
    (tmp_path / "t.jsonl").write_text(json.dumps(record) + "\n" + '{"role": "\x1b[31m"}\n')
    assert "\x1b" not in invoke("ingest", tmp_path / "t.jsonl").output
    out = invoke(*shown).output
    assert all(c.isprintable() or c == "\n" for c in out)
