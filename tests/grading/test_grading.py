"""Answers found, named and judged; nothing a model writes can hang, run or crash the grader."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.shared import needs_shared, thought_anchors
from tracelab.core.errors import ConfigError
from tracelab.core.item import UNANSWERED, Outcome
from tracelab.core.seam import GradeRequest
from tracelab.grading.equality import EqualityError, MathEquality
from tracelab.grading.grader import CodeConfig, Grader, GradingConfig, JudgeConfig
from tracelab.run.config import parse_config
from tracelab.text.answer.compare import surely_equal
from tracelab.text.answer.forms import canonical, extract_boxed, surely_number

FOLDERS = thought_anchors()


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as grader:
        yield grader


def grade(grader: Grader, answer: str, reference: str | None, **kw: Any) -> Outcome:
    options = {"own_answer": None, "finish_reason": "stop", **kw}
    return grader.grade(f"So \\boxed{{{answer}}}.", reference=reference, **options)


# finding


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{7}", "7"),
        (r"\boxed{6} no, \boxed{7}", "7"),
        (r"\boxed{7} and \boxed{}", "7"),
        (r"\boxed{7} and \boxed{ }", "7"),
        (r"\boxed {7}", "7"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\boxed{7}}", r"\boxed{7}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ 1 \right.}", r"\left\{ 1 \right."),
        (r"\boxed{7} then \boxed{12", "7"),
        (r"\boxed{ \boxed{7}", "7"),
        (r"{ \boxed{7}", "7"),
        (r"} \boxed{7}", "7"),
        (r"\boxed", None),
        (r"\boxed{12", None),
        ("7", None),
        ("", None),
    ],
)
def test_extract_boxed(text: str, answer: str | None) -> None:
    assert extract_boxed(text) == answer


@given(st.text("\\boxed{} 7$"))
def test_extract_boxed_never_fails(text: str) -> None:
    answer = extract_boxed(text)
    assert answer is None or (answer.strip() == answer != "" and answer in text)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"\boxed{1}</think>\boxed{2}", "2"),
        (r"\boxed{1}</think>It is one.", "1"),
        (r"\boxed{1} and on", "1"),
        (r"</think>\boxed{1}</think>", "1"),
    ],
)
def test_the_text_after_the_reasoning_comes_first(
    grader: Grader, response: str, answer: str
) -> None:
    assert grader.extract(response) == answer


@pytest.mark.parametrize(
    ("config", "response", "answer"),
    [
        ({"kind": "regex", "pattern": r"bill is (?P<n>\d+)"}, "bill is 3. bill is 4.", "4"),
        ({"kind": "regex", "pattern": r"bill is (?P<n>\d*)"}, "bill is 3. bill is ", "3"),
        ({"kind": "regex", "pattern": r"bill is (?P<n>\d+)"}, "bill was 3", None),
        ({"kind": "choice"}, "A quick look. The answer is (C).", "C"),
        ({"kind": "choice"}, "The answer is B. No: the answer is D.", "D"),
        ({"kind": "choice"}, r"It is \boxed{\text{(B)}}", "B"),
        ({"kind": "choice"}, "So:\n**E**\n", "E"),
        ({"kind": "choice"}, "**Answer:** C", "C"),
        ({"kind": "choice"}, "The answer is a mystery. A man.", None),
        ({"kind": "choice", "choices": "AB"}, "The answer is C.", None),
        ({"kind": "number"}, "First 3, then 1,234.5.", "1,234.5"),
        ({"kind": "number"}, r"\boxed{\frac{1}{2}} of 7", r"\frac{1}{2}"),
        ({"kind": "number"}, "none", None),
        ({"kind": "exact"}, "Hm.\n\nKale \n", "Kale"),
        ({"kind": "exact"}, " \n", None),
    ],
)
def test_other_kinds(config: dict[str, Any], response: str, answer: str | None) -> None:
    assert Grader(GradingConfig(**config)).extract(response) == answer


# naming


@pytest.mark.parametrize(
    "same",
    [
        ["7", "7.0", r"\frac{14}{2}", "14/2", r"\text{7}", "$7$", "7.", "+7", r"\boxed{7}", "07"],
        ["1000", "1,000", r"1{,}000", r"1,\!000", "1000.0", "1e3", "1 000", "1'000", "１０００"],
        ["1234.5", "1.234,5", "1,234.5", "1 234,5", r"1{,}234.5"],
        ["3.5", r"3\frac{1}{2}", "3 1/2", "3½", "٣٫٥"],
        ["350", "3.5e2", r"3.5 \times 10^{2}", "3.5×10²"],
        ["42", "forty-two", "四十二", "４２", r"\textcolor{red}{42}"],
        ["1/3", r"0.\overline{3}", "0.(3)", "0.333..."],
        ["5%", r"5\%", "5 percent", "５％"],
        ["0.5", "1/2", r"\frac12", r"\dfrac{1}{2}", r"\tfrac{ 1 } { 2 }", ".5", "5e-1"],
        ["-5/12", r"-\dfrac{5}{12}", r"\frac{-5}{12}", r"\frac{5}{-12}", "\u22125/12"],
        ["0", "-0", "0.0", "0/3"],
        ["Yes", "yes", r"\text{Yes}", " YES. ", "**yes**"],
        [r"90^\circ", r"90^{\circ}", "90°"],
        [r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"],
        ["New York", "new  york"],
    ],
)
def test_equal_answers_share_a_category(same: list[str]) -> None:
    assert len({canonical(answer) for answer in same}) == 1


@pytest.mark.parametrize(
    "different",
    [
        ["1,000", "1.000", "1, 0", "10,00"],
        [r"\frac{12}{3}", r"\frac{1}{23}", r"\frac{1}{2}3", "123", r"\frac123"],
        ["1 2", "12", "1,2", "1.2"],
        ["1/0", "0", "0/0"],
        ["x", "X", "2x", "x2", "x^2"],
        ["(1,2)", "[1,2]", r"\{1,2\}", "1,2"],
        ["5", "5%", r"\$5", "5°", "5 cm", "-5", "x=5"],
        ["9**9", "9^9", "9*9", "99"],
        ["1e999999", "1e99999"],
        ["a" * 300, "a" * 301],
    ],
)
def test_different_answers_do_not(different: list[str]) -> None:
    assert len({canonical(answer) for answer in different}) == len(different)


@given(st.fractions())
def test_numbers_are_named_by_value(value: Any) -> None:
    name = canonical(str(value))
    assert surely_number(name) == value
    assert canonical(rf"\frac{{{value.numerator}}}{{{value.denominator}}}") == name


@given(st.text() | st.text("\\frac{}12,. $textboxed^circ!*"))
def test_naming_is_stable(answer: str) -> None:
    name = canonical(answer)
    assert len(name) <= 217
    name.encode()
    value = surely_number(answer)
    assert value is None or surely_number(name) == value


def test_case_counts_on_request() -> None:
    sensitive = Grader(GradingConfig(case_sensitive=True))
    assert sensitive.category("Yes") != sensitive.category("yes")


def test_an_answer_cannot_pose_as_no_answer(grader: Grader) -> None:
    outcome = grade(grader, "unanswered", "unanswered")
    assert outcome == Outcome('"unanswered"', 1.0, "graded")


# judging


def test_no_answer_is_unanswered_also_when_cut_off(grader: Grader) -> None:
    for reason in ("stop", "length"):
        for reference, own in (("7", None), (None, "7"), (None, None)):
            outcome = grader.grade(
                "So 7", reference=reference, own_answer=own, finish_reason=reason
            )
            assert (outcome.answer, outcome.reward) == (UNANSWERED, 0.0)
            assert (outcome.status, outcome.truncated) == ("unanswered", reason == "length")


def test_what_was_cut_is_an_answer_only_where_the_config_says_so() -> None:
    said = r"I think \boxed{7}. No, wait"
    more: dict[str, Any] = {"reference": "7", "own_answer": None}
    with Grader() as strict, Grader(GradingConfig(truncated="graded")) as lenient:
        cut = strict.grade(said, finish_reason="length", **more)
        assert (cut.answer, cut.reward, cut.truncated) == (UNANSWERED, 0.0, True)
        assert lenient.grade(said, finish_reason="length", **more) == Outcome("7", 1.0, "graded")
        assert lenient.grade("No", finish_reason="length", **more).truncated
        whole = strict.grade(said, finish_reason="stop", **more)
        assert (whole.answer, whole.truncated) == ("7", False)


def test_the_choice_changes_no_config_that_was_recorded_before_it() -> None:
    assert "truncated" not in GradingConfig().model_dump()
    dumped = GradingConfig(truncated="graded").model_dump()
    assert GradingConfig.model_validate(dumped).truncated == "graded"


def test_what_cannot_be_judged_is_ungraded(grader: Grader) -> None:
    for outcome in (grade(grader, "7", "7", finish_reason="error"), grade(grader, "7", None)):
        assert (outcome.answer, outcome.reward, outcome.status) == (None, None, "ungraded")
        assert outcome.detail


def test_without_a_reference_the_own_answer_counts(grader: Grader) -> None:
    assert grade(grader, "7.0", None, own_answer="7").reward == 1
    assert grade(grader, "8", None, own_answer="7").reward == 0
    assert grade(grader, "7", "8", own_answer="7").reward == 0
    assert grader.reward_kind("8", "7") == "reference"
    assert grader.reward_kind(None, "7") == "own_answer"
    assert grader.reward_kind(None, None) is None


def test_plain_answers_need_no_helper() -> None:
    with Grader() as grader:
        for answer, reference, reward in [
            ("7", r"\frac{14}{2}", 1),
            ("7", "8", 0),
            (r"-\dfrac{5}{12}", r"-\frac{5} { 12}", 1),
            ("Kale", "Plum", 0),
            ("unknown", "unknown", 1),
            ("6.17", "6.18", 0),
            ("7", r"The answer is $\boxed{7}$.", 1),
        ]:
            assert grade(grader, answer, reference).reward == reward
        assert grader._equality._process is None


def test_numbers_with_a_tolerance() -> None:
    grader = Grader(GradingConfig(kind="number", tolerance=0.01))
    for text, reward in (("It is 99.5", 1), ("It is 98", 0), ("It is -100", 0)):
        outcome = grader.grade(text, reference="100", own_answer=None, finish_reason="stop")
        assert outcome.reward == reward


@pytest.mark.parametrize(
    ("answer", "reference", "reward"),
    [
        (r"\sqrt{8}", r"2\sqrt{2}", 1),
        ("x+1", "1+x", 1),
        ("0.3333333", "1/3", 1),
        ("0.3333", "1/3", 0),
        (r"3\frac{1}{2}", "3.5", 1),
        ("[1,2)", "(1,2]", 0),
        (r"\infty", r"-\infty", 0),
        ("foo(", "3", 0),
        ("???", "!!!", 0),
    ],
)
def test_algebra(grader: Grader, answer: str, reference: str, reward: int) -> None:
    assert grade(grader, answer, reference) == Outcome(canonical(answer), reward, "graded")


def test_grading_works_in_any_thread(grader: Grader) -> None:
    found: list[Outcome] = []
    threads = [
        threading.Thread(target=lambda i=i: found.append(grade(grader, f"x+{i}", f"{i}+x")))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [o.reward for o in found] == [1, 1, 1, 1]


@needs_shared
def test_published_answers_and_verdicts(grader: Grader) -> None:
    assert len(FOLDERS) == 20
    for folder in FOLDERS:
        base = json.loads((folder / "base_solution.json").read_text(encoding="utf-8"))
        problem = json.loads((folder / "problem.json").read_text(encoding="utf-8"))
        assert grader.extract(base["solution"]) == base["answer"]
        outcome = grader.grade(
            base["solution"],
            reference=problem["gt_answer"],
            own_answer=None,
            finish_reason="stop",
        )
        assert outcome.status == "graded"
        assert outcome.reward == base["is_correct"]


# hostility


MISSED_S = 4  # what can be compared takes a hundredth of it, on a busy machine a tenth
HOSTILE = [
    "9^{9^{9^{9}}}",
    "9**9**9**9",
    "10^{10^{10}}!",
    "1e999999",
    "-1e-999999",
    "{" * 900 + "}" * 900,
    r"\frac{" * 300 + "1}" * 300,
    "(" * 900,
    "__import__('os').system('touch PWNED')",
    "\x00\ud800\n",
    r"\input{/etc/passwd}",
    "x" * 100_000,
]


def test_hostile_answers_are_never_right_run_or_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Grader(GradingConfig(timeout_s=MISSED_S)) as grader:
        for answer in HOSTILE:
            assert grade(grader, answer, "3").reward in (0, None), answer
        assert grade(grader, "x+1", "1+x").reward == 1
    assert list(tmp_path.iterdir()) == []


def test_a_missed_deadline_is_ungraded_once_and_the_next_answer_is_graded() -> None:
    with Grader(GradingConfig(timeout_s=MISSED_S)) as grader:
        assert grade(grader, r"\sqrt{8}", r"2\sqrt{2}").reward == 1
        helper = grader._equality._process
        assert helper is not None
        outcome = grade(grader, "9^{9^{9^{9}}}", "3")
        assert outcome.status == "ungraded"
        assert outcome.detail == f"Comparing the answers took longer than {MISSED_S} s."
        assert helper.poll() is not None
        assert grade(grader, "9^{9^{9^{9}}}", "3") == outcome
        assert grader._equality._process is None  # remembered: no second deadline
        assert grade(grader, "x+1", "1+x").reward == 1


def test_a_helper_that_dies_costs_one_grade() -> None:
    with Grader() as grader:
        assert grade(grader, "x+1", "1+x").reward == 1
        assert grader._equality._process is not None
        grader._equality._process.kill()
        grader._equality._process.wait()
        assert grade(grader, "x+2", "2+x").reward == 1  # seen to be gone: restarted


def test_close_ends_the_helper_and_the_grader_can_go_on() -> None:
    grader = Grader()
    assert grade(grader, "x+1", "1+x").reward == 1
    helper = grader._equality._process
    grader.close()
    grader.close()
    assert helper is not None and helper.poll() is not None
    assert grade(grader, "x+1", "1+x").reward == 1  # from the cache
    assert grader._equality._process is None


ORPHAN = """
import os, signal, subprocess
from tracelab.grading.equality import MathEquality
popen = subprocess.Popen
subprocess.Popen = lambda *a, **k: popen(*a, pass_fds=[{fd}], **k)
equality = MathEquality(1)
assert equality.verdict("x+1", "1+x") == "equal"
helper = equality._process.stdin
helper.write({request!r})
helper.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("request_in_flight", [b"", b'["9^{9^{9^{9}}}", "3"]\n'])
def test_the_helper_does_not_outlive_a_killed_parent(request_in_flight: bytes) -> None:
    """The helper inherits our end of a pipe; when it is gone, we read the end of the pipe."""
    ours, theirs = os.pipe()
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN.format(fd=theirs, request=request_in_flight)],
        pass_fds=[theirs],
        cwd=Path(__file__).parents[2],
    )
    os.close(theirs)
    assert parent.wait(timeout=120) == -signal.SIGKILL
    poll = select.poll()
    poll.register(ours, select.POLLIN | select.POLLHUP)
    assert poll.poll(60_000), "the helper is still there"
    assert os.read(ours, 1) == b""
    os.close(ours)


