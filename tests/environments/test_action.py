"""What a model wrote is read into calls, words and reasoning, in the form of any family."""

from __future__ import annotations

from typing import Any

import pytest

from tracelab.environments.action import Action
from tracelab.text.tags import FAMILIES, Family

WEATHER = {"city": "Bonn", "days": 2}


@pytest.mark.parametrize(
    "said",
    [
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn", "days": 2}}\n</tool_call>',
        '<tool_call>{"name": "weather", "arguments": "{\\"city\\": \\"Bonn\\", \\"days\\": 2}"}'
        "</tool_call>",
        '<function=weather>{"city": "Bonn", "days": 2}</function>',
        "<tool_call>\n<function=weather>\n<parameter=city>\nBonn\n</parameter>\n<parameter=days>\n2\n"
        "</parameter>\n</function>\n</tool_call>",
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Bonn</arg_value>\n<arg_key>days"
        "</arg_key>\n<arg_value>2</arg_value>\n</tool_call>",
        '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Bonn", "days": 2}}]',
        '[TOOL_CALLS]weather[ARGS]{"city": "Bonn", "days": 2}',
        '{"name": "weather", "parameters": {"city": "Bonn", "days": 2}}',
        '<\uff5ctool\u2581call\u2581begin\uff5c>function<\uff5ctool\u2581sep\uff5c>weather\n```json\n'
        '{"city": "Bonn", "days": 2}\n```<\uff5ctool\u2581call\u2581end\uff5c>',
    ],
)  # fmt: skip
def test_calls_of_any_family_are_read(said: str) -> None:
    for text in (said, f"hm\n</think>\n\n{said}", f"<think>\nhm\n</think>\n\n{said}"):
        action = Action(text)
        [call] = action.calls
        assert (call.name, call.arguments, action.text) == ("weather", WEATHER, "")
        assert action == text and action.reasoning == ("hm" if text != said else "")
    spoken = Action(f"Let me see.\n{said}")
    if not said.startswith("{"):
        assert spoken.text == "Let me see." and len(spoken.calls) == 1


@pytest.mark.parametrize(
    ("said", "calls"),
    [
        ("It is 7.", []),
        ('{"answer": 7}', []),
        ('[{"name": "x"}]', []),
        ("<tool_call>lookup  Kale soup</tool_call>", [("lookup", "Kale soup")]),
        ('<tool_call>{"name": "f", "arguments": ', []),
        ('<function=f>{"a": </function>', [("f", '{"a":')]),
    ],
)
def test_what_is_no_call_is_none_and_what_is_no_json_stays_text(said: str, calls: Any) -> None:
    assert [(c.name, c.arguments) for c in Action(said).calls] == calls


def test_several_calls_are_in_order_and_have_replies() -> None:
    action = Action("".join(f'<tool_call>{{"name": "f{i}"}}</tool_call>' for i in range(3)))
    assert [c.name for c in action.calls] == ["f0", "f1", "f2"]
    assert action.calls[0].reply({"a": 1}) == {"role": "tool", "name": "f0", "content": '{"a": 1}'}
    assert action.calls[1].reply("x")["content"] == "x"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.opens)
def test_reasoning_is_told_by_the_marks_of_every_family(family: Family) -> None:
    said = '<tool_call>{"name": "f", "arguments": {}}</tool_call>Wait.'
    action = Action(f"{family.opens}hm{family.closes[0]}{said}")
    assert (action.reasoning, action.text, len(action.calls)) == ("hm", "Wait.", 1)
    assert action.message["content"] == action
    if not family.shared:  # as a template that opens the reasoning leaves it
        action = Action(f"hm\n{family.closes[0]}{said}")
        assert (action.reasoning, action.text, len(action.calls)) == ("hm", "Wait.", 1)
        assert action.message["content"] == f"{family.opens}\n{action}"


def test_the_message_has_the_think_that_the_prompt_opened() -> None:
    assert Action("hm\n</think>\n\n7").message["content"] == "<think>\nhm\n</think>\n\n7"
    assert Action("7").message == {"role": "assistant", "content": "7"}
    assert Action("<think>a</think>7").message["content"] == "<think>a</think>7"
