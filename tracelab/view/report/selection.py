"""Which traces a report shows: names of runs and traces into rows of the warehouse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from duckdb import DuckDBPyConnection

from tracelab.core.errors import QueryError

MAX_TRACES = 200
"""Traces that a report shows unless it is told otherwise."""

_LEAST_PREFIX = 6  # characters of a trace id that may stand for it

_ORDER = """
SELECT t.run_id, t.trace_id, any_value(t.trace_name), any_value(t.success)
FROM trace_messages AS t
LEFT JOIN (
    SELECT
        run_id, trace_id,
        coalesce(
            max(abs(value)) FILTER (method = 'resample-pooled'),
            max(abs(value)) FILTER (method = 'resample'),
            max(abs(value))
        ) AS largest
    FROM anchors WHERE status = 'ok' GROUP BY run_id, trace_id
) AS a ON t.run_id = a.run_id AND t.trace_id = a.trace_id
WHERE t.run_id = $run
GROUP BY t.run_id, t.trace_id
ORDER BY any_value(a.largest) DESC NULLS LAST, any_value(t.trace_name), t.trace_id
"""

_TRACE = """
SELECT t.run_id, t.trace_id, t.trace_name, t.success
FROM trace_messages AS t JOIN run_provenance AS r USING (run_id)
WHERE (t.trace_id = $name OR t.trace_name = $name
       OR ($prefix AND starts_with(t.trace_id, $name)))
  AND ($run IS NULL OR $run IN (r.run_id, r.name))
ORDER BY (t.trace_id = $name) DESC, (t.trace_name = $name) DESC, r.started_at DESC, t.turn_index
"""

_RUN = """
SELECT run_id FROM run_provenance WHERE $name IS NULL OR $name IN (run_id, name)
ORDER BY started_at DESC, run_id LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class TraceKey:
    """A trace of a run. `slug` names it in a link: its short id, with the run where it has to."""

    run_id: str
    trace_id: str
    name: str
    success: bool | None
    slug: str = ""


@dataclass(frozen=True, slots=True)
class Selected:
    """What was asked for.

    Attributes:
        runs: Every run that has a trace in it, or was asked for, in that order.
        traces: At most as many as were allowed, those that one sentence changed most first
            within a run.
        left_out: Traces of the asked runs that were one too many.
        title: What a person would call the selection.
    """

    runs: tuple[str, ...]
    traces: tuple[TraceKey, ...]
    left_out: int
    title: str


def find_run(con: DuckDBPyConnection, name: str | None) -> str | None:
    """The id of a run by its id or name, the latest of several; the latest of all for None."""
    found = con.execute(_RUN, {"name": name}).fetchone()
    return None if found is None else str(found[0])


def find_trace(con: DuckDBPyConnection, name: str, run: str | None = None) -> TraceKey | None:
    """A trace by id, the beginning of its id, or name, in the latest run that has it.

    Args:
        con: An open reader.
        name: What it is called.
        run: Id or name of the run to look in; None is any.

    Raises:
        QueryError: The beginning of an id fits several traces.
    """
    params = {"name": name, "prefix": len(name) >= _LEAST_PREFIX, "run": run}
    found = con.execute(_TRACE, params).fetchall()
    if not found:
        return None
    run_id, trace_id, trace_name, success = found[0]
    exact = name in (trace_id, trace_name)
    if not exact and len({row[1] for row in found}) > 1:
        raise QueryError(f"several traces have an id that begins with {name!r}: give more of it")
    return TraceKey(run_id, trace_id, trace_name, success)


def select(
    con: DuckDBPyConnection, names: Sequence[str] = (), *, max_traces: int = MAX_TRACES
) -> Selected:
    """Resolve names of runs and traces.

    Args:
        con: An open reader.
        names: Ids or names of runs, ids, beginnings of ids or names of traces; a name that both a
            run and a trace have is the run. None: the latest run.
        max_traces: How many traces to keep.

    Raises:
        QueryError: There is nothing of that name, or no run at all.
    """
    runs: dict[str, None] = {}
    traces: dict[tuple[str, str], TraceKey] = {}
    asked: Sequence[str | None] = names or [None]
    for name in asked:
        run = find_run(con, name)
        if run is not None:
            runs[run] = None
            rows = [TraceKey(*row) for row in con.execute(_ORDER, {"run": run}).fetchall()]
        elif name is None:
            raise QueryError("the warehouse has no runs yet: `tracelab demo` makes one")
        else:
            trace = find_trace(con, name)
            if trace is None:
                raise QueryError(
                    f"there is no run and no trace {name!r}: `tracelab query runs` and "
                    "`tracelab query traces` list them"
                )
            rows = [trace]
        for row in rows:
            traces.setdefault((row.run_id, row.trace_id), row)
    kept = list(traces.values())[:max_traces]
    for trace in kept:
        runs.setdefault(trace.run_id, None)
    title = " · ".join(names) if names else next(iter(runs))
    return Selected(tuple(runs), _slugs(kept), len(traces) - len(kept), title)


def _slugs(traces: list[TraceKey]) -> tuple[TraceKey, ...]:
    """Give each trace the shortest name that no other has: 12 characters are ample for an id."""
    short = [t.trace_id[:12] for t in traces]
    return tuple(
        TraceKey(
            t.run_id, t.trace_id, t.name, t.success,
            s if short.count(s) == 1 else f"{t.run_id}:{t.trace_id}",
        )
        for t, s in zip(traces, short, strict=True)
    )  # fmt: skip


def remember(con: DuckDBPyConnection, traces: Sequence[TraceKey]) -> None:
    """Put the selection into the temporary table `selected` (position, run_id, trace_id)."""
    con.execute(
        "CREATE OR REPLACE TEMP TABLE selected (position INTEGER, run_id VARCHAR, trace_id VARCHAR)"
    )
    if traces:
        con.execute(
            "INSERT INTO selected SELECT unnest($i), unnest($r), unnest($t)",
            {
                "i": list(range(len(traces))),
                "r": [t.run_id for t in traces],
                "t": [t.trace_id for t in traces],
            },
        )
