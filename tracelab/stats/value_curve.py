"""All values and importances of a trace at once: a hidden Markov chain over its value curve.

Pure. What the chain rests on is an exact identity. Let p_i be the probability that the model,
given the trace up to boundary i, writes exactly unit i, and U_i the expected reward of the
rollouts that write something else there. Then

    V_i = p_i V_{i+1} + (1 - p_i) U_i,        ΔV_i = V_{i+1} - V_i = (1 - p_i)(V_{i+1} - U_i).

Every rollout leaves the trace in exactly one unit (or never: then it is a sample of V_N), wherever
it was started, and given that unit it is an independent draw of U_i. So each rollout is counted
once, in one binomial; nothing is shared between two data points, however much was recycled.

V is a martingale that mostly moves little, so U_i is mostly close to V_{i+1}. The prior says so:
U_i given V_{i+1} is a mixture of normals around it, from no change at all to wide, and jumps that
forget it (adaptive shrinkage: Stephens 2017, Biostatistics 18). How much moves, and how far, is
averaged over a bank of such mixtures by their marginal likelihood, over all traces that are fitted
together. Forward-backward on a grid of V in (0, 1) gives the posterior of everything. With p_i = 0
this is the change-point chain of agent steps.

**Intervals do not rest on that prior.** One that is right on average still misses the few units
that matter, and a wrong one misses them nearly always. The interval of ΔV_i is of an equal-tailed
mixture: of the posterior, and, with weight `FREE`, of what the data say of ΔV_i where nothing is
assumed of how far unit i moves V; the prior then only joins what is known of other units. Whatever
ΔV_i is, the mixture misses it at most 1 / `FREE` times as often as the second alone does.
That the prior joins the others well is checked on what it was not told: the rollouts that left in a
unit are predicted by those of all other units. Where the squared errors may be larger than they
should be, or there are too few units to tell, nothing is assumed of the units beside i either, and
the interval is all but that of i's own rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from tracelab.stats.value_grid import GRID, VALUES, Floats, Mix

SCALES = (0.0, 0.02, 0.06, 0.15)
"""Standard deviations of U_i around V_{i+1} in the first components of its prior."""
JUMPS = ((1.0, 1.0), (0.5, 6.0), (6.0, 0.5))
"""Beta parameters of the other components, which forget V_{i+1}: anywhere, near 0, near 1."""
SHAPES = (
    (0.7, 0.3, 0.0, 0.0),
    (0.2, 0.8, 0.0, 0.0),
    (0.1, 0.3, 0.6, 0.0),
    (0.05, 0.15, 0.4, 0.4),
    (0.02, 0.05, 0.13, 0.8),
    (0.45, 0.2, 0.2, 0.15),
)  # of units that do not jump: weights of `SCALES`
_RATES = (0.01, 0.05, 0.2)  # of units that do
JUMPING = (0.6, 0.2, 0.2)  # where to: weights of `JUMPS`
BANK = np.array([[*((1 - r) * s for s in shape), *(r * j for j in JUMPING)]
                 for shape in SHAPES for r in _RATES])  # fmt: skip
"""Priors among which the data choose: weights of `SCALES`, then `JUMPS`; [M, components]."""
FREE = 0.7
"""Share of the mixture behind an interval that assumes nothing about its own unit."""
NODES = 21
"""Values that stand for a p_i that is only estimated. With five, the tails of p_i are missing, and
intervals of what p_i decides cover .85 at any number of rollouts."""
_SAME, _SAME_RATIO = 0.03, 1.5  # apart by less, in p and in 1 - p, is one node
_LEAST_CHECKED = 150  # units: fewer cannot show that squared errors are as they should be
_SURE, _MOST_ERROR = 1.64, 1.1  # upper 95 % bound of the mean squared error; 1 where all is well
_FLOOR = 1e-300
_LEAST_VARIANCE = 1e-4  # of a prediction: the grid's own
_EDGE = 0.03  # a mode as near to an end of the grid is at that end
_RARE = 0.03  # a sentence written less often than this is as good as never written again


@dataclass(frozen=True, slots=True)
class CurveData:
    """What was seen of one trace with N units.

    Attributes:
        total: Sum of rewards of the rollouts that left the trace in unit i, and, at N, of those
            that never left it; shape [N + 1], each in [0, n].
        n: How many; shape [N + 1].
        keep: p_i, the probability of writing exactly unit i, in [0, 1]. Shape [N, Q]: Q equally
            likely values, all the same where p_i is known exactly (`keep_nodes` otherwise).
    """

    total: Floats
    n: Floats
    keep: Floats

    def __post_init__(self) -> None:
        if len(self.total) != len(self.n) or len(self.keep) != len(self.n) - 1:
            raise ValueError("total and n have one entry a boundary, keep one a unit")


@dataclass(frozen=True, slots=True)
class Prior:
    """What is assumed of traces like these.

    Attributes:
        weights: Of the components of U_i given V_{i+1}: `SCALES`, then `JUMPS`; they sum to 1.
        joins: Whether it predicted rollouts of one unit from those of the others well enough for
            intervals to rest on what is known of other units.
    """

    weights: tuple[float, ...] = tuple(BANK.mean(axis=0).tolist())
    joins: bool = False


@dataclass(frozen=True, slots=True)
class Posterior:
    """What is known about one trace's curve.

    Attributes:
        grid: Values, shape [G].
        value: P(V_b = grid), shape [N + 1, G].
        steps: Possible ΔV in units of `scale`, shape [2G - 1], ascending from -1 to 1.
        delta: P(ΔV_i = scale_i x steps), shape [N, 2G - 1].
        scale: Largest possible |ΔV_i|: 1 - p_i where p_i is known; shape [N].
        keep: Mean p_i, shape [N].
        other_var: Posterior variance of U_i, shape [N].
        free_value: V_b where nothing is assumed of the unit after it, shape [N + 1, G].
        free_delta: ΔV_i where nothing is assumed of unit i, on `steps`, shape [N, 2G - 1].
    """

    grid: Floats
    value: Floats
    steps: Floats
    delta: Floats
    scale: Floats
    keep: Floats
    other_var: Floats
    free_value: Floats
    free_delta: Floats

    def values(self, level: float) -> tuple[Floats, Floats, Floats]:
        """Posterior mean of V_b, and its interval (see the module); each [N + 1]."""
        lo, hi = _quantiles(self.grid, (1 - FREE) * self.value + FREE * self.free_value, level)
        return self.value @ self.grid, lo, hi

    def importances(self, level: float) -> tuple[Floats, Floats, Floats]:
        """Posterior mean of ΔV_i, and its interval (see the module); each [N]."""
        lo, hi = _quantiles(self.steps, (1 - FREE) * self.delta + FREE * self.free_delta, level)
        mean: Floats = self.delta @ self.steps
        return self.scale * mean, self.scale * lo, self.scale * hi

    def sd(self) -> Floats:
        """Posterior standard deviation of ΔV_i, shape [N]."""
        mean = self.delta @ self.steps
        second = self.delta @ self.steps**2
        found: Floats = self.scale * np.sqrt(np.maximum(second - mean**2, 0))
        return found

    def exceeds(self, threshold: float) -> Floats:
        """P(|ΔV_i| > threshold), shape [N]."""
        size = np.abs(self.scale[:, None] * self.steps)
        found: Floats = np.where(size > threshold, self.delta, 0).sum(axis=1)
        return found

    def decisive(self, threshold: float) -> Floats:
        """Posterior of where the one largest |ΔV| above a threshold is, shape [N].

        Units are independent given the data. What is missing to 1 is the probability that no unit
        exceeds the threshold; on a grid of sizes, so up to its spacing.
        """
        size = np.abs(self.scale[:, None] * self.steps)
        levels = np.linspace(threshold, 1, 101)
        tail = np.stack([np.where(size > c, self.delta, 0).sum(axis=1) for c in levels])
        below = np.log(np.maximum(1 - tail, 1e-12))
        rest = np.exp(below.sum(axis=1, keepdims=True) - below)
        density = np.vstack([tail[:-1] - tail[1:], tail[-1:]])
        found: Floats = (np.maximum(density, 0) * rest).sum(axis=0)
        total = float(found.sum())
        return found if total <= 1 else found / total


def informed(n: ArrayLike, left_n: ArrayLike, keep: ArrayLike) -> Floats:
    """How many rollouts inform each V_b: those that are samples of it, and its share of later ones.

    V_b = p_b V_{b+1} + (1 - p_b) U_b, so of a rollout that was started later V_b has the part that
    the model would have come to by itself. Where this is 0, V_b is the prior's.

    Args:
        n: Rollouts that are samples of V_b, [N + 1].
        left_n: Of these, those that left the trace in unit b, [N + 1].
        keep: p_b [N]; NaN where it is unknown.

    Returns:
        [N + 1]; not whole.
    """
    here, left = np.asarray(n, dtype=np.float64), np.asarray(left_n, dtype=np.float64)
    p = np.nan_to_num(np.asarray(keep, dtype=np.float64))
    found = here.copy()
    later = 0.0
    for b in range(len(p) - 1, -1, -1):
        started = max(here[b + 1] - (here[b] - left[b]), 0.0)
        later = p[b] * (later + started)
        found[b] += later
    return found


def fit(curves: Sequence[CurveData]) -> Prior:
    """The bank's mean under its marginal likelihood, over all traces together, and its check.

    Without data that is the mean of the bank; with few, an average over what they do not tell
    apart, so that a single short trace does not settle how its own values move.
    """
    # Neither minds much how uncertain p_i is, and single values are much faster.
    curves = [CurveData(c.total, c.n, _single(c.keep)) for c in curves]
    log = np.zeros(len(BANK))
    for curve in curves:
        log += _evidence(curve)
    share = np.exp(log - log.max())
    weights = share @ BANK / share.sum()
    joins = False
    if sum(int((c.n[:-1] > 0).sum()) for c in curves) >= _LEAST_CHECKED:
        chains = (_Chain(c, Prior(tuple(weights.tolist()))) for c in curves)
        errors = np.concatenate([chain.errors() for chain in chains])
        most = errors.mean() + _SURE * errors.std() / len(errors) ** 0.5
        joins = bool(most <= _MOST_ERROR)
    return Prior(tuple(weights.tolist()), joins)


def _single(keep: Floats) -> Floats:
    mean: Floats = keep.mean(axis=1, keepdims=True)
    return np.where(mean < _RARE, 0.0, mean)


def posterior(curve: CurveData, prior: Prior) -> Posterior:
    """Forward-backward over one trace."""
    return _Chain(curve, prior).posterior()


def kernels(points: int) -> Floats:
    """P(U = column | V = row) by component, on an even grid of [0, 1]: [components, G, G]."""
    grid = np.linspace(0, 1, points)
    found = []
    for scale in SCALES:
        if scale == 0:
            found.append(np.eye(points))
            continue
        k = np.exp(-0.5 * ((grid[None, :] - grid[:, None]) / scale) ** 2)
        # No change is the first component's: a jump that stays where it is would be counted twice.
        np.fill_diagonal(k, 0)
        found.append(k / k.sum(axis=1, keepdims=True))
    inside = np.clip(grid, 0.25 / points, 1 - 0.25 / points)
    for a, b in JUMPS:
        k = inside ** (a - 1) * (1 - inside) ** (b - 1)
        found.append(np.tile(k / k.sum(), (points, 1)))
    return np.stack(found)


_KERNELS = kernels(GRID)
_BANKED = np.tensordot(BANK, _KERNELS, axes=1)
# The end of a trace has all but happened: its value is near 0 or 1.
_ENDS = (VALUES + 0.005) ** -0.5 * (1.005 - VALUES) ** -0.5


def _evidence(curve: CurveData) -> Floats:
    """Log-likelihood of a trace under every prior of the bank, up to a constant, [M]."""
    like = _likelihood(curve.total, curve.n)
    at = np.tile(_normal(_ENDS * like[-1]), (len(BANK), 1))
    log = np.zeros(len(BANK))
    for i in range(len(curve.keep) - 1, -1, -1):
        if curve.keep[i].max() == 0:
            new = np.einsum("mv,mvu->mu", at, _BANKED) * like[i]
        else:
            mix = Mix(curve.keep[i])
            new = np.array([
                mix.push(v[:, None] * kernel * like[i])
                for v, kernel in zip(at, _BANKED, strict=True)
            ])  # fmt: skip
        total = np.maximum(new.sum(axis=1), _FLOOR)
        log += np.log(total)
        at = np.maximum(new / total[:, None], _FLOOR)
    return log


class _Chain:
    """One trace's messages. Index i runs over units; state i is V_i; the chain runs from N to 0."""

    def __init__(self, curve: CurveData, prior: Prior) -> None:
        self.curve = curve
        self.joins = prior.joins
        self.size = len(curve.keep)
        self.keep = curve.keep.mean(axis=1)
        # [V_{i+1}, U_i]
        self.kernel: Floats = np.tensordot(np.asarray(prior.weights), _KERNELS, axes=1)
        self.like = _likelihood(curve.total, curve.n)
        self.mixes = [Mix(p) for p in curve.keep]
        # from_end[i]: V_i given the data of units i..N; from_start[i]: of units before i.
        self.from_end = np.empty((self.size + 1, GRID))
        self.from_start = np.empty((self.size + 1, GRID))
        self.from_end[self.size] = _normal(_ENDS * self.like[self.size])
        # Where p_i = 0, V_i is U_i and sums over both are products of matrices with vectors.
        self.never = curve.keep.max(axis=1, initial=0.0) == 0
        for i in range(self.size - 1, -1, -1):
            if self.never[i]:
                step = self.from_end[i + 1] @ self.kernel
                self.from_end[i] = _normal(step * self.like[i])
                continue
            joint = self.from_end[i + 1][:, None] * self.kernel * self.like[i]
            self.from_end[i] = _normal(self.mixes[i].push(joint))
        self.from_start[0] = 1.0
        # By unit: likelihood of U_i and of all before it, [V_{i+1}, U_i]; where p_i = 0, [U_i].
        self._seen = []
        for i in range(self.size):
            if self.never[i]:
                self._seen.append(self.like[i] * self.from_start[i])
                self.from_start[i + 1] = _normal(self.kernel @ self._seen[i])
                continue
            self._seen.append(self.like[i] * self.mixes[i].pull(self.from_start[i]))
            self.from_start[i + 1] = _normal((self.kernel * self._seen[i]).sum(axis=1))

    def weight(self, i: int) -> Floats:
        """Everything but the prior of U_i: unnormalised, shape [V_{i+1}, U_i]."""
        found: Floats = self.from_end[i + 1][:, None] * self._seen[i]
        return found

    def errors(self) -> Floats:
        """Squared standardised errors of each unit's mean reward, predicted by all other units.

        Of the units that some rollout left the trace in.
        """
        found = []
        for i in np.flatnonzero(self.curve.n[:-1] > 0):
            if self.never[i]:
                other = (self.from_end[i + 1] @ self.kernel) * self.from_start[i]
            else:
                other = self.from_end[i + 1][:, None] * self.kernel
                other = (other * self.mixes[i].pull(self.from_start[i])).sum(axis=0)
            other = other / max(other.sum(), _FLOOR)
            n, mean = self.curve.n[i], float(other @ VALUES)
            spread = float(other @ VALUES**2) - mean**2
            var = spread + max(mean * (1 - mean) - spread, 0.0) / n
            found.append((self.curve.total[i] / n - mean) ** 2 / (var + _LEAST_VARIANCE))
        return np.array(found)

    def posterior(self) -> Posterior:
        """Collect the marginals."""
        value = self.from_end * self.from_start
        value /= value.sum(axis=1, keepdims=True)
        scale = 1 - self.curve.keep.min(axis=1, initial=1.0)
        delta, free = np.empty((2, self.size, 2 * GRID - 1))
        free_value, var = self.from_end.copy(), np.empty(self.size)
        before = np.ones(GRID)  # V_i given what was before it, nothing assumed of unit i - 1
        for i in range(self.size - 1, -1, -1):
            # Jeffreys' prior of U_i, whatever V_{i+1} is.
            own = self.like[i] * _ENDS
            free_value[i] = self.mixes[i].push(np.outer(self.from_end[i + 1], own))
        free_value /= free_value.sum(axis=1, keepdims=True)
        for i in range(self.size):
            joint = self.weight(i) * self.kernel
            after = self.from_end[i + 1] if self.joins else free_value[i + 1]
            anywhere = np.outer(after, self.like[i] * _ENDS)
            fitted = self.from_end[i + 1][:, None] * self.kernel * self.like[i]
            seen_before = self.from_start[i] if self.joins else before
            delta[i] = self.mixes[i].differences(fitted, self.from_start[i])
            free[i] = self.mixes[i].differences(anywhere, seen_before)
            if not self.never[i]:  # else V_{i+1} has no part in V_i
                before = _normal(self._seen[i] @ _ENDS)
            else:
                before = np.ones(GRID)
            other = joint.sum(axis=0) / max(joint.sum(), _FLOOR)
            var[i] = other @ VALUES**2 - (other @ VALUES) ** 2
        for found in (delta, free):
            found /= np.maximum(found.sum(axis=1, keepdims=True), _FLOOR)
        steps = np.arange(1 - GRID, GRID) / (GRID - 1)
        return Posterior(
            VALUES, value, steps, delta, scale, self.keep, np.maximum(var, 0), free_value, free
        )


