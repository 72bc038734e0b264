"""Episodes as recorded runs: what the models wrote, and the messages before each of it.

Pure. `spell` is the model's chat template: what a message looks like as the model writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracelab.core.episode import Episode
from tracelab.core.errors import PlanError
from tracelab.core.hashing import content_hash
from tracelab.core.messages import as_written, conversation, input_of, tools_offered
from tracelab.core.seam import Message, RecordedRun

Spell = Callable[[Sequence[Message], Message, Sequence[Message]], str]
"""What follows the generation prompt when a message is written after others, given tools."""


def recorded_run(episode: Episode, spell: Spell) -> RecordedRun:
    """An episode as a run that can be re-executed; one that nobody scored counts as a failure.

    Raises:
        PlanError: No model took a step.
    """
    written = [s for s in episode.steps if s.kind == "llm"]
    if not written:
        raise PlanError("no step was written by a model")
    score = episode.reward if episode.reward is not None else episode.success or 0.0
    made: dict[int, dict[str, Any]] = {}
    before = [tuple(input_of(episode, s, made)) for s in written]
    offered = [tools_offered(episode, s) for s in written]
    actions = []
    for b, s, o in zip(before, written, offered, strict=True):
        try:
            actions.append(spell(b, as_written(s), o))
        except PlanError as e:
            raise PlanError(f"step {s.index}: {e}") from None
    last = written[-1]
    after = (*before[-1], as_written(last), *conversation(episode.steps[last.index + 1 :]))
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


def digest(run: RecordedRun) -> str:
    """Hash (24 hex characters) of all that a re-execution of a run depends on.

    Inputs share most of their messages, so each message is hashed once.
    """
    known: dict[int, str] = {}

    def hashed(messages: Sequence[Message]) -> list[str]:
        for m in messages:
            if id(m) not in known:
                known[id(m)] = content_hash(dict(m))
        return [known[id(m)] for m in messages]

    return content_hash(
        [
            run.name,
            dict(run.task),
            list(run.actions),
            [hashed(m) for m in run.before],
            hashed(run.after),
            [hashed(m) for m in run.offered],
            run.score,
        ],
        size=12,
    )
