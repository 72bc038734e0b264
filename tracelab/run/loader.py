"""Carries results from a running study into the database, in short transactions.

The journal is the record; the database is a copy that may lag. While somebody else holds the
file, rows wait in memory up to a bound, beyond which they are dropped, and the study is driven
again from its journal at the end. So a reader delays loading and never fails a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from duckdb import DuckDBPyConnection

from tracelab.core.errors import LockedError
from tracelab.core.seam import Row
from tracelab.store.connect import open_writer, transaction
from tracelab.store.load import drop_run, load_rows, load_run, load_traces
from tracelab.store.rows import LoadedTrace, RunRow

_EVERY_SECONDS = 15.0
_MAX_WAITING = 50_000
_MAX_UNITS = 20_000  # of traces that wait: what is read from files comes faster than rollouts
_LIVE_WAIT_SECONDS = 0.2


class Loader:
    """Loads what becomes known of one run while it goes on."""

    def __init__(
        self,
        database: Path,
        run: RunRow,
        warn: Callable[[str], None],
        *,
        replacing: bool = False,
    ) -> None:
        """Load into a database file.

        Args:
            database: The file.
            run: The run, as it is while it goes on; loaded with the first of its rows, so that a
                reader never sees rows of no known run.
            warn: Told once when the file is held by another process.
            replacing: Drop what the database has of the run before the first row: what is loaded
                may be other observations, and scores of some must not stand beside others.
        """
        self._database = database
        self._run = run
        self._warn = warn
        self.replacing = replacing
        """Whether the run's earlier rows are still to be dropped."""
        self._warned = False
        self._rows: list[Row] = []
        self._traces: list[LoadedTrace] = []
        self._units = 0
        self._last = time.monotonic()
        self.dropped = False
        """Whether anything was dropped, so that all of it must be offered again."""

    def traces(self, traces: Sequence[LoadedTrace]) -> None:
        """Take traces with their units; rows about them come later."""
        self._traces += traces
        self._units += sum(len(t.units) for t in traces)
        if self._units >= _MAX_UNITS:
            self._try()

    def add(self, rows: Sequence[Row]) -> None:
        """Take rows; they reach the database some seconds later."""
        self._rows += rows
        waited = time.monotonic() - self._last >= _EVERY_SECONDS
        if waited or len(self._rows) >= _MAX_WAITING:
            self._try()

    def _try(self) -> None:
        self._last = time.monotonic()
        try:
            self.flush(_LIVE_WAIT_SECONDS)
        except LockedError as e:
            if not self._warned:
                self._warn(f"{e} The run goes on; results are loaded when the file is free.")
                self._warned = True
            if len(self._rows) >= _MAX_WAITING or self._units >= _MAX_UNITS:
                self._rows, self._traces, self._units, self.dropped = [], [], 0, True

    def flush(self, wait_s: float) -> None:
        """Load everything taken so far.

        Raises:
            LockedError: The database was held for `wait_s` seconds; what waits is kept.
        """
        if self._rows or self._traces:
            self.write(wait_s, self._load)
            self._rows, self._traces, self._units = [], [], 0

    def _load(self, con: DuckDBPyConnection) -> None:
        load_run(con, self._run)
        load_traces(con, self._run.run_id, self._traces)
        load_rows(con, self._run.run_id, self._rows)

    def write(self, wait_s: float, action: Callable[[DuckDBPyConnection], None]) -> None:
        """Run one action in one transaction on a connection of its own."""
        with open_writer(self._database, wait_s=wait_s) as con:
            if self.replacing:
                # A transaction of its own: one that deletes a key and inserts it again is what
                # replaying DuckDB's log after a crash has had trouble with.
                drop_run(con, self._run.run_id)
                self.replacing = False
            with transaction(con):
                action(con)
