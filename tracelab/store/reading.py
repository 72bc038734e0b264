"""Somebody's SQL on an open reader: only statements that read, for as long as somebody waits.

Contract: what runs here is of SELECT kind by DuckDB's own parser, never by its text: every
statement, and every query inside it (DuckDB lets a WITH insert, delete and COPY). Table functions
are those of a list that are known to compute and to describe the database. Behind this stands
the wall of `connect.open_reader`, which holds also where this list is wrong: the file is open for
reading, no other file can be opened, no setting can be changed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

from tracelab.core.errors import QueryError
from tracelab.store.connect import DAMAGED, memory_bytes

_QUERY_NODES = ("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE")
"""DuckDB's kinds of query that only read; the others insert, update, delete, merge or copy."""

TABLE_FUNCTIONS = frozenset(
    {
        *("range", "generate_series", "unnest", "repeat", "repeat_row"),
        *("json_each", "json_tree", "histogram", "histogram_values"),
        *("pragma_table_info", "pragma_show", "pragma_version", "pragma_database_size"),
        *("pragma_collations", "pragma_storage_info", "pg_timezone_names", "icu_calendar_names"),
        *("duckdb_columns", "duckdb_constraints", "duckdb_databases", "duckdb_dependencies"),
        *("duckdb_functions", "duckdb_indexes", "duckdb_keywords", "duckdb_memory"),
        *("duckdb_schemas", "duckdb_settings", "duckdb_tables", "duckdb_types", "duckdb_views"),
    }
)
"""Table functions that a statement may name: none reads or writes a file, or runs other SQL."""

_INSIDE = """
SELECT DISTINCT CASE WHEN value ->> '$.type' = 'TABLE_FUNCTION' THEN 'function' ELSE 'query' END,
    lower(CASE
        WHEN value ->> '$.type' = 'TABLE_FUNCTION' THEN value ->> '$.function.function_name'
        ELSE value ->> '$.type'
    END)
FROM json_tree(json_serialize_sql($sql))
WHERE type = 'OBJECT'
    AND (json_exists(value, '$.cte_map') OR value ->> '$.type' = 'TABLE_FUNCTION')
"""
"""Kinds of every query, and names of every table function, in a statement's parse tree."""

_EXPLAIN = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*explain\b", re.IGNORECASE | re.DOTALL)

_ONLY = "the warehouse is open read-only, so only SELECT is allowed here, and"
_OTHER = {
    "EXPLAIN": "this is EXPLAIN of something else; plain EXPLAIN SELECT … is allowed",
    "MULTI": "this makes a type for its columns: name them, FROM (PIVOT … ON column IN (…))",
    "PRAGMA": "this is PRAGMA: instead of table_info, say DESCRIBE, and `from duckdb_settings()`",
}
"""What to say about a kind of statement, where there is more to say than its name."""

STOP_S = 5.0
"""How long a stopped statement is waited for, in seconds."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One statement that only reads, and the names of its parameters."""

    sql: str
    names: frozenset[str]


def require_reading(con: DuckDBPyConnection, sql: str) -> list[Reading]:
    """Return the statements of a text, of which each only reads.

    Args:
        con: An open reader.
        sql: One or more statements.

    Raises:
        QueryError: One is of another kind, or names a table function that is not on the list.
        duckdb.Error: It is not SQL.
    """
    statements = []
    for statement in con.extract_statements(sql):
        text, explain, kind = statement.query, "", _kind(statement)
        if kind == "EXPLAIN" and (prefix := _EXPLAIN.match(text)):
            # What is explained must be a SELECT by itself: EXPLAIN ANALYZE would run a COPY.
            text, explain = text[prefix.end() :], "EXPLAIN "
            with suppress(duckdb.ParserException):
                kind = ", ".join(_kind(s) for s in con.extract_statements(text))
        if kind != "SELECT":
            raise QueryError(f"{_ONLY} {_OTHER.get(kind, f'this is {kind}')}")
        _require_inside(con, text)
        statements.append(Reading(explain + text, frozenset(statement.named_parameters)))
    return statements


def _kind(statement: duckdb.Statement) -> str:
    try:
        return statement.type.name.replace("_", " ")
    except ValueError:  # one that the Python package has no name for
        return "another statement"


