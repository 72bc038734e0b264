"""Carries results from a running pipeline into the database, in short transactions.

The journal is the record; the database is a copy that may lag. While somebody else holds the
file, rows wait in memory up to a bound, beyond which they are dropped and read from the journal
again at the end. So a reader delays loading and never fails a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from duckdb import DuckDBPyConnection

from tracelab.core.errors import LockedError
from tracelab.core.rows import RolloutRow
from tracelab.store.connect import open_writer, transaction
from tracelab.store.load import load_rollouts

_EVERY_SECONDS = 15.0
_MAX_WAITING = 50_000
_LIVE_WAIT_SECONDS = 0.2


class Loader:
    """Loads the rollouts of one run."""

    def __init__(
        self,
        database: Path,
        run_id: str,
        warn: Callable[[str], None],
        first: Callable[[DuckDBPyConnection], None] = lambda con: None,
    ) -> None:
        """Load into a database file.

        Args:
            database: The file.
            run_id: The run.
            warn: Told once when the file is held by another process.
            first: Loads what the rollouts belong to, in the transaction of the first of them, so
                that a reader never sees rollouts of no known run.
        """
        self._first: Callable[[DuckDBPyConnection], None] | None = first
        self._database = database
        self._run_id = run_id
        self._warn = warn
        self._warned = False
        self._rows: list[RolloutRow] = []
        self._last = time.monotonic()
        self.dropped = False
        """Whether rows were dropped, so that the caller must offer all of them again."""

    def add(self, rows: list[RolloutRow]) -> None:
        """Take rows; they reach the database some seconds later."""
        self._rows += rows
        now = time.monotonic()
        if now - self._last < _EVERY_SECONDS and len(self._rows) < _MAX_WAITING:
            return
        self._last = now
        try:
            self.flush(_LIVE_WAIT_SECONDS)
        except LockedError as e:
            if not self._warned:
                self._warn(f"{e} The run goes on; results are loaded when the file is free.")
                self._warned = True
            if len(self._rows) >= _MAX_WAITING:
                self._rows, self.dropped = [], True

    def flush(self, wait_s: float) -> None:
        """Load everything taken so far.

        Raises:
            LockedError: The database was held for `wait_s` seconds; the rows are kept.
        """
        if self._rows:
            self.write(wait_s, self._load)
            self._rows, self._first = [], None

    def _load(self, con: DuckDBPyConnection) -> None:
        if self._first is not None:
            self._first(con)
        load_rollouts(con, self._run_id, self._rows)

    def write(self, wait_s: float, action: Callable[[DuckDBPyConnection], None]) -> None:
        """Run one action in one transaction on a connection of its own."""
        with open_writer(self._database, wait_s=wait_s) as con, transaction(con):
            action(con)
