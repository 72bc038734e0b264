"""Episodes as recorded runs: what the models wrote, and the messages before each of it.

Pure. `spell` is the model's chat template: what a message looks like as the model writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracelab.core.episode import Episode, Step
from tracelab.core.errors import PlanError
from tracelab.core.seam import Message, RecordedRun
from tracelab.environments.messages import call, definitions, plain

Spell = Callable[[Sequence[Message], Message, Sequence[Message]], str]
"""What follows the generation prompt when a message is written after others, given tools."""


def recorded_run(episode: Episode, spell: Spell) -> RecordedRun:
    """An episode as a run that can be re-executed.

    Raises:
        PlanError: No model took a step, or it is not known that the run failed.
    """
    written = [s for s in episode.steps if s.kind == "llm"]
    if not written:
        raise PlanError("no step was written by a model")
    score = episode.reward if episode.reward is not None else episode.success
    if score is None:
        raise PlanError("the log does not say whether the run succeeded")
    made: dict[int, dict[str, Any]] = {}
    before = [tuple(_input(episode, s, made)) for s in written]
    offered = [_offered(episode, s) for s in written]
    actions = [spell(b, _assistant(s), o) for b, s, o in zip(before, written, offered, strict=True)]
    last = written[-1]
    after = (*before[-1], _assistant(last), *_messages(episode.steps[last.index + 1 :]))
    return RecordedRun(
        name=episode.name,
        task={
            "name": episode.name, "task": episode.task, "task_id": episode.task_id,
            "reference": episode.reference, "meta": dict(episode.meta),
        },
        actions=tuple(actions),
        before=tuple(before),
        after=after,
        agents=tuple(s.agent for s in written),
        tools=tuple(s.calls[0].name if s.calls else None for s in written),
        steps=tuple(s.index for s in written),
        score=float(score),
        offered=tuple(offered) if any(offered) else (),
    )  # fmt: skip


def _input(episode: Episode, step: Step, made: dict[int, dict[str, Any]]) -> list[Message]:
    """What a step's model was given: as recorded, or the conversation before the step.

    Args:
        episode: The run.
        step: The step.
        made: Messages in the form of templates by the identity of the episode's, filled on the
            way: inputs share most of theirs.

    Raises:
        PlanError: It holds what is no text.
    """
    recorded = episode.model_input(step.index) or []
    if recorded and all(isinstance(m, dict) and "role" in m for m in recorded):
        try:
            for m in recorded:
                if id(m) not in made:
                    made[id(m)] = plain(m)
            return [made[id(m)] for m in recorded]
        except PlanError as e:
            raise PlanError(f"the input of step {step.index} cannot be made again: {e}") from None
    # Token ids alone say nothing to an environment, so they are reconstructed too.
    return _reconstructed(episode, step)


def _offered(episode: Episode, step: Step) -> tuple[Message, ...]:
    tools = None if step.tools is None else episode.messages.get(step.tools)
    return definitions(tools) if tools else ()


def _reconstructed(episode: Episode, step: Step) -> list[Message]:
    """The conversation before a step, for logs that do not hold the model's input."""
    messages = _messages(episode.steps[: step.index])
    if not messages or messages[0]["role"] not in ("user", "system"):
        messages.insert(0, {"role": "user", "content": episode.task})
    return messages


def _messages(steps: Sequence[Step]) -> list[Message]:
    """Steps as messages, without results that the log does not have: they are not empty ones."""
    return [_message(s) for s in steps if "missing_result" not in s.flags]


def _message(step: Step) -> Message:
    if step.kind == "llm":
        return _assistant(step)
    if step.kind != "tool":
        return {"role": step.kind, "content": step.content}
    message = {"role": "tool", "content": step.result or ""}
    if step.tool_call_id is not None:
        message["tool_call_id"] = step.tool_call_id
    if step.tool is not None:
        message["name"] = step.tool
    return message


def _assistant(step: Step) -> Message:
    message: dict[str, object] = {"role": "assistant", "content": step.content}
    if step.reasoning:
        message["reasoning_content"] = step.reasoning
    if step.calls:
        message["tool_calls"] = [call(c, i) for i, c in enumerate(step.calls)]
    return message
