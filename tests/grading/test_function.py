"""Users' own outcome functions: every way they can answer, fail, hang and be missing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracelab.core.errors import GradingError
from tracelab.core.item import UNANSWERED, Outcome
from tracelab.core.seam import GradeRequest
from tracelab.core.trace import Trace, Turn
from tracelab.grading.cache import MemoryOutcomes
from tracelab.grading.function import checked
from tracelab.grading.grader import Grader, GradingConfig

SOURCE = """
import os, sys, time

def outcome(response, *, reference, trace):
    print("noise on stdout")
    sys.stdin.read()
    if response == "hang":
        time.sleep(1e6)
    if response == "die":
        os._exit(0)
    if response == "exit":
        sys.exit("bye")
    if response == "raise":
        raise KeyError("the\\nkey")
    if response == "trace":
        name = trace["name"]
        trace["name"] = "changed"
        return name
    if response == "extra":
        return trace["turns"][0]["text"]
    if response == "count":
        with open("calls", "a") as f: f.write("x")
        return os.path.getsize("calls") / 100
    return eval(response, {"reference": reference, "nan": float("nan"), "trace": trace})

def other(response, *, reference, trace):
    return 0.0

not_callable = 3
"""
TRACE = Trace((Turn("user", "Which?", token_ids=(1,)), Turn("assistant", "'own'")), name="mine")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "user_outcomes.py").write_text(SOURCE)
    (tmp_path / "needs_more.py").write_text("import not_installed_anywhere")
    (tmp_path / "broken.py").write_text("def f(:")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def grader(folder: Path) -> Iterator[Grader]:
    with Grader(config()) as grader:
        yield grader


def config(name: str = "user_outcomes:outcome", **kw: float) -> GradingConfig:
    return GradingConfig(kind="function", function=name, **kw)  # type: ignore[arg-type]


def grade(grader: Grader, response: str, reference: str | None = "Red") -> Outcome:
    return grader.grade(
        response, reference=reference, own_answer=None, finish_reason="stop", trace=TRACE
    )


def test_what_it_may_return(grader: Grader) -> None:
    for response, expected in [
        ("0.25", Outcome("0.25", 0.25, "graded")),
        ("True", Outcome("1", 1.0, "graded")),
        ("'red'", Outcome("red", 1.0, "graded")),
        ("'s'", Outcome("s", 0.0, "graded")),
        ("reference", Outcome("red", 1.0, "graded")),
        ("{'reward': 0.5, 'answer': 'Blue'}", Outcome("blue", 0.5, "graded")),
        ("{'answer': 'Red'}", Outcome("red", 1.0, "graded")),
        ("{'reward': 1}", Outcome("1", 1.0, "graded")),
        ("{'answer': None}", Outcome(UNANSWERED, 0.0, "unanswered")),
        ("'unanswered'", Outcome('"unanswered"', 0.0, "graded")),
    ]:
        assert grade(grader, response) == expected, response
    for response, why in [
        ("nan", "its reward nan is not in [0, 1]"),
        ("1.5", "its reward 1.5 is not in [0, 1]"),
        ("-1e-9", "its reward -1e-09 is not in [0, 1]"),
        ("None", "it returned None: is a `return` missing?"),
        ("[1]", "its reward is list '[1]', not a number"),
        ("1j", "its reward is complex '1j', not a number"),
        ("''", "its answer is str '', not a text"),
        ("{}", "it returned an empty dict"),
        (
            "{'rewrad': 1}",
            "it returned a dict with the unknown key 'rewrad'; known: reward, answer",
        ),
        ("{'reward': 1, 'answer': None}", "it gave a reward but None as its answer"),
        ("raise", "KeyError: 'the\\nkey'"),
        ("exit", "SystemExit: bye"),
    ]:
        outcome = grade(grader, response)
        assert (outcome.answer, outcome.reward, outcome.status) == (None, None, "ungraded")
        assert outcome.detail == f"The outcome function failed: {why}", response


def test_it_sees_the_trace_and_cannot_change_it(grader: Grader) -> None:
    assert grade(grader, "trace", "mine").reward == 1
    assert grade(grader, "extra", "Which?").reward == 1
    assert grade(grader, "trace['name']", "mine").reward == 1


def test_without_a_reference_its_answer_is_compared_with_its_own(grader: Grader) -> None:
    assert grader.own_answer(TRACE) == "own"
    for response, reward in (("'own'", 1), ("'else'", 0)):
        outcome = grader.grade(
            response, reference=None, own_answer="own", finish_reason="stop", trace=TRACE
        )
        assert outcome.reward == reward
    assert grade(grader, "'own'", None).status == "ungraded"
    assert grade(grader, "0.5", None).reward == 0.5


def test_hanging_or_dying_costs_one_grade(folder: Path) -> None:
    # The limit holds for the calls that answer, too: generous for a busy machine.
    with Grader(config(timeout_s=3, workers=1)) as grader:
        assert grade(grader, "hang").detail == "`user_outcomes:outcome` took longer than 3 s."
        assert grade(grader, "trace", "mine").reward == 1
        assert grade(grader, "die").detail == "`user_outcomes:outcome` ended the grading process."
        assert grade(grader, "trace", "mine").reward == 1


def test_many_in_order_in_several_processes(folder: Path) -> None:
    with Grader(config(workers=3)) as grader:
        requests = [
            GradeRequest("raise" if i == 5 else f"{i / 10}", None, None, "stop", TRACE)
            for i in range(10)
        ]
        found = [o.reward for o in grader.grade_many(requests)]
    assert found == [None if i == 5 else i / 10 for i in range(10)]


def test_the_first_grade_is_kept_until_the_source_changes(folder: Path) -> None:
    kept = MemoryOutcomes()

    def session() -> float | None:
        with Grader(config(), cache=kept) as grader:
            return grade(grader, "count").reward

    assert session() == session() == 0.01
    (folder / "user_outcomes.py").write_text(SOURCE + "\n# changed")
    assert session() == 0.02


def test_failures_are_not_kept(folder: Path) -> None:
    class Untouched(MemoryOutcomes):
        def put(self, key: str, value: dict[str, Any]) -> dict[str, Any]:
            raise AssertionError("a failure was kept")

    with Grader(config(), cache=Untouched()) as grader:
        assert grade(grader, "raise").status == "ungraded"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:f", "there is no module `nowhere` in .* or among the installed packages"),
        ("user_outcomes:missing", "module `user_outcomes` has no function `missing`"),
        ("user_outcomes:not_callable", "`user_outcomes:not_callable` is not a function"),
        ("needs_more:f", "module `needs_more` needs `not_installed_anywhere`, which is missing"),
        ("broken:f", "SyntaxError"),
    ],
)
def test_a_missing_function_is_one_sentence_before_the_run(
    folder: Path, name: str, message: str
) -> None:
    with pytest.raises(GradingError, match=message) as caught:
        Grader(config(name))
    assert "\n" not in str(caught.value) and name in str(caught.value)
    assert caught.value.exit_code == 2


@given(st.floats() | st.integers())
def test_rewards_are_in_range_or_refused(value: float) -> None:
    if not math.isnan(value) and 0 <= value <= 1:
        assert checked(value) == {"reward": float(value), "answer": None}
    else:
        with pytest.raises(ValueError, match="not in"):
            checked(value)


def test_numpy_scalars_are_numbers() -> None:
    assert checked(np.float32(0.5))["reward"] == 0.5
    assert checked(np.bool_(True))["reward"] == 1
