"""What a method of context attribution may be: what it reads, asks and says. Pure."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

from tracelab.core.flow import Flow
from tracelab.stats.lasso import Floats
from tracelab.stats.masks import Bools, Design
from tracelab.studies.cite.ablations import Ablations
from tracelab.studies.cite.attribution import Attribution
from tracelab.studies.cite.methods.registry import SpanMethod
from tracelab.studies.cite.targets import Target

T = TypeVar("T")
Values: TypeAlias = Callable[[Bools], Flow[Floats]]
"""Asks for the outcomes [m] of a target under masks [m, n]; NaN where one failed."""
FAILED_MASK = {"reason": "a mask that it needs failed"}


class MaskMethod(SpanMethod):
    """Reads the masks that every study asks, and perhaps some of its own."""

    def masks(self, n: int) -> Design | None:
        """Masks that it needs besides the random ones, the whole and the empty context."""
        return None

    @abstractmethod
    def attribute(self, work: Ablations, target: Target, position: int) -> Attribution:
        """What the masks say about a target, which is at a position among the targets."""


class Baseline(SpanMethod):
    """Ablates nothing, and is held to the same tests as those that do."""

    @abstractmethod
    def explain(self, work: Ablations) -> Flow[dict[str, Attribution]]:
        """What it says, by target."""


class CohortMethod(SpanMethod, Generic[T]):
    """A baseline that learns from all contexts of a cohort together."""

    @abstractmethod
    def look(self, work: Ablations) -> Flow[T]:
        """What it needs to see of one context."""

    @abstractmethod
    def learn(self, works: Sequence[Ablations], seen: Sequence[T]) -> list[dict[str, Attribution]]:
        """What it says of each context, by target, once all their masks are measured."""


class Question(SpanMethod):
    """Asks masks of its own about a target that the context raises.

    Questions of a context go in step: each asks its next masks, and all wait for all, so that
    masks have the same numbers whatever arrives first.
    """

    @abstractmethod
    def answer(self, work: Ablations, target: Target, position: int) -> Flow[Attribution]:
        """What it says about a target; draws come from the work's seed, its own name and place."""
