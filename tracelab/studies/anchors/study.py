"""Which sentences of a chain of thought decided the answer?

    trace ─► sentences ─► one scoring pass ─► rounds of rollouts ─► scores, links

The rollouts are shared by all methods; a method that needs more (forced answers, a look inside the
model) asks for it beside them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from tracelab.core.errors import PlanError
from tracelab.core.finding import Findings, Metric, Score
from tracelab.core.flow import Flow, together
from tracelab.core.study import STUDIES, Stage, StudyContext
from tracelab.core.trace import Trace
from tracelab.studies.anchors import certify, rounds
from tracelab.studies.anchors.case import Reasoning, begin, gradable
from tracelab.studies.anchors.cohort import Cohort, Method
from tracelab.studies.anchors.methods import METHODS
from tracelab.studies.anchors.options import AnchorsOptions
from tracelab.studies.anchors.pooled import fit_prior
from tracelab.studies.anchors.tally import count
from tracelab.studies.turn import turn_of

_OF_TEXT = frozenset({
    "different_fraction", "overdetermined", "entropy_before", "overdeterminedness",
    "different_trajectories_fraction",
})  # fmt: skip
"""Metrics of what was written, which rest on no grade."""


class _Metrics:
    """The metrics of all methods, once each; methods are only looked up when somebody asks."""

    def __get__(self, study: object, owner: type | None = None) -> tuple[Metric, ...]:
        found: dict[str, Metric] = {}
        for method in METHODS.values():
            for metric in method.metrics:
                found.setdefault(metric.name, metric)
        return tuple(found.values())


@STUDIES.register("anchors", order=1)
class Anchors:
    """The study of sentences."""

    name: ClassVar[str] = "anchors"
    Options: ClassVar[type[AnchorsOptions]] = AnchorsOptions
    metrics = _Metrics()
    estimator_version: ClassVar[str] = "5"
    testbed: ClassVar[Literal["questions"]] = "questions"

    def cases(self, trace: Trace, ctx: StudyContext[AnchorsOptions]) -> Iterator[Reasoning]:
        """The trace, cut into sentences.

        Raises:
            PlanError: It cannot be studied, or graded; or it is an agent's run.
        """
        if trace.episode is not None:
            if ctx.options.turn is None:
                raise PlanError(
                    "is an agent's run: `tracelab audit` says which step decided it, and "
                    "`tracelab anchors --turn N` studies the assistant turn of step N"
                )
            trace = turn_of(trace, ctx.options.turn, ctx)
        case = begin(
            ctx.tokenize(gradable(trace, ctx.grading)),
            ctx.options.segmenter,
            max_units=ctx.options.max_units,
            context_length=ctx.context_length,
        )
        case.keep = certify.recorded(case)
        yield case

    def run(self, cases: Sequence[Reasoning], ctx: StudyContext[AnchorsOptions]) -> Flow[Findings]:
        """Sample, ask for what methods need besides, and estimate."""
        methods = chosen(ctx.options)
        compare = any(m.compares for m in methods)
        cohort = Cohort(
            cases,
            ctx,
            comparing=ctx.comparing(ctx.options.similarity) if compare else None,
            echoes=any(m.echoes for m in methods),
        )
        yield from certify.score_traces(cohort)
        yield from together([rounds.sample(cohort), *(m.ask(cohort) for m in methods)])
        return estimate(cohort, methods)

    def unfit(self, options: AnchorsOptions, capabilities: frozenset[str]) -> str | None:
        """Why who answers cannot be asked this; None where it can."""
        if "prefix" in capabilities:
            return None
        return (
            "anchors writes a response anew from the middle, and a chat endpoint begins it anew: "
            "where it continues an assistant's message that is given in part, say how with "
            "engine.server.continuation (--continuation vllm, prefix, partial or prefill); "
            "everywhere, `tracelab audit` re-executes an agent's steps, and `tracelab cite "
            "--outcome answer` says what an answer rests on"
        )

    def outlook(
        self, cases: Sequence[Reasoning], ctx: StudyContext[AnchorsOptions], asked: int
    ) -> Iterator[Stage]:
        """What the rounds after the one at hand may ask for, at most."""
        if ctx.options.allocation == "adaptive":
            yield rounds.later(Cohort(cases, ctx))

    def foreseen(self, traces: int, prompt_tokens: int, ctx: StudyContext[AnchorsOptions]) -> Stage:
        """What may be asked about responses that are not written yet, at most."""
        return rounds.foreseen(ctx.options, ctx.sampling, traces, prompt_tokens)

    def limit(self, cases: Sequence[Reasoning], ctx: StudyContext[AnchorsOptions]) -> int | None:
        """Most tokens that are still generated, from the budget; None without one."""
        o = ctx.options
        if o.budget_tokens is None or o.allocation == "uniform" or "force" in o.methods:
            return None  # forced answers are not counted against it
        return rounds.limit(Cohort(cases, ctx), o.budget_tokens)


def chosen(options: AnchorsOptions) -> list[Method]:
    """The methods that options ask for, as listed; `resample` is what all others rest on."""
    wanted = {"resample", *options.methods}
    return [METHODS[name]() for name in METHODS if name in wanted]


def estimate(cohort: Cohort, methods: Sequence[Method]) -> Findings:
    """All scores and links of all traces, from what was observed."""
    ctx, found = cohort.ctx, Findings()
    if ctx.options.pooled:
        cohort.prior = fit_prior([count(case, ctx.options) for case in cohort.cases])
    for case in cohort.cases:
        case.sort()
        rng = np.random.default_rng([ctx.seed, int(case.trace_id, 16)])
        for method in methods:
            found.add(method.estimate(case, cohort, rng))
        outcomes = [r.outcome for r in (*case.rollouts, *case.forced)]
        unanswered = sum(o.status == "unanswered" for o in outcomes)
        truncated = sum(o.truncated for o in outcomes)
        found.attempted += len(outcomes)
        found.failed += case.failed
        found.ungraded += sum(o.status == "ungraded" for o in outcomes) - case.failed
        found.truncated += truncated
        found.unanswered += unanswered - truncated
    if ctx.grading.evidence == "judged":
        found.scores = [_judged(s) for s in found.scores]
    return found


def _judged(s: Score) -> Score:
    """A score as what it is where a model graded; what was written instead needs no grade."""
    graded = s.evidence == "executed" and s.metric not in _OF_TEXT
    return replace(s, evidence="judged") if graded else s
