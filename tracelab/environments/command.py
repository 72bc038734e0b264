"""A command as an environment: JSON lines in, JSON lines out, killed when it is late.

One process holds one episode. A request is `{"op": "reset", "task"}`, `{"op": "restore", "run",
"t"}`, `{"op": "step", "action", "calls", "text"}` (the exact text; its tool calls, `{"name",
"arguments", "text"}` each; what is said besides), `{"op": "score"}`, `{"op": "seed", "n"}`,
`{"op": "hello"}`, each with an `"id"`, an integer that its answer must repeat: a line too many
would otherwise be taken for the answer to the next request. The answer to `hello` is `{"id",
"side_effects": bool}`, that to `score` `{"id", "score": number or null}`, that to `seed` `{"id"}`,
to any other a state: `{"id", "messages": [...], "done": bool, "ended": ""}`. An answer `{"id",
"error": "..."}` fails the re-execution; so does one that is late, too long, no JSON, or without the
id that was asked: the
process is then ended, with all that it started, and the next re-execution begins another.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tracelab.core.child import Child
from tracelab.core.errors import ConfigError
from tracelab.core.seam import EnvironmentFailure, MakeEnvironment, RecordedRun, State
from tracelab.environments.action import Action
from tracelab.environments.base import EnvironmentKind, Grade, as_score, as_state
from tracelab.environments.registry import ENVIRONMENTS, GENERIC

MAX_REPLY_BYTES = 4_000_000
"""Longest answer; more would fill memory."""


class ProcessEnvironment:
    """Speaks to a command."""

    def __init__(self, command: Sequence[str], timeout_s: float = 60.0) -> None:
        """Say what it is; starts nothing.

        Args:
            command: Program and arguments, run without a shell.
            timeout_s: Deadline of one answer, seconds.
        """
        self._child = Child(command, most_bytes=MAX_REPLY_BYTES)
        self._timeout = timeout_s
        self._asked = 0
        self._side_effects: bool | None = None

    @property
    def side_effects(self) -> bool:
        """What the command says; it counts as true unless it says false."""
        if self._side_effects is None:
            self._side_effects = self._ask({"op": "hello"}).get("side_effects") is not False
        return self._side_effects

    def seed(self, n: int) -> None:
        """See `environments.base`."""
        self._ask({"op": "seed", "n": n})

    def reset(self, task: Mapping[str, Any]) -> State:
        """See `Environment.reset`."""
        return as_state(self._ask({"op": "reset", "task": task}))

    def restore(self, run: RecordedRun, t: int) -> State:
        """See `Environment.restore`."""
        return as_state(self._ask({"op": "restore", "run": asdict(run), "t": t}))

    def step(self, action: str) -> State:
        """See `Environment.step`."""
        read = Action(action)
        calls = [asdict(c) for c in read.calls]
        return as_state(
            self._ask({"op": "step", "action": action, "calls": calls, "text": read.text})
        )

    def score(self) -> float | None:
        """See `Environment.score`."""
        return as_score(self._ask({"op": "score"}).get("score"))

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._asked += 1
        try:
            reply = self._child.ask({"id": self._asked, **request}, self._timeout)
        except TimeoutError:
            raise EnvironmentFailure(
                f"the environment took longer than {self._timeout:g} s"
            ) from None
        except EOFError:
            raise EnvironmentFailure("the environment's process ended") from None
        except ValueError as e:
            raise EnvironmentFailure(f"the environment's answer is no line of JSON ({e})") from None
        except OSError as e:
            raise EnvironmentFailure(f"the environment cannot be run ({e.strerror})") from None
        if not isinstance(reply, dict):
            self._child.close()
            raise EnvironmentFailure("the environment's answer is no JSON object")
        if type(found := reply.get("id")) is not int or found != self._asked:
            self._child.close()
            had = f"has the id {str(found)[:40]}" if "id" in reply else "has no id"
            raise EnvironmentFailure(
                f"the environment's answer {had}, and the request had {self._asked}: print one "
                "line a request, with the request's id in it, and nothing else on stdout"
            )
        if reply.get("error") is not None:
            raise EnvironmentFailure(" ".join(str(reply["error"]).split())[:300])
        return reply


@ENVIRONMENTS.register("command", order=GENERIC)
class CommandKind(EnvironmentKind):
    """A program that speaks JSON lines; one process an episode."""

    usage = "command: PROGRAM ARGUMENTS"

    @classmethod
    def matches(cls, spec: str) -> bool:
        """See `EnvironmentKind.matches`."""
        return spec.startswith("command:")

    @classmethod
    def prepare(cls, spec: str, grade: Grade, timeout_s: float) -> MakeEnvironment:
        """See `EnvironmentKind.prepare`."""
        command = shlex.split(spec.removeprefix("command:"))
        if not command or shutil.which(command[0]) is None:
            raise ConfigError(f"audit.environment = {spec!r}: no such program")
        return lambda: ProcessEnvironment(command, timeout_s)
