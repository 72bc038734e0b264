"""A sandbox for code that a model wrote: run it with its tests, within limits, and say what came.

With `isolation = "namespaces"` (Linux 5.12 or later; root, or unprivileged user namespaces):

- Guaranteed, as far as the kernel is without bugs: it sees no file but the Python installation
  (a system's Python: /usr), shared libraries, all read-only, and its own empty folder in memory;
  it cannot write anywhere else. Installed packages are not importable, though a file of them may
  be readable. It has no network, not even the machine's own ports. It sees no process of the
  machine and cannot signal one. It runs as an unprivileged user without any capability. When its
  main process ends, when the wall clock runs out, or when tracelab dies, everything it has
  started is killed by the kernel.
- Bounded: CPU seconds and address space of each process, number of processes, size of a file and
  of the whole folder. Memory altogether is `memory_mb` times `processes`, plus `disk_mb`.
- Not guaranteed: it shares the kernel, so a kernel exploit gets out; it can slow the machine
  within its limits; it can read the CPU model, the time and the load. It can cheat: response and
  tests run in one interpreter, so a response that sets out to (not one that merely exits early or
  prints "pass") can forge a pass. For responses optimised against these tests use a virtual
  machine and tests behind a process boundary.

With `isolation = "limits"` only the limits of each process hold, the environment is emptied, and
the working folder is a temporary one. The code has the network, reads and writes whatever
tracelab's user may, and what leaves its process group outlives it; as root even the number of
processes is unlimited. Use it only inside a container or machine that may be lost.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tracelab.core.outside import OutsideError, decode

_JAIL = Path(__file__).with_name("jail.py")
_LONGEST_REPLY = 1 << 16  # bytes; an honest reply has a few hundred
_ANSWER = re.compile(r"pass|fail|error:\w{1,60}")

Isolation = Literal["namespaces", "limits"]


class SandboxError(Exception):
    """The sandbox could not be built: this says nothing about the code."""


class BrokenTestsError(SandboxError):
    """The tests are not Python."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What code may use: seconds of wall clock and CPU, MiB of memory and files, processes."""

    wall_s: float = 10.0
    cpu_seconds: int = 5
    memory_mb: int = 512
    processes: int = 8
    disk_mb: int = 16
    isolation: Isolation = "namespaces"


@dataclass(frozen=True, slots=True)
class CodeResult:
    """How a run ended.

    Attributes:
        answer: `pass`; `fail` (an assertion of the tests); `timeout` (wall clock or CPU seconds);
            or `error:X`, X the type of the exception, the signal that ended it, or `Exited` when
            it ended itself before its tests did.
        detail: The exception's message, shortened; hostile text.
    """

    answer: str
    detail: str = ""


def run_tests(code: str, tests: str, limits: Limits) -> CodeResult:
    """Run code, then its tests in the same module. Blocks up to `limits.wall_s`; thread-safe.

    Raises:
        SandboxError: The sandbox could not be built, or the tests are not Python.
    """
    nonce = secrets.token_hex(16)
    with (
        tempfile.TemporaryDirectory(prefix="tracelab-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as request,
    ):
        request.write(json.dumps({"code": code, "tests": tests, "nonce": nonce}).encode())
        request.seek(0)
        settings = {
            "isolation": limits.isolation,
            "folder": folder,
            "cpu_seconds": limits.cpu_seconds,
            "memory_bytes": limits.memory_mb << 20,
            "processes": limits.processes,
            "disk_bytes": limits.disk_mb << 20,
        }
        # The interpreter itself, not the one of a virtual environment: the jail holds no packages.
        python = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
        try:
            process = subprocess.Popen(
                [python, "-I", "-S", "-B", str(_JAIL), json.dumps(settings)],
                stdin=request,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"LANG": "C.UTF-8", "PATH": "/nowhere"},
                cwd=folder,
                start_new_session=True,
            )
        except OSError as e:
            raise SandboxError(f"The sandbox did not start ({e.strerror}).") from None
        try:
            reply, in_time = _read(process, limits.wall_s)
        finally:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)  # not reaped before, so still its own
            code_of_exit = process.wait()
            assert process.stdout is not None
            process.stdout.close()
    return _verdict(reply, nonce, in_time, code_of_exit)


def _read(process: subprocess.Popen[bytes], wall_s: float) -> tuple[bytes, bool]:
    """Read what the jail says until it ends; tell also whether it ended in time."""
    assert process.stdout is not None
    deadline = time.monotonic() + wall_s
    pipe = process.stdout.fileno()
    poll = select.poll()
    poll.register(pipe, select.POLLIN | select.POLLHUP)
    reply = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return reply, False
        part = os.read(pipe, 65536)
        if not part:
            break
        reply += part
        if len(reply) > _LONGEST_REPLY:
            return reply[:_LONGEST_REPLY], True  # it found the pipe, and gains nothing
    # The end of the pipe is the end of the jail, unless the response closed it and went on.
    while (left := deadline - time.monotonic()) > 0:
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None:
            return reply, True
        time.sleep(min(0.01, left))
    return reply, False


def _verdict(reply: bytes, nonce: str, in_time: bool, exit_code: int) -> CodeResult:
    lines = list(_objects(reply))
    for line in lines:
        if isinstance(line.get("setup"), str):
            raise SandboxError(f"The sandbox could not be built ({line['setup'][:300]}).")
        break
    said = [line for line in lines if line.get("nonce") == nonce]
    for line in said:
        if "broken" in line:
            raise BrokenTestsError(f"The tests are not Python ({str(line['broken'])[:300]}).")
        if _ANSWER.fullmatch(str(line.get("answer"))):
            return CodeResult(line["answer"], str(line.get("detail", ""))[:300])
    if not said:
        how = f"ended with exit code {exit_code}" if in_time else "did not start in time"
        raise SandboxError(f"The sandbox {how} before it ran anything.")
    if not in_time or exit_code == 128 + signal.SIGXCPU:
        return CodeResult("timeout")
    with suppress(ValueError):
        return CodeResult(f"error:{signal.Signals(exit_code - 128).name}")
    return CodeResult("error:Exited")


def _objects(reply: bytes) -> Any:
    for line in reply.split(b"\n"):
        with suppress(OutsideError):
            found = decode(line)
            if isinstance(found, dict):
                yield found
