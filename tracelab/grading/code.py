"""Unit tests as an outcome: the code of a response is run with tests in a sandbox.

What the sandbox does and does not guarantee: `tracelab.grading.sandbox`.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tracelab.core.errors import GradingError
from tracelab.core.hashing import content_hash
from tracelab.core.item import UNANSWERED, Outcome
from tracelab.core.seam import RewardKind
from tracelab.core.trace import Trace
from tracelab.grading.registry import OUTCOMES
from tracelab.grading.rule import Setup, WaitingRule
from tracelab.grading.sandbox import Limits, SandboxError, run_tests
from tracelab.text.tags import parted

if TYPE_CHECKING:
    from tracelab.grading.options import GradingConfig

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([^\n`]*)\n?", re.MULTILINE)
_PYTHON = ("python", "py", "python3")
_LONGEST = 1 << 20  # characters of code


def extract_code(response: str) -> str | None:
    """Return the code of a response: pure, linear.

    The last fenced block marked as Python, else the last block without a mark, else the last
    block, else the whole text; what follows the reasoning first. A block that is never closed goes
    to the end. None when nothing but blanks is left.
    """
    thought, rest = parted(response)
    for text in (rest, thought):
        if blocks := _blocks(text):
            for wanted in (_PYTHON, ("",)):
                if found := [code for mark, code in blocks if mark in wanted]:
                    return found[-1]
            return blocks[-1][1]
    return rest if rest.strip() else None


def _blocks(text: str) -> list[tuple[str, str]]:
    """Mark and content of each block that is not blank."""
    blocks = []
    fence, mark, start = "", "", 0
    for found in _FENCE.finditer(text):
        if not fence:
            words = found[2].split()
            fence, mark, start = found[1], words[0].lower() if words else "", found.end()
        elif found[1].startswith(fence) and not found[2].strip():
            blocks.append((mark, text[start : found.start()]))
            fence = ""
    if fence:
        blocks.append((mark, text[start:]))
    return [(mark, code) for mark, code in blocks if code.strip()]


@OUTCOMES.register("code", order=80)
class CodeRule(WaitingRule):
    """The response's Python code, run with tests in a sandbox; each call has one of its own.

    First results are kept by code, tests, limits and Python version, timeouts included. That a
    sandbox could not be built is not kept.
    """

    fields = ("code", "workers")

    def __init__(self, grading: GradingConfig, setup: Setup) -> None:
        """Read the tests, and try the sandbox on one assertion.

        Raises:
            GradingError: The tests cannot be read or are not Python, or this machine does not
                allow the sandbox.
        """
        super().__init__(grading, setup)
        config = grading.code
        self._cache = setup.cache
        self._limits = Limits(
            wall_s=grading.timeout_s,
            cpu_seconds=config.cpu_seconds,
            memory_mb=config.memory_mb,
            processes=config.processes,
            disk_mb=config.disk_mb,
            isolation=config.isolation,
        )
        self.tests: str | None = None
        if config.tests_file is not None:
            try:
                self.tests = Path(config.tests_file).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as e:
                why = "not UTF-8" if isinstance(e, ValueError) else e.strerror
                raise GradingError(
                    f"grading.code.tests_file: {config.tests_file} cannot be read ({why})"
                ) from None
        try:
            trial = run_tests("pass", "assert True", self._limits)
        except SandboxError as e:
            hint = (
                ' On a machine that may be lost, grading.code.isolation = "limits" runs code '
                "with resource limits only."
                if config.isolation == "namespaces"
                else ""
            )
            raise GradingError(f"kind `code` cannot be used here: {e}{hint}") from None
        if trial.answer != "pass":
            raise GradingError(
                f"kind `code` cannot be used here: an empty program ends in `{trial.answer}` "
                "within the limits of grading.code and grading.timeout_s"
            )
        if self.tests is not None:
            try:
                run_tests("raise SystemExit", self.tests, self._limits)
            except SandboxError as e:
                raise GradingError(f"grading.code.tests_file: {e}") from None

    def reward_kind(self, reference: str | None, own_answer: str | None) -> RewardKind | None:
        """See `OutcomeRule.reward_kind`: without tests there is nothing to decide."""
        return "outcome" if reference is not None or self.tests is not None else None

    def grade(self, response: str, reference: str | None, trace: Trace | None) -> Outcome:
        """Grade a response: 1 if its tests pass; the answer is `CodeResult.answer`."""
        tests = self.tests if self.tests is not None else reference
        if tests is None or not tests.strip():
            return Outcome(None, None, "ungraded", "There are no tests: the reference is empty.")
        code = extract_code(response)
        if code is None:
            return Outcome(UNANSWERED, 0.0, "unanswered")
        if len(code) > _LONGEST:
            return Outcome("error:TooLong", 0.0, "graded")
        limits = [getattr(self._limits, name) for name in Limits.__slots__]
        key = content_hash(["code-v1", code, tests, limits, platform.python_version()], size=16)
        known = self._cache.get(key)
        if known is None:
            try:
                verdict = run_tests(code, tests, self._limits)
            except SandboxError as e:  # not kept: another time it may be built
                return Outcome(None, None, "ungraded", str(e))
            known = self._cache.put(key, {"answer": verdict.answer, "detail": verdict.detail})
        answer = str(known.get("answer"))
        return Outcome(answer, float(answer == "pass"), "graded", known.get("detail") or None)
