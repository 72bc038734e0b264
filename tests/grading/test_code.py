"""Code found in responses, and graded by its tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracelab.core.errors import GradingError
from tracelab.core.item import UNANSWERED, Outcome
from tracelab.core.seam import GradeRequest
from tracelab.grading import code as code_module
from tracelab.grading.cache import MemoryOutcomes
from tracelab.grading.code import extract_code
from tracelab.grading.grader import CodeConfig, Grader, GradingConfig
from tracelab.grading.sandbox import SandboxError, run_tests


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ("```python\na\n```\nand\n```python\nb\n```\n", "b\n"),
        ("```python\na\n```\nprints\n```text\n4\n```", "a\n"),
        ("```py\na\n```\nor\n```\nb\n```", "a\n"),
        ("```\na\n```\nprints\n```text\n4\n```", "a\n"),
        ("```text\na\n```", "a\n"),
        ("So:\n```python\na = 1", "a = 1"),
        ("````python\nx = '''\n```\n'''\n````", "x = '''\n```\n'''\n"),
        ("~~~python\na\n~~~", "a\n"),
        ("```python\n```", "```python\n```"),
        ("a = 1", "a = 1"),
        ("```python\na\n```</think>done", "a\n"),
        ("```python\na\n```</think>```python\nb\n```", "b\n"),
        ("thinking</think>a = 1", "a = 1"),
        ("  \n", None),
        ("thinking</think>", None),
    ],
)
def test_extract_code(response: str, code: str | None) -> None:
    assert extract_code(response) == code


@given(st.text("`~python\n </think>"))
def test_extract_code_never_fails(response: str) -> None:
    code = extract_code(response)
    assert code is None or (code.strip() and code in response)


def config(**kw: Any) -> GradingConfig:
    return GradingConfig(kind="code", timeout_s=20, code=CodeConfig(**kw))


@pytest.fixture(scope="module")
def grader() -> Grader:
    try:
        run_tests("pass", "pass", code_module.Limits(wall_s=20))
    except SandboxError as e:
        pytest.skip(str(e))
    return Grader(config())


def grade(grader: Grader, response: str, reference: str | None) -> Outcome:
    return grader.grade(response, reference=reference, own_answer=None, finish_reason="stop")


def test_outcomes(grader: Grader) -> None:
    right, tests = "```python\nf = lambda x: x * x\n```", "assert f(3) == 9"
    assert grade(grader, right, tests) == Outcome("pass", 1.0, "graded")
    assert grade(grader, right, "assert f(3) == 8") == Outcome(
        "fail", 0.0, "graded", "AssertionError"
    )
    assert grade(grader, "no code here", tests).answer == "error:SyntaxError"
    assert grade(grader, " ", tests) == Outcome(UNANSWERED, 0.0, "unanswered")
    for reference in (None, "", "assert f("):
        outcome = grade(grader, right, reference)
        assert (outcome.status, outcome.reward) == ("ungraded", None) and outcome.detail


def test_tests_from_a_file(grader: Grader, tmp_path: Path) -> None:
    file = tmp_path / "tests.py"
    file.write_text("assert f(3) == 9")
    kept = MemoryOutcomes()
    with Grader(config(tests_file=str(file)), cache=kept) as from_file:
        assert grade(from_file, "def f(x): return x * x", "ignored (").reward == 1
        assert from_file.reward_kind(None, None) == "outcome"
    assert grader.reward_kind(None, "x") is None
    file.write_text("assert f(")
    with pytest.raises(GradingError, match=r"tests_file: The tests are not Python"):
        Grader(config(tests_file=str(file)))
    file.write_text("assert f(3) == 10")
    with Grader(config(tests_file=str(file)), cache=kept) as from_file:  # other tests, graded anew
        assert grade(from_file, "def f(x): return x * x", "ignored (").reward == 0
    with pytest.raises(GradingError, match=r"tests_file: .*cannot be read \(No such file"):
        Grader(config(tests_file=str(tmp_path / "none")))


def test_a_machine_without_namespaces_is_told_before_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise SandboxError("The sandbox could not be built (EPERM).")

    monkeypatch.setattr(code_module, "run_tests", refuse)
    with pytest.raises(GradingError, match=r"EPERM.*isolation = \"limits\""):
        Grader(config())


def test_the_first_result_is_kept(grader: Grader) -> None:
    """Every run ends differently; a second session reads what the first one saw."""
    dice = "import os\nraise type('E' + os.urandom(8).hex(), (Exception,), {})"
    response = "def f(): return 1"
    kept = MemoryOutcomes()
    seen = grade(Grader(config(), cache=kept), response, dice)
    assert grade(Grader(config(), cache=kept), response, dice) == seen
    assert grade(grader, response, dice).answer != seen.answer


def test_many_in_order(grader: Grader) -> None:
    requests = [
        GradeRequest(f"def f(): return {i % 3}", "assert f() == 1", None, "stop") for i in range(9)
    ]
    assert [o.reward for o in grader.grade_many(requests)] == [0, 1, 0] * 3
