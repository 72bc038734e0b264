"""One assistant turn of an agent's run, as a trace of its own. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tracelab.core.episode import Episode, Step
from tracelab.core.errors import PlanError
from tracelab.core.messages import as_turn, as_written, input_of, tools_offered
from tracelab.core.study import StudyContext
from tracelab.core.trace import Trace, Turn
from tracelab.studies.chat import Chat

_MOST_NAMED = 8


def turn_of(trace: Trace, n: int, ctx: StudyContext[Any]) -> Trace:
    """The turn that a model took at a step of a run, after its exact input.

    The prompt is the step's model input as recorded (the conversation before it where the log does
    not hold it), the response what the model wrote, reasoning and tool calls included, as its chat
    template spells it. Tools that it was offered are a field of the first turn. The run's reference
    and answer are those of its last turn only.

    Args:
        trace: The run.
        n: Number of the step, from 0.
        ctx: Whose chat template.

    Raises:
        PlanError: It is no agent's run, the step is no assistant turn, or the template cannot
            show it or its input whole.
    """
    episode = trace.episode
    if episode is None:
        raise PlanError("is no agent's run, so it has no turn to choose")
    step = _step(episode, n)
    chat, tools = Chat(ctx.tokenizer), tools_offered(episode, step)
    messages = chat.inlined(input_of(episode, step))
    chat.refuse_left_out(messages, tools)
    response = chat.spell(messages, as_written(step), tools)
    first, *rest = (as_turn(m) for m in messages)
    if tools:
        first = replace(first, fields={**first.fields, "tools": [dict(t) for t in tools]})
    last = n == max(s.index for s in episode.steps if s.kind == "llm")
    return Trace(
        turns=(first, *rest, Turn("assistant", response)),
        name=f"{trace.name} step {n}",
        model=trace.model,
        answer=trace.answer if last else None,
        reference=trace.reference if last else None,
        success=trace.success if last else None,
        source=trace.source,
        extra={
            "run": trace.trace_id,
            "step": n,
            **({} if step.agent is None else {"agent": step.agent}),
        },
        line=trace.line,
    )


def _step(episode: Episode, n: int) -> Step:
    if n < len(episode.steps) and episode.steps[n].kind == "llm":
        return episode.steps[n]
    written = [str(s.index) for s in episode.steps if s.kind == "llm"]
    known = ", ".join(written[:_MOST_NAMED]) + (", ..." if len(written) > _MOST_NAMED else "")
    kind = f"is a {episode.steps[n].kind} step" if n < len(episode.steps) else "does not exist"
    raise PlanError(f"step {n} {kind}; assistant turns are steps {known or '(none)'}")
