"""What an engine is: work items in, observations out.

An engine serves one model. Token ids in, token ids out; log-probabilities in nats, of the
distribution that is sampled from (after temperature and top-p). It gives observations as they are
finished, so that none waits for its neighbours. An engine never raises for one bad item: it gives
an observation with `finish_reason="error"`. It raises `EngineDeadError` when it can serve nothing
any more, and `ModelLoadError` when it cannot start.

An `EngineSpec` is data, so that it can be sent to another process and built there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from tracelab.core.item import Call, Item, ModelRef, Observation


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Everything needed to build an engine in any process.

    Attributes:
        kind: Which engine: its name in the registry.
        path: Directory or hub id of the model; a script's seed for `scripted`.
        model: Its identity.
        context_length: Longest prefix + continuation, tokens.
        options: The engine's own settings (`EngineKind.options_of`).
        trust_remote_code: Whether Python code that comes with the model may run.
        template_options: What its chat template is told besides the messages.
    """

    kind: str
    path: str
    model: ModelRef
    context_length: int
    options: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False
    template_options: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Counters:
    """What an engine has done since it started. Tokens; `cached` is a part of `prompt`.

    `generated` are those of finished answers. `written` are those of answers under way too, where
    the engine tells: they show that it works, and are not what a run is said to have cost.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    written_tokens: int = 0
    start_seconds: float = 0.0


class Engine(Protocol):
    """Serves one model."""

    spec: EngineSpec
    counters: Counters
    capabilities: frozenset[str]
    """`generate`; `score` (log-probabilities of given tokens); `prefix` (it continues any tokens,
    not only whole prompts); `chat` (prompts are requests to a chat endpoint); `look`: a `WhiteBox`.
    """

    def generate(self, items: Sequence[Item]) -> AsyncGenerator[list[Observation], None]:
        """Sample every replicate of every item; observations as they are finished, in any order."""
        ...

    def score(self, items: Sequence[Item]) -> AsyncGenerator[list[Observation], None]:
        """Log-probability of each item's target after its prefix, one observation an item."""
        ...

    def halt(self) -> None:
        """Begin nothing more of what was asked so far; calls end after what is in flight."""
        ...

    def close(self) -> None:
        """Release memory and processes. Idempotent."""
        ...


class WhiteBox(Protocol):
    """What an engine can do besides when its capabilities say `look`."""

    async def look(self, calls: Sequence[Call]) -> list[Observation]:
        """Answer calls of `tracelab.core.look`, in order; it never raises for one call."""
        ...

    def close(self) -> None:
        """Release memory. Idempotent."""
        ...


async def observed(
    engine: Engine, items: Sequence[Item]
) -> AsyncGenerator[list[Observation], None]:
    """Ask an engine for some items, each by its verb; observations as they are finished."""
    generate = [i for i in items if i.kind == "generate"]
    score = [i for i in items if i.kind == "score"]
    for verb, some in ((engine.generate, generate), (engine.score, score)):
        if some:
            async with aclosing(verb(some)) as answers:
                async for found in answers:
                    yield found


def failed(item: Item, kind: str, why: str) -> list[Observation]:
    """One error observation for each replicate of an item that could not be served."""
    return [
        Observation(
            key=item.key,
            replicate=r,
            finish_reason="error",
            prefix_tokens=len(item.prefix_ids),
            error=f"{kind}: {' '.join(why.split())[:500]}",
        )
        for r in item.replicate_range
    ]


def overlong(item: Item, context_length: int, *, probe_extra: int = 0) -> list[Observation] | None:
    """Error observations if an item's tokens cannot fit the context window, else None.

    A generation needs room for at least one token; a probe for its whole target, and for
    `probe_extra` tokens where an engine cannot score without generating.
    """
    target = item.target_ids
    need = len(item.prefix_ids) + (1 if target is None else len(target) + probe_extra)
    if need <= context_length:
        return None
    return failed(
        item, "overlong", f"needs {need} tokens but the model's context holds {context_length}"
    )
