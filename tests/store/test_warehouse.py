"""The warehouse file: made, migrated, locked, damaged, filled; what must never be lost or doubled.

Everything runs on real DuckDB files. Other processes are real ones, waited for by reading what they
print, never by sleeping.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracelab.core.errors import LockedError, SchemaError, WarehouseError
from tracelab.core.finding import Score
from tracelab.core.item import Observation, Outcome, Rollout
from tracelab.core.rows import ItemRow, RolloutRow
from tracelab.core.trace import TokenizedTrace, Trace, Turn, tokenized_units
from tracelab.store import connect as warehouse
from tracelab.store.connect import open_reader, open_writer, transaction
from tracelab.store.load import (
    EXCERPT_CHARS,
    LoadedTrace,
    RejectRow,
    RunRow,
    SessionRow,
    drop_run,
    load_rejects,
    load_rows,
    load_run,
    load_scores,
    load_session,
    load_traces,
)
from tracelab.store.values import storable

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
RUN = RunRow(
    run_id="r1",
    name="demo",
    study="anchors",
    engine="scripted",
    config={"seed": 0},
    config_digest="d",
    tracelab_version="0",
    seed=0,
    status="running",
    started_at=NOON,
)
GOOD = RolloutRow(
    trace_id="t",
    item_key="k",
    replicate=0,
    start_boundary=0,
    start_token=0,
    diverge_token=1,
    text="So 7.",
    answer="7",
    reward=1.0,
    grade_status="graded",
    grade_detail=None,
    finish_reason="stop",
    error=None,
    n_tokens=2,
)
UNGRADED = dataclasses.replace(
    GOOD, answer=None, reward=None, grade_status="ungraded", grade_detail="the grader gave up"
)
FAILED = dataclasses.replace(
    UNGRADED, text="", grade_detail=None, finish_reason="error", error="dead: gone", n_tokens=0
)


def loaded_trace(response: str, name: str = "one") -> LoadedTrace:
    """A trace whose tokens are single characters and whose units are two halves."""
    trace = Trace((Turn("user", "6 + 1?"), Turn("assistant", response)), name)
    size = len(response)
    tokens = TokenizedTrace(trace, (1, 2, 3), tuple(range(size)), tuple(range(size)))
    half = size // 2
    return LoadedTrace(tokens, tokenized_units(tokens, [(0, half), (half, size)]), "halves")


def score(index: int = 0, value: float | None = 0.5, **changes: Any) -> Score:
    given: dict[str, Any] = {
        "trace_id": "t",
        "unit_kind": "sentence",
        "unit_index": index,
        "method": "resample",
        "metric": "delta_value",
        "value": value,
        "lo": value,
        "hi": value,
        "level": 0.95,
        "n": 8,
        "status": "insufficient" if value is None else "ok",
    }
    return Score(**(given | changes))


def many_scores(estimate: int) -> list[Score]:
    return [score(i, i / 10_000 + estimate / 10) for i in range(5000 + estimate)]


def contents(con: duckdb.DuckDBPyConnection) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, in an order of its own."""
    tables = con.execute("SELECT table_name FROM duckdb_tables() WHERE NOT temporary").fetchall()
    return {
        name: sorted(con.execute(f"FROM {name}").fetchall(), key=repr)
        for (name,) in tables
        if name != "schema_migrations"
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place for a warehouse."""
    return tmp_path / "home" / "tracelab.duckdb"


@pytest.fixture(scope="module")
def shared_con(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """One writer for tests that keep to runs of their own."""
    with open_writer(tmp_path_factory.mktemp("w") / "shared.duckdb") as con:
        yield con


@contextmanager
def other_process(code: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """Run Python code elsewhere; entered when it has printed `ready`."""
    command = [sys.executable, "-c", code, *map(str, args)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


HOLD = """
import duckdb, sys
con = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
print("ready", flush=True)
sys.stdin.read()
"""


# Opening ------------------------------------------------------------------------------------------


def test_first_opening_makes_a_complete_warehouse(path: Path) -> None:
    with open_writer(path) as con:
        load_run(con, RUN)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    with open_reader(path) as con:
        [views, *applied] = con.execute(
            "SELECT version, name, sha256 FROM schema_migrations ORDER BY version"
        ).fetchall()
        assert con.execute("SELECT status FROM run_costs").fetchall() == [("running",)]
    assert views[:2] == (0, "views")
    assert applied == [(m.version, m.name, m.sha256) for m in warehouse.migrations()]


def test_opening_again_changes_nothing(path: Path) -> None:
    with open_writer(path) as con:
        load_run(con, RUN)
        before = contents(con)
        records = con.execute("FROM schema_migrations").fetchall()
    with open_writer(path) as con:
        assert contents(con) == before
        assert con.execute("FROM schema_migrations").fetchall() == records


def test_killed_while_being_made_leaves_no_half_warehouse(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(warehouse, "_migrate", dies)
        with pytest.raises(KeyboardInterrupt), open_writer(path):
            pass
    assert not path.exists()
    with open_writer(path) as con:
        load_run(con, RUN)


def test_log_of_a_deleted_warehouse_does_not_stop_a_new_one(path: Path) -> None:
    code = (
        "import os, sys\nfrom tracelab.store.connect import open_writer\n"
        "manager = open_writer(sys.argv[1])\ncon = manager.__enter__()\n"
        "con.execute(\"INSERT INTO rejects VALUES ('r', 'f', 1, 'why', '')\")\nos._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert path.with_name(path.name + ".wal").exists()
    path.unlink()
    with open_writer(path) as con:
        assert con.execute("FROM rejects").fetchall() == []


def test_what_was_committed_survives_a_kill(path: Path) -> None:
    """Scores re-estimated, then killed before the log is folded in: rows and index must replay."""
    code = f"""
import os, sys
sys.path.insert(0, sys.argv[2])
from {Path(__file__).stem} import load_scores, many_scores, open_writer
manager = open_writer(sys.argv[1])
con = manager.__enter__()
for estimate in range(3):
    load_scores(con, "r1", many_scores(estimate), estimator_version=str(estimate))
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code, str(path), str(Path(__file__).parent)], check=False)
    assert path.with_name(path.name + ".wal").exists()
    count = "SELECT count(*), min(estimator_version), max(estimator_version) FROM scores"
    with open_reader(path) as con:
        assert con.execute(count).fetchall() == [(5002, "2", "2")]
    with open_writer(path) as con:
        # Were the index damaged, rows would be doubled here.
        load_scores(con, "r1", many_scores(2), estimator_version="3")
        assert con.execute(count).fetchall() == [(5002, "3", "3")]
        load_scores(con, "r1", [score(0)], estimator_version="4")
        assert con.execute(count).fetchall() == [(1, "4", "4")]


