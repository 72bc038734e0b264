"""The queries of `docs/sql.md` that estimate something, against the same worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pytest
from scipy.stats import t as student

from tests.test_docs import blocks
from tests.view import world
from tracelab.store.connect import open_reader, open_writer
from tracelab.store.query import query

QUESTIONS = 9
Score = tuple[str, float | None, float, float, str]


def doc(marker: str) -> str:
    """The one query of the page that has this in it."""
    (sql,) = [q for q in blocks("sql.md", "sql") if marker in q]
    return sql


def scores_of(question: int) -> list[Score]:
    """Category, value, ends and status of the sentences of the two traces of a question."""
    rng = np.random.default_rng(question)
    shift = rng.normal(0, 0.2)  # what the sentences of one question share
    rows: list[Score] = []
    for _ in range(2):
        for category in ("plan_generation", "self_checking"):
            v = float(0.1 + shift + rng.normal(0, 0.05))
            rows.append((category, v, v - 0.1, v + 0.1, "ok"))
        rows.append(("plan_generation", None, -0.02, 0.02, "certified"))
        rows.append(("plan_generation", None, -1.0, 1.0, "insufficient"))
    return rows


def fill(con: duckdb.DuckDBPyConnection, run: str, flips: int) -> None:
    """A run of two traces a question; `flips` makes so many of the second ones wrong."""
    world.insert(con, "runs", [{"run_id": run, "name": run, "model": f"model {run}"}])
    tables: dict[str, list[dict[str, Any]]] = {
        n: [] for n in ("traces", "turns", "units", "scores")
    }
    for q in range(QUESTIONS):
        rows = scores_of(q)
        for k in range(2):
            trace = f"{q}{k}"
            one = {"run_id": run, "trace_id": trace}
            right = q % 2 == 0 and not (k == 1 and q < flips)
            tables["traces"].append({**one, "name": trace, "n_units": 4, "success": right})
            for i, (role, text) in enumerate([("user", f"Question {q}?"), ("assistant", "So.")]):
                tables["turns"].append({**one, "turn_index": i, "role": role, "text": text})
            for i, (category, value, lo, hi, status) in enumerate(rows[4 * k : 4 * k + 4]):
                unit = {"unit_kind": "sentence", "unit_index": i}
                (u,) = world.units(trace, "sentence", ["So."], category=category)
                tables["units"].append({**u, **one, **unit})
                tables["scores"].append(
                    {
                        **one, **unit, "method": "resample-pooled", "metric": "delta_value",
                        "value": value, "lo": lo, "hi": hi, "status": status,
                    }
                )  # fmt: skip
    for table, given in tables.items():
        world.insert(con, table, given)


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    path = tmp_path_factory.mktemp("sql") / "w.duckdb"
    with open_writer(path) as writer:
        fill(writer, "a", 0)
        fill(writer, "b", 5)
        world.insert(writer, "runs", [{}])
        world.context(writer)  # of the run `study`
        writer.execute(
            "UPDATE scores SET value = 0.1, lo = -0.2, hi = 0.4, status = 'ok' "
            "WHERE target = 'sentence:1' AND unit_index = 2"
        )
    with open_reader(path) as reader:
        yield reader


def test_categories_have_intervals_clustered_by_question(con: duckdb.DuckDBPyConnection) -> None:
    found = {r["category"]: r for r in query(con, doc("undecided"), {"run": "a"}).to_pylist()}
    assert set(found) == {"plan_generation", "self_checking"}
    for category, row in found.items():
        effects, bounds, clusters = [], [], []
        for q in range(QUESTIONS):
            for c, value, lo, hi, status in scores_of(q):
                if c == category and status != "insufficient":
                    effects.append((lo + hi) / 2 if value is None else value)
                    bounds.append((hi - lo) / 2 if value is None else 0.0)
                    clusters.append(q)
        x, g = np.array(effects), np.array(clusters)
        off = np.array([(x[g == q] - x.mean()).sum() for q in range(QUESTIONS)])
        error = np.sqrt(QUESTIONS / (QUESTIONS - 1) * (off**2).sum()) / len(x)
        half = student.ppf(0.975, QUESTIONS - 1) * error
        assert (row["sentences"], row["questions"]) == (len(x), QUESTIONS)
        assert row["mean_effect"] == pytest.approx(x.mean())
        assert row["mean_size"] == pytest.approx(np.abs(x).mean())
        assert row["undecided"] == pytest.approx(np.mean(bounds))
        assert row["hi"] - row["mean_effect"] == pytest.approx(half + np.mean(bounds), rel=0.002)
        assert row["mean_effect"] - row["lo"] == pytest.approx(half + np.mean(bounds), rel=0.002)
        # Independent sentences would have a much narrower interval.
        assert half > 1.3 * student.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    assert found["plan_generation"]["sentences"] == 4 * QUESTIONS  # certified ones included
    assert found["plan_generation"]["not_measured"] == 2 * QUESTIONS


def test_unused_spans_are_those_shown_to_be(con: duckdb.DuckDBPyConnection) -> None:
    """Kale is used; oak and rain are not for what was measured, but one statement was not."""
    sql = doc("min(lo) > -0.5")
    assert query(con, sql, {"run": "study"}).num_rows == 0
    measured = sql.replace("WHERE run_id", "WHERE target <> 'sentence:2' AND run_id")
    # Oak's interval reaches to 0.5: that it is smaller is not shown.
    assert query(con, measured, {"run": "study"}).column("span").to_pylist() == [" It rains."]
    wider = measured.replace("0.5", "0.6")
    found = query(con, wider, {"run": "study"}).column("span").to_pylist()
    assert found == [" Oak adds 1.", " It rains."]


def test_models_are_compared_by_question(con: duckdb.DuckDBPyConnection) -> None:
    (row,) = query(con, doc("better, worse"), {"before": "a", "after": "b"}).to_pylist()
    before = np.array([float(q % 2 == 0) for q in range(QUESTIONS)])
    after = before - np.array([0.5 if q % 2 == 0 and q < 5 else 0.0 for q in range(QUESTIONS)])
    change = after - before
    half = student.ppf(0.975, QUESTIONS - 1) * change.std(ddof=1) / np.sqrt(QUESTIONS)
    assert (row["questions"], row["better"], row["worse"]) == (QUESTIONS, 0, 3)
    assert (row["before"], row["after"]) == pytest.approx((before.mean(), after.mean()))
    assert row["change"] == pytest.approx(change.mean())
    assert row["hi"] - row["change"] == pytest.approx(half, rel=0.002)
    assert row["change"] - row["lo"] == pytest.approx(half, rel=0.002)


@pytest.mark.parametrize("df", [2, 3, 5, 30])
def test_the_series_for_students_t_is_as_close_as_the_page_says(df: int) -> None:
    series = 1.960 + 2.372 / df + 2.823 / df**2 + 2.556 / df**3
    assert series == pytest.approx(student.ppf(0.975, df), rel=0.035 if df == 2 else 0.01)
