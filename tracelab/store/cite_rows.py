"""Rows of the tables that context attribution fills: probes, spans, targets, tests, pruned ones.

The contract is that of `tracelab.store.load`: loading twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from duckdb import DuckDBPyConnection

from tracelab.store.load import _columns, _load


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


@dataclass(frozen=True, slots=True)
class PrunedRow:
    """A row of `pruned`, without its run: a context answered again from its top spans.

    Attributes:
        trace_id: The trace.
        k: Spans asked to be kept.
        kept: Indices of those that were, in the order of the text.
        n_spans: Spans of the whole context.
        tokens: Tokens of the whole prompt.
        tokens_left: Of the pruned one; None when the template refuses it.
        response: What the model writes now; None if it failed.
        same: Whether that is the response that was explained, white space aside.
        logprob_change: log p of the explained response, pruned minus whole context, nats; None
            when either failed.
        status: `ok` or `failed`.
        reason: Why there is no response.
    """

    trace_id: str
    k: int
    kept: list[int]
    n_spans: int
    tokens: int
    tokens_left: int | None
    response: str | None
    same: bool | None
    logprob_change: float | None
    status: str
    reason: str | None


Row = ProbeRow | SpanRow | TargetRow | FaithfulnessRow | PrunedRow
_TABLES: dict[type[Row], str] = {
    ProbeRow: "probes",
    SpanRow: "spans",
    TargetRow: "targets",
    FaithfulnessRow: "faithfulness",
    PrunedRow: "pruned",
}


def load_context_rows(con: DuckDBPyConnection, run_id: str, rows: Sequence[Row]) -> None:
    """Load rows of one of these tables; the newest wins."""
    if rows:
        columns = {"run_id": [run_id] * len(rows), **_columns(rows)}
        _load(con, _TABLES[type(rows[0])], columns, update="true")
