"""A child process that answers JSON lines; late, it is killed with all that it started.

One value a line in, one value a line out. Whatever goes wrong ends the process, so that a late
answer never meets the next question; the next question starts another.
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
from typing import Any

from tracelab.core.outside import decode

_PART = 65536
_MOST_BYTES = 64 << 20


class Child:
    """One process at a time; started when first asked. Not thread-safe."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        """Say what it is; starts nothing.

        Args:
            command: Program and arguments, run without a shell.
            env: Its environment; None passes ours on.
            most_bytes: Longest answer; more would fill memory.
        """
        self._command, self._env, self._most = list(command), env, most_bytes
        self.process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[[subprocess.Popen[bytes]], Child] | None = None
        self._buffer = b""

    @property
    def alive(self) -> bool:
        """Whether there is a process that has not ended."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process, unless there is one.

        Raises:
            OSError: It cannot be started.
        """
        if self.alive:
            return
        self.close()
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._env,
            start_new_session=True,  # so that what it starts is killed with it
        )
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        self.process = process
        self._end = weakref.finalize(self, _kill, process)

    def ask(self, request: object, timeout_s: float) -> Any:
        """Send a JSON value and return the JSON value that comes back.

        Raises:
            TimeoutError: Not within `timeout_s` seconds.
            EOFError: The process ended.
            ValueError: The answer is longer than `most_bytes`, or (`OutsideError`) no JSON that
                `outside.decode` takes.
            OSError: The process cannot be started or written to.
        """
        line = json.dumps(request, default=list).encode() + b"\n"
        try:
            self.start()
            deadline = time.monotonic() + timeout_s
            self._write(line, deadline)
            return self._read(deadline)
        except BaseException:
            self.close()  # also when interrupted
            raise

    def read(self, timeout_s: float) -> Any:
        """Return the next JSON value, of a process that was started; raises what `ask` does."""
        try:
            return self._read(time.monotonic() + timeout_s)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Kill the process, if there is one. Idempotent."""
        if self._end is not None:
            self._end()
        self.process = self._end = None
        self._buffer = b""

    def _write(self, line: bytes, deadline: float) -> None:
        """Write without waiting longer than the deadline for a process that does not read."""
        assert self.process is not None and self.process.stdin is not None
        pipe = self.process.stdin.fileno()
        poll = select.poll()
        poll.register(pipe, select.POLLOUT)
        while line:
            _wait(poll, deadline)
            line = line[os.write(pipe, line[:_PART]) :]

    def _read(self, deadline: float) -> Any:
        assert self.process is not None and self.process.stdout is not None
        pipe = self.process.stdout.fileno()
        poll = select.poll()
        poll.register(pipe, select.POLLIN | select.POLLHUP)
        parts, size = [self._buffer], len(self._buffer)
        while b"\n" not in parts[-1]:
            if size > self._most:
                raise ValueError(f"the answer is longer than {self._most} bytes")
            _wait(poll, deadline)
            part = os.read(pipe, _PART)
            if not part:
                raise EOFError
            parts.append(part)
            size += len(part)
        line, _, self._buffer = b"".join(parts).partition(b"\n")
        return decode(line)


def _wait(poll: select.poll, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise TimeoutError


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
