"""All traces of one run, and what a method does with them. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tracelab.core.finding import Findings, Metric
from tracelab.core.flow import Flow
from tracelab.core.seam import Comparing
from tracelab.core.study import StudyContext
from tracelab.stats.value_curve import Prior
from tracelab.studies.anchors.case import Reasoning
from tracelab.studies.anchors.options import AnchorsOptions


@dataclass(slots=True)
class Cohort:
    """All traces of one run, and what they share.

    Attributes:
        cases: The traces.
        ctx: What the study was given.
        comparing: Compares sentences; None where no method of the run needs it.
        echoes: Whether some method needs to know what rollouts say again later.
        prior: Of their value curves, from all that was observed; None before that, and where the
            options do not ask for pooled numbers.
    """

    cases: Sequence[Reasoning]
    ctx: StudyContext[AnchorsOptions]
    comparing: Comparing | None = None
    echoes: bool = False
    prior: Prior | None = None

    @property
    def options(self) -> AnchorsOptions:
        """The study's options."""
        return self.ctx.options

    @property
    def similarity(self) -> str:
        """Name of what compares sentences, for the record."""
        return str(None if self.comparing is None else self.comparing.name)


class Method(ABC):
    """One way to credit sentences. Classes derived from it are registered in `methods.METHODS`."""

    help: ClassVar[str]
    """One sentence about it, for the help of options."""
    metrics: ClassVar[tuple[Metric, ...]]
    """What its scores and links may be about."""
    compares: ClassVar[bool] = False
    """Whether it needs the sentences that rollouts wrote compared with the trace's."""
    echoes: ClassVar[bool] = False
    """Whether it needs to know which later sentences of the trace they say again elsewhere."""

    def ask(self, cohort: Cohort) -> Flow[None]:
        """Ask for what it needs besides rollouts, and keep it with the cases."""
        yield from ()

    @abstractmethod
    def estimate(self, case: Reasoning, cohort: Cohort, rng: np.random.Generator) -> Findings:
        """Findings about one trace, a pure function of what was observed.

        Args:
            case: The trace, its rollouts sorted.
            cohort: What it shares with all traces of the run.
            rng: Randomness of this trace, passed from method to method.
        """
