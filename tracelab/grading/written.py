r"""Answers as they are written in the text: boxed, matched, a number, a letter, the last line."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from tracelab.grading.registry import OUTCOMES
from tracelab.grading.rule import Setup, TextRule
from tracelab.text.answers import canonical, extract_boxed, surely_number

if TYPE_CHECKING:
    from tracelab.grading.options import GradingConfig

_ANSWER_PHRASE = r"(?i:answer|choice|option)\b[^\n]{0,20}?(?:\b(?i:is|be)\b|:|=)[\s*$\\({]*+"
_BLANK = r"[^\S\n]"  # of one line: a run of line breaks would be read again from each of them
_NUMBER = re.compile(r"[-+\u2212]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?")


@OUTCOMES.register("boxed", order=10)
class Boxed(TextRule):
    r"""The last `\boxed{}`."""

    def find(self, text: str) -> str | None:
        """See `TextRule.find`."""
        return extract_boxed(text)


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

    def __init__(self, config: GradingConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        letters = config.choices
        self._phrase = re.compile(rf"{_ANSWER_PHRASE}([{letters}])(?![\w'’])")
        self._line = re.compile(
            rf"^(?:{_BLANK}|[*#>($\\])*+([{letters}])(?:{_BLANK}|[*.)$\\])*+$", re.MULTILINE
        )

    def find(self, text: str) -> str | None:
        """See `TextRule.find`."""
        boxed = extract_boxed(text)
        if boxed is not None:
            letter = canonical(boxed, fold=False).strip("().: ")
            if len(letter) == 1 and letter in self.config.choices:
                return letter
        # The phrase or the lone letter that comes last. A bare "A" in prose is an article.
        found = [*self._phrase.finditer(text), *self._line.finditer(text)]
        return max(found, key=lambda m: m.start(1))[1] if found else None

    def equal(self, answer: str, target: str) -> bool:
        """See `TextRule.equal`."""
        return False


@OUTCOMES.register("number", order=40)
class LastNumber(TextRule):
    """The last number; equal up to `tolerance`."""

    fields = ("tolerance",)

    def find(self, text: str) -> str | None:
        """See `TextRule.find`."""
        boxed = extract_boxed(text)
        if boxed is not None and surely_number(boxed) is not None:
            return boxed
        numbers = _NUMBER.findall(text)
        return numbers[-1] if numbers else None

    def equal(self, answer: str, target: str) -> bool:
        """See `TextRule.equal`."""
        a, b = surely_number(answer), surely_number(target)
        if a is None or b is None:
            return False
        return abs(a - b) <= abs(b) * Fraction(self.config.tolerance)  # beyond floats too


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
