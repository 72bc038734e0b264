"""`tracelab.open_run` and `tracelab.run_config`: what a run found, of whichever study."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from duckdb import DuckDBPyConnection

from tracelab.core.errors import QueryError
from tracelab.run.config import RunConfig, assign, load_config, override, parse_config
from tracelab.run.execute import run_config as execute
from tracelab.store.connect import open_reader
from tracelab.store.find import RESULTS, find_run, latest_run
from tracelab.store.home import Home
from tracelab.view.keys import Overrides
from tracelab.view.report.page import require_views
from tracelab.view.results import frames, sentences, spans, steps
from tracelab.view.results.result import Result, common


@dataclass(frozen=True, slots=True)
class Number:
    """One score of a study that has no result of its own here; a row of the view `unit_scores`.

    `value` is None, with its interval, when it could not be measured.
    """

    trace_id: str
    trace_name: str | None
    unit_kind: str
    unit_index: int
    method: str
    metric: str
    target: str
    evidence: str
    value: float | None
    lo: float | None
    hi: float | None
    level: float
    n: int
    status: str


@dataclass(frozen=True, slots=True, repr=False)
class NumbersResult(Result[Number]):
    """All scores of a run, in the order of their traces and units."""

    row: ClassVar[type[Number]] = Number


AnyResult: TypeAlias = (
    sentences.AnchorsResult | spans.CiteResult | steps.AuditResult | NumbersResult
)

_NUMBERS = """
FROM unit_scores WHERE run_id = $run
ORDER BY trace_name, trace_id, unit_kind, unit_index, method, metric, target
"""


def _numbers(con: DuckDBPyConnection, run_id: str, home: Path) -> NumbersResult:
    rows = frames.read(con, Number, _NUMBERS, run=run_id)
    return NumbersResult(run_id, home, rows, *common(con, run_id))


_OPEN: dict[str, Callable[[DuckDBPyConnection, str, Path], AnyResult]] = {
    "anchors": sentences.opened,
    "cite": spans.opened,
    "audit": steps.opened,
}
_NO_STUDY = "ingest"


def open_run(run: str | None = None, home: str | Path | None = None) -> AnyResult:
    """Open the result of a run that is in the warehouse; nothing is measured.

    Args:
        run: Its id, the beginning of one, or its name; None is the latest that finished with
            results. A warning says which newer ones did not finish.
        home: Where results live; default `TRACELAB_HOME` or `./tracelab-home`.

    Raises:
        WarehouseError: There is no warehouse.
        QueryError: It has no such run, or not one of a study.
    """
    at = Home.at(home)
    with open_reader(at.database) as con:
        require_views(con)
        run_id = _latest(con, at) if run is None else find_run(con, run)
        study = con.execute(
            "SELECT study FROM run_provenance WHERE run_id = $run", {"run": run_id}
        ).fetchall()[0][0]
        if study == _NO_STUDY:
            raise QueryError(f"run {run_id!r} is no study: it was made by `tracelab ingest`")
        return _OPEN.get(study, _numbers)(con, run_id, at.path)


def _latest(con: DuckDBPyConnection, home: Home) -> str:
    found = latest_run(con, RESULTS, say=lambda said: warnings.warn(said, stacklevel=5))
    if found is None:
        raise QueryError(f"{home.database} has no run with results yet; `tracelab demo` makes one")
    return found


def run_config(
    config: str | Path | Mapping[str, Any],
    home: str | Path | None = None,
    *,
    overrides: Overrides = (),
    fresh: bool = False,
    retry_errors: bool = False,
    quiet: bool = False,
) -> AnyResult:
    """Do, or finish, the run of a config; `tracelab run`.

    Args:
        config: A TOML file, the name of a bundled one (`demo`), or what such a file holds.
        home: Where results live; default `TRACELAB_HOME` or `./tracelab-home`.
        overrides: Config keys to set in it.
        fresh: Forget what this run has done and start over.
        retry_errors: Ask again for what failed.
        quiet: No progress on stderr.

    Raises:
        TracelabError: The config or all of its source cannot be used, or the engine cannot go on;
            one sentence.
    """
    parsed, at = _parsed(config, overrides), Home.at(home)
    execute(parsed, at, fresh=fresh, retry_errors=retry_errors, quiet=quiet, in_process=True)
    return open_run(parsed.name, at.path)


def _parsed(config: str | Path | Mapping[str, Any], overrides: Overrides) -> RunConfig:
    given = dict(overrides) if isinstance(overrides, Mapping) else {}
    items = () if isinstance(overrides, Mapping) else overrides
    if not isinstance(config, Mapping):
        return load_config(Path(config), items, given)
    data: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in config.items()}
    for key, value in given.items():
        assign(data, key, value)
    for item in items:
        override(data, item)
    return parse_config(data, "tracelab.run_config")
