"""A worker that dies costs the test that it died in, and the others are run and told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


FILE = """
import os, pytest

@pytest.mark.parametrize("k", range({count}))
def test_one(k):
    if k == {deadly}:
        os._exit(9)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "deadly"),
    [
        (5, 2),
        pytest.param(5, 4, marks=pytest.mark.long),
        pytest.param(1, 0, marks=pytest.mark.long),
    ],
)
def test_a_worker_that_dies_costs_one_test(tmp_path: Path, count: int, deadly: int) -> None:
    for k in range(6):
        text = FILE.format(count=count, deadly=deadly if k == 2 else -1)
        (tmp_path / f"test_{k}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.scheduling", "-p", "no:cacheprovider",
         "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "-q", str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert f"1 failed, {6 * count - 1} passed" in done.stdout, done.stdout
    assert f"test_2.py::test_one[{deadly}]" in done.stdout
