r"""Answers as they are written in the text: boxed, matched, a number, a letter, the last line."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from tracelab.grading.registry import OUTCOMES
from tracelab.grading.rule import Setup, TextRule
from tracelab.text.answer.choices import find_choice, letter_of
from tracelab.text.answer.forms import bare, extract_boxed
from tracelab.text.answer.measures import split_measure
from tracelab.text.answer.numerals import last_number, readings
from tracelab.text.answer.stated import boxed_last, contained, only_value, stated

if TYPE_CHECKING:
    from tracelab.grading.options import GradingConfig


@OUTCOMES.register("boxed", order=10)
class Boxed(TextRule):
    r"""The last `\boxed{}`, else what is stated as the answer."""

    def find(self, text: str) -> str | None:
        """See `TextRule.find`."""
        boxed = extract_boxed(text)
        return stated(text) if boxed is None else boxed

    def find_after(self, thought: str, rest: str) -> str | None:
        """See `TextRule.find_after`; of a thought only the box that concludes it."""
        answer = self.find(rest)
        if answer is None:
            answer = only_value(rest)
        return boxed_last(thought) if answer is None else answer


@OUTCOMES.register("regex", order=20)
class Matched(TextRule):
    """The last match of `pattern`."""

    fields = ("pattern",)

    def __init__(self, config: GradingConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self._pattern = re.compile(config.pattern or "")

    @classmethod
    def check(cls, config: GradingConfig) -> None:
        """See `OutcomeRule.check`."""
        if config.pattern is None:
            raise ValueError("`pattern` is needed for kind `regex`, and only there")
        groups = compiled("pattern", config.pattern).groupindex
        if len(groups) != 1:
            raise ValueError(f"`pattern` has {len(groups)} named groups; it needs exactly one")

    def find(self, text: str) -> str | None:
        """See `TextRule.find`."""
        group = next(iter(self._pattern.groupindex))
        found = [m[group] for m in self._pattern.finditer(text) if (m[group] or "").strip()]
        return found[-1].strip() if found else None


@OUTCOMES.register("choice", order=30)
class Choice(TextRule):
    """A letter of `choices`."""

    fields = ("choices",)

    def find(self, text: str) -> str | None:
        """See `TextRule.find`."""
        return find_choice(text, self.config.choices)

    def equal(self, answer: str, target: str) -> bool:
        """See `TextRule.equal`."""
        return letter_of(target, self.config.choices) == answer


@OUTCOMES.register("number", order=40)
class LastNumber(TextRule):
    """The last number; equal up to `tolerance`."""

    fields = ("tolerance",)

    def find(self, text: str) -> str | None:
        """See `TextRule.find`."""
        for held in (extract_boxed(text), contained(text)):
            if held is not None and _number_of(held):
                return held
        return last_number(text)

    def equal(self, answer: str, target: str) -> bool:
        """See `TextRule.equal`."""
        tolerance = Fraction(self.config.tolerance)  # beyond floats too
        return any(
            abs(a - b) <= abs(b) * tolerance for a in _number_of(answer) for b in _number_of(target)
        )


def _number_of(answer: str) -> tuple[Fraction, ...]:
    """The values that a number, of whatever unit, may have."""
    text = bare(answer)
    return readings(text) or readings(split_measure(text)[0])


@OUTCOMES.register("exact", order=50)
class LastLine(TextRule):
    """The last line that is not blank."""

    def find(self, text: str) -> str | None:
        """See `TextRule.find`."""
        lines = text.strip().splitlines()
        return lines[-1].strip() if lines else None

    def equal(self, answer: str, target: str) -> bool:
        """See `TextRule.equal`."""
        return False


def compiled(name: str, pattern: str) -> re.Pattern[str]:
    """Compile the pattern of a field.

    Raises:
        ValueError: It is not a regular expression.
    """
    try:
        return re.compile(pattern)
    except re.error as e:
        raise ValueError(f"`{name}` is not a regular expression: {e}") from None
