"""Scores of the methods that compare two groups of rollouts: building blocks they share.

Pure.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tracelab.core.finding import Score, ScoreStatus
from tracelab.core.unit import UnitKind
from tracelab.stats.contrast import Contrast, Distance, contrast
from tracelab.stats.divergence import fdr_adjust
from tracelab.studies.anchors.grouping import Grouped, answer_codes

INSIDE_TOKEN = "the sentence lies inside a token of its predecessor"
"""Why a unit without a token of its own has no score: its two boundaries are one place."""

Ints = NDArray[np.int64]


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


class Maker:
    """Builds one unit's scores."""

    def __init__(
        self,
        trace_id: str,
        kind: UnitKind | Literal["boundary"],
        index: int,
        method: str,
        level: float,
    ) -> None:
        """Keep what all scores of a unit, or of a boundary, have in common."""
        self._trace, self._kind, self._index = trace_id, kind, index
        self._method, self.level = method, level

    def __call__(
        self,
        metric: str,
        n: int,
        ok: bool,
        value: float | None,
        lo: float | None,
        hi: float | None,
        extra: dict[str, object],
    ) -> Score:
        """One score; without `ok` it is `insufficient` and has no numbers."""
        status: ScoreStatus = "ok" if ok else "insufficient"
        value, lo, hi = (value, lo, hi) if ok else (None, None, None)
        return Score(
            self._trace, self._kind, self._index, self._method, metric, value, lo, hi,
            self.level, n, status, extra=extra,
        )  # fmt: skip


def n_of(extra: dict[str, object]) -> int:
    """Rollouts in both groups, from the counts in `extra`."""
    return sum(
        v
        for k in ("n_kept", "n_different", "n_before", "n_after", "n_replaced")
        if isinstance(v := extra.get(k), int)
    )


def distance_scores(
    make: Maker, found: Contrast | tuple[Distance, Distance] | None, base: dict[str, object]
) -> list[Score]:
    """`tv` and `js` of a contrast; `insufficient` without one."""
    pair = (found.tv, found.js) if isinstance(found, Contrast) else found
    if pair is None:
        return [make(m, n_of(base), False, None, None, None, dict(base)) for m in ("tv", "js")]
    return [
        make(
            metric, n_of(base), True, d.value, d.lo, d.hi,
            {**base, "p": d.p, "plug_in": d.plug_in, "floor": d.floor},
        )
        for metric, d in zip(("tv", "js"), pair, strict=True)
    ]  # fmt: skip


def adjusted(scores: list[Score]) -> list[Score]:
    """With `p_adjusted` beside each `p`, over the units of the trace, metric by metric."""
    out = list(scores)
    for metric in ("tv", "js"):
        at = [k for k, s in enumerate(scores) if s.metric == metric and "p" in s.extra]
        for k, p in zip(at, fdr_adjust([scores[k].extra["p"] for k in at]), strict=True):
            out[k] = dataclasses.replace(
                scores[k], extra={**scores[k].extra, "p_adjusted": float(p)}
            )
    return out
