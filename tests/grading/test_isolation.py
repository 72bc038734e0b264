"""One response, or one reference, that grading stumbles over is `ungraded`: the run goes on."""

from __future__ import annotations

import pytest

from tracelab.core.errors import GradingError
from tracelab.core.seam import GradeRequest
from tracelab.grading.grader import Grader, GradingConfig
from tracelab.grading.written import LastNumber
from tracelab.text.answer.forms import canonical, extract_boxed

REFERENCES = ["1e400", "-1e400", "1e999", "9" * 5000, "²", "1/0", "٣", "\ud800", "10**10**10", ""]


def asked(response: str, reference: str) -> GradeRequest:
    return GradeRequest(response, reference, None, "stop", None)


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("tolerance", [0.0, 0.5, 1e300])
def test_any_reference_of_a_number(reference: str, tolerance: float) -> None:
    with Grader(GradingConfig(kind="number", tolerance=tolerance)) as grader:
        bad, good = grader.grade_many([asked("so 7", reference), asked("so 7", "7")])
    assert bad.status in ("graded", "ungraded") and (bad.reward is None) == (bad.detail is not None)
    assert good.reward == 1.0


def test_numbers_beyond_floats_are_compared_exactly() -> None:
    with Grader(GradingConfig(kind="number", tolerance=0.01)) as grader:
        near, far = (
            grader.grade(r, reference="1e400", own_answer=None, finish_reason="stop")
            for r in ("\\boxed{1.001e400}", "\\boxed{1.1e400}")
        )
    assert (near.reward, far.reward) == (1.0, 0.0)


@pytest.mark.parametrize(
    "error", [OverflowError("int too large"), MemoryError(), RecursionError(), KeyError("x")]
)
def test_whatever_grading_one_raises_the_others_are_graded(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real = LastNumber.find

    def stumbling(self: LastNumber, text: str) -> str | None:
        if "odd" in text:
            raise error
        return real(self, text)

    monkeypatch.setattr(LastNumber, "find", stumbling)
    with Grader(GradingConfig(kind="number")) as grader:
        first, odd, last = grader.grade_many(asked(r, "7") for r in ("7", "odd 7", "7"))
    assert (first.reward, last.reward) == (1.0, 1.0)
    assert (odd.status, odd.reward) == ("ungraded", None)
    assert type(error).__name__ in (odd.detail or "")


@pytest.mark.parametrize("error", [OSError(28, "No space left"), GradingError("no sandbox")])
def test_what_is_wrong_with_the_machine_is_not_about_one_text(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(self: LastNumber, text: str) -> str | None:
        raise error

    monkeypatch.setattr(LastNumber, "find", failing)
    with Grader(GradingConfig(kind="number")) as grader, pytest.raises(type(error)):
        grader.grade_many([asked("7", "7")])


N = 200_000
LONG = {
    "breaks": "\n" * N + "x",
    "blanks": "answer is " + " " * N + "x",
    "brackets": "answer: " + "(" * N,
    "boxes": "\\boxed{" * N + "7" + "}" * N,
    "open boxes": "\\boxed{" * N,
    "degrees": "1" + " " * N + "x" + " " * N,
    "text": "\\text{" * N + "x" + "}" * N,
}


@pytest.mark.parametrize("name", LONG)
def test_long_answers_take_linear_time(name: str) -> None:
    """At these lengths anything quadratic would take many minutes, and the test's deadline."""
    text = LONG[name]
    canonical(text)
    extract_boxed(text)
    for kind in ("choice", "number", "exact", "yes_no"):
        with Grader(GradingConfig(kind=kind)) as grader:
            grader.extract(text)
