"""Rows of the tables that several studies fill; `warehouse/README.md` describes every column. Pure.

A row is a frozen dataclass whose fields are the columns without `run_id`; `table` names the table.
Rows of one study's own tables live in its folder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from tracelab.core.episode import Episode, Step
from tracelab.core.item import Observation, Rollout
from tracelab.core.unit import UnitKind


@dataclass(frozen=True, slots=True)
class ItemRow:
    """A row of `items`, without its run. `replicates` counts all that were ever asked for."""

    table: ClassVar[str] = "items"

    trace_id: str
    item_key: str
    start_boundary: int
    start_token: int
    replicates: int
    intervention: str = ""


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """A row of `rollouts`, without its run."""

    table: ClassVar[str] = "rollouts"

    trace_id: str
    item_key: str
    replicate: int
    start_boundary: int
    start_token: int
    diverge_token: int
    text: str
    answer: str | None
    reward: float | None
    grade_status: str
    grade_detail: str | None
    finish_reason: str
    error: str | None
    n_tokens: int
    logprob: float | None = None
    cached_tokens: int | None = None
    first_sentence: str | None = None
    similarity: float | None = None
    left_unit: int | None = None
    own_sentence: str | None = None
    intervention: str = ""

    @classmethod
    def of(
        cls,
        trace_id: str,
        rollout: Rollout,
        observation: Observation,
        *,
        first_sentence: str | None = None,
        left_unit: int | None = None,
        intervention: str = "",
    ) -> RolloutRow:
        """Join what the estimators see with what the engine saw; a failure counts as ungraded."""
        failed = observation.error is not None
        outcome = rollout.outcome
        logprob = observation.logprob
        return cls(
            trace_id=trace_id,
            item_key=rollout.item_key,
            replicate=rollout.replicate,
            start_boundary=rollout.boundary,
            start_token=rollout.start_token,
            diverge_token=rollout.diverge_token,
            text=observation.text,
            answer=None if failed else outcome.answer,
            reward=None if failed else outcome.reward,
            grade_status="ungraded" if failed else outcome.status,
            grade_detail=outcome.detail,
            finish_reason=observation.finish_reason,
            error=observation.error,
            n_tokens=rollout.n_tokens,
            logprob=logprob if logprob is not None and math.isfinite(logprob) else None,
            cached_tokens=observation.cached_tokens,
            first_sentence=first_sentence,
            similarity=rollout.similarity,
            left_unit=left_unit,
            own_sentence=rollout.own_sentence,
            intervention=intervention,
        )


@dataclass(frozen=True, slots=True)
class UnitRow:
    """A row of `units`, without its run, for units that are known only after the cases are."""

    table: ClassVar[str] = "units"

    trace_id: str
    unit_kind: UnitKind
    unit_index: int
    segmenter: str
    start_char: int
    end_char: int
    start_token: int
    end_token: int
    text: str
    role: str | None = None
    category: str | None = None
    labeller: str | None = None


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """A row of `episodes`, without its run."""

    table: ClassVar[str] = "episodes"

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

    table: ClassVar[str] = "steps"

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
class ToolCallRow:
    """A row of `tool_calls`, without its run: a call, a result, or a call with its result."""

    table: ClassVar[str] = "tool_calls"

    trace_id: str
    unit_index: int
    position: int
    call_id: str | None
    tool: str | None
    arguments: str | None
    arguments_error: str | None
    result_step: int | None
    result: str | None
    error: bool
