"""The options of thought anchors. Pure."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from tracelab.core.errors import ConfigError
from tracelab.core.options import Section
from tracelab.studies.anchors.methods import METHODS
from tracelab.text.segment import segment


class AnchorsOptions(Section):
    """Thought anchors: which numbers, how the reasoning is cut, and how many rollouts they get."""

    may_change: ClassVar[tuple[str, ...]] = (
        "rollouts", "target_halfwidth", "budget_tokens", "methods", "pooled", "level", "similarity",
        "threshold",
    )  # fmt: skip
    grows: ClassVar[tuple[str, ...]] = ("rollouts",)

    methods: list[str] = ["resample", "counterfactual", "links"]
    """What is computed. `counterfactual` and `links` reuse the rollouts of `resample`; `force`
    samples short forced answers; `attend` and `suppress` look inside the model (transformers
    engine, no rollouts); `thought-anchors` adds the published numbers, signs and quirks."""
    allocation: Literal["adaptive", "uniform"] = "adaptive"
    """`uniform` samples `rollouts` at every boundary, the published recipe. `adaptive` starts with
    `initial`, and then spends where it learns most until `target_halfwidth` or a limit is met."""
    rollouts: int = Field(default=100, ge=1)
    """Per boundary; for `adaptive` the most."""
    initial: int = Field(default=4, ge=1)
    """Adaptive: rollouts a boundary in the first round."""
    target_halfwidth: float = Field(default=0.1, gt=0, lt=1)
    """Adaptive: a sentence is decided when its pooled interval is within this of its middle."""
    budget_tokens: int | None = Field(default=None, ge=1)
    """Adaptive: generated tokens after which no further round is begun."""
    delta: float = Field(default=0.1, gt=0, lt=1)
    """A sentence matters if its effect is larger than this; `prob_matters` is about it."""
    certificates: bool = True
    """Score each trace once and use the exact probability of its sentences; sentences that are
    written with probability above 1 - delta get no rollouts of their own."""
    recycle: bool = True
    """Count a rollout at every boundary it is an exact sample from."""
    pooled: bool = True
    """Fit the value curve of all boundaries together (`resample-pooled`)."""
    segmenter: str = "reasoning-v1"
    """How the reasoning is cut into sentences."""
    similarity: str = "auto"
    """Compares sentences: a sentence-transformers model or directory, `lexical`, or `auto`."""
    threshold: float | None = Field(default=None, ge=-1, le=1)
    """Cosine below which a sentence is another one; default: the median over the trace."""
    force_suffix: str = "\n</think>\n\nTherefore, the final answer is \\boxed{"
    """For `force`: what is appended to make the model answer at once."""
    level: float = Field(default=0.95, gt=0, lt=1)
    """Nominal coverage of every interval."""
    max_units: int = Field(default=400, ge=1)
    """A longer trace is refused with a `rejects` row rather than half measured."""
    turn: int | None = Field(default=None, ge=0)
    """Agent logs: study this assistant turn after its exact input. It is named by its step's
    number, as in the table `steps` and in verdicts of `audit`."""

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: list[str]) -> list[str]:
        for name in methods:
            try:
                METHODS.named(name)
            except ConfigError as e:
                raise ValueError(str(e)) from None
        return methods

    @field_validator("segmenter")
    @classmethod
    def _cuts(cls, name: str) -> str:
        try:
            segment("", name)
        except ConfigError as e:  # before anything is written
            raise ValueError(str(e)) from None
        return name
