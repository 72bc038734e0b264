"""Whole value curves drawn from their joint posterior, for questions about all units at once.

Pure. `stats.value_curve` has the identity and the components of the prior. Which fall is the
largest, and whether it is so alone, depends on all of a trace's values together, and on how its
values move: a prior of few jumps reads ten small falls as two large ones, and one that was learnt
from traces with a single fall is sure of the one it finds elsewhere. So how values move is drawn
too, a trace at a time, from `KINDS`: from still but for one jump to restless. What the other traces
say of the kinds counts for half; the other half treats them as equally likely.

Forward filtering and backward sampling: messages run from the first unit to the last, and curves
are drawn from the end to the beginning, each from a mixture over kinds (and, where p_i is only
estimated, over values of p_i), by its share of the posterior. The same data give the same curves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tracelab.stats.value_curve import JUMPING, SHAPES, CurveData, kernels
from tracelab.stats.value_grid import Floats

Ints = NDArray[np.int64]

DRAWS = 600
RATES = (0.1, 0.3)
"""Of units that jump. Higher than for sentences: a failure has few steps, and more than one may
matter."""
KINDS = np.array([[*((1 - r) * s for s in shape), *(r * j for j in JUMPING)]
                  for shape in SHAPES for r in RATES])  # fmt: skip
_POINTS = 51  # of the grid: spacing .02
_VALUES = np.linspace(0, 1, _POINTS)
_INSIDE = np.clip(_VALUES, 0.25 / _POINTS, 1 - 0.25 / _POINTS)
_KERNELS = np.tensordot(KINDS, kernels(_POINTS), axes=1)  # [kinds, V_{i+1}, U_i]
_LEARNT = 0.5
_PRIOR_RUNS = 5.0
_ROUNDS = 20
_NODES = 4  # values that stand for an estimated p_i
_FLOOR = 1e-300
_SEED = 1


class JointCurve:
    """The joint posterior of one trace's values.

    Attributes:
        log_evidence: Log-likelihood of the trace under each kind, up to a constant, [kinds].
    """

    def __init__(self, curve: CurveData) -> None:
        n, won = curve.n[:, None], curve.total[:, None]
        like = won * np.log(_INSIDE) + (n - won) * np.log1p(-_INSIDE)
        self._like = np.exp(like - like.max(axis=1, keepdims=True))
        self._size = len(curve.keep)
        rng = np.random.default_rng(_SEED)
        self._keep = _settings(curve.keep, rng)  # [R, N]
        kinds, settings = len(KINDS), len(self._keep)
        # [r, m, i]: likelihood of all that was seen before unit i, by V_i.
        self._start = np.ones((settings, kinds, self._size + 1, _POINTS))
        log = np.zeros((settings, kinds))
        for r, keep in enumerate(self._keep):
            for i, p in enumerate(keep):
                at = self._start[r, :, i]
                if p <= 0:
                    new = (_KERNELS @ (self._like[i] * at)[:, :, None])[:, :, 0]
                elif p >= 1:
                    new = at * (_KERNELS @ self._like[i])
                else:
                    below, above = _between(p)
                    seen = at.take(below, axis=1)
                    seen += (at.take(below + 1, axis=1) - seen) * above
                    seen *= _KERNELS
                    new = seen @ self._like[i]
                top = np.maximum(new.max(axis=1), _FLOOR)
                log[r] += np.log(top)
                self._start[r, :, i + 1] = np.maximum(new / top[:, None], _FLOOR)
        # The end of a trace has all but happened: its value is near 0 or 1.
        self._end = self._like[-1] * ((_VALUES + 0.01) * (1.01 - _VALUES)) ** -0.5
        log += np.log(np.maximum(self._start[:, :, -1] @ self._end, _FLOOR))
        self._log = log  # [R, kinds]
        most = log.max()
        self.log_evidence: Floats = np.log(np.exp(log - most).mean(axis=0) + _FLOOR) + most

    def draw(self, shares: Floats, count: int = DRAWS) -> Floats:
        """Curves V_0 ... V_N; [count, N + 1].

        Args:
            shares: Of the kinds, before this trace was seen.
            count: How many.
        """
        rng = np.random.default_rng(_SEED + 1)
        weight = np.exp(self._log - self._log.max()) * shares
        at = (np.arange(count) + 0.5) / count
        cell = np.searchsorted(np.cumsum(weight.ravel()) / weight.sum(), at)
        r, m = np.unravel_index(np.minimum(cell, weight.size - 1), weight.shape)
        out = np.empty((count, self._size + 1), dtype=np.int64)
        out[:, -1] = _pick(self._start[r, m, -1] * self._end, rng)
        for i in range(self._size - 1, -1, -1):
            for k in np.unique(r):
                mine = np.flatnonzero(r == k)
                out[mine, i] = self._before(i, int(k), m[mine], out[mine, i + 1], rng)
        return _VALUES[out]

    def _before(self, i: int, r: int, m: Ints, after: Ints, rng: np.random.Generator) -> Ints:
        """Draw V_i given V_{i+1}."""
        p, start = self._keep[r, i], self._start[r, m, i]
        if p >= 1:
            return after
        prior = _KERNELS[m, after] * self._like[i]
        if p <= 0:
            return _pick(prior * start, rng)
        below, above = (x[after] for x in _between(p))
        rows = np.arange(len(m))[:, None]
        low = start[rows, below] * (1 - above)
        high = start[rows, below + 1] * above
        other = _pick(prior * (low + high), rng)
        lo, hi, b = (x[rows[:, 0], other] for x in (low, high, below))
        found: Ints = b + (rng.random(len(m)) * (lo + hi) < hi)
        return found


def learn(traces: Sequence[JointCurve]) -> Floats:
    """Shares of the kinds before a trace is seen, from others; [kinds].

    Half of it is what they say (the mode under a prior that treats kinds alike), half is equal
    shares: traces of one kind do not make it all but certain for the next.
    """
    equal = np.full(len(KINDS), 1 / len(KINDS))
    if not traces:
        return equal
    log = np.array([t.log_evidence for t in traces])
    like = np.exp(log - log.max(axis=1, keepdims=True))
    shares = equal
    for _ in range(_ROUNDS):
        each = like * shares
        each /= each.sum(axis=1, keepdims=True)
        shares = (each.sum(axis=0) + _PRIOR_RUNS * equal) / (len(traces) + _PRIOR_RUNS)
    return _LEARNT * shares + (1 - _LEARNT) * equal


def _settings(keep: Floats, rng: np.random.Generator) -> Floats:
    """Values of all p_i at once: a Latin hypercube over their strata, [R, N]; R = 1 if known."""
    if keep.shape[1] == 1 or (keep == keep[:, :1]).all():
        return keep[:, :1].T
    strata = np.array([part.mean(axis=1) for part in np.array_split(keep, _NODES, axis=1)])
    return rng.permuted(strata, axis=0)


def _between(p: float) -> tuple[Ints, Floats]:
    """Where p V' + (1 - p) U lies on the grid: the point below, and how far above it."""
    at = np.arange(_POINTS, dtype=np.float64)
    where = p * at[:, None] + (1 - p) * at
    below = np.minimum(where.astype(np.int64), _POINTS - 2)
    return below, where - below


def _pick(weight: Floats, rng: np.random.Generator) -> Ints:
    total = np.cumsum(weight, axis=1)
    at = rng.random(len(weight)) * total[:, -1]
    found: Ints = np.minimum((total < at[:, None]).sum(axis=1), weight.shape[1] - 1)
    return found