@pytest.mark.parametrize("opened", [open_writer, open_reader])
def test_another_process_is_named_and_nothing_is_lost(path: Path, opened: Any) -> None:
    with open_writer(path):
        pass
    with other_process(HOLD, path, "write") as holder:
        with pytest.raises(LockedError) as caught, opened(path, wait_s=0):
            pass
    said = str(caught.value)
    assert f"PID {holder.pid}" in said
    assert "same command again" in said and "\n" not in said
    assert ("nothing is lost" in said) == (opened is open_writer)
    assert caught.value.exit_code == 4


def test_a_reader_delays_a_writer_and_not_another_reader(path: Path) -> None:
    with open_writer(path):
        pass
    with other_process(HOLD, path, "read"):
        with open_reader(path, wait_s=0) as con:
            assert con.execute("FROM runs").fetchall() == []
        with pytest.raises(LockedError), open_writer(path, wait_s=0):
            pass


def test_waiting_ends_when_the_other_process_does(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_writer(path):
        pass
    attempt, refused = warehouse._attempt, []

    with other_process(HOLD, path, "write") as holder:

        def watched(*args: Any) -> duckdb.DuckDBPyConnection:
            try:
                return attempt(*args)
            except warehouse._HeldError:
                refused.append(args)
                assert holder.stdin is not None
                holder.stdin.close()
                holder.wait()
                raise

        monkeypatch.setattr(warehouse, "_attempt", watched)
        with open_writer(path, wait_s=60) as con:
            load_run(con, RUN)
    assert len(refused) == 1


def test_reading_while_this_process_writes_is_told_plainly(path: Path) -> None:
    with open_writer(path):
        with pytest.raises(LockedError, match="this process"), open_reader(path, wait_s=0):
            pass


def test_missing_warehouse(path: Path) -> None:
    with pytest.raises(WarehouseError, match="tracelab run CONFIG"), open_reader(path):
        pass
    assert not path.parent.exists()


@pytest.mark.parametrize("junk", [b"", b"hello", b"hello" * 5000])
@pytest.mark.parametrize("opened", [open_writer, open_reader])
def test_a_file_that_is_no_database_is_left_alone(path: Path, opened: Any, junk: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(junk)
    with pytest.raises(WarehouseError, match="not a DuckDB database"), opened(path):
        pass
    assert path.read_bytes() == junk


def test_a_truncated_warehouse_is_a_sentence(path: Path) -> None:
    with open_writer(path):
        pass
    path.write_bytes(path.read_bytes()[:9000])
    for opened in (open_writer, open_reader):
        with pytest.raises(WarehouseError) as caught, opened(path):
            pass
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("opened", [open_writer, open_reader])
def test_somebody_elses_database_is_left_alone(path: Path, opened: Any) -> None:
    path.parent.mkdir()
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE TABLE theirs AS SELECT 1 AS a")
    with pytest.raises(WarehouseError, match="not a tracelab warehouse"), opened(path):
        pass
    with duckdb.connect(str(path)) as con:
        assert con.execute("SELECT table_name FROM duckdb_tables()").fetchall() == [("theirs",)]


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file is in the way")
    with pytest.raises(WarehouseError, match="cannot create"):
        with open_writer(tmp_path / "home" / "tracelab.duckdb"):
            pass


def test_a_file_of_another_duckdb(path: Path) -> None:
    error = duckdb.IOException(
        "IO Error: Trying to read a database file with version number 9999, but we can only read "
        "version 64.\n\nMore."
    )
    assert isinstance(warehouse.explain("open", path, error), SchemaError)


def test_full_disk_keeps_what_was_there(path: Path) -> None:
    with open_writer(path) as con:
        load_run(con, RUN)
    limit = path.stat().st_size + 300_000
    code = """
import resource, sys
from tracelab.store.connect import open_writer
from tracelab.core.errors import WarehouseError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    with open_writer(sys.argv[1]) as con:
        con.execute("INSERT INTO rejects SELECT 'r', md5(i::VARCHAR), i, md5((7 * i)::VARCHAR), ''"
                    " FROM range(300000) AS t(i)")
except WarehouseError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(limit)], capture_output=True, text=True
    )
    assert "nothing is lost" in done.stdout, done.stderr
    assert done.returncode == 0
    with open_writer(path) as con:
        assert con.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        assert con.execute("SELECT count(*) FROM rejects").fetchone() == (0,)


# Migrations ---------------------------------------------------------------------------------------


@pytest.fixture
def sql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the SQL files that a test may change."""
    copy = tmp_path / "sql"
    shutil.copytree(warehouse.sql_dir(), copy)
    monkeypatch.setattr(warehouse, "sql_dir", lambda: copy)
    return copy


def test_a_migration_is_applied_whole_or_not_at_all(path: Path, sql: Path) -> None:
    with open_writer(path) as con:
        load_run(con, RUN)
    known = sorted((sql / "migrations").glob("*.sql"))
    second = sql / "migrations" / f"{len(known) + 1:04d}_more.sql"
    second.write_text("CREATE TABLE more (a INTEGER); INSERT INTO more VALUES ('not a number');")
    with pytest.raises(WarehouseError), open_writer(path):
        pass
    with duckdb.connect(str(path)) as con:
        assert con.execute("SELECT max(version) FROM schema_migrations").fetchone() == (len(known),)
        assert con.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'more'"
        ).fetchone() == (0,)
    second.write_text("CREATE TABLE more (a INTEGER);")
    with pytest.raises(SchemaError, match="older tracelab"), open_reader(path):
        pass
    with open_writer(path) as con:
        assert con.execute("FROM more").fetchall() == []
        assert con.execute("SELECT name FROM schema_migrations ORDER BY version").fetchall() == [
            ("views",),
            *((file.stem.partition("_")[2],) for file in known),
            ("more",),
        ]
        assert con.execute("SELECT run_id FROM runs").fetchall() == [("r1",)]


@pytest.mark.parametrize("opened", [open_writer, open_reader])
def test_a_newer_warehouse_is_refused(path: Path, opened: Any) -> None:
    with open_writer(path) as con:
        con.execute("INSERT INTO schema_migrations VALUES (99, 'future', 'x', now()::TIMESTAMP)")
    with pytest.raises(SchemaError) as caught, opened(path):
        pass
    said = str(caught.value)
    assert "99" in said and "newer tracelab" in said and "\n" not in said
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("opened", [open_writer, open_reader])
def test_an_edited_migration_is_refused(path: Path, sql: Path, opened: Any) -> None:
    with open_writer(path):
        pass
    first = next((sql / "migrations").glob("0001_*.sql"))
    first.write_text(first.read_text() + "\n-- edited\n")
    with pytest.raises(SchemaError, match="never be edited"), opened(path):
        pass


def test_views_follow_the_installed_tracelab(path: Path, sql: Path) -> None:
    with open_writer(path):
        pass
    view = sql / "views" / "07_rejected_inputs.sql"
    view.write_text("CREATE OR REPLACE VIEW rejected_inputs AS SELECT 1 AS changed")
    with open_writer(path) as con:
        assert con.execute("FROM rejected_inputs").fetchall() == [(1,)]


def test_views_that_are_there_are_not_made_again(path: Path) -> None:
    made = "SELECT view_name, view_oid FROM duckdb_views() WHERE NOT internal"
    with open_writer(path) as con:
        first = con.execute(made).fetchall()
    with open_writer(path) as con:
        assert con.execute(made).fetchall() == first
        con.execute("DROP VIEW rejected_inputs")
    with open_writer(path) as con:
        assert len(con.execute(made).fetchall()) == len(first)


def test_migrations_are_numbered_without_gaps() -> None:
    known = warehouse.migrations()
    assert [m.version for m in known] == list(range(1, len(known) + 1))


# Loading ------------------------------------------------------------------------------------------


def load_everything(con: duckdb.DuckDBPyConnection) -> None:
    load_run(con, RUN)
    load_session(con, "r1", SessionRow("s1", NOON, seconds=2.0, prompt_tokens=9, cached_tokens=4))
    load_traces(con, "r1", [loaded_trace("Plan A. So 7."), loaded_trace("Plan B. So 8.", "two")])
    load_rows(con, "r1", [ItemRow("t", "k", 0, 0, 3)])
    rows = [GOOD, UNGRADED, FAILED]
    load_rows(con, "r1", [dataclasses.replace(r, replicate=i) for i, r in enumerate(rows)])
    load_scores(con, "r1", [score(0), score(1, None)], estimator_version="1")
    load_rejects(con, "r1", [RejectRow("a.jsonl", 3, "line 3 is not JSON", "{")])


def test_loading_twice_changes_nothing(path: Path) -> None:
    with open_writer(path) as con:
        load_everything(con)
        before = contents(con)
        load_everything(con)
        assert contents(con) == before
    assert {"runs", "sessions", "traces", "turns", "units", "items"} < {
        k for k in before if before[k]
    }
    with open_writer(path) as con:
        load_everything(con)
        assert contents(con) == before


def test_rows_arrive_as_they_were_given(path: Path) -> None:
    given = loaded_trace("Plan A. So 7.")
    with open_writer(path) as con:
        load_everything(con)
        trace_id = given.tokens.trace.trace_id
        assert con.execute(
            "SELECT text FROM turns WHERE trace_id = $id ORDER BY turn_index", {"id": trace_id}
        ).fetchall() == [("6 + 1?",), ("Plan A. So 7.",)]
        assert con.execute(
            "SELECT unit_kind, unit_index, segmenter, start_char, end_char, start_token, end_token,"
            " text FROM units WHERE trace_id = $id ORDER BY unit_index",
            {"id": trace_id},
        ).fetchall() == [
            ("sentence", 0, "halves", 0, 6, 0, 6, "Plan A"),
            ("sentence", 1, "halves", 6, 13, 6, 13, ". So 7."),
        ]
        assert con.execute(
            "SELECT grade_status, reward, error FROM rollouts ORDER BY replicate"
        ).fetchall() == [
            ("graded", 1.0, None),
            ("ungraded", None, None),
            ("ungraded", None, "dead: gone"),
        ]
        assert con.execute("SELECT value, status FROM scores ORDER BY unit_index").fetchall() == [
            (0.5, "ok"),
            (None, "insufficient"),
        ]


def test_nothing_to_load_is_nothing_done(path: Path) -> None:
    with open_writer(path) as con:
        load_traces(con, "r1", [])
        load_rows(con, "r1", [])
        load_rows(con, "r1", [])
        load_scores(con, "r1", [], estimator_version="1")
        load_rejects(con, "r1", [])
        assert not any(contents(con).values())


def test_the_newest_state_of_a_run_wins(path: Path) -> None:
    east = timezone(timedelta(hours=2))
    done = dataclasses.replace(
        RUN, status="complete", finished_at=datetime(2026, 1, 2, 15, tzinfo=east)
    )
    with open_writer(path) as con:
        load_run(con, RUN)
        load_run(con, done)
        assert con.execute("SELECT status, finished_at FROM runs").fetchall() == [
            ("complete", datetime(2026, 1, 2, 13))  # noqa: DTZ001 (stored in UTC, without a zone)
        ]
        with pytest.raises(ValueError, match="time zone"):
            load_run(con, dataclasses.replace(RUN, started_at=NOON.replace(tzinfo=None)))


def test_the_units_of_two_segmenters_never_mix(path: Path) -> None:
    halves = loaded_trace("Plan A. So 7.")
    whole = LoadedTrace(halves.tokens, tokenized_units(halves.tokens, [(0, 13)]), "whole")
    with open_writer(path) as con:
        load_traces(con, "r1", [whole, halves])
        load_traces(con, "r1", [halves])
        load_traces(con, "r2", [halves])
        assert con.execute(
            "SELECT run_id, segmenter, count(*) FROM units GROUP BY ALL ORDER BY ALL"
        ).fetchall() == [("r1", "whole", 1), ("r2", "halves", 2)]


def test_a_dropped_run_is_gone_and_can_come_back(path: Path) -> None:
    with open_writer(path) as con:
        load_everything(con)
        before = contents(con)
        load_run(con, dataclasses.replace(RUN, run_id="r2"))
        drop_run(con, "r1")
        left = contents(con)
        assert [row[0] for rows in left.values() for row in rows] == ["r2"]
        drop_run(con, "r2")
        load_everything(con)
        assert contents(con) == before


def test_a_plan_only_grows(path: Path) -> None:
    with open_writer(path) as con:
        for replicates in (8, 16, 8):
            load_rows(con, "r1", [ItemRow("t", "k", 0, 0, replicates)])
        load_rows(con, "r1", [ItemRow("t", "j", 0, 0, n) for n in (2, 5, 3)])
        assert con.execute("SELECT item_key, replicates FROM items ORDER BY 1").fetchall() == [
            ("j", 5),
            ("k", 16),
        ]
        # Boundaries on one token share an item: the first stands for it.
        load_rows(con, "r1", [ItemRow("t", "i", b, 0, 2) for b in (3, 2, 4)])
        assert con.execute("SELECT start_boundary FROM items WHERE item_key = 'i'").fetchall() == [
            (2,)
        ]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rollouts_end_the_same_however_they_arrive(
    shared_con: duckdb.DuckDBPyConnection, data: st.DataObject
) -> None:
    """Order, batches and repetition do not matter, and the best news of a replicate wins."""
    rank = [FAILED, UNGRADED, GOOD]
    sent = data.draw(
        st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=12)
    )
    cut = data.draw(st.integers(0, len(sent)))
    run_id = f"order-{sent}-{cut}"
    rows = [dataclasses.replace(rank[kind], replicate=replicate) for replicate, kind in sent]
    for batch in (rows[:cut], rows[cut:], rows[::-1]):
        load_rows(shared_con, run_id, batch)
    kept = shared_con.execute(
        "SELECT replicate, error IS NULL, reward IS NOT NULL FROM rollouts WHERE run_id = $id "
        "ORDER BY replicate",
        {"id": run_id},
    ).fetchall()
    best = {r: max(k for i, k in sent if i == r) for r, _ in sent}
    assert kept == [(r, best[r] > 0, best[r] > 1) for r in sorted(best)]


