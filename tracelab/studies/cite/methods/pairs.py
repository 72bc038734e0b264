"""Which sources act together: removals of two at a time.

Values are of one target, nats of its log-odds. Every number here is measured directly, on a model
that answers the same mask the same way, so there is nothing to put an interval around. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from tracelab.core.finding import Metric
from tracelab.core.flow import Flow
from tracelab.stats.held_out import ranking
from tracelab.stats.lasso import Floats
from tracelab.stats.masks import Bools, pairs
from tracelab.studies.cite.ablations import Ablations
from tracelab.studies.cite.attribution import Attribution
from tracelab.studies.cite.methods.kinds import FAILED_MASK, Question, Values
from tracelab.studies.cite.methods.registry import ALWAYS, METHODS
from tracelab.studies.cite.targets import Target

TOP = 8
"""Sources among which pairs are tried: 37 masks."""
INTERACTION = Metric(
    "interaction", "nats", "the span and the one after the colon need each other", least=4
)


@METHODS.register("pairs", order=60)
class Pairs(Question):
    """Interactions among the top sources."""

    name = "pairs"
    help = "which of the top 8 spans need or replace each other (37 masks)"
    metrics = (INTERACTION,)

    def answer(self, work: Ablations, target: Target, position: int) -> Flow[Attribution]:
        """Remove the best ranked one and two at a time."""

        def values(masks: Bools) -> Flow[Floats]:
            return work.values(target, masks)

        top = [int(i) for i in ranking(work.weights(target.name, ALWAYS))[:TOP]]
        found = yield from pair_interactions(work.n, top, values)
        make = work.scores(self.name, target.name)
        scores = []
        for p in found:
            more = {"other": p.j, "kind": p.kind, "drop": p.drop}
            why = more if p.interaction is not None else {**more, **FAILED_MASK}
            scores.append(make.one(p.i, f"{INTERACTION.name}:{p.j}", p.interaction, 4, why))
        return Attribution(scores, None, None)


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
    n: int, members: Sequence[int], values: Values, *, threshold: float = 1.0
) -> Flow[list[PairScore]]:
    """Interactions of all pairs among some sources: 1 + k + k(k - 1)/2 masks (37 for k = 8).

    Three or more sources that all say the same hide each other from this test; a greedy sufficient
    set still finds one of them.

    Args:
        n: Sources.
        members: The sources, such as the top 8.
        values: Asks for v.
        threshold: Nats of interaction from which a pair is called joint or redundant.
    """
    k = sorted({int(i) for i in members})
    v = yield from values(pairs(n, k).masks)
    full, one = v[0], dict(zip(k, v[1 : 1 + len(k)], strict=True))
    out: list[PairScore] = []
    for (i, j), both in zip(combinations(k, 2), v[1 + len(k) :], strict=True):
        interaction, drop = float(full - one[i] - one[j] + both), float(full - both)
        if not (np.isfinite(interaction) and np.isfinite(drop)):
            out.append(PairScore(i, j, None, None, None))
            continue
        kind: Literal["joint", "redundant", "separate"] = "separate"
        if abs(interaction) >= threshold:
            kind = "joint" if interaction > 0 else "redundant"
        out.append(PairScore(i, j, interaction, drop, kind))
    return out
