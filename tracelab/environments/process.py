"""A command as an environment: JSON lines in, JSON lines out, killed when it is late.

One process holds one episode. A request is `{"op": "reset", "task"}`, `{"op": "restore", "run",
"t"}`, `{"op": "step", "action"}`, `{"op": "score"}`, `{"op": "seed", "n"}`, `{"op": "hello"}`.
The answer to `hello` is `{"side_effects": bool}`, that to `score` `{"score": number or null}`, that
to `seed` `{}`, to any other a state: `{"messages": [...], "done": bool, "ended": ""}`. An answer
`{"error": "..."}` fails the re-execution, and so does one that is late, too long or no JSON; the
process is then ended, with all that it started, and the next re-execution begins another.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tracelab.core.seam import EnvironmentFailure, RecordedRun, State
from tracelab.environments.base import as_score, as_state

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
        self._command, self._timeout = list(command), timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[[subprocess.Popen[bytes]], ProcessEnvironment] | None = None
        self._buffer = b""
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
        return as_state(self._ask({"op": "step", "action": action}))

    def score(self) -> float | None:
        """See `Environment.score`."""
        return as_score(self._ask({"op": "score"}).get("score"))

    def close(self) -> None:
        """End the process."""
        if self._end is not None:
            self._end()
        self._process = self._end = None
        self._buffer = b""

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        line = json.dumps(request, default=list).encode() + b"\n"
        try:
            process = self._start()
            deadline = time.monotonic() + self._timeout
            _write(process, line, deadline)
            reply = json.loads(self._read_line(process, deadline))
        except TimeoutError:
            self.close()
            raise EnvironmentFailure(
                f"the environment took longer than {self._timeout:g} s"
            ) from None
        except EOFError:
            self.close()
            raise EnvironmentFailure("the environment's process ended") from None
        except (ValueError, RecursionError):
            self.close()
            raise EnvironmentFailure("the environment's answer is no line of JSON") from None
        except OSError as e:
            self.close()
            raise EnvironmentFailure(f"the environment cannot be run ({e.strerror})") from None
        except BaseException:
            self.close()  # interrupted: its answer must not meet the next question
            raise
        if not isinstance(reply, dict):
            raise EnvironmentFailure("the environment's answer is no JSON object")
        if reply.get("error") is not None:
            raise EnvironmentFailure(" ".join(str(reply["error"]).split())[:300])
        return reply

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that what it starts is killed with it
        )
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        self._process = process
        self._end = weakref.finalize(self, _kill, process)
        return process

    def _read_line(self, process: subprocess.Popen[bytes], deadline: float) -> bytes:
        assert process.stdout is not None
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN | select.POLLHUP)
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_REPLY_BYTES:
                raise ValueError
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise TimeoutError
            part = os.read(process.stdout.fileno(), 65536)
            if not part:
                raise EOFError
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def _write(process: subprocess.Popen[bytes], line: bytes, deadline: float) -> None:
    """Write without waiting longer than the deadline for a process that does not read."""
    assert process.stdin is not None
    poll = select.poll()
    poll.register(process.stdin, select.POLLOUT)
    while line:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError
        line = line[os.write(process.stdin.fileno(), line[:65536]) :]


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:  # not reaped yet, so its id is still its own
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
