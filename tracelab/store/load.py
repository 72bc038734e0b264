"""Fill the warehouse: rows in, bulk, atomic and idempotent.

Contract: loading the same rows twice changes nothing; loading better news replaces what it
supersedes (a retried failure, a run that went on, a re-estimated score). Each `load_*` is one
transaction; inside `warehouse.transaction` several are one. Rows go through Arrow, with types read
from the live schema, so the SQL stays the only place that defines them. It knows nothing about
where rows come from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

from tracelab.core.episode_rows import episode_rows
from tracelab.core.errors import WarehouseError
from tracelab.core.finding import Link, Score, Verdict
from tracelab.core.seam import Row
from tracelab.core.secrets import redacted_json
from tracelab.core.trace import Trace
from tracelab.store.connect import transaction
from tracelab.store.rows import LoadedTrace, RejectRow, RunRow, SessionRow
from tracelab.store.values import to_arrow

EXCERPT_CHARS = 500
"""How much of a rejected record is kept."""

_UNIT_COLUMNS = {
    "unit_kind": "kind",
    "unit_index": "index",
    "start_char": "start",
    "end_char": "end",
    "start_token": "token_start",
    "end_token": "token_end",
    "text": "text",
    "role": "role",
}

Columns = dict[str, list[Any]]


def load_run(con: DuckDBPyConnection, run: RunRow) -> None:
    """Load a run; the newest wins."""
    _load(con, "runs", redacted_json(_columns([run])), update="true")


def load_session(con: DuckDBPyConnection, run_id: str, session: SessionRow) -> None:
    """Load one invocation that worked on a run; the newest wins."""
    _load(con, "sessions", {"run_id": [run_id], **_columns([session])}, update="true")


def load_traces(con: DuckDBPyConnection, run_id: str, traces: Sequence[LoadedTrace]) -> None:
    """Load traces with their turns and units; those already there stay as they are.

    One whose outcome is not known takes it from the same trace where that has it.
    """
    there = con.execute("SELECT trace_id FROM traces WHERE run_id = $run_id", {"run_id": run_id})
    known = {trace_id for (trace_id,) in there.fetchall()}
    # Whole traces or none: the units of two segmenters must not mix.
    first: dict[str, LoadedTrace] = {}
    for t in traces:
        trace = t.tokens.trace
        if trace.trace_id not in first or (
            trace.outcome_known and not first[trace.trace_id].tokens.trace.outcome_known
        ):
            first[trace.trace_id] = t
    told = [
        t.tokens.trace
        for trace_id, t in first.items()
        if trace_id in known and t.tokens.trace.outcome_known
    ]
    if told:
        _tell_outcomes(con, run_id, told)
    traces = [t for trace_id, t in first.items() if trace_id not in known]
    tokens = [t.tokens for t in traces]
    ids = [t.trace.trace_id for t in tokens]
    plain = ("name", "source", "model", "rendering", "answer", "reference", "success")
    columns = {name: [getattr(t.trace, name) for t in tokens] for name in plain}
    columns["extra"] = [_extra(t.trace) for t in tokens]
    columns["trace_id"] = ids
    columns["off_policy"] = [t.off_policy for t in traces]
    columns["n_prompt_tokens"] = [len(t.prompt_ids) for t in tokens]
    columns["n_response_tokens"] = [len(t.response_ids) for t in tokens]
    columns["n_units"] = [len(t.units) for t in traces]
    turns = [
        (i, n, turn)
        for i, t in zip(ids, tokens, strict=True)
        for n, turn in enumerate(t.trace.turns)
    ]
    units = [(i, t.segmenter, unit) for i, t in zip(ids, traces, strict=True) for unit in t.units]
    with transaction(con):
        _load(con, "traces", {"run_id": [run_id] * len(ids), **columns})
        _load(
            con,
            "turns",
            {
                "run_id": [run_id] * len(turns),
                "trace_id": [i for i, _, _ in turns],
                "turn_index": [n for _, n, _ in turns],
                **{c: [getattr(t, c) for _, _, t in turns] for c in ("role", "name", "text")},
            },
        )
        _load(
            con,
            "units",
            {
                "run_id": [run_id] * len(units),
                "trace_id": [i for i, _, _ in units],
                "segmenter": [s for _, s, _ in units],
                "labeller": ["rules" if t.categories else None for t in traces for _ in t.units],
                "category": [c for t in traces for c in t.categories or [None] * len(t.units)],
                **{c: [getattr(u, a) for _, _, u in units] for c, a in _UNIT_COLUMNS.items()},
            },
        )
        _runs_of_agents(con, run_id, traces)


def _tell_outcomes(con: DuckDBPyConnection, run_id: str, told: Sequence[Trace]) -> None:
    """Put outcomes into traces that are there and have none."""
    ids = con.execute(
        "SELECT trace_id FROM traces WHERE run_id = $run_id AND list_contains($ids, trace_id) "
        "AND success IS NULL AND json_extract_string(extra, '$.episode.reward') IS NULL",
        {"run_id": run_id, "ids": [t.trace_id for t in told]},
    ).fetchall()
    without = {trace_id for (trace_id,) in ids}
    for t in told:
        if t.trace_id in without:
            con.execute(
                "UPDATE traces SET success = $success, answer = $answer, reference = $reference, "
                "source = $source, extra = $extra WHERE run_id = $run_id AND trace_id = $id",
                {"run_id": run_id, "id": t.trace_id, "success": t.success, "answer": t.answer,
                 "reference": t.reference, "source": t.source, "extra": json.dumps(_extra(t))},
            )  # fmt: skip


def _runs_of_agents(con: DuckDBPyConnection, run_id: str, traces: Sequence[LoadedTrace]) -> None:
    load_rows(con, run_id, (row for t in traces for row in episode_rows(t.tokens.trace)))


def _extra(trace: Trace) -> dict[str, Any]:
    """All that has no column of its own; an agent's run is in it whole."""
    run = {} if trace.episode is None else {"episode": trace.episode.to_json()}
    return {**trace.extra, **run}