def test_new_scores_replace_those_of_their_trace_and_method_only(path: Path) -> None:
    others = [score(0, method="forced"), score(0, trace_id="u")]
    with open_writer(path) as con:
        load_scores(con, "r1", [score(0), score(1), *others], estimator_version="1")
        load_scores(con, "r2", [score(1)], estimator_version="1")
        load_scores(con, "r1", [score(1, 0.25), score(2)], estimator_version="2")
        rows = con.execute(
            "SELECT run_id, trace_id, method, unit_index, value, estimator_version FROM scores "
            "ORDER BY ALL"
        ).fetchall()
    assert rows == [
        ("r1", "t", "forced", 0, 0.5, "1"),
        ("r1", "t", "resample", 1, 0.25, "2"),
        ("r1", "t", "resample", 2, 0.5, "2"),
        ("r1", "u", "resample", 0, 0.5, "1"),
        ("r2", "t", "resample", 1, 0.5, "1"),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        score(1, float("nan")),
        score(1, float("inf")),
        score(1, 0.5, lo=0.6),
        score(1, 0.5, status="insufficient"),
        score(1, None, status="ok"),
        score(1, level=1.0),
        score(0),
    ],
)
def test_an_impossible_score_is_refused_and_the_old_ones_stay(path: Path, wrong: Score) -> None:
    with open_writer(path) as con:
        load_scores(con, "r1", [score(0, 0.125)], estimator_version="1")
    with pytest.raises(WarehouseError), open_writer(path) as con:
        load_scores(con, "r1", [score(0), wrong], estimator_version="2")
    with open_reader(path) as con:
        assert con.execute("SELECT value FROM scores").fetchall() == [(0.125,)]


