"""The end of a run: everything into the database at once, and what the command reports."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from duckdb import DuckDBPyConnection

from tracelab.core.errors import LockedError, WarehouseError
from tracelab.core.rows import ItemRow
from tracelab.run.labelling import apply_recorded
from tracelab.run.loader import Loader
from tracelab.store.journal import Journal
from tracelab.store.load import (
    RejectRow,
    RunRow,
    SessionRow,
    load_items,
    load_links,
    load_rejects,
    load_run,
    load_scores,
    load_session,
    load_traces,
)
from tracelab.studies.anchors import resample
from tracelab.studies.anchors.estimates import Estimates
from tracelab.studies.anchors.subject import RolloutSink, Study

ESTIMATOR_VERSION = str(resample.ESTIMATOR_VERSION)
_LEAVE_WAIT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to."""

    run_id: str
    traces: int
    rejected: int
    rollouts: int
    failed: int
    scores: int
    insufficient: int

    @property
    def error_rate(self) -> float:
        """The larger of the shares of failed rollouts and of rejected inputs."""
        inputs = self.traces + self.rejected
        return max(
            self.failed / self.rollouts if self.rollouts else 0.0,
            self.rejected / inputs if inputs else 0.0,
        )


def finish(
    journal: Journal,
    record: dict[str, Any],
    loader: Loader,
    sink: RolloutSink,
    *,
    studies: Sequence[Study],
    places: Sequence[ItemRow],
    estimates: Estimates,
    rejects: Sequence[RejectRow],
    wait_s: float,
) -> Summary:
    """Load a finished run; loading it again changes nothing.

    Raises:
        LockedError: The database was held for `wait_s` seconds; the journal has everything.
    """
    run_id = record["run_id"]
    status = "complete_with_errors" if sink.failed or rejects else "complete"

    def load(con: DuckDBPyConnection) -> None:
        load_run(con, run_row(record, status))
        for session in journal.sessions():
            load_session(con, run_id, session_row(session))
        load_traces(con, run_id, [s.loaded() for s in studies])
        load_items(con, run_id, places)
        load_rejects(con, run_id, rejects, instead_of=None)
        load_scores(con, run_id, estimates.scores, estimator_version=ESTIMATOR_VERSION)
        load_links(con, run_id, estimates.links, estimator_version=ESTIMATOR_VERSION)
        apply_recorded(con, run_id, journal)

    try:
        if loader.dropped:
            for part in journal.observations():
                sink.load_again(part)
        loader.flush(wait_s)
        loader.write(wait_s, load)
    except LockedError as e:
        raise LockedError(
            f"{e} All rollouts are safe in {journal.store.root}; the same command loads them."
        ) from None
    return Summary(
        run_id=run_id,
        traces=len(studies),
        rejected=len(rejects),
        rollouts=sink.total,
        failed=sink.failed,
        scores=len(estimates.scores),
        insufficient=sum(s.status == "insufficient" for s in estimates.scores),
    )


def leave(record: dict[str, Any], loader: Loader, *, interrupted: bool) -> None:
    """Load what there is of a run that ends early, if the database is free; the journal has it."""
    status = "interrupted" if interrupted else "failed"
    with contextlib.suppress(WarehouseError):
        loader.flush(_LEAVE_WAIT_SECONDS)
        loader.write(_LEAVE_WAIT_SECONDS, lambda con: load_run(con, run_row(record, status)))


def run_row(record: dict[str, Any], status: str) -> RunRow:
    """The journal's `run.json` as a row of `runs`."""
    finished = record["finished_at"]
    return RunRow(
        run_id=record["run_id"],
        name=record["run_id"],
        pipeline=record["config"]["pipeline"],
        engine=record["engine"],
        config=record["config"],
        config_digest=record["digest"],
        tracelab_version=record["tracelab_version"],
        seed=record["config"]["seed"],
        status=status,
        started_at=datetime.fromisoformat(record["started_at"]),
        finished_at=None if finished is None else datetime.fromisoformat(finished),
        model=record["model"],
        model_revision=record["identity"]["model_revision"],
        dtype=record["config"]["engine"]["dtype"],
        versions=record["versions"],
    )


def session_row(session: dict[str, Any]) -> SessionRow:
    """One line of the journal as a row of `sessions`."""
    return SessionRow(**{**session, "started_at": datetime.fromisoformat(session["started_at"])})
