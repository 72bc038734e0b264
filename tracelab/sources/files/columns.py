"""Columns of a data set that the user names: `{"question": "Aufgabe", "response": "Antwort"}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracelab.core.errors import ConfigError, PlanError

NAMES = ("question", "response", "reasoning", "reference", "success", "id", "model", "system",
         "context")  # fmt: skip
ROWS = ("dataset-rows", "contexts", "jsonl", "questions")
"""Formats of rows, whose columns may be named; the first is what is meant if none is said."""
_HERE = {"jsonl": {"question": "prompt"}, "questions": {"question": "prompt"},
         "contexts": {"question": "query"}}  # fmt: skip


_NEEDED = ("question", "response", "context")


def check_columns(columns: Mapping[str, str]) -> None:
    """Refuse names that nothing knows.

    Raises:
        ConfigError: One sentence that names it.
    """
    for name, column in columns.items():
        if name not in NAMES:
            raise ConfigError(
                f"source_options.columns has no `{name}`; there are {', '.join(NAMES)}"
            )
        if not isinstance(column, str) or not column:
            raise ConfigError(f"source_options.columns.{name} is not the name of a column")


def renamed(
    row: Mapping[str, Any], columns: Mapping[str, str], format: str = ROWS[0]
) -> dict[str, Any]:
    """A row whose columns have the names of a format; a column that stands in their way moves.

    A dotted name is a column inside a column: `doc.question`.

    Raises:
        PlanError: It lacks a column that no row can do without; another is not taken instead.
    """
    if not columns:
        return dict(row)
    for name in _NEEDED:
        if name in columns and _at(row, columns[name]) is None:
            raise PlanError(f"the row has no column `{columns[name]}`, which is its {name}")
    here = _HERE.get(format, {})
    taken = {here.get(name, name): _at(row, path) for name, path in columns.items()}
    whole = {path for path in columns.values() if path in row}
    out = {
        (f"{key} (column)" if key in taken and key not in whole else key): value
        for key, value in row.items()
        if key not in whole
    }
    return out | {key: value for key, value in taken.items() if value is not None}


def _at(row: Mapping[str, Any], path: str) -> Any:
    if path in row:
        return row[path]
    held: Any = row
    for part in path.split("."):
        held = held.get(part) if isinstance(held, Mapping) else None
    return held
