"""Which masks of the sources to score: independent coins, or documents first where masks are few.

Pure.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np

from tracelab.core.errors import PlanError
from tracelab.stats.effects import average_effects
from tracelab.stats.lasso import Floats, Ints
from tracelab.stats.masks import Design, bernoulli
from tracelab.stats.refine import refine
from tracelab.stats.surrogate import MIN_MASKS, fit

BATCH = 16
_ENOUGH = 64
"""From so many masks on, independent ones serve as well as hierarchical ones (simulation)."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What may help to find sources; all optional.

    Attributes:
        groups: Document of each source, then paragraph, ...: coarse to fine, each int [n].
        prior: Any number per source that is larger for likelier ones [n]: attention, BM25, ...
            It never enters an effect except through residuals, and is weighed out of fold.
    """

    groups: tuple[Ints, ...] = ()
    prior: Floats | None = field(default=None)


def plan(
    n: int,
    budget: int,
    *,
    rng: np.random.Generator,
    knowledge: Knowledge | None = None,
    width: float | None = None,
    level: float = 0.95,
) -> Generator[Design, Floats, None]:
    """Yield masks to score, until intervals are narrow enough or the budget is spent.

    Independent fair coins; for far fewer masks than sources, with groups known, documents first
    and sentences later. All independent masks come at once unless `width` asks to look between
    batches. (Looking costs coverage only through the stopping rule; simulated in the tests.)

    Args:
        n: Sources.
        budget: Most masks.
        rng: The coins.
        knowledge: Groups and prior.
        width: Stop once no effect's interval is longer than this, nats.
        level: Of those intervals.

    Yields:
        Rows to score. Send their outcomes, [rows, targets] (NaN: the mask failed).

    Raises:
        PlanError: There is no source, or no budget.
    """
    known = knowledge or Knowledge()
    if n < 1:
        raise PlanError("the context has no source to ablate")
    if budget < 1:
        raise PlanError("at least one ablation is needed")
    if budget < _ENOUGH and 3 * budget <= n and known.groups:
        yield from refine(known.groups, budget, rng, known.prior)
        return
    everything = bernoulli(n, budget, rng)
    size = len(everything) if width is None else BATCH
    done: list[Floats] = []
    for first in range(0, len(everything), size):
        batch = everything.select(np.arange(first, min(first + size, len(everything))))
        y = yield batch
        done.append(np.asarray(y, dtype=np.float64).reshape(len(batch), -1))
        if width is not None and first + size < len(everything):
            seen = everything.select(np.arange(first + size))
            if _narrow(seen, np.concatenate(done), width, level, rng, known):
                return


def _narrow(
    seen: Design,
    y: Floats,
    width: float,
    level: float,
    rng: np.random.Generator,
    known: Knowledge,
) -> bool:
    for column in y.T:
        ok = np.isfinite(column)
        if ok.sum() < 2 * MIN_MASKS:
            return False
        s = fit(seen.masks[ok], column[ok], rng=rng, prior=known.prior, groups=known.groups)
        half = average_effects(seen.masks[ok], column[ok], s, level=level).half_width
        if not np.all(2 * half <= width):
            return False
    return True
