"""Tables for people and for programs: stdout is data, everything else goes to stderr.

Text that came from a model is shown without its control characters: a trace must not be able to
move the cursor, change colours, reverse the reading direction or forge a line. JSON escapes them;
CSV is exact, unless it is printed on a terminal.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import pyarrow as pa

from tracelab.text.clean import SUSPECT, clean
from tracelab.view.tables.plain import plain
from tracelab.view.tables.printed import print_table

Format = Literal["table", "json", "nl", "csv"]


def signed(value: float | None, digits: int = 2) -> str:
    """`+0.31`, `-0.05`, `0.00`, `n/m` (not measured); a plain minus, for programs that read it."""
    if value is None:
        return "n/m"
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def default_format() -> Format:
    """A table on a terminal, CSV when piped."""
    return "table" if sys.stdout.isatty() else "csv"


def print_arrow(table: pa.Table, form: Format, *, whole: bool = False) -> None:
    """Print a result to stdout; `whole` cuts no cell of a table for a person."""
    names = list(table.column_names)
    if form in ("json", "nl"):
        _print_json(names, list(_rows(table)), lines=form == "nl")
    elif form == "csv":
        buffer = io.StringIO()
        # On a terminal even CSV is read by a person.
        show = clean if sys.stdout.isatty() else str
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow([show(n) for n in names])
        writer.writerows([[_csv(v, show) for v in row] for row in _rows(table)])
        sys.stdout.write(buffer.getvalue())
    else:
        print_table(names, _rows(table), whole=whole)


def print_parts(tables: Mapping[str, pa.Table]) -> None:
    """Print several results as one JSON object of lists, by name."""
    parts = [
        f"{json.dumps(name)}: [" + ",\n ".join(_records([*t.column_names], [*_rows(t)])) + "]"
        for name, t in tables.items()
    ]
    sys.stdout.write("{" + ",\n".join(parts) + "}\n")


def _rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    # By position: two columns of a join may have one name.
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def _print_json(names: list[str], rows: list[tuple[Any, ...]], *, lines: bool) -> None:
    records = _records(names, rows)
    if lines:
        sys.stdout.writelines(r + "\n" for r in records)
    else:
        sys.stdout.write("[" + ",\n ".join(records) + "]\n")


def _records(names: list[str], rows: list[tuple[Any, ...]]) -> list[str]:
    """Rows as JSON objects."""
    records = [json.dumps(dict(zip(_distinct(names), map(plain, row), strict=True)),
                          ensure_ascii=False, allow_nan=False) for row in rows]  # fmt: skip
    # What JSON does not escape by itself: DEL, C1, bidirectional overrides, ...
    return [SUSPECT.sub(lambda m: _escaped(m.group()), r) for r in records]


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"


def _distinct(names: list[str]) -> list[str]:
    """Names of which no two are the same: `text`, `text_1`."""
    out: list[str] = []
    for name in names:
        fresh, n = name, 0
        while fresh in out:
            n += 1
            fresh = f"{name}_{n}"
        out.append(fresh)
    return out


def _csv(value: Any, show: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, dict | list | tuple):
        return show(json.dumps(plain(value), ensure_ascii=False))
    if isinstance(value, bytes):
        return value.hex()
    return show(value) if isinstance(value, str) else value
