"""Yes or no, by two patterns: the last one found decides.

Pure. A match inside a longer match of the other pattern does not count (`safe` in `unsafe`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from tracelab.core.seam import RewardKind
from tracelab.grading.registry import OUTCOMES
from tracelab.grading.rule import Setup, TextRule
from tracelab.grading.written import compiled

if TYPE_CHECKING:
    from tracelab.grading.options import GradingConfig


def find_yes_no(
    text: str, positive: re.Pattern[str], negative: re.Pattern[str]
) -> Literal["yes", "no"] | None:
    """Return what the last match says, or None when nothing, or both at once, matches there.

    Matches are taken from left to right without overlap; of two that start together the longer
    counts.
    """
    last: Literal["yes", "no"] | None = None
    at = 0
    yes, no = positive.search(text), negative.search(text)
    while yes or no:
        if yes and yes.start() < at:
            yes = positive.search(text, at)
            continue
        if no and no.start() < at:
            no = negative.search(text, at)
            continue
        # Leftmost first, then longest.
        y = (yes.start(), -yes.end()) if yes else None
        n = (no.start(), -no.end()) if no else None
        if y == n:
            last, found = None, yes
        elif n is None or (y is not None and y < n):
            last, found = "yes", yes
        else:
            last, found = "no", no
        assert found is not None
        at = max(found.end(), found.start() + 1)
    return last


@OUTCOMES.register("yes_no", order=60)
class YesNo(TextRule):
    """A yes (reward 1) or a no (0), by the patterns `positive` and `negative`."""

    fields = ("positive", "negative")

    def __init__(self, config: GradingConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        flags = 0 if config.case_sensitive else re.IGNORECASE
        self._positive = re.compile(config.positive, flags)
        self._negative = re.compile(config.negative, flags)

    @classmethod
    def check(cls, config: GradingConfig) -> None:
        """See `OutcomeRule.check`."""
        for name in cls.fields:
            if compiled(name, getattr(config, name)).match(""):
                raise ValueError(f"`{name}` matches the empty text, so it would match always")

    def reward_kind(self, reference: str | None, own_answer: str | None) -> RewardKind:
        """See `OutcomeRule.reward_kind`."""
        return "outcome"

    def find(self, text: str) -> str | None:
        """See `TextRule.find`."""
        return find_yes_no(text, self._positive, self._negative)

    def reward(self, answer: str) -> float:
        """See `TextRule.reward`."""
        return float(answer == "yes")
