"""The SQL of the warehouse: every file runs, says what it claims, and is documented.

One small world, worked out by hand below, is loaded the way a run loads it. A check is worth
something only if it can fail, so each is shown to: on a copy without constraints, one thing is
broken and exactly that check must notice.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st

from tracelab.core.errors import QueryError, WarehouseError
from tracelab.core.finding import Link, Score
from tracelab.core.rows import ItemRow, RolloutRow
from tracelab.core.trace import TokenizedTrace, Trace, Turn, tokenized_units
from tracelab.stats.divergence import fdr_adjust
from tracelab.store import named
from tracelab.store.connect import open_reader, open_writer, sql_dir
from tracelab.store.export import export, snapshot
from tracelab.store.load import (
    LoadedTrace,
    RejectRow,
    RunRow,
    SessionRow,
    load_links,
    load_rejects,
    load_rows,
    load_run,
    load_scores,
    load_session,
    load_traces,
)
from tracelab.store.named import named_queries
from tracelab.store.query import check, metric_checks, query, schema, schema_markdown

FILES = sorted(sql_dir().rglob("*.sql"))
GENERATED = [name for name, *_ in metric_checks()]
CHECKS = sorted([*(p.stem for p in (sql_dir() / "checks").glob("*.sql")), *GENERATED])
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def loaded_trace(response: str, name: str) -> LoadedTrace:
    """Words are tokens, and what ends with a stop is a sentence."""
    trace = Trace((Turn("user", "6 + 1?"), Turn("assistant", response)), name, answer="7")
    starts = tuple(m.start() for m in re.finditer(r"\s*\S+", response))
    tokens = TokenizedTrace(trace, (1, 2, 3), tuple(range(len(starts))), starts)
    spans = [m.span() for m in re.finditer(r"[^.]+\.", response)]
    roles = ["plan", *[None] * (len(spans) - 1)]
    return LoadedTrace(tokens, tokenized_units(tokens, spans, roles=roles), "stops-v1")


# Two words a sentence: boundaries 0, 1, 2, 3 are at tokens 0, 2, 4, 6.
ONE = loaded_trace("Plan A. Try it. So 7.", "one")
TWO = loaded_trace("Plan B. Try it. So 8.", "two")
ID1, ID2 = ONE.tokens.trace.trace_id, TWO.tokens.trace.trace_id


def rollout(
    trace_id: str,
    key: str,
    replicate: int,
    boundary: int,
    diverge: int,
    answer: str | None,
    **changes: Any,
) -> RolloutRow:
    given: dict[str, Any] = {
        "trace_id": trace_id,
        "item_key": key,
        "replicate": replicate,
        "start_boundary": boundary,
        "start_token": 2 * boundary,
        "diverge_token": diverge,
        "text": f"sample {key} {replicate}",
        "answer": answer,
        "reward": None if answer is None else float(answer == "7"),
        "grade_status": "ungraded" if answer is None else "graded",
        "grade_detail": None,
        "finish_reason": "stop",
        "error": None,
        "n_tokens": 6,
    }
    return RolloutRow(**(given | changes))


ROLLOUTS = [
    # Both traces start alike, so they share the four samples of k0; only where they part differs.
    # Replicate 2 writes the first trace up to token 3, hence past boundary 1 (token 2).
    rollout(ID1, "k0", 0, 0, 0, "7"),
    rollout(ID1, "k0", 1, 0, 1, "8"),
    rollout(ID1, "k0", 2, 0, 3, "7"),
    rollout(ID1, "k0", 3, 0, 1, "8"),
    rollout(ID2, "k0", 0, 0, 0, "7"),
    rollout(ID2, "k0", 1, 0, 1, "8"),
    rollout(ID2, "k0", 2, 0, 1, "7"),
    rollout(ID2, "k0", 3, 0, 2, "8"),
    rollout(ID1, "k1", 0, 1, 2, "7"),
    rollout(ID1, "k1", 1, 1, 2, "7"),
    rollout(ID1, "k2", 0, 2, 5, "7"),
    rollout(ID1, "k2", 1, 2, 4, None, finish_reason="error", error="dead: gone", n_tokens=0),
    rollout(ID1, "k3", 0, 3, 6, "unanswered", grade_status="unanswered", n_tokens=1),
    rollout(ID1, "k3", 1, 3, 6, None, grade_detail="the grader gave up", n_tokens=1),
]
ITEMS = [
    ItemRow(ID1, "k0", 0, 0, 4),
    ItemRow(ID2, "k0", 0, 0, 4),
    ItemRow(ID1, "k1", 1, 2, 2),
    ItemRow(ID1, "k2", 2, 4, 2),
    ItemRow(ID1, "k3", 3, 6, 2),
]


def score(kind: Any, index: int, metric: str, value: float | None, n: int, **changes: Any) -> Score:
    given: dict[str, Any] = {
        "trace_id": ID1,
        "unit_kind": kind,
        "unit_index": index,
        "method": "resample",
        "metric": metric,
        "value": value,
        "lo": None if value is None else max(value - 0.25, -1.0 if metric != "value" else 0.0),
        "hi": None if value is None else min(value + 0.25, 1.0),
        "level": 0.95,
        "n": n,
        "status": "insufficient" if value is None else "ok",
    }
    return Score(**(given | changes))


SCORES = [
    score("boundary", 0, "value", 0.5, 4),
    score("boundary", 1, "value", None, 3),
    score("boundary", 2, "value", None, 1),
    score("boundary", 3, "value", None, 1),
    score("sentence", 0, "delta_value", 0.5, 7),
    score("sentence", 1, "delta_value", None, 4),
    score("sentence", 2, "delta_value", -0.75, 6),
    score("boundary", 0, "value", 0.5, 4, trace_id=ID2),
    score("sentence", 0, "delta_value", 0.25, 5, trace_id=ID2),
]


def load_world(con: duckdb.DuckDBPyConnection) -> None:
    load_run(
        con,
        RunRow(
            run_id="r1",
            name="demo",
            study="anchors",
            engine="scripted",
            config={},
            config_digest="d",
            tracelab_version="0",
            seed=0,
            status="complete_with_errors",
            started_at=NOON,
            finished_at=NOON,
        ),
    )
    first = SessionRow("s1", NOON, 2.0, 1.0, 100, 60, 40, 5, 1)
    load_session(con, "r1", first)
    load_session(con, "r1", SessionRow("s2", NOON, 3.0, None, 50, None, 10, 5, 0))
    load_traces(con, "r1", [ONE, TWO])
    load_rows(con, "r1", ITEMS)
    load_rows(con, "r1", ROLLOUTS)
    load_scores(con, "r1", SCORES, estimator_version="1")
    link = Link(ID1, "sentence", 0, 2, "resample", "link", 0.4, 0.1, 0.6, 0.95, 9, "ok")
    load_links(con, "r1", [link], estimator_version="1")
    lines = [RejectRow("a.jsonl", n, "is not JSON", f"record {n}") for n in (7, 3)]
    load_rejects(con, "r1", [*lines, RejectRow("b.jsonl", 0, "is empty")])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A reader of the world above."""
    path = tmp_path_factory.mktemp("world") / "tracelab.duckdb"
    with open_writer(path) as con:
        load_world(con)
    with open_reader(path) as con:
        yield con


