"""Every kind of source gives contexts: records, chats, reasoning, a step of any agent log."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.agent_files import WRITERS, failed_runs, messages_of, write_openai
from tests.studies.cite.context import world
from tracelab.core.errors import PlanError
from tracelab.core.flow import drive
from tracelab.core.item import AnyItem, Item, Observation
from tracelab.core.seam import RecordedRun
from tracelab.core.trace import Trace
from tracelab.sources import read
from tracelab.studies.chat import Chat
from tracelab.studies.cite.action import measure_action
from tracelab.studies.cite.study import Cite


def traces(path: Path) -> list[Trace]:
    found = [*read(path)]
    assert all(isinstance(t, Trace) for t in found), found
    return [t for t in found if isinstance(t, Trace)]


@pytest.fixture(scope="module")
def run() -> RecordedRun:
    return failed_runs(1)[0]


def calling_step(trace: Trace) -> int:
    """The last step at which a model called a tool."""
    assert trace.episode is not None
    return [s.index for s in trace.episode.steps if s.calls][-1]


@pytest.mark.parametrize("form", ["inspect", "otel", "openinference", "atif", "openai-chat"])
def test_a_step_of_any_log_is_a_context(tmp_path: Path, run: RecordedRun, form: str) -> None:
    (trace,) = traces(WRITERS[form](tmp_path, [run]))
    step = calling_step(trace)
    w = world(unit="message", step=step, ablations=8, held_out=0, top_k=[], context_length=1024)
    (case,) = w.prepare(trace)
    chat = messages_of(run)
    k = max(i for i, m in enumerate(chat) if m.get("tool_calls"))
    assert [(t.role, t.text) for t in case.trace.prompt] == [
        (m["role"], m["content"]) for m in chat[:k]
    ]
    assert case.trace.extra["run"] == trace.trace_id and case.trace.extra["step"] == step
    # The prompt has opened the reasoning; the call is spelled as the model would.
    assert case.trace.response.startswith(chat[k]["content"].removeprefix("<think>\n").strip())
    assert chat[k]["tool_calls"][0]["function"]["name"] in case.trace.response
    assert case.trace.name.endswith(f" step {step}")
    again = Trace.from_json(json.loads(json.dumps(case.trace.to_json())))
    assert list(Cite().cases(again, w.ctx)) == [case]
    found = w.run(trace)
    assert found.findings.failed == 0 and found.targets()
    assert all(t.ablations for t in found.targets())


def test_tools_that_were_offered_are_part_of_the_prompt(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "get", "description": "d", "parameters": {}}}
    call = {"id": "c", "type": "function", "function": {"name": "get", "arguments": "{}"}}
    record = {"id": "r", "success": False, "tools": [tool], "messages": [
        {"role": "user", "content": "Get it. Then say it."},
        {"role": "assistant", "content": "I will.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "4"},
        {"role": "assistant", "content": "<think>\nIt is 4.\n</think>\n\nSo 4."},
    ]}  # fmt: skip
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps(record) + "\n")
    (trace,) = traces(path)
    heard: list[Sequence[object]] = []

    class Offering:
        def __getattr__(self, name: str) -> object:
            return getattr(world().speaks, name)

        def chat_text(self, messages: Sequence[object], rendering: str, **more: object) -> str:
            if more.get("ask", True):
                heard.append(more.get("tools", ()))  # type: ignore[arg-type]
            return world().speaks.chat_text(messages, rendering, **more)

    w = replace(world(step=3, ablations=8, held_out=0, top_k=[]), speaks=Offering())
    (case,) = w.prepare(trace)
    assert [t["function"]["name"] for t in case.tools] == ["get"]
    heard.clear()
    w.run(trace)
    assert all(heard)


def test_a_run_without_a_step_names_the_steps(tmp_path: Path, run: RecordedRun) -> None:
    (trace,) = traces(write_openai(tmp_path, [run]))
    with pytest.raises(PlanError, match=r"one of its steps with `--step N` \(a model wrote "):
        list(Cite().cases(trace, world().ctx))
    with pytest.raises(PlanError, match="step 0 was not written by a model"):
        list(Cite().cases(trace, world(step=0).ctx))


def test_the_log_of_another_model_is_explained_and_says_how_it_was_spelled(tmp_path: Path) -> None:
    # This model's template opens a reasoning the log has not: its words continue no prompt of ours.
    call = {"id": "c", "type": "function", "function": {"name": "get", "arguments": "{}"}}
    record = {"id": "r", "success": False, "messages": [
        {"role": "user", "content": "How many are 2 and 2?"},
        {"role": "assistant", "content": "I will.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "4"},
        {"role": "assistant", "content": "There are 4."},
    ]}  # fmt: skip
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps(record) + "\n")
    (trace,) = traces(path)
    assert trace.episode is not None
    step = [s.index for s in trace.episode.steps if s.kind == "llm"][-1]
    w = world(unit="message", step=step, ablations=8, held_out=0, top_k=[], context_length=1024)
    (case,) = w.prepare(trace)
    assert "There are 4." in case.trace.response
    assert str(case.trace.extra["spelling"]).startswith("the words alone")


def test_records_chats_and_reasoning_are_contexts(tmp_path: Path) -> None:
    rag = {"context": ["Kale costs 4.", "Fig takes 7."], "query": "Kale?", "response": "It is 4."}
    chat = {"messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Kale costs 4. Fig takes 7."},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": "And Kale?"},
        {"role": "assistant", "content": "It is 4."},
    ]}  # fmt: skip
    plain = {"prompt": "Kale costs 4. What is it?", "response": "It is 4."}
    wanted = {
        "rag": ["Kale costs 4.", "Fig takes 7."],
        "chat": ["Kale costs 4.", "Fig takes 7.", "I see."],
        "plain": ["Kale costs 4.", "What is it?"],
    }
    for (name, sources), record in zip(wanted.items(), (rag, chat, plain), strict=True):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(json.dumps(record) + "\n")
        (case,) = world().prepare(*traces(path))
        assert [u.text.strip() for u in case.units] == sources
    folder = tmp_path / "problem_1"
    folder.mkdir()
    base = {"prompt": "Solve 2 + 2.\n<think>\n", "solution": "It is 4.\n</think>\n\\boxed{4}",
            "full_cot": "Solve 2 + 2.\n<think>\nIt is 4.\n</think>\n\\boxed{4}", "answer": "4",
            "is_correct": True}  # fmt: skip
    (folder / "base_solution.json").write_text(json.dumps(base))
    (folder / "problem.json").write_text('{"gt_answer": "4"}')
    (folder / "chunks_labeled.json").write_text("[]")
    (case,) = world().prepare(*traces(tmp_path / "problem_1"))
    assert case.trace.response.startswith("It is 4.")
    assert "".join(u.text for u in case.units).startswith("Solve 2 + 2.")


def test_what_an_action_depended_on_is_found(run: RecordedRun) -> None:
    w = world(context_length=1024)
    k = len(run.actions) - 1

    def measure(more: Callable[[Observation], Observation] = lambda o: o) -> object:
        ask = w.answer()

        def answer(items: Sequence[AnyItem]) -> list[Sequence[Observation]]:
            assert all(isinstance(i, Item) and i.target_ids for i in items)
            return [[more(o) for o in batch] for batch in ask(items)]

        return drive(
            measure_action(
                w.ctx, Chat(w.speaks), "0123456789abcdef", 7, run.before[k], run.actions[k],
                instead=run.actions[0], ablations=24, level=0.9, seed=[1, 2, k],
            ),
            answer,
        )  # fmt: skip

    found = measure()
    assert found is not None
    assert [t.target for t in found.targets] == ["action:7", "contrast:7"]
    assert {s.evidence for s in found.scores} == {"scored"}
    assert all(m["effect"] >= 1 and m["lo"] > 0 for m in found.messages)
    assert len(found.messages) <= 3
    lost = measure(lambda o: Observation(o.key, 0, finish_reason="error", error="engine: no"))
    assert {t.label for t in lost.targets} == {"insufficient"} and not lost.messages
    assert {s.status for s in lost.scores} == {"insufficient"}
