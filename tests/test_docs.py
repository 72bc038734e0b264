"""What the pages of `docs/` say is run: every query, every example record, every link."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.studies.audit.audit_world import Driver, context
from tests.view import world
from tracelab.core.item import Item, Observation
from tracelab.core.trace import Trace
from tracelab.environments.user import UserEnvironment
from tracelab.sources import SOURCES, read
from tracelab.store.connect import open_reader, open_writer, sql_dir
from tracelab.store.query import query
from tracelab.studies.audit.case import AgentRun
from tracelab.studies.audit.options import AuditOptions
from tracelab.studies.audit.study import Audit

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


QUERIES = blocks("sql.md", "sql")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """One of everything, and what the input of a bad action did."""
    path = world.small(tmp_path_factory.mktemp("docs") / "w.duckdb")
    with open_writer(path) as con:
        world.insert(con, "units", world.units("run1", "span", ["Price of kale", "?"]))
        span = {"trace_id": "run1", "unit_index": 0}
        world.insert(con, "spans", [{**span, "turn_index": 0, "start_char": 0, "end_char": 13}])
        unused = {"trace_id": "run1", "unit_index": 1}
        world.insert(con, "spans", [{**unused, "turn_index": 0, "start_char": 13, "end_char": 14}])
        target = {"trace_id": "run1", "target": "action"}
        said = {"text": "coder: Now halve it.", "logprob_full": -1.0, "logprob_empty": -5.0}
        world.insert(con, "targets", [{**target, **said, "position": 0, "label": "grounded"}])
        effect = {"method": "ablate", "metric": "effect", "value": 3.0, "lo": 2.0, "hi": 4.0}
        world.insert(con, "scores", [{**span, **target, **effect, "unit_kind": "span"}])
        none = {**effect, "value": 0.0, "lo": -0.1, "hi": 0.1}
        world.insert(con, "scores", [{**span, **target, **none, **unused, "unit_kind": "span"}])
    with open_reader(path) as con:
        yield con


@pytest.mark.parametrize("sql", QUERIES, ids=range(len(QUERIES)))
def test_every_query_answers(reader: duckdb.DuckDBPyConnection, sql: str) -> None:
    [(run,)] = reader.execute("SELECT run_id FROM runs").fetchall()
    given = {name: run for name in ("run", "before", "after") if f"${name}" in sql}
    found = query(reader, sql, given)
    assert found.num_rows > 0
    assert found.num_columns > 1


def test_every_view_has_a_query() -> None:
    views = {re.sub(r"^\d+_", "", p.stem) for p in (sql_dir() / "views").glob("*.sql")}
    shown = set(re.findall(r"(?:FROM|JOIN) (\w+)", "\n".join(QUERIES)))
    assert views <= shown, "docs/sql.md has no query on a public view"


EXAMPLES = re.findall(
    r"^<!-- (\S+) (\S+) -->\n```json\n(.*?)\n```$",
    (DOCS / "sources.md").read_text(encoding="utf-8"),
    re.DOTALL | re.MULTILINE,
)


@pytest.mark.parametrize(("name", "form", "text"), EXAMPLES, ids=[e[1] for e in EXAMPLES])
def test_every_example_is_read(tmp_path: Path, name: str, form: str, text: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text + "\n", encoding="utf-8")
    if form == "thought-anchors":  # its other files may be absent only where nothing is labelled
        (file.parent / "problem.json").write_text('{"gt_answer": "4"}')
        (file.parent / "chunks_labeled.json").write_text("[]")
    if form == "questions":  # they look like plain JSONL whose responses are missing
        assert [q.answered for q in read(file, "questions") if isinstance(q, Trace)] == [False]
        return
    auto, told = ([*read(tmp_path, f)] for f in ("auto", form))
    assert [type(t) for t in auto] == [Trace], auto
    assert auto == told
    agents = form not in (
        "jsonl", "thought-anchors", "contexts", "dataset-rows", "lm-eval", "labelled-steps"
    )  # fmt: skip
    assert (auto[0].episode is not None) == agents


def test_every_format_has_an_example() -> None:
    assert {form for _, form, _ in EXAMPLES} == set(SOURCES)


PYTHON = blocks("python.md", "python")


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_runs_where_it_needs_no_model(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    compiled = compile(code, "python.md", "exec")
    if '"DIR"' in code:
        return
    world.small(home / "tracelab.duckdb")
    monkeypatch.chdir(tmp_path)
    exec(compiled, {})


PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http://", "https://")):
            file, _, anchor = target.partition("#")
            there = (page.parent / file).resolve() if file else page
            assert there.exists(), f"{page}: {target}"
            if anchor:
                heads = re.findall(r"^#+ (.+)$", there.read_text("utf-8"), re.MULTILINE)
                assert anchor in {h.lower().replace(" ", "-").replace("`", "") for h in heads}


def test_the_environment_of_the_page_audits_a_run(tmp_path: Path) -> None:
    """The class as printed, on a log; the model orders the wrong thing half of the time."""
    [code] = blocks("agents.md", "python")
    assert len(code.splitlines()) <= 45
    made: dict[str, Any] = {}
    exec(compile(code, "agents.md", "exec"), made)
    said = [hermes("price", item="tea"), hermes("add", item="tea", count=3), hermes("order")]
    env = UserEnvironment(made["Shop"]())
    state = env.reset({"task": "Order 2 tea.", "meta": {"order": {"tea": 2}}})
    for action in said:
        state = env.step(action)
    assert state.done and env.score() == 0.0
    assert [m["content"] for m in state.messages[2::2]] == ["4", '{"tea": 3}', "ordered"]
    log = tmp_path / "runs.jsonl"
    record = {"id": "r", "messages": state.messages, "success": False, "order": {"tea": 2}}
    log.write_text(json.dumps(record) + "\n")
    [trace] = read(log)
    assert isinstance(trace, Trace)

    def model(item: Item, replicate: int) -> Observation:
        if item.kind == "score":
            return Observation(item.key, replicate, finish_reason="error", error="none: no scores")
        turn = "".join(map(chr, item.prefix_ids)).count("<|im_start|>tool")
        text = said[turn]
        if turn == 1 and random.Random(f"{item.key}/{replicate}").random() < 0.6:
            text = hermes("add", item="tea", count=2)
        return Observation(item.key, replicate, (1,) * 5, text, prefix_tokens=9)

    ctx, _ = context(AuditOptions(environment="shop:Shop"), lambda: UserEnvironment(made["Shop"]()))
    [verdict] = Driver(model).drive(Audit().run([AgentRun.of(trace)], ctx)).verdicts
    assert (verdict.status, verdict.decisive_step) == ("localized", 3), verdict
    assert verdict.correctable_step == 3


def hermes(name: str, **arguments: object) -> str:
    """A call as the model writes it, after `<think>`."""
    call = json.dumps({"name": name, "arguments": arguments})
    return f"I call a tool.\n</think>\n\n<tool_call>{call}</tool_call>"


def test_every_promise_of_the_threat_model_has_its_test() -> None:
    text = (DOCS / "threat-model.md").read_text(encoding="utf-8")
    named, file = 0, ""
    for path, test in re.findall(r"`(tests/[\w/]+\.py)?(?:::(\w+))?`", text):
        file = path or file
        if not path and not test:
            continue
        named += 1
        code = (ROOT / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in code, f"{file} has no {test}"
    assert named > 25
