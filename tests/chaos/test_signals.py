"""Ctrl-C, SIGTERM and kill -9 of a run whose engine is slow: in this process, and in Ray workers.

The engine is the scripted one, so that how long a request takes is known.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.test_kill import DEADLINE_S, Driver, durable, grown, until
from tests.helpers import invoke, rows, write_jsonl
from tracelab.engines.scripted import Script

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
CONFIG = """
name = "chaos"
study = "anchors"
source = "{source}"
model = "scripted"
[engine]
kind = "{kind}"
options = {{ seconds = {seconds}, sleepy = {sleepy} }}
[anchors]
allocation = "uniform"
certificates = false
rollouts = 12
similarity = "lexical"
[runtime]
in_flight = 2
batch_rollouts = 100000
"""
WORKER = """
from tracelab.cli import main
from tracelab.engines.registry import ENGINES
from tracelab.engines.scripted import Scripted

@ENGINES.register("workers")
class Workers(Scripted):
    "The scripted engine, in workers of its own."
    here = True

main()
"""
HERE, WORKERS = ("-m", "tracelab"), ("-c", WORKER)
NOBODY = -1
"""A token of no prompt."""

Start = Callable[..., Driver]


@pytest.fixture(
    params=["here", pytest.param("workers", marks=[pytest.mark.engine, pytest.mark.long])]
)
def start(request: pytest.FixtureRequest, tmp_path: Path, home: Path) -> Iterator[Start]:
    """A slow run of six traces; every batch holds all there is."""
    source = write_jsonl(tmp_path / "traces.jsonl", Script.planted(), 6)
    config, kind = tmp_path / "chaos.toml", "scripted" if request.param == "here" else "workers"
    drivers: list[Driver] = []

    def begin(seconds: float = 2.0, sleepy: int = NOBODY) -> Driver:
        config.write_text(CONFIG.format(source=source, kind=kind, seconds=seconds, sleepy=sleepy))
        drivers.append(Driver(config, HERE if request.param == "here" else WORKERS))
        return drivers[-1]

    yield begin
    for d in drivers:
        d.process.kill()
        d.process.wait()


def native(said: str) -> bool:
    """Whether a library printed the stack of a process that it ended."""
    return any(word in said for word in ("Traceback", "***", "SIGTERM", "core dumped", "Fatal"))


@pytest.mark.parametrize(
    ("number", "group"), [(signal.SIGINT, True), (signal.SIGTERM, False)], ids=["int", "term"]
)
def test_the_first_ends_after_what_is_in_flight_and_loses_nothing(
    start: Start, home: Path, number: signal.Signals, group: bool
) -> None:
    first = start()
    until(grown(first, home, 12), "the first answers")
    (os.killpg if group else os.kill)(first.process.pid, number)
    _, said = first.process.communicate(timeout=DEADLINE_S)
    assert first.process.returncode == 130, said
    assert "stopping: waiting for what is being computed" in said
    assert "The same command continues" in said
    assert not native(said), said
    kept = durable(home)
    assert set(kept.values()) == {1}
    [n] = rows("select count(*) as n from rollouts")
    assert n["n"] == sum(kept.values()), "the database has what the journal has"
    assert rows("select status from runs") == [{"status": "interrupted"}]
    until(lambda: not first.left(), "the run's processes to end")

    second = start(seconds=0.0)
    _, said = second.process.communicate(timeout=DEADLINE_S)
    assert second.process.returncode == 0, said
    done = durable(home)
    assert set(done.values()) == {1} and kept.keys() < done.keys()
    assert invoke("check").exit_code == 0


def test_the_second_ends_at_once(start: Start, home: Path) -> None:
    """One request is never answered."""
    first = start(seconds=0.01, sleepy=ord("5"))  # of the fifth question, `q4`, nothing; of `q5`
    until(grown(first, home, 24), "the first answers")
    first.process.send_signal(signal.SIGTERM)
    line = ""
    assert first.process.stderr is not None
    while "stopping: waiting" not in line:
        line = first.process.stderr.readline()
        assert line, "the run ended at the first signal"
    first.process.send_signal(signal.SIGTERM)
    _, said = first.process.communicate(timeout=DEADLINE_S)
    assert first.process.returncode == 130, said
    assert "what was finished is kept" in said
    assert not native(said), said
    assert set(durable(home).values()) == {1}
    until(lambda: not first.left(), "the run's processes to end")


def test_a_kill_costs_seconds_and_not_a_batch(start: Start, home: Path) -> None:
    """What was answered is durable although the batch never ends."""
    first = start(seconds=0.01, sleepy=ord("5"))
    until(grown(first, home, 24), "the first answers")
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.communicate()
    assert set(durable(home).values()) == {1}
    until(lambda: not first.left(), "the run's processes to end")
