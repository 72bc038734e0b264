"""What an engine is: work items in, observations out.

An engine serves one model. Token ids in, token ids out; log-probabilities in nats, of the
distribution that is sampled from (after temperature and top-p). An engine never raises for one
bad item: it returns an observation with `finish_reason="error"`. It raises `EngineDeadError` when
it can serve nothing any more, and `ModelLoadError` when it cannot start.

An `EngineSpec` is data, so that it can be sent to another process and built there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tracelab.core.errors import ConfigError
from tracelab.core.item import Item, ModelRef, Observation
from tracelab.core.trace import Rendering, TokenizedTrace, Trace, Turn
from tracelab.core.unit import Unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tracelab.studies.anchors.attend import AttentionMaps, Head
    from tracelab.studies.anchors.suppress import Suppressed
    from tracelab.core.look import SpanAttention

EngineKind = Literal["vllm", "transformers", "openai", "scripted"]
Range = tuple[int, int]
"""Half-open token positions."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Everything needed to build an engine in any process.

    Attributes:
        kind: Which engine.
        path: Directory or hub id of the model; a script's seed for `scripted`.
        model: Its identity.
        context_length: Longest prefix + continuation, tokens.
        options: The engine's own settings (see `tracelab.run.config`).
    """

    kind: EngineKind
    path: str
    model: ModelRef
    context_length: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Counters:
    """What an engine has done since it started. Tokens; `cached` is a part of `prompt`."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    start_seconds: float = 0.0


class Engine(Protocol):
    """Serves one model."""

    spec: EngineSpec
    counters: Counters
    capabilities: frozenset[str]
    """`generate`, `score`, and for a `WhiteBox` also `attention`, `suppress`, `hidden`."""

    async def generate(self, items: Sequence[Item]) -> list[Observation]:
        """Sample every replicate of every item; observations in item, then replicate order."""
        ...

    async def score(self, items: Sequence[Item]) -> list[Observation]:
        """Log-probability of each item's target after its prefix, one observation an item."""
        ...

    def close(self) -> None:
        """Release memory and processes. Idempotent."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Hidden:
    """Mean hidden state of each unit's tokens.

    Attributes:
        trace_id: The trace.
        layers: The layers asked for.
        vectors: float32 [layers, units, width], after the layer and before the final
            normalisation; NaN for a unit without tokens; None when the engine could not do it.
        error: `kind: sentence`, then.
    """

    trace_id: str
    layers: tuple[int, ...] = ()
    vectors: NDArray[np.float32] | None = None
    error: str | None = None


class WhiteBox(Protocol):
    """What an engine can do besides when its capabilities say so. It never raises for one trace."""

    async def attention(
        self,
        tokens: TokenizedTrace,
        units: Sequence[Unit],
        *,
        min_distance: int = 4,
        depth_control: bool = False,
        heads: Sequence[Head] = (),
    ) -> AttentionMaps:
        """Vertical scores of all heads, mean attention, and the matrices of some `heads`."""
        ...

    async def span_attention(
        self, ids: Sequence[int], spans: Sequence[Range], targets: Sequence[Range]
    ) -> SpanAttention:
        """Attention of every head from each target to each span; ranges of positions in `ids`."""
        ...

    async def suppressed(
        self,
        tokens: TokenizedTrace,
        units: Sequence[Unit],
        *,
        sources: Collection[int] | None = None,
        layers: Collection[int] | None = None,
        heads: Collection[Head] | None = None,
    ) -> Suppressed:
        """Hide each unit (or those with an index in `sources`) from all that comes later.

        Everywhere, or only in some `layers`, or only in some (layer, head) pairs.
        """
        ...

    async def hidden(
        self, tokens: TokenizedTrace, units: Sequence[Unit], layers: Sequence[int]
    ) -> Hidden:
        """Mean hidden state of each unit after each of some layers (negative: from the end)."""
        ...


class Tokenizer(Protocol):
    """The model's own text ↔ token mapping, and its chat template."""

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


def build(spec: EngineSpec) -> Engine:
    """Construct an engine here and now (the slow part: loads the model).

    Raises:
        ModelLoadError: The model cannot be loaded.
        ConfigError: The engine's package is not installed.
    """
    try:
        if spec.kind == "vllm":
            from tracelab.engines.vllm import VllmEngine

            return VllmEngine(spec)
        if spec.kind == "transformers":
            from tracelab.engines.transformers import TransformersEngine

            return TransformersEngine(spec)
    except ImportError as e:
        raise ConfigError(
            f"engine.kind = {spec.kind!r} needs a package that cannot be imported here ({e}); "
            f"`tracelab doctor` says what is installed and how to get the rest"
        ) from e
    if spec.kind == "openai":
        from tracelab.engines.openai import OpenAIEngine

        return OpenAIEngine(spec)
    from tracelab.engines.scripted import ScriptedEngine

    return ScriptedEngine(spec)
