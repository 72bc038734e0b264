"""What a study is: a plug-in of the one pipeline. Pure.

    Trace ─► Study.cases ─► Case ─► Study.run ══ asks ══► whoever drives it ─► Findings

A study sees no config file, journal, database, engine or terminal. It is given a `StudyContext`,
asks through a `Flow`, and concludes `Findings`; rows that should reach the database while it works
(rollouts, with their texts) it hands to `ctx.emit` and keeps nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

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
        fact: Says how far the study is, in a few words, beside the progress.
        tokenize: Exact tokens of a trace: those of an earlier session of the run where it has
            them, so that a chat template which changes does not change the work.
        comparing: Loads what compares sentences, by the name the options give.
        environment: Prepares what makes environments, by the name the options give, with the
            deadline of an answer in seconds.
        rendering: How prompts become tokens, where the records do not say: `auto`, `chat`, `raw`.
        capabilities: What who answers can do: `generate`, `score` (log-probabilities of given
            tokens), `prefix` (continue any tokens, not only whole prompts), ...
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
    fact: Callable[[str], None]
    tokenize: Callable[[Trace], TokenizedTrace]
    comparing: Callable[[str], Comparing]
    environment: Callable[[str, float], MakeEnvironment]
    rendering: str = "auto"
    capabilities: frozenset[str] = frozenset({"generate", "score", "prefix"})


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage asks for, in a forecast. A request is one prefix with some replicates.

    Attributes:
        stage: Its name.
        requests: Requests sent.
        rollouts: Replicates of generations, or re-executions.
        prompt_tokens: Tokens read, every replicate counted; of re-executions, as the record did.
        prompt_tokens_min: At least.
        prompt_tokens_max: At most.
        generated_tokens_min: Tokens written at least.
        generated_tokens_max: At most.
    """

    stage: str
    requests: int = 0
    rollouts: int = 0
    prompt_tokens: int = 0
    generated_tokens_min: int = 0
    generated_tokens_max: int = 0
    prompt_tokens_min: int = 0
    prompt_tokens_max: int = 0


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
    testbed: ClassVar[Literal["questions", "contexts", "agents"]]
    """What it studies of the bundled testbed."""

    def cases(self, trace: Trace, ctx: StudyContext[Any]) -> Iterable[C]:
        """What is studied of a trace.

        Raises:
            PlanError: Nothing of it can be; it becomes a row of `rejects`.
        """
        ...

    def run(self, cases: Sequence[C], ctx: StudyContext[Any]) -> Flow[Findings]:
        """Measure the cases; what one asks never depends on the order of arrival."""
        ...


class Forecasting(Protocol):
    """A study that can say more of its cost than what it asks first, which anybody can count."""

    def outlook(self, cases: Sequence[Any], ctx: StudyContext[Any], asked: int) -> Iterable[Stage]:
        """What may be asked after what is counted, at most.

        Args:
            cases: The cases.
            ctx: As for `Study.run`.
            asked: Rollouts counted and recorded so far.
        """
        ...

    def foreseen(self, traces: int, prompt_tokens: int, ctx: StudyContext[Any]) -> Stage:
        """What may be asked about responses that are not written yet, at most.

        Args:
            traces: Most of them that are studied.
            prompt_tokens: Of their prompts together.
            ctx: As for `Study.run`.
        """
        ...

    def limit(self, cases: Sequence[Any], ctx: StudyContext[Any]) -> int | None:
        """Most tokens that it may still generate; None where nothing limits it.

        Args:
            cases: The cases.
            ctx: As for `Study.run`.
        """
        ...


STUDIES: Registry[Any] = Registry("study", package="tracelab.studies", group="tracelab.studies")
"""All studies by name, as classes: folders of `tracelab/studies`, and of other packages."""