def constraint_free(world: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """A copy in memory that accepts anything."""
    con = duckdb.connect()
    for table in schema(world):
        if table.kind == "table":
            con.register("rows", world.sql(f"FROM {table.name}").to_arrow_table())
            con.execute(f"CREATE TABLE {table.name} AS FROM rows")
            con.unregister("rows")
    for file in sorted((sql_dir() / "views").glob("*.sql")):
        con.execute(file.read_text())
    return con


def rows(con: duckdb.DuckDBPyConnection, sql: str, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = query(con, sql, params).to_pylist()
    return found


# Files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_file_parses_and_is_portable_text(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.endswith("\n") and "\t" not in text
    assert sqlglot.parse(text, dialect="duckdb")


def test_the_world_passes_every_check(world: duckdb.DuckDBPyConnection) -> None:
    results = check(world)
    assert [r.name for r in results] == CHECKS
    assert [r for r in results if r.violations] == []
    assert all(r.description.endswith(".") for r in results)


def test_an_empty_warehouse_passes_every_check(tmp_path: Path) -> None:
    with open_writer(tmp_path / "empty.duckdb") as con:
        assert not any(r.violations for r in check(con))


# Checks -------------------------------------------------------------------------------------------

DELTA = "method = 'resample' AND metric = 'delta_value' AND unit_index = 0"
START = "unit_kind = 'boundary' AND unit_index = 0"
LINK = """
    INSERT INTO links
    SELECT
        'r1', trace_id, 'sentence', 0, 1, 'resample', 'link', {0}, {1}, {2}, 0.95, 9, '{3}',
        'executed', '1', '{{}}'
    FROM traces WHERE name = 'one'
"""
TARGET = "INSERT INTO targets SELECT run_id, trace_id, 'response', 0, 'response', 'x', NULL, 1,"
SCORED = "'logprob', NULL, NULL"
VIOLATIONS = [
    ("keys_unique", "INSERT INTO sessions FROM sessions"),
    ("runs_known", "INSERT INTO sessions SELECT * REPLACE ('gone' AS run_id) FROM sessions"),
    ("runs_known", "INSERT INTO turns SELECT * REPLACE ('gone' AS trace_id) FROM turns LIMIT 1"),
    ("runs_complete", "DELETE FROM rollouts WHERE error IS NOT NULL"),
    ("runs_complete", "DELETE FROM items WHERE item_key = 'k2'"),
    ("runs_complete", "UPDATE items SET replicates = 1 WHERE item_key = 'k3'"),
    ("runs_errors_counted", "UPDATE runs SET status = 'complete'"),
    ("traces_whole", "UPDATE traces SET n_units = 9"),
    ("traces_whole", "DELETE FROM turns WHERE turn_index = 0"),
    ("units_tile", "UPDATE units SET text = 'other' WHERE unit_index = 1"),
    ("units_tile", "UPDATE units SET start_char = start_char + 1 WHERE unit_index = 0"),
    ("units_tile", "UPDATE units SET end_char = end_char - 1, text = text[:-2]"),
    ("rollouts_placed", "UPDATE items SET start_boundary = 9 WHERE item_key = 'k0'"),
    ("rollouts_placed", "UPDATE rollouts SET start_boundary = 1 WHERE item_key = 'k0'"),
    ("rollouts_diverge", "UPDATE rollouts SET diverge_token = 0 WHERE error IS NOT NULL"),
    ("rollouts_diverge", "UPDATE rollouts SET diverge_token = 99 WHERE item_key = 'k3'"),
    ("rollouts_graded", "UPDATE rollouts SET answer = NULL WHERE item_key = 'k1'"),
    ("rollouts_graded", "UPDATE rollouts SET reward = 'nan' WHERE item_key = 'k1'"),
    ("rollouts_graded", "UPDATE rollouts SET reward = 0 WHERE error IS NOT NULL"),
    (
        "rollouts_shared",
        "UPDATE rollouts SET text = trace_id WHERE item_key = 'k0' AND replicate = 0",
    ),
    ("scores_finite", f"UPDATE scores SET value = 'nan' WHERE {DELTA}"),
    ("scores_finite", f"UPDATE scores SET hi = 'infinity' WHERE {DELTA}"),
    ("scores_finite", "UPDATE scores SET status = 'ok' WHERE value IS NULL AND n >= 4"),
    ("scores_finite", LINK.format("'nan'::DOUBLE", 0, 1, "ok")),
    ("scores_intervals", f"UPDATE scores SET lo = value + 0.125 WHERE {DELTA}"),
    ("scores_intervals", f"UPDATE scores SET lo = NULL WHERE {DELTA}"),
    ("scores_intervals", f"UPDATE scores SET level = 1 WHERE {DELTA}"),
    ("scores_intervals", LINK.format(0.5, 0.6, 0.7, "ok")),
    ("scores_missing_are_null", "UPDATE scores SET value = 0 WHERE status = 'insufficient'"),
    ("scores_missing_are_null", LINK.format(0, 0, 0, "failed")),
    ("scores_units_exist", f"UPDATE scores SET unit_index = 50 WHERE {DELTA}"),
    (
        "scores_units_exist",
        f"UPDATE scores SET unit_index = 50, method = 'm' WHERE {START}",
    ),
    ("metrics_bounded", f"UPDATE scores SET value = 1.5, hi = 1.5 WHERE {START}"),
    ("metrics_bounded", f"UPDATE scores SET lo = -1.5 WHERE {DELTA}"),
    ("scores_observed", f"UPDATE scores SET n = 3 WHERE {DELTA}"),
    ("scores_observed", LINK.replace("0.95, 9", "0.95, 0").format(0.5, 0.4, 0.6, "ok")),
    (
        "scores_observed",
        "INSERT INTO faithfulness SELECT run_id, trace_id, 'm', 'response', 'lds', 0, 0, 'ok', '1'"
        " FROM traces LIMIT 1",
    ),
    ("scores_n", f"UPDATE scores SET n = n + 1 WHERE {START}"),
    ("metrics_declared", LINK.replace("'link'", "'nosuch'").format(0.5, 0.4, 0.6, "ok")),
    ("targets_labelled", f"{TARGET} -1.0, NULL, NULL, 'grounded', 0, {SCORED} FROM traces"),
    ("targets_labelled", f"{TARGET} -1.0, -2.0, NULL, 'insufficient', 0, {SCORED} FROM traces"),
    (
        "targets_labelled",
        f"{TARGET} NULL, NULL, NULL, 'memory', 0, 'answer', 0.9, NULL FROM traces",
    ),
    ("targets_labelled", f"{TARGET} 0.5, -2.0, NULL, 'grounded', 0, {SCORED} FROM traces"),
    ("targets_labelled", f"{TARGET} -1.0, -1.0, NULL, 'memory', 0, {SCORED} FROM traces"),
    (
        "targets_scored",
        "INSERT INTO units BY NAME SELECT run_id, trace_id, 'span' AS unit_kind, 0 AS unit_index,"
        " 's' AS segmenter, 0 AS start_char, 0 AS end_char, 0 AS start_token, 0 AS end_token,"
        " '' AS text FROM traces; UPDATE traces SET n_units = n_units + 1",
    ),
    (
        "verdicts_steps",
        "INSERT INTO verdicts SELECT run_id, trace_id, 'm', 'executed', 'localized', 0, '', 1,"
        " '[0]', NULL, NULL, NULL, 0, '{}', NULL, 'agent', '', 0, NULL, NULL FROM"
        " traces LIMIT 1",
    ),
    (
        "verdicts_steps",
        "INSERT INTO verdicts SELECT run_id, trace_id, 'm', 'executed', 'localized', NULL, '',"
        " NULL, '[]', NULL, NULL, NULL, 0, '{}', NULL, 'agent', '', 0, NULL, NULL FROM"
        " traces LIMIT 1",
    ),
    # An ungraded rollout was counted.
    ("scores_n", "UPDATE scores SET n = 2 WHERE unit_kind = 'boundary' AND unit_index = 3"),
]


@pytest.mark.parametrize(("name", "damage"), VIOLATIONS)
def test_each_check_notices_its_own_violation_and_no_other(
    world: duckdb.DuckDBPyConnection, name: str, damage: str
) -> None:
    with constraint_free(world) as con:
        con.execute(damage)
        failed = {r.name: r for r in check(con) if r.violations}
    assert list(failed) == [name]
    assert 0 < len(failed[name].sample_rows) <= failed[name].violations


def test_every_check_is_shown_to_fail() -> None:
    assert sorted({name for name, _ in VIOLATIONS}) == CHECKS


def test_a_doubled_key_is_noticed_in_every_table(world: duckdb.DuckDBPyConnection) -> None:
    with constraint_free(world) as con:
        con.execute(LINK.format(0.5, 0.4, 0.6, "ok"))
        con.execute("INSERT INTO probes SELECT 'r1', 't', 'k', 'step', 0, '', '', 0, 1, 0, NULL")
        con.execute(
            "INSERT INTO masked_answers SELECT 'r1', 't', 'k', 0, 0, '', 'x', '[1]', '7', 1,"
            " 'graded', NULL, 'stop', NULL, 1, NULL"
        )
        con.execute("INSERT INTO spans SELECT 'r1', 't', 0, 0, 0, 1, 0, 0, false")
        con.execute(f"{TARGET} -1.0, -2.0, NULL, 'grounded', 0, {SCORED} FROM traces LIMIT 1")
        con.execute(
            "INSERT INTO faithfulness SELECT 'r1', 't', 'm', 'response', 'lds', 0, 1, 'ok', '1'"
        )
        con.execute(
            "INSERT INTO pruned SELECT 'r1', 't', 1, '[0]', 2, 9, 5, 'x', true, 0.0, 'ok', NULL"
        )
        con.execute(
            "INSERT INTO verdicts SELECT 'r1', 't', 'm', 'judged', 'ambiguous', 0, '', 1, '[]',"
            " 1, 1, '', 0, '{}', NULL, 'agent', '', 0, NULL, NULL"
        )
        con.execute("INSERT INTO episodes SELECT 'r1', 't', 'f', NULL, NULL, 1, NULL, NULL, NULL")
        con.execute("INSERT INTO steps SELECT 'r1', 't', 0, 'llm', NULL, NULL, NULL, '[]'")
        con.execute(
            "INSERT INTO tool_calls SELECT 'r1', 't', 0, 0, 'c', 'f', '{}', NULL, NULL, NULL, false"
        )
        con.execute(
            "INSERT INTO reruns SELECT 'r1', 't', 0, 0, NULL, 1, false, false, NULL, 1, '[]'"
        )
        con.execute("INSERT INTO readings SELECT 'r1', 'f', 'read', 'traces', 1")
        for table in schema(world):
            if table.kind == "view" or table.name == "schema_migrations":
                continue
            con.execute(f"CREATE OR REPLACE TEMP TABLE kept AS FROM main.{table.name}")
            con.execute(f"INSERT INTO {table.name} FROM {table.name}")
            found = next(r for r in check(con) if r.name == "keys_unique")
            assert {r["in_table"] for r in found.sample_rows} == {table.name}
            con.execute(f"DELETE FROM {table.name}; INSERT INTO {table.name} FROM kept")


def test_recycling_switched_off_is_no_violation(world: duckdb.DuckDBPyConnection) -> None:
    with constraint_free(world) as con:
        con.execute("UPDATE scores SET n = 2 WHERE unit_kind = 'boundary' AND unit_index = 1")
        assert not any(r.violations for r in check(con))


# Views --------------------------------------------------------------------------------------------


def test_anchors_are_ranked_by_size_and_the_unmeasured_come_last(
    world: duckdb.DuckDBPyConnection,
) -> None:
    found = rows(
        world,
        "SELECT rank, unit_index, value, status, text, role FROM anchors WHERE trace_name = 'one'",
    )
    assert [(r["rank"], r["unit_index"], r["value"], r["status"]) for r in found] == [
        (1, 2, -0.75, "ok"),
        (2, 0, 0.5, "ok"),
        (None, 1, None, "insufficient"),
    ]
    assert (found[1]["text"], found[1]["role"]) == ("Plan A.", "plan")
    assert rows(world, "SELECT rank, value FROM anchors WHERE trace_name = 'two'") == [
        {"rank": 1, "value": 0.25}
    ]


def test_across_traces_p_is_adjusted_over_the_run(
    world: duckdb.DuckDBPyConnection,
) -> None:
    """Ties, and a sentence without a p, which is no test."""
    with constraint_free(world) as con:
        p = {(ID1, 0): 0.01, (ID1, 1): 0.04, (ID1, 2): None, (ID2, 0): 0.04, (ID2, 1): 0.9}
        one = "FROM scores WHERE trace_id = ? AND unit_index = 0 AND metric = 'delta_value'"
        con.execute(f"CREATE TEMP TABLE t AS {one}", [ID1])
        con.execute("DELETE FROM scores")
        for (trace, i), at in p.items():
            con.execute(
                "INSERT INTO scores SELECT * REPLACE (? AS trace_id, ? AS unit_index, "
                "CAST(? AS JSON) AS extra) FROM t",
                [trace, i, json.dumps({} if at is None else {"p": at})],
            )
        found = rows(con, "SELECT trace_id, unit_index, p_adjusted_run FROM anchors")
    got = {(r["trace_id"], r["unit_index"]): r["p_adjusted_run"] for r in found}
    tests = {k: v for k, v in p.items() if v is not None}
    want = dict(zip(tests, fdr_adjust(list(tests.values())), strict=True))
    assert got.pop((ID1, 2)) is None
    assert got == pytest.approx(want)


def test_links_across_traces_are_adjusted_over_the_run(
    world: duckdb.DuckDBPyConnection,
) -> None:
    """Of each metric by itself; a link without a p is no test."""
    p = {(0, 1, "link"): 0.02, (0, 2, "link"): 0.03, (1, 2, "link"): None, (0, 1, "other"): 0.5}
    with constraint_free(world) as con:
        con.execute("CREATE TEMP TABLE t AS FROM links WHERE trace_id = ? LIMIT 1", [ID1])
        con.execute("DELETE FROM links")
        for (i, j, metric), at in p.items():
            con.execute(
                "INSERT INTO links SELECT * REPLACE (? AS from_index, ? AS to_index, "
                "? AS metric, CAST(? AS JSON) AS extra) FROM t",
                [i, j, metric, json.dumps({} if at is None else {"p": at})],
            )
        found = rows(con, "SELECT from_index, to_index, metric, p_adjusted_run FROM sentence_links")
    got = {(r["from_index"], r["to_index"], r["metric"]): r["p_adjusted_run"] for r in found}
    assert got.pop((1, 2, "link")) is None
    assert got == pytest.approx({(0, 1, "link"): 0.03, (0, 2, "link"): 0.03, (0, 1, "other"): 0.5})


def test_value_curves_are_in_order_with_what_follows(world: duckdb.DuckDBPyConnection) -> None:
    found = rows(
        world, "SELECT boundary, value, n, next_text FROM value_curves WHERE trace_name = 'one'"
    )
    assert [tuple(r.values()) for r in found] == [
        (0, 0.5, 4, "Plan A."),
        (1, None, 3, " Try it."),
        (2, None, 1, " So 7."),
        (3, None, 1, None),
    ]


def test_answers_of_a_boundary_are_of_rollouts_started_there(
    world: duckdb.DuckDBPyConnection,
) -> None:
    found = rows(
        world,
        "SELECT boundary, answer, n, share FROM answer_distributions WHERE trace_id = $id",
        id=ID1,
    )
    assert [tuple(r.values()) for r in found] == [
        (0, "7", 2, 0.5),
        (0, "8", 2, 0.5),
        (1, "7", 3, 1.0),  # one of them recycled
        (2, "7", 1, 1.0),
        (3, "unanswered", 1, 1.0),
    ]


def test_costs_count_a_shared_sample_once(world: duckdb.DuckDBPyConnection) -> None:
    (cost,) = rows(world, "FROM run_costs")
    distinct = {(r.item_key, r.replicate): r.n_tokens for r in ROLLOUTS}
    assert cost["rollouts"] == len(distinct) == 10
    assert cost["rollout_uses"] == len(ROLLOUTS)
    assert cost["generated_tokens"] == 50 > sum(distinct.values()), "sessions count everything"
    assert (cost["traces"], cost["errors"], cost["ungraded"], cost["rejects"]) == (2, 1, 1, 3)
    assert cost["truncated"] == 0
    assert (cost["sessions"], cost["seconds"], cost["start_seconds"]) == (2, 5.0, 1.0)
    assert (cost["prompt_tokens"], cost["cached_tokens"]) == (150, 60)
    # The second session's engine does not tell, so its prompts say nothing about the cache.
    assert cost["cache_hit_rate"] == 0.6
    assert cost["scores"] == sum(s.value is not None for s in SCORES)
    assert cost["tokens_per_score"] == 50 / cost["scores"]


def test_rejects_are_grouped_by_reason(world: duckdb.DuckDBPyConnection) -> None:
    found = rows(world, "SELECT file, records, first_line, first_excerpt FROM rejected_inputs")
    assert [tuple(r.values()) for r in found] == [
        ("a.jsonl", 2, 3, "record 3"),
        ("b.jsonl", 1, 0, ""),
    ]


def test_what_was_cut_counts_and_is_told(world: duckdb.DuckDBPyConnection) -> None:
    """An answer that the limit of tokens cut off, and re-executions that came to nothing."""
    with constraint_free(world) as con:
        con.execute("UPDATE rollouts SET grade_detail = 'truncated: x' WHERE item_key = 'k3' "
                    "AND replicate = 0")  # fmt: skip
        for k, (error, censored, reward) in enumerate(
            [("truncated: y", False, None), ("died: z", False, None), (None, False, None),
             (None, True, None), (None, False, 1.0)]
        ):  # fmt: skip
            con.execute("INSERT INTO reruns VALUES ('r1', ?, ?, 0, NULL, ?, ?, false, ?, 0, '[]')",
                        [ID1, k, reward, censored, error])  # fmt: skip
        (cost,) = con.execute("SELECT errors, ungraded, truncated FROM run_costs").fetchall()
        assert cost == (2, 2, 2)
        told = {(r["kind"], r["reason"]) for r in rows(con, "failures")}
        assert {("truncated", "truncated: x"), ("truncated", "truncated: y"),
                ("failed", "died: z")} <= told  # fmt: skip
        con.execute("UPDATE runs SET status = 'complete'; DELETE FROM rollouts WHERE error IS NOT "
                    "NULL OR grade_status = 'ungraded'; UPDATE items SET replicates = 1 "
                    "WHERE item_key IN ('k2', 'k3')")  # fmt: skip
        assert [r.name for r in check(con) if r.violations] == ["runs_errors_counted"]


@settings(max_examples=25)
@given(data=st.data())
def test_samples_of_a_boundary_are_the_interval_query(data: st.DataObject) -> None:
    """The view against the definition: start_token <= t <= diverge_token, graded ones only."""
    cuts = sorted(data.draw(st.lists(st.integers(0, 9), min_size=2, max_size=6)))
    starts = st.tuples(st.sampled_from(cuts), st.integers(0, 5), st.booleans())
    drawn = data.draw(st.lists(starts, max_size=10))
    with duckdb.connect() as con:
        for file in sorted((sql_dir() / "migrations").glob("*.sql")):
            con.execute(file.read_text())
        for file in sorted((sql_dir() / "views").glob("*.sql")):
            con.execute(file.read_text())
        con.executemany(
            "INSERT INTO units VALUES "
            "('r', 't', 'sentence', ?, 's', ?, ?, ?, ?, '', NULL, NULL, NULL)",
            [[i, a, b, a, b] for i, (a, b) in enumerate(zip(cuts, cuts[1:], strict=False))],
        )
        load_rows(
            con,
            "r",
            [
                rollout("t", "k", i, 0, s + more, "7" if graded else None, start_token=s)
                for i, (s, more, graded) in enumerate(drawn)
            ],
        )
        found = con.execute("SELECT boundary, count(*) FROM boundary_samples GROUP BY ALL")
        counted = Counter(dict(found.fetchall()))
    for boundary, token in enumerate(cuts):
        assert counted[boundary] == sum(s <= token <= s + m for s, m, graded in drawn if graded)


def test_blame_is_weighted_and_keeps_levels_of_evidence_apart() -> None:
    """One method, two levels: .5 + .2 for the planner and .3 for the worker where executed, .9
    for the worker where replayed. Shares are of their own level, and each adds up to 1."""
    planned, worked = {"agent": "planner"}, {"agent": "worker", "tool": "get"}
    steps = [("t1", 0, planned), ("t1", 2, worked), ("t2", 0, planned), ("t3", 1, worked)]
    blamed = [
        Score(trace, "step", index, "re-execute-pooled", "p_decisive", value, None, None, 0.9, 8,
              "ok", evidence)
        for trace, index, value, evidence in [
            ("t1", 0, 0.5, "executed"), ("t1", 2, 0.3, "executed"), ("t2", 0, 0.2, "executed"),
            ("t3", 1, 0.9, "replayed"),
        ]
    ]  # fmt: skip
    # What is no probability of a step counts for nothing.
    blamed += [
        Score("t1", "step", 0, "re-execute-pooled", "delta_value", -0.7, None, None, 0.9, 8, "ok"),
        Score("t2", "step", 1, "re-execute-pooled", "p_decisive", None, None, None, 0.9, 0,
              "insufficient"),
    ]  # fmt: skip
    with duckdb.connect() as con:
        for folder in ("migrations", "views"):
            for file in sorted((sql_dir() / folder).glob("*.sql")):
                con.execute(file.read_text())
        con.executemany(
            "INSERT INTO steps VALUES ('r', ?, ?, 'llm', ?, ?, NULL, '[]')",
            [[t, i, of["agent"], of.get("tool")] for t, i, of in [*steps, ("t2", 1, planned)]],
        )
        load_scores(con, "r", blamed, estimator_version="1")
        found = con.execute(
            "SELECT evidence, agent, traces, expected_failures, share FROM blame ORDER BY ALL"
        ).fetchall()
    expected = [("executed", "planner", 2, 0.7, 0.7), ("executed", "worker", 1, 0.3, 0.3),
                ("replayed", "worker", 1, 0.9, 1.0)]  # fmt: skip
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    assert [row[3:] for row in found] == [pytest.approx(row[3:]) for row in expected]


# Queries ------------------------------------------------------------------------------------------


def test_every_named_query_runs_and_documents_its_parameters(
    world: duckdb.DuckDBPyConnection,
) -> None:
    sample = {"trace": "one", "sentence": "0", "boundary": "0"}
    for name, found in named_queries().items():
        assert found.description.endswith(".")
        assert {p.name for p in found.params} == set(re.findall(r"\$(\w+)", found.sql))
        given = {p.name: sample[p.name] for p in found.params if p.required}
        # The world has no contexts and no audits; pipelines run these on real runs.
        unseen = (
            "context_effects", "grounding", "suspicious_spans", "pruned", "action_causes",
            "blame", "verdicts", "named_steps",
        )  # fmt: skip
        said: list[str] = []
        found_rows = query(world, name, given, said.append).num_rows
        assert (found_rows == 0) == (name in unseen), name
        assert [s.startswith("no run has") for s in said] == [True] * (name in unseen), name


def test_queries_take_a_trace_by_name_or_id(world: duckdb.DuckDBPyConnection) -> None:
    by_name = query(world, "value_curve", {"trace": "one", "run": "demo"})
    assert by_name.num_rows == 4
    assert query(world, "value_curve", {"trace": ID1, "run": "r1"}) == by_name
    with pytest.raises(QueryError, match="there is no run 'other'; there are: demo"):
        query(world, "value_curve", {"trace": "one", "run": "other"})
    assert query(world, "top_anchors", {"limit": "2"}).column("value").to_pylist() == [-0.75, 0.5]
    assert rows(world, "answers_before_after", trace="one", sentence="0") == [
        {
            "answer": "7",
            "n_before": 2,
            "n_after": 3,
            "share_before": 0.5,
            "share_after": 1.0,
            "change": 0.5,
        },
        {
            "answer": "8",
            "n_before": 2,
            "n_after": 0,
            "share_before": 0.5,
            "share_after": 0.0,
            "change": -0.5,
        },
    ]


def test_an_unsampled_side_has_no_shares(world: duckdb.DuckDBPyConnection) -> None:
    found = rows(world, "answers_before_after", trace="two", sentence="1")
    assert {r["share_after"] for r in found} == {None}
    assert {r["change"] for r in found} == {None}


@pytest.mark.parametrize(
    ("sql", "params", "said"),
    [
        ("top_anchor", {}, "did you mean top_anchors"),
        ("zzz", {}, "there are"),
        ("value_curve", {}, "needs trace"),
        ("costs", {"runn": "x"}, "no parameter 'runn'"),
        ("top_anchors", {"limit": "many"}, "many"),
        ("SELECT $a", {}, "a"),
        ("SELECT 1", {"a": 1}, "a"),
        ("SELEC 1", {}, "SELEC"),
        ("FROM nowhere", {}, "nowhere"),
    ],
)
def test_a_wrong_query_is_one_sentence(
    world: duckdb.DuckDBPyConnection, sql: str, params: dict[str, Any], said: str
) -> None:
    with pytest.raises(WarehouseError) as caught:
        query(world, sql, params)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_parameters_are_bound_not_pasted(world: duckdb.DuckDBPyConnection) -> None:
    hostile = "one') OR 1=1 --"
    with pytest.raises(QueryError, match="there is no trace"):
        query(world, "value_curve", {"trace": hostile})
    sql = "SELECT count(*) AS n FROM traces WHERE name = $name"
    assert rows(world, sql, name=hostile) == [{"n": 0}]


def test_sums_come_as_plain_integers(world: duckdb.DuckDBPyConnection) -> None:
    (row,) = rows(world, "SELECT sum(n_tokens) AS total, 10::HUGEINT ** 30 AS big FROM rollouts")
    assert type(row["total"]) is int
    (row,) = rows(world, "SELECT (170141183460469231731687303715884105727)::HUGEINT // 7 AS big")
    assert row["big"] == 170141183460469231731687303715884105727 // 7


def test_a_statement_without_result_is_an_empty_table(world: duckdb.DuckDBPyConnection) -> None:
    assert query(world, "-- nothing").num_rows == 0


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO rejects VALUES ('r', 'f', 1, 'why', '')",
        "DROP TABLE runs",
        "CREATE TABLE mine AS SELECT 1",
        "COPY runs TO '{target}'",
        "EXPORT DATABASE '{target}'",
        "ATTACH '{target}' AS other",
        "SELECT * FROM read_csv('{source}')",
        "SELECT * FROM '{source}'",
        "SELECT content FROM read_text('{source}')",
        "SELECT * FROM glob('{folder}/*')",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "RESET enable_external_access",
        "FROM secret",
    ],
)
def test_a_reader_cannot_write_or_leave_the_database(
    world: duckdb.DuckDBPyConnection, tmp_path: Path, sql: str
) -> None:
    source, target = tmp_path / "source.csv", tmp_path / "target"
    source.write_text("a\n1\n")
    secret = pyarrow.table({"a": [1]})  # a Python variable is no table either
    with pytest.raises(WarehouseError):
        query(world, sql.format(source=source, target=target, folder=tmp_path))
    assert sorted(tmp_path.iterdir()) == [source] and secret.num_rows == 1


