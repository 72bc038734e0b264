"""Everything that crosses the seam between the pure core and the engines.

A method's `plan` emits `Item`s; an engine turns each into `Observation`s; grading attaches an
`Outcome`; the method's `estimate` reads `Rollout`s and emits `Score`s. Nothing else crosses.

Pure: no I/O. Log-probabilities are in nats. Token positions count from the first response token.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

from tracelab.core.hashing import content_hash

REPEATED = "repeated"
"""Intervention of requests whose replicates share one seed: does who answers repeat itself?"""

BUDGET = "budget"
"""Begins the error of what a cap forbade to ask."""

FinishReason = Literal["stop", "length", "error"]
GradeStatus = Literal["graded", "unanswered", "ungraded"]

UNANSWERED = "unanswered"
"""The answer category of a rollout that ends without an answer (DESIGN 2)."""
TRUNCATED = "truncated"
"""Begins the detail of an outcome that is `unanswered` because the limit of tokens came first."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """What determines a model's distribution: name, revision (weights hash) and precision."""

    name: str
    revision: str
    dtype: str

    def key(self) -> list[str]:
        """The parts that enter an item's key; the name does not, the weights' hash does."""
        return [self.revision, self.dtype]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a continuation is sampled.

    Attributes:
        temperature: 0 is greedy.
        top_p: Nucleus mass, 1 keeps everything.
        top_k: 0 keeps everything.
        max_tokens: Most tokens to generate.
        stop: Strings that end a rollout; the stop string itself is not part of the text.
        logprobs: Also return the log-probability of each generated token.
        json_schema: JSON schema, as text, that the output must satisfy; empty for none. Engines
            that cannot constrain their output sample freely: who asks must check what comes.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    json_schema: str = ""

    @property
    def plain(self) -> bool:
        """Whether it draws from the model's own distribution, which a scoring pass measures."""
        return self.temperature == 1 and self.top_p == 1 and self.top_k == 0

    def key(self) -> list[Any]:
        """The parts that enter an item's key (`logprobs` changes no sample, so it is left out)."""
        plain = [self.temperature, self.top_p, self.top_k, self.max_tokens, list(self.stop)]
        return [*plain, self.json_schema] if self.json_schema else plain


@dataclass(frozen=True, slots=True)
class Item:
    """One request: sample `replicates` continuations of a prefix, or score a target after it.

    The key hashes everything that determines a replicate, and not how many replicates are asked
    for, so asking for 16 after 8 costs 8. Observations are stored under (key, replicate).

    Attributes:
        model: The model that must serve it.
        prefix_ids: The exact tokens to condition on (prompt and kept response).
        sampling: For generation; None for a probe.
        target_ids: For a probe: the tokens whose log-probability is asked; None for generation.
        seed: The run's seed.
        first_replicate: Replicates `[first_replicate, first_replicate + replicates)` are asked.
        replicates: How many.
        intervention: What the engine must change while computing (`suppress:3`, ...); empty when
            the prefix already says it all, so that studies share rollouts.
    """

    model: ModelRef
    prefix_ids: tuple[int, ...]
    sampling: Sampling | None = None
    target_ids: tuple[int, ...] | None = None
    seed: int = 0
    first_replicate: int = 0
    replicates: int = 1
    intervention: str = ""
    key: str = field(init=False, default="")

    def __post_init__(self) -> None:
        if (self.sampling is None) == (self.target_ids is None):
            raise ValueError("a work item has either a sampling or a target")
        if self.replicates < 1 or self.first_replicate < 0:
            raise ValueError("a work item asks for at least one replicate, counted from 0")
        parts = [
            self.model.key(),
            list(self.prefix_ids),
            None if self.sampling is None else self.sampling.key(),
            None if self.target_ids is None else list(self.target_ids),
            self.seed,
            self.intervention,
        ]
        object.__setattr__(self, "key", content_hash(parts, size=12))

    @property
    def kind(self) -> Literal["generate", "score"]:
        """What an engine is to do."""
        return "score" if self.sampling is None else "generate"

    def seed_of(self, replicate: int) -> int:
        """The engine seed of one replicate (a non-negative 63-bit integer).

        Consecutive within an item, so that one engine request with n = k gives the same samples
        as k requests; items start at hashed, hence unrelated, places.
        """
        digest = hashlib.blake2b(f"{self.key}/seed".encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 2) + replicate

    @property
    def replicate_range(self) -> range:
        """The replicates asked for."""
        return range(self.first_replicate, self.first_replicate + self.replicates)

    def at(self, first: int, count: int) -> Item:
        """The same item asking for other replicates."""
        if (first, count) == (self.first_replicate, self.replicates):
            return self
        return _ranged(self, first, count)


