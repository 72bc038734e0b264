"""What every study gives back: typed rows, what they cost, and the way to the rest of it.

A result is a value: what it holds was read when it was made. Everything else of its run, every
rollout included, is in the warehouse under `run_id`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import pyarrow as pa
from duckdb import DuckDBPyConnection

from tracelab.core.errors import ConfigError
from tracelab.core.study import STUDIES
from tracelab.run.config import RunConfig
from tracelab.run.execute import Summary, run_config
from tracelab.store.connect import open_reader
from tracelab.store.home import Home
from tracelab.store.named import named_queries
from tracelab.store.query import ask
from tracelab.view.data import Data, place, with_target
from tracelab.view.keys import Overrides, asked, config_of
from tracelab.view.results import frames

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Costs:
    """What a run has cost so far, as `run_costs` in SQL: tokens, seconds; None if unknown.

    Of the rollouts, `errors` failed, `ungraded` have an unknown outcome, and `truncated` were cut
    before an answer. `money` is in the unit of the prices in the config; None without any.
    """

    traces: int
    rollouts: int
    errors: int
    ungraded: int
    truncated: int
    rejects: int
    generated_tokens: int | None
    prompt_tokens: int | None
    cached_tokens: int | None
    seconds: float | None
    reruns: int = 0
    requests: int | None = None
    endpoint_requests: int | None = None
    endpoint_prompt_tokens: int | None = None
    endpoint_generated_tokens: int | None = None
    endpoint_seconds: float | None = None
    money: float | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """An input record that could not be used: where it is, and why."""

    file: str
    line: int
    reason: str
    excerpt: str


_HTML: dict[type[Any], Callable[[Any], str]] = {}


def in_notebooks(kind: type[Any]) -> Callable[[Callable[[Any], str]], Callable[[Any], str]]:
    """Decorator: how a kind of result is shown in a notebook."""

    def add(render: Callable[[Any], str]) -> Callable[[Any], str]:
        _HTML[kind] = render
        return render

    return add


@dataclass(frozen=True, slots=True, repr=False)
class Result(Generic[Row]):
    """The rows of one run.

    Attributes:
        run_id: Its id in the warehouse.
        home: The folder of the warehouse.
        rows: What was measured; what could not be has a status that says so, and no value.
        costs: What it cost.
        rejects: Input records that could not be used.
        off_policy: Names of the traces that another model made than the one that measured them:
            their numbers say what this model would do.
    """

    row: ClassVar[type[Any]]

    run_id: str
    home: Path
    rows: tuple[Row, ...]
    costs: Costs
    rejects: tuple[Rejected, ...]
    off_policy: tuple[str, ...] = ()

    @property
    def warehouse(self) -> Path:
        """The DuckDB file."""
        return Home(self.home).database

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]

    def __repr__(self) -> str:
        c = self.costs
        other = f"{len(self.off_policy)} of another model, " if self.off_policy else ""
        return (
            f"<{type(self).__name__} of run {self.run_id!r}: {len(self.rows)} rows, {c.traces} "
            f"traces, {other}{c.errors} failed, {c.ungraded} ungraded and {c.truncated} truncated "
            f"rollouts, {c.rejects} rejected records; in "
            f"{str(self.warehouse)!r}>"
        )

    def _repr_html_(self) -> str | None:
        render = _HTML.get(type(self))
        return None if render is None else render(self)

    def to_df(self, kind: frames.Kind = "pandas") -> Any:
        """The rows as a `pandas` or `polars` data frame or an `arrow` table.

        Raises:
            ConfigError: That package is not installed.
        """
        return frames.frame(self.row, self.rows, kind)

    def query(self, sql_or_name: str, **params: Any) -> pa.Table:
        """SQL, or a named query, on the warehouse; `$run` is this run unless it is given.

        Raises:
            QueryError: It is refused.
        """
        named = named_queries().get(sql_or_name.strip())
        if any(p.name == "run" for p in named.params) if named else "$run" in sql_or_name:
            params = {"run": self.run_id} | params
        with open_reader(self.warehouse) as con:
            return ask(con, sql_or_name, params)

    def report(self, path: str | Path | None = None) -> Path:
        """Write the HTML report of this run; the default place is `reports/` in the home."""
        from tracelab.view.report import build, select, write
        from tracelab.view.report.page import default_path

        with open_reader(self.warehouse) as con:
            selected = select(con, [self.run_id])
            html = build(con, selected, now=datetime.now(UTC))
        out = Path(path) if path is not None else default_path(self.home / "reports", selected)
        write(html, out)
        return out


def measure(
    study: str,
    data: Data,
    model: str | Path | None,
    *,
    name: str | None = None,
    overrides: Overrides = (),
    fresh: bool = False,
    retry_errors: bool = False,
    quiet: bool = False,
    home: str | Path | None = None,
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    check: Callable[[RunConfig], object] = bool,
    each_target: Any = None,
    **options: Any,
) -> tuple[RunConfig, Home, Summary]:
    """Run a study, or finish one, into the warehouse; the arguments are those of its function.

    Args:
        study: Which.
        data: What is studied.
        model: With which model; None leaves it to the study.
        name: Of the run.
        overrides: Config keys that have no keyword.
        fresh: Forget what this run has done.
        retry_errors: Ask again for what failed.
        quiet: No progress.
        home: Where results live.
        prepare: Changes what was asked, as values by config key.
        check: Refuses a config.
        each_target: `target` of every record in memory.
        options: What else was asked, by keyword.

    Raises:
        TracelabError: Something given cannot be used, or the engine cannot go on; one sentence.
    """
    where, at = f"tracelab.{study}", Home.at(home)
    wanted = {"model": None if model is None else str(model), "name": name, **options}
    given = prepare(asked(study, wanted, where))
    source, in_memory = place(data, at, documents=documents(study))
    if each_target is not None:
        if not in_memory:
            raise ConfigError("target needs data in memory; in a file, each record has its own")
        source = with_target(source, each_target, at)
    config = config_of(study, source, given, overrides, in_memory=in_memory, where=where)
    check(config)
    return config, at, run_config(
        config, at, fresh=fresh, retry_errors=retry_errors, quiet=quiet, in_process=True
    )  # fmt: skip


def documents(study: str) -> bool:
    """Whether a record of a study's data is a document of its own: a run of agents is."""
    return getattr(STUDIES.named(study), "testbed", None) == "agents"


def common(
    con: DuckDBPyConnection, run_id: str
) -> tuple[Costs, tuple[Rejected, ...], tuple[str, ...]]:
    """What every result has."""
    costs = frames.read(con, Costs, "FROM run_costs WHERE run_id = $run", run=run_id)
    rejects = frames.read(
        con, Rejected, "FROM rejects WHERE run_id = $run ORDER BY file, line, reason", run=run_id
    )
    made = con.execute(
        "SELECT name FROM traces WHERE run_id = $run AND off_policy ORDER BY name, trace_id",
        {"run": run_id},
    )
    return costs[0], rejects, tuple(name for (name,) in made.fetchall())