@dataclass(frozen=True, slots=True)
class _Policy:
    """What becomes of a row whose key is there already, or comes twice; see `_load`."""

    update: str = "true"
    best: str | None = None


_POLICIES = {
    # The larger number of replicates stays.
    "items": _Policy("excluded.replicates > items.replicates", "replicates DESC, start_boundary"),
    # A row replaces one that failed or is ungraded only by doing better.
    "masked_answers": _Policy(
        "(masked_answers.error IS NOT NULL AND excluded.error IS NULL)"
        " OR (masked_answers.worth IS NULL AND excluded.worth IS NOT NULL)",
        "error IS NOT NULL, worth IS NULL",
    ),
    "rollouts": _Policy(
        "(rollouts.error IS NOT NULL AND excluded.error IS NULL)"
        " OR (rollouts.reward IS NULL AND excluded.reward IS NOT NULL)",
        "error IS NOT NULL, reward IS NULL",
    ),
}
_NEWEST = _Policy()


def load_rows(con: DuckDBPyConnection, run_id: str, rows: Iterable[Row]) -> None:
    """Load rows of any tables; where a key is there already, the newest wins unless said else."""
    by_class: dict[type[Any], list[Any]] = {}
    for row in rows:
        by_class.setdefault(type(row), []).append(row)
    with transaction(con):
        for kind, mine in by_class.items():
            columns = {"run_id": [run_id] * len(mine), **_columns(mine)}
            policy = _POLICIES.get(kind.table, _NEWEST)
            _load(con, kind.table, columns, update=policy.update, best=policy.best)
            if kind.table == "units":
                _count_units(con, run_id, sorted({row.trace_id for row in mine}))


def _count_units(con: DuckDBPyConnection, run_id: str, traces: Sequence[str]) -> None:
    """Put the units that became known after their traces into `traces.n_units`."""
    con.execute(
        "UPDATE traces SET n_units = (SELECT count(*) FROM units AS u "
        "WHERE u.run_id = traces.run_id AND u.trace_id = traces.trace_id) "
        "WHERE run_id = $run AND list_contains($ids, trace_id)",
        {"run": run_id, "ids": list(traces)},
    )