CallKind = Literal["look", "chat", "rerun", "grade", "act"]


@dataclass(frozen=True, slots=True)
class Call:
    """A request to something that takes no tokens: a model's inside, a chat, an environment.

    Its answer is an observation whose `text` is JSON (`Observation.value`).

    Attributes:
        kind: Who answers: `look` (attention, suppression), `chat` (messages in, message out),
            `rerun` (an agent re-executed from a step), `grade` (a judge or a sandbox), `act` (one
            step of an environment, a part of a `rerun`: never journalled, so its key need only
            be unique).
        content: All that determines the answer, JSON values; the key is its hash.
        payload: What the answering side needs besides, as an object: what `content` names.
        first_replicate: As for `Item`.
        replicates: As for `Item`.
    """

    kind: CallKind
    content: Mapping[str, Any]
    payload: Any = field(default=None, compare=False)
    first_replicate: int = 0
    replicates: int = 1
    key: str = field(init=False, default="")

    def __post_init__(self) -> None:
        if self.replicates < 1 or self.first_replicate < 0:
            raise ValueError("a call asks for at least one replicate, counted from 0")
        object.__setattr__(self, "key", content_hash([self.kind, dict(self.content)], size=12))

    @property
    def replicate_range(self) -> range:
        """The replicates asked for."""
        return range(self.first_replicate, self.first_replicate + self.replicates)

    def at(self, first: int, count: int) -> Call:
        """The same call asking for other replicates."""
        if (first, count) == (self.first_replicate, self.replicates):
            return self
        return _ranged(self, first, count)


AnyItem: TypeAlias = Item | Call
Ranged = TypeVar("Ranged", Item, Call)


def _ranged(item: Ranged, first: int, count: int) -> Ranged:
    """A copy for other replicates; the key does not change, so nothing is hashed again."""
    if count < 1 or first < 0:
        raise ValueError("an item asks for at least one replicate, counted from 0")
    other = copy(item)
    object.__setattr__(other, "first_replicate", first)
    object.__setattr__(other, "replicates", count)
    return other


def parts(item: AnyItem, replicates: Collection[int]) -> Iterator[AnyItem]:
    """An item as items of some of its replicates, one for each run of consecutive numbers."""
    first: int | None = None
    last = 0
    for r in sorted(replicates):
        if first is not None and r == last + 1:
            last = r
            continue
        if first is not None:
            yield item.at(first, last - first + 1)
        first = last = r
    if first is not None:
        yield item.at(first, last - first + 1)


