"""Inputs that people had: what must be read of each. They are not in the repository."""

from __future__ import annotations

from typing import Any

import pytest

from tests.shared import SHARED
from tracelab.core.episode import Episode
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources import read, read_last

FOLDER = SHARED / "data" / "cases"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the cases are not on this machine")


def traces(name: str) -> list[Trace]:
    found = list(read(FOLDER / name))
    assert not [r for r in found if isinstance(r, Reject)], found
    return [t for t in found if isinstance(t, Trace)]


def one(name: str) -> Episode:
    [trace] = traces(name)
    assert trace.episode is not None
    return trace.episode


def kinds(e: Episode) -> list[str]:
    return [s.kind for s in e.steps]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("04_anthropic_blocks.jsonl", ["system", "user", "llm", "tool", "llm"]),
        ("05_phoenix_span_kind.json", ["user", "llm", "tool"]),
        ("06_phoenix_rest.json", ["user", "llm"]),
        ("07_pydantic_thinking.json", ["system", "user", "llm", "tool", "llm"]),
        ("08_pydantic_events.json", ["system", "user", "llm", "tool", "llm"]),
        ("09_vercel.json", ["user", "llm", "tool", "llm"]),
        ("10_strands.json", ["user", "llm", "tool"]),
        ("11_adk.json", ["user", "llm", "tool"]),
        ("15_repeated_user.json", ["user", "llm", "user", "llm"]),
        ("22_mini_swe_exit.traj.json", ["system", "user", "llm", "tool", "system"]),
        ("23_role_ipython.jsonl", ["user", "llm", "tool", "llm"]),
        ("unread_agentbench.jsonl", ["user", "llm"]),
        ("unread_claude_code.jsonl", ["user", "llm", "tool"]),
        ("unread_langfuse.json", ["user", "llm"]),
        ("unread_langsmith.jsonl", ["user", "llm"]),
        ("unread_litellm.jsonl", ["user", "llm"]),
        ("unread_mlflow.json", ["user", "llm"]),
        ("unread_openai_batch.jsonl", ["llm"]),
        ("unread_swe_agent.traj", ["system", "user", "llm", "tool"]),
        ("unread_tau_row.jsonl", ["system", "user", "llm", "tool"]),
    ],
)  # fmt: skip
def test_steps(name: str, wanted: list[str]) -> None:
    assert kinds(one(name)) == wanted


def test_thinking_is_reasoning_only() -> None:
    step = next(s for s in one("07_pydantic_thinking.json").steps if s.kind == "llm")
    assert (step.content, step.reasoning, step.calls[0].name) == ("", "multiply", "mul")


def test_order_is_by_time() -> None:
    said = [s.content for s in one("13_logfire_rows.json").steps if s.kind == "llm"]
    assert said == ["One moment.", "Rainy."]


def test_a_call_that_two_instrumentations_recorded_is_one_step() -> None:
    assert kinds(one("14_nested_llm_spans.json")).count("llm") == 1


def test_the_outcome_is_what_the_log_says() -> None:
    told: dict[str, Any] = {
        n: one(n).success
        for n in ("unread_tau_row.jsonl", "unread_agentbench.jsonl", "unread_langfuse.json")
    }
    assert set(told.values()) == {False}
    assert one("unread_swe_agent.traj").success is None


def test_what_inspect_and_atif_say() -> None:
    scored = one("17_inspect_two_scorers.json")
    assert (scored.success, scored.answer) == (False, "lost")
    tool = one("18_inspect_tool_error.json").steps[2]
    assert (tool.result, tool.flags) == ("Command timed out.", ("error",))
    pooled = one("19_inspect_message_pool.json")
    assert (pooled.task, pooled.model_input(1)) != ("", None)
    shown = one("37_atif_no_call.json").steps[-1]
    assert (shown.kind, shown.agent, shown.flags) == ("tool", "term", ())


@pytest.mark.parametrize("order", [1, -1])
def test_the_scored_run_counts(order: int) -> None:
    names = ["21a_unscored.json", "21b_scored.json"][::order]
    found = list(read_last([FOLDER / n for n in names]))
    assert [t.success for t in found if isinstance(t, Trace)] == [False] * 4
    rejects = {(r.file, r.line, r.reason) for r in found if isinstance(r, Reject)}
    assert len(rejects) == (0 if order == 1 else 4)


def test_a_question_by_any_key() -> None:
    [asked] = traces("27_cite_question_key.json")
    assert asked.extra["query"] == "How much is Kale?"


def test_rows_of_data_sets() -> None:
    [shared] = traces("unread_sharegpt.jsonl")
    assert [t.role for t in shared.turns] == ["system", "user", "assistant"]
    [labelled] = traces("unread_processbench.jsonl")
    assert (labelled.extra["first_error"], labelled.success) == (1, False)
