"""Examines one failed run: control, values by re-execution, posterior of the fall, correction.

Every stage is a flow over one run, so runs go on side by side and none waits for another, but for
the prior of the value curve, which is estimated from the first rounds of the first runs and then
stays as it is (`Examiner.begin`, then `Examiner.settle`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from tracelab.core.finding import Evidence, Findings, Score, Verdict
from tracelab.core.flow import Ask, Flow, together
from tracelab.core.item import AnyItem, Item, Observation
from tracelab.core.seam import RecordedRun, Row
from tracelab.core.study import StudyContext
from tracelab.stats import joint_curve
from tracelab.stats.intervals import Floats
from tracelab.stats.joint_curve import JointCurve
from tracelab.stats.value_curve import CurveData, Posterior, Prior, fit, posterior
from tracelab.studies.audit import step
from tracelab.studies.audit.ablated import ablated_rows
from tracelab.studies.audit.case import AgentRun
from tracelab.studies.audit.corrected import Corrected
from tracelab.studies.audit.options import AuditOptions
from tracelab.studies.audit.rerun import STAGE, Launch, Replay, Rerun, Reruns
from tracelab.studies.audit.rows import RerunRow
from tracelab.studies.audit.step import METHOD, Falls, Ints, RerunTally
from tracelab.studies.audit.verdict import (
    Control,
    Correction,
    Place,
    candidates,
    conclude,
)
from tracelab.studies.cite.action import Dependence, measure_action

T = TypeVar("T")

ROUNDS = 12
_AT_ONCE = 64
"""Re-executions of one run under way at one time, where so many may live."""


@dataclass(slots=True)
class Subject:
    """A failed run under audit.

    Attributes:
        case: The run, with its steps.
        run: What can be re-executed of it.
        control: The no-intervention control.
        keep: P(the model writes exactly each action again), NaN where unknown [N].
        planned: Re-executions asked from before each action [N].
        reruns: What came of them.
        counts: The same, counted.
        fitted: The value curve.
        found: Where it falls.
        tried: Corrections that were executed, the earliest first.
        correction: The first of them that restores success.
        depends: What the suspicious action depended on; None where nothing was ablated.
    """

    case: AgentRun
    run: RecordedRun
    control: Control
    keep: list[float] = field(default_factory=list)
    planned: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    reruns: list[Rerun] = field(default_factory=list)
    counts: RerunTally | None = None
    fitted: Posterior | None = None
    found: Falls | None = None
    tried: list[Correction] = field(default_factory=list)
    correction: Correction | None = None
    depends: Dependence | None = None

    @property
    def size(self) -> int:
        """Actions."""
        return len(self.run.actions)

    @property
    def curve(self) -> CurveData | None:
        """What its value curve is fitted to; None where there is no failure to explain."""
        return None if self.counts is None else self.counts.curve()


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the first rounds of some runs say of the values of others.

    Attributes:
        values: The prior of the value curve.
        kinds: Shares of the ways in which values move.
    """

    values: Prior
    kinds: Floats

    @classmethod
    def of(cls, curves: Sequence[CurveData]) -> Learnt:
        """Learn from runs; without any, what is assumed of all."""
        return cls(fit(curves), joint_curve.learn([JointCurve(c) for c in curves]))


