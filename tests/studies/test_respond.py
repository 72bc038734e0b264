"""Responses to prompts: which are kept, what they are called, and what becomes of failures."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from tests.helpers import scripted_trace
from tests.studies.context import Answering, World, drive_shuffled, scripted, world
from tracelab.core.flow import drive
from tracelab.core.item import Item
from tracelab.core.options import Section
from tracelab.core.trace import Trace, Turn
from tracelab.engines.scripted import Script
from tracelab.studies.respond import respond


def prompts(count: int, reference: str | None = "7") -> list[Trace]:
    return [
        Trace(turns=(Turn("user", f"q{k}"),), name=f"p{k}", reference=reference, source="f", line=k)
        for k in range(count)
    ]


def answer(
    traces: list[Trace], w: World | None = None, order: random.Random | None = None, **more: Any
) -> tuple[list[Trace], list[Any], list[Item]]:
    w = w or world(Section())
    answering = Answering(scripted(refuse=more.pop("refuse", None)))
    flow = respond(traces, w.ctx, **more)
    found = drive(flow, answering) if order is None else drive_shuffled(flow, answering, order)
    return *found, answering.generated()


def test_prompts_are_answered_and_answered_traces_pass_through(script: Script) -> None:
    mine = scripted_trace(script, 5)
    asked = prompts(2)
    found, rejects, items = answer([asked[0], mine, asked[1]])
    assert [t.name for t in found] == ["p0", mine.name, "p1"] and rejects == []
    assert found[1] is mine
    assert {i.intervention for i in items} == {"base"} and len(items) == 2
    assert all(i.sampling is not None and i.sampling.logprobs for i in items)
    for t in (found[0], found[2]):
        turn = t.turns[-1]
        assert t.answered and t.model == "scripted" and t.answer in ("7", "3")
        assert t.success == (t.answer == "7")
        assert turn.token_ids is not None and turn.token_logprobs is not None
        assert len(turn.token_ids) == len(turn.token_logprobs)


def test_the_first_right_and_the_first_wrong_one_are_kept() -> None:
    both, _, items = answer(prompts(1), attempts=12, keep="both")
    assert items[0].replicates == 12
    assert sorted(t.success for t in both) == [False, True]
    first, _, _ = answer(prompts(1), attempts=12, keep="first")
    assert first == both[:1] and first[0].name == "p0"
    later = int(both[1].name.removeprefix("p0#"))
    earlier, _, _ = answer(prompts(1), attempts=later, keep="both")
    assert earlier == first


def test_without_a_reference_no_response_is_right_or_wrong() -> None:
    found, _, _ = answer(prompts(1, reference=None), attempts=3, keep="both")
    assert [(t.success, t.answer is None) for t in found] == [(None, True)]


def test_a_failure_is_a_reject_and_the_others_go_on() -> None:
    found, rejects, _ = answer(prompts(3), refuse=ord("1"), attempts=2)
    assert [t.name for t in found] == ["p0", "p2"]
    assert [(r.file, r.line) for r in rejects] == [("f", 1), ("f", 1)]
    assert rejects[0].reason.startswith("p1: no base trace: engine: ")


def test_a_prompt_that_cannot_be_rendered_is_a_reject() -> None:
    from tracelab.core.errors import PlanError

    class NoTemplate:
        def render(self, turns: object, rendering: object) -> tuple[int, ...]:
            raise PlanError("there is no chat template")

    found, rejects, items = answer(prompts(1), world(Section(), tokenizer=NoTemplate()))  # type: ignore[arg-type]
    assert (found, items) == ([], [])
    assert [r.reason for r in rejects] == ["p0: there is no chat template"]


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_arrival_changes_nothing(seed: int) -> None:
    asked = [*prompts(3), dataclasses.replace(prompts(1)[0], name="twin")]
    plain = answer(asked, attempts=6, keep="both")[:2]
    assert answer(asked, order=random.Random(seed), attempts=6, keep="both")[:2] == plain
