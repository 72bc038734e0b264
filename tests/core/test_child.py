"""A child process answers in time or is killed, with all that it started."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

import pytest

from tracelab.core.child import Child

ECHO = "import sys\nfor line in sys.stdin:\n    print(line, end='', flush=True)"


def child(code: str, **more: int) -> Child:
    return Child([sys.executable, "-c", code], **more)


def test_it_answers_and_is_one_process() -> None:
    c = child(ECHO)
    assert c.ask({"a": [1, "ä"]}, 60) == {"a": [1, "ä"]}
    first = c.process
    assert c.ask(2, 60) == 2
    assert c.process is first
    c.close()
    assert first is not None and first.returncode is not None and c.process is None
    assert c.ask(3, 60) == 3  # the next question starts another
    c.close()


@pytest.mark.parametrize(
    ("code", "timeout_s", "error"),
    [
        ("input(); import time; time.sleep(600)", 0.2, TimeoutError),
        ("input()", 60, EOFError),
        ("input(); print('no json', flush=True); input()", 60, ValueError),
        ("input(); print('[' * 100_000, flush=True); input()", 60, ValueError),
        ("input()\nwhile True: print('x' * 9999, end='')", 60, ValueError),
    ],
)
def test_what_goes_wrong_ends_it(code: str, timeout_s: float, error: type[Exception]) -> None:
    c = child(code, most_bytes=1 << 20)
    c.start()
    process = c.process
    with pytest.raises(error):
        c.ask("hello", timeout_s)
    assert process is not None and process.returncode is not None and not c.alive


def test_one_that_does_not_read_is_late_too() -> None:
    c = child("import time; time.sleep(600)")
    with pytest.raises(TimeoutError):  # more than a pipe holds: writing it would never end
        c.ask("x" * (4 << 20), 0.2)


def test_what_it_started_is_killed_with_it(tmp_path: Path) -> None:
    """The other process holds the writing end of a pipe; its end is the end of what we read."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    other = f"f = open({str(fifo)!r}, 'w'); import time; time.sleep(600)"
    code = (
        "import subprocess, sys\n"
        "input()\n"
        f"subprocess.Popen([sys.executable, '-c', {other!r}])\n"
        "print(1, flush=True)\n"
        "input()"
    )
    c = child(code)
    c.ask(0, 60)
    with fifo.open("rb") as reader:  # waits until it is open for writing
        c.close()
        poll = select.poll()
        poll.register(reader, select.POLLHUP)
        assert poll.poll(60_000), "it is still there"


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(OSError):
        Child(["/nowhere/at/all"]).ask(0, 60)