def load_verdicts(con: DuckDBPyConnection, run_id: str, verdicts: Sequence[Verdict]) -> None:
    """Load verdicts; the newest wins."""
    columns = {"run_id": [run_id] * len(verdicts), **_columns(verdicts)}
    _load(con, "verdicts", columns, update="true")


def load_scores(
    con: DuckDBPyConnection, run_id: str, scores: Sequence[Score], *, estimator_version: str
) -> None:
    """Load scores; they replace, at once, all earlier ones of the same run, trace and method.

    Hence pass all scores of a trace and method in one call.
    """
    keys = [(s.trace_id, s.unit_kind, s.unit_index, s.method, s.metric, s.target) for s in scores]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise WarehouseError(f"an estimator gave two scores for {' '.join(map(str, twice))}")
    columns = {"run_id": [run_id] * len(scores), **_columns(scores)}
    columns["estimator_version"] = [estimator_version] * len(scores)
    place = ("unit_kind", "unit_index", "metric", "target")
    _load(con, "scores", columns, update="true", before=_superseded("scores", place))


def load_links(
    con: DuckDBPyConnection, run_id: str, links: Sequence[Link], *, estimator_version: str
) -> None:
    """Load links; they replace earlier ones of the same run, trace and method."""
    columns = {"run_id": [run_id] * len(links), **_columns(links)}
    columns["estimator_version"] = [estimator_version] * len(links)
    place = ("unit_kind", "from_index", "to_index", "metric")
    _load(con, "links", columns, update="true", before=_superseded("links", place))


def _superseded(table: str, place: Sequence[str]) -> str:
    """SQL that deletes what a method said before about a trace and does not say any more.

    The other old rows are updated: deleting and inserting the same key in one transaction is what
    replaying DuckDB's log after a crash has had trouble with (duckdb#15836, duckdb#24744).
    """
    method = ("run_id", "trace_id", "method")

    def same(columns: Sequence[str]) -> str:
        ours, theirs = (", ".join(f"{t}.{c}" for c in columns) for t in ("i", "s"))
        return f"EXISTS (FROM incoming AS i WHERE ({ours}) = ({theirs}))"

    return f"DELETE FROM {table} AS s WHERE {same(method)} AND NOT {same((*method, *place))}"


def load_rejects(
    con: DuckDBPyConnection,
    run_id: str,
    rejects: Sequence[RejectRow],
    *,
    instead_of: Sequence[str] | None = (),
) -> None:
    """Load rejected input records; long excerpts are cut.

    Args:
        con: An open writer.
        run_id: The run.
        rejects: The records.
        instead_of: Files whose earlier rejects these replace; None for all files of the run.
    """
    still = {(r.file, r.line, r.reason) for r in rejects}
    there = con.execute(
        "SELECT file, line, reason FROM rejects WHERE run_id = $run_id", {"run_id": run_id}
    ).fetchall()
    gone = [
        (file, line, reason)
        for file, line, reason in there
        if (instead_of is None or file in instead_of) and (file, line, reason) not in still
    ]
    with transaction(con):
        if gone:  # only these: see `load_scores`
            con.execute(
                "DELETE FROM rejects WHERE run_id = $run_id AND (file, line, reason) IN "
                "(SELECT (g.file, g.line, g.reason) FROM (SELECT unnest($gone) AS g))",
                {
                    "run_id": run_id,
                    "gone": [{"file": f, "line": n, "reason": r} for f, n, r in gone],
                },
            )
        _load_rejects(con, run_id, rejects)


