"""Pages of real runs: the bundled model, cited and audited as the demo configs do it, small."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tracelab.store.connect import open_reader
from tracelab.view.opening import run_config
from tracelab.view.report import build, select, write

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
Visit = Callable[..., Any]

SMALL: dict[str, dict[str, Any]] = {
    "cite/demo": {"source_options.problems": 2, "cite.ablations": 16, "cite.held_out": 8},
    "audit/demo": {
        "engine.kind": "transformers", "source_options.problems": 4, "audit.rollouts": 4,
        "audit.ablations": 8,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a citation and an audit."""
    home = tmp_path_factory.mktemp("real") / "home"
    for config, small in SMALL.items():
        run_config(config, home, overrides=small, quiet=True)
    return home


@pytest.fixture
def con(measured: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_reader(measured / "tracelab.duckdb") as found:
        yield found


def page_of(con: duckdb.DuckDBPyConnection, run: str, path: Path) -> Path:
    write(build(con, select(con, [run])), path)
    return path


def test_what_agents_called_and_got_is_what_the_log_says(
    con: duckdb.DuckDBPyConnection, visit: Visit, tmp_path: Path
) -> None:
    calls = con.execute(
        "SELECT trace_id, unit_index, arguments, result_step, result FROM tool_calls "
        "WHERE result_step IS NOT NULL ORDER BY trace_id, unit_index"
    ).fetchall()
    assert calls
    page = visit("", file=page_of(con, "demo-audit", tmp_path / "r.html"))
    assert page.locator(".run > section > h2").first.inner_text().startswith("Verdicts")
    for trace in dict.fromkeys(c[0] for c in calls):
        page.goto(page.url.split("#")[0] + "#" + trace[:12])
        page.wait_for_selector("#trace .timeline")
        said = {
            i: page.locator(f"#s{i} .code").all_text_contents()
            for _, step, _, at, _ in (c for c in calls if c[0] == trace)
            for i in (step, at)
        }
        for _, step, arguments, at, result in (c for c in calls if c[0] == trace):
            assert json.loads(said[step][0]) == json.loads(arguments)
            assert said[at] == [arguments, result]
        if page.locator(".curve .line").count():
            assert page.locator(".curve .line").count() == 1
            assert page.locator(".curve .band").count() == 1


def test_labels_of_statements_are_those_of_sql(
    con: duckdb.DuckDBPyConnection, visit: Visit, tmp_path: Path
) -> None:
    told = con.execute(
        "SELECT trace_id, list(label ORDER BY position) FROM targets "
        "WHERE run_id = 'demo-context' GROUP BY trace_id"
    ).fetchall()
    assert {"grounded", "memory", "derived"} <= {x for _, some in told for x in some}
    page = visit("", file=page_of(con, "demo-context", tmp_path / "r.html"))
    for trace, labels in told:
        page.goto(page.url.split("#")[0] + "#" + trace[:12])
        page.wait_for_selector("#trace .statements")
        assert page.locator("#trace .statement .chip").all_text_contents() == labels