def test_a_helper_that_cannot_start_is_ungraded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EqualityError, match="did not start"):
        MathEquality(1).verdict("x+1", "1+x")
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    with pytest.raises(EqualityError, match="did not start"):
        MathEquality(1).verdict("x+1", "1+x")


# configuration


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "regex"}, "`pattern` is needed"),
        ({"pattern": "(?P<a>x)"}, "`pattern` is for kind `regex`, but `kind` is `boxed`"),
        ({"kind": "regex", "pattern": "x"}, "0 named groups"),
        ({"kind": "regex", "pattern": "(?P<a>x)(?P<b>y)"}, "2 named groups"),
        ({"kind": "regex", "pattern": "(?P<a>x"}, "not a regular expression"),
        ({"kind": "choice", "choices": "abc"}, "choices"),
        ({"kind": "oracle"}, "kind"),
        ({"choices": "AB"}, "`choices` is for kind `choice`, but `kind` is `boxed`"),
        ({"kind": "exact", "tolerance": 0.1}, "`tolerance` is for kind `number`"),
        ({"positive": "ja"}, "`positive` is for kind `yes_no`"),
        ({"kind": "yes_no", "negative": "("}, "`negative` is not a regular expression"),
        ({"kind": "yes_no", "positive": "x*"}, "`positive` matches the empty text"),
        ({"kind": "function"}, "`function` is needed for kind `function`"),
        ({"kind": "function", "function": "no_colon"}, "function"),
        ({"function": "a:b"}, "`function` is for kind `function`"),
        ({"workers": 9}, "`workers` is for kind `function` and `code` and `judge`"),
        ({"code": {"cpu_seconds": 1}}, "`code` is for kind `code`"),
        ({"kind": "code", "code": {"isolation": "none"}}, "isolation"),
        ({"judge": {"model": "m"}}, "`judge` is for kind `judge`"),
        ({"kind": "judge"}, "`judge.base_url` is needed"),
        ({"kind": "judge", "judge": {"base_url": "ftp://x"}}, "base_url"),
        ({"kind": "judge", "judge": {"labels": {"a": 1.0}}}, "at least two"),
        ({"kind": "judge", "judge": {"labels": {"a": 1.0, "A": 0.0}}}, "differ only in case"),
        ({"kind": "judge", "judge": {"labels": {"a": 2.0, "b": 0.0}}}, "not between 0 and 1"),
        ({"kind": "judge", "judge": {"labels": {" a": 1.0, "b": 0.0}}}, "without blanks"),
        ({"tolerance": -1}, "tolerance"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"patern": "x"}, "patern"),
    ],
)
def test_bad_configurations(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GradingConfig(**config)


def test_every_field_is_documented() -> None:
    for model in (GradingConfig, CodeConfig, JudgeConfig):
        assert all(field.description for field in model.model_fields.values())


JUDGE = {"base_url": "http://localhost/v1", "model": "m", "rubric": "r"}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"kind": "regex", "pattern": "(?P<a>x)"},
        {"kind": "yes_no", "positive": "ja", "negative": "nein"},
        {"kind": "function", "function": "a.b:c", "workers": 2},
        {"kind": "code", "code": {"memory_mb": 100}},
        {"kind": "judge", "judge": JUDGE},
    ],
)
def test_a_recorded_configuration_is_read_back(config: dict[str, Any]) -> None:
    """`rebuild` reads what a run recorded, defaults spelled out."""
    written = GradingConfig(**config)
    recorded = json.loads(json.dumps(written.model_dump(mode="json")))
    assert GradingConfig.model_validate(recorded, strict=True) == written


