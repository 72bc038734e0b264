"""What suffices: the smallest set of sources found that keeps the target likely.

Values are of one target, nats of its log-odds. Every number here is measured directly, on a model
that answers the same mask the same way, so there is nothing to put an interval around. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tracelab.core.finding import Metric
from tracelab.core.flow import Flow
from tracelab.stats.held_out import ranking
from tracelab.stats.lasso import Floats
from tracelab.stats.masks import Bools
from tracelab.studies.cite.ablations import Ablations
from tracelab.studies.cite.attribution import Attribution
from tracelab.studies.cite.methods.kinds import FAILED_MASK, Question, Values
from tracelab.studies.cite.methods.registry import ALWAYS, METHODS
from tracelab.studies.cite.rows import FaithfulnessRow
from tracelab.studies.cite.targets import Target

VERSION = 2
"""Bumped whenever the same log-probabilities would give other numbers."""
MEMBER = Metric("member", "indicator", "the span is in the set", 0.0, 1.0, 2)


@METHODS.register("sufficient", order=50)
class Sufficient(Question):
    """A small sufficient set, and what it does."""

    name = "sufficient"
    help = "the smallest set found that alone keeps the target within 1 nat (60 masks at most)"
    metrics = (MEMBER,)

    def answer(self, work: Ablations, target: Target, position: int) -> Flow[Attribution]:
        """Search among the best ranked; then remove and keep what was found."""

        def values(masks: Bools) -> Flow[Floats]:
            return work.values(target, masks)

        order = [int(i) for i in ranking(work.weights(target.name, ALWAYS))]
        found = yield from minimal_sufficient(work.n, order, values)
        effect = yield from set_score(work.n, found.members, values)
        make = work.scores(self.name, target.name)
        measured = bool(np.isfinite(found.full) and np.isfinite(found.empty))
        scored = found.masks - found.failed
        more = {"reached": found.reached, **({} if measured else FAILED_MASK)}
        scores = [
            make.one(i, MEMBER.name, float(i in found.members) if measured else None, scored, more)
            for i in range(work.n)
        ]
        tests = (
            ("set_size", float(len(found.members)) if measured else None, scored),
            ("necessity", effect.necessity, 2),
            ("sufficiency", effect.sufficiency, 2),
            ("hold", effect.hold, 2),
        )
        rows = tuple(
            FaithfulnessRow.of(work.case.trace_id, self.name, target.name, metric, v, n, VERSION)
            for metric, v, n in tests
        )
        return Attribution(scores, None, None, found.masks, found.failed, rows)


@dataclass(frozen=True, slots=True)
class Minimal:
    """A small set of sources that keeps the target about as likely as the whole context does.

    Attributes:
        members: The sources, in the order of the text.
        reached: Whether it does; if not, `members` is the best found within the budget.
        full: Value given the whole context; NaN when it could not be measured.
        empty: Given none of it.
        value: Given only the members.
        masks: Masks that were asked.
        failed: Of these, how many failed.
    """

    members: tuple[int, ...]
    reached: bool
    full: float
    empty: float
    value: float
    masks: int
    failed: int


def minimal_sufficient(
    n: int,
    order: Sequence[int],
    values: Values,
    *,
    tolerance: float = 1.0,
    candidates: int = 12,
    budget: int = 60,
) -> Flow[Minimal]:
    """Greedy: add the source that helps most until enough is there, then drop what is not needed.

    Sources that only work together (AND) give nothing one at a time: when no single one helps, the
    pairs of the best-ranked are tried.

    Args:
        n: Sources.
        order: Sources from most to least promising, such as a ranking by weight.
        values: Asks for v.
        tolerance: Enough is `full - tolerance`, nats.
        candidates: How many of the most promising are considered.
        budget: Most masks.
    """
    pool = [int(i) for i in order[:candidates]]
    ends = yield from values(np.array([[True] * n, [False] * n]))
    full, empty = float(ends[0]), float(ends[1])
    asked, failed = 2, int(np.isnan(ends).sum())
    members: list[int] = []
    value = empty
    goal = full - tolerance
    while np.isfinite(goal) and not value >= goal and asked < budget:
        rest = [i for i in pool if i not in members]
        best: tuple[float, tuple[int, ...]] | None = None
        for width in (1, 2):
            steps = list(combinations(rest, width))[: budget - asked]
            if not steps:
                break
            found = yield from values(_only(n, [[*members, *s] for s in steps]))
            asked, failed = asked + len(steps), failed + int(np.isnan(found).sum())
            ranked = [(float(v), s) for v, s in zip(found, steps, strict=True) if np.isfinite(v)]
            best = max(ranked, key=lambda p: p[0], default=None)
            if best is not None and not best[0] <= value + tolerance / 4:
                break
        if best is None or best[0] <= value:
            break
        value, members = best[0], [*members, *best[1]]
    for i in list(members):
        if not value >= goal or len(members) < 2 or asked >= budget:
            break
        fewer = [j for j in members if j != i]
        found = yield from values(_only(n, [fewer]))
        asked, failed = asked + 1, failed + int(np.isnan(found).sum())
        if found[0] >= goal:
            members, value = fewer, float(found[0])
    return Minimal(tuple(sorted(members)), bool(value >= goal), full, empty, value, asked, failed)


@dataclass(frozen=True, slots=True)
class SetScore:
    """What a set of sources does; None where a mask failed.

    Attributes:
        necessity: v(all) - v(all but the set): positive when the target needs it.
        sufficiency: v(only the set) - v(none): positive when it suffices to raise the target.
        hold: v(all) - v(only the set): near 0 when nothing else is needed.
        context: v(all) - v(none): what there is to explain.
    """

    necessity: float | None
    sufficiency: float | None
    hold: float | None
    context: float | None


def set_score(n: int, members: Sequence[int], values: Values) -> Flow[SetScore]:
    """Necessity and sufficiency of a set (SelfCite's rewards, arXiv:2502.09604): 4 masks."""
    only = _only(n, [list(members)])[0]
    all_, none = np.ones(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    heard = yield from values(np.array([all_, none, only, ~only]))
    full, empty, kept, without = (float(v) for v in heard)

    def gap(a: float, b: float) -> float | None:
        return a - b if np.isfinite(a - b) else None

    return SetScore(gap(full, without), gap(kept, empty), gap(full, kept), gap(full, empty))


def _only(n: int, sets: Sequence[Sequence[int]]) -> Bools:
    masks = np.zeros((len(sets), n), dtype=np.bool_)
    for row, s in zip(masks, sets, strict=True):
        row[list(s)] = True
    return masks
