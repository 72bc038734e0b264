"""Rows of the tables that failure audits fill: episodes, steps, reruns, verdicts.

The contract is that of `tracelab.store.load`: loading twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from duckdb import DuckDBPyConnection

from tracelab.core.episode import Episode, Step
from tracelab.core.finding import Verdict
from tracelab.store.load import _columns, _load


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """A row of `episodes`, without its run."""

    trace_id: str
    format: str
    task_id: str | None
    version: str | None
    n_steps: int
    label_step: int | None
    label_agent: str | None
    label_reason: str | None

    @classmethod
    def of(cls, trace_id: str, e: Episode) -> EpisodeRow:
        """From an episode."""
        step, agent, reason = (
            (None, None, None) if e.label is None else (e.label.step, e.label.agent, e.label.reason)
        )
        return cls(trace_id, e.format, e.task_id, e.version, len(e.steps), step, agent, reason)


@dataclass(frozen=True, slots=True)
class StepRow:
    """A row of `steps`, without its run."""

    trace_id: str
    unit_index: int
    kind: str
    agent: str | None
    tool: str | None
    parent: int | None
    flags: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, trace_id: str, s: Step) -> StepRow:
        """From a step; the tool of a model's step is the first that it calls."""
        tool = s.tool or (s.calls[0].name if s.calls else None)
        return cls(trace_id, s.index, s.kind, s.agent, tool, s.parent, list(s.flags))


@dataclass(frozen=True, slots=True)
class RerunRow:
    """A row of `reruns`, without its run."""

    trace_id: str
    position: int
    start_step: int
    left_step: int | None
    reward: float | None
    censored: bool
    forced: bool
    error: str | None
    tokens: int
    actions: list[str]


Row = EpisodeRow | StepRow | RerunRow
_TABLES: dict[type[Row], str] = {EpisodeRow: "episodes", StepRow: "steps", RerunRow: "reruns"}


def load_audit_rows(con: DuckDBPyConnection, run_id: str, rows: Sequence[Row]) -> None:
    """Load rows of one of these tables; the newest wins."""
    if rows:
        columns = {"run_id": [run_id] * len(rows), **_columns(rows)}
        _load(con, _TABLES[type(rows[0])], columns, update="true")


def load_verdicts(con: DuckDBPyConnection, run_id: str, verdicts: Sequence[Verdict]) -> None:
    """Load verdicts; the newest wins."""
    columns = {"run_id": [run_id] * len(verdicts), **_columns(verdicts)}
    if verdicts:
        columns["credible_set"] = [list(v.credible_set) for v in verdicts]
        _load(con, "verdicts", columns, update="true")
