"""Which of two patterns comes last, against a slow direct definition."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracelab.core.item import UNANSWERED, Outcome
from tracelab.grading.grader import Grader, GradingConfig
from tracelab.grading.yes_no import find_yes_no


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Yes.", "yes"),
        ("yes, or rather NO", "no"),
        ("No</think>Yes", "yes"),
        ("Yes</think>Hm.", "yes"),
        ("yesterday I know nothing", None),
        ("", None),
    ],
)
def test_last_one_counts(response: str, answer: str | None) -> None:
    grader = Grader(GradingConfig(kind="yes_no"))
    outcome = grader.grade(response, reference="no", own_answer=None, finish_reason="stop")
    if answer is None:
        assert outcome == Outcome(UNANSWERED, 0.0, "unanswered")
    else:
        assert outcome == Outcome(answer, float(answer == "yes"), "graded")
    assert grader.reward_kind(None, None) == "outcome"


def test_own_patterns() -> None:
    grader = Grader(GradingConfig(kind="yes_no", positive="safe", negative="unsafe"))
    assert grader.extract("It is unsafe.") == "no"
    assert grader.extract("It is unsafe. Now SAFE.") == "yes"
    grader = Grader(GradingConfig(kind="yes_no", positive="guilty", negative="not guilty"))
    assert grader.extract("guilty? not guilty") == "no"
    case = GradingConfig(kind="yes_no", positive="YES", negative="NO", case_sensitive=True)
    assert Grader(case).extract("YES yes no") == "yes"


def test_a_tie_says_nothing() -> None:
    assert (
        Grader(GradingConfig(kind="yes_no", positive="maybe", negative="may..")).extract(
            "yes maybe"
        )
        is None
    )


@given(st.text("abc"))
def test_equals_the_slow_definition(text: str) -> None:
    """Single letters never overlap, so the last letter decides."""
    letters = [c for c in text if c in "ab"]
    expected = {"a": "yes", "b": "no"}[letters[-1]] if letters else None
    assert find_yes_no(text, re.compile("a"), re.compile("b")) == expected
