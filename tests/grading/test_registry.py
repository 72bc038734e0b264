"""A kind of outcome of somebody else's is checked, graded and listed like our own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tracelab.core.errors import GradingError
from tracelab.core.item import Outcome
from tracelab.core.seam import GradeRequest
from tracelab.core.trace import Trace
from tracelab.grading.grader import Grader, GradingConfig
from tracelab.grading.registry import OUTCOMES
from tracelab.grading.rule import Given, TextRule, WaitingRule


class Shout(TextRule):
    """The last word in capitals."""

    def find(self, text: str) -> str | None:
        words = [w for w in text.split() if w.isupper()]
        return words[-1] if words else None

    def equal(self, answer: str, target: str) -> bool:
        return False


class Longer(WaitingRule):
    """Whether the response is longer than the question."""

    fields = ("workers",)

    def grade(self, response: str, reference: str | None, trace: Trace | None) -> Outcome | Given:
        return Given("long" if len(response) > 10 else "short", float(len(response) > 10))


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OUTCOMES, "_members", dict(OUTCOMES))
    monkeypatch.setattr(OUTCOMES, "_order", dict(OUTCOMES._order))
    OUTCOMES.register("shout")(Shout)
    OUTCOMES.register("longer")(Longer)


def ask(response: str, reference: str | None = "BLUE") -> GradeRequest:
    return GradeRequest(response, reference, None, "stop")


def test_a_rule_that_finds_an_answer(mine: None) -> None:
    with Grader(GradingConfig(kind="shout")) as grader:
        found = grader.grade_many([ask("It is RED no BLUE"), ask("RED"), ask("none")])
        assert [(o.status, o.reward) for o in found] == [
            ("graded", 1.0), ("graded", 0.0), ("unanswered", 0.0),
        ]  # fmt: skip
        assert grader.reward_kind("BLUE", None) == "reference"


def test_a_rule_that_decides(mine: None) -> None:
    with Grader(GradingConfig(kind="longer", workers=2)) as grader:
        found = grader.grade_many([ask("long enough, this"), ask("no")])
    assert [(o.answer, o.reward) for o in found] == [("long", 1.0), ("short", 0.0)]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"kind": "shot"}, "there is no such kind of outcome; did you mean 'shout'"),
        ({"kind": "shout", "workers": 2}, "`workers` is for kind `function` and `code` and"),
        ({"kind": "shout", "pattern": "(?P<a>.)"}, "`pattern` is for kind `regex`"),
    ],
)
def test_configs_are_checked(mine: None, given: Mapping[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        GradingConfig(**given)


def test_a_recorded_config_holds_the_fields_of_its_kind(mine: None) -> None:
    old = {"kind", "pattern", "choices", "tolerance", "case_sensitive", "timeout_s"}
    assert set(GradingConfig().model_dump()) == old
    assert set(GradingConfig(kind="shout").model_dump()) == old
    assert set(GradingConfig(kind="longer").model_dump()) == {*old, "workers"}


def test_a_judge_needs_a_connection(tmp_path: Path) -> None:
    judge = {"base_url": "http://localhost:1/v1", "model": "m", "rubric": "r"}
    with pytest.raises(GradingError, match="needs a connection"):
        Grader(GradingConfig.model_validate({"kind": "judge", "judge": judge}))


def test_every_kind_says_what_it_is() -> None:
    assert all((rule.__doc__ or "").strip() for rule in OUTCOMES.values())