@dataclass(frozen=True, slots=True)
class Observation:
    """What an engine saw for one replicate of one item.

    A failure is an observation too: `finish_reason == "error"`, `error` says why, the rest is
    empty. It is never counted as an outcome.

    Attributes:
        key: The item's key.
        replicate: Which replicate.
        token_ids: Generated tokens, the end-of-sequence token included if it was generated; empty
            for probes.
        text: The generated text, special tokens removed.
        finish_reason: `stop` (end of sequence or a stop string), `length`, or `error`.
        token_logprobs: One a generated or target token, nats; None when not asked for.
        prefix_tokens: Length of the prefix.
        cached_tokens: How many of them the engine took from its prefix cache; None if unknown.
        error: `kind: sentence` for a failure.
        endpoint: Where an endpoint answered in place of an engine of ours, a JSON object: what it
            cost (`at_endpoint`), and what it says besides; empty elsewhere. `token_ids` are then
            those that stand for its text, not the model's own.
    """

    key: str
    replicate: int
    token_ids: tuple[int, ...] = ()
    text: str = ""
    finish_reason: FinishReason = "stop"
    token_logprobs: tuple[float, ...] | None = None
    prefix_tokens: int = 0
    cached_tokens: int | None = None
    error: str | None = None
    endpoint: str = ""

    @classmethod
    def of(cls, key: str, replicate: int, value: Any) -> Observation:
        """The answer to a `Call`: a JSON value."""
        text = json.dumps(value, separators=(",", ":"), allow_nan=True)
        return cls(key=key, replicate=replicate, text=text)

    @property
    def value(self) -> Any:
        """The JSON value that a call was answered with; None for a failure."""
        return None if self.error is not None else json.loads(self.text)

    @property
    def took(self) -> tuple[int, int]:
        """Tokens that were read and written for it, as an endpoint counts them where one did."""
        if not self.endpoint:
            return self.prefix_tokens, len(self.token_ids)
        said = json.loads(self.endpoint)
        return int(said["prompt_tokens"] or 0), int(said["output_tokens"] or 0)

    @property
    def logprob(self) -> float | None:
        """Sum of the token log-probabilities in nats; None when they were not asked for."""
        return None if self.token_logprobs is None else float(sum(self.token_logprobs))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A graded rollout.

    Attributes:
        answer: Normalised category; `unanswered` when there is none, None when grading failed.
        reward: In [0, 1]; None when grading failed.
        status: `graded`, `unanswered` (reward 0: it did not answer) or `ungraded` (excluded and
            counted).
        detail: Why it is ungraded; of what is unanswered, `truncated: ...` where it was cut.
    """

    answer: str | None
    reward: float | None
    status: GradeStatus
    detail: str | None = None

    @property
    def truncated(self) -> bool:
        """Whether the limit of tokens cut it before it came to an answer."""
        return self.status == "unanswered" and (self.detail or "").startswith(TRUNCATED)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One rollout as one trace's estimators see it: where it starts, where it leaves, how it ends.

    Attributes:
        item_key: With `replicate`, the observation it comes from.
        replicate: See `item_key`.
        boundary: The boundary it was started from.
        start_token: Response tokens of the trace it was given.
        diverge_token: Position of the first token that differs from the trace's; by exact-prefix
            recycling the rollout is a sample from every boundary whose token position t has
            start_token <= t <= diverge_token.
        outcome: Its grade.
        n_tokens: Generated tokens.
        own_sentence: The sentence it wrote in place of the unit in which it leaves the trace; None
            when it never leaves, or was not cut into sentences.
        similarity: Similarity of `own_sentence` and the unit it replaces, in [-1, 1]; None when
            not computed.
        echoes: Bit j is set when `own_sentence`, or what follows it, says something similar to unit
            j of the trace (j after the unit it replaced); None when not computed.
    """

    item_key: str
    replicate: int
    boundary: int
    start_token: int
    diverge_token: int
    outcome: Outcome
    n_tokens: int
    own_sentence: str | None = None
    similarity: float | None = None
    echoes: int | None = None


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix of two token sequences."""
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n


def diverge_token(start_token: int, generated: Sequence[int], response: Sequence[int]) -> int:
    """Position in the response at which a rollout first differs from it.

    Args:
        start_token: Response tokens the rollout was given.
        generated: Its own tokens.
        response: The trace's response tokens.

    Returns:
        `start_token` plus the number of leading tokens that agree. A rollout that ends, or a
        response that ends, before they differ gives the position where one of them ended.
    """
    return start_token + common_prefix(generated, response[start_token:])
