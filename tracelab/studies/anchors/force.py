"""Forced importance: how does each sentence change the answer the model would give right away?

`plan` cuts the trace at every boundary and appends a suffix that makes the model answer at once
(say `</think> The final answer is`); a few tokens a rollout suffice. `estimate` returns the
early-answering value curve and its differences (Thought Anchors, arXiv:2506.19143, "forced
importance"; positive = the sentence raised the reward). A sentence can matter here and not in
resampling, when the model would have got there anyway, and the other way round, when it only sets
a course.

Pure. Forced rollouts continue other prefixes than plain ones, so their keys differ and nothing is
recycled between boundaries: every rollout counts at its own boundary only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from tracelab.core.errors import PlanError
from tracelab.core.finding import Score
from tracelab.core.item import Item, ModelRef, Rollout, Sampling
from tracelab.core.trace import TokenizedTrace
from tracelab.core.unit import Unit
from tracelab.stats.intervals import difference, wilson
from tracelab.studies.anchors.grouping import boundary_positions, group
from tracelab.studies.anchors.resample import Planned
from tracelab.studies.anchors.scoring import (
    INSIDE_TOKEN,
    Answers,
    Maker,
    adjusted,
    distance_scores,
)

METHOD = "force"
ESTIMATOR_VERSION = 1
"""Bumped whenever the same rollouts would give other numbers."""

MIN_ROLLOUTS = 4
"""Fewest graded rollouts a boundary needs before a number is reported about it."""

MAX_TOKENS = 32
"""Default length of a forced answer."""


def plan(
    tokens: TokenizedTrace,
    units: Sequence[Unit],
    *,
    model: ModelRef,
    sampling: Sampling,
    suffix_ids: Sequence[int],
    rollouts: int,
    seed: int,
    max_tokens: int = MAX_TOKENS,
) -> list[Planned]:
    """Ask for forced answers from every boundary of a trace.

    Args:
        tokens: The trace and its exact tokens.
        units: Its sentences, in order.
        model: The model that will answer.
        sampling: How; its `max_tokens` is lowered to `max_tokens`.
        suffix_ids: Tokens appended after each kept prefix. The caller grades the response up to
            the boundary, plus the suffix's text, plus what the model wrote.
        rollouts: Replicates a boundary.
        seed: The run's seed.
        max_tokens: Most tokens of an answer.

    Returns:
        N + 1 items, in the order of the text; `start_token` counts the trace's own tokens, without
        the suffix.

    Raises:
        PlanError: The suffix is empty or `max_tokens` is below 1.
    """
    if not suffix_ids:
        raise PlanError("forcing an answer needs a suffix of at least one token")
    if max_tokens < 1:
        raise PlanError("a forced answer needs at least one token (max_tokens)")
    short = dataclasses.replace(sampling, max_tokens=min(max_tokens, sampling.max_tokens))
    return [
        Planned(
            trace_id=tokens.trace.trace_id,
            boundary=b,
            start_token=start,
            item=Item(
                model=model,
                prefix_ids=tokens.prompt_ids + tokens.response_ids[:start] + tuple(suffix_ids),
                sampling=short,
                seed=seed,
                replicates=rollouts,
            ),
        )
        for b, start in enumerate(boundary_positions(units))
    ]


def estimate(
    trace_id: str,
    units: Sequence[Unit],
    rollouts: Iterable[Rollout],
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    min_rollouts: int = MIN_ROLLOUTS,
) -> list[Score]:
    """Early-answering curve and forced importances of one trace.

    Args:
        trace_id: The trace.
        units: Its sentences, in order.
        rollouts: Its forced rollouts, any order. `diverge_token` is not read: what they wrote
            follows the suffix, not the trace.
        rng: For permutations.
        level: Nominal coverage of the intervals.
        min_rollouts: With fewer at a boundary its scores are `insufficient`.

    Returns:
        N + 1 scores `value` (unit kind `boundary`: expected reward if the model must answer here,
        Wilson interval); N scores `delta_value` (value after the unit minus before it,
        `stats.intervals.difference`) and N scores `tv` (`stats.contrast`).
    """
    g = group(units, (dataclasses.replace(r, diverge_token=r.start_token) for r in rollouts))
    answers, least = Answers(g), max(min_rollouts, 1)
    here = [g.at(b) for b in range(len(g.units) + 1)] if g.units else []
    n = np.array([h.size for h in here])
    total = np.array([g.reward[h].sum() for h in here])
    lows, highs = wilson(total, n, level)
    scores: list[Score] = []
    for b, h in enumerate(here):
        extra: dict[str, object] = {
            "unanswered": sum(g.rollouts[k].outcome.status == "unanswered" for k in h),
            "ungraded": int(g.ungraded[b]),
        }
        ok = h.size >= least
        mean = float(total[b] / n[b]) if ok else None
        curve = Maker(trace_id, "boundary", b, METHOD, level)
        scores.append(curve("value", h.size, ok, mean, float(lows[b]), float(highs[b]), extra))
    for u in g.units:
        i, before, after = u.index, here[u.index], here[u.index + 1]
        extra = {"n_before": int(before.size), "n_after": int(after.size)}
        whole = g.splittable(i)
        if not whole:
            extra["reason"] = INSIDE_TOKEN
        ok = whole and min(before.size, after.size) >= least
        make = Maker(trace_id, u.kind, i, METHOD, level)
        lo, hi = difference(total[i], n[i], total[i + 1], n[i + 1], level)
        gap = float(total[i + 1] / n[i + 1] - total[i] / n[i]) if ok else None
        size = int(before.size + after.size)
        scores.append(make("delta_value", size, ok, gap, float(lo), float(hi), extra))
        found = answers.compare(after, before, ok, level, rng)
        scores += [s for s in distance_scores(make, found, extra) if s.metric == "tv"]
    return adjusted(scores)
