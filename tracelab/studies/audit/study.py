"""Which step decided that an agent's run failed, whose was it, and what would have helped?

    runs ─► control ─► re-executions ─► posterior ─► corrections ─► evidence ─► verdicts
      └───► opinions: rules and judges that execute nothing

Runs that succeeded are loaded, and left alone. Those that cannot be re-executed are `rejects`, and
still get opinions. The one point at which runs wait for others is the prior of the value curve: it
is estimated from the first round of re-executions of the first `PRIOR_RUNS` runs that reproduce.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tracelab.core.errors import ConfigError, PlanError
from tracelab.core.finding import Findings, Metric
from tracelab.core.flow import Flow, together
from tracelab.core.item import Call, Observation
from tracelab.core.seam import RecordedRun, Reject
from tracelab.core.study import STUDIES, Stage, StudyContext
from tracelab.core.trace import Trace
from tracelab.studies.audit.case import AgentRun
from tracelab.studies.audit.opinions.collect import known_opinions, opinions
from tracelab.studies.audit.options import MIN_RERUNS, AuditOptions
from tracelab.studies.audit.play import market_tasks, play
from tracelab.studies.audit.rerun import Reruns, longest
from tracelab.studies.chat import Chat
from tracelab.testbed.agent_runs import as_trace, recorded

if TYPE_CHECKING:
    from tracelab.studies.audit.measure import Subject

PRIOR_RUNS = 48
"""Runs from which the prior of the value curve is estimated; more change it little."""
_LONGEST = 2
"""How often as long as the record a re-execution may be, in forecasts."""


@STUDIES.register("audit", order=3)
class Audit:
    """Failures of agents: the decisive step, whose it was, and what would have helped."""

    name: ClassVar[str] = "audit"
    Options: ClassVar[type[AuditOptions]] = AuditOptions
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("value", "reward", lo=0.0, hi=1.0, least=MIN_RERUNS),
        Metric(
            "delta_value", "reward", "the step raised the chance of success", -1.0, 1.0, MIN_RERUNS
        ),
        Metric("p_decisive", "probability", lo=0.0, hi=1.0, least=MIN_RERUNS),
        Metric("named", "indicator", "the rule or judge names the step", 0.0, 1.0),
        Metric("effect", "nats", "the piece of the context made the bad action likelier", least=2),
        Metric("weight", "nats", "the piece of the context made the bad action likelier", least=2),
    )
    estimator_version: ClassVar[str] = "5"
    testbed: ClassVar[Literal["agents"]] = "agents"

    def measures(self, options: AuditOptions) -> bool:
        """Whether the run's model writes anything again: opinions measure nothing."""
        return options.environment is not None

    def cases(self, trace: Trace, ctx: StudyContext[Any]) -> Iterable[AgentRun]:
        """The run of an agent, cut into its steps.

        Raises:
            PlanError: It is none.
        """
        return [AgentRun.of(trace)]

    def run(self, cases: Sequence[AgentRun], ctx: StudyContext[AuditOptions]) -> Flow[Findings]:
        """Examine the failed runs, and collect opinions.

        Raises:
            ConfigError: There is neither an environment nor an opinion, or one is unknown.
            PlanError: No run failed, or none can be re-executed and no opinion is asked for.
        """
        o = ctx.options
        if o.environment is None and not o.opinions:
            raise ConfigError(
                "a failure audit needs audit.environment, to execute, or audit.opinions, to guess"
            )
        known_opinions(o.opinions)
        found = Findings()
        if o.environment is not None:
            found.add((yield from _executed(cases, ctx, o.environment)))
        if o.opinions:
            said = yield from opinions(cases, ctx)
            if not said.verdicts:
                raise _no_failure("examined", said.rejects)
            if o.environment is not None:
                said.rejects.clear()  # those who execute have said so
            found.add(said)
        return found

    def outlook(
        self, cases: Sequence[AgentRun], ctx: StudyContext[AuditOptions], asked: int
    ) -> Iterable[Stage]:
        """The re-executions after the first round, where all steps stay open to the last.

        And corrections, as many as may be tried, from where they take longest.

        Args:
            cases: The runs.
            ctx: The study's.
            asked: Not used: what is asked of models is asked by re-executions.
        """
        o = ctx.options
        if o.environment is None:
            return
        chat, written, read = Chat(ctx.tokenizer), 0, 0
        again = max(0, 2 * o.rollouts - o.initial)
        forced = o.corrections * o.confirm if o.correct else 0
        for _, run in _executable(cases, chat, ctx, []):
            each = list(zip(run.before, run.actions, strict=True))
            wrote = [len(chat.written(b, a)) for b, a in each]
            prompts = [len(chat.prompt(b, run.offered_at(t))) for t, (b, _) in enumerate(each)]
            # Action k is written again by the re-executions from every action up to it.
            written += again * sum((k + 1) * n for k, n in enumerate(wrote)) + forced * sum(wrote)
            read += again * sum(longest(prompts[k:]) for k in range(len(prompts)))
            read += forced * longest(prompts)
        if written:
            yield Stage(
                "re-executions, later rounds at most",
                generated_tokens_max=written * _LONGEST, prompt_tokens_max=read,
            )  # fmt: skip

    def limit(self, cases: Sequence[AgentRun], ctx: StudyContext[AuditOptions]) -> int | None:
        """Most tokens that re-executions still generate, from the budget; None without one."""
        budget = ctx.options.budget_tokens
        return None if budget is None else int(budget * _LONGEST)

    def reruns(self, ctx: StudyContext[AuditOptions]) -> Callable[[Call], Flow[Observation]]:
        """What answers calls of kind `rerun`: flows of their own."""
        return _carried_out

    def play(self, n: int, seed: int, ctx: StudyContext[AuditOptions]) -> Flow[list[Trace]]:
        """Let the testbed's agents do tasks; those that fail are what there is to study.

        Args:
            n: Tasks.
            seed: Of the tasks.
            ctx: The study's.
        """
        make = ctx.environment("testbed", ctx.options.timeout_s)
        tasks = market_tasks(n, seed=seed, split="evaluation")
        chat = Chat(ctx.tokenizer)
        played = yield from play(tasks, make, chat, ctx.model, ctx.sampling, ctx.seed)
        runs = (
            recorded(p.name, p.task, p.actions, p.before, p.end, p.score or 0.0) for p in played
        )
        return [as_trace(run) for run in runs if run.score < 1.0]