def load_readings(
    con: DuckDBPyConnection, run_id: str, rows: Sequence[Row], *, instead_of: Sequence[str]
) -> None:
    """Load rows of `readings`.

    Args:
        con: An open writer.
        run_id: The run.
        rows: What was read now.
        instead_of: Files whose earlier rows these replace.
    """
    columns: Columns = {"run_id": [run_id] * len(rows), **(_columns(rows) if rows else {})}
    gone = (
        "DELETE FROM readings WHERE run_id = $run_id AND list_contains($files, file) AND NOT "
        "list_contains($still, file || chr(0) || what || chr(0) || kind)"
    )
    still = ["\0".join(k) for k in zip(*(columns.get(c, ()) for c in _READING), strict=True)]
    with transaction(con):
        con.execute(gone, {"run_id": run_id, "files": list(instead_of), "still": still})
        _load(con, "readings", columns, update="true")


_READING = ("file", "what", "kind")


def _load_rejects(con: DuckDBPyConnection, run_id: str, rejects: Sequence[RejectRow]) -> None:
    columns = {"run_id": [run_id] * len(rejects), **_columns(rejects)}
    columns["excerpt"] = [r.excerpt[:EXCERPT_CHARS] for r in rejects]
    _load(con, "rejects", columns)


def drop_run(con: DuckDBPyConnection, run_id: str) -> None:
    """Delete every row of a run; its journal can bring them back."""
    tables = con.execute(
        "SELECT table_name FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY' "
        "AND list_contains(constraint_column_names, 'run_id')"
    ).fetchall()
    with transaction(con):
        for (table,) in tables:
            con.execute(f"DELETE FROM {table} WHERE run_id = $run_id", {"run_id": run_id})


def _load(
    con: DuckDBPyConnection,
    table: str,
    columns: Columns,
    *,
    update: str | None = None,
    best: str | None = None,
    before: str | None = None,
) -> None:
    """Insert columns into a table; rows whose key is there are left alone unless `update`.

    Args:
        con: An open writer.
        table: The table.
        columns: Values by column, all of the same length.
        update: SQL condition under which an incoming row (`excluded`) replaces the one there.
        best: SQL order in which the first of several incoming rows with one key is taken.
        before: SQL to run first, in the same transaction; it may read `incoming`.
    """
    if not any(columns.values()):
        return
    keys, types = _shape(con, table)
    incoming = pa.table({name: to_arrow(types[name], column) for name, column in columns.items()})
    sql = f"INSERT INTO {table} BY NAME SELECT * FROM incoming"
    if best is not None:
        sql += f" QUALIFY row_number() OVER (PARTITION BY {', '.join(keys)} ORDER BY {best}) = 1"
    if update is None:
        sql += " ON CONFLICT DO NOTHING"
    else:
        rest = [name for name in columns if name not in keys]
        sets = ", ".join(f"{name} = excluded.{name}" for name in rest)
        ours = ", ".join(f"{table}.{name}" for name in rest)
        theirs = ", ".join(f"excluded.{name}" for name in rest)
        # A row that says the same is not rewritten.
        sql += f" ON CONFLICT DO UPDATE SET {sets} WHERE ({update})"
        sql += f" AND row({ours}) IS DISTINCT FROM row({theirs})"
    con.register("incoming", incoming)
    try:
        with transaction(con):
            if before is not None:
                con.execute(before)
            con.execute(sql)
    finally:
        with suppress(duckdb.Error):  # inside an outer transaction that the error has aborted
            con.unregister("incoming")


def _shape(con: DuckDBPyConnection, table: str) -> tuple[list[str], dict[str, str]]:
    """Return the primary key and the type of every column."""
    keys = con.execute(
        "SELECT constraint_column_names FROM duckdb_constraints() "
        "WHERE table_name = $table AND constraint_type = 'PRIMARY KEY'",
        {"table": table},
    ).fetchall()
    types = con.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = $table",
        {"table": table},
    ).fetchall()
    return list(keys[0][0]), dict(types)


def _columns(rows: Sequence[Any]) -> Columns:
    """Turn dataclass instances of one class into columns named like their fields."""
    if not rows:
        return {}
    columns = {f.name: [getattr(row, f.name) for row in rows] for f in fields(rows[0])}
    return {
        name: [list(v) if isinstance(v, tuple) else v for v in column]
        for name, column in columns.items()
    }