def _require_inside(con: DuckDBPyConnection, text: str) -> None:
    with con.cursor() as other:
        inside = other.execute(_INSIDE, {"sql": text}).fetchall()
    for kind, name in inside:
        if kind == "query" and name.upper() not in _QUERY_NODES:
            what = name.removesuffix("_node").removesuffix("_query").replace("_", " ").upper()
            raise QueryError(f"{_ONLY} there is {what} in it")
        if kind == "function" and name not in TABLE_FUNCTIONS:
            raise QueryError(
                f"the table function {name} is not allowed here: files cannot be read, and SQL "
                "inside of text is not run"
            )
    if not any(kind == "query" for kind, _ in inside):
        raise QueryError(f"{_ONLY} this could not be understood as one")


def read(
    con: DuckDBPyConnection,
    sql: str,
    params: Mapping[str, Any] | None = None,
    timeout_s: float | None = None,
) -> tuple[pa.Table, list[str]] | None:
    """Run statements that only read; return the last one's rows and its columns' DuckDB types.

    The statements run in a thread of their own, so that Ctrl-C and the deadline reach them.

    Args:
        con: An open reader.
        sql: One or more statements; None is returned where there is none.
        params: Bound to each by name.
        timeout_s: Stop after this long, in seconds; None waits for ever.

    Raises:
        QueryError: It may not run, fails, took too long, or its result does not fit in memory.
        KeyboardInterrupt: It was interrupted.
        duckdb.Error: It is not SQL.
    """
    statements = require_reading(con, sql)
    if not statements:
        return None
    cursor, values = con.cursor(), dict(params or {})
    done = threading.Event()
    said: list[BaseException] = []
    got: list[tuple[pa.Table, list[str]]] = []

    def work() -> None:
        try:
            for before in statements[:-1]:
                bound = {k: v for k, v in values.items() if k in before.names}
                cursor.sql(before.sql, params=bound or None).limit(1).fetchall()
            relation = cursor.sql(statements[-1].sql, params=values or None)
            got.append((_fetch(relation), [str(t) for t in relation.types]))
        except BaseException as error:  # told to whoever waits
            said.append(error)
        finally:
            done.set()

    threading.Thread(target=work, daemon=True).start()
    try:
        # Not `Thread.join`, which takes an interrupted thread for one that has ended.
        if not done.wait(timeout_s):
            _stop(cursor, done)
            raise QueryError(f"stopped after {timeout_s:g} s, which was the time limit")
    except KeyboardInterrupt:
        _stop(cursor, done)
        raise
    if said:
        raise _explained(said[0])
    cursor.close()
    return got[0]


def _explained(error: BaseException) -> BaseException:
    # What goes wrong while rows are fetched comes through Arrow, as an error of its own.
    if not isinstance(error, duckdb.Error | pa.ArrowException | OSError):
        return error
    if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory Error" in str(error):
        return QueryError(_too_large())
    return QueryError(sentence(error))


def sentence(error: BaseException) -> str:
    """DuckDB's message on one line, with its suggestion and without the picture of the SQL."""
    said = " ".join(str(error).split("\nLINE ")[0].split())
    if said.startswith("IO Error") and any(hint in said for hint in DAMAGED):
        said += (
            "; the database is damaged: move it away, and `tracelab rebuild` makes it again from "
            "the journals"
        )
    return said


def _stop(cursor: DuckDBPyConnection, done: threading.Event) -> None:
    """Interrupt a statement; a single call of a slow function goes on, and is left behind."""
    cursor.interrupt()
    if not done.wait(STOP_S):
        _left.append(done)


_left: list[threading.Event] = []


def left_behind() -> bool:
    """Whether a statement that was told to stop still runs: nobody can wait for it."""
    return not all(done.is_set() for done in _left)


def _fetch(relation: Any) -> pa.Table:
    """All rows, as long as they fit in the memory that a query may use."""
    reader = relation.to_arrow_reader()
    batches, size = [], 0
    for batch in reader:
        size += batch.nbytes
        if size > memory_bytes():
            raise QueryError(_too_large())
        batches.append(batch)
    return pa.Table.from_batches(batches, reader.schema)


def _too_large() -> str:
    return (
        f"this needs more than the {memory_bytes() / 2**30:.1f} GiB of memory that a query may "
        "use, and a reader writes no temporary file: select less, add LIMIT, or query a snapshot "
        "(`tracelab export FILE --format duckdb`) with DuckDB itself"
    )
