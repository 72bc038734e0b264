"""A snapshot is opened by the oldest DuckDB that is promised: a real one, in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tests.view import world
from tracelab.store.connect import PORTABLE_SINCE, open_reader, open_writer
from tracelab.store.export import snapshot
from tracelab.store.query import check, schema

OLDEST = PORTABLE_SINCE.removeprefix("v").rpartition(".")[0]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))

_READ = """
import json, sys
import duckdb
con = duckdb.connect(sys.argv[1], read_only=True)
names = [n for (n,) in con.execute(
    "SELECT table_name FROM information_schema.tables ORDER BY table_name").fetchall()]
rows = {n: len(con.execute(f'FROM "{n}"').fetchall()) for n in names}
said = con.execute("SELECT text FROM turns ORDER BY ALL LIMIT 1").fetchall()[0][0]
print(json.dumps({"version": duckdb.__version__, "rows": rows, "said": said}))
"""


@pytest.fixture(scope="module")
def old_client() -> Path:
    """A folder with that DuckDB, kept between runs of the tests."""
    folder = CACHE / "tracelab-tests" / f"duckdb-{OLDEST}"
    if not (folder / "duckdb").is_dir():
        install = [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-deps",
            "--only-binary", ":all:", "--target", str(folder), f"duckdb=={OLDEST}.*",
        ]  # fmt: skip
        try:
            done = subprocess.run(install, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            pytest.skip(f"duckdb {OLDEST} could not be fetched within 300 s")
        if done.returncode != 0:
            why = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            pytest.skip(f"duckdb {OLDEST} cannot be installed here: {why}")
    return folder


@pytest.mark.slow
def test_the_oldest_client_reads_every_table_and_view(old_client: Path, tmp_path: Path) -> None:
    source = world.small(tmp_path / "tracelab.duckdb")
    copy = tmp_path / "it's a copy.duckdb"
    with open_reader(source) as con:
        copied = snapshot(con, copy)
        there = {t.name: len(con.execute(f'FROM "{t.name}"').fetchall()) for t in schema(con)}
        [(said,)] = con.execute("SELECT text FROM turns ORDER BY ALL LIMIT 1").fetchall()
    assert copied["scores"] == there["scores"] > 0
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(copy)],
        env={**os.environ, "PYTHONPATH": str(old_client)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["version"].startswith(f"{OLDEST}.")
    assert found["rows"] == there
    assert found["said"] == said


def test_a_snapshot_is_still_a_warehouse(tmp_path: Path) -> None:
    source = world.small(tmp_path / "tracelab.duckdb")
    copy = tmp_path / "copy.duckdb"
    with open_reader(source) as con:
        snapshot(con, copy)
    with duckdb.connect() as con:
        con.execute(f"ATTACH '{copy}' AS copy (READ_ONLY)")
        [(tags,)] = con.execute(
            "SELECT tags FROM duckdb_databases() WHERE database_name = 'copy'"
        ).fetchall()
        assert tags["storage_version"].startswith(PORTABLE_SINCE)
    with open_writer(copy) as con:  # written to again, it stays what it was
        world.insert(con, "runs", [{"run_id": "another"}])
    with open_reader(copy) as con:
        assert con.execute("SELECT count(*) FROM runs").fetchall() == [(2,)]
        assert [r.name for r in check(con) if r.violations] != ["keys_unique"]
