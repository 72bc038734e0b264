"""Resampling importance: how much did writing this sentence change the expected reward?

`plan` asks for rollouts from the boundaries of a trace; `estimate` turns their counts (`tally`)
into the value curve V_0 ... V_N and the importance of each sentence, V_{i+1} - V_i (Thought
Anchors, arXiv:2506.19143, "resampling importance"; positive = the sentence raised the reward).

**Exact-prefix recycling.** A rollout that starts at token s and first differs from the trace at
token d is an exact sample from every boundary whose token t has s <= t <= d. V_b is the mean of
all of them. Neighbouring boundaries then share rollouts, so the importance is computed from what
they do not share: with p_i the probability of writing exactly unit i, and U_i the mean reward of
the rollouts that left the trace in unit i,

    V_{i+1} - V_i = (1 - p_i)(V_{i+1} - U_i),

whose two arms are disjoint, hence independent, sets of rollouts.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tracelab.core.finding import Findings, Metric, Score
from tracelab.core.item import Item, ModelRef, Sampling
from tracelab.core.trace import TokenizedTrace
from tracelab.core.unit import Unit
from tracelab.stats.intervals import (
    difference,
    jeffreys,
    scaled_difference,
    two_sample_p,
    wilson,
)
from tracelab.studies.anchors import certify, distribution, pooled
from tracelab.studies.anchors.case import Reasoning
from tracelab.studies.anchors.cohort import Cohort, Method
from tracelab.studies.anchors.grouping import INSIDE_TOKEN, MIN_ROLLOUTS, boundary_tokens
from tracelab.studies.anchors.methods import METHODS
from tracelab.studies.anchors.rollouts import Planned
from tracelab.studies.anchors.scoring import with_fdr
from tracelab.studies.anchors.tally import Tally, count

METHOD = "resample"


def longest_response(tokens: TokenizedTrace, sampling: Sampling) -> int:
    """Most tokens a whole response may have, prefix kept from the trace included.

    Rollouts from all boundaries are cut at the same length of the whole response, as the trace
    was: only then is a rollout from an early boundary a sample from a later one. A trace that is
    longer than `sampling.max_tokens` was made with another limit, and gets that much more.
    """
    own = len(tokens.response_ids)
    return sampling.max_tokens + (own if own >= sampling.max_tokens else 0)


def plan(
    tokens: TokenizedTrace,
    units: Sequence[Unit],
    *,
    model: ModelRef,
    sampling: Sampling,
    rollouts: int | Sequence[int],
    seed: int,
) -> list[Planned]:
    """Ask for rollouts from the boundaries of a trace.

    Args:
        tokens: The trace and its exact tokens.
        units: Its sentences, in order.
        model: The model that will continue it.
        sampling: How; the same parameters the trace was generated with.
        rollouts: Replicates a boundary, or one number for each of the N + 1 boundaries.
        seed: The run's seed.

    Returns:
        An item for every boundary with at least one replicate, in the order of the text, so that
        consecutive requests share the longest prefixes an engine's cache can hold. Boundaries
        that fall on the same token give equal keys; the runtime runs them once.
    """
    starts = boundary_tokens(units)
    wanted = [rollouts] * len(starts) if isinstance(rollouts, int) else list(rollouts)
    longest = longest_response(tokens, sampling)
    return [
        Planned(
            boundary=b,
            start_token=start,
            item=Item(
                model=model,
                prefix_ids=tokens.prompt_ids + tokens.response_ids[:start],
                sampling=replace(sampling, max_tokens=max(1, longest - start)),
                seed=seed,
                replicates=n,
            ),
        )
        for b, (start, n) in enumerate(zip(starts, wanted, strict=True))
        if n > 0
    ]


def estimate(
    trace_id: str,
    units: Sequence[Unit],
    counts: Tally,
    *,
    level: float = 0.95,
    min_rollouts: int = MIN_ROLLOUTS,
    certify_below: float = 0.0,
) -> list[Score]:
    """Value curve and sentence importances of one trace, each by itself.

    An unanswered rollout has reward 0; ungraded and failed ones are excluded and counted in
    `extra`. V_b has a Wilson interval; V_{i+1} - V_i that of (1 - p_i)(V_{i+1} - U_i), with
    `stats.intervals.difference` for that of the independent arms.

    Args:
        trace_id: The trace.
        units: Its sentences, in order.
        counts: From `tally`.
        level: Nominal coverage of the intervals.
        min_rollouts: With fewer at a boundary, its scores and its sentences' are `insufficient`;
            so are sentences with an exact p_i and no rollout that wrote something else.
        certify_below: A sentence with 1 - p_i below this and no number is `certified`: no value,
            but bounds that hold whatever its alternatives are worth. 0 certifies none.

    Returns:
        N + 1 scores `value` (unit kind `boundary`, in [0, 1]) and N scores `delta_value` (unit
        kind `sentence`, in [-1, 1]).
    """
    c = counts
    with np.errstate(divide="ignore", invalid="ignore"):
        value, other = c.total / c.n, c.left_total / c.left_n
    v_lo, v_hi = wilson(c.total, c.n, level)
    enough = c.n >= max(min_rollouts, 1)
    scores = [
        Score.of(
            trace_id, "boundary", b, METHOD, "value", value[b] if enough[b] else None,
            level=level, n=int(c.n[b]), interval=(v_lo[b], v_hi[b]),
            extra={"unanswered": int(c.unanswered[b]), "ungraded": int(c.ungraded[b])},
        )
        for b in range(len(c.n))
    ]  # fmt: skip

    arms = (c.left_total[:-1], c.left_n[:-1], c.total[1:], c.n[1:])
    d_lo, d_hi = difference(*arms, level)
    share = 1 - c.keep
    never = (c.left_n[:-1] == 0) & enough[:-1] & ~c.exact
    lo, hi = scaled_difference(
        value[1:] - other[:-1], d_lo, d_hi, c.left_n[:-1], np.where(c.exact, 0, c.n[:-1]), share,
        level,
    )  # fmt: skip
    p = two_sample_p(*arms, whole=c.whole)
    # Always written so far: its share is 0 of n, and its alternatives may be worth anything.
    most = jeffreys(np.zeros(len(share)), c.n[:-1], level)[1]
    lo, hi = np.where(never, most * (v_lo[1:] - 1), lo), np.where(never, most * v_hi[1:], hi)
    change = share * (value[1:] - other[:-1])
    measured = enough[:-1] & enough[1:] & (c.left_n[:-1] > 0)
    for u in units:
        i = u.index
        extra: dict[str, object] = {"n_replaced": int(c.left_n[i]), "n_after": int(c.n[i + 1])}
        inside = u.token_end == u.token_start
        known, certified, ends = bool(measured[i]) and not inside, False, (lo[i], hi[i])
        if inside:
            # Its two boundaries are one token position, hence one set of rollouts: the
            # difference would be 0 by construction, which is not a measurement.
            extra["reason"] = INSIDE_TOKEN
        else:
            extra["keep"] = None if np.isnan(c.keep[i]) else round(float(c.keep[i]), 6)
            if known:
                extra["p"] = float(p[i])
            elif c.exact[i] and share[i] < certify_below:
                certified = True
                after = (v_lo[i + 1], v_hi[i + 1]) if c.n[i + 1] else (0.0, 1.0)
                ends = share[i] * (after[0] - 1), share[i] * after[1]
            elif never[i]:
                extra["reason"] = "no rollout wrote anything else"
                certified = bool(enough[i + 1]) and bool(most[i] < certify_below)
        scores.append(
            Score.of(
                trace_id, u.kind, i, METHOD, "delta_value", change[i] if known else None,
                level=level, n=int(c.left_n[i] + c.n[i + 1]), interval=ends, certified=certified,
                extra=extra,
            )
        )  # fmt: skip
    return scores


@METHODS.register(METHOD, order=1)
class Resample(Method):
    """What all other methods share: the rollouts, the value curve, and the certificates."""

    help = "the value curve and the effect of each sentence on it, from rollouts"
    metrics = (
        Metric("value", "reward", "the expected reward from the boundary", 0, 1, MIN_ROLLOUTS),
        Metric(
            "delta_value", "reward", "the sentence raised the expected reward", -1, 1, MIN_ROLLOUTS
        ),
        *distribution.METRICS,
        *certify.METRICS,
    )

    def estimate(self, case: Reasoning, cohort: Cohort, rng: np.random.Generator) -> Findings:
        """Unpooled and pooled values, shifts of the answer distribution, certificates."""
        o, trace, units = cohort.options, case.trace_id, case.units
        counts = count(case, o)
        below = o.delta if o.certificates else 0.0
        found = with_fdr(estimate(trace, units, counts, level=o.level, certify_below=below))
        found += distribution.estimate(
            trace,
            units,
            case.rollouts,
            rng=rng,
            level=o.level,
            p_keep=case.keep if o.certificates else None,
        )
        if cohort.prior is not None:
            found += pooled.estimate(
                trace, units, counts, cohort.prior, delta=o.delta, level=o.level
            )
        if case.keep is not None:
            found += certify.scores(trace, units, case.keep, o.level)
        return Findings(found)
