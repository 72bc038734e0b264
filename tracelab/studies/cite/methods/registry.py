"""The methods of context attribution; each file of this folder registers one.

    @METHODS.register("mine")
    class Mine(MaskMethod):  # or another of `kinds`
        name, help = "mine", "what it says, in one sentence"
        metrics = (Metric("weight", "nats", "the span makes the target likelier"),)

        def attribute(self, work, target, position):
            ...

Installed packages add theirs through entry points of the group `tracelab.cite_methods`. Pure.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from tracelab.core.finding import Metric
from tracelab.core.registry import Registry


class SpanMethod(ABC):
    """Says something about the sources of a context. What it is called, and what it reports."""

    name: ClassVar[str]
    help: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    samples: ClassVar[bool] = False
    """Whether it works where an outcome is a mean of sampled answers."""


METHODS: Registry[type[SpanMethod]] = Registry(
    "method", package="tracelab.studies.cite.methods", group="tracelab.cite_methods"
)
"""All methods by name."""

ALWAYS = "ablate"
"""The method that is always there: labels, tests and questions rest on its ranking."""


def chosen(names: Sequence[str], kind: type[Any]) -> list[Any]:
    """The methods of a kind among some names, in the order of the registry."""
    wanted = {ALWAYS, *names}
    return [made() for name, made in METHODS.items() if name in wanted and issubclass(made, kind)]


def all_metrics() -> tuple[Metric, ...]:
    """What methods report, each under its method."""
    return tuple(
        replace(m, method=name) for name, method in METHODS.items() for m in method.metrics
    )
