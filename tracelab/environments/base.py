"""What an environment is: tools and a task that an agent's steps can be re-executed in.

An environment holds one episode at a time. It answers with a `State`: the exact messages that the
model must continue, or that the episode is over. `State` and `RecordedRun` are all that passes
between environments and the audit; this module knows no engine, file or process.

Environments may offer two more things: `seed(n)`, called before `reset` and `restore` by those that
draw random numbers, and `correction(run, t)`, which returns actions that would be right instead of
the recorded one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tracelab.environments.messages import Message as Message
from tracelab.environments.messages import definitions, plain
from tracelab.errors import ConfigError, PlanError

Ended = Literal["", "answer", "limit", "unreadable", "censored"]
"""Why an episode is over: it answered, ran out of turns, wrote what no tool takes, or called
something that the record has no answer to. Empty while it goes on."""
_ENDED = ("", "answer", "limit", "unreadable", "censored")


class EnvironmentFailure(Exception):  # noqa: N818
    """A re-execution could not be finished: no outcome, neither success nor failure."""


@dataclass(frozen=True, slots=True)
class State:
    """Where an episode stands.

    Attributes:
        messages: The chat so far, as the chat template takes it.
        done: Whether it is over.
        ended: Why.
        tools: Definitions of the tools that the model is offered next; None: as was recorded.
    """

    messages: tuple[Message, ...]
    done: bool = False
    ended: Ended = ""
    tools: tuple[Message, ...] | None = None


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A recorded run, as far as it can be re-executed. N actions of models.

    Attributes:
        name: How the user calls it.
        task: What the environment needs to begin it, JSON values.
        actions: What the models wrote, exactly as it follows the generation prompt [N].
        before: The messages before each action [N].
        after: The messages at the end.
        agents: Who took each action [N].
        tools: The tool that each action calls first, if it calls one [N].
        steps: Index of each action among the steps of the episode [N].
        score: What it scored.
        ended: Why it was over.
        offered: Definitions of the tools that the model was offered before each action [N]; empty
            where it was offered none.
    """

    name: str
    task: Mapping[str, Any]
    actions: tuple[str, ...]
    before: tuple[tuple[Message, ...], ...]
    after: tuple[Message, ...]
    agents: tuple[str | None, ...]
    tools: tuple[str | None, ...]
    steps: tuple[int, ...]
    score: float
    ended: Ended = ""
    offered: tuple[tuple[Message, ...], ...] = ()

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> RecordedRun:
        """Read it back from JSON."""
        run: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        for nested in ("before", "offered"):
            run[nested] = tuple(tuple(messages) for messages in run.get(nested, ()))
        return cls(**run)

    def offered_at(self, t: int) -> tuple[Message, ...]:
        """The tools offered before action t; later than the record, those of its last action."""
        return self.offered[min(t, len(self.offered) - 1)] if self.offered else ()

    def state_after(self, t: int) -> tuple[Message, ...]:
        """The messages after action t."""
        return self.before[t + 1] if t + 1 < len(self.before) else self.after


class Environment(Protocol):
    """Re-executes episodes."""

    @property
    def side_effects(self) -> bool:
        """Whether a step can change anything outside the environment."""
        ...

    def reset(self, task: Mapping[str, Any]) -> State:
        """Begin a task."""
        ...

    def restore(self, run: RecordedRun, t: int) -> State:
        """Stand where the recorded run stood before its action t."""
        ...

    def step(self, action: str) -> State:
        """Take an action, exactly as the model wrote it."""
        ...

    def score(self) -> float | None:
        """What the finished episode scores, in [0, 1]; None when that cannot be known."""
        ...

    def close(self) -> None:
        """Release what it holds. Idempotent."""
        ...


MakeEnvironment = Callable[[], Environment]


def require_safe(environment: Environment, acknowledged: bool, name: str) -> None:
    """Refuse an environment with side effects that nobody has acknowledged.

    Raises:
        ConfigError: It has side effects, or does not say whether it has.
    """
    declared = getattr(environment, "side_effects", None)
    if declared is False or acknowledged:
        return
    what = "has side effects" if declared else "does not say `side_effects = False`"
    raise ConfigError(
        f"environment {name!r} {what}, and an audit executes its steps many times; set "
        "audit.side_effects = true (--side-effects) if that is acceptable"
    )


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
    if ended not in _ENDED:
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
