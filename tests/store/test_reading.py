"""No SQL changes a byte of the home, or creates or reads a file elsewhere, by any reading door.

Every statement of a long list goes through the gate (`query`) and, where the gate says no, once
more past it, straight to the reader's connection: the wall behind the gate must hold by itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from tests.helpers import tree
from tracelab.cli import main
from tracelab.core.errors import QueryError
from tracelab.store import reading
from tracelab.store.connect import open_reader, open_writer
from tracelab.store.home import Home
from tracelab.store.query import query
from tracelab.store.reading import TABLE_FUNCTIONS
from tracelab.view.opening import NumbersResult
from tracelab.view.results.result import Costs

SECRET = "kept-outside-of-the-home"
ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"

TARGETS = ("{db}", "{db}.wal", "{db}.tmp/x", "{home}/new", "{outside}/new", "new")
WRITES = [
    f"COPY ({what}) TO '{target}' ({options})"
    for target in TARGETS
    for what, options in (
        ("SELECT 1", "FORMAT csv, USE_TMP_FILE false"),
        ("SELECT 1 AS a", "FORMAT parquet, USE_TMP_FILE false"),
        ("SELECT 1 AS a", "FORMAT json, USE_TMP_FILE false"),
        ("SELECT 'forged'::BLOB", "FORMAT blob, USE_TMP_FILE false"),
        ("SELECT 1 AS a, 2 AS b", "FORMAT csv, PARTITION_BY (a), OVERWRITE_OR_IGNORE"),
        ("SELECT 1", "FORMAT csv, OVERWRITE true, PER_THREAD_OUTPUT true"),
    )
]
WRAPPED = [
    form.format(copy=f"COPY (SELECT 1) TO '{target}' (FORMAT csv, USE_TMP_FILE false)")
    for target in TARGETS
    for form in (
        "EXPLAIN ANALYZE {copy}",
        "EXPLAIN {copy}",
        "EXPLAIN (ANALYZE, FORMAT json) {copy}",
        "/* SELECT */ -- SELECT\n{copy}",
        "WITH x AS ({copy}) SELECT * FROM x",
        "SELECT (WITH x AS ({copy}) SELECT count(*) FROM x)",
        "EXPLAIN ANALYZE WITH x AS ({copy}) SELECT * FROM x",
        "SELECT 1; {copy}",
        "{copy}; SELECT 1",
        "PREPARE p AS {copy}; EXECUTE p",
    )
] + [
    f"SELECT * FROM {function}('{inside}')"
    for function in ("query", "json_execute_serialized_sql", "query_table")
    for inside in (
        "COPY (SELECT 1) TO ''{db}'' (FORMAT csv, USE_TMP_FILE false)",
        "WITH x AS (COPY (SELECT 1) TO ''{db}'' (FORMAT csv, USE_TMP_FILE false)) FROM x",
        "SELECT * FROM read_text(''{secret}'')",
    )
]
CHANGES = [
    "INSERT INTO rejects VALUES ('r', 'f', 1, 'why', '')",
    "INSERT OR REPLACE INTO rejects SELECT * FROM rejects",
    "WITH x AS (INSERT INTO rejects VALUES ('r', 'f', 1, 'why', '') RETURNING *) FROM x",
    "WITH x AS (DELETE FROM runs RETURNING *) FROM x",
    "WITH x AS (UPDATE runs SET name = 'x' RETURNING *) FROM x",
    "UPDATE runs SET name = 'x'",
    "DELETE FROM runs",
    "TRUNCATE runs",
    "MERGE INTO runs USING runs AS u ON true WHEN MATCHED THEN DELETE",
    "DROP TABLE runs",
    "DROP VIEW anchors",
    "ALTER TABLE runs ADD COLUMN x INTEGER",
    "COMMENT ON TABLE runs IS 'x'",
    "CREATE TABLE mine AS SELECT 1",
    "CREATE OR REPLACE VIEW anchors AS SELECT 1",
    "CREATE TEMP TABLE mine AS SELECT 1",
    "CREATE INDEX i ON runs (name)",
    "CREATE SEQUENCE s",
    "CREATE MACRO f() AS TABLE SELECT * FROM read_text('{secret}')",
    "CREATE TYPE t AS ENUM ('a')",
    "CREATE SCHEMA s",
    "CREATE PERSISTENT SECRET s (TYPE s3)",
    "CREATE SECRET s (TYPE s3)",
    "PIVOT runs ON name",
    "BEGIN",
    "COMMIT",
    "CHECKPOINT",
    "FORCE CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "PRAGMA checkpoint",
    "PRAGMA force_checkpoint",
    "PRAGMA enable_profiling",
    "PRAGMA profiling_output = '{db}'",
    "PRAGMA import_database('{outside}')",
    "PRAGMA copy_database('tracelab', 'other')",
    "PRAGMA add_parquet_key('k', 'x')",
    "CALL checkpoint()",
    "CALL enable_logging(storage := 'file', storage_path := '{db}.wal')",
    "EXPORT DATABASE '{outside}/export'",
    "EXPORT DATABASE '{home}'",
    "IMPORT DATABASE '{outside}'",
    "ATTACH '{db}' AS other",
    "ATTACH '{outside}/other.duckdb' AS other",
    "ATTACH ':memory:' AS other",
    "DETACH tracelab",
    "USE memory",
    "COPY FROM DATABASE tracelab TO other",
    "COPY rejects FROM '{secret}'",
    "COPY rejects FROM '{db}' (FORMAT csv)",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{secret}'",
    "UPDATE EXTENSIONS",
    "SET VARIABLE a = 1",
    "SET GLOBAL threads = 1",
    "SET memory_limit = '1TB'",
    "SET temp_directory = '{outside}'",
    "SET enable_external_access = true",
    "SET disabled_filesystems = ''",
    "SET allowed_directories = ['{outside}']",
    "SET profile_output = '{db}'",
    "SET lock_configuration = false",
    "RESET disabled_filesystems",
    "RESET ALL",
    "PREPARE p AS SELECT $1",
    "EXECUTE p(1, 2, 3)",
    "DEALLOCATE p",
    "SELECT nextval('s')",
    "SELECT setval('s', 3)",
    "SELECT getenv('HOME')",
    "FROM '{secret}'",
    "FROM '{outside}/*.csv'",
    "FROM 'https://example.com/x.csv'",
    "SELECT (SELECT content FROM read_text('{secret}'))",
    "SELECT * FROM runs WHERE EXISTS (FROM read_csv('{secret}'))",
    "SELECT * FROM (VALUES ('{secret}')) AS t(p), read_text(t.p)",
    "DESCRIBE FROM read_csv('{secret}')",
    "SUMMARIZE FROM read_csv('{secret}')",
    "SHOW ALL TABLES FROM '{secret}'",
    "FROM (DESCRIBE FROM read_text('{secret}'))",
]
CALLED = [
    f"FROM {function}({arguments})"
    for function, arguments in (
        ("read_csv", "'{secret}'"),
        ("READ_CSV", "'{secret}'"),
        ("main.read_csv", "'{secret}'"),
        ("system.main.read_csv", "'{secret}'"),
        ('"read_csv"', "'{secret}'"),
        ("read_csv_auto", "'{db}'"),
        ("read_csv", "'{secret}', store_rejects = true"),
        ("read_text", "'{secret}'"),
        ("read_text", "['{secret}', '{db}']"),
        ("read_blob", "'{db}'"),
        ("read_blob", "'{db}.wal'"),
        ("read_json", "'{secret}'"),
        ("read_ndjson", "'{secret}'"),
        ("read_json_objects", "'{secret}'"),
        ("read_parquet", "'{secret}'"),
        ("read_duckdb", "'{db}', table_name = 'runs'"),
        ("parquet_scan", "'{secret}'"),
        ("parquet_metadata", "'{secret}'"),
        ("parquet_schema", "'{secret}'"),
        ("parquet_kv_metadata", "'{secret}'"),
        ("glob", "'{home}/*'"),
        ("glob", "'/**'"),
        ("sniff_csv", "'{secret}'"),
        ("checkpoint", ""),
        ("force_checkpoint", ""),
        ("enable_logging", ""),
        ("enable_logging", "storage = 'file', storage_path = '{db}'"),
        ("enable_logging", "storage = 'file', storage_path = '{outside}/log'"),
        ("enable_profiling", "save_location = '{db}'"),
        ("enable_profiling", "format = 'json', save_location = '{outside}/profile'"),
        ("disable_logging", ""),
        ("truncate_duckdb_logs", ""),
        ("duckdb_logs", ""),
        ("duckdb_secrets", ""),
        ("which_secret", "'s3://x', 's3'"),
        ("duckdb_extensions", ""),
        ("duckdb_temporary_files", ""),
        ("pragma_metadata_info", ""),
        ("destroy_external_resource", "'checkpoint', 'x'"),
        ("python_map_function", "(SELECT 1)"),
        ("test_all_types", ""),
    )
]
STATEMENTS = [*WRITES, *WRAPPED, *CHANGES, *CALLED]

READS = [
    "SELECT 1 AS a",
    "FROM runs",
    "TABLE runs",
    "VALUES (1)",
    "WITH x AS (SELECT 1 AS a) FROM x UNION ALL FROM x ORDER BY ALL",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) FROM r",
    "DESCRIBE runs",
    "SHOW TABLES",
    "SUMMARIZE runs",
    "EXPLAIN SELECT 1",
    "EXPLAIN SELECT 1; SELECT 2;",
    "SELECT * FROM (PIVOT (SELECT 1 AS a, 2 AS b) ON a IN (1, 2) USING sum(b))",
    "SELECT * FROM range(3) AS t(a), LATERAL (SELECT a + 1)",
    "SELECT unnest([1, 2]), 'COPY x TO y; DROP TABLE runs' AS text",
    "SELECT * FROM json_each('[1, 2]')",
    "SELECT column_name FROM information_schema.columns LIMIT 1",
    "FROM duckdb_settings() LIMIT 1",
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """An empty home; the folder above it holds all that a statement could leave or read."""
    for folder in ("cwd", "user", "outside", "temp"):
        (tmp_path / folder).mkdir()
    (tmp_path / "outside" / "secret.csv").write_text(f"a\n{SECRET}\n")
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temp"))
    at = Home(tmp_path / "home")
    with open_writer(at.database):
        pass
    yield at


def filled(sql: str, home: Home) -> str:
    outside = home.path.parent / "outside"
    for name, value in (
        ("db", home.database), ("home", home.path), ("outside", outside),
        ("secret", outside / "secret.csv"),
    ):  # fmt: skip
        sql = sql.replace(f"{{{name}}}", str(value))
    return sql


def test_no_statement_changes_a_byte(home: Home) -> None:
    assert len(set(STATEMENTS)) >= 120
    before = tree(home.path.parent)
    with open_reader(home.database) as con:
        for sql in STATEMENTS:
            with pytest.raises(QueryError) as refused:
                query(con, filled(sql, home))
            assert "\n" not in str(refused.value), sql
            assert tree(home.path.parent) == before, sql
    assert tree(home.path.parent) == before


@pytest.mark.parametrize("sql", [WRITES[0], WRITES[9], *WRAPPED[:8], CHANGES[2], CALLED[10]])
def test_every_door_has_the_gate(home: Home, sql: str) -> None:
    before = tree(home.path.parent)
    costs = Costs(0, 0, 0, 0, 0, 0, None, None, None, None)
    with pytest.raises(QueryError):
        NumbersResult("r", home.path, (), costs, ()).query(filled(sql, home))
    for given, stdin in ((filled(sql, home), None), ("-", filled(sql, home))):
        done = CliRunner().invoke(main, ["query", given, "--home", str(home.path)], input=stdin)
        assert (done.exit_code, done.stdout) == (2, ""), done.output
        assert len(done.stderr.splitlines()) == 1
    assert tree(home.path.parent) == before


@pytest.mark.long
def test_the_wall_holds_without_the_gate(home: Home) -> None:
    before = tree(home.path.parent)
    for sql in STATEMENTS:
        said = ""
        with open_reader(home.database) as con, suppress(duckdb.Error):
            said = str(con.execute(filled(sql, home)).fetchall())
        assert SECRET not in said, sql
        assert tree(home.path.parent) == before, sql


def test_what_only_reads_is_answered(home: Home) -> None:
    with open_reader(home.database) as con:
        for sql in READS:
            assert query(con, sql).num_columns, sql
        assert query(con, "SELECT $a::INT AS a", {"a": "7"}).to_pylist() == [{"a": 7}]
        several = query(con, "SELECT $a; SELECT $a::INT + $b::INT AS c", {"a": "1", "b": "2"})
        assert several.to_pylist() == [{"c": 3}]
        for wrong in ({}, {"a": "1", "b": "2"}, {"b": "1"}):
            with pytest.raises(QueryError):
                query(con, "SELECT $a", wrong)


@pytest.mark.parametrize("rows", [10, 5_000_000])
def test_what_fails_early_or_late_is_one_sentence(home: Home, rows: int) -> None:
    sql = f"SELECT CASE WHEN range = {rows - 1} THEN 'x' ELSE '1' END::INT FROM range({rows})"
    with open_reader(home.database) as con:
        with pytest.raises(QueryError, match="Could not convert string 'x'") as refused:
            query(con, sql)
        assert "\n" not in str(refused.value) and "LINE" not in str(refused.value)


def test_table_functions_are_of_the_list_only(home: Home) -> None:
    """Also those that a later DuckDB brings: what is not known to be harmless is refused."""
    with open_reader(home.database) as con:
        found = con.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() "
            "WHERE function_type IN ('table', 'table_macro')"
        ).fetchall()
        names = {name for (name,) in found}
        assert names >= TABLE_FUNCTIONS, "a name on the list that DuckDB does not have"
        for name in sorted(names - TABLE_FUNCTIONS):
            with pytest.raises(QueryError, match="not allowed here"):
                query(con, f'FROM "{name}"()')


def test_a_big_query_leaves_no_temporary_file(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracelab.store.connect.memory_bytes", lambda: 64 * 2**20)
    before = tree(home.path.parent)
    sql = "SELECT * FROM range(500000) AS t(a) ORDER BY md5(a::VARCHAR) || repeat('x', 1000)"
    with open_reader(home.database) as con, pytest.raises(QueryError, match="GiB of memory"):
        query(con, f"SELECT count(*) FROM (SELECT row_number() OVER () AS n, * FROM ({sql}))")
    assert tree(home.path.parent) == before


def test_a_result_larger_than_memory_is_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "memory_bytes", lambda: 2**20)
    with open_reader(home.database) as con, pytest.raises(QueryError, match="GiB of memory"):
        query(con, "SELECT * FROM range(100000000000)")


@pytest.mark.parametrize("sql", [ENDLESS, "SELECT sleep_ms(600000)"])
def test_a_deadline_stops_an_endless_query(home: Home, sql: str) -> None:
    with open_reader(home.database) as con:
        with pytest.raises(QueryError, match=r"stopped after 0\.2 s"):
            query(con, sql, timeout_s=0.2)
        assert query(con, "SELECT 1 AS a").num_rows == 1


def test_ctrl_c_stops_a_query(home: Home) -> None:
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    with open_reader(home.database) as con:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            query(con, ENDLESS)
        assert query(con, "SELECT 1 AS a").num_rows == 1


def test_only_a_statement_that_cannot_be_stopped_is_left_behind(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that fails just after a query ended must not end its process at once."""
    ended = threading.Event()

    class Slow(threading.Thread):
        def run(self) -> None:
            super().run()
            ended.wait()

    monkeypatch.setattr(threading, "Thread", Slow)
    with open_reader(home.database) as con:
        query(con, "SELECT 1")
        assert not reading.left_behind(), "its thread lives, but there is nothing to wait for"
        monkeypatch.setattr(reading, "STOP_S", 0.0)
        going, goes_on = threading.Event(), threading.Event()

        class Cursor:
            def interrupt(self) -> None:
                going.set()

        reading._stop(Cursor(), goes_on)  # type: ignore[arg-type]
        assert going.is_set() and reading.left_behind()
        goes_on.set()
        assert not reading.left_behind()
    ended.set()


@pytest.mark.slow
def test_ctrl_c_of_the_command_is_one_line_and_exit_130(home: Home) -> None:
    # Marks the moment at which the query runs; then the command is interrupted as by a terminal.
    script = (
        # Where the tests run in the background, a child would inherit that Ctrl-C is ignored.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import sys; from tracelab.store import reading; from tracelab.cli import main;"
        "fetch = reading._fetch;"
        "reading._fetch = lambda r: (print('running', flush=True), fetch(r))[1]; main()"
    )
    command = [sys.executable, "-c", script, "query", ENDLESS, "--home", str(home.path)]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        out, said = process.communicate()
    assert (process.returncode, out, said) == (130, "", "tracelab: interrupted\n")
