"""A study of another package, found by its entry point, does all that the built-in ones do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import write_jsonl
from tracelab.engines.scripted import Script

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "third_party_study"


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """An environment in which the example is an installed package."""
    site = tmp_path / "site"
    info = site / "tracelab_solve_rate-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: tracelab-solve-rate\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[tracelab.studies]\nsolve_rate = solve_rate\n")
    path = os.pathsep.join([str(site), str(EXAMPLE), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "TRACELAB_HOME": str(tmp_path / "home")}


def tracelab(env: dict[str, str], *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tracelab", *args], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_it_is_short() -> None:
    assert len((EXAMPLE / "solve_rate.py").read_text().splitlines()) <= 60


@pytest.mark.long
def test_a_study_of_another_package(installed: dict[str, str], tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "traces.jsonl", Script.planted(), 2)
    assert "solve_rate" in tracelab(installed, "--help")
    assert "--samples" in tracelab(installed, "solve_rate", "--help")
    run = ["solve_rate", str(file), "--engine", "scripted", "--model", "scripted", "--name", "mine"]
    cost = json.loads(tracelab(installed, *run, "--samples", "12", "--dry-run", "--json"))
    assert sum(s["rollouts"] for s in cost["stages"]) in (12, 24)  # prompts may be the same
    tracelab(installed, *run, "--samples", "12", "--quiet")
    sql = "SELECT value, lo, hi, n, status FROM scores WHERE metric = 'solve_rate'"
    rows = json.loads(tracelab(installed, "query", sql, "--json"))
    assert len(rows) == 2
    for row in rows:
        assert row["status"] == "ok" and row["n"] == 12
        assert 0 <= row["lo"] <= row["value"] <= row["hi"] <= 1
    tracelab(installed, "check")
    Path(installed["TRACELAB_HOME"], "tracelab.duckdb").unlink()
    tracelab(installed, "rebuild", "mine")
    assert json.loads(tracelab(installed, "query", sql, "--json")) == rows
