"""Opinions of an audit: rules and judges, which guess without executing anything.

Evidence is `judged`, whatever they claim, and none of them localizes. A rule reads the log and asks
no model: it has no probability, and names nobody. Runs are gone through one at
a time; of all of them together only what rules that learn from others need is held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracelab.core.episode import Arguments, Episode, Step, ToolCall
from tracelab.core.errors import ConfigError, PlanError
from tracelab.core.finding import Findings, Score, Verdict
from tracelab.core.flow import Flow, together
from tracelab.core.study import StudyContext
from tracelab.studies.audit.case import AgentRun
from tracelab.studies.audit.opinions.floors import FLOORS, LEARNT, Guess
from tracelab.studies.audit.opinions.judges import PROTOCOLS, JudgeOptions, Opinion, judged
from tracelab.studies.audit.options import AuditOptions

NAMED = "named"
RULE, JUDGE = "rule:", "judge:"
"""What methods begin with: a rule reads the log and asks nobody, a judge is a model's opinion."""
_AT_ONCE = 64
"""Runs that are judged at one time; an endpoint has fewer requests in flight."""


@dataclass(slots=True)
class Opinions:
    """What was said.

    Attributes:
        level: Stored with the scores; none has an interval.
        judge: Name of the model that judges.
        found: A verdict for each run and rule or judge, without a step where none was named; and a
            score `named` of each step that is.
        unusable: Answers that name no step, by kind.
    """

    level: float
    judge: str = ""
    found: Findings = field(default_factory=Findings)
    unusable: Counter[str] = field(default_factory=Counter)

    def add(self, trace_id: str, episode: Episode, method: str, said: Opinion) -> None:
        """Take one opinion."""
        step = said.step
        named = step is not None and 0 <= step < len(episode.steps)
        at = episode.steps[step] if named and step is not None else None
        reason = said.reason or said.error or ""
        if not named and not reason and said.parse_failures:
            reason = "the answer cannot be used: " + ", ".join(sorted(said.parse_failures))
        extra: dict[str, Any] = {"opinion": said.status}
        if said.parse_failures:
            extra["unusable"] = dict(said.parse_failures)
        asked = method.startswith(JUDGE)
        if asked:
            extra |= {
                "model": self.judge, "reference_shown": said.reference_shown, "calls": said.calls,
            }  # fmt: skip
        lost = said.status in ("failed", "overlong")
        if asked:  # of a rule nothing was asked
            self.found.attempted += 1
            self.found.failed += lost
            self.found.unanswered += not lost and not named
        if not lost and not named:
            kinds = said.parse_failures or Counter([said.status])
            self.unusable[next(iter(sorted(kinds)))] += 1
        self.found.verdicts.append(
            Verdict(
                trace_id, method, "judged", "ambiguous" if named else "unidentifiable",
                decisive_step=step if named else None,
                agent=said.agent or (at.agent if at is not None else None),
                tool=at.calls[0].name if at is not None and at.calls else None,
                who="agent" if named and asked else "unknown", reason=reason[:500], extra=extra,
            )
        )  # fmt: skip
        if named and step is not None:
            self.found.scores.append(
                Score.of(trace_id, "step", step, method, NAMED, 1.0, level=self.level, n=1,
                         evidence="judged")
            )  # fmt: skip


def known_opinions(names: Iterable[str]) -> None:
    """Refuse names that are no judge and no rule.

    Raises:
        ConfigError: One is unknown.
    """
    for name in names:
        if name not in FLOORS and name not in PROTOCOLS:
            raise ConfigError(
                f"audit.opinions: there is no {name!r}; known are "
                f"{', '.join([*FLOORS, *PROTOCOLS])}"
            )


def opinions(cases: Sequence[AgentRun], ctx: StudyContext[AuditOptions]) -> Flow[Findings]:
    """What rules and judges think of the runs that failed; others are left alone, or `rejects`.

    Raises:
        ConfigError: An opinion is unknown, or the judge's endpoint lacks a model.
    """
    names = list(dict.fromkeys(ctx.options.opinions))
    known_opinions(names)
    alone = [n for n in names if n not in LEARNT]
    options = judge_options(ctx) if any(n in PROTOCOLS for n in names) else None
    slim: list[tuple[str, Episode]] = []
    level = ctx.options.level
    judge = ctx.options.judge.model or ctx.model.name

    def each(case: AgentRun) -> Flow[Opinions]:
        said, e = Opinions(level, judge), case.episode
        for name in alone:
            if name in PROTOCOLS:
                assert options is not None
                said.add(case.trace_id, e, JUDGE + name, (yield from judged(e, name, options)))
            else:
                said.add(case.trace_id, e, RULE + name, _rule(FLOORS[name]([e])[0]))
        return said

    def begun() -> Iterator[Flow[Opinions]]:
        for case in cases:
            try:
                if not case.studied(assume_failed=ctx.options.assume_failed):
                    continue
            except PlanError as e:
                out.found.rejects.append(case.reject(e))
                continue
            if len(alone) < len(names):
                slim.append((case.trace_id, _slim(case.episode)))
            yield each(case)

    out = Opinions(level)
    for said in (yield from together(begun(), most=_AT_ONCE)):
        out.found.add(said.found)
        out.unusable.update(said.unusable)
    for name in (n for n in names if n in LEARNT):
        guesses = FLOORS[name]([e for _, e in slim])
        for (trace_id, e), guess in zip(slim, guesses, strict=True):
            out.add(trace_id, e, RULE + name, _rule(guess))
    if out.found.failed or out.unusable:
        kinds = ", ".join(f"{n} {k}" for k, n in out.unusable.most_common())
        ctx.warn(
            f"opinions: {out.found.failed} calls failed, {out.unusable.total()} answers name no "
            f"step{f' ({kinds})' if kinds else ''}; they are excluded from all statistics"
        )
    return out.found


def judge_options(ctx: StudyContext[AuditOptions]) -> JudgeOptions:
    """Who judges: the model at an endpoint, or the run's own.

    Raises:
        ConfigError: The endpoint lacks a model.
    """
    j = ctx.options.judge
    more: dict[str, Any] = {
        "reply_tokens": j.reply_tokens, "show_reference": j.show_reference, "seed": ctx.seed,
    }  # fmt: skip
    if j.endpoint is None:
        tokenizer = ctx.tokenizer
        return JudgeOptions(
            ctx.model.key(), lambda text: len(tokenizer.encode_text(text)), ctx.context_length,
            **more,
        )  # fmt: skip
    if j.model is None:
        raise ConfigError("audit.judge.endpoint needs audit.judge.model: the name of its model")
    return JudgeOptions([j.endpoint, j.model], cautious_count, j.context, **more)


def cautious_count(text: str) -> int:
    """Tokens of a text for a model whose tokenizer is not here: one for 3 bytes of UTF-8."""
    return len(text.encode("utf-8", "replace")) // 3 + 1


def _rule(guess: Guess | None) -> Opinion:
    return Opinion(None if guess is None else guess.step, reason="a rule that asks no model")


def _slim(e: Episode) -> Episode:
    """What rules that learn from other runs look at: labels, kinds, agents and tools."""
    steps = tuple(
        Step(s.index, s.kind, s.agent, tool=s.tool,
             calls=tuple(ToolCall(c.name, Arguments("")) for c in s.calls[:1]), flags=s.flags)
        for s in e.steps
    )  # fmt: skip
    return Episode(e.name, steps, e.format, label=e.label)
