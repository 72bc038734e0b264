"""What a chat template leaves out is found by rendering, and said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tracelab.core.errors import PlanError
from tracelab.studies.shown import refuse_left_out
from tracelab.text.tags import FAMILIES, Family

CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "look up", "arguments": {"key": "Kale & Tea"}},
}
CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  What is lookup(Kale & Tea)?\n"},
    {"role": "assistant", "content": "I look.", "reasoning_content": "hm", "tool_calls": [CALL]},
    {"role": "tool", "content": "4", "tool_call_id": "c1"},
    {"role": "user", "content": "Go on."},
]
Messages = Sequence[Mapping[str, Any]]


def template(*, without: str = "", escaped: bool = False) -> Any:
    """A template that leaves something out; like many, it strips texts and may escape them."""

    def shown(what: str, text: str) -> str:
        if what == without:
            return ""
        return json.dumps(text.strip()) if escaped else text.strip()

    def render(messages: Messages, ask: bool) -> str:
        out = ""
        for i, m in enumerate(messages):
            if m["role"] == without:
                continue
            last = i == len(messages) - 1
            if without != "earlier" or last:
                out += shown("reasoning", m.get("reasoning_content", ""))
            if not (without == "text beside calls" and m.get("tool_calls")):
                out += f"<{m['role']}>{shown('text', m['content'])}"
            for c in m.get("tool_calls", ()) if without != "calls" else ():
                arguments = json.dumps(c["function"]["arguments"])
                out += shown("name", c["function"]["name"]) + shown("arguments", arguments)
        return out + "<assistant>" * ask

    return render


@pytest.mark.parametrize("escaped", [False, True])
def test_what_is_shown_is_not_refused_however_it_is_written(escaped: bool) -> None:
    refuse_left_out(CHAT, template(escaped=escaped))


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("system", "the text in message 1 (system): 'Be brief.'"),
        ("calls", "the call of tool 'look up' in message 3 (assistant): 'look up'"),
        ("name", "the name of the call of tool 'look up' in message 3 (assistant): 'look up'"),
        ("arguments", "the arguments of the call of tool 'look up' in message 3 (assistant): "
         """'{"key": "Kale & Tea"}'"""),
        ("reasoning", "the reasoning in message 3 (assistant): 'hm'"),
        ("text beside calls", "the text in message 3 (assistant): 'I look.'"),
        ("tool", "the text in message 4 (tool): '4'"),
    ],
)  # fmt: skip
def test_what_vanishes_is_named_even_where_its_words_stand_elsewhere(
    without: str, said: str
) -> None:
    with pytest.raises(PlanError) as e:
        refuse_left_out(CHAT, template(without=without))
    assert str(e.value) == f"the model's chat template does not show {said}"


def test_reasoning_that_only_later_turns_lose_was_never_read_by_the_model() -> None:
    refuse_left_out(CHAT, template(without="earlier"))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.opens)
def test_reasoning_within_a_text_vanishes_too(family: Family) -> None:
    opens, closes = family.opens, family.closes[0]
    thought = {"role": "assistant", "content": f"{opens}\nhm\n{closes}\n\nfour"}

    def strips(messages: Messages, ask: bool) -> str:
        return "".join(m["content"].rpartition(closes)[2] for m in messages)

    with pytest.raises(PlanError, match="the reasoning in message 2"):
        refuse_left_out([CHAT[1], thought, CHAT[4]], strips)
    refuse_left_out(
        [CHAT[1], thought], lambda messages, ask: "".join(m["content"] for m in messages)
    )


def test_a_template_that_takes_no_marks_is_held_to_the_words_themselves() -> None:
    known = {"look up"}

    def fussy(messages: Messages, ask: bool) -> str:
        calls = [c["function"] for m in messages for c in m.get("tool_calls", ())]
        if any(c["name"] not in known for c in calls):
            raise PlanError("no such tool")
        return template()(messages, ask) + "".join(map(str, calls))

    refuse_left_out(CHAT, fussy)
    with pytest.raises(PlanError, match="message 5"):
        refuse_left_out(CHAT, lambda messages, ask: fussy(messages[:4], ask))
