"""One helper process that answers questions and can be killed: for work that may never end.

The parent (`Helper`) starts it when first asked, kills it when an answer misses its deadline, and
starts another for the next question. The child (`serve`) ends when its input ends, so it does not
outlive a parent that was killed; if it is computing at that moment, its alarm (no handler: the
kernel ends it, even inside C code) does.

Protocol: when ready, the child writes `true`, or a JSON string that says why it cannot work. Then
one JSON value a line in, one JSON value a line out.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

_START_S = 120.0  # importing SymPy, or what a user's module imports, on a busy machine


class HelperError(Exception):
    """There is no answer: the grade is neither right nor wrong."""


class StartError(HelperError):
    """The helper could not be started; the next question may be luckier."""


class RefusedError(StartError):
    """The helper started and said why it cannot work; the next one would say the same."""


class CannotServeError(Exception):
    """Raised by `prepare` in the child; its message is what the parent is told."""


class Helper:
    """Asks a helper process. Thread-safe: one question at a time."""

    def __init__(self, module: str, args: Sequence[str], timeout_s: float, doing: str) -> None:
        """Say which process it will be; starts nothing.

        Args:
            module: Run with `python -m`; its main calls `serve`.
            args: Its arguments, after the deadline, which comes first.
            timeout_s: Deadline of one answer, seconds.
            doing: Subject of error sentences (`Comparing the answers`).
        """
        self.timeout_s = timeout_s
        self._module, self._args, self._doing = module, list(args), doing
        self._lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[[subprocess.Popen[bytes]], Helper] | None = None

    def close(self) -> None:
        """End the process, if there is one. The next question starts another."""
        with self._lock:
            self._kill()

    def start(self) -> None:
        """Start the process now rather than at the first question.

        Raises:
            StartError: It does not start, or (`RefusedError`) says that it cannot work.
        """
        with self._lock:
            self._start()

    def ask(self, request: object) -> Any:
        """Send a JSON value and return the JSON value that comes back.

        Raises:
            HelperError: No answer in time, or the process ended.
        """
        line = json.dumps(request).encode() + b"\n"
        with self._lock:
            process = self._start()
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(line)
                process.stdin.flush()
                return json.loads(_read_line(process.stdout, self.timeout_s))
            except TimeoutError:
                self._kill()
                raise HelperError(f"{self._doing} took longer than {self.timeout_s:g} s.") from None
            except (EOFError, OSError, ValueError):
                self._kill()
                raise HelperError(f"{self._doing} ended the grading process.") from None
            except BaseException:
                self._kill()  # interrupted: its reply must not answer the next question
                raise

    def _start(self) -> subprocess.Popen[bytes]:
        if self.process is not None and self.process.poll() is None:
            return self.process
        self._kill()
        # The helper imports this very package, wherever it was imported from.
        paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", self._module, str(self.timeout_s), *self._args],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)},
                start_new_session=True,  # so that what it starts is killed with it
            )
        except OSError as e:
            raise StartError(f"The grading process did not start ({e.strerror}).") from None
        self.process = process
        self._end = weakref.finalize(self, _end, process)
        assert process.stdout is not None
        try:
            greeting = json.loads(_read_line(process.stdout, _START_S))
        except (EOFError, OSError, TimeoutError, ValueError):
            self._kill()
            raise StartError("The grading process did not start.") from None
        except BaseException:
            self._kill()
            raise
        if greeting is not True:
            self._kill()
            raise RefusedError(str(greeting))
        return process

    def _kill(self) -> None:
        if self._end is not None:
            self._end()
        self.process = self._end = None


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:  # not reaped yet, so its id is still its own
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _read_line(pipe: IO[bytes], timeout_s: float) -> bytes:
    deadline = time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(pipe, select.POLLIN | select.POLLHUP)
    parts: list[bytes] = []
    while not parts or not parts[-1].endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError
        part = os.read(pipe.fileno(), 65536)
        if not part:
            raise EOFError
        parts.append(part)
    return b"".join(parts)


def serve(timeout_s: float, prepare: Callable[[], Callable[[Any], Any]]) -> None:
    """In the child: answer requests until the input ends.

    Args:
        timeout_s: The parent's deadline; an answer that takes a second more ends the process.
        prepare: Imports what is needed, before any deadline runs, and returns what answers one
            request. Its exceptions are the reason why the helper cannot work; those of the
            answering function become `{"error": "Type: message"}`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # Replies go to a private copy of stdout: a library that prints cannot corrupt them. Requests
    # come from a private copy of stdin: code that reads its input cannot swallow them.
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    requests = os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        answer = prepare()
    except BaseException as e:
        why = str(e) if isinstance(e, CannotServeError) else describe(e)
        replies.write(json.dumps(why).encode() + b"\n")
        return
    replies.write(b"true\n")
    for request in requests:
        signal.setitimer(signal.ITIMER_REAL, timeout_s + 1)
        try:
            reply = json.dumps(answer(json.loads(request)))
        except BaseException as e:  # whatever it raises, SystemExit included, is data
            reply = json.dumps({"error": describe(e)})
        signal.setitimer(signal.ITIMER_REAL, 0)
        replies.write(reply.encode() + b"\n")


def describe(error: BaseException) -> str:
    """Type and message of an exception, on one short line."""
    try:
        message = " ".join(str(error)[:400].split())[:200]
    except Exception:  # a __str__ of its own
        message = ""
    return f"{type(error).__name__[:60]}: {message}" if message else type(error).__name__[:60]
