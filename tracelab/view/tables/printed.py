"""Tables for a person, as wide as the terminal and never wider.

What does not fit is made to, in this order: prose is wrapped; columns that say the same in every
row are said once, above; shorter text is wrapped too; and what is still too wide is set in pages of
columns, each of which repeats the first one. Numbers are never broken.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracelab.text.clean import clean
from tracelab.view.tables.plain import plain

_CELL_CHARS = 160
_LINES = 4
"""Lines that a wrapped cell may take."""
_WHOLE = 24
"""Text up to so wide is not wrapped, if that can be helped."""
_LEAST = 12
"""Text is not wrapped to less."""
_NULL = "NULL"
_GAP = 3
"""Between columns: a rule and two spaces."""


class _Column:
    """One column: its head, its cells, and how narrow it may become."""

    def __init__(self, head: str, cells: Sequence[Text], numeric: bool, prose: bool) -> None:
        self.head, self.cells = head, cells
        known = [c for c in cells if c.plain != _NULL]
        self.right = numeric or (bool(known) and all(c.justify == "right" for c in known))
        self.prose = prose and not self.right
        pieces = _pieces(head)
        self.least_head = max(map(cell_len, pieces), default=1)
        self.body = max((cell_len(c.plain) for c in cells), default=0)
        self.natural = max(self.body, min(cell_len(head), max(self.body, self.least_head)), 1)

    @property
    def constant(self) -> bool:
        """Whether every row says the same."""
        return len(self.cells) > 1 and len({c.plain for c in self.cells}) == 1

    def least(self, tight: bool) -> int:
        """How narrow it may become; `tight` where there is no other way."""
        if self.right:
            return self.natural
        whole = _LEAST if self.prose or tight else _WHOLE
        return max(min(self.natural, whole), self.least_head)


def print_table(
    names: Iterable[str],
    rows: Iterable[Iterable[Any]],
    numeric: Collection[int] = (),
    fold: Collection[int] = (),
    *,
    whole: bool = False,
) -> None:
    """Print a table for a person to stdout.

    Args:
        names: Column heads.
        rows: Cells.
        numeric: Columns of text that is to be aligned like numbers.
        fold: Columns that are wrapped before others are, however short they are.
        whole: Cut no cell, however long.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    found = [[_cell(v, whole) for v in row] for row in rows]
    columns = [
        _Column(clean(name), [row[i] for row in found], i in numeric, i in fold)
        for i, name in enumerate(names)
    ]
    if not found and not _fit(columns, console.width, tight=False):
        heads = ", ".join(c.head for c in columns)
        console.print(Text(f"no rows; columns: {heads}", style="dim"), overflow="fold")
        return
    said: list[_Column] = []
    if not _fit(columns, console.width, tight=False):
        said = [c for c in columns if c.constant]
        columns = [c for c in columns if c not in said] or columns[:1]
    if said:
        told = "; ".join(f"{c.head} = {c.cells[0].plain}" for c in said if c not in columns)
        console.print(Text(f"in every row: {told}", style="dim"), overflow="fold")
    pages = _pages(columns, console.width)
    cut = False
    for n, page in enumerate(pages):
        if n:
            console.print()
        cut |= _print(console, page, len(found), whole)
    if cut or len(pages) > 1:
        console.print(Text("--csv, --json: every column and cell whole", style="dim"))


def _fit(columns: Sequence[_Column], width: int, *, tight: bool) -> bool:
    return sum(c.least(tight) for c in columns) + _GAP * (len(columns) - 1) <= width


def _pages(columns: list[_Column], width: int) -> list[list[_Column]]:
    """Columns in groups that fit, the first column in each."""
    if not columns or _fit(columns, width, tight=True):
        return [columns]
    first, *rest = columns
    pages, page = [], [first]
    for c in rest:
        if len(page) > 1 and not _fit([*page, c], width, tight=False):
            pages.append(page)
            page = [first]
        page.append(c)
    return [*pages, page]


def _widths(columns: Sequence[_Column], width: int) -> list[int]:
    """Room for each: what it needs at least, and what is left to those that would use it."""
    tight = not _fit(columns, width, tight=False)
    out = [c.least(tight) for c in columns]
    left = width - _GAP * (len(columns) - 1) - sum(out)
    if left < 0:  # a page of a wide number beside a wide first column
        return [max(1, min(w, width // len(columns) - _GAP)) for w in out]
    wants = [c.natural - w for c, w in zip(columns, out, strict=True)]
    while left > 0 and any(wants):
        # Those that want least are satisfied first, so that little is left over.
        order = sorted((i for i, w in enumerate(wants) if w), key=lambda i: wants[i])
        share = max(left // len(order), 1)
        for i in order:
            more = min(share, wants[i], left)
            out[i], wants[i], left = out[i] + more, wants[i] - more, left - more
    return out


def _print(console: Console, columns: Sequence[_Column], rows: int, whole: bool) -> bool:
    """Print one page; whether a cell had to be cut."""
    table = Table(show_edge=False, pad_edge=False)
    widths, cut = _widths(columns, console.width), False
    shown: list[list[Text]] = []
    for c, w in zip(columns, widths, strict=True):
        side: Literal["left", "right"] = "right" if c.right else "left"
        table.add_column(Text(_wrapped(c.head, w)), overflow="fold", width=w, justify=side)
        cells = list(c.cells) if whole else [_shortened(cell, w) for cell in c.cells]
        cut |= any(cell.plain.endswith("…") for cell in cells)
        shown.append(cells)
    for r in range(rows):
        table.add_row(*(cells[r] for cells in shown))
    console.print(table)
    return cut


def _shortened(cell: Text, width: int) -> Text:
    """A cell that takes at most `_LINES` lines; words may leave a part of each line empty."""
    room = max(width * _LINES - (_LINES - 1) * min(width // 3, 8), width)
    if cell_len(cell.plain) <= room:
        return cell
    return Text(set_cell_size(cell.plain, room - 1).rstrip(" …") + "…", style=cell.style)


def _pieces(head: str) -> list[str]:
    """Where a head may be broken: after `_` and at spaces."""
    return [p for p in head.replace("_", "_ ").split(" ") if p]


def _wrapped(head: str, width: int) -> str:
    """A head in lines of at most `width`."""
    if cell_len(head) <= width:
        return head
    lines: list[str] = []
    for piece in _pieces(head):
        joined = "" if not lines else lines[-1] + ("" if lines[-1].endswith("_") else " ") + piece
        if lines and cell_len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(piece)
    return "\n".join(lines)


def _cell(value: Any, whole: bool) -> Text:
    if value is None:
        return Text(_NULL, style="dim")
    if isinstance(value, float | Decimal):
        value = float(value)
        # Four digits, but never an exponent where the number could be read.
        large = 1000 <= abs(value) < 1e12
        return Text(f"{value:.0f}" if large else f"{value:.4g}", justify="right")
    if isinstance(value, int) and not isinstance(value, bool):
        return Text(str(value), justify="right")
    if isinstance(value, datetime):
        return Text(value.isoformat(" ", "seconds").removesuffix("+00:00"))
    if isinstance(value, dict | list | tuple):
        value = json.dumps(plain(value), ensure_ascii=False)
    text = clean(str(value))
    return Text(text if whole or len(text) <= _CELL_CHARS else text[: _CELL_CHARS - 1] + "…")