def _carried_out(call: Call) -> Flow[Observation]:
    answered: Observation = yield from call.payload()
    return answered


def _executed(
    cases: Sequence[AgentRun], ctx: StudyContext[AuditOptions], name: str
) -> Flow[Findings]:
    """Re-execute what can be re-executed."""
    # Heavy, and not to be paid for by whoever only lists studies.
    from tracelab.studies.audit.measure import Examiner, Learnt

    chat = Chat(ctx.tokenizer)
    reruns = Reruns(ctx, chat, name, ctx.environment(name, ctx.options.timeout_s))
    share = _share(cases, ctx.options.budget_tokens)
    examiner, found = Examiner(ctx, reruns, name, share), Findings()
    waiting = _offered(_executable(cases, chat, ctx, found.rejects), ctx)
    first: list[Subject] = []
    missing = PRIOR_RUNS
    while missing and (batch := list(islice(waiting, missing))):
        begun = [examiner.begin(case, run) for case, run in batch]
        first += yield from together(begun, most=examiner.at_once)
        missing = PRIOR_RUNS - sum(s.counts is not None for s in first)
    prior = Learnt.of([curve for s in first if (curve := s.curve) is not None])

    def whole(case: AgentRun, run: RecordedRun) -> Flow[Findings]:
        subject = yield from examiner.begin(case, run)
        return (yield from examiner.settle(subject, prior))

    settled = (examiner.settle(s, prior) for s in _released(first))
    later = (whole(case, run) for case, run in waiting)
    for part in (yield from together(chain(settled, later), most=examiner.at_once)):
        found.add(part)
    if not found.verdicts and not ctx.options.opinions:
        raise _no_failure("re-executed", found.rejects)
    return found


def _no_failure(what: str, rejects: Sequence[Reject]) -> PlanError:
    why = f"; the first: {rejects[0]}" if rejects else ""
    return PlanError(f"there is no failed run that can be {what}{why}")


def _share(cases: Sequence[AgentRun], budget: int | None) -> float:
    """What the re-executions of one failed run may generate; tokens."""
    return (
        math.inf
        if budget is None
        else budget / max(1, sum(case.failed is not False for case in cases))
    )


def _executable(
    cases: Sequence[AgentRun],
    chat: Chat,
    ctx: StudyContext[AuditOptions],
    rejects: list[Reject],
) -> Iterator[tuple[AgentRun, RecordedRun]]:
    """Failed runs that can be re-executed.

    Those that cannot be, or that may not have failed, are added to `rejects`.
    """
    for case in cases:
        try:
            if not case.studied(assume_failed=ctx.options.assume_failed):
                continue
            most = ctx.options.max_steps
            run = case.recorded(chat, most=most, context_length=ctx.context_length)
        except PlanError as e:
            rejects.append(case.reject(e))
            continue
        yield case, run


def _offered(
    found: Iterator[tuple[AgentRun, RecordedRun]], ctx: StudyContext[AuditOptions]
) -> Iterator[tuple[AgentRun, RecordedRun]]:
    """The same; says it once where a chat endpoint is asked for calls without being given tools."""
    told = "chat" not in ctx.capabilities
    for case, run in found:
        if not told and not run.offered and any(m.get("tool_calls") for m in run.after):
            ctx.warn(
                f"{run.name}: its model calls tools, and the log does not say which were offered: "
                "unless the environment's states do (`tools`), the endpoint is offered none"
            )
            told = True
        yield case, run


def _released(subjects: list[Subject]) -> Iterator[Subject]:
    """Each once, in order; those that were given away are no longer held here."""
    subjects.reverse()
    while subjects:
        yield subjects.pop()
