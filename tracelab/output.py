"""Tables for people and for programs: stdout is data, everything else goes to stderr.

Text that came from a model is printed without its control characters: a trace must not be able to
move the cursor, change colours or forge a line.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable
from typing import Any, Literal

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

Format = Literal["table", "json", "nl", "csv"]
_CELL_CHARS = 160
_PROSE_CHARS = 24


def clean(text: str) -> str:
    """Replace control characters (all of Unicode's Cc and bidirectional overrides) visibly."""
    return "".join(
        " " if c in "\n\r\t" else "�" if not c.isprintable() and c != " " else c for c in text
    )


def default_format() -> Format:
    """A table on a terminal, CSV when piped."""
    return "table" if sys.stdout.isatty() else "csv"


def print_arrow(table: pa.Table, form: Format) -> None:
    """Print a result to stdout."""
    names, rows = table.column_names, table.to_pylist()
    if form == "json":
        sys.stdout.write(json.dumps(rows, default=str, ensure_ascii=False) + "\n")
    elif form == "nl":
        for row in rows:
            sys.stdout.write(json.dumps(row, default=str, ensure_ascii=False) + "\n")
    elif form == "csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        writer.writerow(names)
        writer.writerows([["" if v is None else v for v in row.values()] for row in rows])
        sys.stdout.write(buffer.getvalue())
    else:
        print_table(names, ([row[n] for n in names] for row in rows))


def print_table(names: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print a table for a person to stdout; one record a block where a table would not fit."""
    console = Console()
    heads, cells = list(names), [[_cell(v) for v in row] for row in rows]
    widths = [max([len(h), *(len(row[i]) for row in cells)]) for i, h in enumerate(heads)]
    if sum(min(w, _PROSE_CHARS) + 3 for w in widths) > console.width:
        _print_records(console, heads, cells)
        return
    table = Table(show_edge=False, pad_edge=False)
    for i, head in enumerate(heads):
        # Numbers and short words stay whole; what shrinks is prose.
        short = widths[i] <= _PROSE_CHARS
        table.add_column(head, overflow="fold", no_wrap=short, justify=_side(cells, i))
    for row in cells:
        table.add_row(*row)
    console.print(table)


def _print_records(console: Console, heads: list[str], cells: list[list[Text]]) -> None:
    wide = max(map(len, heads))
    for n, row in enumerate(cells):
        console.print(Text(f"── {n + 1} ".ljust(min(console.width, 60), "─"), style="dim"))
        for head, cell in zip(heads, row, strict=True):
            line = Text(f"{head:>{wide}}  ", style="bold")
            console.print(line + Text(cell.plain, style=cell.style), overflow="fold")


def _side(cells: list[list[Text]], column: int) -> Literal["left", "right"]:
    numeric = all(row[column].justify == "right" for row in cells)
    return "right" if cells and numeric else "left"


def _cell(value: Any) -> Text:
    if value is None:
        return Text("NULL", style="dim")
    if isinstance(value, float):
        return Text(f"{value:.4g}", justify="right")
    if isinstance(value, int) and not isinstance(value, bool):
        return Text(str(value), justify="right")
    text = clean(str(value))
    return Text(text if len(text) <= _CELL_CHARS else text[: _CELL_CHARS - 1] + "…")
