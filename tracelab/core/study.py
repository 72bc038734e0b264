"""What a study is: a plug-in of the one pipeline. Pure.

    Trace ─► Study.cases ─► Case ─► Study.run ══ asks ══► whoever drives it ─► Findings

A study sees no config file, journal, database, engine or terminal. It is given a `StudyContext`,
asks through a `Flow`, and concludes `Findings`; rows that should reach the database while it works
(rollouts, with their texts) it hands to `ctx.emit` and keeps nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from tracelab.core.finding import Findings, Metric
from tracelab.core.flow import Flow
from tracelab.core.item import ModelRef, Sampling
from tracelab.core.options import Section
from tracelab.core.registry import Registry
from tracelab.core.seam import Comparing, Grading, MakeEnvironment, Row, Tokenizer
from tracelab.core.trace import TokenizedTrace, Trace
from tracelab.core.unit import Unit

O = TypeVar("O", bound=Section)  # noqa: E741
C = TypeVar("C", bound="Case")


@dataclass(slots=True)
class Case:
    """A trace on the tokens of the model that is asked, with its units: what a study works on.

    Studies subclass it for what they keep of a trace while they work.

    Attributes:
        tokens: The trace and its exact tokens; without any where no model is asked.
        units: Its units, of one or several kinds.
        segmenter: What cut them.
        categories: What each unit does, one a unit, where that was looked at.
    """

    tokens: TokenizedTrace
    units: list[Unit]
    segmenter: str
    categories: list[str | None] = field(default_factory=list, kw_only=True)

    @property
    def trace(self) -> Trace:
        """The trace."""
        return self.tokens.trace

    @property
    def trace_id(self) -> str:
        """Its id."""
        return self.tokens.trace.trace_id


@dataclass(frozen=True, slots=True)
class StudyContext(Generic[O]):
    """What a study is given.

    Attributes:
        options: The study's own options.
        sampling: How the model writes: base traces and rollouts alike.
        seed: The run's seed; everything random is derived from it and from what it is about.
        model: The model that is asked.
        context_length: Tokens that it can hold.
        tokenizer: Its tokenizer and chat template.
        grading: Grades responses.
        emit: Takes rows for the database as they come.
        warn: Tells the user something that needs attention.
        tokenize: Exact tokens of a trace: those of an earlier session of the run where it has
            them, so that a chat template which changes does not change the work.
        comparing: Loads what compares sentences, by the name the options give.
        environment: Prepares what makes environments, by the name the options give, with the
            deadline of an answer in seconds.
        rendering: How prompts become tokens, where the records do not say: `auto`, `chat`, `raw`.
        tell: Shows the user how far the study is, in a few words that replace the last ones.
    """

    options: O
    sampling: Sampling
    seed: int
    model: ModelRef
    context_length: int
    tokenizer: Tokenizer
    grading: Grading
    emit: Callable[[Sequence[Row]], None]
    warn: Callable[[str], None]
    tokenize: Callable[[Trace], TokenizedTrace]
    comparing: Callable[[str], Comparing]
    environment: Callable[[str, float], MakeEnvironment]
    rendering: str = "auto"
    tell: Callable[[str], None] = lambda _: None


class Study(Protocol[C]):
    """A plug-in. `C` is its kind of case."""

    name: ClassVar[str]
    """Its name, its section in configs, and its command."""
    Options: ClassVar[type[Section]]
    """Its options: config section, command options, API keywords. Docstrings are the help."""
    metrics: ClassVar[tuple[Metric, ...]]
    """What its scores may be about."""
    estimator_version: ClassVar[str]
    """Changes when a formula does."""

    def cases(self, trace: Trace, ctx: StudyContext[Any]) -> Iterable[C]:
        """What is studied of a trace.

        Raises:
            PlanError: Nothing of it can be; it becomes a row of `rejects`.
        """
        ...

    def run(self, cases: Sequence[C], ctx: StudyContext[Any]) -> Flow[Findings]:
        """Measure the cases; what one asks never depends on the order of arrival."""
        ...


STUDIES: Registry[Any] = Registry("study", package="tracelab.studies", group="tracelab.studies")
"""All studies by name: folders of `tracelab/studies`, and entry points of other packages."""
