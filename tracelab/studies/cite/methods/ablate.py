"""What does the target lose when a source is removed, on average over what else is kept?

- `effect`: the average effect of keeping the source while the others are kept with probability 1/2
  each, unbiased and with an interval (`tracelab.stats.effects`);
- `weight`: the source's weight in the surrogate that predicts best out of fold, shrunken and
  without an interval: the better ranking.

Positive: the source makes the target likelier. Unit: nats, of the whole target's log-odds
log p - log(1 - p); of a contrast, of log p(A) - log p(B). Where answers are sampled: what is
compared, in [0, 1], so that an effect is in [-1, 1]. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracelab.core.finding import Metric
from tracelab.stats.effects import SampledOutcomes, average_effects
from tracelab.stats.lasso import Floats
from tracelab.stats.masks import Bools, Design
from tracelab.stats.surrogate import MIN_MASKS, fit
from tracelab.studies.cite.ablations import Ablations
from tracelab.studies.cite.attribution import Attribution, SpanScores
from tracelab.studies.cite.methods.kinds import MaskMethod
from tracelab.studies.cite.methods.registry import ALWAYS, METHODS
from tracelab.studies.cite.plan import Knowledge
from tracelab.studies.cite.targets import Target

ESTIMATOR_VERSION = 4
"""Bumped whenever the same log-probabilities would give other numbers."""
EFFECT = Metric("effect", "nats", "keeping the span makes the target likelier", least=2)
WEIGHT = Metric("weight", "nats", "keeping the span makes the target likelier", least=2)


@METHODS.register(ALWAYS, order=10)
class Ablate(MaskMethod):
    """Average effects, and the ranking."""

    name = ALWAYS
    help = "effects with intervals, and the ranking (always computed)"
    metrics = (EFFECT, WEIGHT)
    samples = True

    def attribute(self, work: Ablations, target: Target, position: int) -> Attribution:
        """See `attribute`."""
        rows = work.rows_for("design")
        return attribute(
            work.scores(self.name, target.name),
            work.design_of(rows),
            work.outcome(target, rows),
            rng=np.random.default_rng([*work.seed, position]),
            knowledge=work.knowledge(target.text),
            sampled=work.sampled(target, rows),
        )


def attribute(
    make: SpanScores,
    design: Design,
    y: Floats,
    *,
    rng: np.random.Generator,
    knowledge: Knowledge | None = None,
    sampled: SampledOutcomes | None = None,
) -> Attribution:
    """Effects and weights of all sources for one target.

    Args:
        make: Makes their scores.
        design: The masks. Rows for other purposes than `design` are ignored.
        y: Outcome of each [m], nats; not finite where the mask failed: left out and counted.
        rng: Assigns folds.
        knowledge: Groups and prior.
        sampled: What is known of the outcomes where they are means of samples, one row a mask.

    Returns:
        With fewer than 8 masks, or for a source that too few masks tell apart, scores are
        `insufficient`.
    """
    used, out, failed = measured(design, y)
    if (none := too_few(make, (EFFECT, WEIGHT), used, failed)) is not None:
        return none
    n, more = len(used), counted(failed)
    known = knowledge or Knowledge()
    s = fit(
        used.masks, out, rng=rng, prior=known.prior, groups=known.groups, clusters=used.clusters
    )
    behind = None
    if sampled is not None:
        ok = _fitted(design, y)
        behind = SampledOutcomes(sampled.noise[ok], sampled.n[ok])
    e = average_effects(
        used.masks, out, s, level=make.level, alone=used.alone(), clusters=used.clusters,
        sampled=behind,
    )  # fmt: skip
    scores = make.every(EFFECT.name, e.value, e.kept + e.removed, more, lo=e.lo, hi=e.hi)
    scores += make.every(WEIGHT.name, s.weights, n, {**more, "oof_lds": s.oof_lds})
    return Attribution(scores, s.weights, s, n, failed)


def measured(design: Design, y: Floats) -> tuple[Design, Floats, int]:
    """The random masks that were scored, their outcomes, and how many failed."""
    ok = _fitted(design, y)
    asked = sum(p == "design" for p in design.purposes)
    return design.select(ok), y[ok], asked - int(ok.sum())


def _fitted(design: Design, y: Floats) -> Bools:
    rows = np.array([p == "design" for p in design.purposes], dtype=np.bool_)
    return np.asarray(rows & np.isfinite(y), dtype=np.bool_)


def too_few(
    make: SpanScores, metrics: Sequence[Metric], used: Design, failed: int
) -> Attribution | None:
    """What a method says when too few masks could be scored; None when there are enough."""
    size, n = len(make.units), len(used)
    if n >= min(MIN_MASKS, 2**size) and len(np.unique(used.clusters)) > 1:
        return None
    why = {"reason": f"only {n} masks could be scored", "failed": failed}
    scores = [s for m in metrics for s in make.every(m.name, None, n, why)]
    return Attribution(scores, np.full(size, np.nan), None, n, failed)


def counted(failed: int) -> dict[str, Any]:
    """For `extra`: the masks that failed, if any did."""
    return {"failed": failed} if failed else {}
