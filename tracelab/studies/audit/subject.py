"""Audits failed runs: control, values by re-execution, posterior of the decisive step, correction.

All runs of a study go through each stage together, so that engines always have many requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tracelab.core.finding import Score, Verdict
from tracelab.core.item import Item, Observation
from tracelab.core.seam import EnvironmentFailure, RecordedRun
from tracelab.run.config import AuditConfig
from tracelab.stats.value_curve import Posterior, Prior, fit, posterior
from tracelab.studies.anchors.certify import exact_under
from tracelab.studies.audit import step
from tracelab.studies.audit.evidence import Dependence, Question, dependences
from tracelab.studies.audit.rerun import Launch, Rerunner, follows, seed_environment
from tracelab.studies.audit.step import METHOD, Falls, Ints, Rerun, Tally
from tracelab.studies.audit.verdict import (
    Control,
    Correction,
    Place,
    candidates,
    conclude,
)

PRIOR_RUNS = 48
"""Runs from which the prior of the value curve is estimated; more change it little."""
_ROUNDS = 12


@dataclass(slots=True)
class Subject:
    """A failed run under audit.

    Attributes:
        trace_id: Its trace.
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
        depends: What the suspicious action depended on.
    """

    trace_id: str
    run: RecordedRun
    control: Control | None = None
    keep: list[float] = field(default_factory=list)
    planned: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    reruns: list[Rerun] = field(default_factory=list)
    counts: Tally | None = None
    fitted: Posterior | None = None
    found: Falls | None = None
    tried: list[Correction] = field(default_factory=list)
    correction: Correction | None = None
    depends: Dependence = field(default_factory=Dependence)

    @property
    def size(self) -> int:
        """Actions."""
        return len(self.run.actions)

    @property
    def reproducible(self) -> bool:
        """Whether there is a failure to explain."""
        return self.control is not None and self.control.reproducible


@dataclass(slots=True)
class Audit:
    """One audit of many runs.

    Attributes:
        config: How.
        rerunner: Re-executes.
        evidence: `executed`, or `replayed` when the tools' answers are the recorded ones.
    """

    config: AuditConfig
    rerunner: Rerunner
    evidence: str = "executed"

    def examine(self, subjects: Sequence[Subject]) -> list[Verdict]:
        """Every stage, for all runs together; one verdict a run, in order."""
        self.control(subjects)
        open_ = [s for s in subjects if s.reproducible]
        self.score_actions(open_)
        self.measure(open_)
        if self.config.correct:
            self.correct(open_)
        if self.config.evidence:
            self.explain(open_)
        return [self.verdict(s) for s in subjects]

    def control(self, subjects: Sequence[Subject]) -> None:
        """Execute the recorded actions again, unchanged."""
        for s in subjects:
            s.control = self._control(s.run)

    def _control(self, run: RecordedRun) -> Control:
        done = reproduced = same_score = failed = 0
        ended = error = ""
        differs: list[int] = []
        for k in range(self.config.controls):
            env = self.rerunner.make()
            try:
                seed_environment(env, self.rerunner.seed, f"control:{run.name}:{k}")
                state = env.restore(run, 0)
                first = None
                for t, action in enumerate(run.actions):
                    if state.done:
                        first = t if first is None else first
                        break
                    state = env.step(action)
                    if first is None and not follows(state, run, t):
                        first = t
                score, ended = env.score(), state.ended
            except EnvironmentFailure as e:
                failed += 1
                error = error or str(e)
                continue
            finally:
                env.close()
            if score is None and first is None:
                score = run.score  # a replay that cannot grade has nothing that contradicts it
            same = score is not None and math.isclose(score, run.score, abs_tol=1e-9)
            done += 1
            same_score += same
            reproduced += same and first is None
            if first is not None:
                differs.append(first)
        most = max(set(differs), key=lambda t: (differs.count(t), -t)) if differs else None
        return Control(done, reproduced, same_score, most, failed, ended, error)

    def score_actions(self, subjects: Sequence[Subject]) -> None:
        """The exact probability that the model repeats each action, where it can be had."""
        chat, model = self.rerunner.chat, self.rerunner.model
        places: dict[str, list[tuple[Subject, int]]] = {}
        items: dict[str, Item] = {}
        for s in subjects:
            s.keep = [math.nan] * s.size
            if not exact_under(self.rerunner.sampling):
                continue
            for t, action in enumerate(s.run.actions):
                before = s.run.before[t]
                prompt = chat.prompt(before, s.run.offered_at(t))
                item = Item(model, prompt, target_ids=chat.written(before, action))
                items[item.key] = item
                places.setdefault(item.key, []).append((s, t))

        def take(batch: list[Observation]) -> None:
            for o in batch:
                self.rerunner.tokens += o.prefix_tokens + len(o.token_logprobs or ())
                if o.logprob is None or not math.isfinite(o.logprob):
                    continue
                for s, t in places[o.key]:
                    assert s.control is not None
                    s.keep[t] = min(1.0, math.exp(o.logprob)) * s.control.reply_rate(s.size)

        if items:
            self.rerunner.observe("scoring steps", list(items.values()), take)

    def measure(self, subjects: Sequence[Subject]) -> None:
        """Re-execute until every decisive step is sure, or the most re-executions are made."""
        c = self.config
        wanted = {id(s): step.first_round(s.size, c.initial) for s in subjects}
        prior: Prior | None = None
        active = list(subjects)
        for _ in range(_ROUNDS):
            self._rerun(active, wanted)
            for s in active:
                s.counts = step.tally(s.size, s.reruns, end=s.run.score, keep=s.keep)
            counted = [s.counts.curve() for s in subjects[:PRIOR_RUNS] if s.counts is not None]
            if prior is None or len(active) == len(subjects):
                prior = fit(counted)
            for s in active:
                self._estimate(s, prior)
            for s in active:
                assert s.found is not None
                wanted[id(s)] = step.next_round(
                    s.found, s.planned, batch=c.initial, cap=c.rollouts, confidence=c.confidence
                )
            active = [s for s in active if wanted[id(s)].any()]
            if not active:
                break

    def _estimate(self, s: Subject, prior: Prior) -> None:
        assert s.counts is not None
        s.fitted = posterior(s.counts.curve(), prior)
        s.found = step.falls(s.fitted, self.config.delta)

    def _rerun(self, active: Sequence[Subject], wanted: dict[int, Ints]) -> None:
        launches: list[tuple[Subject, Launch]] = []
        for s in active:
            if not len(s.planned):
                s.planned = np.zeros(s.size, dtype=np.int64)
            for t, more in enumerate(wanted[id(s)]):
                for k in range(int(more)):
                    launches.append((s, Launch(s.run, t, int(s.planned[t]) + k)))
            s.planned = s.planned + wanted[id(s)]
        made = self.rerunner.run("re-executions", [x for _, x in launches])
        for (s, _), rerun in zip(launches, made, strict=True):
            s.reruns.append(rerun)

    def correct(self, subjects: Sequence[Subject]) -> None:
        """Execute corrections: what the model did better, and what the environment offers."""
        launches: list[tuple[Subject, int, Launch]] = []
        for s in subjects:
            assert s.found is not None and s.counts is not None and s.fitted is not None
            if s.found.none > 0.5:
                continue
            value = s.fitted.value @ s.fitted.grid
            s.tried = candidates(s.reruns, s.counts, s.found, value, self.config.delta)
            s.tried = (self._offered(s) + s.tried)[: self.config.corrections]
            s.tried.sort(key=lambda x: x.action)
            for i, x in enumerate(s.tried):
                for k in range(self.config.confirm):
                    launches.append((s, i, Launch(s.run, x.action, k, forced=x.text)))
        made = self.rerunner.run("corrections", [x for _, _, x in launches])
        sums: dict[tuple[int, int], list[float]] = {}
        for (s, i, _), rerun in zip(launches, made, strict=True):
            s.reruns.append(rerun)
            if rerun.reward is not None:
                sums.setdefault((id(s), i), []).append(rerun.reward)
        for s in subjects:
            for i, x in enumerate(s.tried):
                got = sums.get((id(s), i), [])
                s.tried[i] = Correction(x.action, x.text, x.source, sum(got), len(got))
            s.correction = next((x for x in s.tried if self._restores(s, x)), None)

    def explain(self, subjects: Sequence[Subject]) -> None:
        """Find the messages that the most suspicious actions depended on."""
        blamed = [s for s in subjects if s.found is not None and s.found.none <= 0.5]
        asked = [self._question(s) for s in blamed]
        c = self.config
        made = dependences(self.rerunner, asked, masks=c.ablations, level=c.level)
        for s, found in zip(blamed, made, strict=True):
            s.depends = found

    def _question(self, s: Subject) -> Question:
        """Why the most suspicious action, rather than what did better there?"""
        assert s.found is not None
        top = int(s.found.order[0])
        better = [x for x in s.tried if x.action == top and x.n and x.wins > 0.5 * x.n]
        best = max(better, key=lambda x: (x.wins, x.text), default=None)
        return Question(s.trace_id, s.run, top, None if best is None else best.text)

    def _restores(self, s: Subject, x: Correction) -> bool:
        assert s.fitted is not None
        after = float(s.fitted.value[x.action + 1] @ s.fitted.grid)
        return x.restores(self.config.theta, after, self.config.delta)

    def _offered(self, s: Subject) -> list[Correction]:
        """What the environment would do instead at the most suspicious action, if it says."""
        env = self.rerunner.make()
        try:
            give = getattr(env, "correction", None)
            if give is None or s.found is None:
                return []
            top = int(s.found.order[0])
            texts = [str(x) for x in give(s.run, top)]
        except Exception:  # the user's code; a correction is an extra
            return []
        finally:
            env.close()
        return [Correction(top, x, "environment") for x in texts if x != s.run.actions[top]][:1]

    def verdict(self, s: Subject) -> Verdict:
        """Conclude one run."""
        assert s.control is not None
        c, run = self.config, s.run
        return conclude(
            s.trace_id,
            Place(run.steps, run.agents, run.tools, run.ended),
            s.control,
            s.counts,
            s.found,
            method=METHOD,
            evidence=self.evidence,
            confidence=c.confidence,
            level=c.credible,
            bounds_agree=self._bounds_agree(s),
            correction=s.correction,
            evidence_messages=s.depends.messages,
            rollouts=sum(not r.forced for r in s.reruns),
            tokens=sum(r.tokens for r in s.reruns),
        )

    def _bounds_agree(self, s: Subject) -> bool:
        """Whether censored re-executions could not change the answer."""
        if s.counts is None or s.counts.censored == 0:
            return True
        tops = set()
        for reward in (0.0, 1.0):
            counts = step.tally(s.size, s.reruns, end=s.run.score, keep=s.keep, censored_as=reward)
            found = step.falls(posterior(counts.curve(), Prior()), self.config.delta)
            top = int(found.order[0])
            tops.add((top, found.none <= 0.5 and found.prob[top] >= self.config.confidence))
        return len(tops) == 1 and next(iter(tops))[1]

    def scores(self, s: Subject) -> list[Score]:
        """The numbers behind a verdict."""
        if s.counts is None or s.fitted is None or s.found is None:
            return []
        own = step.scores(
            s.trace_id, s.run.steps, s.counts, s.fitted, s.found,
            level=self.config.level, evidence=self.evidence,
        )  # fmt: skip
        return own + s.depends.scores
