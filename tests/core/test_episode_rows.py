"""Agent logs in SQL: every call and every result is in exactly one row."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tracelab.core.episode import Arguments, Episode, Step, ToolCall
from tracelab.core.episode_rows import episode_rows
from tracelab.core.rows import EpisodeRow, StepRow, ToolCallRow
from tracelab.core.trace import Trace, Turn


def call(name: str, arguments: str = "{}", call_id: str | None = None) -> ToolCall:
    return ToolCall(name, Arguments.of(arguments), call_id)


def result(i: int, parent: int | None, said: str | None, **more: object) -> Step:
    return Step(i, "tool", "a", said or "", result=said, parent=parent, **more)  # type: ignore[arg-type]


def tool_calls(*steps: Step) -> list[ToolCallRow]:
    trace = Trace.of_episode(Episode("e", steps, "x", task="t"))
    rows = episode_rows(trace)
    assert isinstance(rows[0], EpisodeRow) and rows[0].n_steps == len(steps)
    assert [r.unit_index for r in rows if isinstance(r, StepRow)] == list(range(len(steps)))
    assert {r.trace_id for r in rows} == {trace.trace_id}  # type: ignore[attr-defined]
    return [r for r in rows if isinstance(r, ToolCallRow)]


def test_a_chat_has_no_such_rows() -> None:
    assert episode_rows(Trace((Turn("user", "q"), Turn("assistant", "a")), "t")) == []


def test_a_call_has_its_result_and_what_is_missing_is_null() -> None:
    rows = tool_calls(
        Step(0, "user", "user", "q"),
        Step(1, "llm", "a", calls=(call("f", '{"x": 1}', "c1"), call("g", "{", "c2"))),
        result(2, 1, "", tool="f", tool_call_id="c1"),
        result(3, 1, None, tool="g", tool_call_id="c2", flags=("missing_result", "error")),
        result(4, None, "late", tool="h", flags=("orphan_result",)),
        Step(5, "llm", "a", calls=(call("f", "", "c1"),)),
    )
    assert [(r.unit_index, r.position, r.call_id, r.tool, r.result_step, r.result, r.error)
            for r in rows] == [
        (1, 0, "c1", "f", 2, "", False),
        (1, 1, "c2", "g", 3, None, True),
        (5, 0, "c1", "f", None, None, False),
        (4, 0, None, "h", 4, "late", False),
    ]  # fmt: skip
    assert rows[0].arguments == '{"x": 1}' and rows[0].arguments_error is None
    assert rows[1].arguments == "{" and "not valid JSON" in (rows[1].arguments_error or "")
    assert rows[3].arguments is None


def test_repeated_ids_and_calls_without_any_take_one_result_each() -> None:
    rows = tool_calls(
        Step(0, "llm", "a", calls=(call("f", "1", "c"), call("f", "2", "c"))),
        result(1, 0, "one", tool="f", tool_call_id="c"),
        result(2, 0, "two", tool="f", tool_call_id="c"),
        result(3, 0, "three", tool="f", tool_call_id="c"),
        Step(4, "llm", "a", calls=(call("g"), call("f"))),
        result(5, 4, "of f", tool="f"),
    )
    assert [(r.arguments, r.result) for r in rows] == [
        ("1", "one"), ("2", "two"), ("{}", None), ("{}", "of f"), (None, "three"),
    ]  # fmt: skip


IDS = st.sampled_from([None, "a", "b"])


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("fg"), IDS), max_size=3), max_size=4),
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from("fg"), IDS), max_size=8),
)
def test_every_call_and_every_result_is_in_one_row(
    asked: list[list[tuple[str, str | None]]], told: list[tuple[int, str, str | None]]
) -> None:
    steps = [
        Step(i, "llm", "a", calls=tuple(call(n, "{}", c) for n, c in calls))
        for i, calls in enumerate(asked)
    ]
    n = len(steps)
    for k, (parent, name, c) in enumerate(told):
        at = parent if parent < n else None
        steps.append(result(n + k, at, f"r{k}", tool=name, tool_call_id=c))
    rows = tool_calls(*steps)
    results = [r.result for r in rows if r.result is not None]
    assert sorted(results) == sorted(f"r{k}" for k in range(len(told)))
    keys = [(r.unit_index, r.position) for r in rows]
    assert len(keys) == len(set(keys))
    from_calls = [k for k in keys if k[0] < n]
    assert len(from_calls) == sum(map(len, asked))
