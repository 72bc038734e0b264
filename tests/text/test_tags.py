"""Where reasoning ends, by the marks of every family: segmenter and graders agree."""

from __future__ import annotations

import pytest

from tracelab.text.segment import reasoning_range
from tracelab.text.tags import FAMILIES, opened_by, parted, reasoning_end, with_reasoning


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.opens)
def test_every_family(family) -> None:
    response = f"{family.opens}Six. No, seven.{family.closes[0]}It is 7."
    start, end = reasoning_range(response)
    assert response[start:end] == "Six. No, seven."
    assert parted(response) == (f"{family.opens}Six. No, seven.", "It is 7.")
    cut = f"{family.opens}Six. No"
    assert parted(cut) == ("", cut) and reasoning_end(cut) == 0


def test_all_blocks_are_reasoning() -> None:
    response = "<think>\nA.\n</think>\nHm.\n<think>\nB.\n</think>\nC."
    start, end = reasoning_range(response)
    assert response[start:end] == "A.\n</think>\nHm.\n<think>\nB."
    assert parted(response)[1] == "\nC."


def test_marks_around_an_answer_are_no_part_of_it() -> None:
    thought = "<|begin_of_thought|>\nA.\n<|end_of_thought|>\n"
    assert parted(thought + "<|begin_of_solution|>42<|end_of_solution|>")[1].strip() == "42"
    channels = "<|channel|>analysis<|message|>Six.<|end|><|start|>assistant"
    assert parted(channels + "<|channel|>final<|message|>7<|return|>")[1] == "7"


def test_a_mention_is_no_mark() -> None:
    for text in ("Write <think> first.", "Send <|end|> to stop.", "No marks."):
        assert parted(text) == ("", text)
    assert parted(with_reasoning("A.", "B."))[1].strip() == "B."


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.opens)
def test_a_mark_that_prompt_and_response_both_have(family) -> None:
    opens, closes = family.opens, family.closes[0]
    assert opened_by(f"Q?\n{opens}\n", f"{opens}\nhm{closes}7") == opens
    assert opened_by(f"Q?\n{opens}\n", f"hm{closes}7") == ""
    assert opened_by("Q?", f"{opens}\nhm{closes}7") == ""
