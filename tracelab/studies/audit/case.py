"""What an audit works on: an agent's run, and what can be re-executed of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tracelab.core.episode import SEGMENTER, Episode
from tracelab.core.errors import PlanError
from tracelab.core.seam import Message, RecordedRun, Reject
from tracelab.core.study import Case
from tracelab.core.trace import TokenizedTrace, Trace
from tracelab.studies.audit.recorded import recorded_run
from tracelab.studies.chat import Chat
from tracelab.testbed.agent_runs import RECORDED


@dataclass(slots=True)
class AgentRun(Case):
    """A run of one or several agents, cut into its steps; without tokens."""

    @classmethod
    def of(cls, trace: Trace) -> AgentRun:
        """Of a trace.

        Raises:
            PlanError: It is no run of an agent, or has no steps.
        """
        if (episode := trace.episode) is None:
            raise PlanError("is no run of an agent: it has no steps")
        if not episode.steps:
            raise PlanError("has no steps")
        return cls(TokenizedTrace(trace, (), (), ()), episode.step_units(), SEGMENTER)

    @property
    def episode(self) -> Episode:
        """The run, step by step."""
        found = self.trace.episode
        assert found is not None
        return found

    @property
    def failed(self) -> bool | None:
        """Whether it did less than succeed; None where the log does not say.

        Where somebody marked a decisive mistake, it failed.
        """
        e = self.episode
        if e.success is True:
            return False
        if e.reward is not None:
            return e.reward < 1.0
        marked = e.label is not None and e.label.step is not None
        return True if e.success is False or marked else None

    def studied(self, *, assume_failed: bool) -> bool:
        """Whether it is a failure to explain.

        Args:
            assume_failed: Take it for one where the log does not say.

        Raises:
            PlanError: The log does not say.
        """
        if self.failed is None and not assume_failed:
            raise PlanError(
                "the log does not say whether the run succeeded; audit.assume_failed = true "
                "(--assume-failed) studies it as a failure"
            )
        return self.failed is not False

    def recorded(self, chat: Chat, *, most: int, context_length: int) -> RecordedRun:
        """What can be re-executed of it; where the log does not say how it ended, it scored 0.

        Args:
            chat: The model's template.
            most: Model steps that it may have.
            context_length: Tokens that the model can hold.

        Raises:
            PlanError: It cannot be; one clause says why.
        """
        written = sum(s.kind == "llm" for s in self.episode.steps)
        if written > most:  # before the work that grows with its square
            raise PlanError(f"has {written} model steps, more than audit.max_steps = {most}")
        if (kept := self.trace.extra.get(RECORDED)) is not None:
            run = RecordedRun.of(kept)
        else:
            run = readable(recorded_run(self.episode, chat.spell), chat)
        for t, before in enumerate(run.before):
            size = len(chat.prompt(before, run.offered_at(t)))
            if size >= context_length:
                raise PlanError(
                    f"the input of step {run.steps[t]} has {size} tokens, but the model's context "
                    f"holds {context_length}"
                )
        for t in longest(run):
            try:
                chat.refuse_left_out(run.before[t], run.offered_at(t))
            except PlanError as e:
                raise PlanError(f"the input of step {run.steps[t]}: {e}") from None
        return run

    def reject(self, why: PlanError) -> Reject:
        """The row that says why it was not studied."""
        return Reject.of(self.trace, why)


def readable(run: RecordedRun, chat: Chat) -> RecordedRun:
    """A run whose chats hold reasoning where the template takes it (`Chat.inlined`)."""
    made: dict[int, Message] = {}

    def of(messages: Sequence[Message]) -> tuple[Message, ...]:
        for m, shown in zip(messages, chat.inlined(messages), strict=True):
            made.setdefault(id(m), shown)
        return tuple(made[id(m)] for m in messages)

    return replace(run, before=tuple(of(b) for b in run.before), after=of(run.after))


def longest(run: RecordedRun) -> Iterator[int]:
    """Actions whose chats are not the beginning of the next one: all messages are in these."""
    for t, (before, after) in enumerate(zip(run.before, (*run.before[1:], ()), strict=True)):
        if after[: len(before)] != before:
            yield t
