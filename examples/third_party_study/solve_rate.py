"""A study of somebody else's: how often does a fresh response to the same prompt come out right?

Installed beside tracelab it is `tracelab solve_rate FILE --model DIR`, `[solve_rate]` in a config,
and rows of `scores`; it is resumed, rebuilt and forecast like every other study.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from pydantic import Field

from tracelab.core.finding import Findings, Metric, Score
from tracelab.core.flow import Ask, Flow, together
from tracelab.core.item import Item, Observation
from tracelab.core.options import Section
from tracelab.core.seam import GradeRequest
from tracelab.core.study import STUDIES, Case, StudyContext
from tracelab.core.trace import Trace
from tracelab.stats.intervals import wilson


class SolveRateOptions(Section):
    """How often a fresh response is right."""

    samples: int = Field(default=20, ge=1)
    """Fresh responses to each prompt."""


@STUDIES.register("solve_rate")
class SolveRate:
    name: ClassVar[str] = "solve_rate"
    Options: ClassVar[type[Section]] = SolveRateOptions
    metrics = (Metric("solve_rate", "probability", "a fresh response is right more often", 0, 1),)
    estimator_version: ClassVar[str] = "1"
    testbed: ClassVar[str] = "questions"

    def cases(self, trace: Trace, ctx: StudyContext[Any]) -> Iterator[Case]:
        yield Case(ctx.tokenize(trace), [], "none")

    def run(self, cases: Sequence[Case], ctx: StudyContext[Any]) -> Flow[Findings]:
        scores = yield from together(self.rate(case, ctx) for case in cases)
        failed = sum(ctx.options.samples - s.n for s in scores)
        return Findings(scores, attempted=ctx.options.samples * len(scores), failed=failed)

    def rate(self, case: Case, ctx: StudyContext[Any]) -> Flow[Score]:
        item = Item(ctx.model, case.tokens.prompt_ids, ctx.sampling, seed=ctx.seed)
        heard: list[Observation] = []
        yield Ask("fresh responses", [item.at(0, ctx.options.samples)], heard.extend)
        t = case.trace
        asked = [GradeRequest(o.text, t.reference, t.answer, o.finish_reason, t) for o in heard
                 if o.error is None]  # fmt: skip
        rewards = [g.reward for g in ctx.grading.grade_many(asked) if g.reward is not None]
        n = len(rewards)
        rate = sum(rewards) / n if n else None
        lo, hi = (float(end) for end in wilson(sum(rewards), n))
        return Score.of(case.trace_id, "boundary", 0, "solve_rate", "solve_rate", rate,
                        interval=(lo, hi), level=0.95, n=n)  # fmt: skip