# Export -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "csv", "arrow"])
def test_export_reads_back(world: duckdb.DuckDBPyConnection, tmp_path: Path, kind: Any) -> None:
    written = export(world, tmp_path / "out", kind)
    assert {p.stem for p in written} == {t.name for t in schema(world)}
    assert sorted((tmp_path / "out").iterdir()) == sorted(written)
    for file, n in written.items():
        if kind != "csv":
            read = pyarrow.parquet.read_table if kind == "parquet" else pyarrow.feather.read_table
            table = read(file)
            live = query(world, f"FROM {file.stem}")
            assert table.schema.equals(live.schema), file
            # Views promise no order.
            assert sorted(map(repr, table.to_pylist())) == sorted(map(repr, live.to_pylist())), file
        else:
            table = pyarrow.csv.read_csv(
                file, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True)
            )
        assert table.num_rows == n == query(world, f"FROM {file.stem}").num_rows
        assert table.column_names == query(world, f"FROM {file.stem}").column_names
    assert export(world, tmp_path / "out", kind) == written


def test_a_snapshot_is_the_whole_warehouse(
    world: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.duckdb"
    copy.write_text("it replaces what is there")
    written = snapshot(world, copy)
    assert sorted(tmp_path.iterdir()) == [copy]
    assert written == {
        t.name: query(world, f"FROM {t.name}").num_rows for t in schema(world) if t.kind == "table"
    }
    with duckdb.connect(str(copy), read_only=True) as other:  # any tool, without tracelab
        for table in schema(world):
            there = other.execute(f"FROM {table.name}").fetchall()
            assert sorted(map(repr, there)) == sorted(
                map(repr, world.execute(f"FROM {table.name}").fetchall())
            ), table.name
    with open_reader(copy) as con:
        assert schema_markdown(schema(con)) == schema_markdown(schema(world))
        assert [r for r in check(con) if r.violations] == []
    (tmp_path / "file").write_text("")
    with pytest.raises(WarehouseError, match="cannot"):
        snapshot(world, tmp_path / "file" / "copy.duckdb")


def test_export_of_awkward_text(tmp_path: Path) -> None:
    awkward = 'a,"b"\n\x00\x1b\r\nÉ \U0001f600'
    with open_writer(tmp_path / "w.duckdb") as con:
        load_rejects(con, "r", [RejectRow("f", 1, "why", awkward)])
        export(con, tmp_path, "parquet")
        export(con, tmp_path, "csv")
    assert (
        pyarrow.parquet.read_table(tmp_path / "rejects.parquet").to_pylist()[0]["excerpt"]
        == awkward
    )
    parsed = pyarrow.csv.read_csv(
        tmp_path / "rejects.csv",
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
    )
    assert parsed.to_pylist()[0]["excerpt"] == awkward


def test_export_where_nothing_can_be_written(
    world: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file is in the way")
    with pytest.raises(WarehouseError, match="cannot export"):
        export(world, tmp_path / "out")
    (tmp_path / "there" / "anchors.parquet").mkdir(parents=True)
    with pytest.raises(WarehouseError, match="cannot export"):
        export(world, tmp_path / "there")
    assert [p for p in (tmp_path / "there").iterdir() if p.name.endswith(".part")] == []


# Documentation ------------------------------------------------------------------------------------


def test_every_table_and_column_says_what_it_is(world: duckdb.DuckDBPyConnection) -> None:
    for table in schema(world):
        assert table.comment.endswith("."), table.name
        assert table.key if table.kind == "table" else "Key: (" in table.comment, table.name
        for column in table.columns:
            assert column.comment.endswith("."), f"{table.name}.{column.name}"
            assert "|" not in column.comment, "it would end the cell of a Markdown table"


def test_the_key_a_view_claims_is_one(world: duckdb.DuckDBPyConnection) -> None:
    for table in schema(world):
        if table.kind == "view":
            claimed = re.search(r"Key: \((.*?)\)", table.comment)
            assert claimed, table.name
            distinct = f"SELECT DISTINCT {claimed[1]} FROM {table.name}"
            assert query(world, distinct).num_rows == query(world, f"FROM {table.name}").num_rows


def test_the_readme_is_the_live_schema(world: duckdb.DuckDBPyConnection) -> None:
    """Rewrites the generated parts instead when TRACELAB_REWRITE is set."""
    readme = sql_dir() / "README.md"
    text = readme.read_text(encoding="utf-8")
    parts = {
        "schema": schema_markdown(schema(world)),
        "checks": "".join(f"- `{r.name}`: {r.description}\n" for r in check(world)),
        "queries": "".join(
            f"- `{q.name}`: {q.description}\n"
            + "".join(
                f"  - `{p.name}`: {p.help}"
                + ("" if p.required else f" (default {p.default or 'none'})")
                + "\n"
                for p in q.params
            )
            for q in named_queries().values()
        ),
    }
    fresh = text
    for name, part in parts.items():
        head, _, rest = fresh.partition(f"<!-- {name}: generated")
        marker, _, rest = rest.partition("-->\n")
        _, end, tail = rest.partition(f"<!-- {name}: end -->")
        assert end
        fresh = f"{head}<!-- {name}: generated{marker}-->\n{part}{end}{tail}"
    if os.environ.get("TRACELAB_REWRITE"):
        readme.write_text(fresh, encoding="utf-8")
        return
    assert fresh == text, "run it with TRACELAB_REWRITE=1 and commit warehouse/README.md"


def test_a_query_file_with_an_unreadable_header_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries" / "bad.sql").write_text("-- Says something.\n-- parm x: typo\nSELECT 1\n")
    monkeypatch.setattr(named, "sql_dir", lambda: tmp_path)
    with pytest.raises(WarehouseError, match=r"bad\.sql"):
        named_queries()
