from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden.published_grades import first_boxed, grade, is_correct
from tracelab.core.item import UNANSWERED
from tracelab.studies.anchors.published.answers import normalize_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{7}, no, \boxed{8}", "7"),
        (r"\boxed{} then \boxed{8}", "8"),
        (r"\boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{never closed {here", "never closed {here"),
        (r"\boxed {7}", ""),
        ("nothing", ""),
        ("", ""),
        (r"\boxed{ }", " "),
    ],
)
def test_the_first_box_that_is_not_empty(text: str, answer: str) -> None:
    assert first_boxed(text) == answer


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        (r" \dfrac{1}{2} ", r"\frac12"),
        (r"\tfrac{X}{y}", r"\fracxy"),
        (r"12\%", "12"),
        ("1{,}000", "1000"),
        ("1,000", "1.000"),
        ("1,000,000", "1.000,000"),
        (r"2 \times 3 \cdot \pi", "2*3*pi"),
        (r"\text{Monday}", "monday"),
        (r"October\ 30", "october30"),
        (r"\frac{\sqrt{3}}{2}", r"\frac{\sqrt3}2"),
        ("", ""),
    ],
)
def test_normal_forms(answer: str, form: str) -> None:
    assert normalize_answer(answer) == form


def test_known_collisions() -> None:
    assert normalize_answer(r"\frac{12}{3}") == normalize_answer(r"\frac{1}{23}")
    assert normalize_answer("1,000") == normalize_answer("1.000") != normalize_answer("1000")


@given(st.text(alphabet="1234,.", max_size=30))
def test_decimal_commas_are_read_from_the_left_without_overlap(text: str) -> None:
    assert normalize_answer(text) == re.sub(r"(\d+)[.,](\d+)", r"\1.\2", text)


@given(st.text(alphabet="ab\\1 ", max_size=30))
def test_dates_lose_their_backslashes(text: str) -> None:
    assert normalize_answer(text) == re.sub(r"([a-z]+)\\+(\d+)", r"\1\2", text.replace(" ", ""))


@given(st.text(max_size=200))
def test_any_text_is_graded(text: str) -> None:
    outcome = grade(text, "7")
    assert outcome.status in ("graded", "unanswered")
    assert (outcome.answer == UNANSWERED) == (first_boxed(text) == "") or outcome.reward == 0


@pytest.mark.parametrize("piece", [r"\boxed{", "{", "1", "a", "\\", r"\text{", "{1,"])
def test_long_hostile_text_is_read_once(piece: str) -> None:
    text = piece * 50_000
    assert len(normalize_answer(text)) <= len(text)
    assert len(first_boxed(r"\boxed{" + text)) <= len(text)


def test_algebra_is_asked_only_when_the_strings_differ() -> None:
    asked = []

    def algebra(a: str, b: str) -> bool:
        asked.append((a, b))
        return a == r"\frac{2}{4}"

    assert is_correct("0,5", "0.5", algebra) and not asked
    assert is_correct(r"\frac{2}{4}", "0.5", algebra) and len(asked) == 1
    assert not is_correct("7", "0.5", algebra)
    assert not is_correct(r"\frac{2}{4}", "0.5")


def test_grading() -> None:
    right = grade(r"\boxed{1{,}000}", "1000")
    assert (right.answer, right.reward, right.status) == ("1000", 1.0, "graded")
    assert grade(r"\boxed{8}", "7").reward == 0.0
    assert grade(r"\boxed{8}", None).reward == 0.0
    assert grade("no box", "7").status == "unanswered"
