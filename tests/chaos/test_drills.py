"""Fault drills on the scripted engine: after each, nothing is lost or doubled and checks are clean.

Engines that answer nonsense: `tests/engines/test_replies.py`. Damage to single files of a journal:
`tests/run/test_damage.py`. A database that others hold: `tests/cli/test_cli.py`. Real engines that
are killed: `test_kill.py`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import everything, invoke, rows, write_config, write_jsonl
from tracelab.core.item import Observation
from tracelab.engines.scripted import Script
from tracelab.run import session
from tracelab.run.config import load_config
from tracelab.run.execute import execute
from tracelab.run.pool import LocalPool, RayPool
from tracelab.run.progress import RunProgress
from tracelab.run.session import Session
from tracelab.run.wiring import wire
from tracelab.store.home import Home
from tracelab.store.journal import Journal, Peek

MIB = 1 << 20
ROOMS = (0, 5_000, 40_000, 150_000, 600_000, 2 * MIB, 5 * MIB)
"""Bytes that are free on the disk when a run begins. A whole run takes some 9 MiB of it."""


@pytest.fixture
def config(tmp_path: Path, script: Script, home: Path) -> Path:
    source = write_jsonl(tmp_path / "t.jsonl", script, 1)
    more = {"runtime": "batch_rollouts = 8", "anchors": "rollouts = 3"}
    return write_config(tmp_path / "c.toml", source, **more)


def durable(home: Path) -> Counter[tuple[str, int]]:
    parts = Peek(str(home / "runs"), "study").observations()
    return Counter((o.key, o.replicate) for part in parts for o in part)


def run(config: Path, *options: object, code: int = 0) -> str:
    result = invoke("run", config, *options)
    assert result.exit_code == code, result.stderr
    return " ".join(result.stderr.split())


def sound() -> None:
    """The database and the journals are as they must be."""
    assert invoke("check").exit_code == 0
    assert invoke("check", "--journal").exit_code == 0
    assert rows("select status from runs") == [{"status": "complete"}]


def results() -> dict[str, list[str]]:
    """All that does not say when or how often the run was worked on."""
    return {t: v for t, v in everything().items() if t not in ("runs", "sessions")}


class Zygote:
    """See `tests.chaos.zygote`."""

    def __init__(self, *prefix: str) -> None:
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.chaos.zygote"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, **what: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def command(self, *argv: object, kill_at: int | None = None, code: int | None = 0) -> Any:
        found = self.ask(argv=[str(a) for a in argv], kill_at=kill_at)
        assert "Traceback" not in found["said"], found["said"]
        assert code is None or found["code"] == code, found["said"]
        return found

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def zygote(home: Path) -> Iterator[Zygote]:
    started = Zygote()
    yield started
    started.close()


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.long)])
def test_a_driver_that_is_killed_at_any_moment_loses_nothing(
    config: Path, home: Path, zygote: Zygote, empty_warehouse: Path, kills: int
) -> None:
    calls = zygote.command("run", config, "--quiet", kill_at=-1)["calls"]
    whole, observed = results(), durable(home)
    assert calls > 1000 and observed
    draw, early = random.Random(13), 0
    for k in range(kills):
        shutil.rmtree(home)
        if k % 4:  # the other times the database itself is made while it is killed
            home.mkdir()
            shutil.copyfile(empty_warehouse, home / "tracelab.duckdb")
        # Some moments of the first attempt, and then one of the second: a crash of a repair.
        moments = [draw.randrange(1, calls), draw.randrange(1, calls)][: 1 + k % 2]
        for moment in moments:
            killed = zygote.command("run", config, "--quiet", kill_at=moment, code=None)
            assert killed["code"] in (-signal.SIGKILL, 0), killed["said"]
            early += killed["code"] != 0
            kept = durable(home)
            assert set(kept.values()) <= {1}, "doubled"
        zygote.command("run", config, "--quiet")
        assert durable(home) == observed, "lost or doubled"
        assert kept.keys() <= observed.keys()
        assert results() == whole
        sound()
        assert not list(home.rglob("*.tmp")), "litter"
    assert early >= kills


@pytest.mark.engine
def test_a_worker_that_is_killed_again_and_again_loses_nothing(config: Path, home: Path) -> None:
    import ray

    run(config)
    whole, observed = results(), durable(home)
    shutil.rmtree(home)
    draw, killed, dead = random.Random(5), 0, None

    class Killed(RayPool):
        """Loses its worker every few batches; no batch twice: that would be the batch's fault."""

        def ready(self, timeout: float) -> list[Observation]:
            nonlocal killed, dead
            worker = self._replicas[0].handle
            flying = [b for r in self._replicas for b in r.flying.values()]
            fresh = flying and worker is not dead and not any(b.deaths for b in flying)
            if killed < 4 and fresh and draw.random() < 0.7:
                killed, dead = killed + 1, worker  # which is noticed at a later call
                os.kill(ray.get(worker.start.remote()), signal.SIGKILL)
            return super().ready(timeout)

    loaded = load_config(config)
    wired = wire(loaded)
    pooled = replace(
        wired, make_pool=lambda: Killed(wired.spec, batch_rollouts=2, in_flight=2, max_deaths=9)
    )
    with RunProgress(quiet=True) as progress, Session(loaded, Home.at(), pooled, progress) as s:
        execute(s, 30.0)
    assert killed >= 2
    assert durable(home) == observed
    assert results() == whole
    sound()


