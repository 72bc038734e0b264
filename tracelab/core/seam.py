"""What the pure core asks of the world, as protocols and the data that passes between them.

A study is given a tokenizer, a grader, something that compares sentences and something that makes
environments; it never learns which. Everything here is a protocol or plain data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tracelab.core.item import FinishReason, Outcome
from tracelab.core.trace import Rendering, TokenizedTrace, Trace, Turn

Message: TypeAlias = Mapping[str, Any]
"""A message as chat templates take it: `{"role", "content"}`, and what else it has."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that could not be used.

    Attributes:
        file: The file, as it was named.
        line: Its line, from 1; 0 when the reason is about the whole file.
        reason: One sentence for a person.
        excerpt: The beginning of the record.
        field: The field at fault, if it is one.
    """

    file: str
    line: int
    reason: str
    excerpt: str
    field: str | None = None

    @classmethod
    def of(cls, trace: Trace, why: object) -> Reject:
        """A trace that was read and cannot be used; a name that only says where is not repeated."""
        place = f"{PurePath(trace.source).name}:{trace.line}"
        named = "" if trace.name == place else f"{trace.name}: "
        return cls(trace.source, trace.line, f"{named}{why}", "")

    def __str__(self) -> str:
        """Where, and why."""
        return f"{self.file}:{self.line}: {self.reason}" if self.line else self._whole()

    def _whole(self) -> str:
        return self.reason if self.reason.startswith(self.file) else f"{self.file}: {self.reason}"


class Row(Protocol):
    """A row of the database, without its run: a frozen dataclass whose fields are the columns."""

    table: ClassVar[str]


class Tokenizer(Protocol):
    """The model's own text to token mapping, and its chat template.

    A model without a chat template has the same methods, and raises `PlanError` for chats.
    """

    @property
    def vocabulary(self) -> int:
        """How many token ids the model has; all are below it."""
        ...

    def render(self, turns: Sequence[Turn], rendering: Rendering) -> tuple[int, ...]:
        """Tokens of a prompt, generation prompt included."""
        ...

    def tokenize(self, trace: Trace) -> TokenizedTrace:
        """Exact tokens of a whole trace."""
        ...

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokens of a text by itself, without special tokens."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated tokens, special tokens removed."""
        ...

    def chat_text(
        self,
        messages: Sequence[Message],
        rendering: Rendering,
        *,
        ask: bool = True,
        tools: Sequence[Message] = (),
    ) -> str:
        """A chat as text; with `ask` the generation prompt follows."""
        ...

    def encode_prompt(self, text: str, rendering: Rendering) -> tuple[int, ...]:
        """Tokens of a prompt that `chat_text` made."""
        ...

    def place_prompt(
        self, text: str, rendering: Rendering
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens of a prompt, and the character at which each starts."""
        ...

    def place_response(
        self, text: str, known: Sequence[int] | None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens of a response (those known, if they spell it), and where each starts."""
        ...


RewardKind = Literal["reference", "own_answer", "outcome"]


@dataclass(frozen=True, slots=True)
class GradeRequest:
    """One response to grade; `own_answer` is the answer of the trace that it continues."""

    response: str
    reference: str | None
    own_answer: str | None
    finish_reason: FinishReason
    trace: Trace | None = None


class Grading(Protocol):
    """From responses to outcomes."""

    @property
    def evidence(self) -> Literal["executed", "judged"]:
        """What scores of these outcomes rest on."""
        ...

    def grade_many(self, requests: Sequence[GradeRequest]) -> list[Outcome]:
        """Grade responses, in order."""
        ...

    def own_answer(self, trace: Trace) -> str | None:
        """A trace's own answer: the recorded one, else what grading finds in its response."""
        ...

    def extract(self, response: str) -> str | None:
        """The answer of a response as written; None where it has none."""
        ...

    def category(self, answer: str) -> str:
        """The canonical form of an answer as written: equal answers share it."""
        ...

    def reward_kind(self, reference: str | None, own_answer: str | None) -> RewardKind | None:
        """What the reward compares with; None when there is nothing to compare with."""
        ...


class Comparing(Protocol):
    """Compares sentences."""

    @property
    def name(self) -> str:
        """What it is, for the record."""
        ...

    def cosine(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        """Similarity of each pair, in [-1, 1] [len(pairs)]."""
        ...

    def matrix(self, left: Sequence[str], right: Sequence[str]) -> NDArray[np.float64]:
        """Similarity of every left with every right text [len(left), len(right)]."""
        ...


class EndpointError(Exception):
    """Why an endpoint gave no reply: a kind (`tracelab.engines.http`) and a sentence."""

    def __init__(self, kind: str, why: str, retry_after: float | None = None) -> None:
        super().__init__(f"{kind}: {why}")
        self.kind, self.why, self.retry_after = kind, why, retry_after
        self.attempts = 1
        self.final = False  # it may not be asked again, although that might help


def at_endpoint(
    requests: int, prompt_tokens: int | None, output_tokens: int | None, seconds: float
) -> dict[str, Any]:
    """What an answer that an endpoint gave says of its costs; `tracelab.store.spent` reads it."""
    return {
        "requests": requests, "prompt_tokens": prompt_tokens, "output_tokens": output_tokens,
        "seconds": round(seconds, 3),
    }  # fmt: skip


class Endpoint(Protocol):
    """One URL that takes and gives JSON. Thread-safe."""

    @property
    def retried(self) -> Mapping[str, int]:
        """Requests that failed and were made again, by kind."""
        ...

    def post(self, body: Mapping[str, Any]) -> tuple[bytes, int]:
        """The body of the reply, and the requests that it took.

        Raises:
            EndpointError: There is none.
        """
        ...

    def close(self) -> None:
        """End all waiting and release connections; the next request opens others."""
        ...


class Connect(Protocol):
    """Prepares an endpoint; connects to nothing yet."""

    def __call__(
        self,
        url: str,
        *,
        api_key: str | None,
        timeout_s: float,
        attempts: int,
        backoff_s: float,
        concurrency: int,
    ) -> Endpoint:
        """See `tracelab.engines.http.BlockingPost`."""
        ...


Ended = Literal["", "answer", "limit", "unreadable", "censored"]
"""Why an episode is over: it answered, ran out of turns, wrote what no tool takes, or called
something that the record has no answer to. Empty while it goes on."""
ENDED = ("", "answer", "limit", "unreadable", "censored")


class EnvironmentFailure(Exception):  # noqa: N818
    """A re-execution could not be finished: no outcome, neither success nor failure."""


@dataclass(frozen=True, slots=True)
class State:
    """Where an episode stands.

    Attributes:
        messages: The chat so far, as the chat template takes it.
        done: Whether it is over.
        ended: Why.
        tools: Definitions of the tools that the model is offered next; None: as was recorded.
    """

    messages: tuple[Message, ...]
    done: bool = False
    ended: Ended = ""
    tools: tuple[Message, ...] | None = None


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A recorded run, as far as it can be re-executed. N actions of models.

    Attributes:
        name: How the user calls it.
        task: What the environment needs to begin it, JSON values.
        actions: What the models wrote, exactly as it follows the generation prompt [N].
        before: The messages before each action [N].
        after: The messages at the end.
        agents: Who took each action [N].
        tools: The tool that each action calls first, if it calls one [N].
        steps: Index of each action among the steps of the episode [N].
        score: What it scored.
        ended: Why it was over.
        offered: Definitions of the tools that the model was offered before each action [N]; empty
            where it was offered none.
    """

    name: str
    task: Mapping[str, Any]
    actions: tuple[str, ...]
    before: tuple[tuple[Message, ...], ...]
    after: tuple[Message, ...]
    agents: tuple[str | None, ...]
    tools: tuple[str | None, ...]
    steps: tuple[int, ...]
    score: float
    ended: Ended = ""
    offered: tuple[tuple[Message, ...], ...] = ()

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> RecordedRun:
        """Read it back from JSON."""
        run: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        for nested in ("before", "offered"):
            run[nested] = tuple(tuple(messages) for messages in run.get(nested, ()))
        return cls(**run)

    def offered_at(self, t: int) -> tuple[Message, ...]:
        """The tools offered before action t; later than the record, those of its last action."""
        return self.offered[min(t, len(self.offered) - 1)] if self.offered else ()

    def state_after(self, t: int) -> tuple[Message, ...]:
        """The messages after action t."""
        return self.before[t + 1] if t + 1 < len(self.before) else self.after


class Environment(Protocol):
    """Re-executes episodes."""

    @property
    def side_effects(self) -> bool:
        """Whether a step can change anything outside the environment."""
        ...

    def reset(self, task: Mapping[str, Any]) -> State:
        """Begin a task."""
        ...

    def restore(self, run: RecordedRun, t: int) -> State:
        """Stand where the recorded run stood before its action t."""
        ...

    def step(self, action: str) -> State:
        """Take an action, exactly as the model wrote it."""
        ...

    def score(self) -> float | None:
        """What the finished episode scores, in [0, 1]; None when that cannot be known."""
        ...

    def close(self) -> None:
        """Release what it holds. Idempotent."""
        ...


MakeEnvironment = Callable[[], Environment]
