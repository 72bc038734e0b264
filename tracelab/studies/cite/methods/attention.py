"""Which spans does the model attend to while it writes a statement? A cheap baseline.

One forward pass over the whole context and response gives φ, the attention of every head from the
target's tokens to every span. `attention` is the mean of φ over all heads: a share of attention, in
[0, 1]. A correlate, not an effect: nothing is promised about removal, and there is no interval.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tracelab.core.finding import Metric
from tracelab.core.flow import Ask, Flow
from tracelab.core.item import Observation
from tracelab.core.look import SpanAttention, spans_call
from tracelab.stats.lasso import Floats
from tracelab.studies.cite.ablations import Ablations
from tracelab.studies.cite.attribution import Attribution, SpanScores
from tracelab.studies.cite.methods.kinds import Baseline
from tracelab.studies.cite.methods.registry import METHODS
from tracelab.studies.cite.targets import Target

ATTENTION = Metric("attention", "share", "the target's tokens attend to the span", 0.0, 1.0)
NO_TOKENS = "the span has no token of its own"


@METHODS.register("attention", order=70)
class MeanAttention(Baseline):
    """The mean over heads."""

    name = "attention"
    help = "attention of the target to each span, mean over heads (needs the model's inside)"
    metrics = (ATTENTION,)
    samples = True

    def explain(self, work: Ablations) -> Flow[dict[str, Attribution]]:
        """One pass a continuation, of which only the mean is kept."""
        seen = yield from look(work)
        return {
            t.name: mean(work.scores(self.name, t.name), seen.phi.get(t.name), seen.why)
            for t in work.case.targets
        }


@dataclass(slots=True)
class TargetAttention:
    """Attention [heads, spans] of each target by name; and why some have none."""

    phi: dict[str, Floats] = field(default_factory=dict)
    why: str = ""


def look(work: Ablations) -> Flow[TargetAttention]:
    """Ask for the attention of each target.

    A contrast is looked at while the model writes the text itself, not the other one.
    """
    case = work.case
    prompt, response = case.tokens.prompt_ids, case.tokens.response_ids
    spans = [(u.token_start, u.token_end) for u in case.units]
    found = TargetAttention()
    asked: dict[str, list[tuple[int, list[Target]]]] = {}
    items = {}
    for c, continuation in enumerate(case.continuations):
        mine = [t for t in case.targets if t.continuation == c]
        if not mine:
            continue
        at = len(prompt) + continuation.after
        ids = [*prompt, *response[: continuation.after], *continuation.ids]
        ranges = [(at + t.start, at + t.end) for t in mine]
        call = spans_call(work.ctx.model, ids, spans, ranges)
        items[call.key] = call
        asked.setdefault(call.key, []).append((c, mine))
    refused: dict[int, str] = {}

    def hear(batch: Sequence[Observation]) -> None:
        for o in batch:
            seen = SpanAttention.of(o)
            for c, mine in asked[o.key]:
                if seen.error is not None:
                    refused[c] = seen.error
                    continue
                for t, v in zip(mine, seen.values, strict=True):
                    found.phi[t.name] = v.astype(np.float64)

    yield Ask("attention", list(items.values()), hear)
    found.why = refused[max(refused)] if refused else ""
    return found


def mean(make: SpanScores, phi: Floats | None, why: str) -> Attribution:
    """The mean over heads of φ [heads, n]; without φ, nothing, for a reason."""
    if phi is None:
        return unseen(make, ATTENTION, why)
    weights = np.asarray(phi.mean(axis=0), dtype=np.float64)
    reason = {} if np.isfinite(weights).all() else {"reason": NO_TOKENS}
    return Attribution(make.every(ATTENTION.name, weights, 1, reason), weights, None, 1)


def unseen(make: SpanScores, metric: Metric, why: str) -> Attribution:
    """Nothing, for a reason."""
    nothing = np.full(len(make.units), np.nan)
    return Attribution(make.every(metric.name, None, 0, {"reason": why}), nothing)
