"""Mathematical equality by math-verify, in a process that can be killed.

math-verify hands a model's text to a LaTeX parser and SymPy, which can take forever or all memory
(`9**9**9**9`), and its own timeouts only work in a main thread. So it runs in one helper process,
started when the first hard comparison comes, with its timeouts off, and killed when a comparison
misses its deadline; the next one starts another.

The helper ends when its input ends, so it does not outlive a parent that was killed; if it is
computing at that moment, its alarm (no handler: the kernel ends it, even inside C code) does.

Protocol: one JSON array `[answer, reference]` a line in; `true`, `false` or an error string out.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import IO

_START_S = 120.0  # importing SymPy on a busy machine
_LONGEST = 2000  # characters; longer answers are not formulas
_MEMORY = 2 << 30  # bytes of address space the helper may use


class EqualityError(Exception):
    """The comparison failed or took too long: the answer is neither right nor wrong."""


class StartError(EqualityError):
    """The helper could not be started; the next comparison may be luckier."""


class MathEquality:
    """Compares answers in a helper process. Thread-safe: one comparison at a time."""

    def __init__(self, timeout_s: float) -> None:
        """Set the deadline of one comparison; starts nothing."""
        self.timeout_s = timeout_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[[subprocess.Popen[bytes]], MathEquality] | None = None

    def close(self) -> None:
        """End the helper, if there is one."""
        with self._lock:
            self._kill()

    def equal(self, answer: str, reference: str) -> bool:
        """Tell whether two answers are mathematically equal.

        Raises:
            EqualityError: It could not be decided in time, or the comparison failed.
        """
        if len(answer) > _LONGEST or len(reference) > _LONGEST:
            return False
        request = json.dumps([answer, reference]).encode() + b"\n"
        with self._lock:
            process = self._start()
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(request)
                process.stdin.flush()
                line = _read_line(process.stdout, self.timeout_s)
            except TimeoutError:
                self._kill()
                raise EqualityError(
                    f"Comparing the answers took longer than {self.timeout_s:g} s."
                ) from None
            except (EOFError, OSError):
                self._kill()
                raise EqualityError("Comparing the answers ended the grading process.") from None
            except BaseException:
                self._kill()  # interrupted: its reply must not answer the next question
                raise
        reply = json.loads(line)
        if isinstance(reply, bool):
            return reply
        raise EqualityError(f"math-verify failed: {reply}")

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._kill()
        # The helper imports this very package, wherever it was imported from.
        paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tracelab.math_equality", str(self.timeout_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)},
            )
        except OSError as e:
            raise StartError(f"The grading process did not start ({e.strerror}).") from None
        self._process = process
        self._end = weakref.finalize(self, _end, process)
        assert process.stdout is not None
        try:
            _read_line(process.stdout, _START_S)
        except (EOFError, OSError, TimeoutError):
            self._kill()
            raise StartError("The grading process did not start.") from None
        except BaseException:
            self._kill()
            raise
        return process

    def _kill(self) -> None:
        if self._end is not None:
            self._end()
        self._process = self._end = None


def _end(process: subprocess.Popen[bytes]) -> None:
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
    line = b""
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError
        part = os.read(pipe.fileno(), 65536)
        if not part:
            raise EOFError
        line += part
    return line


def _compare(answer: str, reference: str) -> bool:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    targets = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())
    parsed = [
        parse(
            f"\\boxed{{{text}}}",
            extraction_config=targets,
            parsing_timeout=None,
            raise_on_error=True,
        )
        for text in (reference, answer)
    ]
    if not all(parsed):
        return False  # not mathematics, and not the same text
    return bool(verify(parsed[0], parsed[1], timeout_seconds=None, raise_on_error=True))


def _serve(timeout_s: float) -> None:
    """Answer requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    # Replies go to a private copy of stdout: a library that prints cannot corrupt them.
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    _compare("1", r"\frac{2}{2}")  # imports and the parser's tables, before any deadline runs
    replies.write(b"ready\n")
    for request in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_REAL, timeout_s + 1)
        reply: bool | str
        try:
            reply = _compare(*json.loads(request))
        except Exception as e:  # whatever SymPy raises on hostile input is data
            reply = f"{type(e).__name__}: {str(e)[:200]}"
        signal.setitimer(signal.ITIMER_REAL, 0)
        replies.write(json.dumps(reply).encode() + b"\n")


if __name__ == "__main__":
    _serve(float(sys.argv[1]))
