"""kill -9 of the driver, of a Ray worker and of vLLM's engine in the middle of one real run.

Each is followed by the same command (or survived by it). At the end nothing is lost or doubled,
nothing durable was done twice, and nothing of ours is left running.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tracelab.store.connect import open_reader
from tracelab.store.journal import Peek
from tracelab.store.query import check

pytestmark = [pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(3600)]
DEADLINE_S = 900  # a guard against waiting for ever, not a measure of speed
CONFIG = """
name = "chaos"
study = "anchors"
source = "testbed"
model = "testbed"
[source_options]
problems = 3
[engine]
dtype = "float32"
device = "cpu"
max_model_len = 512
kv_cache_gib = 1
[sampling]
max_tokens = 160
[anchors]
allocation = "uniform"
rollouts = 24
similarity = "lexical"
[runtime]
in_flight = 2
batch_rollouts = 32
"""


def until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition of the outside world."""
    end, pause = time.monotonic() + deadline_s, threading.Event()
    while not condition():
        assert time.monotonic() < end, f"{what}: not after {deadline_s:.0f} s"
        pause.wait(0.1)  # looking takes from what is looked at: there are two cores


def durable(home: Path) -> Counter[tuple[str, int]]:
    parts = Peek(str(home / "runs"), "chaos").observations()
    return Counter((o.key, o.replicate) for part in parts for o in part)


class Driver:
    """`tracelab run` as a user starts it."""

    def __init__(self, config: Path, program: Sequence[str] = ("-m", "tracelab")) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *program, "run", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.family: dict[int, psutil.Process] = {}

    def look(self) -> list[psutil.Process]:
        """Everything it has started and that still lives; remembered for `left`."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.Error:
            return []
        self.family.update({p.pid: p for p in found})
        return found

    def named(self, part: str) -> list[psutil.Process]:
        """Those with a name or command line that has `part`."""
        out = []
        for p in self.look():
            try:
                if part in p.name() or part in " ".join(p.cmdline()):
                    out.append(p)
            except psutil.Error:
                continue
        return out

    def left(self) -> list[psutil.Process]:
        """What outlived it."""
        return [p for p in self.family.values() if p.is_running() and p.status() != "zombie"]


@pytest.fixture
def config(tmp_path: Path, home: Path) -> Path:
    path = tmp_path / "chaos.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def start(config: Path) -> Iterator[Callable[[], Driver]]:
    drivers: list[Driver] = []

    def begin() -> Driver:
        drivers.append(Driver(config))
        return drivers[-1]

    yield begin
    for d in drivers:
        d.process.kill()
        d.process.wait()


def grown(driver: Driver, home: Path, by: int) -> Callable[[], bool]:
    """Whether the journal has grown by some observations; fails if the driver is gone."""
    had, seen = sum(durable(home).values()), -1

    def condition() -> bool:
        nonlocal seen
        driver.look()
        if driver.process.poll() is not None:
            raise AssertionError(f"the run ended early: {driver.process.communicate()[1]}")
        before, seen = seen, len([*(home / "runs").glob("*/observations/*")])
        return before != seen and sum(durable(home).values()) >= had + by

    return condition


def test_nothing_is_lost_or_doubled_and_nothing_is_left(start, home: Path) -> None:
    first = start()
    until(grown(first, home, 30), "the first rollouts")
    assert first.named("VLLM::EngineCore"), "a real vLLM engine runs"
    assert first.named("raylet"), "a real Ray runs"
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.communicate()
    until(lambda: not first.left(), "the driver's processes to end")
    kept = durable(home)
    assert set(kept.values()) == {1}

    second = start()
    until(grown(second, home, 30), "rollouts after the driver was killed")
    [worker] = second.named("ray::EngineActor")
    engines = [p for p in worker.children(recursive=True) if "VLLM" in p.name()]
    assert engines
    worker.kill()
    until(lambda: not any(p.is_running() for p in engines), "the dead worker's engine to end")
    until(grown(second, home, 30), "rollouts after the Ray worker was killed")
    [engine] = second.named("VLLM::EngineCore")
    engine.kill()
    until(lambda: second.look() is None or second.process.poll() is not None, "the run to end")
    _, said = second.process.communicate()
    assert second.process.returncode == 0, said
    assert said.count("an engine died") == 2
    assert "Traceback" not in said
    until(lambda: not second.left(), "the run's processes to end")

    done = durable(home)
    assert set(done.values()) == {1}
    assert kept.keys() <= done.keys()
    with open_reader(home / "tracelab.duckdb") as con:
        assert [r for r in check(con) if r.violations] == []
        planned, rollouts = con.execute(
            "SELECT (SELECT sum(replicates) FROM items), (SELECT count(*) FROM rollouts)"
        ).fetchone()
        assert planned == rollouts
        assert con.execute("SELECT count(*) FROM rollouts WHERE error IS NOT NULL").fetchone() == (
            0,
        )
        assert con.execute("SELECT status FROM runs").fetchall() == [("complete",)]


def test_the_first_interrupt_drains_and_the_same_command_continues(start, home: Path) -> None:
    first = start()
    until(grown(first, home, 30), "the first rollouts")
    os.killpg(first.process.pid, signal.SIGINT)  # as Ctrl-C in a terminal: the whole group
    _, said = first.process.communicate(timeout=DEADLINE_S)
    assert first.process.returncode == 130, said
    assert "The same command continues" in said
    assert "Traceback" not in said
    until(lambda: not first.left(), "the run's processes to end")
    kept = durable(home)
    assert set(kept.values()) == {1}
