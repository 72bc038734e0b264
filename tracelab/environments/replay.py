"""Replay as an environment: tools answer from the record, and calls off the record are censored.

A result is found by (tool, canonical arguments, occurrence): the n-th call of its kind gets the
n-th recorded result, or the last one where all that were recorded are equal. This is sound for
tools that only read and whose answers do not change with time. A call without a recorded result
ends the re-execution as `censored`: it has no score, and the audit reports how many there were and
what they could change. Knows no engine and executes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tracelab.core.errors import ConfigError
from tracelab.core.messages import canonical
from tracelab.core.seam import MakeEnvironment, Message, RecordedRun, State
from tracelab.environments.action import Action
from tracelab.environments.base import EnvironmentKind, Grade
from tracelab.environments.registry import ENVIRONMENTS
from tracelab.text.tags import parted

Key = tuple[str, str]


def keys_of(action: str) -> list[Key]:
    """The tool calls in what a model wrote: (tool, canonical arguments), in order.

    Arguments that are JSON are put in one form: sorted keys, no spaces.
    """
    return [(c.name, canonical(c.arguments)) for c in Action(action).calls]


def recorded_results(run: RecordedRun) -> dict[Key, list[Message]]:
    """Recorded results by call, in order of occurrence."""
    found: dict[Key, list[Message]] = {}
    for t, action in enumerate(run.actions):
        replies = [m for m in _answered(run, t) if m["role"] == "tool"]
        for key, reply in zip(keys_of(action), replies, strict=False):
            found.setdefault(key, []).append(reply)
    return found


def _answered(run: RecordedRun, t: int) -> Sequence[Message]:
    """What stands after action t in the next chat that goes on from it."""
    before = run.before[t]
    for later in (*run.before[t + 1 :], run.after):
        if len(later) > len(before) and later[: len(before)] == before:
            return later[len(before) + 1 :]
    return ()


def one_chat(run: RecordedRun) -> bool:
    """Whether all of a run is one growing chat; else several models had chats of their own."""
    return all(
        len(after) > len(before) and after[: len(before)] == before
        for before, after in zip(run.before, run.before[1:], strict=False)
    )


class ReplayEnvironment:
    """Answers from one recorded run at a time."""

    side_effects = False

    def __init__(self, grade: Grade) -> None:
        self._grade = grade
        self._answer: str | None = None
        self._ended = False

    def reset(self, task: Mapping[str, Any]) -> State:
        """Not possible: a task alone has no record."""
        raise ConfigError("audit.environment = 'replay' re-executes recorded runs only")

    def restore(self, run: RecordedRun, t: int) -> State:
        """See `Environment.restore`."""
        self._run, self._t = run, t
        self._on_record = True
        self._results = recorded_results(run)
        self._seen = Counter(key for a in run.actions[:t] for key in keys_of(a))
        self._messages = list(run.before[t])
        self._answer, self._ended = None, False
        return State(tuple(self._messages))

    def step(self, action: str) -> State:
        """See `Environment.step`."""
        run, t = self._run, self._t
        self._t += 1
        calls = keys_of(action)
        same = t < len(run.actions) and action == run.actions[t]
        self._on_record = self._on_record and same
        if self._on_record and t + 1 < len(run.actions):
            # On the recorded path everything is known, whatever it was that answered.
            self._messages = list(run.state_after(t))
            self._seen.update(calls)
            return State(tuple(self._messages))
        self._messages.append({"role": "assistant", "content": action})
        if not calls:
            return self._final(action, t)
        for key in calls:
            reply = self._reply(key)
            if reply is None:
                return State(tuple(self._messages), True, "censored")
            self._messages.append(reply)
        return State(tuple(self._messages))

    def _final(self, action: str, t: int) -> State:
        run = self._run
        early = t < len(run.actions) - 1
        answered = early and not keys_of(run.actions[t])
        if answered or (not self._on_record and not one_chat(run)):
            # Somebody answered a plain message, or another model took over; to another message
            # they might say else.
            return State(tuple(self._messages), True, "censored")
        self._answer, self._ended = parted(action)[1], True
        return State(tuple(self._messages), True, "answer")

    def _reply(self, key: Key) -> Message | None:
        known, n = self._results.get(key, []), self._seen[key]
        self._seen[key] += 1
        if n < len(known):
            return known[n]
        return known[-1] if known and all(m == known[0] for m in known) else None

    def score(self) -> float | None:
        """The grade of the final answer; None where there is none to compare with."""
        reference = self._run.task.get("reference")
        if not self._ended or self._answer is None or not isinstance(reference, str):
            return None
        return self._grade(self._answer, reference)

    def close(self) -> None:
        """See `Environment.close`."""


@ENVIRONMENTS.register("replay", order=20)
class ReplayKind(EnvironmentKind):
    """Tools answer from the record; calls that are not in it end the re-execution."""

    usage = "replay"

    @classmethod
    def prepare(cls, spec: str, grade: Grade, timeout_s: float) -> MakeEnvironment:
        """See `EnvironmentKind.prepare`."""
        return lambda: ReplayEnvironment(grade)
