"""Hostile programs against the sandbox: each does one harm, and the harm does not happen."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tracelab.grading.sandbox import BrokenTestsError, CodeResult, Limits, SandboxError, run_tests

LIMITS = Limits(wall_s=60, cpu_seconds=10, memory_mb=256, processes=4, disk_mb=4)
RIGHT = "def f(x): return x * x"
TESTS = "assert f(2) == 4"


def _unavailable() -> str:
    try:
        run_tests("pass", "pass", LIMITS)
    except SandboxError as e:
        return str(e)
    return ""


pytestmark = pytest.mark.skipif(bool(_unavailable()), reason=_unavailable())


def answer(code: str, tests: str = TESTS, limits: Limits = LIMITS) -> str:
    return run_tests(code, tests, limits).answer


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (RIGHT, "pass"),
        ("def f(x): return x + 3", "fail"),
        ("def f(x) return x", "error:SyntaxError"),
        ("def g(x): return x", "error:NameError"),
        ("def f(x): assert False", "fail"),
        ("assert False", "error:AssertionError"),
        ("class Oops(Exception): pass\nraise Oops('why')", "error:Oops"),
        ("def f(x): return f(x)", "error:RecursionError"),
        ("if __name__ == '__main__': raise OSError\n" + RIGHT, "pass"),
        ("from dataclasses import dataclass\n@dataclass\nclass A:\n  x: int\n" + RIGHT, "pass"),
        ("input()", "error:EOFError"),
        ("import numpy", "error:ModuleNotFoundError"),
        ("\0", "error:SyntaxError"),
        ("x = '\ud800'\n" + RIGHT, "error:UnicodeEncodeError"),
    ],
)
def test_categories(code: str, expected: str) -> None:
    assert answer(code) == expected


def test_the_message_is_kept_on_one_short_line() -> None:
    verdict = run_tests("raise ValueError('a\\n' * 10**6)", TESTS, LIMITS)
    assert verdict.detail.startswith("ValueError: a a a") and len(verdict.detail) < 300


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import sys; sys.exit(0)", "error:SystemExit"),
        ("import os; print('pass'); os._exit(0)", "error:Exited"),
        ("import os\nfor fd in range(64):\n  try: os.write(fd, b'{\"answer\": \"pass\"}\\n')\n"
         "  except OSError: pass\nos._exit(0)", "error:Exited"),
        ("import os\nif os.fork(): os._exit(0)\n" + RIGHT, "error:Exited"),
        ("type(type)('x y', (Exception,), {})\nraise type('pass\\x1b[2J', (Exception,), {})",
         "error:Other"),
        ("class E(Exception):\n  def __str__(self): raise KeyError\nraise E", "error:E"),
    ],
)  # fmt: skip
def test_a_pass_is_not_had_by_leaving_early_or_saying_so(code: str, expected: str) -> None:
    assert answer(code) == expected


def test_infinite_loop_ends_with_its_cpu_seconds() -> None:
    assert answer("while True: pass", limits=replace(LIMITS, cpu_seconds=1)) == "timeout"


def test_sleeping_ends_with_the_wall_clock() -> None:
    assert answer("import time; time.sleep(1e6)", limits=replace(LIMITS, wall_s=5)) == "timeout"


def test_fork_bomb_is_bounded() -> None:
    """Every process it can make is alive together when the kernel refuses one more."""
    code = """
import os, time
n = 1
try:
    while True:
        if os.fork() == 0: time.sleep(1000)
        n += 1
except BlockingIOError:
    pass
"""
    assert answer(code, f"assert n <= {LIMITS.processes}, n") == "pass"


def test_fork_bomb_that_goes_on_is_killed_whole() -> None:
    mark = f"tracelab-bomb-{os.getpid()}"
    bomb = f"""
import os, sys
while True:
    try:
        if os.fork() == 0:
            os.setsid()
            sleep = "import time; time.sleep(1e6)"
            os.execv(sys.executable, [sys.executable, "-c", sleep, {mark!r}])
    except OSError:
        pass
