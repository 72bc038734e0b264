"""ContextCite's weights, exactly as published (arXiv:2409.00729), from the masks of every study.

Positive: the source makes the target likelier; nats of its log-odds. No interval. Pure.
"""

from __future__ import annotations

from tracelab.stats.lasso import Floats, context_cite
from tracelab.stats.masks import Design
from tracelab.studies.cite.ablations import Ablations
from tracelab.studies.cite.attribution import Attribution, SpanScores
from tracelab.studies.cite.methods.ablate import WEIGHT, counted, measured, too_few
from tracelab.studies.cite.methods.kinds import MaskMethod
from tracelab.studies.cite.methods.registry import METHODS
from tracelab.studies.cite.targets import Target


@METHODS.register("context-cite", order=20)
class ContextCite(MaskMethod):
    """The published surrogate."""

    name = "context-cite"
    help = "the published weights, from the same masks"
    metrics = (WEIGHT,)

    def attribute(self, work: Ablations, target: Target, position: int) -> Attribution:
        """See `published`."""
        rows = work.rows_for("design")
        y = work.outcome(target, rows)
        make = work.scores(self.name, target.name)
        return published(make, work.design_of(rows), y, tokens=target.end - target.start)


def published(make: SpanScores, design: Design, y: Floats, *, tokens: int) -> Attribution:
    """Weights of all sources for one target.

    Args:
        make: Makes their scores.
        design: The masks; of the random ones.
        y: Outcome of each [m], nats; not finite where the mask failed.
        tokens: The target's tokens, which scale the penalty.
    """
    used, out, failed = measured(design, y)
    if (none := too_few(make, (WEIGHT,), used, failed)) is not None:
        return none
    weights, bias = context_cite(used.masks, out, tokens)
    more = {**counted(failed), "intercept": bias}
    scores = make.every(WEIGHT.name, weights, len(used), more)
    return Attribution(scores, weights, None, len(used), failed)
