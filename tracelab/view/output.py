"""Tables for people and for programs: stdout is data, everything else goes to stderr.

Text that came from a model is shown without its control characters: a trace must not be able to
move the cursor, change colours, reverse the reading direction or forge a line. JSON escapes them;
CSV is exact, unless it is printed on a terminal.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Literal

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracelab.text.clean import SUSPECT, clean

Format = Literal["table", "json", "nl", "csv"]
_CELL_CHARS = 160
_FOLDED_CHARS = 12
_PROSE_CHARS = 24


def signed(value: float | None, digits: int = 2) -> str:
    """`+0.31`, `-0.05`, `0.00`, `n/m` (not measured); a plain minus, for programs that read it."""
    if value is None:
        return "n/m"
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def default_format() -> Format:
    """A table on a terminal, CSV when piped."""
    return "table" if sys.stdout.isatty() else "csv"


def print_arrow(table: pa.Table, form: Format) -> None:
    """Print a result to stdout."""
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
        print_table(names, _rows(table))


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
    records = [json.dumps(dict(zip(_distinct(names), map(_plain, row), strict=True)),
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


def _plain(value: Any) -> Any:
    """A value that JSON has; NaN and infinity, which it has not, become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value)


def _csv(value: Any, show: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, dict | list | tuple):
        return show(json.dumps(_plain(value), ensure_ascii=False))
    if isinstance(value, bytes):
        return value.hex()
    return show(value) if isinstance(value, str) else value


def print_table(
    names: Iterable[str],
    rows: Iterable[Iterable[Any]],
    numeric: Collection[int] = (),
    fold: Collection[int] = (),
) -> None:
    """Print a table for a person to stdout; one record a block where a table would not fit.

    Args:
        names: Column heads.
        rows: Cells.
        numeric: Columns of text that is to be aligned like numbers.
        fold: Columns that may be broken over lines however short they are.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    heads, cells = [clean(n) for n in names], [[_cell(v) for v in row] for row in rows]
    widths = [max([len(h), *(len(row[i]) for row in cells)]) for i, h in enumerate(heads)]
    most = [_FOLDED_CHARS if i in fold else _PROSE_CHARS for i in range(len(widths))]
    if sum(min(w, m) + 3 for w, m in zip(widths, most, strict=True)) > console.width:
        _print_records(console, heads, cells)
        return
    table = Table(show_edge=False, pad_edge=False)
    for i, head in enumerate(heads):
        # Numbers and short words stay whole; what shrinks is prose.
        short = widths[i] <= most[i]
        side: Literal["left", "right"] = "right" if i in numeric else _side(cells, i)
        table.add_column(Text(head), overflow="fold", no_wrap=short, justify=side)
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
    if isinstance(value, float | Decimal):
        value = float(value)
        # Four digits, but never an exponent where the number could be read.
        large = 1000 <= abs(value) < 1e12
        return Text(f"{value:.0f}" if large else f"{value:.4g}", justify="right")
    if isinstance(value, int) and not isinstance(value, bool):
        return Text(str(value), justify="right")
    if isinstance(value, dict | list | tuple):
        value = json.dumps(_plain(value), ensure_ascii=False)
    text = clean(str(value))
    return Text(text if len(text) <= _CELL_CHARS else text[: _CELL_CHARS - 1] + "…")
