"""Named queries: files of `warehouse/queries`, what they take, and what people give them.

The first line of a file says what it shows; then a line a parameter:

    -- param NAME [WHAT]: help (default VALUE)

WHAT says what it may be, and so what is refused with the nearest that it may:

    run                     a run, by id, the beginning of one, or name; all when it is not given
    run with TABLE          the same; the latest that has rows in TABLE when it is not given
    trace of TABLE          a trace, likewise; where the run is not given, one that has it there
    number                  a whole number, 0 or more
    COLUMN of TABLE         what that column holds in the run (and trace) that is asked for
    one | two               one of these words

The SQL gets `$run` and `$trace` as ids.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection

from tracelab.core.errors import QueryError, WarehouseError
from tracelab.store.connect import sql_dir
from tracelab.store.find import (
    Say,
    find_run,
    find_trace,
    instead,
    latest_run,
    shown,
    traces_called,
)

_PARAM = re.compile(
    r"-- param (?P<name>\w+) \[(?P<what>[^\]]+)\]: (?P<help>.*?)"
    r"(?: \(default (?P<default>[^()]*)\))?$"
)


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a named query; `default` is meaningful unless it is `required`."""

    name: str
    what: str
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


def named_queries() -> dict[str, NamedQuery]:
    """Return the queries that `query` knows by name."""
    found = {}
    for file in sorted((sql_dir() / "queries").glob("*.sql")):
        comments, sql = header(file)
        params = []
        for line in comments[1:]:
            match = _PARAM.match(line)
            if match is None:
                raise WarehouseError(f"{file.name}: cannot read the header line {line!r}")
            default = match["default"]
            params.append(
                Param(
                    name=match["name"],
                    what=match["what"],
                    help=match["help"],
                    required=default is None,
                    default=None if default == "none" else default,
                )
            )
        description = comments[0].removeprefix("-- ")
        found[file.stem] = NamedQuery(file.stem, description, tuple(params), sql)
    return found


def header(file: Path) -> tuple[list[str], str]:
    """Return the leading comment lines of an SQL file and its whole text."""
    sql = file.read_text(encoding="utf-8")
    comments = []
    for line in sql.splitlines():
        if not line.startswith("-- "):
            break
        comments.append(line)
    return comments, sql


def called(name: str) -> NamedQuery:
    """The named query of a name.

    Raises:
        QueryError: There is none.
    """
    queries = named_queries()
    if name not in queries:
        close = difflib.get_close_matches(name, queries, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(queries)}."
        raise QueryError(f"there is no query named {name!r}: {hint}")
    return queries[name]


def bind(
    con: DuckDBPyConnection, asked: NamedQuery, given: Mapping[str, Any], say: Say
) -> dict[str, Any]:
    """What the parameters of a named query come to: every one has a value, ids are whole.

    Args:
        con: An open reader.
        asked: The query.
        given: Values by parameter name, as people type them; None is not given.
        say: Told which runs are passed over, and of a run that has nothing of the kind.

    Raises:
        QueryError: A parameter, or the value of one, does not exist, or one is missing.
    """
    known = {p.name: p for p in asked.params}
    for name in sorted(given.keys() - known):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known) or 'none'}"
        raise QueryError(f"query {asked.name} has no parameter {name!r}; {hint}")
    values = {p.name: given.get(p.name) for p in asked.params}
    for p in asked.params:
        if p.required and values[p.name] is None:
            raise QueryError(f"query {asked.name} needs {p.name}: {p.help}")
    where = _place(con, asked, values, say)
    for p in asked.params:
        if (value := values[p.name]) is None:
            values[p.name] = p.default
        elif p.name not in ("run", "trace"):
            _refuse_unknown(con, asked, p, str(value), where)
    return values | where


def _place(
    con: DuckDBPyConnection, asked: NamedQuery, values: Mapping[str, Any], say: Say
) -> dict[str, str]:
    """The run and the trace that are meant, by parameter name."""
    params = {p.name: p.what.partition(" ") for p in asked.params}
    run, trace = values.get("run"), values.get("trace")
    table = params["run"][2].removeprefix("with ") if "run" in params else ""
    if run is not None:
        run_id = find_run(con, str(run))
        if table and latest_run(con, [table], of={run_id: None}) is None:
            say(f"run {shown(run_id)} has no {table}")
    elif not table:
        return {}
    else:
        of = None
        if trace is not None:
            of = {r: t for r, t, _ in traces_called(con, str(trace))}
        found = latest_run(con, [table], of=of, say=say)
        if found is None:
            about = "" if trace is None else f" of trace {shown(str(trace))}"
            say(f"no run has {table}{about} yet; `tracelab query runs` lists the runs")
            return {}
        run_id = found
    where = {"run": run_id}
    if trace is not None:
        where["trace"] = find_trace(con, str(trace), run_id)
    return where


def _refuse_unknown(
    con: DuckDBPyConnection, asked: NamedQuery, p: Param, value: str, where: Mapping[str, str]
) -> None:
    said = f"query {asked.name}: {p.name} {shown(value)}"
    if p.what == "number":
        if not re.fullmatch(r"\d{1,18}", value):
            raise QueryError(f"{said} is not a whole number")
        return
    column, of, table = p.what.partition(" of ")
    if not of:
        words = p.what.split(" | ")
        if value not in words:
            raise QueryError(f"{said} is none of {', '.join(words)}{_near(value, words)}")
        return
    only = " AND ".join(["true", *(f"{name}_id = ${name}" for name in where)])
    found = con.execute(
        f'SELECT DISTINCT "{column}" FROM "{table}" WHERE {only} AND "{column}" IS NOT NULL '
        "ORDER BY ALL",
        dict(where),
    ).fetchall()
    there = [v for (v,) in found]
    if not there or value in map(str, there):
        return  # where nothing is, no value is wrong: that no run has any was said
    place = " of ".join(f"{name} {shown(i)}" for name, i in reversed([*where.items()]))
    if there and all(isinstance(v, int) for v in there):
        raise QueryError(f"{said} is not in {place}; there, it goes from {there[0]} to {there[-1]}")
    raise QueryError(f"{said} is not in {place}{instead(value, [str(v) for v in there])}")


def _near(value: str, words: Sequence[str]) -> str:
    close = difflib.get_close_matches(value, words, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