def test_runs_recorded_before_these_kinds_are_still_the_same_runs() -> None:
    assert GradingConfig().model_dump() == {
        "kind": "boxed",
        "pattern": None,
        "choices": "ABCDE",
        "tolerance": 0.0,
        "case_sensitive": False,
        "timeout_s": 10.0,
    }


def test_a_wrong_key_of_a_section_is_one_sentence() -> None:
    data = {"name": "a", "source": "b", "model": "c"}
    for grading, sentence in [
        ({"kind": "judge", "judge": {"rubrik": "x"}}, "did you mean `rubric`?"),
        ({"kind": "code", "code": {"memory": 1}}, "did you mean `memory_mb`?"),
        ({"choices": "AB"}, "`choices` is for kind `choice`, but `kind` is `boxed`"),
    ]:
        with pytest.raises(ConfigError, match=re.escape(sentence)) as caught:
            parse_config({**data, "grading": grading}, "my.toml")
        assert "\n" not in str(caught.value)


def test_importing_the_grader_imports_no_http_client() -> None:
    code = "import sys, tracelab.grading.grader; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_many_are_graded_in_order() -> None:
    requests = [GradeRequest(rf"\boxed{{{i}}}", "1", None, "stop") for i in range(3)]
    with Grader() as grader:
        assert [o.reward for o in grader.grade_many(requests)] == [0, 1, 0]


def test_certain_equality_is_certain() -> None:
    assert surely_equal("7", "7") is True
    assert surely_equal("7", "8") is False
    assert surely_equal("kale", "plum") is False
    assert surely_equal("pi", "kale") is None
    assert surely_equal("x+1", "1+x") is None
    assert surely_equal("3333333/10000000", "1/3") is False
    assert surely_equal("50%", "50") is None
