"""A failure with what would have helped, as it is kept for a regression test. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tracelab.core.seam import RecordedRun


@dataclass(frozen=True, slots=True)
class Corrected:
    """One corrected failure.

    Attributes:
        environment: As in `audit.environment`.
        run: The recorded run.
        action: The action that is corrected.
        correction: What is done from there on instead.
        reason: The verdict's.
    """

    environment: str
    run: RecordedRun
    action: int
    correction: tuple[str, ...]
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON; `of` inverts it."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Corrected:
        """Read it back."""
        kept = {k: data[k] for k in ("environment", "action", "reason")}
        run = RecordedRun.of(data["run"])
        return cls(run=run, correction=tuple(data["correction"]), **kept)
