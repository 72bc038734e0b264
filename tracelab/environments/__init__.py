"""Environments: what the steps of an agent are re-executed in. `base` is the contract."""

from __future__ import annotations

from tracelab.core.errors import ConfigError
from tracelab.core.seam import MakeEnvironment
from tracelab.environments.base import EnvironmentKind, Grade
from tracelab.environments.registry import ENVIRONMENTS

__all__ = ["ENVIRONMENTS", "known_environment", "make_environment"]


def make_environment(spec: str, grade: Grade, *, timeout_s: float = 60.0) -> MakeEnvironment:
    """What makes environments of a kind.

    Args:
        spec: What one of `ENVIRONMENTS` matches: `testbed`, `replay`, `module:Class`,
            `command: PROGRAM ARGUMENTS`.
        grade: Grades final answers, for `replay`.
        timeout_s: Deadline of one answer of a command, seconds.

    Raises:
        ConfigError: There is no such environment.
    """
    return known_environment(spec).prepare(spec, grade, timeout_s)


def known_environment(spec: str) -> type[EnvironmentKind]:
    """The kind that a name is of.

    Raises:
        ConfigError: It is of none.
    """
    kind = next((k for k in ENVIRONMENTS.values() if k.matches(spec)), None)
    if kind is None:
        known = [k.usage for k in ENVIRONMENTS.values()]
        raise ConfigError(
            f"audit.environment = {spec!r}: use {', '.join(known[:-1])} or {known[-1]}"
        )
    return kind
