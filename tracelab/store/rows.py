"""Rows of the warehouse's tables; `warehouse/README.md` describes every column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tracelab.core.trace import TokenizedTrace
from tracelab.core.unit import Unit


@dataclass(frozen=True, slots=True)
class RunRow:
    """A row of `runs`; every column is described in `warehouse/README.md`. Times are aware."""

    run_id: str
    name: str
    study: str
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
    repeats: bool | None = None


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
    requests: int | None = None
    endpoint_requests: int | None = None
    endpoint_prompt_tokens: int | None = None
    endpoint_generated_tokens: int | None = None
    endpoint_seconds: float | None = None
    money: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadedTrace:
    """A trace with its units and the name of what cut them: rows of `traces`, `turns`, `units`.

    `off_policy`: whether another model made it than the one that measures it; None if unknown.
    """

    tokens: TokenizedTrace
    units: Sequence[Unit]
    segmenter: str
    categories: Sequence[str | None] = ()
    off_policy: bool | None = None


@dataclass(frozen=True, slots=True)
class RejectRow:
    """A row of `rejects`, without its run. Line 0 is the file as a whole."""

    file: str
    line: int
    reason: str
    excerpt: str = ""
