"""Sets of sources: what suffices, what is needed, and which sources act together.

Values are of one target, nats (log-probability, or its log-odds). The questions follow the
protocol of `tracelab.core.ask`. Every number here is measured directly, on a model that answers
the same mask the same way, so there is nothing to put an interval around. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from tracelab.core.ask import Bools, Question
from tracelab.stats.masks import pairs

METHOD = "subset"
ESTIMATOR_VERSION = 1


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
    *,
    tolerance: float = 1.0,
    candidates: int = 12,
    budget: int = 60,
) -> Question[Minimal]:
    """Greedy: add the source that helps most until enough is there, then drop what is not needed.

    Sources that only work together (AND) give nothing one at a time: when no single one helps, the
    pairs of the best-ranked are tried.

    Args:
        n: Sources.
        order: Sources from most to least promising, such as a ranking by weight.
        tolerance: Enough is `full - tolerance`, nats.
        candidates: How many of the most promising are considered.
        budget: Most masks.
    """
    pool = [int(i) for i in order[:candidates]]
    ends = yield np.array([[True] * n, [False] * n])
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
            found = yield _only(n, [[*members, *s] for s in steps])
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
        found = yield _only(n, [fewer])
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


def set_score(n: int, members: Sequence[int]) -> Question[SetScore]:
    """Necessity and sufficiency of a set (SelfCite's rewards, arXiv:2502.09604): 4 masks."""
    only = _only(n, [list(members)])[0]
    values = yield np.array([np.ones(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_), only, ~only])
    full, empty, kept, without = (float(v) for v in values)

    def gap(a: float, b: float) -> float | None:
        return a - b if np.isfinite(a - b) else None

    return SetScore(gap(full, without), gap(kept, empty), gap(full, kept), gap(full, empty))


@dataclass(frozen=True, slots=True)
class PairScore:
    """How two sources act together, everything else kept.

    Attributes:
        i: A source.
        j: A later one.
        interaction: v(all) - v(-i) - v(-j) + v(-ij): positive when each needs the other (AND),
            negative when either will do (OR). None where a mask failed.
        drop: v(all) - v(-ij): what removing both costs.
        kind: `joint`, `redundant` or `separate`; None where a mask failed.
    """

    i: int
    j: int
    interaction: float | None
    drop: float | None
    kind: Literal["joint", "redundant", "separate"] | None


def pair_interactions(
    n: int, members: Sequence[int], *, threshold: float = 1.0
) -> Question[list[PairScore]]:
    """Interactions of all pairs among some sources: 1 + k + k(k - 1)/2 masks (37 for k = 8).

    Three or more sources that all say the same hide each other from this test; a greedy sufficient
    set still finds one of them.

    Args:
        n: Sources.
        members: The sources, such as the top 8.
        threshold: Nats of interaction from which a pair is called joint or redundant.
    """
    k = sorted({int(i) for i in members})
    values = yield pairs(n, k).masks
    full, one = values[0], dict(zip(k, values[1 : 1 + len(k)], strict=True))
    out: list[PairScore] = []
    for (i, j), both in zip(combinations(k, 2), values[1 + len(k) :], strict=True):
        interaction, drop = float(full - one[i] - one[j] + both), float(full - both)
        if not (np.isfinite(interaction) and np.isfinite(drop)):
            out.append(PairScore(i, j, None, None, None))
            continue
        kind: Literal["joint", "redundant", "separate"] = "separate"
        if abs(interaction) >= threshold:
            kind = "joint" if interaction > 0 else "redundant"
        out.append(PairScore(i, j, interaction, drop, kind))
    return out


def _only(n: int, sets: Sequence[Sequence[int]]) -> Bools:
    masks = np.zeros((len(sets), n), dtype=np.bool_)
    for row, s in zip(masks, sets, strict=True):
        row[list(s)] = True
    return masks
