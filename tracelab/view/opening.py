"""`tracelab.open_run`: what an earlier run found, of whichever study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from duckdb import DuckDBPyConnection

from tracelab.core.errors import QueryError
from tracelab.store.connect import open_reader
from tracelab.store.home import Home
from tracelab.view import sentences, spans, steps
from tracelab.view.report.page import require_views
from tracelab.view.report.selection import find_run

AnyResult = sentences.AnchorsResult | spans.CiteResult | steps.AuditResult

_OPEN: dict[str, Callable[[DuckDBPyConnection, str, Path], AnyResult]] = {
    "anchors": sentences.opened,
    "cite": spans.opened,
    "audit": steps.opened,
}


def open_run(run: str | None = None, home: str | Path | None = None) -> AnyResult:
    """Open the result of a run that is in the warehouse; nothing is measured.

    Args:
        run: Its id or name; None is the latest.
        home: Where results live; default `TRACELAB_HOME` or `./tracelab-home`.

    Raises:
        WarehouseError: There is no warehouse.
        QueryError: It has no such run, or not one of a study.
    """
    at = Home.at(home)
    with open_reader(at.database) as con:
        require_views(con)
        run_id = find_run(con, run)
        if run_id is None:
            what = "no run yet" if run is None else f"no run {run!r}"
            raise QueryError(f"{at.database} has {what}: `tracelab query runs` lists them")
        study = con.execute(
            "SELECT study FROM run_provenance WHERE run_id = $run", {"run": run_id}
        ).fetchall()[0][0]
        if study not in _OPEN:
            raise QueryError(f"run {run_id!r} is no study: it was made by `tracelab ingest`")
        return _OPEN[study](con, run_id, at.path)
