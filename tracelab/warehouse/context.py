"""Rows of the tables that context attribution fills: probes, spans, targets, faithfulness.

The contract is that of `tracelab.warehouse.load`: loading twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from duckdb import DuckDBPyConnection

from tracelab.warehouse.load import _columns, _load


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """A row of `probes`, without its run."""

    trace_id: str
    item_key: str
    unit_index: int
    intervention: str
    target: str
    logprob: float | None
    n_target_tokens: int
    cached_tokens: int | None = None
    error: str | None = None
    unit_kind: str = "span"


@dataclass(frozen=True, slots=True)
class SpanRow:
    """A row of `spans`, without its run."""

    trace_id: str
    unit_index: int
    turn_index: int
    start_char: int
    end_char: int
    document: int
    paragraph: int
    whole: bool


@dataclass(frozen=True, slots=True)
class TargetRow:
    """A row of `targets`, without its run."""

    trace_id: str
    target: str
    position: int
    kind: str
    text: str
    rather_than: str | None
    n_tokens: int
    logprob_full: float | None
    logprob_empty: float | None
    label: str
    ablations: int


@dataclass(frozen=True, slots=True)
class FaithfulnessRow:
    """A row of `faithfulness`, without its run."""

    trace_id: str
    method: str
    target: str
    metric: str
    value: float | None
    n: int
    status: str
    estimator_version: str


Row = ProbeRow | SpanRow | TargetRow | FaithfulnessRow
_TABLES: dict[type[Row], str] = {
    ProbeRow: "probes",
    SpanRow: "spans",
    TargetRow: "targets",
    FaithfulnessRow: "faithfulness",
}


def load_context_rows(con: DuckDBPyConnection, run_id: str, rows: Sequence[Row]) -> None:
    """Load rows of one of these tables; the newest wins."""
    if rows:
        columns = {"run_id": [run_id] * len(rows), **_columns(rows)}
        _load(con, _TABLES[type(rows[0])], columns, update="true")
