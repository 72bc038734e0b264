"""Where the next rollouts teach most.

The value curves are fitted to what has been seen, and the next tokens go where they are expected to
shrink the posterior variance of the importances most per generated token. A rollout started at
boundary i leaves the trace in unit j with a known probability, and then it is a draw of U_j; U_j
enters ΔV_j and, through V_j, the importances before it. Nothing here looks at a reward but through
the posterior, and the posterior does not mind when sampling stops.

Deterministic: the same observations give the same plan. Pure.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from tracelab.stats.intervals import Floats
from tracelab.stats.value_curve import Posterior
from tracelab.studies.anchors.grouping import Ints
from tracelab.studies.anchors.tally import Tally

_NEGLIGIBLE = 0.02
"""Chance of reaching a unit below which it is not worth reckoning with."""


@dataclass(slots=True)
class Progress:
    """One trace before a round.

    Attributes:
        counts: Its rollouts so far.
        fitted: Its value curve.
        planned: Rollouts asked from each boundary so far, [N + 1].
        cost: Tokens that a rollout from each boundary is expected to generate, [N + 1].
        open: Units whose importance is not sure enough yet, [N].
    """

    counts: Tally
    fitted: Posterior
    planned: Ints
    cost: Floats
    open: NDArray[np.bool_]


def undecided(fitted: Posterior, *, halfwidth: float, level: float) -> NDArray[np.bool_]:
    """Units whose credible interval is wider than asked, [N]."""
    _, lo, hi = fitted.importances(level)
    found: NDArray[np.bool_] = (hi - lo) / 2 > halfwidth
    return found


def first_round(counts: Tally, *, initial: int, certify_below: float) -> Ints:
    """Rollouts to begin with: some at every boundary that is not certified, and at the end.

    Args:
        counts: A tally without rollouts; only its p_i matter.
        initial: Rollouts a boundary.
        certify_below: Units with 1 - p_i below it need none of their own.
    """
    keep = np.nan_to_num(counts.keep, nan=0.0)
    plan = np.where(counts.exact & (1 - keep < certify_below), 0, initial)
    return np.append(plan, initial).astype(np.int64)


def next_round(
    traces: Sequence[Progress], *, tokens: float, batch: int, cap: int, most: float = inf
) -> list[Ints]:
    """Spend about `tokens` generated tokens where they shrink open importances' variance most.

    Args:
        traces: The traces among which they are divided.
        tokens: Expected tokens to spend; the last batch may overrun it.
        batch: Rollouts a request.
        cap: Most rollouts ever planned from one boundary.
        most: Expected tokens that are not overrun by more than half a rollout.

    Returns:
        Additional rollouts a boundary, one array [N + 1] a trace; all zero when nothing is open.
    """
    more = [np.zeros_like(t.planned) for t in traces]
    minds = [_Expectation(t, batch) for t in traces]
    queue = [
        (-mind.gain(b), k, b)
        for k, mind in enumerate(minds)
        if traces[k].open.any()
        for b in range(len(traces[k].planned))
        if traces[k].planned[b] < cap
    ]
    heapq.heapify(queue)
    spent = 0.0
    while queue and spent < tokens:
        stale, k, b = heapq.heappop(queue)
        now = -minds[k].gain(b)
        if queue and now > queue[0][0] + 1e-15:  # it was worth more before what was planned since
            heapq.heappush(queue, (now, k, b))
            continue
        if now >= 0:
            break
        size = min(batch, cap - int(traces[k].planned[b] + more[k][b]))
        if most < inf:
            size = min(size, int((most - spent) / float(traces[k].cost[b]) + 0.5))
            if size < 1:  # too dear; what is left may do for a boundary nearer to the end
                continue
        more[k][b] += size
        spent += size * float(traces[k].cost[b])
        minds[k].expect(b, size)
        if traces[k].planned[b] + more[k][b] < cap:
            heapq.heappush(queue, (-minds[k].gain(b), k, b))
    return more


class _Expectation:
    """What is expected to be known about one trace after what is planned."""

    def __init__(self, trace: Progress, batch: int) -> None:
        self.batch = batch
        self.cost = trace.cost
        self.keep = trace.fitted.keep
        end_value = trace.fitted.value[-1]
        mean = end_value @ trace.fitted.grid
        end = max(float(end_value @ trace.fitted.grid**2 - mean**2), 0.0)
        self.var = np.append(trace.fitted.other_var, end)
        self.n = trace.counts.left_n.astype(np.float64)
        self.weight = _sensitivity(self.keep, trace.open)

    def _arrivals(self, b: int, size: int) -> tuple[slice, Floats]:
        """Expected number of `size` rollouts from b that leave in each unit from b on."""
        reach = np.cumprod(np.concatenate([[1.0], self.keep[b:]]))
        leave = np.append(1 - self.keep[b:], 1.0)
        stop = max(1, int(np.count_nonzero(reach >= _NEGLIGIBLE)))
        return slice(b, b + stop), size * reach[:stop] * leave[:stop]

    def gain(self, b: int) -> float:
        """Expected decrease of the summed variance per token, for a batch from b."""
        at, new = self._arrivals(b, self.batch)
        less = self.weight[at] * self.var[at] * new / (self.n[at] + new + 1)
        return float(less.sum()) / (self.batch * float(self.cost[b]))

    def expect(self, b: int, size: int) -> None:
        """Take a batch as done."""
        at, new = self._arrivals(b, size)
        self.var[at] *= (self.n[at] + 1) / (self.n[at] + new + 1)
        self.n[at] += new


def _sensitivity(keep: Floats, wanted: NDArray[np.bool_]) -> Floats:
    """Squared effect of U_j (and of V_N) on all wanted importances together, shape [N + 1].

    dV_{i+1}/dU_j = (p_{i+1} ... p_{j-1})(1 - p_j) for i < j, and ΔV_i = (1 - p_i)(V_{i+1} - U_i).
    """
    size = len(keep)
    found = np.zeros(size + 1)
    own = np.append(1 - keep, 1.0)
    through = 0.0  # sum over i < j of ((1 - p_i) p_{i+1} ... p_{j-1})^2 over wanted i
    for j in range(size + 1):
        if j > 0:
            through = through * keep[j - 1] ** 2 if j > 1 else 0.0
            through += float(wanted[j - 1]) * (1 - keep[j - 1]) ** 2
        direct = float(wanted[j]) if j < size else 0.0
        found[j] = own[j] ** 2 * (direct + through)
    return found
