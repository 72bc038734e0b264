"""Log-probabilities of masks, as they arrive: placed in their studies, checked, given as matrices.

A probe that failed, or whose log-probabilities are no numbers, is a row of NaN with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tracelab.core.item import Observation
from tracelab.stats.masks import Design
from tracelab.store.cite_rows import ProbeRow
from tracelab.studies.cite.ablate import TokenRange
from tracelab.studies.cite.context import hex_mask
from tracelab.studies.cite.subject import ContextStudy
from tracelab.studies.cite.targets import Target

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(slots=True)
class Measured:
    """Log-probabilities of one target under some masks of one study.

    Attributes:
        design: The masks, m of them, and how they were drawn.
        logprobs: float64 [m, T], nats; NaN rows where a mask failed. For a contrast the columns
            are the tokens of A, then those of B.
        range: Which columns are what.
        errors: One reason a mask; None where it did not fail.
    """

    design: Design
    logprobs: Floats
    range: TokenRange
    errors: list[str | None]

    @property
    def outcome(self) -> Floats:
        """What is explained [m]: log-odds of the target; of a contrast, log p(A) - log p(B)."""
        return self.range.outcome(self.logprobs)


@dataclass(slots=True)
class ProbeSink:
    """Receives observations of score items and keeps what estimators need.

    Attributes:
        total: Probes so far, one for every mask and continuation of every study.
        failed: Those that failed.
    """

    total: int = 0
    failed: int = 0
    _places: dict[str, list[tuple[str, int, int]]] = field(default_factory=dict)
    _values: dict[tuple[str, int, int], Floats] = field(default_factory=dict)
    _errors: dict[tuple[str, int, int], str] = field(default_factory=dict)
    _cached: dict[str, int | None] = field(default_factory=dict)
    _known: dict[str, int] = field(default_factory=dict)

    def expect(self, studies: Iterable[ContextStudy]) -> None:
        """Learn where the observations of studies belong; rows added since are added."""
        for s in studies:
            trace = s.trace.trace_id
            for r in range(self._known.get(trace, 0), len(s.rows)):
                for c, key in enumerate(s.rows[r].keys):
                    self._places.setdefault(key, []).append((trace, r, c))
                if (why := s.rows[r].error) is not None:
                    for c in range(len(s.continuations)):
                        self._errors[trace, r, c] = why
                        self.total += 1
                        self.failed += 1
            self._known[trace] = len(s.rows)

    def __call__(self, observations: Sequence[Observation]) -> None:
        """Place observations."""
        for o in observations:
            self._cached[o.key] = o.cached_tokens
            row = o.token_logprobs
            why = o.error
            if why is None and (row is None or not all(map(math.isfinite, row))):
                why = "not_a_number: the engine returned a log-probability that is not finite"
            for place in self._places.get(o.key, ()):
                if place in self._values or place in self._errors:
                    continue  # two stages asked for one item
                self.total += 1
                if why is not None:
                    self._errors[place] = why
                    self.failed += 1
                else:
                    self._values[place] = np.asarray(row, dtype=np.float64)

    def measured(self, study: ContextStudy, target: Target, rows: Sequence[int]) -> Measured:
        """Log-probabilities of a target under the masks of some rows of its study."""
        trace = study.trace.trace_id
        width = target.end - target.start
        parts = [self._column(trace, rows, target.continuation, target.start, target.end, width)]
        if target.rather_than is not None:
            size = len(study.continuations[target.rather_than].ids)
            other = self._column(trace, rows, target.rather_than, 0, size, size)
            parts.append(other)
        used = [target.continuation, target.rather_than or 0]
        errors = [
            next((w for c in used if (w := self._errors.get((trace, i, c))) is not None), None)
            for i in rows
        ]
        against = None if target.rather_than is None else (width, width + parts[1].shape[1])
        columns = TokenRange(target.name, 0, width, against)
        return Measured(study.design_of(rows), np.hstack(parts), columns, errors)

    def has(self, study: ContextStudy, target: Target, row: int) -> bool:
        """Whether a target was asked under one row's mask, be it in vain."""
        place = (study.trace.trace_id, row)
        used = [target.continuation, *([] if target.rather_than is None else [target.rather_than])]
        return all((*place, c) in self._values or (*place, c) in self._errors for c in used)

    def response(self, study: ContextStudy, row: int) -> Floats | None:
        """Log-probabilities of the response under one row's mask [T]; None if it failed."""
        return self._values.get((study.trace.trace_id, row, 0))

    def total_of(self, study: ContextStudy, target: Target, row: int) -> float | None:
        """Log-probability of a target (its difference, for a contrast) under one row's mask."""
        trace = study.trace.trace_id
        mine = self._values.get((trace, row, target.continuation))
        if mine is None:
            return None
        total = float(mine[target.start : target.end].sum())
        if target.rather_than is None:
            return total
        other = self._values.get((trace, row, target.rather_than))
        return None if other is None else total - float(other.sum())

    def _column(
        self, trace: str, rows: Sequence[int], c: int, start: int, end: int, width: int
    ) -> Floats:
        out = np.full((len(rows), width), np.nan)
        for k, i in enumerate(rows):
            if (found := self._values.get((trace, i, c))) is not None:
                out[k] = found[start:end]
        return out

    def rows(self, studies: Iterable[ContextStudy]) -> list[ProbeRow]:
        """Every probe as a row of the database; masks with equal prompts share a row."""
        found: dict[tuple[str, str], ProbeRow] = {}
        for s in studies:
            trace = s.trace.trace_id
            for i, r in enumerate(s.rows):
                for c, key in enumerate(r.keys or [f"none:{i}"]):
                    value = self._values.get((trace, i, c))
                    why = self._errors.get((trace, i, c))
                    if value is None and why is None:
                        continue  # the run ended before it was asked
                    found.setdefault(
                        (trace, key),
                        ProbeRow(
                            trace_id=trace,
                            item_key=key,
                            unit_index=i,
                            intervention=f"{s.mode}:{r.purpose}:{hex_mask(r.kept)}",
                            target="response" if c == 0 else f"continuation:{c}",
                            logprob=None if value is None else min(float(value.sum()), 0.0),
                            n_target_tokens=len(s.continuations[c].ids),
                            cached_tokens=self._cached.get(key),
                            error=why,
                        ),
                    )
        return list(found.values())

    def forget(self, studies: Iterable[ContextStudy]) -> None:
        """Drop the log-probabilities of studies that are finished."""
        gone = {s.trace.trace_id for s in studies}
        for held in (self._values, self._errors):
            for place in [p for p in held if p[0] in gone]:
                del held[place]
