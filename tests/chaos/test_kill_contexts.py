"""kill -9 of the driver of many small contexts under Ray: the same command finishes the run."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.cite.speed import TEMPLATE, case
from tests.chaos.test_kill import DEADLINE_S, Driver, durable, grown, until
from tracelab.store.connect import open_reader
from tracelab.store.query import check
from tracelab.testbed import problems

pytestmark = [pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(3600)]
CONTEXTS = 24
CONFIG = """
name = "chaos"
study = "cite"
source = "{source}"
model = "testbed"
[engine]
kind = "transformers"
dtype = "float32"
device = "cpu"
[cite]
template = {template}
ablations = 16
held_out = 0
top_k = []
[runtime]
in_flight = 2
batch_rollouts = 32
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    source = tmp_path / "contexts.jsonl"
    with source.open("w") as out:
        for k, problem in enumerate(problems(CONTEXTS, 74, missing=False, hinted=False)):
            c = case(problem, None)
            record = {
                "id": f"c{k}", "context": c.context, "query": c.query, "response": c.response,
                "target": "response",
            }  # fmt: skip
            out.write(json.dumps(record) + "\n")
    path = tmp_path / "chaos.toml"
    path.write_text(CONFIG.format(source=source, template=json.dumps(TEMPLATE)))
    return path


@pytest.fixture
def drivers(config: Path) -> Iterator[list[Driver]]:
    started: list[Driver] = []
    yield started
    for d in started:
        d.process.kill()
        d.process.wait()


def test_a_batch_of_contexts_survives_kill_9(
    drivers: list[Driver], config: Path, home: Path
) -> None:
    drivers.append(first := Driver(config))
    until(grown(first, home, random.Random(0).randint(50, 150)), "the first ablations")
    assert first.named("raylet"), "a real Ray runs"
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.communicate()
    until(lambda: not first.left(), "the driver's processes to end")
    kept = durable(home)
    assert set(kept.values()) == {1}

    drivers.append(second := Driver(config))
    _, said = second.process.communicate(timeout=DEADLINE_S)
    assert second.process.returncode == 0, said
    done = durable(home)
    assert set(done.values()) == {1}, "nothing that was durable was asked again"
    assert kept.keys() <= done.keys()
    with open_reader(home / "tracelab.duckdb") as con:
        assert [r for r in check(con) if r.violations] == []
        assert con.execute("SELECT count(*) FROM targets").fetchone() == (CONTEXTS,)
        assert con.execute("SELECT count(*) FROM probes WHERE error IS NOT NULL").fetchone() == (0,)
        assert con.execute("SELECT status FROM runs").fetchall() == [("complete",)]
        (least,) = con.execute("SELECT min(ablations) FROM targets").fetchone() or (0,)
        assert least == 16
