"""Rows of the table that only audits fill. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class RerunRow:
    """A row of `reruns`, without its run."""

    table: ClassVar[str] = "reruns"

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
