"""What a kind of outcome is: a rule that finds an answer in a text, or one that decides by itself.

    @OUTCOMES.register("shout")
    class Shout(TextRule):
        '''The last word in capitals.'''

        def find(self, text: str) -> str | None:
            words = [w for w in text.split() if w.isupper()]
            return words[-1] if words else None

A rule is built from the whole `grading` section; `fields` are those that only it (and whoever else
claims them) uses, and `check` refuses values that it cannot work with. `Grader` does the rest:
categories, comparison with the reference or the trace's own answer, statuses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from tracelab.core.item import Outcome
from tracelab.core.seam import Connect, RewardKind
from tracelab.core.trace import Trace
from tracelab.grading.cache import MemoryOutcomes, OutcomeCache

if TYPE_CHECKING:
    from tracelab.grading.options import GradingConfig


@dataclass(frozen=True, slots=True)
class Setup:
    """What a rule may use.

    Attributes:
        cache: Where first results are kept.
        connect: Prepares endpoints; None where there is none.
    """

    cache: OutcomeCache = field(default_factory=MemoryOutcomes)
    connect: Connect | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """What a rule gave: an answer as written, and a reward or None, which is left to comparison."""

    answer: str
    reward: float | None


class OutcomeRule:
    """One kind. The first line of a subclass's docstring is what lists say about it."""

    fields: ClassVar[tuple[str, ...]] = ()
    """Fields of `GradingConfig` that other kinds refuse."""
    evidence: ClassVar[Literal["executed", "judged"]] = "executed"
    """What scores of its outcomes rest on."""

    def __init__(self, config: GradingConfig, setup: Setup) -> None:
        """Prepare it, and find out now whether it can work.

        Raises:
            GradingError: It cannot.
        """
        self.config = config

    @classmethod
    def check(cls, config: GradingConfig) -> None:
        """Refuse a config.

        Raises:
            ValueError: One sentence that names the field.
        """

    def reward_kind(self, reference: str | None, own_answer: str | None) -> RewardKind | None:
        """See `Grading.reward_kind`; here it compares, with the reference if there is one."""
        if reference is not None:
            return "reference"
        return "own_answer" if own_answer is not None else None


class TextRule(OutcomeRule, ABC):
    """Finds the answer in the text, at once and in this process."""

    @abstractmethod
    def find(self, text: str) -> str | None:
        """The answer in a stretch of a response, as written; None where there is none."""

    def find_after(self, thought: str, rest: str) -> str | None:
        """The answer of a response that marks its reasoning: in what follows, else in the thought.

        Args:
            thought: Up to the mark that closes the reasoning.
            rest: What follows it.
        """
        answer = self.find(rest)
        return self.find(thought) if answer is None else answer

    def reward(self, answer: str) -> float | None:
        """The reward of an answer; None where that is left to comparison."""
        return None

    def equal(self, answer: str, target: str) -> bool | None:
        """Whether answers of different categories are equal; None leaves it to mathematics."""
        return None


class WaitingRule(OutcomeRule, ABC):
    """Decides by itself, waiting for another process or machine; several at once. Thread-safe."""

    @property
    def failures(self) -> Mapping[str, int]:
        """Responses that stayed ungraded, by kind, where that is counted."""
        return {}

    @property
    def retried(self) -> Mapping[str, int]:
        """Attempts that failed and were made again, by kind."""
        return {}

    @abstractmethod
    def grade(self, response: str, reference: str | None, trace: Trace | None) -> Outcome | Given:
        """Grade one response; an answer may be left to be named and compared."""

    def own_answer(self, trace: Trace) -> str | None:
        """The answer of the trace's own response; None where rewards compare with no answer."""
        return None

    def close(self) -> None:
        """End processes and connections; the next response starts others."""