"""
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(answer, bomb, TESTS, replace(LIMITS, wall_s=6, cpu_seconds=30))
        most, tick = 0, threading.Event()
        while not ended.done():
            most = max(most, _running(mark))
            tick.wait(0.05)
        assert ended.result() == "timeout"
    assert 0 < most <= LIMITS.processes
    for _ in range(1000):  # the kernel kills them all, but not before `run_tests` returns
        if not _running(mark):
            break
        tick.wait(0.05)
    assert _running(mark) == 0


def _running(mark: str) -> int:
    """Processes of the machine with `mark` in their command line."""
    found = 0
    for entry in Path("/proc").iterdir():
        try:
            found += entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes()
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    "code", ["x = bytearray(10**10)", "x = []\nwhile 1: x.append(bytes(10**7))"]
)
def test_memory_hog(code: str) -> None:
    assert answer(code) == "error:MemoryError"


@pytest.mark.parametrize(
    "code",
    [
        "open('a', 'wb').write(bytes(10**8))",
        "for i in range(100): open(str(i), 'wb').write(bytes(10**6))",
        "for i in range(10**6): open(str(i), 'wb').close()",
    ],
)
def test_files_are_bounded(code: str) -> None:
    assert answer(code) == "error:OSError"


def test_it_writes_nothing_outside_and_reads_nothing_of_ours(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    os.chmod(tmp_path, 0o777)
    os.chmod(secret, 0o666)
    for path in (secret, Path("/etc/passwd"), Path(__file__), Path("/proc/self/environ")):
        assert answer(f"open({str(path)!r}).read()") == "error:FileNotFoundError"
    assert answer(f"open({str(tmp_path / 'new')!r}, 'w')") == "error:FileNotFoundError"
    assert answer("open('/new', 'w')") == "error:OSError"  # read-only
    assert answer("import os; open(os.__file__, 'a')") in ("error:OSError", "error:PermissionError")
    assert answer("open('here', 'w').write('x')\n" + RIGHT) == "pass"
    assert [p.name for p in tmp_path.iterdir()] == ["secret"]
    assert secret.read_text() == "s"


def test_environment_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACELAB_TEST_KEY", "secret")
    tests = "import os; assert 'secret' not in str(dict(os.environ)), os.environ"
    assert answer("pass", tests) == "pass"


def test_a_gigabyte_of_output_is_dropped() -> None:
    code = "import os\nfor _ in range(1024): os.write(1, bytes(2**20)); os.write(2, bytes(9))\n"
    assert answer(code + RIGHT) == "pass"


def test_flooding_our_pipe_gains_nothing() -> None:
    code = "import os\nfor fd in range(3, 64):\n  try:\n    while 1: os.write(fd, bytes(9999))\n"
    assert answer(code + "  except OSError: pass\n" + RIGHT) == "error:Exited"


def test_it_cannot_kill_us() -> None:
    """`run_tests` returning at all shows that this process lives."""
    kill = "import os, signal\n"
    assert answer(kill + "os.kill(os.getppid(), 9)\n" + RIGHT) == "pass"  # pid 1 takes no signals
    assert answer(kill + f"os.kill({os.getpid()}, 9)") == "error:ProcessLookupError"
    assert answer(kill + "os.kill(0, 9)") == "error:SIGKILL"
    assert answer(kill + "os.killpg(os.getpgid(1), 9)").startswith("error:")


def test_closing_every_descriptor() -> None:
    assert answer("import os; os.close(1)\n" + RIGHT) == "pass"
    assert answer("import os; os.closerange(0, 64)\n" + RIGHT) == "error:Exited"
    loop = "import os; os.closerange(0, 64)\nwhile True: pass"
    assert answer(loop, limits=replace(LIMITS, wall_s=5, cpu_seconds=30)) == "timeout"


def test_no_network_not_even_our_own_ports(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
        assert answer(code) == "error:OSError"
        # The server does answer: what fails above is the sandbox's doing.
        socket.create_connection(("127.0.0.1", port), 5).close()
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0tracelab-test-" + str(os.getpid()))
        abstract.listen()
        code = (
            "import socket; socket.socket(socket.AF_UNIX)"
            f".connect('\\0tracelab-test-{os.getpid()}')"
        )
        assert answer(code) == "error:ConnectionRefusedError"


def test_no_privileges_and_no_way_to_new_ones() -> None:
    code = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    tests = "assert os.getuid() != 0 and libc.unshare(0x10000000) == -1"
    assert answer(code, tests) == "pass"
    assert answer(code, "assert libc.mount(b'x', b'/work', b'tmpfs', 0, None) == -1") == "pass"
    assert answer(code, "assert libc.chroot(b'/work') == -1") == "pass"


def test_many_at_once_do_not_share_their_limits() -> None:
    code = (
        "import os, time\nfor _ in range(3):\n  if os.fork() == 0: time.sleep(0.3); os._exit(0)\n"
    )
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: answer(code + RIGHT), range(12)))
    assert found == ["pass"] * 12


def test_broken_tests_say_nothing_about_the_code() -> None:
    with pytest.raises(BrokenTestsError, match="never closed"):
        run_tests(RIGHT, "assert f(", LIMITS)


def test_a_sandbox_that_cannot_be_built_says_nothing_about_the_code() -> None:
    with pytest.raises(SandboxError, match="before it ran anything"):
        run_tests(RIGHT, TESTS, replace(LIMITS, wall_s=0.001))
    with pytest.raises(SandboxError, match="before it ran anything|could not be built"):
        run_tests(RIGHT, TESTS, replace(LIMITS, memory_mb=1))


ORPHAN = """
import os, signal, sys, threading
from tracelab.grading.sandbox import Limits, run_tests
wait = lambda: run_tests("import time; time.sleep(1e6)", "", Limits(wall_s=1e6))
threading.Thread(target=wait, daemon=True).start()
sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_does_not_outlive_a_killed_tracelab(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN],
        stdin=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    jailed: list[int] = []
    seen = threading.Event()
    while not jailed and parent.poll() is None:
        jailed = _descendants(parent.pid, depth=3)
        seen.wait(0.01)
    fds = [os.pidfd_open(pid) for pid in jailed]
    assert parent.stdin is not None
    parent.stdin.close()
    assert parent.wait(60) == -9
    for fd in fds:  # readable when the process has ended
        assert select.select([fd], [], [], 60)[0], "a jailed process is still there"
        os.close(fd)


def _descendants(pid: int, depth: int) -> list[int]:
    """Processes exactly `depth` generations below."""
    if depth == 0:
        return [pid]
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += _descendants(int(child), depth - 1)
        except OSError:
            continue
    return found


def test_limits_alone_run_too() -> None:
    weak = replace(LIMITS, isolation="limits")
    assert run_tests(RIGHT, TESTS, weak) == CodeResult("pass")
    assert answer("x = bytearray(10**10)", limits=weak) == "error:MemoryError"
    assert answer("while True: pass", limits=replace(weak, cpu_seconds=1)) == "timeout"
    assert answer("open('a', 'wb').write(bytes(10**8))", limits=weak) == "error:OSError"
