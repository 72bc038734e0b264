"""Rounds of rollouts: until every sentence is decided, or what may be spent is spent.

    first round ─► cohort point ─► each trace alone ─► cohort point ─► each trace alone

At a cohort point, and nowhere else, traces wait for one another: the prior of all value curves is
fitted to what was seen by then, and what is left of a budget is divided among the traces. Between
two of them what a trace asks next depends on its own rollouts and on those fixed values alone, so a
run that is continued, on other machines or in another order, repeats itself bit for bit. The second
one hands out what traces left of their shares, and takes those up again that a prior which has
seen more does not call decided. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf

import numpy as np

from tracelab.core.flow import Flow, together
from tracelab.core.item import Sampling
from tracelab.core.study import Stage
from tracelab.stats.intervals import Floats
from tracelab.stats.value_curve import Prior, posterior
from tracelab.studies.anchors import allocate, resample
from tracelab.studies.anchors.case import Reasoning
from tracelab.studies.anchors.cohort import Cohort
from tracelab.studies.anchors.grouping import Ints, boundary_tokens
from tracelab.studies.anchors.options import AnchorsOptions
from tracelab.studies.anchors.pooled import fit_prior
from tracelab.studies.anchors.rollouts import Planned, Receiver
from tracelab.studies.anchors.tally import count

GROWTH = 0.5
"""A round of a trace spends this share of what all its rounds before it spent."""

BATCH = 4
"""Rollouts that a later round adds to a boundary at a time."""

_LEAST_SCALE, _MOST_SCALE = 0.1, 2.0
_FIRST_SHARE = 0.5  # of the budget, for the first round
_COHORT_POINTS = 2
_LONGEST, _SLACK_TOKENS = 2.0, 16  # forecasts: what a rollout may take of what is expected of it
_SHORT_SENTENCE = 4  # tokens: forecasts of responses that are not written yet
_OVERRUN = 1.1  # of a budget: rollouts that come out longer than those before


def sample(cohort: Cohort) -> Flow[None]:
    """All rollouts of a run; the cases' `rollouts` are filled."""
    o = cohort.options
    traces = [Sampled(case, cohort) for case in cohort.cases]
    yield from together(t.ask(plan) for t, plan in zip(traces, first_plans(cohort), strict=True))
    if o.allocation == "uniform":
        return
    for _ in range(_COHORT_POINTS):
        prior = fit_prior([count(t.case, o) for t in traces])
        shares = divided(traces, prior, cohort)
        yield from together(
            _alone(t, prior, share, traces, cohort) for t, share in zip(traces, shares, strict=True)
        )


def _alone(
    trace: Sampled, prior: Prior, share: float, traces: Sequence[Sampled], cohort: Cohort
) -> Flow[None]:
    yield from trace.alone(prior, share)
    cohort.ctx.fact(progress(traces))


def first_plans(cohort: Cohort) -> list[Ints]:
    """Rollouts of the first round from each boundary of each trace."""
    o, cases = cohort.options, cohort.cases
    if o.allocation == "uniform":
        return [np.full(len(c.units) + 1, o.rollouts, dtype=np.int64) for c in cases]
    initial = min(o.initial, o.rollouts)
    plans = [
        allocate.first_round(count(c, o), initial=initial, certify_below=o.delta) for c in cases
    ]
    if o.budget_tokens is not None:
        cost = sum(float(p @ costs(c)) for p, c in zip(plans, cases, strict=True))
        stride = ceil(cost / (_FIRST_SHARE * o.budget_tokens))
        if stride > 1:  # a coarse grid first; the value curve says where to look closer
            for p in plans:
                p[np.arange(len(p)) % stride != 0] = 0
    return plans


def divided(traces: Sequence[Sampled], prior: Prior, cohort: Cohort) -> list[float]:
    """Tokens that each trace may spend on its own: all that is left of the budget.

    Each gets what it would get if all of it were spent now, where it teaches most per token over
    all traces together. What is decided gets nothing; without a budget there is no limit.
    """
    o = cohort.options
    if o.budget_tokens is None:
        return [inf] * len(traces)
    total = spent([t.case for t in traces])
    scale = _scale(sum(t.expected for t in traces), total)
    left = max(0, o.budget_tokens - total) * scale
    plans = allocate.next_round(
        [t.state(prior) for t in traces], tokens=left, batch=BATCH, cap=o.rollouts, most=left
    )
    return [float(p @ t.costs) / scale for p, t in zip(plans, traces, strict=True)]


def spent(cases: Sequence[Reasoning]) -> int:
    """Generated tokens so far; a rollout that several traces use was paid for once."""
    paid = {(r.item_key, r.replicate): r.n_tokens for case in cases for r in case.rollouts}
    return sum(paid.values())


def costs(case: Reasoning) -> Floats:
    """Tokens that a rollout is expected to generate: what the trace itself wrote from there."""
    size = len(case.tokens.response_ids)
    return np.array([max(1, size - t) for t in boundary_tokens(case.units)], dtype=np.float64)


def _scale(expected: float, spent: float) -> float:
    """What corrects expected lengths, so that a budget holds also where the model rambles."""
    return min(max(expected / max(spent, 1), _LEAST_SCALE), _MOST_SCALE)


