"""`tracelab.anchors`, `cite` and `audit`: what the commands measure, as typed values."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import tracelab
from tests.helpers import everything, invoke, rows, scripted_trace, write_jsonl
from tests.studies.audit.test_audit_command import who_and_when
from tracelab.core.errors import ConfigError, ImportFormatError, QueryError, WarehouseError
from tracelab.engines.scripted import Script
from tracelab.view import api

LEXICAL = {"anchors.similarity": "lexical"}


@pytest.fixture(scope="module")
def records(script: Script) -> list[dict[str, Any]]:
    return [
        {"id": f"t{i}", "prompt": f"q{i}", "reference": "7",
         "response": scripted_trace(script, i).response}
        for i in range(2)
    ]  # fmt: skip


def anchors(data: Any, **options: Any) -> api.AnchorsResult:
    options = {"rollouts": 8, "overrides": LEXICAL, "quiet": True} | options
    return tracelab.anchors(data, "scripted", engine="scripted", **options)


def test_importing_tracelab_imports_nothing_else() -> None:
    code = (
        "import sys, tracelab; tracelab.TracelabError; "
        "print([m for m in sys.modules if m.startswith(('tracelab.view.api', 'duckdb', 'pyarrow', "
        "'torch', 'pydantic', 'numpy'))], sorted(set(tracelab.__all__) - set(dir(tracelab))))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[] []"
    with pytest.raises(AttributeError, match="no attribute 'anchor'"):
        tracelab.anchor  # type: ignore[attr-defined]  # noqa: B018


def test_reading_files_waits_for_no_library_of_statistics() -> None:
    code = (
        "import sys, tracelab.cli.app, tracelab.sources as s; list(s.SOURCES); print([m for m in "
        "sys.modules if m in ('scipy.stats', 'torch', 'transformers', 'ray', 'vllm')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_public_face() -> None:
    assert {*tracelab.__all__} == {
        "TracelabError", "__version__", "anchors", "audit", "cite", "ingest", "open_run",
        "run_config",
    }  # fmt: skip
    assert callable(tracelab.run_config) and tracelab.run_config is api.run_config


def test_it_measures_what_the_command_measures(
    home: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_jsonl(tmp_path / "mine.jsonl", script, 2)
    found = anchors(source, target_halfwidth=0.2, overrides=["anchors.similarity=lexical"])
    by_function = everything()
    monkeypatch.setenv("TRACELAB_HOME", str(tmp_path / "other"))
    result = invoke(
        "anchors", source, "--model", "scripted", "--engine", "scripted", "--rollouts", 8,
        "--target-halfwidth", "0.2", "--set", "anchors.similarity=lexical", "--quiet",
    )  # fmt: skip
    assert result.exit_code == 0
    by_command = everything()
    for table in ("rollouts", "scores", "links", "units", "traces", "items"):
        assert by_function[table] == by_command[table] != []
    assert found.run_id == "mine"
    assert found.home == home
    shown = rows("select * from anchors order by trace_name, trace_id, method, evidence, "
                 "unit_index")  # fmt: skip
    assert [(a.text, a.value, a.lo, a.hi, a.n, a.status) for a in found] == [
        (r["text"], r["value"], r["lo"], r["hi"], r["n"], r["status"]) for r in shown
    ]


def test_the_planted_sentence_is_on_top_and_a_second_call_asks_nothing(
    home: Path, records: list[dict[str, Any]]
) -> None:
    found = anchors(records)
    assert found.method == "resample-pooled"
    best = found.top(1)[0]
    assert best.rank == 1 and best.value is not None and abs(best.value) > 0.3
    assert best.lo is not None and best.hi is not None and best.lo <= best.value <= best.hi
    assert found.costs.traces == 2 and found.costs.rollouts > 50
    before = everything()
    assert anchors(records) == found
    assert everything() == before
    assert anchors(records, rollouts=12).run_id == found.run_id, "more rollouts: the same run"
    assert anchors(records, temperature=0.9).run_id != found.run_id, "another question"
    assert len(found) == len(list(found)) == len(found.rows) and found[0] is found.rows[0]
    with pytest.raises(FrozenInstanceError):
        found.run_id = "x"  # type: ignore[misc]


@pytest.mark.parametrize("form", ["dict", "lines", "pretty", "path"])
def test_the_same_record_however_it_is_given(
    home: Path, tmp_path: Path, records: list[dict[str, Any]], form: str
) -> None:
    [record] = records[:1]
    data: Any = {
        "dict": record,
        "lines": json.dumps(record) + "\n",
        "pretty": json.dumps(record, indent=1),
        "path": tmp_path / "r.jsonl",
    }[form]
    (tmp_path / "r.jsonl").write_text(json.dumps(record))
    found = anchors(data, rollouts=2)
    assert {a.trace_name for a in found} == {"t0"}
    assert [t.text for t in found.traces] == ["q0"]


def test_within_a_running_event_loop(home: Path, records: list[dict[str, Any]]) -> None:
    async def cell() -> api.AnchorsResult:  # what a notebook does
        return anchors(records, rollouts=4)

    found = asyncio.run(cell())
    assert found.costs.errors == 0
    assert found == anchors(records, rollouts=4)


def test_rows_become_data_frames(
    home: Path, records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = anchors(records, rollouts=4)
    table = found.to_df("arrow")
    assert table.schema.field("value").type == pa.float64()
    assert table.num_rows == len(found)
    assert table.column("text").to_pylist() == [a.text for a in found]
    empty = api.AnchorsResult(found.run_id, found.home, (), found.costs, ())
    assert empty.to_df("arrow").schema == table.schema
    frame = pytest.importorskip("pandas") and found.to_df()
    assert list(frame.columns) == table.column_names
    for kind in ("polars", "pandas"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, kind, None)  # as if it were not installed
            with pytest.raises(ConfigError, match=f"^{kind} is not installed: `pip install"):
                found.to_df(kind)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="choose pandas, polars or arrow"):
        found.to_df("excel")  # type: ignore[arg-type]


def test_sql_goes_on_where_the_rows_end(home: Path, records: list[dict[str, Any]]) -> None:
    found = anchors(records, rollouts=4)
    anchors(records[:1], rollouts=2)
    own = found.query("select count(*) as n from rollouts where run_id = $run").to_pylist()
    assert own == [{"n": found.costs.rollouts}]
    assert found.query("select count(*) as n from runs").to_pylist() == [{"n": 2}]
    assert set(found.query("top_anchors", limit=3)["trace_name"].to_pylist()) <= {"t0", "t1"}
    assert found.query("runs").num_rows == 2
    assert found.warehouse.is_file()
    page = found.report()
    assert page.parent == home / "reports" and "<html" in page.read_text()


def test_an_earlier_run_is_opened_again(home: Path, records: list[dict[str, Any]]) -> None:
    with pytest.raises(WarehouseError, match="there is no warehouse"):
        tracelab.open_run()
    first = anchors(records, rollouts=4, name="first")
    second = tracelab.audit(who_and_when(home / "logs", 2), opinions=["error-rule"], quiet=True)
    assert tracelab.open_run("first") == first
    assert tracelab.open_run() == second
    assert tracelab.open_run("audit", home=home) == second
    with pytest.raises(QueryError, match="no run 'nobody'"):
        tracelab.open_run("nobody")
    (home / "t.jsonl").write_text('{"prompt": "q", "response": "It is 7."}\n')
    invoke("ingest", home / "t.jsonl")
    with pytest.raises(QueryError, match="is no study"):
        tracelab.open_run("ingest")


def test_what_cannot_be_used_is_data_or_one_sentence(
    home: Path, records: list[dict[str, Any]]
) -> None:
    found = anchors([*records, {"prompt": "no response"}], rollouts=2)
    assert [r.line for r in found.rejects] == [3] and "`response`" in found.rejects[0].reason
    assert "1 rejected" in repr(found)
    assert "`response` is missing" in found._repr_html_()
    wrong: list[tuple[Any, str]] = [
        ("nosuch.jsonl", "no such file or folder"),
        ([], "the list of records is empty"),
        (7, "not int"),
        ([records[0], 7], "record 1 of the list is int"),
        ({"prompt": "q", "response": object()}, "record 0 cannot be written as JSON"),
        ('{"prompt": \n', "the text is not JSON"),
    ]
    for data, says in wrong:
        with pytest.raises((ConfigError, ImportFormatError), match=says):
            anchors(data)
    with pytest.raises(ConfigError, match=r"did you mean `rollouts`"):
        anchors(records, overrides={"anchors.rollout": 3})
    with pytest.raises(ConfigError, match="was started with another config"):
        anchors(records, name="one", rollouts=2)
        anchors(records, name="one", rollouts=2, temperature=0.5)


LOG = {
    "id": "run-1", "success": False,
    "messages": [
        {"role": "user", "content": "What is 7?"},
        {"role": "assistant", "content": "I look."},
        {"role": "user", "content": "Error: 404"},
        {"role": "assistant", "content": "It is <b>lost</b>."},
    ],
}  # fmt: skip


def test_an_audit_in_memory(home: Path) -> None:
    found = tracelab.audit([LOG, LOG | {"id": "run-2"}], opinions=["last-llm-step"], quiet=True)
    assert len(found) == 0 and found.opinions == (), "a rule is no verdict, and no opinion"
    assert [(r.trace_name, r.kind, r.step) for r in found.rules] == [
        ("run-1", "rule", 3), ("run-2", "rule", 3),
    ]  # fmt: skip
    assert len(found.steps) == 8 and {s.p_decisive for s in found.steps} == {None}
    assert found.to_df("arrow")["credible_set"].type == pa.list_(pa.int64())
    html = found._repr_html_()
    assert "It is &lt;b&gt;lost&lt;/b&gt;." in html
    with pytest.raises(ConfigError, match="give --environment"):
        tracelab.audit(LOG, quiet=True)


CONTEXT = {
    "context": " Kale costs 4. Item Fig takes 7. Shop Oak adds 2. Plum costs 5.",
    "query": "How much is it for Kale and Fig at Oak?",
    "template": "Here are the notes.{context} {query}",
    "response": "Let me find the bill for Kale and Fig at Oak. Kale costs 4.",
}


def test_a_citation_in_memory(home: Path) -> None:
    """The bundled model, in this process: no worker is started for one short context."""
    found = tracelab.cite(CONTEXT, "testbed", ablations=16, target="Kale costs 4.", quiet=True)
    [statement] = found.statements
    assert (statement.statement, statement.label) == ("Kale costs 4.", "grounded")
    assert statement.trace_name == "record-0"
    assert statement.top_index == 0
    best = found[0]
    assert best.rank == 1 and best.span.strip() == "Kale costs 4."
    assert best.lo is not None and best.lo > 0
    assert found == tracelab.open_run(found.run_id)
    html = found._repr_html_()
    assert "nats" in html and "Kale costs 4." in html
    with pytest.raises(ConfigError, match="target needs data in memory"):
        tracelab.cite("testbed", "testbed", target={"given": "x"})


def test_a_config_is_run_as_the_command_runs_it(home: Path, tmp_path: Path, script: Script) -> None:
    source = write_jsonl(tmp_path / "mine.jsonl", script, 1)
    config = {
        "name": "c", "source": str(source), "model": "scripted", "engine": {"kind": "scripted"},
        "anchors": {"rollouts": 4, "similarity": "lexical"},
    }  # fmt: skip
    found = tracelab.run_config(config, quiet=True)
    assert isinstance(found, api.AnchorsResult) and found.run_id == "c"
    assert found == tracelab.open_run("c") == tracelab.run_config(config, home, quiet=True)
    with pytest.raises(ConfigError, match=r"tracelab.run_config: unknown key `anchors.rolouts`"):
        tracelab.run_config(config, overrides={"anchors.rolouts": 3})
    with pytest.raises(ConfigError, match="no such config file"):
        tracelab.run_config("nosuch.toml")