def test_rounding_at_the_end_of_an_interval_is_no_error(path: Path) -> None:
    with open_writer(path) as con:
        load_scores(con, "r1", [score(0, 0.0, lo=1e-17, hi=0.4)], estimator_version="1")


def test_loads_inside_a_transaction_are_one(path: Path) -> None:
    with open_writer(path) as con:
        load_run(con, RUN)
        before = contents(con)
        with pytest.raises(RuntimeError), transaction(con):
            load_everything(con)
            raise RuntimeError
        assert contents(con) == before
        with transaction(con):
            load_everything(con)
        assert contents(con) != before


def test_a_refused_row_inside_a_transaction_undoes_all_of_it(path: Path) -> None:
    with pytest.raises(WarehouseError, match="CHECK constraint"), open_writer(path) as con:
        with transaction(con):
            load_run(con, RUN)
            load_rows(con, "r1", [dataclasses.replace(GOOD, reward=2.0)])
    with open_writer(path) as con:
        assert not any(contents(con).values())


def test_a_rollout_joins_its_grade_and_its_observation() -> None:
    rollout = Rollout("k", 1, 2, 3, 4, Outcome("7", 1.0, "graded"), 2, " So 7.", 0.5)
    seen = Observation("k", 1, (5, 6), " So 7.", "stop", (-0.5, -0.25), 9, 8)
    row = RolloutRow.of("t", rollout, seen, first_sentence=" So 7.", left_unit=2)
    assert (row.own_sentence, row.similarity, row.left_unit) == (" So 7.", 0.5, 2)
    assert (row.start_boundary, row.start_token, row.diverge_token) == (2, 3, 4)
    assert (row.answer, row.reward, row.logprob, row.cached_tokens) == ("7", 1.0, -0.75, 8)
    endless = dataclasses.replace(seen, token_logprobs=(float("-inf"),))
    assert RolloutRow.of("t", rollout, endless).logprob is None
    failed = Observation("k", 1, finish_reason="error", error="overlong: too long")
    row = RolloutRow.of("t", rollout, failed)
    assert (row.answer, row.reward, row.grade_status) == (None, None, "ungraded")


