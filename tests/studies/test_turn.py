"""One assistant turn of an agent's run as a trace, by a small chat template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.studies.context import world
from tracelab.core.episode import Arguments, Episode, InputStore, Step, ToolCall
from tracelab.core.errors import PlanError
from tracelab.core.options import Section
from tracelab.core.trace import Trace
from tracelab.studies.turn import turn_of


class Template:
    """`<role>text</>`, calls as JSON in the text, tools first."""

    def chat_text(
        self, messages: Sequence[Any], rendering: str, *, ask: bool = True, tools: Any = ()
    ) -> str:
        said = "".join(f"<{m['role']}>{self._body(m)}</>" for m in messages)
        offered = f"<tools>{json.dumps(list(tools))}</>" if tools else ""
        return offered + said + ("<assistant>" if ask else "")

    def _body(self, m: Any) -> str:
        calls = "".join(
            f"[{c['function']['name']} {json.dumps(c['function']['arguments'])}]"
            for c in m.get("tool_calls", ())
        )
        return f"{m['content']}{calls}"


CTX = world(Section(), tokenizer=Template()).ctx  # type: ignore[arg-type]


def run(*, recorded: bool = True) -> Trace:
    store = InputStore()
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    first = store.chain(asked)
    tools = store.put([{"name": "add", "parameters": {"type": "object"}}])
    call = ToolCall("add", Arguments.of({"a": 2, "b": 2}), "c1")
    written = {
        "role": "assistant", "content": "", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
        ],
    }  # fmt: skip
    node = store.extend(first, written)
    second = store.extend(node, {"role": "tool", "tool_call_id": "c1", "content": "4"})
    steps = (
        Step(0, "user", content="2 + 2?"),
        Step(1, "llm", agent="solver", content="I add.", calls=(call,), reasoning="easy",
             input=first if recorded else None, tools=tools),
        Step(2, "tool", tool="add", result="4", tool_call_id="c1"),
        Step(3, "llm", agent="solver", content="It is \\boxed{4}.",
             input=second if recorded else None),
    )  # fmt: skip
    episode = Episode(
        name="sum", steps=steps, format="test", task="2 + 2?", success=True, answer="4",
        reference="4", source="log.json", line=3, messages=store.messages, inputs=store.inputs,
    )  # fmt: skip
    return Trace.of_episode(episode)


def test_a_turn_follows_its_exact_input() -> None:
    found = turn_of(run(), 1, CTX)
    assert [(t.role, t.text) for t in found.prompt] == [("system", "Be brief."), ("user", "2 + 2?")]
    [tool] = found.turns[0].fields["tools"]
    assert tool["function"]["name"] == "add"
    assert found.response == '<think>\neasy\n</think>\n\nI add.[add {"a": 2, "b": 2}]'
    assert (found.source, found.line, found.episode) == ("log.json", 3, None)
    assert found.extra["step"] == 1 and found.extra["agent"] == "solver"


def test_what_came_of_the_run_belongs_to_its_last_turn_only() -> None:
    early, last = turn_of(run(), 1, CTX), turn_of(run(), 3, CTX)
    assert (early.reference, early.answer, early.success) == (None, None, None)
    assert (last.reference, last.answer, last.success) == ("4", "4", True)
    call, result = last.prompt[2:]
    assert call.fields["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 2}}
    assert (result.role, result.text, result.fields) == ("tool", "4", {"tool_call_id": "c1"})
    assert early.trace_id != last.trace_id


def test_an_input_that_was_not_recorded_is_the_conversation_before_it() -> None:
    found = turn_of(run(recorded=False), 3, CTX)
    assert [t.role for t in found.prompt] == ["user", "assistant", "tool"]


@pytest.mark.parametrize(
    ("step", "said"), [(2, "step 2 is a tool step"), (9, "step 9 does not exist")]
)
def test_what_is_no_turn_is_refused_with_those_that_are(step: int, said: str) -> None:
    with pytest.raises(PlanError) as e:
        turn_of(run(), step, CTX)
    assert str(e.value) == f"{said}; assistant turns are steps 1, 3"
    with pytest.raises(PlanError, match="no agent's run"):
        turn_of(turn_of(run(), 1, CTX), 1, CTX)
