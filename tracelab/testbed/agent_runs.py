"""Episodes of the tool world as recorded runs, and as agent logs like any other. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from tracelab.core.episode import Arguments, Episode, InputStore, Label, Step, ToolCall
from tracelab.core.seam import RecordedRun, State
from tracelab.core.trace import Trace
from tracelab.testbed.agent_labels import read
from tracelab.testbed.agent_world import CALL, AgentTask, task

THINK = "<think>\n"
RECORDED = "recorded"
"""Key of `Trace.extra`: the run as it was played here, which needs no reconstruction."""


def task_of(data: Mapping[str, Any]) -> AgentTask:
    """The task that `{"split", "seed", "index"}` names."""
    return task(data["split"], int(data["seed"]), int(data["index"]))


def recorded(
    name: str, task: Mapping[str, Any], actions: Sequence[str], before: Sequence[Any], state: State,
    score: float,
) -> RecordedRun:  # fmt: skip
    """A played episode as a recorded run; every message after the first is a step."""
    calls = [CALL.search(a) for a in actions]
    return RecordedRun(
        name=name,
        task=dict(task),
        actions=tuple(actions),
        before=tuple(before),
        after=state.messages,
        agents=tuple("worker" if t else "planner" for t in range(len(actions))),
        tools=tuple(None if c is None else "lookup" if c[2] else "calc" for c in calls),
        steps=tuple(len(b) - 1 for b in before),
        score=score,
        ended=state.ended,
    )


def as_episode(run: RecordedRun) -> Episode:
    """A played episode as any other agent log, its planted cause and decisive step as label."""
    asked = task_of(run.task)
    store, steps = InputStore(), list[Step]()
    node = store.extend(None, dict(run.after[0]))
    for i, message in enumerate(run.after[1:]):
        said = message["content"]
        if message["role"] == "assistant":
            call = CALL.search(said)
            calls = (ToolCall(*_named(call)),) if call else ()
            steps.append(Step(i, "llm", message.get("name"), said, calls=calls, input=node))
        elif message["role"] == "tool":
            name, arguments = _named(CALL.search(steps[-1].content))
            steps.append(
                Step(i, "tool", steps[-1].agent, said, tool=name, arguments=arguments,
                     result=said, parent=i - 1)
            )  # fmt: skip
        else:
            steps.append(Step(i, "user", "harness", said))
        node = store.extend(node, dict(message))
    cause, action = planted(run.task, run.actions)
    agent = None if action is None else run.agents[action]
    step = None if action is None else run.steps[action]
    return Episode(
        name=run.name,
        steps=tuple(steps),
        format="testbed",
        source="testbed",
        task=str(run.after[0]["content"]),
        task_id=asked.task_id,
        model="testbed",
        success=run.score == 1.0,
        reward=run.score,
        reference=asked.reference,
        label=None if cause is None else Label(step, agent, cause),
        messages=store.messages,
        inputs=store.inputs,
        meta={"environment": dict(run.task)},
    )


def _named(call: re.Match[str] | None) -> tuple[str, Arguments]:
    if call is None:
        return "none", Arguments("")
    if call[2]:
        return "lookup", Arguments.of({"subject": call[2]})
    return "calc", Arguments.of({"x": int(call[3]), "op": call[4], "y": int(call[5])})


def planted(data: Mapping[str, Any], actions: Sequence[str]) -> tuple[str | None, int | None]:
    """What the world knows of an episode: the cause of its failure and the decisive action."""
    found = read(task_of(data), actions)
    return found.cause, found.decisive_step


def as_trace(run: RecordedRun) -> Trace:
    """A played episode as a trace, which keeps the run as it was played."""
    return replace(Trace.of_episode(as_episode(run)), extra={RECORDED: asdict(run)})
