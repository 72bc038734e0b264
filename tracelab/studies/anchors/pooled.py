"""Pooled resampling importance: all boundaries of a trace estimated at once.

The same rollouts as `resample`, read through the value curve of `stats.value_curve`: posterior
means, intervals that assume nothing of the sentence they are about, and the probability that a
sentence matters. Stored beside the unpooled numbers, never instead of them. Signs and ranges as in
`resample`.

The intervals are likelihood-based: they hardly depend on when sampling was stopped or where it
was spent. `python -m benchmarks coverage` and tests hold them to worlds unlike the prior.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tracelab.core.finding import Score
from tracelab.core.unit import Unit
from tracelab.stats.value_curve import Posterior, Prior, fit, informed, posterior
from tracelab.studies.anchors.grouping import INSIDE_TOKEN, MIN_ROLLOUTS
from tracelab.studies.anchors.tally import Tally

METHOD = "resample-pooled"

_FIT_UNITS = 600  # the bank is told apart long before: more units only take longer


def fit_prior(counts: Sequence[Tally]) -> Prior:
    """The prior of the run's value curves, from enough of its traces."""
    chosen, units = [], 0
    for c in counts:
        if units < _FIT_UNITS and c.left_n.sum() > 0:
            chosen.append(c.curve())
            units += len(c.keep)
    found = fit(chosen)
    # Rewards in between vary less than coins, which would hide that predictions are off.
    return found if all(c.whole for c in counts) else replace(found, joins=False)


def estimate(
    trace_id: str,
    units: Sequence[Unit],
    counts: Tally,
    prior: Prior,
    *,
    delta: float,
    level: float = 0.95,
    min_rollouts: int = MIN_ROLLOUTS,
) -> list[Score]:
    """Posterior value curve and importances of one trace.

    Args:
        trace_id: The trace.
        units: Its sentences.
        counts: Its rollouts, from `resample.tally`.
        prior: From `value_curve.fit` over the traces of the run.
        delta: A sentence matters if |ΔV| exceeds this.
        level: Coverage of the intervals.
        min_rollouts: A value that fewer rollouts inform is `insufficient`. A sentence of which
            fewer were seen, alternatives to it or continuations of it, or only one of the two, is
            `insufficient`, unless 1 - p_i < `delta`: then it is `certified`, and its bounds are
            those that p_i alone gives, -(1 - p_i) and 1 - p_i.

    Returns:
        `value` of every boundary and `delta_value` of every sentence; `n` of a value counts the
        rollouts that inform it (`stats.value_curve.informed`). Where it was measured, a sentence's
        `extra` has `prob_matters` = P(|ΔV_i| > delta), and `prob_decisive`, the posterior of which
        sentence has the largest effect. `extra["interval"]` says what intervals rest on besides
        a sentence itself: its `neighbours`, where they predict each other well in this run, or
        its `own rollouts` alone.
    """
    if not units:
        return []
    fitted = posterior(counts.curve(), prior)
    rest = "neighbours" if prior.joins else "own rollouts"
    return scores(trace_id, units, counts, fitted, delta, level, min_rollouts, rest)


def scores(
    trace_id: str,
    units: Sequence[Unit],
    counts: Tally,
    fitted: Posterior,
    delta: float,
    level: float,
    min_rollouts: int,
    rests_on: str,
) -> list[Score]:
    """A posterior as scores; see `estimate`."""
    found: list[Score] = []
    value, lo, hi = fitted.values(level)
    behind = informed(counts.n, counts.left_n, counts.keep)
    for b in range(len(value)):
        found.append(
            Score.of(
                trace_id, "boundary", b, METHOD, "value", _inside(value[b], lo[b], hi[b]),
                level=level, n=int(behind[b]), least=min_rollouts, interval=(lo[b], hi[b]),
            )
        )  # fmt: skip
    change, lo, hi = fitted.importances(level)
    matters, decisive = fitted.exceeds(delta), fitted.decisive(delta)
    for u in units:
        i = u.index
        extra: dict[str, object] = {"n_replaced": int(counts.left_n[i]), "delta": delta}
        extra["interval"] = rests_on
        n = int(counts.left_n[i] + counts.n[i + 1])
        estimated, certified, ends = True, False, (float(lo[i]), float(hi[i]))
        if u.token_end == u.token_start:
            estimated, extra = False, {"reason": INSIDE_TOKEN}
        elif counts.exact[i] and 1 - counts.keep[i] < delta and counts.left_n[i] < min_rollouts:
            most = float(1 - counts.keep[i])
            estimated, certified, ends = n > 0, True, (-most, most)
        elif n < min_rollouts or counts.left_n[i] == 0 or behind[i + 1] < 1:
            estimated = False
        if estimated or certified:
            # Of what was not measured these would be the prior's.
            extra["prob_matters"] = round(float(matters[i]), 6)
            extra["prob_decisive"] = round(float(decisive[i]), 6)
        found.append(
            Score.of(
                trace_id, u.kind, i, METHOD, "delta_value",
                _inside(change[i], *ends) if estimated else None,
                level=level, n=n, interval=ends, certified=certified, extra=extra,
            )
        )  # fmt: skip
    return found


def _inside(value: float, lo: float, hi: float) -> float:
    """A posterior mean, held within its interval."""
    return min(max(float(value), float(lo)), float(hi))
