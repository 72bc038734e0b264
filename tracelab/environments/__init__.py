"""Environments: what the steps of an agent are re-executed in. `base` is the contract."""

from __future__ import annotations

import shlex
import shutil

from tracelab.core.errors import ConfigError
from tracelab.core.seam import MakeEnvironment
from tracelab.environments.replay import Grade, ReplayEnvironment


def make_environment(spec: str, grade: Grade, *, timeout_s: float = 60.0) -> MakeEnvironment:
    """What makes environments of a kind.

    Args:
        spec: `testbed`, `replay`, `module:Class`, or `command: PROGRAM ARGUMENTS`.
        grade: Grades final answers, for `replay`.
        timeout_s: Deadline of one answer of a command, seconds.

    Raises:
        ConfigError: There is no such environment.
    """
    if spec == "testbed":
        from tracelab.environments.testbed import MarketWorld

        return MarketWorld
    if spec == "replay":
        return lambda: ReplayEnvironment(grade)
    if spec.startswith("command:"):
        from tracelab.environments.process import ProcessEnvironment

        command = shlex.split(spec.removeprefix("command:"))
        if not command or shutil.which(command[0]) is None:
            raise ConfigError(f"audit.environment = {spec!r}: no such program")
        return lambda: ProcessEnvironment(command, timeout_s)
    if ":" in spec:
        from tracelab.environments.user import user_environment

        return user_environment(spec)
    raise ConfigError(
        f"audit.environment = {spec!r}: use testbed, replay, module:Class or command: PROGRAM"
    )
