"""What every study gives back: typed rows, what they cost, and the way to the rest of it.

A result is a value: what it holds was read when it was made. Everything else of its run, every
rollout included, is in the warehouse under `run_id`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import pyarrow as pa
from duckdb import DuckDBPyConnection

from tracelab.run.config import RunConfig
from tracelab.run.runs import run_config
from tracelab.store.connect import open_reader
from tracelab.store.home import Home
from tracelab.store.query import named_queries, query
from tracelab.view import frames

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Costs:
    """What a run has cost so far, as `run_costs` in SQL: tokens, seconds; None if unknown."""

    traces: int
    rollouts: int
    errors: int
    rejects: int
    generated_tokens: int | None
    prompt_tokens: int | None
    cached_tokens: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """An input record that could not be used: where it is, and why."""

    file: str
    line: int
    reason: str
    excerpt: str


@dataclass(frozen=True, slots=True, repr=False)
class Result(Generic[Row]):
    """The rows of one run.

    Attributes:
        run_id: Its id in the warehouse.
        home: The folder of the warehouse.
        rows: What was measured; what could not be has a status that says so, and no value.
        costs: What it cost.
        rejects: Input records that could not be used.
    """

    row: ClassVar[type[Any]]

    run_id: str
    home: Path
    rows: tuple[Row, ...]
    costs: Costs
    rejects: tuple[Rejected, ...]

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
        return (
            f"<{type(self).__name__} of run {self.run_id!r}: {len(self.rows)} rows, {c.traces} "
            f"traces, {c.errors} failed rollouts, {c.rejects} rejected records; in "
            f"{str(self.warehouse)!r}>"
        )

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
            return query(con, sql_or_name, params)

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


def measure(config: RunConfig, home: Home, *, fresh: bool, quiet: bool) -> None:
    """Run a study, or finish one, into the warehouse.

    Raises:
        TracelabError: It cannot go on.
    """
    run_config(config, home, fresh=fresh, quiet=quiet, in_process=True)


def common(con: DuckDBPyConnection, run_id: str) -> tuple[Costs, tuple[Rejected, ...]]:
    """What every result has."""
    costs = frames.read(con, Costs, "FROM run_costs WHERE run_id = $run", run=run_id)
    rejects = frames.read(
        con, Rejected, "FROM rejects WHERE run_id = $run ORDER BY file, line, reason", run=run_id
    )
    return costs[0], rejects