class Examiner:
    """Examines runs, one flow a run."""

    def __init__(
        self,
        ctx: StudyContext[AuditOptions],
        reruns: Reruns,
        environment: str,
        share: float = math.inf,
    ) -> None:
        """Prepare.

        Args:
            ctx: The study's.
            reruns: Asks for re-executions.
            environment: Its name, as in `audit.environment`.
            share: Tokens that the re-executions of one run may generate.
        """
        self._share = share
        self._ctx, self._options, self._reruns = ctx, ctx.options, reruns
        self._environment = environment
        self._evidence: Evidence = "replayed" if environment == "replay" else "executed"
        self._live = min(_AT_ONCE, self._options.max_live)

    @property
    def at_once(self) -> int:
        """Runs to examine at one time, so that no more re-executions live than may."""
        return max(1, self._options.max_live // self._live)

    def begin(self, case: AgentRun, run: RecordedRun) -> Flow[Subject]:
        """The control and, if the failure came back, the first round of re-executions."""
        replays = yield from self._replays(run)
        s = Subject(case, run, Control.of(replays))
        if s.control.reproducible:
            s.planned = np.zeros(s.size, dtype=np.int64)
            first = self._afforded(s, step.first_round(s.size, self._options.initial))
            yield from together([self._score_actions(s), self._round(s, first)])
            self._count(s)
        return s

    def settle(self, s: Subject, prior: Learnt) -> Flow[Findings]:
        """All else, and what comes of it; hands rows to the database."""
        c = self._options
        if s.counts is not None:
            yield from self._measure(s, prior)
            if c.correct:
                yield from self._correct(s)
            if c.evidence and "score" in self._ctx.capabilities:
                yield from self._explain(s)
        self._ctx.emit(self._rows(s))
        verdict = self._verdict(s)
        mine = [r for r in s.reruns if not r.forced]
        cut = sum(r.truncated for r in mine)
        # A run that could not be executed at all has no re-executions to count.
        dead = s.control.replays == 0
        shown = self._corrected(s, verdict)
        return Findings(
            scores=self._scores(s),
            verdicts=[verdict],
            exports=[] if shown is None else [shown],
            attempted=len(mine) + dead,
            failed=sum(r.error is not None for r in mine) - cut + dead,
            ungraded=sum(r.reward is None and r.error is None and not r.censored for r in mine),
            truncated=cut,
            # A replay that has no answer is no failure, and grades nothing.
            unanswered=sum(r.censored and r.error is None for r in mine),
        )

    def _replays(self, run: RecordedRun) -> Flow[list[Replay]]:
        """Execute the recorded actions again, unchanged."""

        def one(k: int) -> Flow[Replay]:
            return (yield from _answered("controls", self._reruns.replay(run, k), Replay.of))

        flows = (one(k) for k in range(self._options.controls))
        return (yield from together(flows, most=self._live))

    def _score_actions(self, s: Subject) -> Flow[None]:
        """The exact probability that the model repeats each action, where it can be had.

        Elsewhere it is estimated by the share of the re-executions that did.
        """
        chat, run = self._reruns.chat, s.run
        s.keep = [math.nan] * s.size
        if not self._ctx.sampling.plain or "score" not in self._ctx.capabilities:
            return
        places: dict[str, list[int]] = {}
        items: dict[str, Item] = {}
        for t, action in enumerate(run.actions):
            prompt = chat.prompt(run.before[t], run.offered_at(t))
            target = chat.written(run.before[t], action)
            item = Item(self._ctx.model, prompt, target_ids=target)
            items[item.key] = item
            places.setdefault(item.key, []).append(t)
        rate = s.control.reply_rate(s.size)

        def take(batch: Sequence[Observation]) -> None:
            for o in batch:
                if o.logprob is not None and math.isfinite(o.logprob):
                    for t in places[o.key]:
                        s.keep[t] = min(1.0, math.exp(o.logprob)) * rate

        yield Ask("scoring steps", list(items.values()), take)

    def _round(self, s: Subject, wanted: Ints) -> Flow[None]:
        """Re-execute so often from before each action."""
        launches = [
            Launch(s.run, t, int(s.planned[t]) + k)
            for t, more in enumerate(wanted)
            for k in range(int(more))
        ]
        s.planned = s.planned + wanted
        s.reruns += yield from self._launched(STAGE, launches)

    def _launched(self, stage: str, launches: Sequence[Launch]) -> Flow[list[Rerun]]:
        """Re-executions, in order."""

        def one(x: Launch) -> Flow[Rerun]:
            call, expected = self._reruns.rerun(x), self._reruns.expected(x)
            heard: list[Observation] = []
            yield Ask(stage, [call], heard.extend, [expected])
            return Rerun.of(x, heard[0])

        return (yield from together((one(x) for x in launches), most=self._live))

    def _left(self, s: Subject) -> float:
        """Tokens that are left of a run's share."""
        return self._share - sum(r.generated for r in s.reruns)

    def _afforded(self, s: Subject, wanted: Ints) -> Ints:
        """A round that fits what is left of the run's share: fewer from every action, or none."""
        left = self._left(s)
        if left == math.inf:
            return wanted
        costs = np.array([self._reruns.expected(Launch(s.run, t, 0)) for t in range(s.size)])
        while wanted.any() and float(wanted @ costs) > left:
            wanted = np.maximum(wanted - 1, 0)
        return wanted

    def _payable(self, s: Subject, tried: Sequence[Correction]) -> list[Correction]:
        """Corrections, the earliest first, that fit what is left of the run's share."""
        left, payable = self._left(s), list[Correction]()
        for x in tried:
            launch = Launch(s.run, x.action, 0, forced=x.text)
            left -= self._options.confirm * self._reruns.expected(launch)
            if left < 0:
                break
            payable.append(x)
        return payable

    def _count(self, s: Subject) -> None:
        s.counts = self._tally(s)

    def _tally(self, s: Subject, censored_as: float | None = None) -> RerunTally:
        return step.tally(
            s.size, s.reruns, end=s.run.score, keep=s.keep, censored_as=censored_as,
            controls=s.control.scores,
        )  # fmt: skip

    def _measure(self, s: Subject, prior: Learnt) -> Flow[None]:
        """Re-execute until the decisive step is sure, or the most re-executions are made."""
        c = self._options
        for _ in range(ROUNDS - 1):
            found = self._estimate(s, prior)
            wanted = step.next_round(
                found, s.planned, batch=c.initial, cap=c.rollouts, confidence=c.confidence
            )
            wanted = self._afforded(s, wanted)
            if not wanted.any():
                return
            yield from self._round(s, wanted)
            self._count(s)
        self._estimate(s, prior)

    def _estimate(self, s: Subject, prior: Learnt) -> Falls:
        assert s.counts is not None
        s.fitted, s.found = self._located(s.counts, prior)
        return s.found

    def _located(self, counts: RerunTally, prior: Learnt) -> tuple[Posterior, Falls]:
        curve, c = counts.curve(), self._options
        fitted = posterior(curve, prior.values)
        return fitted, step.falls(curve, fitted, prior.kinds, c.delta, c.level)

    def _correct(self, s: Subject) -> Flow[None]:
        """Execute corrections: what the model did better, and what the environment offers."""
        c = self._options
        assert s.found is not None and s.counts is not None and s.fitted is not None
        if s.found.none > 0.5:
            return
        value = s.fitted.value @ s.fitted.grid
        own = candidates(s.reruns, s.counts, s.found, value, c.delta)
        offered = yield from self._offered(s, int(s.found.order[0]))
        tried = sorted((offered + own)[: c.corrections], key=lambda x: x.action)
        tried = self._payable(s, tried)
        launches = [
            Launch(s.run, x.action, k, forced=x.text) for x in tried for k in range(c.confirm)
        ]
        made = yield from self._launched("corrections", launches)
        s.reruns += made
        for i, x in enumerate(tried):
            mine = made[i * c.confirm : (i + 1) * c.confirm]
            got = [r.reward for r in mine if r.reward is not None]
            s.tried.append(Correction(x.action, x.text, x.source, sum(got), len(got)))
        s.correction = next((x for x in s.tried if self._restores(s, x)), None)

    def _restores(self, s: Subject, x: Correction) -> bool:
        assert s.fitted is not None
        after = float(s.fitted.value[x.action + 1] @ s.fitted.grid)
        return x.restores(self._options.theta, after, self._options.delta)

    def _offered(self, s: Subject, top: int) -> Flow[list[Correction]]:
        """What the environment would do instead at the most suspicious action, if it says."""
        call = self._reruns.correction(s.run, top)
        texts: list[str] = yield from _answered("corrections", call, lambda o: o.value or [])
        return [Correction(top, x, "environment") for x in texts if x != s.run.actions[top]][:1]

    def _explain(self, s: Subject) -> Flow[None]:
        """Find the messages that the most suspicious action depended on."""
        assert s.found is not None
        if s.found.none > 0.5:
            return
        top = int(s.found.order[0])
        better = [x for x in s.tried if x.action == top and x.n and x.wins > 0.5 * x.n]
        best = max(better, key=lambda x: (x.wins, x.text), default=None)
        c, run, trace_id = self._options, s.run, s.case.trace_id
        s.depends = yield from measure_action(
            self._ctx,
            self._reruns.chat,
            trace_id,
            run.steps[top],
            run.before[top],
            run.actions[top],
            tools=run.offered_at(top),
            instead=None if best is None else best.text,
            ablations=c.ablations,
            level=c.level,
            seed=[self._ctx.seed, int(trace_id.encode().hex()[:24], 16), top],
        )

    def _verdict(self, s: Subject) -> Verdict:
        c, run = self._options, s.run
        return conclude(
            s.case.trace_id,
            Place(run.steps, run.agents, run.tools, run.ended),
            s.control,
            s.counts,
            s.found,
            method=METHOD,
            evidence=self._evidence,
            confidence=c.confidence,
            level=c.credible,
            bounds_agree=self._bounds_agree(s),
            correction=s.correction,
            evidence_messages=[] if s.depends is None else s.depends.messages,
            rollouts=sum(not r.forced for r in s.reruns),
            tokens=sum(r.tokens for r in s.reruns),
        )

    def _bounds_agree(self, s: Subject) -> bool:
        """Whether censored re-executions could not change the answer."""
        if s.counts is None or s.counts.censored == 0:
            return True
        tops = set()
        for reward in (0.0, 1.0):
            _, found = self._located(self._tally(s, reward), Learnt.of([]))
            top = int(found.order[0])
            sure = found.none <= 0.5 and found.prob[top] >= self._options.confidence
            tops.add((top, bool(sure)))
        return len(tops) == 1 and next(iter(tops))[1]

    def _scores(self, s: Subject) -> list[Score]:
        """The numbers behind a verdict."""
        if s.counts is None or s.fitted is None or s.found is None:
            return []
        own = step.scores(
            s.case.trace_id, s.run.steps, s.counts, s.fitted, s.found, evidence=self._evidence
        )  # fmt: skip
        return own if s.depends is None else own + s.depends.scores

    def _rows(self, s: Subject) -> list[Row]:
        steps = s.run.steps
        reruns = [
            RerunRow(
                trace_id=s.case.trace_id, position=i, start_step=steps[r.start],
                left_step=steps[r.left] if r.left < len(steps) else None, reward=r.reward,
                censored=r.censored, forced=r.forced, error=r.error, tokens=r.tokens,
                actions=list(r.actions),
            )
            for i, r in enumerate(s.reruns)
        ]  # fmt: skip
        return [*reruns, *ablated_rows(s.case.trace_id, s.depends, s.case.episode)]

    def _corrected(self, s: Subject, verdict: Verdict) -> Corrected | None:
        """A correction that helped, with a re-execution that shows it."""
        x = s.correction
        if x is None:
            return None
        shown = next(
            (
                r.actions
                for r in s.reruns
                if r.forced and r.start == x.action and r.action == x.text
                and (r.reward or 0.0) > s.run.score
            ),
            None,
        )  # fmt: skip
        if shown is None:
            return None
        return Corrected(self._environment, s.run, x.action, shown, verdict.reason)


def _answered(stage: str, item: AnyItem, read: Callable[[Observation], T]) -> Flow[T]:
    """Ask for one thing."""
    heard: list[Observation] = []
    yield Ask(stage, [item], heard.extend)
    return read(heard[0])
