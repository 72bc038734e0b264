"""Read the warehouse: SQL by name or by text, its schema and its checks.

Contract: parameters are bound, never pasted into SQL; results are Arrow tables; everything that
goes wrong is a `WarehouseError` in one sentence. Named queries and checks are files of
`warehouse/queries` and `warehouse/checks`, so that they can be read, copied and changed; their
leading comments say what they do. Use it on a connection of `warehouse.open_reader`, which cannot
write. It knows nothing about terminals.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

from tracelab.core.errors import QueryError, WarehouseError
from tracelab.core.study import STUDIES
from tracelab.store.connect import sql_dir
from tracelab.store.reading import read

SAMPLE_ROWS = 5
"""Violating rows a check shows."""

_PARAM = re.compile(r"-- param (?P<name>\w+): (?P<help>.*?)(?: \(default (?P<default>[^()]*)\))?$")


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a named query; `default` is meaningful unless it is `required`."""

    name: str
    help: str
    required: bool
    default: str | None


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """A file of `warehouse/queries`."""

    name: str
    description: str
    params: tuple[Param, ...]
    sql: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found: how many rows violate it, and the first of them."""

    name: str
    description: str
    violations: int
    sample_rows: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """A column of a table or view; `nullable` is None for a view's, which DuckDB cannot tell."""

    name: str
    type: str
    nullable: bool | None
    comment: str


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table or view: its grain in `comment`, its primary key (empty for views), its columns."""

    name: str
    kind: Literal["table", "view"]
    comment: str
    key: tuple[str, ...]
    columns: tuple[ColumnInfo, ...]


def named_queries() -> dict[str, NamedQuery]:
    """Return the queries that `query` knows by name."""
    found = {}
    for file in sorted((sql_dir() / "queries").glob("*.sql")):
        comments, sql = _header(file)
        params = []
        for line in comments[1:]:
            match = _PARAM.match(line)
            if match is None:
                raise WarehouseError(f"{file.name}: cannot read the header line {line!r}")
            default = match["default"]
            params.append(
                Param(
                    name=match["name"],
                    help=match["help"],
                    required=default is None,
                    default=None if default == "none" else default,
                )
            )
        description = comments[0].removeprefix("-- ")
        found[file.stem] = NamedQuery(file.stem, description, tuple(params), sql)
    return found


def query(
    con: DuckDBPyConnection,
    sql_or_name: str,
    params: Mapping[str, Any] | None = None,
    *,
    timeout_s: float | None = None,
) -> pa.Table:
    """Run a named query, or SQL, with bound parameters (`$name`).

    Args:
        con: An open reader.
        sql_or_name: A name that `named_queries` has, or SQL of SELECT kind; of several
            statements, the last one's result is returned.
        params: Values by parameter name; text is converted where the query expects a number.
        timeout_s: Stop after this long, in seconds.

    Returns:
        The whole result. 128-bit integers, which sums are, come as 64-bit ones where they fit.

    Raises:
        QueryError: Unknown name, missing or unknown parameter, a statement that does more than
            read, more memory or time than it may take, or whatever DuckDB refuses.
        KeyboardInterrupt: It was interrupted.
    """
    sql, values = sql_or_name, dict(params or {})
    if re.fullmatch(r"\s*[\w-]*\s*", sql_or_name):
        sql, values = _named(sql_or_name.strip(), values)
        _known_run(con, values.get("run"))
    try:
        found = read(con, sql, values, timeout_s)
    except duckdb.Error as error:
        raise QueryError(_sentence(error)) from error
    if found is None:  # a comment
        return pa.table({})
    table, types = found
    for i, data_type in enumerate(types):
        if data_type == "HUGEINT":
            with suppress(pa.ArrowInvalid):  # it does need 128 bits
                name = table.column_names[i]
                table = table.set_column(i, name, table.column(i).cast(pa.int64()))
    return table


def check(con: DuckDBPyConnection) -> list[CheckResult]:
    """Run every check, by name; one without violations is passed."""
    checks = [(f.stem, *_header(f)) for f in (sql_dir() / "checks").glob("*.sql")]
    results = []
    for name, comments, sql in sorted([*checks, *metric_checks()]):
        rows = query(con, sql)
        description = " ".join(line.removeprefix("-- ") for line in comments)
        sample = tuple(rows.slice(0, SAMPLE_ROWS).to_pylist())
        results.append(CheckResult(name, description, rows.num_rows, sample))
    return results


def metric_checks() -> list[tuple[str, list[str], str]]:
    """Checks made from what studies declare about their metrics: name, comments, SQL."""
    rows = [
        f"('{study}', '{m.name}', {_number(m.lo)}, {_number(m.hi)})"
        for study, plugin in STUDIES.items()
        for m in plugin.metrics
    ]
    declared = (
        f"WITH declared(study, metric, least_value, greatest_value) AS (VALUES {', '.join(rows)}), "
        "numbers AS (SELECT run_id, trace_id, method, metric, value, lo, hi FROM scores UNION ALL "
        "BY NAME SELECT run_id, trace_id, method, metric, value, lo, hi FROM links) "
        "SELECT n.* FROM numbers AS n INNER JOIN runs AS r USING (run_id) "
    )
    same = "d.study = r.study AND d.metric = split_part(n.metric, ':', 1)"
    known = (
        f"r.study IN (SELECT study FROM declared) AND NOT EXISTS (FROM declared AS d WHERE {same})"
    )
    outside = (
        f"EXISTS (FROM declared AS d WHERE {same} AND "
        "(least(n.value, n.lo) < d.least_value - 1e-9 OR "
        "greatest(n.value, n.hi) > d.greatest_value + 1e-9))"
    )
    finite = " AND ".join(f"isfinite(coalesce(n.{c}, 0))" for c in ("value", "lo", "hi"))
    return [
        (
            "metrics_bounded",
            ["-- Numbers and their intervals lie within the bounds that their metric declares."],
            f"{declared} WHERE {finite} AND {outside}",
        ),
        (
            "metrics_declared",
            ["-- Every number is of a metric that its study declares."],
            f"{declared} WHERE {known}",
        ),
    ]


def _number(bound: float | None) -> str:
    return "NULL::DOUBLE" if bound is None else f"{float(bound)!r}::DOUBLE"


def schema(con: DuckDBPyConnection) -> list[TableInfo]:
    """Describe every table, then every view, by name."""
    keys = {
        table: tuple(columns)
        for table, columns in con.execute(
            "SELECT table_name, constraint_column_names FROM duckdb_constraints() "
            "WHERE constraint_type = 'PRIMARY KEY'"
        ).fetchall()
    }
    columns: dict[str, list[ColumnInfo]] = {}
    for table, name, data_type, nullable, comment in con.execute(
        "SELECT table_name, column_name, data_type, is_nullable, comment FROM duckdb_columns() "
        "WHERE NOT internal ORDER BY column_index"
    ).fetchall():
        known = nullable if table in keys else None
        columns.setdefault(table, []).append(ColumnInfo(name, data_type, known, comment or ""))
    found = con.execute(
        "SELECT table_name, 'table', comment FROM ("
        "FROM duckdb_tables() WHERE NOT internal AND NOT temporary ORDER BY table_name) "
        "UNION ALL SELECT view_name, 'view', comment FROM ("
        "FROM duckdb_views() WHERE NOT internal AND NOT temporary ORDER BY view_name)"
    ).fetchall()
    return [
        TableInfo(name, kind, comment or "", keys.get(name, ()), tuple(columns[name]))
        for name, kind, comment in found
    ]


def schema_markdown(tables: list[TableInfo]) -> str:
    """Write the schema as the generated part of `warehouse/README.md`."""
    parts = []
    for table in tables:
        key = f"\n\nKey: ({', '.join(table.key)})." if table.key else ""
        rows = "\n".join(
            f"| `{c.name}` | {c.type}{' NOT NULL' if c.nullable is False else ''} | {c.comment} |"
            for c in table.columns
        )
        parts.append(
            f"### `{table.name}` ({table.kind})\n\n{table.comment}{key}\n\n"
            f"| column | type | meaning |\n|---|---|---|\n{rows}\n"
        )
    return "\n".join(parts)


def _named(name: str, params: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Look up a named query and complete its parameters."""
    queries = named_queries()
    if name not in queries:
        close = difflib.get_close_matches(name, queries, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(queries)}."
        raise QueryError(f"there is no query named {name!r}: {hint}")
    found = queries[name]
    known = {p.name: p for p in found.params}
    if unknown := sorted(params.keys() - known):
        have = ", ".join(known) or "none"
        raise QueryError(f"query {name} has no parameter {unknown[0]!r}; it has {have}")
    if missing := [p for p in found.params if p.required and p.name not in params]:
        raise QueryError(f"query {name} needs {missing[0].name}: {missing[0].help}")
    return found.sql, {p.name: params.get(p.name, p.default) for p in found.params}


def _known_run(con: DuckDBPyConnection, run: object) -> None:
    """Refuse a run that is not there: no rows would look like an answer."""
    if run is None:
        return
    names = con.execute("SELECT run_id, name FROM runs ORDER BY started_at DESC").fetchall()
    if str(run) not in {n for pair in names for n in pair}:
        have = ", ".join(str(pair[1]) for pair in names[:8]) or "none"
        raise QueryError(f"there is no run {str(run)!r}; there are: {have}")


def _header(file: Path) -> tuple[list[str], str]:
    """Return the leading comment lines of an SQL file and its whole text."""
    sql = file.read_text(encoding="utf-8")
    comments = []
    for line in sql.splitlines():
        if not line.startswith("-- "):
            break
        comments.append(line)
    return comments, sql


def _sentence(error: duckdb.Error) -> str:
    """DuckDB's message on one line, with its suggestion and without the picture of the SQL."""
    said = str(error).split("\nLINE ")[0]
    return " ".join(said.split())