# Text ---------------------------------------------------------------------------------------------

anything = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=anything, extra=st.dictionaries(anything, json_like, max_size=3))
def test_any_text_can_be_stored(
    shared_con: duckdb.DuckDBPyConnection, text: str, extra: dict[str, Any]
) -> None:
    row = dataclasses.replace(GOOD, text=text, item_key=text, first_sentence=text)
    run_id = f"text-{text!r}-{extra!r}"
    with transaction(shared_con):
        load_rows(shared_con, run_id, [row])
        load_session(shared_con, run_id, SessionRow(text, NOON, extra=extra))
    stored = shared_con.execute(
        "SELECT text, item_key, length(text) FROM rollouts WHERE run_id = $id",
        {"id": storable(run_id)},
    ).fetchall()
    assert stored == [(storable(text), storable(text), len(text))]
    assert shared_con.execute(
        "SELECT count(*) FROM sessions WHERE run_id = $id AND json_valid(extra)",
        {"id": storable(run_id)},
    ).fetchone() == (1,)


def test_storable_keeps_offsets_and_everything_but_lone_surrogates() -> None:
    hostile = "a\x00b\x1b[31m\ud800c\udfff\U0001f600\r\n"
    assert storable(hostile) == "a\x00b\x1b[31m\ufffdc\ufffd\U0001f600\r\n"
    assert len(storable(hostile)) == len(hostile)


