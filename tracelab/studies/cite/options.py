"""The options of context attribution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from tracelab.core.errors import ConfigError
from tracelab.core.options import Section
from tracelab.studies.cite.context import PLACEHOLDER, Mode
from tracelab.studies.cite.cut import TEMPLATE, Grain
from tracelab.studies.cite.methods.registry import METHODS


def _methods() -> Iterable[str]:
    return METHODS  # looked up when somebody asks: methods read these options


class CiteOptions(Section):
    """Context attribution: which spans of the context a response is made of."""

    names: ClassVar[Mapping[str, Callable[[], Iterable[str]]]] = {"methods": _methods}

    unit: Grain = "sentence"
    """How finely the context is cut; `message` is for chats."""
    segmenter: str = "reasoning-v1"
    """How text is cut into sentences, in the context and in the response."""
    template: str = TEMPLATE
    """How a context and a query become one user message."""
    mode: Mode = "delete"
    """What stands in the place of an ablated source: nothing, a fixed text, or what the model
    itself writes there."""
    placeholder: str = PLACEHOLDER
    """The fixed text; also what an ablated tool result leaves behind."""
    target: str | None = None
    """A text of the response, or: sentences, response, action."""
    outcome: Literal["logprob", "answer"] = "logprob"
    """What is explained: the log-probability of what was written, or what is answered when the
    model is asked again, which any engine can be, and which also holds after long reasoning."""
    compare: Literal["answer", "reward", "similarity"] = "answer"
    """`outcome = "answer"`: what of a sampled answer counts: that it is the response's own, its
    reward, or how alike its most similar sentence is to the target."""
    samples: int = Field(default=4, ge=1)
    """`outcome = "answer"`: answers per mask; at least 16 of the whole and the empty context."""
    similarity: str = "auto"
    """`compare = "similarity"`: a sentence-transformers model or directory, `lexical`, or `auto`.
    """
    step: int | None = Field(default=None, ge=0)
    """Agent logs: explain what the model wrote at this step after its exact input."""
    methods: list[str] = ["ablate"]
    """What is computed. `ablate` gives effects with intervals, and the ranking; `context-cite` the
    published weights from the same masks; `leave-one-out` needs a mask per source. About each
    target that the context raises, with masks of their own: `shapley` values with intervals
    (`ablations` masks); `sufficient`, the smallest set found that alone holds the target within 1
    nat (60 masks at most); `pairs`, which of the top 8 spans need or replace each other (37).
    Cheap baselines that look inside the model, with transformers: `attention` of the target to
    each span, mean over heads; `at2`, a weight a head learned from the run's own ablations.
    `llm-cites` asks the model itself, once a target, which spans support it."""
    ablations: int = Field(default=64, ge=8)
    """Most masks per context; ContextCite uses 64, and 32 already find what matters."""
    width: float | None = Field(default=None, gt=0)
    """Stop earlier, once no interval of a context's scores is wider than this many nats."""
    held_out: int = Field(default=16, ge=0)
    """Fresh masks per context on which the scores are tested (LDS); 0 saves them."""
    top_k: list[int] = [1, 3, 5]
    """Removing the k top sources of each target at once: what does the target lose?"""
    prune: int = Field(default=0, ge=0)
    """Answer each context again from so many top spans, and say what changed (`tracelab query
    pruned`); 0 does not."""
    curve_points: int = Field(default=0, ge=0)
    """Steps of the insertion and deletion curves of each target; 0 saves their ablations."""
    level: float = Field(default=0.95, gt=0, lt=1)
    """Nominal coverage of every interval."""
    max_sources: int = Field(default=2000, ge=1)
    """A longer context is refused with a `rejects` row."""
    roles: list[Literal["system", "user", "assistant", "tool"]] = ["user", "assistant", "tool"]
    """Chats: messages of which roles hold sources."""
    exchanges: bool = False
    """Chats: a tool call and its results are one source; otherwise the call always stays."""
    hints: bool = False
    """Testbed only: questions with a clerk's wrong hint."""

    @field_validator("methods")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        try:
            for name in names:
                METHODS.named(name)
        except ConfigError as e:
            raise ValueError(str(e)) from None
        return names

    @model_validator(mode="after")
    def _explains(self) -> Self:
        scored = [n for n in self.methods if not METHODS.named(n).samples]
        if self.outcome == "answer" and scored:
            can = ", ".join(f"`{n}`" for n, m in METHODS.items() if m.samples)
            raise ValueError(f'`{scored[0]}` reads log-probabilities; outcome = "answer" has {can}')
        return self
