"""Rows of the warehouse's tables; `warehouse/README.md` describes every column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tracelab.core.item import Observation, Rollout
from tracelab.core.trace import TokenizedTrace
from tracelab.core.unit import Unit


@dataclass(frozen=True, slots=True)
class RunRow:
    """A row of `runs`; every column is described in `warehouse/README.md`. Times are aware."""

    run_id: str
    name: str
    pipeline: str
    engine: str
    config: Mapping[str, Any]
    config_digest: str
    tracelab_version: str
    seed: int
    status: str
    started_at: datetime
    finished_at: datetime | None = None
    model: str | None = None
    model_revision: str | None = None
    dtype: str | None = None
    versions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A row of `sessions`, without its run."""

    session: str
    started_at: datetime
    seconds: float | None = None
    start_seconds: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    generated_tokens: int = 0
    observations: int = 0
    errors: int = 0
    restarts: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadedTrace:
    """A trace with its units and the name of what cut them: rows of `traces`, `turns`, `units`."""

    tokens: TokenizedTrace
    units: Sequence[Unit]
    segmenter: str
    categories: Sequence[str | None] = ()


@dataclass(frozen=True, slots=True)
class ItemRow:
    """A row of `items`, without its run. `replicates` counts all that were ever asked for."""

    trace_id: str
    item_key: str
    start_boundary: int
    start_token: int
    replicates: int
    intervention: str = ""


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """A row of `rollouts`, without its run."""

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
class RejectRow:
    """A row of `rejects`, without its run. Line 0 is the file as a whole."""

    file: str
    line: int
    reason: str
    excerpt: str = ""
