"""Read the warehouse: SQL by name or by text, its schema and its checks.

Contract: parameters are bound, never pasted into SQL; results are Arrow tables; everything that
goes wrong is a `WarehouseError` in one sentence. Named queries and checks are files of
`warehouse/queries` and `warehouse/checks`, so that they can be read, copied and changed; their
leading comments say what they do. Use it on a connection of `warehouse.open_reader`, which cannot
write. It knows nothing about terminals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

from tracelab.core.errors import QueryError
from tracelab.core.study import STUDIES
from tracelab.store.connect import sql_dir
from tracelab.store.find import Say, find_run, instead, one_trace, quiet, traces_called
from tracelab.store.named import bind, called, header
from tracelab.store.reading import read, sentence

SAMPLE_ROWS = 5
"""Violating rows a check shows."""


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


def query(
    con: DuckDBPyConnection,
    sql_or_name: str,
    params: Mapping[str, Any] | None = None,
    say: Say = quiet,
    *,
    timeout_s: float | None = None,
) -> pa.Table:
    """Run a named query, or SQL, with bound parameters (`$name`).

    Args:
        con: An open reader.
        sql_or_name: A name that `named_queries` has, or SQL of SELECT kind; of several
            statements, the last one's result is returned.
        params: Values by parameter name; text is converted where the query expects a number. In
            a named query, runs and traces go by id, the beginning of one, or name.
        say: Told what a reader must know besides, such as which runs a named query passes over.
        timeout_s: Stop after this long, in seconds.

    Returns:
        The whole result. 128-bit integers, which sums are, come as 64-bit ones where they fit.

    Raises:
        QueryError: Unknown name, missing or unknown parameter or value of one, a statement that
            does more than read, more memory or time than it may take, or whatever DuckDB refuses.
        KeyboardInterrupt: It was interrupted.
    """
    sql, values = sql_or_name, dict(params or {})
    if _is_name(sql_or_name):
        named = called(sql_or_name.strip())
        sql, values = named.sql, bind(con, named, values, say)
    else:
        _refuse_mismatch(con, sql, values)
    try:
        found = read(con, sql, values, timeout_s)
    except duckdb.Error as error:
        raise QueryError(sentence(error)) from error
    if found is None:  # a comment
        return pa.table({})
    table, types = found
    for i, data_type in enumerate(types):
        if data_type == "HUGEINT":
            with suppress(pa.ArrowInvalid):  # it does need 128 bits
                name = table.column_names[i]
                table = table.set_column(i, name, table.column(i).cast(pa.int64()))
    return table


def ask(
    con: DuckDBPyConnection,
    sql_or_name: str,
    params: Mapping[str, Any] | None = None,
    say: Say = quiet,
    *,
    timeout_s: float | None = None,
) -> pa.Table:
    """As `query`, for what people type: in SQL, too, the beginning of an id will do.

    `$run` and `$trace` of their SQL must be an id, the beginning of one, which becomes the id, or
    a name, which stays one. All other parameters are theirs.
    """
    values = dict(params or {})
    if not _is_name(sql_or_name):
        run, trace = values.get("run"), values.get("trace")
        run_id = None if run is None else find_run(con, str(run))
        if run_id is not None and run_id.startswith(str(run)):
            values["run"] = run_id
        if trace is not None:
            begun = [t for _, t, _ in traces_called(con, str(trace), run_id)]
            if begun[0].startswith(str(trace)):
                values["trace"] = one_trace(str(trace), begun)
    return query(con, sql_or_name, values, say, timeout_s=timeout_s)


def check(con: DuckDBPyConnection) -> list[CheckResult]:
    """Run every check, by name; one without violations is passed."""
    checks = [(f.stem, *header(f)) for f in (sql_dir() / "checks").glob("*.sql")]
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
        f"('{study}', '{m.name}', '{m.method}', {_number(m.lo)}, {_number(m.hi)}, {m.least})"
        for study, plugin in STUDIES.items()
        for m in plugin.metrics
    ]
    declared = (
        "WITH declared(study, metric, method, least_value, greatest_value, least) AS "
        f"(VALUES {', '.join(rows)}), numbers AS (SELECT run_id, trace_id, method, metric, value, "
        "lo, hi, n, status FROM scores UNION ALL BY NAME SELECT run_id, trace_id, method, metric, "
        "value, lo, hi, n, status FROM links) "
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
    # What no study declares, and tests of scores, need one observation.
    least = (
        f"coalesce((SELECT min(d.least) FROM declared AS d WHERE {same} AND "
        "d.method IN ('', n.method)), 1)"
    )
    tests = (
        "SELECT run_id, trace_id, method, metric, value, NULL AS lo, NULL AS hi, n, status "
        "FROM faithfulness AS f WHERE f.status = 'ok' AND f.n < 1"
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
        (
            "scores_observed",
            [
                "-- Every number that is ok rests on at least as many graded observations as its "
                "metric declares; a prior is no measurement."
            ],
            f"{declared} WHERE n.status = 'ok' AND n.n < {least} UNION ALL {tests}",
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


def _is_name(sql_or_name: str) -> bool:
    return re.fullmatch(r"\s*[\w-]*\s*", sql_or_name) is not None


def _refuse_mismatch(con: DuckDBPyConnection, sql: str, values: Mapping[str, Any]) -> None:
    """Refuse parameters that SQL does not have, and SQL whose parameters are not given."""
    try:
        known = {p for s in con.extract_statements(sql) for p in s.named_parameters}
    except duckdb.Error:
        return  # what is wrong with it is said when it is run
    for name in sorted(values.keys() - known):
        near = instead(name, [f"${k}" for k in sorted(known)])
        raise QueryError(f"the SQL has no parameter ${name}{near}")
    for name in sorted(known - values.keys()):
        raise QueryError(f"the SQL needs a value for ${name}, such as -p {name}=VALUE")
