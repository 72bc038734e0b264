"""Graded rollouts of a trace, counted by where they start and where they leave it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracelab.core.item import Rollout
from tracelab.core.unit import Unit
from tracelab.stats.intervals import Floats
from tracelab.stats.value_curve import CurveData, keep_nodes
from tracelab.studies.anchors.case import Reasoning
from tracelab.studies.anchors.grouping import Ints, boundary_tokens
from tracelab.studies.anchors.options import AnchorsOptions


@dataclass(frozen=True, slots=True)
class Tally:
    """Graded rollouts of one trace, counted. Arrays over boundaries [N + 1] or units [N].

    Attributes:
        total: Sum of rewards of the rollouts that are samples from a boundary.
        n: How many.
        unanswered: How many of them did not answer (reward 0).
        ungraded: How many more failed or could not be graded: excluded.
        left_total: Sum of rewards of those that left in unit i; at N: of those that never left.
        left_n: How many.
        keep: p_i, [N]: exact where known, else the share of rollouts at i that wrote unit i; NaN
            where there is neither.
        exact: Whether p_i is exact, [N].
        whole: Whether all rewards are 0 or 1.
    """

    total: Floats
    n: Ints
    unanswered: Ints
    ungraded: Ints
    left_total: Floats
    left_n: Ints
    keep: Floats
    exact: NDArray[np.bool_]
    whole: bool = True

    def curve(self) -> CurveData:
        """What the pooled value curve is fitted to."""
        n = self.n[:-1]
        nodes = keep_nodes(n - self.left_n[:-1], n)
        nodes[self.exact] = self.keep[self.exact, None]
        return CurveData(self.left_total, self.left_n.astype(np.float64), nodes)


def tally(
    units: Sequence[Unit],
    rollouts: Iterable[Rollout],
    keep: Sequence[float] | None = None,
    *,
    recycle: bool = True,
) -> Tally:
    """Count rollouts by where they start and where they leave the trace.

    Args:
        units: The trace's sentences, in order, N of them.
        rollouts: Its graded rollouts, any order.
        keep: P(the model writes exactly unit i), [N], where known (`certify.keep_probabilities`).
        recycle: Count a rollout at every boundary it is a sample from; otherwise only where it
            was started (for ablations: wasteful, and never more accurate).
    """
    tokens = np.asarray(boundary_tokens(units), dtype=np.int64)
    size = len(tokens)
    rows = [
        (
            r.start_token,
            r.diverge_token,
            np.nan if r.outcome.reward is None else r.outcome.reward,
            r.outcome.status == "unanswered",
        )
        for r in rollouts
    ]
    table = np.asarray(rows, dtype=np.float64).reshape(len(rows), 4)
    first = np.searchsorted(tokens, table[:, 0], side="left")
    # The last boundary on the token where it leaves: units without tokens of their own cannot be
    # left, and a rollout that never leaves arrives at N.
    last = np.searchsorted(tokens, table[:, 1], side="right") - 1
    if not recycle:
        last = np.searchsorted(tokens, table[:, 0], side="right") - 1
    graded = ~np.isnan(table[:, 2])
    reward = np.where(graded, table[:, 2], 0.0)

    def spread(weight: Floats) -> Floats:
        """Sum of weights over the rollouts with first <= b <= last, for each b."""
        change = np.bincount(first, weight, size + 1) - np.bincount(last + 1, weight, size + 1)
        summed: Floats = np.round(np.cumsum(change)[:size], 9).astype(np.float64)
        return summed

    n = spread(graded.astype(np.float64))
    left_n = np.bincount(last, graded, size)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimated = np.where(n[:-1] > 0, 1 - left_n[:-1] / n[:-1], np.nan)
    inside = np.diff(tokens) > 0
    exact = ~inside
    p = np.where(inside, estimated, 1.0)
    if keep is not None:
        known = ~np.isnan(np.asarray(keep, dtype=np.float64))
        p, exact = np.where(known & inside, keep, p), exact | known
    if not recycle:
        p, exact = np.where(inside, 0.0, 1.0), np.ones(size - 1, dtype=np.bool_)
    return Tally(
        total=spread(reward),
        n=n.astype(np.int64),
        unanswered=spread(table[:, 3] * graded).astype(np.int64),
        ungraded=spread((~graded).astype(np.float64)).astype(np.int64),
        left_total=np.bincount(last, reward, size).astype(np.float64),
        left_n=left_n.astype(np.int64),
        keep=p,
        exact=exact,
        whole=bool(np.isin(reward, (0.0, 1.0)).all()),
    )


def count(case: Reasoning, options: AnchorsOptions) -> Tally:
    """A trace's rollouts, counted as the options say."""
    case.sort()
    keep = case.keep if options.certificates and options.recycle else None
    return tally(case.units, case.rollouts, keep, recycle=options.recycle)
