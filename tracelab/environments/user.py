"""User code as an environment: `module:Class`, run in this process.

Its methods are those of `Environment`; they may return lists of messages or plain objects. What it
is given to do is an `Action`: the exact text, which can be asked for its calls. What its methods
raise fails the one re-execution. Code that may hang belongs behind
`python -m tracelab.environments.serve module:Class`, as a command (`command.py`).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tracelab.core.errors import ConfigError, one_line
from tracelab.core.seam import EnvironmentFailure, MakeEnvironment, RecordedRun, State
from tracelab.environments.action import Action
from tracelab.environments.base import EnvironmentKind, Grade, as_score, as_state
from tracelab.environments.registry import ENVIRONMENTS, GENERIC

_METHODS = ("reset", "restore", "step", "score")


class UserEnvironment:
    """Checks what an object of the user's returns."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.side_effects: bool = getattr(inner, "side_effects", True) is not False
        if hasattr(inner, "seed"):
            self.seed = self._seed
        if hasattr(inner, "correction"):
            self.correction = inner.correction

    def _seed(self, n: int) -> None:
        self._call("seed", n)

    def reset(self, task: Mapping[str, Any]) -> State:
        """See `Environment.reset`."""
        return as_state(self._call("reset", task))

    def restore(self, run: RecordedRun, t: int) -> State:
        """See `Environment.restore`."""
        read = replace(run, actions=tuple(map(Action, run.actions)))
        return as_state(self._call("restore", read, t))

    def step(self, action: str) -> State:
        """See `Environment.step`; the user's code gets an `Action`."""
        return as_state(self._call("step", Action(action)))

    def score(self) -> float | None:
        """See `Environment.score`."""
        return as_score(self._call("score"))

    def close(self) -> None:
        """See `Environment.close`."""
        if hasattr(self._inner, "close"):
            with contextlib.suppress(EnvironmentFailure):  # what it did is done and scored
                self._call("close")

    def _call(self, name: str, *args: Any) -> Any:
        try:
            return getattr(self._inner, name)(*args)
        except Exception as e:
            raise EnvironmentFailure(f"{name} raised {type(e).__name__}: {one_line(e)}") from e


class _Unmade:
    """Stands for an environment whose class raised when it was made."""

    def __init__(self, why: str) -> None:
        self._why = why

    def reset(self, task: Mapping[str, Any]) -> State:
        raise EnvironmentFailure(self._why)

    def restore(self, run: RecordedRun, t: int) -> State:
        raise EnvironmentFailure(self._why)

    def step(self, action: str) -> State:
        raise EnvironmentFailure(self._why)

    def score(self) -> float:
        raise EnvironmentFailure(self._why)


def load_class(spec: str) -> type[Any]:
    """The class that `module:Class` names.

    Raises:
        ConfigError: There is none, or it is no environment.
    """
    module, _, name = spec.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # where the user is; last, so that it hides nothing installed
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as e:  # whatever the user's module raises
        raise ConfigError(
            f"audit.environment = {spec!r} cannot be imported ({type(e).__name__}: {one_line(e)})"
        ) from e
    missing = [m for m in _METHODS if not callable(getattr(found, m, None))]
    if missing or not isinstance(found, type):
        raise ConfigError(
            f"audit.environment = {spec!r} is no class with {', '.join(missing or _METHODS)}"
        )
    return found


def user_environment(spec: str) -> MakeEnvironment:
    """What makes environments of a user's class.

    Raises:
        ConfigError: It cannot be imported or made.
    """
    found = load_class(spec)
    try:
        found()
    except Exception as e:
        raise ConfigError(
            f"audit.environment = {spec!r} cannot be made ({type(e).__name__}: {one_line(e)})"
        ) from e

    def make() -> UserEnvironment:
        try:
            return UserEnvironment(found())
        except Exception as e:  # this one re-execution fails
            return UserEnvironment(
                _Unmade(f"it cannot be made ({type(e).__name__}: {one_line(e)})")
            )

    return make


@ENVIRONMENTS.register("class", order=GENERIC + 10)
class UserKind(EnvironmentKind):
    """A class of your own, `module:Class`, run in this process."""

    usage = "module:Class"

    @classmethod
    def matches(cls, spec: str) -> bool:
        """See `EnvironmentKind.matches`."""
        return ":" in spec

    @classmethod
    def prepare(cls, spec: str, grade: Grade, timeout_s: float) -> MakeEnvironment:
        """See `EnvironmentKind.prepare`."""
        return user_environment(spec)
