"""The schema on a terminal: each table with its grain, its key, and what its columns mean."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from tracelab.store.query import TableInfo
from tracelab.view.tables.printed import print_table


def print_schema(tables: Iterable[TableInfo]) -> None:
    """Print tables and views to stdout; piped, `schema_markdown` is the form."""
    console = Console(markup=False, emoji=False, highlight=False)
    for n, table in enumerate(tables):
        if n:
            console.print()
        console.print(Text(f"{table.name} ({table.kind})", style="bold"))
        console.print(Text(table.comment))
        if table.key:
            console.print(Text(f"Key: ({', '.join(table.key)})."))
        rows = [
            (c.name, c.type + (" NOT NULL" if c.nullable is False else ""), c.comment)
            for c in table.columns
        ]
        print_table(("column", "type", "meaning"), rows, fold=(1,), whole=True)