@pytest.mark.long
def test_a_full_disk_stops_a_run_and_room_finishes_it(config: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"]).returncode:
        pytest.skip("no user namespaces here, so no disk of a given size can be mounted")
    zygote = Zygote("unshare", "-rm")
    try:
        if zygote.ask(mount=str(disk), bytes=64 * MIB)["code"]:
            pytest.skip("no tmpfs can be mounted here")
        counts = "select count(*) n, count(distinct (item_key, replicate)) d from rollouts"
        wanted, stopped = None, 0
        for k, room in enumerate((None, *ROOMS)):
            home = disk / f"home{k}"
            zygote.ask(fill=str(disk), bytes=room)
            first = zygote.command("run", config, "--quiet", "--home", home, code=None)
            if room is not None and first["code"]:
                stopped += 1
                assert first["code"] == 1
                said = " ".join(first["said"].split())
                assert "disk is full" in said or "there is no room" in said, said
                assert "the same command again" in said, "it says what to do"
            zygote.ask(fill=str(disk), bytes=None)
            zygote.command("run", config, "--quiet", "--home", home)
            zygote.command("check", "--home", home)
            zygote.command("check", "--journal", "--home", home)
            found = zygote.command("query", counts, "--csv", "--home", home)["said"]
            wanted = wanted or found
            assert found == wanted
        assert stopped >= 4
    finally:
        zygote.close()


def test_two_drivers_do_not_meet(config: Path, home: Path) -> None:
    with Journal(str(home / "runs"), "study"):
        said = run(config, code=1)
        assert "being worked on by another tracelab process" in said and "wait for it" in said
    run(config)
    with Journal(str(home / "runs"), "study"):
        refused = invoke("rebuild", "study")
        assert refused.exit_code == 1
        assert "being worked on by another tracelab process" in " ".join(refused.stderr.split())
        assert invoke("check", "--journal").exit_code == 0, "reading needs no lock"
    sound()


def test_a_clock_that_goes_backwards_changes_nothing_but_times(
    config: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config)
    whole = results()
    shutil.rmtree(home)
    now = datetime.now(UTC)

    class Backwards(datetime):
        """An hour earlier each time somebody looks."""

        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            nonlocal now
            now -= timedelta(hours=1)
            return now

    ready, batches = LocalPool.ready, 0

    def failing(self: LocalPool, timeout: float) -> list[Observation]:
        nonlocal batches
        batches += 1
        if batches == 4:
            raise OSError(28, "No space left on device")
        return ready(self, timeout)

    monkeypatch.setattr(session, "datetime", Backwards)
    with monkeypatch.context() as patch:
        patch.setattr(LocalPool, "ready", failing)
        assert "disk is full" in run(config, code=1)
    run(config)
    assert results() == whole
    [times] = rows("select started_at, finished_at from runs")
    assert times["started_at"] <= times["finished_at"]
    sound()


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_a_damaged_database_is_said_and_made_again(config: Path, home: Path, damage: str) -> None:
    run(config)
    whole = everything()
    database = home / "tracelab.duckdb"
    data = bytearray(database.read_bytes())
    if damage == "flip":
        data[100] ^= 0xFF
    database.write_bytes(
        {"flip": bytes(data), "cut": bytes(data[: len(data) // 2]), "empty": b"\0" * 5000,
         "other": b"SQLite format 3\0" * 99}[damage]
    )  # fmt: skip
    for args in (["run", config], ["query", "runs"], ["rebuild"]):
        refused = invoke(*args)
        assert refused.exit_code != 0
        said = " ".join(refused.stderr.split())
        assert "tracelab rebuild" in said and "move it away" in said, said
    database.unlink()
    assert invoke("rebuild").exit_code == 0
    assert everything() == whole
    sound()
