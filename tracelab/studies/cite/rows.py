"""Rows of the tables that context attribution fills; `warehouse/README.md` describes the columns.

The contract is that of `tracelab.core.rows`. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """A row of `probes`, without its run."""

    table: ClassVar[str] = "probes"

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

    table: ClassVar[str] = "spans"

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

    table: ClassVar[str] = "targets"

    trace_id: str
    target: str
    position: int
    kind: str
    text: str
    rather_than: str | None
    n_tokens: int
    logprob_full: float | None
    logprob_empty: float | None
    logprob_alone: float | None
    label: str
    ablations: int
    outcome: str = "logprob"
    value_full: float | None = None
    value_empty: float | None = None


@dataclass(frozen=True, slots=True)
class MaskedAnswerRow:
    """A row of `masked_answers`, without its run.

    Attributes:
        worth: What it counts for each target, by position; None where it failed, or could not be
            graded.
    """

    table: ClassVar[str] = "masked_answers"

    trace_id: str
    item_key: str
    replicate: int
    unit_index: int
    intervention: str
    text: str
    worth: list[float] | None
    answer: str | None
    reward: float | None
    grade_status: str | None
    grade_detail: str | None
    finish_reason: str
    error: str | None
    n_tokens: int
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class FaithfulnessRow:
    """A row of `faithfulness`, without its run."""

    table: ClassVar[str] = "faithfulness"

    trace_id: str
    method: str
    target: str
    metric: str
    value: float | None
    n: int
    status: str
    estimator_version: str

    @classmethod
    def of(
        cls,
        trace_id: str,
        method: str,
        target: str,
        metric: str,
        value: float | None,
        n: int,
        version: int,
    ) -> FaithfulnessRow:
        """Make one; without a value, or anything observed, it is `insufficient`."""
        if value is None or n < 1:
            return cls(trace_id, method, target, metric, None, n, "insufficient", str(version))
        return cls(trace_id, method, target, metric, value, n, "ok", str(version))


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
        same: Whether that is the response that was explained, white space aside; None where it
            failed.
        logprob_change: log p of the explained response, pruned minus whole context, nats; None
            when either failed.
        status: `ok` or `failed`.
        reason: Why there is no response.
    """

    table: ClassVar[str] = "pruned"

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
