"""The testbed's tool world as an environment: the decisive step of a failure is known.

`flaky` makes it a random one: with some probability a look-up finds nothing although the note is
there, and a right bill is lost on its way. That is a failure that no step of the agent explains.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from tracelab.core.seam import MakeEnvironment, RecordedRun, State
from tracelab.environments.base import EnvironmentKind, Grade
from tracelab.environments.registry import ENVIRONMENTS
from tracelab.testbed.agent_labels import NoFaults, play
from tracelab.testbed.agent_runs import task_of
from tracelab.testbed.agent_world import CALL, MAX_TURNS, NOTHING, MarketEnvironment


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
        self._env.reset(task_of(task))
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
        return [play(task_of(run.task), NoFaults(), run.actions[:t])[t]]

    def close(self) -> None:
        """See `Environment.close`."""

    def _state(self) -> State:
        env = self._env
        if not env.done:
            return State(tuple(env.messages))
        late = env.answer is None and len(env.steps) >= MAX_TURNS
        ended = "limit" if late else "answer" if env.answer is not None else "unreadable"
        return State(tuple(env.messages), True, ended)  # type: ignore[arg-type]


@ENVIRONMENTS.register("testbed", order=10)
class MarketKind(EnvironmentKind):
    """The bundled world of markets and look-ups; the decisive step of each failure is known."""

    usage = "testbed"

    @classmethod
    def prepare(cls, spec: str, grade: Grade, timeout_s: float) -> MakeEnvironment:
        """See `EnvironmentKind.prepare`."""
        return MarketWorld
