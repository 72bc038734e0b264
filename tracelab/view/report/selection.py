"""Which traces a report shows: names of runs and traces into rows of the warehouse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from duckdb import DuckDBPyConnection

from tracelab.core.errors import QueryError
from tracelab.store.find import (
    RESULTS,
    Say,
    find_run,
    find_trace,
    instead,
    latest_run,
    quiet,
    shown,
    traces_called,
)

MAX_TRACES = 200
"""Traces that a report shows unless it is told otherwise."""

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
SELECT run_id, trace_id, name, success FROM traces WHERE run_id = $run AND trace_id = $trace
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


def trace_key(
    con: DuckDBPyConnection, name: str, run: str | None = None, say: Say = quiet
) -> TraceKey:
    """A trace by id, the beginning of its id, or name.

    Args:
        con: An open reader.
        name: What it is called.
        run: What the run to look in is called; None is the latest that finished with results
            about the trace, or else the latest that has it.
        say: Told which newer runs did not finish.

    Raises:
        QueryError: There is no such run or trace, or several are called so.
    """
    if run is not None:
        run_id: str | None = find_run(con, run)
    else:
        of = {r: t for r, t, _ in traces_called(con, name)}
        run_id = latest_run(con, RESULTS, of=of, say=say) or latest_run(con, ("traces",), of=of)
    assert run_id is not None, "every run found has the trace"
    key = {"run": run_id, "trace": find_trace(con, name, run_id)}
    return TraceKey(*con.execute(_TRACE, key).fetchall()[0])


def select(
    con: DuckDBPyConnection,
    names: Sequence[str] = (),
    *,
    max_traces: int = MAX_TRACES,
    say: Say = quiet,
) -> Selected:
    """Resolve names of runs and traces.

    Args:
        con: An open reader.
        names: Ids, beginnings of ids or names, of runs and traces; what both a run and a trace are
            called is the run. None: the latest run that finished with results.
        max_traces: How many traces to keep.
        say: Told which newer runs did not finish.

    Raises:
        QueryError: Nothing is called so, or several are, or there is no run at all.
    """
    runs: dict[str, None] = {}
    traces: dict[tuple[str, str], TraceKey] = {}
    for name in names or [_latest(con, say)]:
        found = _run_or_trace(con, name, say)
        if isinstance(found, str):
            runs[found] = None
            rows = [TraceKey(*row) for row in con.execute(_ORDER, {"run": found}).fetchall()]
        else:
            rows = [found]
        for row in rows:
            traces.setdefault((row.run_id, row.trace_id), row)
    kept = list(traces.values())[:max_traces]
    for trace in kept:
        runs.setdefault(trace.run_id, None)
    title = " · ".join(names) if names else next(iter(runs))
    return Selected(tuple(runs), _slugs(kept), len(traces) - len(kept), title)


def _latest(con: DuckDBPyConnection, say: Say) -> str:
    """The latest run with results; without any, with traces; without any, at all."""
    for relations in (RESULTS, ("traces",), ("runs",)):
        if (found := latest_run(con, relations, say=say)) is not None:
            return found
    raise QueryError("the warehouse has no runs yet: `tracelab demo` makes one")


def _run_or_trace(con: DuckDBPyConnection, name: str, say: Say) -> str | TraceKey:
    """A run's id, or a trace; whole ids and names go before beginnings of ids."""
    runs = con.execute("SELECT run_id, name FROM runs").fetchall()
    if name in {n for run in runs for n in run}:
        return find_run(con, name)
    try:
        traces = traces_called(con, name)
    except QueryError:
        if any(run_id.startswith(name) for run_id, _ in runs):
            return find_run(con, name)
        known = [n for _, n in runs]
        known += [n for (n,) in con.execute("SELECT DISTINCT name FROM traces").fetchall()]
        near = instead(name, known)
        raise QueryError(f"there is no run and no trace {shown(name)}{near}") from None
    begun = [run_id for run_id, _ in runs if run_id.startswith(name)]
    if begun and name not in {n for _, *trace in traces for n in trace}:
        both = f"run {shown(begun[0])} and trace {shown(traces[0][1])}"
        raise QueryError(f"{shown(name)} is the beginning of the ids of {both}")
    return trace_key(con, name, say=say)


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