class Sampled:
    """What is asked for one trace.

    Attributes:
        case: The trace.
        costs: Tokens that a rollout from each boundary is expected to generate [N + 1].
        rounds: How often it asked.
        undecided: Sentences whose pooled interval was wider than asked, at the last look.
        samples: Samples that its boundaries had then.
        started: How many of them were started there; the others are recycled.
    """

    def __init__(self, case: Reasoning, cohort: Cohort) -> None:
        """Prepare; asks for nothing yet."""
        self.case = case
        self.costs = costs(case)
        case.asked = np.zeros(len(case.units) + 1, dtype=np.int64)
        self.rounds = 0
        self.undecided = len(case.units)
        self.samples = self.started = 0
        self._ctx = cohort.ctx
        self._receiver = Receiver(case, cohort)

    @property
    def expected(self) -> float:
        """Tokens that all it asked for was expected to generate."""
        return float(self.case.asked @ self.costs)

    def ask(self, more: Ints) -> Flow[None]:
        """Ask for more rollouts from each boundary [N + 1], and wait for them."""
        self.rounds += 1
        planned = []
        for p in resample.plan(
            self.case.tokens,
            self.case.units,
            model=self._ctx.model,
            sampling=self._ctx.sampling,
            rollouts=np.where(more > 0, self.case.asked + more, 0).tolist(),
            seed=self._ctx.seed,
        ):
            had = int(self.case.asked[p.boundary])
            item = p.item.at(had, p.item.replicates - had)
            planned.append(Planned(p.boundary, p.start_token, item))
        self.case.asked = self.case.asked + more
        if planned:
            name = "rollouts" if self.rounds == 1 else f"rollouts, round {self.rounds}"
            yield self._receiver.ask(name, planned)

    def state(self, prior: Prior) -> allocate.Progress:
        """What is known of it now."""
        o = self._ctx.options
        counts = count(self.case, o)
        fitted = posterior(counts.curve(), prior)
        unsure = allocate.undecided(fitted, halfwidth=o.target_halfwidth, level=o.level)
        self.undecided, self.samples = int(unsure.sum()), int(counts.n.sum())
        self.started = sum(r.outcome.reward is not None for r in self.case.rollouts)
        return allocate.Progress(counts, fitted, self.case.asked, self.costs, unsure)

    def alone(self, prior: Prior, share: float) -> Flow[None]:
        """Go on until every sentence is decided, its share is spent, or nothing may be asked."""
        before = spent([self.case])
        while True:
            paid = spent([self.case])
            left = share - (paid - before)
            scale = _scale(self.expected, paid)
            [more] = allocate.next_round(
                [self.state(prior)],
                tokens=scale * min(GROWTH * paid, left),
                batch=BATCH,
                cap=self._ctx.options.rollouts,
                most=scale * left,
            )
            if not more.any():
                return
            yield from self.ask(more)


def later(cohort: Cohort) -> Stage:
    """What adaptive rounds may ask for after what was asked by now: nothing, up to all limits."""
    o, left, tokens, read = cohort.options, 0, 0, 0
    for case in cohort.cases:
        asked = case.asked if len(case.asked) else np.zeros(len(case.units) + 1, dtype=np.int64)
        for more, cost in zip((o.rollouts - asked).clip(0).tolist(), costs(case), strict=True):
            left += more
            read += more * (len(case.tokens.prompt_ids) + len(case.tokens.response_ids))
            tokens += more * (int(cost * _LONGEST) + _SLACK_TOKENS)
    if o.budget_tokens is not None:
        tokens = min(tokens, limit(cohort, o.budget_tokens))
    return Stage("later rounds", 0, left, 0, 0, tokens, prompt_tokens_max=read)


def foreseen(options: AnchorsOptions, sampling: Sampling, traces: int, prompt_tokens: int) -> Stage:
    """What may be asked about responses that are not written yet: nothing, up to all limits.

    A response may have nothing to study. The longest one has `max_tokens` tokens, in sentences of
    `_SHORT_SENTENCE` tokens, and rollouts twice as long as the rest of it.

    Args:
        options: The study's.
        sampling: How responses are sampled.
        traces: Most responses that are studied.
        prompt_tokens: Of their prompts together.
    """
    most = sampling.max_tokens
    boundaries = min(options.max_units, max(1, most // _SHORT_SENTENCE)) + 1
    share = np.arange(boundaries) / boundaries
    written = np.minimum(most, _LONGEST * most * (1 - share) + _SLACK_TOKENS)
    rollouts = options.rollouts * boundaries * traces
    tokens = int(options.rollouts * written.sum()) * traces
    if options.allocation == "adaptive" and options.budget_tokens is not None:
        overrun = int(_OVERRUN * options.budget_tokens) + int(BATCH * _LONGEST * most)
        tokens = min(tokens, overrun)
    read = options.rollouts * (prompt_tokens * boundaries + int(most * share.sum()) * traces)
    scored = traces if options.certificates else 0
    read += (prompt_tokens + most * traces) if scored else 0
    return Stage("rollouts about these, at most", rollouts + scored, rollouts, read, 0, tokens)


def limit(cohort: Cohort, budget: int) -> int:
    """Most tokens that rounds still generate under a budget.

    What it is divided by are expected lengths, and it ends with a whole rollout of each trace.
    """
    longest = max((len(c.tokens.response_ids) for c in cohort.cases), default=0)
    most = int(_OVERRUN * budget) + int(BATCH * _LONGEST * longest)
    return max(0, most - spent(cohort.cases))


def progress(traces: Sequence[Sampled]) -> str:
    """How many sentences are decided, and what recycling saved, for people."""
    units = sum(len(t.case.units) for t in traces)
    decided = units - sum(t.undecided for t in traces)
    samples = sum(t.samples for t in traces)
    recycled = 1 - sum(t.started for t in traces) / samples if samples else 0.0
    return f"{decided:,}/{units:,} sentences decided, {recycled:.0%} of samples recycled"
