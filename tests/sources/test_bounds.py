"""What a file may cost: memory and CPU of `ingest`, measured by the kernel, for every bomb we know.

The promise: at most 20 times the file's size and 500 MB, and 1 s of CPU a MB and a few in all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sources.bombs import BOMBS, BOUND, write

ROOT = Path(__file__).parents[2]
MEMORY_MB, TIMES = 500, 20
CPU_S = 6.0
"""For what does not depend on the file: the database, as slow as a busy machine makes it."""


@dataclass(frozen=True)
class Cost:
    """How a file's import ended, what it said, and what it took; MB and seconds."""

    status: int
    said: str
    size: float
    memory: float
    seconds: float


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cost]:
    paths = write(tmp_path_factory.mktemp("bombs"))
    out = subprocess.run(
        [sys.executable, "-m", "tests.sources.bombs", *map(str, paths)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = {}
    for text in out.stdout.splitlines():
        path, status, said, kib, seconds = json.loads(text)
        size = Path(path).stat().st_size / 1e6
        found[Path(path).name] = Cost(status, said, size, kib * 1024 / 1e6, seconds)
    return found


@pytest.mark.long
@pytest.mark.parametrize("name", BOMBS)
def test_no_file_costs_more_than_its_size_allows(costs: dict[str, Cost], name: str) -> None:
    cost = costs[name]
    assert cost.status == 0 and "Traceback" not in cost.said, cost
    assert cost.memory <= TIMES * cost.size + MEMORY_MB, cost
    assert cost.seconds <= cost.size + CPU_S, cost
    assert BOUND.get(name, "") in cost.said
