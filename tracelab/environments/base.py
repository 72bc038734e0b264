"""What an environment is: tools and a task that an agent's steps can be re-executed in.

An environment holds one episode at a time. It answers with a `State`: the exact messages that the
model must continue, or that the episode is over. `State` and `RecordedRun` are all that passes
between environments and the audit; this module knows no engine, file or process.

Environments may offer two more things: `seed(n)`, called before `reset` and `restore` by those that
draw random numbers, and `correction(run, t)`, which returns actions that would be right instead of
the recorded one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from tracelab.core.errors import PlanError
from tracelab.core.messages import definitions, plain
from tracelab.core.seam import ENDED, EnvironmentFailure, MakeEnvironment, State

Grade = Callable[[str, str], float | None]
"""Reward of a final text, given the reference; None when it cannot be graded."""


class EnvironmentKind(ABC):
    """One way to name an environment. The first line of its docstring is what lists say of it."""

    usage: ClassVar[str]
    """How it is written in a config: `testbed`, `module:Class`."""

    @classmethod
    def matches(cls, spec: str) -> bool:
        """Whether a name is of this kind."""
        return spec == cls.usage

    @classmethod
    @abstractmethod
    def prepare(cls, spec: str, grade: Grade, timeout_s: float) -> MakeEnvironment:
        """Prepare what makes environments.

        Args:
            spec: The name.
            grade: Grades final answers.
            timeout_s: Deadline of one answer, seconds, where it can be kept.

        Raises:
            ConfigError: There is no such environment.
        """


def as_state(value: object) -> State:
    """What user code returns, checked: a `State`, a list of messages, or an object like a state.

    Raises:
        EnvironmentFailure: It is none of them.
    """
    if isinstance(value, State):
        return value
    data: Mapping[str, Any] = {"messages": value} if isinstance(value, list | tuple) else {}
    if isinstance(value, Mapping):
        data = value
    messages, ended = data.get("messages"), data.get("ended", "")
    if not isinstance(messages, list | tuple) or not all(map(_is_message, messages)):
        raise EnvironmentFailure(
            "the environment's reply has no `messages`: a list of objects with a `role` and a "
            "`content`"
        )
    if ended not in ENDED:
        raise EnvironmentFailure(f"the environment's reply has ended = {str(ended)[:40]!r}")
    done = bool(data.get("done", False)) or ended != ""
    tools = data.get("tools")
    try:
        return State(
            tuple(map(plain, messages)),
            done,
            (ended or "answer") if done else "",
            None if tools is None else definitions(tools),
        )
    except PlanError as e:
        raise EnvironmentFailure(f"the environment's reply cannot be given to a model: {e}") from e


def _is_message(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("role"), str)
        and isinstance(value.get("content"), str | None | list)
    )


def as_score(value: object) -> float | None:
    """A score, checked.

    Raises:
        EnvironmentFailure: It is neither None nor a number in [0, 1].
    """
    if value is None:
        return None
    if isinstance(value, int | float) and 0 <= value <= 1:  # also refuses NaN
        return float(value)
    raise EnvironmentFailure(f"the environment's score is {str(value)[:40]}, not in [0, 1]")
