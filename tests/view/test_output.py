"""What is printed: exact for programs, harmless for terminals."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.helpers import invoke
from tracelab.store.connect import open_reader
from tracelab.store.named import named_queries
from tracelab.store.query import query, schema
from tracelab.text.clean import clean
from tracelab.view.output import print_arrow
from tracelab.view.tables.described import print_schema
from tracelab.view.tables.printed import print_table

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


def shown(
    capsys: pytest.CaptureFixture[str], names: list[str], rows: list[tuple[Any, ...]], **how: Any
) -> list[str]:
    print_table(names, rows, **how)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= int(os.environ["COLUMNS"])
    return lines


def test_prose_is_wrapped_before_anything_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = shown(capsys, ["name", "text", "n"], [("a", "word " * 30, 5), ("b", None, 12)])
    assert sum(line.count("word") for line in lines) == 30
    assert [line.split("│")[-1].strip() for line in lines if "│" in line][0] == "5"
    assert "NULL" in lines[-1]


def test_what_every_row_says_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    names = ["run_id", "sentence", "value", "method", "model"]
    rows = [
        ("a-run-with-a-name", f"sentence number {i}", 0.25, "resample-pooled", "m" * 20)
        for i in range(3)
    ]
    lines = shown(capsys, names, rows)
    assert lines[0].startswith("in every row: run_id = a-run-with-a-name; value = 0.25;")
    assert len([line for line in lines if "sentence number" in line]) == 3
    monkeypatch.setenv("COLUMNS", "140")
    assert "in every row" not in shown(capsys, names, rows)[0], "there is room for all"


def test_what_is_too_wide_is_set_in_pages_that_repeat_the_first_column(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    names = ["trace", *(f"a_long_name_{i}" for i in range(20))]
    rows = [(f"t{r}", *(1234.5678 + r * i for i in range(20))) for r in range(3)]
    lines = shown(capsys, names, rows)
    heads = " ".join("".join(c for c in " ".join(lines) if c not in "┃│").split())
    pages = sum(line.startswith("━") for line in lines)
    assert 1 < pages < 10
    for r in range(3):
        assert sum(line.startswith(f"t{r} ") for line in lines) == pages, "no line a column"
    assert heads.count("trace") == pages and "1235" in heads
    assert lines[-1] == "--csv, --json: every column and cell whole"


def test_numbers_are_never_broken_and_wide_characters_count_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    big = 123456789012345678901234
    lines = shown(capsys, ["文", "number"], [("日本語" * 20, big), ("x", None)])
    assert any(str(big) in line for line in lines)


def test_a_cell_takes_few_lines_unless_it_is_asked_for_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = " ".join(f"w{i}" for i in range(100))
    short = shown(capsys, ["a", "text"], [("x", text)])
    assert any("…" in line for line in short) and short[-1].startswith("--csv")
    lines = shown(capsys, ["a", "text"], [("x", text)], whole=True)
    said = {word for line in lines for word in line.split()}
    assert {f"w{i}" for i in range(100)} <= said


@given(
    width=st.integers(20, 130),
    rows=st.lists(
        st.tuples(
            st.text(max_size=200), st.integers(), st.none() | st.floats(),
            st.sampled_from(["ok", "insufficient"]), st.text(max_size=30),
        ), max_size=5,
    ),
    heads=st.lists(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), min_size=5, max_size=5),
)  # fmt: skip
def test_no_table_is_wider_than_the_terminal(
    width: int, rows: list[tuple[Any, ...]], heads: list[str]
) -> None:
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setenv("COLUMNS", str(width))
        print_table(heads, rows)
    assert max(map(cell_len, out.getvalue().splitlines()), default=0) <= max(width, 24 * 2 + 3)


@pytest.mark.parametrize("width", [80, 120])
def test_every_named_query_fits_the_terminal_and_is_whole_elsewhere(
    small: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    with open_reader(small) as con:
        traces = dict(con.execute("SELECT min(name), name FROM traces GROUP BY 2").fetchall())
        for name, q in named_queries().items():
            needed = [p for p in q.params if p.required]
            for trace in traces if needed else [None]:
                asked = {p.name: trace if p.name == "trace" else "1" for p in needed}
                found = query(con, name, asked)
                lines = printed(monkeypatch, found, "table").splitlines()
                assert max(map(cell_len, lines)) <= width, name
                whole = list(csv.reader(io.StringIO(printed(monkeypatch, found, "csv"))))
                assert whole[0] == found.column_names and len(whole) == found.num_rows + 1


@pytest.mark.parametrize("command", [["query"], ["check", "--table"], ["doctor"]])
def test_every_table_of_a_command_fits_the_terminal(
    small: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TRACELAB_HOME", str(small.parent))
    assert max(map(cell_len, invoke(*command).stdout.splitlines())) <= 80


def test_the_schema_on_a_terminal_is_tables_and_piped_markdown(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with open_reader(small) as con:
        tables = schema(con)
    print_schema(tables)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= 80
    told = {word for line in lines for word in line.split()}
    assert {c.name for t in tables for c in t.columns if len(c.name) < 20} <= told


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
