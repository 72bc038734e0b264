"""Answers that look alike and differ are never called equal; what is equal is, however spelled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.grading.near_misses import near_misses
from tracelab.grading.grader import Grader


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as grader:
        yield grader


def _reward(grader: Grader, answer: str, reference: str) -> float | None:
    return grader.grade(
        f"So \\boxed{{{answer}}}.", reference=reference, own_answer=None, finish_reason="stop"
    ).reward


def _wrongly_equal(grader: Grader, pairs: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    return [p for p in pairs if _reward(grader, p[1], p[2]) == 1]


def test_no_near_miss_is_equal_to_what_it_misses(grader: Grader) -> None:
    pairs = near_misses()
    assert len({kind for kind, _, _ in pairs}) == 14
    assert _wrongly_equal(grader, pairs[:: len(pairs) // 400]) == []


@pytest.mark.long
def test_none_of_thousands_is(grader: Grader) -> None:
    pairs = near_misses()
    assert len(pairs) > 2000
    assert _wrongly_equal(grader, pairs) == []
    # And few are given up: most can be told.
    ungraded = sum(_reward(grader, a, b) is None for _, a, b in pairs)
    assert ungraded < 0.1 * len(pairs)