def test_a_10_mb_line(path: Path) -> None:
    line = "0123456789" * 1_000_000
    with open_writer(path) as con:
        load_traces(con, "r1", [loaded_trace("é" * 100), loaded_trace(line, "long")])
        load_rejects(con, "r1", [RejectRow("a.jsonl", 1, "too long", line)])
    with open_reader(path) as con:
        assert con.execute("SELECT max(length(text)) FROM turns").fetchone() == (len(line),)
        assert con.execute("SELECT length(excerpt) FROM rejects").fetchone() == (EXCERPT_CHARS,)


def test_many_rollouts_in_one_call(path: Path) -> None:
    many = [
        dataclasses.replace(GOOD, item_key=f"{i // 8:024x}", replicate=i % 8) for i in range(40_000)
    ]
    with open_writer(path) as con:
        load_rows(con, "r1", many)
        load_rows(con, "r1", many)
        assert con.execute("SELECT count(*) FROM rollouts").fetchone() == (len(many),)


def test_a_crash_just_after_a_migration_leaves_a_database_that_opens(path: Path) -> None:
    """Its log creates tables whose checks call functions; DuckDB alone fails to replay that."""
    code = (
        "import os, sys, duckdb; from tracelab.store.connect import migrations;"
        "con = duckdb.connect(sys.argv[1]);"
        "con.execute(migrations()[0].sql);"
        'con.execute("INSERT INTO schema_migrations VALUES '
        "(1, 'initial', $1, now()::TIMESTAMP)\", [migrations()[0].sha256]);"
        "os._exit(9)"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert path.with_name(path.name + ".wal").stat().st_size > 0
    with open_writer(path) as con:
        assert con.execute("SELECT count(*) FROM runs").fetchone() == (0,)
