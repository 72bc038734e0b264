"""Methods that look before they ask again, on contexts: Shapley values, sufficient sets, pairs.

A question (`tracelab.core.ask`) is asked by replaying it from its start with the values known so
far, until it wants a mask that was never scored; that mask is scored, and the replay goes further.
So nothing is held between rounds, many contexts go side by side, and a run is rebuilt from its
journal by the same code. Every draw comes from a seed of the study, the method and the target.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from tracelab.core.ask import Bools, Floats
from tracelab.core.finding import Score
from tracelab.core.unit import Unit
from tracelab.stats.held_out import ranking
from tracelab.stats.masks import Design, Purpose, design
from tracelab.store.cite_rows import FaithfulnessRow
from tracelab.studies.cite import shapley, subset
from tracelab.studies.cite.options import ContextConfig
from tracelab.studies.cite.probes import ProbeSink
from tracelab.studies.cite.shapley import Shapley
from tracelab.studies.cite.subject import ContextStudy
from tracelab.studies.cite.subset import Minimal, PairScore, SetScore
from tracelab.studies.cite.targets import Target

SHAPLEY, SUFFICIENT, PAIRS = "shapley", "sufficient", "pairs"
METHODS = (SHAPLEY, SUFFICIENT, PAIRS)
ESTIMATOR_VERSION = 1
TOP = 8
"""Sources among which pairs are tried: 37 masks."""
SMALL = 10
"""Up to so many sources orders are drawn; beyond that complementary masks, cheaper a draw."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a method says about one target.

    Attributes:
        scores: By source.
        tests: Of a sufficient set: what it does, as rows of `faithfulness`.
    """

    scores: list[Score]
    tests: list[FaithfulnessRow]


@dataclass(slots=True)
class Asker:
    """One study with everything that was measured of it."""

    study: ContextStudy
    sink: ProbeSink
    config: ContextConfig
    seed: Sequence[int]

    def answer(self, method: str, position: int, target: Target, weights: Floats) -> Answer | Bools:
        """The answer of a method about a target, or the masks that it needs first.

        Args:
            method: One of `METHODS`.
            position: The target's place.
            target: It.
            weights: The ranking of the sources for it [n].
        """
        n = self.study.n
        rng = np.random.default_rng([*self.seed, METHODS.index(method), position])
        order = ranking(weights)
        known = self._known(target)
        if method == SHAPLEY:
            budget = self.config.ablations
            question: Generator[Bools, Floats, Any] = (
                shapley.permutations(n, max(3, budget // max(1, 2 * (n - 1))), rng)
                if n <= SMALL
                else shapley.kernel(n, max(3, budget // 2), rng)
            )
        elif method == SUFFICIENT:
            question = _sufficient(n, [int(i) for i in order])
        else:
            question = subset.pair_interactions(n, [int(i) for i in order[:TOP]])
        found = _replay(question, known)
        if isinstance(found, _Wanted):
            return found.masks
        return self._said(method, target, found.value)

    def _known(self, target: Target) -> dict[bytes, float]:
        rows = [i for i, r in enumerate(self.study.rows) if r.keys or r.error]
        y = self.sink.measured(self.study, target, rows).outcome
        done = [self.sink.has(self.study, target, i) for i in rows]
        masks = [np.array(self.study.rows[i].kept, dtype=np.bool_).tobytes() for i in rows]
        return {m: float(v) for m, v, ok in zip(masks, y, done, strict=True) if ok}

    def _said(self, method: str, target: Target, found: Any) -> Answer:
        make = _Scores(self.study.trace.trace_id, self.study.units, target.name, method,
                       self.config.level)  # fmt: skip
        if method == SHAPLEY:
            return Answer(_shapley(make, found), [])
        if method == SUFFICIENT:
            minimal, effect = found
            return Answer(_members(make, minimal), _set_tests(make, minimal, effect))
        return Answer(_pairs(make, found), [])


def wanted(n: int, masks: Sequence[Bools], method: str) -> Design:
    """Masks that questions want, each once, as a design of their own purpose."""
    fresh = {row.tobytes(): row for part in masks for row in part}
    rows = np.array(list(fresh.values()), dtype=np.bool_).reshape(len(fresh), n)
    return design(method, rows, cast(Purpose, method))


@dataclass(frozen=True, slots=True)
class _Wanted:
    masks: Bools


@dataclass(frozen=True, slots=True)
class _Done:
    value: Any


def _replay(question: Generator[Bools, Floats, Any], known: dict[bytes, float]) -> _Wanted | _Done:
    try:
        masks = next(question)
        while True:
            missing = [m for m in masks if m.tobytes() not in known]
            if missing:
                question.close()
                return _Wanted(np.array(missing))
            masks = question.send(np.array([known[m.tobytes()] for m in masks], dtype=np.float64))
    except StopIteration as end:
        return _Done(end.value)


def _sufficient(n: int, order: Sequence[int]) -> Generator[Bools, Floats, tuple[Minimal, SetScore]]:
    found = yield from subset.minimal_sufficient(n, order)
    effect = yield from subset.set_score(n, found.members)
    return found, effect


@dataclass(frozen=True, slots=True)
class _Scores:
    trace_id: str
    units: Sequence[Unit]
    target: str
    method: str
    level: float

    def __call__(
        self, unit: int, metric: str, value: float | None, n: int,
        ends: tuple[float, float] | None = None, **extra: Any,
    ) -> Score:  # fmt: skip
        ok = value is not None and bool(np.isfinite(value))
        sure = ok and ends is not None and bool(np.isfinite(ends).all())
        return Score(
            trace_id=self.trace_id,
            unit_kind=self.units[unit].kind,
            unit_index=unit,
            method=self.method,
            metric=metric,
            value=value if ok else None,
            lo=ends[0] if sure and ends is not None else None,
            hi=ends[1] if sure and ends is not None else None,
            level=self.level,
            n=n,
            status="ok" if ok else "insufficient",
            evidence="scored",
            target=self.target,
            extra=extra if ok else {**extra, "reason": "a mask that it needs failed"},
        )

    def test(self, metric: str, value: float | None, n: int) -> FaithfulnessRow:
        status = "insufficient" if value is None else "ok"
        return FaithfulnessRow(self.trace_id, self.method, self.target, metric, value, n, status,
                               str(ESTIMATOR_VERSION))  # fmt: skip


def _shapley(make: _Scores, found: Shapley) -> list[Score]:
    lo, hi = found.interval(make.level)
    return [
        make(i, "effect", float(v), found.masks, (float(lo[i]), float(hi[i])),
             stderr=float(found.stderr[i]) if np.isfinite(found.stderr[i]) else None,
             failed=found.failed)
        for i, v in enumerate(found.value)
    ]  # fmt: skip


def _members(make: _Scores, found: Minimal) -> list[Score]:
    measured = bool(np.isfinite(found.full) and np.isfinite(found.empty))
    return [
        make(u.index, "member", float(u.index in found.members) if measured else None,
             found.masks, reached=found.reached)
        for u in make.units
    ]  # fmt: skip


def _set_tests(make: _Scores, found: Minimal, effect: SetScore) -> list[FaithfulnessRow]:
    return [
        make.test("set_size", float(len(found.members)), found.masks),
        make.test("necessity", effect.necessity, 2),
        make.test("sufficiency", effect.sufficiency, 2),
        make.test("hold", effect.hold, 2),
    ]


def _pairs(make: _Scores, found: list[PairScore]) -> list[Score]:
    return [
        make(p.i, f"interaction:{p.j}", p.interaction, 4, other=p.j, kind=p.kind, drop=p.drop)
        for p in found
    ]
