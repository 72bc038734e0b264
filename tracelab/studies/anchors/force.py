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

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from tracelab.core.errors import PlanError
from tracelab.core.finding import Findings, Metric, Score
from tracelab.core.flow import Flow, together
from tracelab.core.item import Item, ModelRef, Rollout, Sampling
from tracelab.core.trace import TokenizedTrace
from tracelab.core.unit import Unit
from tracelab.stats.intervals import difference, wilson
from tracelab.studies.anchors.case import Reasoning
from tracelab.studies.anchors.cohort import Cohort, Method
from tracelab.studies.anchors.grouping import (
    INSIDE_TOKEN,
    MIN_ROLLOUTS,
    boundary_tokens,
    group,
)
from tracelab.studies.anchors.methods import METHODS
from tracelab.studies.anchors.rollouts import Planned, Receiver
from tracelab.studies.anchors.scoring import Answers, distance_scores, make, with_fdr

METHOD = "force"

MAX_TOKENS = 32
"""Length of a forced answer."""


def plan(
    tokens: TokenizedTrace,
    units: Sequence[Unit],
    *,
    model: ModelRef,
    sampling: Sampling,
    suffix_ids: Sequence[int],
    rollouts: int,
    seed: int,
) -> list[Planned]:
    """Ask for forced answers from every boundary of a trace.

    Args:
        tokens: The trace and its exact tokens.
        units: Its sentences, in order.
        model: The model that will answer.
        sampling: How; its `max_tokens` is lowered to `MAX_TOKENS`.
        suffix_ids: Tokens appended after each kept prefix. The caller grades the response up to
            the boundary, plus the suffix's text, plus what the model wrote.
        rollouts: Replicates a boundary.
        seed: The run's seed.

    Returns:
        N + 1 items, in the order of the text; `start_token` counts the trace's own tokens, without
        the suffix.

    Raises:
        PlanError: The suffix is empty.
    """
    if not suffix_ids:
        raise PlanError("forcing an answer needs a suffix of at least one token")
    short = replace(sampling, max_tokens=min(MAX_TOKENS, sampling.max_tokens))
    return [
        Planned(
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
        for b, start in enumerate(boundary_tokens(units))
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
    g = group(units, (replace(r, diverge_token=r.start_token) for r in rollouts))
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
        mean = float(total[b] / n[b]) if h.size >= least else None
        ends = float(lows[b]), float(highs[b])
        curve = make(trace_id, "boundary", b, METHOD, level)
        scores.append(curve("value", mean, n=int(h.size), interval=ends, extra=extra))
    for u in g.units:
        i, before, after = u.index, here[u.index], here[u.index + 1]
        extra = {"n_before": int(before.size), "n_after": int(after.size)}
        whole = g.splittable(i)
        if not whole:
            extra["reason"] = INSIDE_TOKEN
        ok = whole and min(before.size, after.size) >= least
        score = make(trace_id, u.kind, i, METHOD, level)
        lo, hi = difference(total[i], n[i], total[i + 1], n[i + 1], level)
        gap = float(total[i + 1] / n[i + 1] - total[i] / n[i]) if ok else None
        size = int(before.size + after.size)
        ends = float(lo), float(hi)
        scores.append(score("delta_value", gap, n=size, interval=ends, extra=extra))
        found = answers.compare(after, before, ok, level, rng)
        scores += [s for s in distance_scores(score, found, extra) if s.metric == "tv"]
    return with_fdr(scores)


@METHODS.register(METHOD, order=4)
class Force(Method):
    """Early answering."""

    help = "what the model would answer right away, before and after each sentence"
    metrics = (
        Metric(
            "value",
            "reward",
            "the expected reward if the model must answer here",
            0,
            1,
            MIN_ROLLOUTS,
        ),
        Metric(
            "delta_value", "reward", "the sentence raised the expected reward", -1, 1, MIN_ROLLOUTS
        ),
        Metric("tv", "probability", "the answers differ", 0, 1, MIN_ROLLOUTS),
    )

    def ask(self, cohort: Cohort) -> Flow[None]:
        """Forced answers from every boundary of every trace."""
        suffix = cohort.ctx.tokenizer.encode_text(cohort.options.force_suffix)
        yield from together(self._ask_one(case, cohort, suffix) for case in cohort.cases)

    def _ask_one(self, case: Reasoning, cohort: Cohort, suffix: Sequence[int]) -> Flow[None]:
        ctx, o = cohort.ctx, cohort.options
        planned = plan(
            case.tokens,
            case.units,
            model=ctx.model,
            sampling=ctx.sampling,
            suffix_ids=suffix,
            rollouts=o.rollouts,
            seed=ctx.seed,
        )
        yield Receiver(case, cohort, forced=o.force_suffix).ask("forced answers", planned)

    def estimate(self, case: Reasoning, cohort: Cohort, rng: np.random.Generator) -> Findings:
        """Early-answering curve and forced importances."""
        level = cohort.options.level
        return Findings(estimate(case.trace_id, case.units, case.forced, rng=rng, level=level))
