"""One helper process that answers questions and can be killed: for work that may never end.

The parent (`Helper`) starts it when first asked, kills it when an answer misses its deadline, and
starts another for the next question. The child (`serve`) ends when its input ends, so it does not
outlive a parent that was killed; if it is computing at that moment, its alarm (no handler: the
kernel ends it, even inside C code) does.

Protocol: when ready, the child writes `true`, or a JSON string that says why it cannot work. Then
one JSON value a line in, one JSON value a line out.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tracelab.core.child import Child

_BUSY, _SPARE_S = 10.0, 30.0  # how much longer than its processor time an answer may take
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

    def __init__(
        self,
        module: str,
        args: Sequence[str],
        timeout_s: float,
        doing: str,
        *,
        cpu: bool = False,
    ) -> None:
        """Say which process it will be; starts nothing.

        Args:
            module: Run with `python -m`; its main calls `serve`.
            args: Its arguments, after the deadline, which comes first.
            timeout_s: Deadline of one answer, seconds.
            doing: Subject of error sentences (`Comparing the answers`).
            cpu: The deadline is processor time, which a busy machine does not use up; `serve` is
                told the same. On the clock an answer may take ten times as long.
        """
        self.timeout_s, self._doing = timeout_s, doing
        self._wait_s = _BUSY * timeout_s + _SPARE_S if cpu else timeout_s
        # The helper imports this very package, wherever it was imported from.
        paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        self._child = Child(
            [sys.executable, "-P", "-m", module, str(timeout_s), *args],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)},
        )
        self._lock = threading.Lock()

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The process, if there is one."""
        return self._child.process

    def close(self) -> None:
        """End the process, if there is one. The next question starts another."""
        with self._lock:
            self._child.close()

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
        with self._lock:
            self._start()
            process = self._child.process
            late = f"{self._doing} took longer than {self.timeout_s:g} s."
            try:
                return self._child.ask(request, self._wait_s)
            except TimeoutError:
                raise HelperError(late) from None
            except (EOFError, OSError, ValueError):
                if process is not None and process.returncode == -signal.SIGPROF:
                    raise HelperError(late) from None
                raise HelperError(f"{self._doing} ended the grading process.") from None

    def _start(self) -> None:
        if self._child.alive:
            return
        try:
            self._child.start()
        except OSError as e:
            raise StartError(f"The grading process did not start ({e.strerror}).") from None
        try:
            greeting = self._child.read(_START_S)
        except (EOFError, OSError, TimeoutError, ValueError):
            raise StartError("The grading process did not start.") from None
        if greeting is not True:
            self._child.close()
            raise RefusedError(str(greeting))


def serve(
    timeout_s: float, prepare: Callable[[], Callable[[Any], Any]], *, cpu: bool = False
) -> None:
    """In the child: answer requests until the input ends.

    Args:
        timeout_s: The parent's deadline; an answer that takes a second more ends the process.
        cpu: It is processor time, and the process ends as soon as an answer has used it.
        prepare: Imports what is needed, before any deadline runs, and returns what answers one
            request. Its exceptions are the reason why the helper cannot work; those of the
            answering function become `{"error": "Type: message"}`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    wait_s = _BUSY * timeout_s + _SPARE_S if cpu else timeout_s
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
        signal.setitimer(signal.ITIMER_REAL, wait_s + 1)
        if cpu:
            signal.setitimer(signal.ITIMER_PROF, timeout_s)
        try:
            reply = json.dumps(answer(json.loads(request)))
        except BaseException as e:  # whatever it raises, SystemExit included, is data
            reply = json.dumps({"error": describe(e)})
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        replies.write(reply.encode() + b"\n")


def describe(error: BaseException) -> str:
    """Type and message of an exception, on one short line."""
    try:
        message = " ".join(str(error)[:400].split())[:200]
    except Exception:  # a __str__ of its own
        message = ""
    return f"{type(error).__name__[:60]}: {message}" if message else type(error).__name__[:60]
