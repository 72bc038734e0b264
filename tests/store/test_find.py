"""What people call runs and traces; the latest run; parameters that do not exist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import tracelab
from tests.helpers import invoke
from tests.view import world
from tracelab.core.errors import QueryError
from tracelab.store.connect import open_reader, open_writer
from tracelab.store.find import find_run, find_trace
from tracelab.store.query import ask, query
from tracelab.view.report.selection import select, trace_key

KALE, OAK, TWIN = "1f520f0000000000", "1f9aaa0000000000", "77aaaa0000000000"


def study(con: duckdb.DuckDBPyConnection, run: str, day: int, status: str, **more: Any) -> None:
    """A run of the 2nd + `day` whose two traces were measured, or of which nothing was yet."""
    began = world.WHEN.replace(day=day)
    world.insert(con, "runs", [{"run_id": run, "name": run, "started_at": began, "status": status}])
    world.insert(
        con, "traces",
        [
            {"run_id": run, "trace_id": t, "name": n, "n_units": 1}
            for t, n in ((KALE, "kale"), (OAK, "oak"), (TWIN, "kale" if run == "twins" else "ash"))
        ],
    )  # fmt: skip
    for t in (KALE, OAK, TWIN):
        unit = world.units(t, "sentence", ["So it is 7."])
        world.insert(con, "units", [{"run_id": run, **u} for u in unit])
        said = {"turn_index": 0, "role": "assistant", "text": "So it is 7."}
        world.insert(con, "turns", [{"run_id": run, "trace_id": t, **said}])
    if more.get("measured", True):
        score = {"unit_kind": "sentence", "unit_index": 0, "metric": "delta_value", "value": 0.5}
        for t in (KALE, OAK, TWIN):
            world.insert(
                con, "scores", [{"run_id": run, "trace_id": t, "method": "resample", **score}]
            )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished, then finished, then broken off with results, then only begun, then only read."""
    folder = tmp_path_factory.mktemp("find")
    with open_writer(folder / "tracelab.duckdb") as con:
        study(con, "twins", 3, "complete")
        study(con, "shop-1", 4, "complete_with_errors")
        study(con, "shop-2", 5, "interrupted")
        study(con, "later", 6, "running", measured=False)
        world.insert(
            con, "runs",
            [{"run_id": "ingest", "name": "ingest", "study": "ingest",
              "started_at": world.WHEN.replace(day=7)}],
        )  # fmt: skip
        world.insert(
            con, "traces",
            [{"run_id": "ingest", "trace_id": KALE, "name": "kale", "n_units": 0}],
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def con(home: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_reader(home / "tracelab.duckdb") as reader:
        yield reader


NEWER = "newer and not finished: 'later' (running), 'shop-2' (interrupted)"


def test_the_latest_run_is_the_latest_that_finished_with_results(
    con: duckdb.DuckDBPyConnection,
) -> None:
    said: list[str] = []
    found = query(con, "top_anchors", say=said.append)
    assert found == query(con, "top_anchors", {"run": "shop-1"})
    assert len(said) == 1 and "'shop-1'" in said[0] and NEWER in said[0]
    assert select(con, say=said.append).runs == ("shop-1",)
    assert said[1] == said[0]
    assert trace_key(con, "kale", say=said.append).run_id == "shop-1"  # ingest has it, unmeasured
    assert said[2] == said[0]
    # Only what a run has of the kind that is asked for makes it the latest.
    assert query(con, "traces", {}, said.append).num_rows == 1
    assert len(said) == 3, "nothing newer than the ingest is unfinished"
    assert query(con, "verdicts", {}, said.append).num_rows == 0
    assert said[3].startswith("no run has verdicts yet")


def test_a_run_that_is_asked_for_need_not_be_finished(con: duckdb.DuckDBPyConnection) -> None:
    said: list[str] = []
    assert query(con, "top_anchors", {"run": "shop-2"}, said.append).num_rows == 3
    assert said == []
    assert query(con, "top_anchors", {"run": "later"}, said.append).num_rows == 0
    assert said == ["run 'later' has no anchors"]


def test_where_none_finished_the_latest_is_shown_and_that_is_said(tmp_path: Path) -> None:
    with open_writer(tmp_path / "w.duckdb") as con:
        study(con, "broken", 3, "failed")
        said: list[str] = []
        assert query(con, "top_anchors", {}, said.append).num_rows == 3
        assert said == ["no run of this kind is finished: showing 'broken', which is failed"]


@pytest.mark.parametrize(
    ("called", "run"), [("shop-1", "shop-1"), ("tw", "twins"), ("i", "ingest")]
)
def test_runs_go_by_id_or_its_beginning(
    con: duckdb.DuckDBPyConnection, called: str, run: str
) -> None:
    assert find_run(con, called) == run


def test_traces_go_by_id_its_beginning_or_name(con: duckdb.DuckDBPyConnection) -> None:
    for name in (KALE, "1f5", "kale"):
        assert find_trace(con, name, "shop-1") == KALE
        for asked in ("top_anchors", "select trace_id as t from traces where trace_id = $trace"):
            given = {"trace": name, "run": "shop-1"} if asked == "top_anchors" else {"trace": name}
            if name != "kale" or asked == "top_anchors":
                assert ask(con, asked, given).num_rows > 0
    by_name = "select count(*) as n from traces where name = $trace"
    assert ask(con, by_name, {"trace": "oak"}).to_pylist() == [{"n": 4}]
    by_run = "select count(*) as n from traces where run_id = $run"
    assert ask(con, by_run, {"run": "tw"}).to_pylist() == [{"n": 3}]
    mine = "select $mine as name"
    assert ask(con, mine, {"mine": "nothing's name"}).num_rows == 1


TOP = "top_anchors"


@pytest.mark.parametrize(
    ("asked", "params", "said"),
    [
        (TOP, {"run": "shop-"}, "'shop-' is the beginning of several runs' ids: shop-2, shop-1"),
        (TOP, {"run": "shp-1"}, "there is no run 'shp-1'; did you mean 'shop-1'?"),
        (TOP, {"run": ""}, "there is no run ''"),
        (TOP, {"run": "shop-1", "trace": "1f"}, f"several traces' ids: {KALE}, {OAK}"),
        (TOP, {"run": "twins", "trace": "kale"}, f"the name of several traces: {KALE}, {TWIN}"),
        (TOP, {"trace": "kal"}, "there is no trace 'kal'; did you mean 'kale'?"),
        (TOP, {"run": "shop-1", "trace": "oka"}, "in run 'shop-1'; did you mean 'oak'?"),
        (TOP, {"methd": "resample"}, "no parameter 'methd'; did you mean method?"),
        (TOP, {"method": "resampel"}, "in run 'shop-1'; did you mean 'resample'?"),
        (TOP, {"limit": "ten"}, "limit 'ten' is not a whole number"),
        (TOP, {"limit": "-1"}, "limit '-1' is not a whole number"),
        ("verdicts", {"run": "twins", "evidence": "executd"}, "did you mean executed?"),
        (
            "answers_before_after", {"run": "twins", "trace": OAK, "sentence": "9"},
            f"sentence '9' is not in trace '{OAK}' of run 'twins'; there, it goes from 0 to 0",
        ),
        ("select $run", {"run": "shp-1"}, "did you mean 'shop-1'?"),
        ("select $trace", {"trace": "kal"}, "did you mean 'kale'?"),
        ("select $run, $trace", {"run": "later", "trace": "1f"}, "several traces' ids"),
        ("select $limit", {"limt": "1"}, "no parameter $limt; did you mean '$limit'?"),
        ("select $limit", {}, "needs a value for $limit"),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_one_sentence_with_the_nearest_that_does(
    con: duckdb.DuckDBPyConnection, asked: str, params: dict[str, Any], said: str
) -> None:
    with pytest.raises(QueryError) as caught:
        ask(con, asked, params)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_of_any_length_are_compared_and_shown_short(tmp_path: Path) -> None:
    with open_writer(tmp_path / "w.duckdb") as con:
        world.insert(con, "runs", [{}])
        world.insert(
            con, "traces", [{"trace_id": KALE, "name": "x" * 1_000_000, "n_units": 0}]
        )  # fmt: skip
        with pytest.raises(QueryError) as caught:
            find_trace(con, "y" * 1_000_000, "study")
        assert len(str(caught.value)) < 400


def test_commands_and_python_agree(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACELAB_HOME", str(home))
    shown = invoke("query", "top_anchors", "--csv")
    assert (shown.exit_code, len(shown.stdout.splitlines())) == (0, 4)
    assert NEWER in shown.stderr and len(shown.stderr.splitlines()) == 1
    assert invoke("query", "top_anchors", "-p", "run=shop-1", "--csv").stderr == ""
    begun = invoke("show", "1f5", "--run", "tw")
    assert begun.exit_code == 0 and "kale 1f520f0000000000 in twins" in begun.stdout
    wrong = invoke("show", "kale", "--run", "twinz")
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1)
    assert "did you mean 'twins'?" in wrong.stderr
    for names, code, said in [
        (["tw"], 0, "3 traces"),
        (["1f5", "tw"], 0, "traces"),
        (["shop-"], 2, "beginning of several runs' ids: shop-2, shop-1"),
        (["shop-3"], 2, "did you mean 'shop-"),
        ([], 0, NEWER),
    ]:
        result = invoke("report", *names, "--out", str(home / "r.html"))
        assert result.exit_code == code, result.stderr
        assert said in result.stderr
    assert tracelab.open_run("tw").run_id == "twins"
    with pytest.warns(UserWarning, match="newer and not finished"):
        assert tracelab.open_run().run_id == "shop-1"
    with pytest.raises(tracelab.TracelabError, match="did you mean 'shop-"):
        tracelab.open_run("shopp-1")
    assert invoke("rebuild", "nosuch").exit_code == 2
    assert "did you mean 'anchors'?" in invoke("schema", "anchor").stderr
