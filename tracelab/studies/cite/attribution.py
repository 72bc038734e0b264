"""What a method says about one target: scores of every source, made in one place. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracelab.core.finding import Evidence, Score
from tracelab.core.unit import Unit
from tracelab.stats.lasso import Floats, Ints
from tracelab.stats.surrogate import Surrogate
from tracelab.studies.cite.rows import FaithfulnessRow

_CLOSED = "too few masks tell this source from its neighbours"


@dataclass(frozen=True, slots=True)
class Attribution:
    """What a method says about one target.

    Attributes:
        scores: Of every source, by metric.
        weights: The ranking [n], which is tested; NaN where nothing is known, None where the method
            ranks nothing.
        surrogate: What was fitted, for its score out of fold; None when nothing was.
        n: Masks, or passes or replies, behind it; failed ones not counted.
        failed: Those that failed.
        tests: What the method measured of its own answer.
    """

    scores: list[Score]
    weights: Floats | None
    surrogate: Surrogate | None = None
    n: int = 0
    failed: int = 0
    tests: tuple[FaithfulnessRow, ...] = ()


@dataclass(frozen=True, slots=True)
class SpanScores:
    """Makes the scores of one method about one target; `ok` where there is a number.

    Attributes:
        trace_id: The trace.
        units: The sources.
        method: The method.
        target: Name of the target.
        level: Nominal coverage of intervals.
        evidence: What the scores rest on.
    """

    trace_id: str
    units: Sequence[Unit]
    method: str
    target: str
    level: float
    evidence: Evidence = "scored"

    def every(
        self,
        metric: str,
        value: Floats | None,
        n: int | Ints,
        extra: Mapping[str, Any],
        *,
        lo: Floats | None = None,
        hi: Floats | None = None,
        failed: bool = False,
    ) -> list[Score]:
        """One score a source from values and ends [n]; NaN and None are no number, no end."""
        size = len(self.units)
        v = np.full(size, np.nan) if value is None else value
        low, high = (np.full(size, np.nan) if e is None else e for e in (lo, hi))
        count = np.broadcast_to(np.asarray(n), (size,))
        out = []
        for i in range(size):
            known = "reason" in extra or bool(np.isfinite(v[i]))
            why = extra if known else {**extra, "reason": _CLOSED}
            out.append(
                self.one(i, metric, float(v[i]), int(count[i]), why,
                         (float(low[i]), float(high[i])), failed=failed)
            )  # fmt: skip
        return out

    def one(
        self,
        unit: int,
        metric: str,
        value: float | None,
        n: int,
        extra: Mapping[str, Any],
        interval: tuple[float, float] | None = None,
        *,
        failed: bool = False,
    ) -> Score:
        """One score of one source."""
        return Score.of(
            self.trace_id, self.units[unit].kind, self.units[unit].index, self.method, metric,
            value, level=self.level, n=n, interval=interval, failed=failed,
            evidence=self.evidence, target=self.target, extra=extra,
        )  # fmt: skip
