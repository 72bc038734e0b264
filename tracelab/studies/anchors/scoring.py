"""Scores of the methods that compare two groups of rollouts: building blocks they share.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import isnan, nan
from typing import Literal, TypeAlias

import numpy as np

from tracelab.core.finding import Score
from tracelab.core.unit import UnitKind
from tracelab.stats.contrast import Contrast, Distance, contrast
from tracelab.stats.divergence import fdr_adjust
from tracelab.studies.anchors.grouping import Grouped, Ints, answer_codes

Make: TypeAlias = Callable[..., Score]
"""`Score.of` from the metric on."""


class Answers:
    """Answer counts of groups of a trace's rollouts."""

    def __init__(self, g: Grouped) -> None:
        """Code the answers once."""
        self._codes, names = answer_codes(g.rollouts)
        self._size = len(names)

    def counts(self, who: Ints) -> Ints:
        """Counts of each answer among some rollouts, [categories]."""
        return np.bincount(self._codes[who], minlength=self._size).astype(np.int64)

    def compare(
        self, a: Ints, b: Ints, enough: bool, level: float, rng: np.random.Generator
    ) -> Contrast | None:
        """Contrast of two groups of rollouts; None when there are not `enough`."""
        return contrast(self.counts(a), self.counts(b), rng=rng, level=level) if enough else None


def make(
    trace_id: str, kind: UnitKind | Literal["boundary"], index: int, method: str, level: float
) -> Make:
    """What makes one unit's, or one boundary's, scores: all but what they have in common."""
    return partial(Score.of, trace_id, kind, index, method, level=level)


def n_of(extra: dict[str, object]) -> int:
    """Rollouts in both groups, from the counts in `extra`."""
    return sum(
        v
        for k in ("n_kept", "n_different", "n_before", "n_after", "n_replaced")
        if isinstance(v := extra.get(k), int)
    )


def distance_scores(
    score: Make, found: Contrast | tuple[Distance, Distance] | None, base: dict[str, object]
) -> list[Score]:
    """`tv` and `js` of a contrast; `insufficient` without one."""
    pair = (found.tv, found.js) if isinstance(found, Contrast) else found
    if pair is None:
        return [score(m, None, n=n_of(base), extra=dict(base)) for m in ("tv", "js")]
    return [
        score(
            metric, d.value, n=n_of(base), interval=(d.lo, d.hi),
            extra={**base, "p": d.p, "plug_in": d.plug_in, "floor": d.floor},
        )
        for metric, d in zip(("tv", "js"), pair, strict=True)
    ]  # fmt: skip


def with_fdr(scores: Sequence[Score]) -> list[Score]:
    """With `p_adjusted` beside each `p`: over the units of the trace, metric by metric.

    Benjamini and Hochberg's false discovery rate.
    """
    out = list(scores)
    metrics: dict[str, list[int]] = {}
    for k, s in enumerate(out):
        if not isnan(s.extra.get("p", nan)):
            metrics.setdefault(s.metric, []).append(k)
    for at in metrics.values():
        for k, q in zip(at, fdr_adjust([out[k].extra["p"] for k in at]), strict=True):
            out[k] = replace(out[k], extra={**out[k].extra, "p_adjusted": float(q)})
    return out
