"""The effect of removing each source from the whole context. Exact, no sampling, hence no interval.

Blind to sources that say the same. Positive: the source makes the target likelier; nats. Pure.
"""

from __future__ import annotations

import numpy as np

from tracelab.stats.lasso import Floats
from tracelab.stats.masks import Design, leave_one_out
from tracelab.studies.cite.ablations import Ablations
from tracelab.studies.cite.attribution import Attribution, SpanScores
from tracelab.studies.cite.methods.ablate import EFFECT
from tracelab.studies.cite.methods.kinds import MaskMethod
from tracelab.studies.cite.methods.registry import METHODS
from tracelab.studies.cite.targets import Target


@METHODS.register("leave-one-out", order=30)
class LeaveOneOut(MaskMethod):
    """Each source removed on its own."""

    name = "leave-one-out"
    help = "the removal of each span alone: a mask a span; misses what is said twice"
    metrics = (EFFECT,)

    def masks(self, n: int) -> Design:
        """All but one, each in turn."""
        return leave_one_out(n).of("leave_one_out")

    def attribute(self, work: Ablations, target: Target, position: int) -> Attribution:
        """See `removals`."""
        rows = work.rows_for("design", "full", "empty", "leave_one_out")
        make = work.scores(self.name, target.name)
        return removals(make, work.design_of(rows), work.outcome(target, rows))


def removals(make: SpanScores, design: Design, y: Floats) -> Attribution:
    """Effects of all sources for one target, from any masks that hold those that are needed."""
    kept = design.masks.sum(axis=1)
    full = [i for i, k in enumerate(kept) if k == design.n and np.isfinite(y[i])]
    effect = np.full(len(make.units), np.nan)
    failed = 0
    for i in np.flatnonzero(kept == design.n - 1):
        if full and np.isfinite(y[i]):
            effect[int(np.argmin(design.masks[i]))] = y[full[0]] - y[i]
        failed += not np.isfinite(y[i])
    known = np.isfinite(effect).astype(np.int64)
    why = {"reason": "exact: nothing is sampled, so there is no interval"}
    scores = make.every(EFFECT.name, effect, 2 * known, why)
    return Attribution(scores, effect, None, int(known.sum()), failed)