def _likelihood(total: Floats, n: Floats) -> Floats:
    """Binomial (for rewards in between: quasi-binomial) likelihood on the grid, [N + 1, G]."""
    v = np.clip(VALUES, 0.25 / GRID, 1 - 0.25 / GRID)
    log = total[:, None] * np.log(v) + (n - total)[:, None] * np.log1p(-v)
    scaled: Floats = np.exp(log - log.max(axis=1, keepdims=True))
    return scaled


def _normal(message: Floats) -> Floats:
    scaled: Floats = np.maximum(message / max(message.sum(), _FLOOR), _FLOOR)
    return scaled


def _quantiles(points: Floats, mass: Floats, level: float) -> tuple[Floats, Floats]:
    """Equal-tailed interval of each row; the mass of a point is spread over its cell.

    Where the mode is at an end, that end is inside: a truth of 0 where every reward was lost.
    """
    half = (points[1] - points[0]) / 2
    edges = np.concatenate([[points[0] - half], points + half])
    cdf = np.concatenate([np.zeros((len(mass), 1)), np.cumsum(mass, axis=1)], axis=1)
    tail = (1 - level) / 2
    ends = [np.array([np.interp(q, row / row[-1], edges) for row in cdf]) for q in (tail, 1 - tail)]
    low, high, mode = points[0], points[-1], points[mass.argmax(axis=1)]
    return (
        np.where(mode <= low + _EDGE, low, np.clip(ends[0], low, high)),
        np.where(mode >= high - _EDGE, high, np.clip(ends[1], low, high)),
    )


def keep_nodes(kept: ArrayLike, n: ArrayLike) -> Floats:
    """Equally likely values of p_i when `kept` of `n` rollouts wrote unit i; shape [N, NODES].

    Quantiles of the posterior under Jeffreys' prior: taking the observed share for the truth would
    make intervals too narrow while n is small.
    """
    k, m = np.asarray(kept, dtype=np.float64), np.asarray(n, dtype=np.float64)
    q = (np.arange(NODES) + 0.5) / NODES
    found: Floats = betaincinv(k[:, None] + 0.5, (m - k)[:, None] + 0.5, q)
    return np.array([_merged(row) for row in found]).reshape(found.shape)


def _merged(nodes: Floats) -> Floats:
    """Ascending nodes, neighbours that lead to the same V replaced by their mean: fewer to sum."""
    if np.isnan(nodes).any():
        return nodes
    out, first = nodes.copy(), 0
    for i in range(1, len(nodes) + 1):
        if i < len(nodes):
            far = nodes[i] - nodes[first] > _SAME
            if not far and (1 - nodes[first]) < _SAME_RATIO * (1 - nodes[i]):
                continue
        out[first:i] = nodes[first:i].mean()
        first = i
    return out
