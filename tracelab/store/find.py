"""What people call runs and traces, into ids; and which run is the latest.

A run or a trace is called by its id, its name, or the beginning of its id, tried in that order.
What fits nothing is refused with the nearest that there is, a beginning that fits several with
those that it fits. The latest run is the latest that finished and has results of the kind that is
asked for; whoever asks is told of newer ones that did not finish.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from duckdb import DuckDBPyConnection

from tracelab.core.errors import QueryError

Say = Callable[[str], object]
"""Is told one sentence for a person."""

RESULTS = ("scores", "verdicts")
"""Tables of which a run that measured or concluded anything has rows."""

_FINISHED = ("complete", "complete_with_errors")
_SHOWN = 8  # names that a message lists
_SHOWN_CHARS = 60  # of each: a name can be any text
_COMPARED = 5000  # names among which the nearest is looked for

_TRACES = """
SELECT DISTINCT
    run_id, trace_id, name,
    CASE WHEN trace_id = $name THEN 0 WHEN name = $name THEN 1 ELSE 2 END AS fit
FROM traces
WHERE
    (trace_id = $name OR name = $name OR starts_with(trace_id, $name))
    AND ($run IS NULL OR run_id = $run)
QUALIFY fit = min(fit) OVER ()
ORDER BY run_id, trace_id
"""


def quiet(sentence: str) -> None:
    """Nobody is told."""


def find_run(con: DuckDBPyConnection, name: str) -> str:
    """The id of the run that is called so; of several with one name, the latest.

    Raises:
        QueryError: There is none, or it is the beginning of several ids.
    """
    runs = con.execute("SELECT run_id, name FROM runs ORDER BY started_at DESC, run_id").fetchall()
    ids = [i for i, _ in runs]
    named = [i for i, n in runs if n == name and name not in ids]
    return named[0] if named else whole_run(name, ids, [n for _, n in runs])


def whole_run(name: str, ids: Sequence[str], names: Sequence[str] = ()) -> str:
    """The id of a run, from the id or the beginning of one.

    Args:
        name: What is given.
        ids: Of all runs.
        names: Besides ids, what else would have done; for the message.

    Raises:
        QueryError: It is none, or the beginning of several.
    """
    if name in ids:
        return name
    begun = [i for i in ids if name and i.startswith(name)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise QueryError(f"{shown(name)} is the beginning of several runs' ids: {_listed(begun)}")
    raise QueryError(f"there is no run {shown(name)}{instead(name, names or ids)}")


def find_trace(con: DuckDBPyConnection, name: str, run_id: str) -> str:
    """The id of the trace of a run that is called so.

    Raises:
        QueryError: There is none, or several are called so, or it is the beginning of several ids.
    """
    found = traces_called(con, name, run_id)
    return one_trace(name, [t for _, t, _ in found])


def one_trace(name: str, ids: Sequence[str]) -> str:
    """The one id among those of traces that are called so.

    Raises:
        QueryError: They are several.
    """
    if len(several := list(dict.fromkeys(ids))) > 1:
        begun = all(i.startswith(name) for i in ids)
        what = "the beginning of several traces' ids" if begun else "the name of several traces"
        raise QueryError(f"{shown(name)} is {what}: {_listed(several)}")
    return several[0]


def traces_called(
    con: DuckDBPyConnection, name: str, run_id: str | None = None
) -> list[tuple[str, str, str]]:
    """Run id, trace id and name of every trace that is called so, in one run or in all.

    Raises:
        QueryError: There is none.
    """
    of = {"name": name, "run": run_id}
    found = con.execute(_TRACES, of).fetchall() if name else []
    if found:
        return [(r, t, n) for r, t, n, _ in found]
    there = con.execute(
        "SELECT DISTINCT name, trace_id FROM traces WHERE $run IS NULL OR run_id = $run "
        f"ORDER BY name LIMIT {_COMPARED}",
        {"run": run_id},
    ).fetchall()
    known = list(dict.fromkeys([*(n for n, _ in there), *(t for _, t in there)]))
    where = "" if run_id is None else f" in run {shown(run_id)}"
    raise QueryError(f"there is no trace {shown(name)}{where}{instead(name, known)}")


def latest_run(
    con: DuckDBPyConnection,
    relations: Sequence[str],
    *,
    of: Mapping[str, str | None] | None = None,
    say: Say = quiet,
) -> str | None:
    """The latest run that finished and has rows in a table or view; None if no run has any.

    Where none that has rows finished, the latest that did not, and that is said.

    Args:
        con: An open reader.
        relations: Tables or views; rows in one of them are enough.
        of: Only these runs, and in each only rows of this trace id; None is all.
        say: Told of newer runs that are passed over because they did not finish.
    """
    runs = con.execute(
        "SELECT run_id, study, status FROM runs ORDER BY started_at DESC, run_id"
    ).fetchall()
    unfinished: list[tuple[str, str, str, bool]] = []
    for run_id, study, status in runs:
        if of is not None and run_id not in of:
            continue
        has = _has_rows(con, relations, run_id, None if of is None else of[run_id])
        if status not in _FINISHED:
            unfinished.append((run_id, study, status, has))
        elif has:
            # A run that has just begun has no rows yet, but it is of the kind if its study is.
            newer = [f"{shown(r)} ({st})" for r, s, st, h in unfinished if h or s == study]
            if newer:
                say(
                    f"showing run {shown(run_id)}, the latest that finished; newer and not "
                    f"finished: {_cut(newer)}"
                )
            return str(run_id)
    for run_id, _, status, has in unfinished:
        if has:
            say(f"no run of this kind is finished: showing {shown(run_id)}, which is {status}")
            return run_id
    return None


def shown(name: str) -> str:
    """A name in quotation marks, cut where it is long: it can be any text."""
    return repr(name if len(name) <= _SHOWN_CHARS else f"{name[:_SHOWN_CHARS]}…")


def instead(name: str, known: Sequence[str]) -> str:
    """How a sentence about an unknown name ends: with the nearest known one, else with some."""
    compared = {k[:_SHOWN_CHARS]: k for k in reversed(known[:_COMPARED])}
    near = difflib.get_close_matches(name[:_SHOWN_CHARS], compared, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {shown(compared[near[0]])}?"
    return f"; there are: {_listed(known)}"


def _listed(names: Sequence[str]) -> str:
    return _cut([n if len(n) <= _SHOWN_CHARS else f"{n[:_SHOWN_CHARS]}…" for n in names])


def _cut(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more


def _has_rows(
    con: DuckDBPyConnection, relations: Sequence[str], run_id: str, trace: str | None
) -> bool:
    for relation in relations:
        sql = f'SELECT 1 FROM "{relation}" WHERE run_id = $run'
        values: dict[str, Any] = {"run": run_id}
        if trace is not None:
            sql += " AND trace_id = $trace"
            values["trace"] = trace
        if con.execute(f"{sql} LIMIT 1", values).fetchall():
            return True
    return False
