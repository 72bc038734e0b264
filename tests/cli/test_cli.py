"""Every command as its user types it: exit codes, what is printed where, and what is kept."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from tests.helpers import everything, invoke, rows, write_config, write_jsonl
from tracelab.cli import sql as commands
from tracelab.engines.scripted import Script
from tracelab.run import loader
from tracelab.run.pool import LocalPool
from tracelab.run.progress import RunProgress
from tracelab.store.connect import open_reader
from tracelab.store.home import Home
from tracelab.store.sealed import opened, sealed


@pytest.fixture
def config(tmp_path: Path, script: Script, home: Path) -> Path:
    """Three scripted traces, six rollouts a boundary."""
    source = write_jsonl(tmp_path / "t.jsonl", script, 3)
    return write_config(tmp_path / "c.toml", source, anchors="rollouts = 6")


def run(config: Path, *options: object, code: int = 0) -> str:
    """`tracelab run`; returns what it said."""
    result = invoke("run", config, *options)
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""  # stdout is for data
    return result.stderr


def clean() -> None:
    result = invoke("check")
    assert result.exit_code == 0, result.stdout


def sessions() -> list[dict[str, object]]:
    return rows("select observations, errors from sessions order by started_at")


@pytest.mark.parametrize(
    "args",
    [["nosuch"], ["run"], ["run", "a", "--nosuch"], ["ingest"], ["export", "x", "--format", "z"]],
)
def test_usage_errors_exit_2(args: list[str]) -> None:
    assert invoke(*args).exit_code == 2


# -- run ----------------------------------------------------------------------------------------


def test_the_second_run_does_nothing_and_changes_no_row(config: Path) -> None:
    assert "starting scripted" in run(config)
    before = everything()
    assert len(before["rollouts"]) > 100
    assert "starting" not in run(config)
    assert everything() == before
    clean()


def test_more_rollouts_ask_only_for_the_missing_ones(config: Path) -> None:
    run(config)
    run(config, "--set", "anchors.rollouts=10")
    first, second = sessions()
    assert first["observations"] / 6 == second["observations"] / 4  # type: ignore[operator]
    [n] = rows("select count(*) as n from rollouts")
    assert n["n"] == 10 / 6 * first["observations"]  # type: ignore[operator]
    clean()


def test_fewer_rollouts_keep_those_there_are_and_say_so(config: Path) -> None:
    run(config)
    before = everything()
    said = run(config, "--set", "anchors.rollouts=4")
    assert "was started with rollouts = 6" in said
    assert "asked for 4" in said
    assert everything() == before
    clean()


def test_a_changed_config_is_refused_with_the_differing_keys_named(config: Path) -> None:
    run(config)
    before = everything()
    said = run(config, "--set", "seed=3", "--set", "sampling.top_p=0.5", code=2)
    assert "sampling.top_p (was 1.0, is 0.5); seed (was 0, is 3)" in said
    assert everything() == before


def test_a_run_that_never_began_binds_nobody(config: Path) -> None:
    """A typo in the first attempt must not make the corrected config a changed one."""
    assert "no such file" in run(config, "--set", "source=nosuch.jsonl", code=2)
    run(config)


def test_fresh_starts_over_and_sets_the_old_journal_aside(config: Path, home: Path) -> None:
    run(config)
    assert "was moved to" in run(config, "--fresh", "--set", "seed=3")
    assert "was moved to" in run(config, "--fresh", "--set", "seed=4")
    assert rows("select seed from runs") == [{"seed": 4}]
    assert len(sessions()) == 1
    assert len(list((home / "runs").glob("study.old-*"))) == 2
    before = everything()
    # What was set aside stays aside.
    assert invoke("rebuild").exit_code == 0
    assert everything() == before
    clean()


def test_an_interrupted_run_exits_130_and_is_continued(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pressed: list[int] = []

    def press(*args: object) -> None:
        if not pressed:
            pressed.append(1)
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(RunProgress, "advance", press)
        said = run(config, "--set", "runtime.batch_rollouts=6", code=130)
    assert "The same command continues" in said
    assert "already in the journal" in run(config)
    first, second = sessions()
    [n] = rows("select count(*) as n from rollouts")
    assert 0 < first["observations"] < n["n"]  # type: ignore[operator]
    assert first["observations"] + second["observations"] == n["n"]  # type: ignore[operator]
    clean()


def test_it_runs_as_a_module(config: Path) -> None:
    out = subprocess.run(
        [sys.executable, "-m", "pipelines.thought_anchors", str(config), "--quiet"],
        capture_output=True,
        text=True,
    )
    assert (out.returncode, out.stdout, out.stderr) == (0, "", "")
    clean()


# -- the database held by others ----------------------------------------------------------------


@contextmanager
def held(database: Path, *, read_only: bool) -> Iterator[int]:
    """Another process that has the database open; gives its process id."""
    code = (
        f"import duckdb; c = duckdb.connect({str(database)!r}, read_only={read_only});"
        "print('open', flush=True); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin and other.stdout
    assert other.stdout.readline() == "open\n"
    yield other.pid
    other.communicate("\n")


@pytest.mark.parametrize("read_only", [True, False], ids=["reader", "writer"])
def test_a_held_database_delays_loading_and_loses_nothing(
    config: Path, home: Path, monkeypatch: pytest.MonkeyPatch, read_only: bool
) -> None:
    invoke("ingest", config.parent / "t.jsonl")  # so that there is a database to hold
    monkeypatch.setattr(loader, "_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(loader, "_LIVE_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(commands, "open_reader", partial(open_reader, wait_s=0.0))
    with held(home / "tracelab.duckdb", read_only=read_only) as pid:
        said = run(config, "--wait", "0", code=4)
        assert f"(PID {pid})" in said
        assert "The run goes on" in said
        assert "the same command loads it" in said
        if not read_only:
            refused = invoke("check")
            assert refused.exit_code == 4
            assert f"(PID {pid})" in refused.stderr
    assert "starting" not in run(config)
    [n] = rows("select count(*) as n, count(distinct trace_id) as traces from rollouts")
    assert n["traces"] == 3
    assert n["n"] == rows("select sum(observations) as n from sessions")[0]["n"]
    clean()


def test_a_reader_sees_a_run_that_is_going_whole(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    ready = LocalPool.ready

    def watched(self, timeout):  # type: ignore[no-untyped-def]
        if Home.at().database.exists() and len(seen) < 5:
            found = rows("select status, count(*) as n from runs join rollouts using (run_id) "
                         "group by 1")  # fmt: skip
            if found and found != seen[-1:]:
                seen.extend(found)
                clean()
        return ready(self, timeout)

    monkeypatch.setattr(loader, "_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(LocalPool, "ready", watched)
    run(config, "--set", "runtime.batch_rollouts=100")
    assert {s["status"] for s in seen} == {"running"}
    assert len({s["n"] for s in seen}) > 2
    assert rows("select status from runs") == [{"status": "complete"}]


def test_a_snapshot_is_open_elsewhere_while_the_run_goes_on(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, ready, seen = tmp_path / "copy.duckdb", LocalPool.ready, []

    def watched(self, timeout):  # type: ignore[no-untyped-def]
        there = Home.at().database.exists() and rows("select count(*) as n from rollouts")[0]["n"]
        if there and not seen:
            assert invoke("export", copy, "--format", "duckdb").exit_code == 0
            seen.append(duckdb.connect(str(copy), read_only=True))
        return ready(self, timeout)

    monkeypatch.setattr(loader, "_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(LocalPool, "ready", watched)
    run(config, "--set", "runtime.batch_rollouts=100")
    [n] = rows("select count(*) as n from rollouts")
    [(then,)] = seen[0].execute("select count(*) from rollouts").fetchall()
    assert 0 < then < n["n"]  # type: ignore[operator]
    seen[0].close()


def test_a_newer_schema_is_left_alone(config: Path, home: Path) -> None:
    run(config)
    with duckdb.connect(str(home / "tracelab.duckdb")) as con:
        con.execute("INSERT INTO schema_migrations VALUES (999, 'later', 'x', now()::TIMESTAMP)")
    for result in (invoke("run", config), invoke("query", "runs"), invoke("check")):
        assert result.exit_code == 2
        assert "schema version 999" in result.stderr
        assert "upgrade" in result.stderr


# -- rebuild ------------------------------------------------------------------------------------


def test_the_database_can_be_rebuilt_from_the_journals(config: Path, home: Path) -> None:
    run(config)
    run(config, "--set", "anchors.rollouts=8", "--set", "name=other")
    before = everything()
    (home / "tracelab.duckdb").unlink()
    assert invoke("rebuild").exit_code == 0
    assert everything() == before
    assert invoke("rebuild", "study").exit_code == 0
    assert everything() == before


def test_rebuild_names_what_it_cannot_do(config: Path, home: Path) -> None:
    run(config, "--wait", "0")
    refused = invoke("rebuild", "nosuch")
    assert refused.exit_code == 2
    assert "there are: study" in refused.stderr
    record = home / "runs" / "study" / "run.json"
    record.write_bytes(sealed({**opened(record.read_bytes())[0], "finished_at": None}))
    refused = invoke("rebuild", "study")
    assert refused.exit_code == 2
    assert "not finished" in refused.stderr


# -- ingest -------------------------------------------------------------------------------------


def test_ingesting_again_changes_nothing(tmp_path: Path, script: Script, home: Path) -> None:
    source = write_jsonl(tmp_path / "t.jsonl", script, 3)
    source.write_text(source.read_text() + "{broken\n")
    first = invoke("ingest", source)
    assert first.exit_code == 3
    assert f"rejected: {source}:4: Not valid JSON" in first.stderr
    before = everything()
    assert len(before["traces"]) == 3
    assert len(before["rejects"]) == 1
    assert invoke("ingest", source, "--max-error-rate", "0.5").exit_code == 0
    assert everything() == before
    clean()


def test_a_file_put_right_loses_its_rejects_and_others_keep_theirs(
    tmp_path: Path, script: Script, home: Path
) -> None:
    good = write_jsonl(tmp_path / "good.jsonl", script, 4).read_text().splitlines(keepends=True)
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_text(good[0] + "{broken\n")
    two.write_text(good[1] + "{broken\n")
    invoke("ingest", one, two)
    one.write_text(good[0] + good[2])
    assert invoke("ingest", one).exit_code == 0
    assert rows("select file from rejects") == [{"file": str(two)}]
    assert rows("select status from runs") == [{"status": "complete_with_errors"}]
    assert len(rows("from traces")) == 3
    clean()


def test_an_ingest_is_not_mixed_with_something_else(config: Path) -> None:
    run(config)
    source = config.parent / "t.jsonl"
    assert "is a study" in invoke("ingest", source, "--name", "study").stderr
    assert invoke("ingest", source).exit_code == 0
    refused = invoke("ingest", source, "--segmenter", "paragraph")
    assert refused.exit_code == 2
    assert "segmenter (was 'reasoning-v1', is 'paragraph')" in refused.stderr
    assert invoke("ingest", source, "--name", "../x").exit_code == 2
    assert invoke("ingest", source, "--segmenter", "nosuch").exit_code == 2
    clean()


def test_ingest_of_nothing_usable_exits_2(tmp_path: Path, home: Path) -> None:
    assert invoke("ingest", tmp_path / "nosuch.jsonl").exit_code == 2
    assert not home.exists()
    (tmp_path / "bad.jsonl").write_text("{\n")
    refused = invoke("ingest", tmp_path / "bad.jsonl")
    assert refused.exit_code == 2
    assert "bad.jsonl:1: Not valid JSON" in refused.stderr
    assert len(rows("from rejects")) == 1


# -- reading ------------------------------------------------------------------------------------


def test_queries_by_name_by_sql_and_from_stdin(config: Path) -> None:
    run(config)
    listed = invoke("query")
    assert "top_anchors" in listed.stdout
    names = [q["query"] for q in json.loads(invoke("query", "--json").stdout)]
    assert names == sorted(names) and "answers_before_after" in names
    two = invoke("query", "top_anchors", "-p", "limit=2", "--json").stdout
    assert [r["rank"] for r in json.loads(two)] == [1, 1]
    assert invoke("query", "-", "--csv", stdin="select 1 as a").stdout == "a\n1\n"
    assert invoke("query", "select 1 as a").stdout == "a\n1\n"  # not a terminal
    assert invoke("query", "select 1 as a", "--nl").stdout == '{"a": 1}\n'
    assert "━" in invoke("query", "select 1 as a", "--table").stdout
    found = invoke("query", "select seed from runs where run_id = $run", "-p", "run=study", "--nl")
    assert found.stdout == '{"seed": 0}\n'


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("nosuch", "no query named 'nosuch'"),
        ("top_anchor", "did you mean top_anchors?"),
        ("value_curve", "needs trace"),
        ("selec 1", "syntax error"),
        ("select nosuch from runs", "nosuch"),
        ("select $x", "x"),
        ("delete from runs", "read-only"),
        ("copy runs to '{out}'", "this is COPY"),
        ("attach '{out}'", "this is ATTACH"),
        ("select * from read_text('/etc/hostname')", "read_text is not allowed"),
        ("from '/etc/hostname'", "does not exist"),
        ("set enable_external_access = true", "this is SET"),
        ("-", "no SQL on stdin"),
    ],
)
def test_wrong_or_hostile_sql_is_one_sentence(
    config: Path, tmp_path: Path, sql: str, says: str
) -> None:
    invoke("ingest", config.parent / "t.jsonl")
    out = tmp_path / "out"
    result = invoke("query", sql.format(out=out), stdin="")
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert not out.exists()


def test_bad_parameters_and_no_warehouse(config: Path) -> None:
    missing = invoke("query", "runs")
    assert missing.exit_code == 1
    assert "there is no warehouse" in missing.stderr
    invoke("ingest", config.parent / "t.jsonl")
    assert "NAME=VALUE" in invoke("query", "runs", "-p", "limit").stderr
    assert "no parameter 'x'" in invoke("query", "runs", "-p", "x=1").stderr


def test_a_reader_that_leaves_early_is_no_failure(config: Path, home: Path) -> None:
    invoke("ingest", config.parent / "t.jsonl")
    sql = "select range from range(200000)"
    command = f"{shlex.quote(sys.executable)} -m tracelab query {shlex.quote(sql)}"
    out = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} | head -2"], capture_output=True, text=True
    )
    assert (out.returncode, out.stdout, out.stderr) == (0, "range\n0\n", "")


def test_check_exits_1_and_names_the_violations(config: Path, home: Path) -> None:
    run(config)
    with duckdb.connect(str(home / "tracelab.duckdb")) as con:
        con.execute("DELETE FROM rollouts WHERE replicate = 5 AND start_boundary = 0")
    result = invoke("check")
    assert result.exit_code == 1
    assert "runs_complete,3," in result.stdout
    assert "tracelab: runs_complete: 3 rows, such as" in result.stderr


def test_schema_describes_tables_and_refuses_unknown_ones(config: Path) -> None:
    invoke("ingest", config.parent / "t.jsonl")
    assert "### `rollouts` (table)" in invoke("schema").stdout
    one = invoke("schema", "anchors").stdout
    assert "### `anchors` (view)" in one
    assert "rollouts` (table)" not in one
    refused = invoke("schema", "anchor")
    assert refused.exit_code == 2
    assert "no table or view 'anchor'" in refused.stderr


def test_export_writes_every_table_and_view(config: Path, tmp_path: Path) -> None:
    run(config)
    for form in ("parquet", "csv", "arrow"):
        result = invoke("export", tmp_path / form, "--format", form)
        assert result.exit_code == 0, result.stderr
        assert result.stdout == ""
    names = {p.stem for p in (tmp_path / "csv").iterdir()}
    assert {"runs", "rollouts", "scores", "anchors"} <= names
    assert names == {p.stem for p in (tmp_path / "parquet").iterdir()}
    [n] = rows("select count(*) as n from rollouts")
    assert pq.read_metadata(tmp_path / "parquet" / "rollouts.parquet").num_rows == n["n"]
    blocked = tmp_path / "file"
    blocked.write_text("")
    refused = invoke("export", blocked / "x")
    assert refused.exit_code == 1
    assert str(blocked) in refused.stderr


def test_doctor_reports_and_fails_where_nothing_can_be_kept(home: Path, tmp_path: Path) -> None:
    fine = invoke("doctor")
    for what in ("Python", "vLLM", "torch", "ray", "duckdb", "GPU", "disk", "home", "warehouse"):
        assert what in fine.stdout
    assert "cannot be written" not in fine.stderr
    blocked = tmp_path / "file"
    blocked.write_text("")
    refused = invoke("doctor", "--home", blocked / "x")
    assert refused.exit_code == 1
    assert "home: MISSING" in refused.stderr
