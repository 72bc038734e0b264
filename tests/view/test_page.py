"""The report without a browser: selection, data, escapes, budget."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.view import world
from tracelab.core.episode import Arguments, Episode, Step, ToolCall
from tracelab.core.episode_rows import episode_rows
from tracelab.core.errors import QueryError, SchemaError
from tracelab.core.rows import ToolCallRow
from tracelab.core.trace import Trace
from tracelab.store.connect import open_reader, open_writer
from tracelab.view.report import build, select
from tracelab.view.report import page as page_module
from tracelab.view.report.agents import _take_apart
from tracelab.view.report.context import _pieces
from tracelab.view.report.names import abouts, labels
from tracelab.view.report.page import default_path, figure, signed
from tracelab.view.report.tables import outcome
from tracelab.view.report.text import _SUSPECT, island, visible


def data_of(html: str) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', html, re.DOTALL)
    assert found
    parsed: dict[str, Any] = json.loads(found[1])
    return parsed


ANY = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(ANY)
def test_an_island_is_its_data_and_never_ends_its_element(data: Any) -> None:
    text = str(island(data))
    assert json.loads(text) == data
    assert not set("<>&\u2028\u2029\x00") & set(text)


@given(st.text())
def test_visible_text_has_no_markup_and_no_control(text: str) -> None:
    html = str(visible(text))
    assert not _SUSPECT.search(html)
    bare = re.sub(r'<span class="ctl" title="[^"<>]*">[^<>]*</span>', "", html)
    assert "<" not in bare
    assert ">" not in bare


def test_the_script_has_the_same_rule_for_hostile_characters() -> None:
    script = (Path(page_module.__file__).parent / "static" / "base.js").read_text()
    rule = re.search(r"const SUSPECT = /(.*)/g;", script)
    assert rule
    inside = rule[1].replace("|\\udb40[\\udc00-\\udc7f]", "").encode().decode("unicode_escape")
    theirs = re.compile(inside)
    for code in [*range(0x20), *range(0x7F, 0x3000), 0xFEFF, 0xFFF9, 0xFFFB, 0xFFFC]:
        assert bool(theirs.match(chr(code))) == bool(_SUSPECT.match(chr(code))), hex(code)
    assert _SUSPECT.match("\U000e0041")


def test_no_script_makes_markup_of_text() -> None:
    for file in (Path(page_module.__file__).parent / "static").glob("*.js"):
        script = file.read_text()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in script, f"{file.name}: {word}"


def test_the_policy_names_what_is_in_the_page(reader: duckdb.DuckDBPyConnection) -> None:
    html = build(reader, select(reader))
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)
    assert style and script
    for kind, text in (("style", style[1]), ("script", script[1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in html
    assert html.lower().count("<script") == html.lower().count("</script>") == 2
    assert not re.search(r'(?:src|href)="(?!#)', html)  # nothing is fetched or linked to


def test_the_same_warehouse_gives_the_same_page(reader: duckdb.DuckDBPyConnection) -> None:
    assert build(reader, select(reader)) == build(reader, select(reader))


def test_missing_is_null_in_the_data(reader: duckdb.DuckDBPyConnection) -> None:
    traces = {t["name"]: t for t in data_of(build(reader, select(reader)))["traces"]}
    rows = traces["kale"]["reasoning"]["methods"]["resample-pooled"]["rows"]
    assert [r[0] for r in rows] == [0.0, -0.4, 0.05, None, 0.1]
    assert rows[3][4] == "insufficient"
    effects = traces["the shop"]["context"]["effects"]["ablate"]
    assert effects["rows"][1] == [[0.1, -0.2, 0.4, 20, "ok"], [0.2, -0.1, 0.5, 20, "ok"],
                                  [None, None, None, 20, "insufficient"]]  # fmt: skip
    assert effects["tests"][0] == [1, 0.9, 0.8, 3.5]
    assert effects["tests"][1] == [0, None, None, None]


def test_alternatives_count_all_rollouts_and_keep_a_text_of_each(
    reader: duckdb.DuckDBPyConnection,
) -> None:
    traces = {t["name"]: t for t in data_of(build(reader, select(reader)))["traces"]}
    first = traces["kale"]["reasoning"]["alternatives"]["0"]
    assert (first["n"], first["distinct"]) == (3, 2)
    text, n, reward, similarity, ends = first["groups"][0]
    assert (text, n, reward, similarity) == (" Something else is written here.", 2, 0.5, 0.5)
    assert ends == [["3", 1], ["7", 1]]
    assert sorted(r[0] for r in first["rollouts"]) == [0, 0, 1]


def test_a_hundred_traces_stay_below_five_megabytes(large: Path) -> None:
    with open_reader(large) as con:
        html = build(con, select(con))
    data = data_of(html)
    assert len(html.encode()) < 5_000_000
    assert len(data["traces"]) == 100
    for trace in data["traces"]:
        reasoning = trace["reasoning"]
        assert len(reasoning["sentences"]) == 30
        for alternative in reasoning["alternatives"].values():
            assert alternative["n"] == 20  # all are counted, whatever is dropped
            assert len(alternative["rollouts"]) == min(20, data["caps"]["rollouts"])


def test_texts_are_dropped_and_shortened_before_the_budget_is_passed(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_reader(large) as con:
        whole = build(con, select(con))
        monkeypatch.setattr(page_module, "BUDGET", 1_900_000)
        less = build(con, select(con))
    assert len(less) < len(whole) - 500_000
    assert data_of(less)["caps"]["rollouts"] < data_of(whole)["caps"]["rollouts"]


def test_a_long_rollout_keeps_both_ends(tmp_path: Path) -> None:
    with open_writer(tmp_path / "w.duckdb") as con:
        world.insert(con, "runs", [{}])
        world.reasoning(con, "a" * 16, ["One.", " Two."], [0.1, 0.1], alternatives=1)
        con.execute("UPDATE rollouts SET text = 'begin' || repeat('x', 50000) || 'end'")
    with open_reader(tmp_path / "w.duckdb") as con:
        data = data_of(build(con, select(con)))
    (rollout,) = data["traces"][0]["reasoning"]["alternatives"]["0"]["rollouts"]
    assert rollout[6] == 50008
    assert len(rollout[7]) <= 2001
    assert rollout[7].startswith("beginx")
    assert rollout[7].endswith("xend")
    assert "\x1e" in rollout[7]


@pytest.mark.parametrize(
    ("success", "answer", "reference", "says"),
    [
        (True, None, None, "right"),
        (False, "7", "7", "wrong"),  # its own flag goes first
        (None, "7", "7.0", "right"),
        (None, "7", "8", "wrong"),
        (None, "Paris", "London", "wrong"),
        (None, "x+1", "1+x", None),  # only algebra can tell
        (None, None, "8", None),
    ],
)
def test_right_and_wrong_by_flag_and_by_reference(
    success: bool | None, answer: str | None, reference: str | None, says: str | None
) -> None:
    assert outcome(success, answer, reference) == says


def test_labels_tell_traces_apart() -> None:
    runs, ids = ["r"] * 3, ["aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"]
    long = [f"a-very-long-data-set-evaluation-split-{i}" for i in (1, 12, 13)]
    assert labels(long, runs, ids) == ["…1", "…12", "…13"]
    assert labels(["q", "q", "p"], runs, ids) == ["q · aaaaaaaa", "q · bbbbbbbb", "p"]
    assert labels(["q", "q"], ["r", "s"], ids[:2]) == ["q · r", "q · s"]
    asked = ["Here are the notes. Kale?", "Here are the notes. Oak, and how much is it?"]
    assert abouts(asked) == ["…Kale?", "…Oak, and how much is it?"]


CONTENT = st.text(alphabet=st.sampled_from("ab:() \n[]·"), max_size=12)


@given(CONTENT, CONTENT, st.text(max_size=8), st.sampled_from([None, "x", "a: b"]))
def test_a_transcript_is_taken_apart_as_it_was_put_together(
    said: str, result: str, raw: str, agent: str | None
) -> None:
    call = ToolCall("f", Arguments.of(raw), "c")
    steps = (
        Step(0, "llm", agent, said, calls=(call, call)),
        Step(1, "tool", agent, result, tool="f", tool_call_id="c", parent=0,
             arguments=call.arguments, result=result),
    )  # fmt: skip
    episode = Episode("e", steps, "test")
    shown = [
        {"who": s.agent, "kind": s.kind, "tool": s.tool, "text": u.text}
        for s, u in zip(steps, episode.step_units(), strict=True)
    ]
    rows = [r for r in episode_rows(Trace.of_episode(episode)) if isinstance(r, ToolCallRow)]
    _take_apart(shown, [
        (r.unit_index, r.tool, r.arguments, r.arguments_error, r.result_step, r.result, r.error)
        for r in rows
    ])  # fmt: skip
    assert shown[0]["text"] == said
    assert [c[:2] for c in shown[0]["calls"]] == [["f", raw], ["f", raw]]
    assert (shown[1]["text"], shown[1]["result"]) == ("", [result, False])
    assert shown[1]["arguments"] == raw


# -- selection ----------------------------------------------------------------------------------


def test_names_of_runs_and_traces_are_resolved(reader: duckdb.DuckDBPyConnection) -> None:
    assert [t.name for t in select(reader).traces][0] == "kale"  # the largest effect first
    assert len(select(reader, ["study"]).traces) == 4
    for name in ("kale", "aaaa000000000000", "aaaa00", "aa"):
        assert [t.trace_id for t in select(reader, [name]).traces] == ["aaaa000000000000"]
    both = select(reader, ["run1", "kale", "run1"])
    assert [t.name for t in both.traces] == ["the errand", "kale"]
    assert both.runs == ("study",)
    few = select(reader, max_traces=1)
    assert (len(few.traces), few.left_out) == (1, 3)
    for name in ("nosuch", "aaaa1"):
        with pytest.raises(QueryError, match="no run and no trace"):
            select(reader, [name])


def test_a_trace_of_two_runs_has_two_addresses(tmp_path: Path) -> None:
    with open_writer(tmp_path / "w.duckdb") as con:
        world.insert(con, "runs", [{}])
        world.reasoning(con, "a" * 16, ["One."], [0.1])
        world.reasoning(con, "a" * 12 + "bbbb", ["One."], [0.1])
        for table in ("runs", "traces", "turns", "units", "scores", "rollouts"):
            con.execute(
                f"CREATE TEMP TABLE copied AS FROM {table}; UPDATE copied SET run_id = 'two'; "
                f"INSERT INTO {table} FROM copied; DROP TABLE copied"
            )
    with open_reader(tmp_path / "w.duckdb") as con:
        chosen = select(con, ["study", "two"])
        assert len({t.slug for t in chosen.traces}) == 4
        with pytest.raises(QueryError, match="several traces' ids"):
            select(con, ["aaaaaaaa"])
        html = build(con, chosen)
    assert f'href="#two%3A{"a" * 16}/0"' in html


def test_an_empty_warehouse_and_an_older_one_say_so(tmp_path: Path) -> None:
    with open_writer(tmp_path / "w.duckdb") as con:
        with pytest.raises(QueryError, match="no runs yet"):
            select(con)
        world.insert(con, "runs", [{}])
        chosen = select(con)
        assert chosen.traces == ()
        assert "0 traces" in build(con, chosen)
        con.execute("DROP VIEW alternatives")
        with pytest.raises(SchemaError, match="lacks the view alternatives"):
            build(con, chosen)


@given(
    st.text(max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=6)
)
def test_pieces_join_to_the_text(text: str, cuts: list[tuple[int, int]]) -> None:
    inside = [(min(a, len(text)), min(b, len(text)), i) for i, (a, b) in enumerate(cuts) if a < b]
    pieces = _pieces(text, inside)
    assert "".join(p[0] for p in pieces) == text
    for piece, index in pieces:
        if index is not None:
            start, end = (min(x, len(text)) for x in cuts[index])
            assert piece == text[start:end]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0.314, "+0.31"),
        (-0.05, "\u22120.05"),
        (-0.001, "0.00"),
        (0.0, "0.00"),
        (None, "not measured"),
    ],
)
def test_signed_numbers(value: float | None, says: str) -> None:
    assert signed(value) == says


def test_figures_and_file_names(reader: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    assert (figure(1234567), figure(None), figure(0.5)) == ("1,234,567", "not measured", "0.50")
    assert default_path(tmp_path, select(reader)).name == "study.html"
    assert default_path(tmp_path, select(reader, [world.NASTY])).parent == tmp_path
