"""The testbed's tool world as an environment: the decisive step of a failure is known.

`flaky` makes it a random one: with some probability a look-up finds nothing although the note is
there, and a right bill is lost on its way. That is a failure that no step of the agent explains.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tracelab.core.episode import Arguments, Episode, InputStore, Label, Step, ToolCall
from tracelab.core.seam import MakeEnvironment, RecordedRun, State
from tracelab.environments.base import EnvironmentKind, Grade
from tracelab.environments.registry import ENVIRONMENTS
from tracelab.testbed.agent_labels import NoFaults, play, read
from tracelab.testbed.agent_world import CALL, MAX_TURNS, NOTHING, MarketEnvironment, task

THINK = "<think>\n"


class MarketWorld:
    """`tracelab.testbed.agent_world.MarketEnvironment`, spoken to as any environment is.

    A task is `{"split", "seed", "index"}`, and `flaky`, a probability.
    """

    side_effects = False

    def __init__(self) -> None:
        self._env = MarketEnvironment()
        self._rng = random.Random(0)
        self._flaky = 0.0
        self._lost = False
        self.flakes: list[int] = []
        """Actions whose reply, or whose result, the environment spoilt."""

    def seed(self, n: int) -> None:
        """Determine what goes wrong by chance."""
        self._rng = random.Random(n)

    def reset(self, task: Mapping[str, Any]) -> State:
        """See `Environment.reset`."""
        self._flaky = float(task.get("flaky", 0.0))
        self._lost, self.flakes = False, []
        self._env.reset(_task(task))
        return self._state()

    def restore(self, run: RecordedRun, t: int) -> State:
        """See `Environment.restore`: the tools have no memory, so the chat is all there is."""
        self.reset(run.task)
        self._env.steps = list(run.actions[:t])
        self._env.messages = [dict(m) for m in run.before[t]]
        return self._state()

    def step(self, action: str) -> State:
        """See `Environment.step`."""
        t = len(self._env.steps)
        self._env.step(action)
        if self._flaky and self._rng.random() < self._flaky:
            call = CALL.search(action)
            last = self._env.messages[-1]
            if call and call[2] and last["role"] == "tool" and last["content"] != NOTHING:
                self._env.messages[-1] = {"role": "tool", "content": NOTHING}
                self.flakes.append(t)
            elif self._env.done and self._env.score() == 1.0:
                self._lost = True
                self.flakes.append(t)
        return self._state()

    def score(self) -> float:
        """See `Environment.score`."""
        return 0.0 if self._lost else self._env.score()

    def correction(self, run: RecordedRun, t: int) -> list[str]:
        """What a policy without faults does before action t."""
        return [play(_task(run.task), NoFaults(), run.actions[:t])[t]]

    def close(self) -> None:
        """See `Environment.close`."""

    def _state(self) -> State:
        env = self._env
        if not env.done:
            return State(tuple(env.messages))
        late = env.answer is None and len(env.steps) >= MAX_TURNS
        ended = "limit" if late else "answer" if env.answer is not None else "unreadable"
        return State(tuple(env.messages), True, ended)  # type: ignore[arg-type]


def _task(data: Mapping[str, Any]) -> Any:
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
    asked = _task(run.task)
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
    found = read(_task(data), actions)
    return found.cause, found.decisive_step


@ENVIRONMENTS.register("testbed", order=10)
class MarketKind(EnvironmentKind):
    """The bundled world of markets and look-ups; the decisive step of each failure is known."""

    usage = "testbed"

    @classmethod
    def prepare(cls, spec: str, grade: Grade, timeout_s: float) -> MakeEnvironment:
        """See `EnvironmentKind.prepare`."""
        return MarketWorld
