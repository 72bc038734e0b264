"""Rows that are frozen dataclasses: read from the warehouse, turned into data frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import pyarrow as pa
from duckdb import DuckDBPyConnection

from tracelab.core.errors import ConfigError
from tracelab.store.query import query

T = TypeVar("T")
Kind = Literal["pandas", "polars", "arrow"]


def read(con: DuckDBPyConnection, row: type[T], sql: str, **params: Any) -> tuple[T, ...]:
    """The rows of a query as values of a dataclass whose fields are columns of it.

    Args:
        con: An open reader.
        row: The dataclass.
        sql: What follows `SELECT …`; may end with an order.
        params: Bound to it.
    """
    kinds = columns(row)
    names = ", ".join(kinds)
    found = query(con, f"SELECT {names} {sql}", params).to_pylist()
    lists = [name for name, kind in kinds.items() if pa.types.is_list(kind)]
    for values in found:
        for name in lists:  # kept as JSON
            values[name] = tuple(json.loads(values[name]))
    return tuple(row(**values) for values in found)


def columns(row: type[Any]) -> dict[str, pa.DataType]:
    """The Arrow type of each field of a row."""
    hints = get_type_hints(row)
    return {f.name: _arrow(hints[f.name]) for f in fields(row)}


def _arrow(hint: Any) -> pa.DataType:
    plain = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
    if hint in plain:
        return plain[hint]
    args = [a for a in get_args(hint) if a not in (type(None), Ellipsis)]
    inner = _arrow(args[0])
    return pa.list_(inner) if getattr(hint, "__origin__", None) is tuple else inner


def frame(row: type, rows: Sequence[Any], kind: Kind) -> Any:
    """Rows as a data frame: one column a field, types kept also where there is no row.

    Raises:
        ConfigError: The kind is unknown, or its package is not installed.
    """
    if kind not in get_args(Kind):
        raise ConfigError(f"there is no data frame {kind!r}; choose pandas, polars or arrow")
    kinds = columns(row)
    table = pa.table(
        [pa.array([_plain(getattr(r, n)) for r in rows], t) for n, t in kinds.items()],
        names=list(kinds),
    )
    if kind == "arrow":
        return table
    try:
        package = import_module(kind)  # pyarrow's own message would be about itself
    except ImportError:
        raise ConfigError(
            f"{kind} is not installed: `pip install {kind}`, or take to_df('arrow')"
        ) from None
    return package.from_arrow(table) if kind == "polars" else table.to_pandas()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
