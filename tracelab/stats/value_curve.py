"""All values and importances of a trace at once: a hidden Markov chain over its value curve.

Pure. What the chain rests on is an exact identity. Let p_i be the probability that the model,
given the trace up to boundary i, writes exactly unit i, and U_i the expected reward of the
rollouts that write something else there. Then

    V_i = p_i V_{i+1} + (1 - p_i) U_i,        ΔV_i = V_{i+1} - V_i = (1 - p_i)(V_{i+1} - U_i).

Every rollout leaves the trace in exactly one unit (or never: then it is a sample of V_N), wherever
it was started, and given that unit it is an independent draw of U_i. So each rollout is counted
once, in one binomial; nothing is shared between two data points, however much was recycled.

V is a martingale that moves in few jumps, so U_i is mostly close to V_{i+1}. The prior says so:
U_i given V_{i+1} is a mixture of normals around it, from no change at all to wide, and a uniform
jump; the weights are estimated from the data (adaptive shrinkage: Stephens 2017, Biostatistics 18),
over all traces that are fitted together. Forward-backward on a grid of V in (0, 1) gives the
posterior of everything. With p_i = 0 this is the change-point chain of agent steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from tracelab.stats.value_grid import GRID, VALUES, Floats, Mix

SCALES = (0.0, 0.02, 0.06, 0.15)
"""Standard deviations of U_i around V_{i+1} in the first components of its prior."""
JUMPS = ((1.0, 1.0), (0.5, 6.0), (6.0, 0.5))
"""Beta parameters of the other components, which forget V_{i+1}: anywhere, near 0, near 1."""
PSEUDO = (4.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5)
"""Dirichlet pseudo-counts of the weights: what a few units alone cannot overrule."""
CLASSES = (0.25, 0.7)
"""Units are fitted in classes by p_i: what replaces a sentence that is nearly always written is
another thing than what replaces one of many ways to say it."""
NODES = 21
"""Values that stand for a p_i that is only estimated. With five, the tails of p_i are missing, and
intervals of what p_i decides cover .85 at any number of rollouts."""
_SAME, _SAME_RATIO = 0.03, 1.5  # apart by less, in p and in 1 - p, is one node
_ROUNDS = 30
_FLOOR = 1e-300
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
    """Weights of the components of U_i given V_{i+1} by class of p_i: `SCALES`, then `JUMPS`.

    Shape [classes, components]; each row sums to 1.
    """

    weights: tuple[tuple[float, ...], ...] = (tuple(p / sum(PSEUDO) for p in PSEUDO),) * 3


@dataclass(frozen=True, slots=True)
class Largest:
    """Posterior of the one largest change of V in a trace.

    Attributes:
        where: P(it is unit i, and above the threshold), shape [N]. Summed on a grid of sizes:
            with `none`, 1 up to its spacing.
        none: P(no unit exceeds the threshold).
        each: P(unit i exceeds it), shape [N]; several may.
    """

    where: Floats
    none: float
    each: Floats


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
    """

    grid: Floats
    value: Floats
    steps: Floats
    delta: Floats
    scale: Floats
    keep: Floats
    other_var: Floats

    def values(self, level: float) -> tuple[Floats, Floats, Floats]:
        """Posterior mean and equal-tailed credible interval of V_b; each [N + 1]."""
        lo, hi = _quantiles(self.grid, self.value, level)
        return self.value @ self.grid, lo, hi

    def importances(self, level: float) -> tuple[Floats, Floats, Floats]:
        """Posterior mean and equal-tailed credible interval of ΔV_i; each [N]."""
        lo, hi = _quantiles(self.steps, self.delta, level)
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

        What is missing to 1 is the probability that no unit exceeds the threshold (`largest`).
        """
        found = self.largest(threshold).where
        total = float(found.sum())
        return found if total <= 1 else found / total

    def largest(self, threshold: float, sign: Literal[-1, 0, 1] = 0) -> Largest:
        """Where the one largest change above a threshold is, units independent given the data.

        Args:
            threshold: Smallest change that counts, in [0, 1].
            sign: 1: rises of V only; -1: falls only; 0: both, by size.
        """
        change = self.scale[:, None] * self.steps
        size = sign * change if sign else np.abs(change)
        levels = np.linspace(threshold, 1, 101)
        tail = np.stack([np.where(size > c, self.delta, 0).sum(axis=1) for c in levels])
        below = np.log(np.maximum(1 - tail, 1e-12))
        rest = np.exp(below.sum(axis=1, keepdims=True) - below)
        density = np.vstack([tail[:-1] - tail[1:], tail[-1:]])
        where: Floats = (np.maximum(density, 0) * rest).sum(axis=0)
        return Largest(where, float(np.exp(below[0].sum())), tail[0])


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


def fit(curves: Sequence[CurveData], rounds: int = _ROUNDS, *, start: Prior | None = None) -> Prior:
    """Estimate the prior's weights from all traces together, by expectation-maximisation.

    Args:
        curves: The data of the traces.
        rounds: Most EM steps.
        start: Where to begin, for instance the fit to less data; default: the pseudo-counts.

    Returns:
        The maximum a posteriori weights. Without data, those of the pseudo-counts.
    """
    # The weights are insensitive to how uncertain p_i is, and single values are much faster.
    curves = [CurveData(c.total, c.n, _single(c.keep)) for c in curves]
    counts = np.tile(np.asarray(PSEUDO, dtype=np.float64), (len(CLASSES) + 1, 1))
    weights = np.asarray((start or Prior()).weights)
    for _ in range(rounds):
        total = counts.copy()
        for curve in curves:
            total += _Chain(curve, weights).responsibilities()
        new = total / total.sum(axis=1, keepdims=True)
        done = np.abs(new - weights).max() < 5e-3
        weights = new
        if done:
            break
    return Prior(tuple(map(tuple, weights.tolist())))


def _single(keep: Floats) -> Floats:
    mean: Floats = keep.mean(axis=1, keepdims=True)
    return np.where(mean < _RARE, 0.0, mean)


def posterior(curve: CurveData, prior: Prior) -> Posterior:
    """Forward-backward over one trace."""
    return _Chain(curve, np.asarray(prior.weights)).posterior()


def _kernels() -> Floats:
    """P(U = column | V = row) by component, shape [components, G, G]."""
    grid = np.linspace(0, 1, GRID)
    found = []
    for scale in SCALES:
        if scale == 0:
            found.append(np.eye(GRID))
            continue
        k = np.exp(-0.5 * ((grid[None, :] - grid[:, None]) / scale) ** 2)
        # No change is the first component's: a jump that stays where it is would be counted twice.
        np.fill_diagonal(k, 0)
        found.append(k / k.sum(axis=1, keepdims=True))
    inside = np.clip(grid, 0.25 / GRID, 1 - 0.25 / GRID)
    for a, b in JUMPS:
        k = inside ** (a - 1) * (1 - inside) ** (b - 1)
        found.append(np.tile(k / k.sum(), (GRID, 1)))
    return np.stack(found)


_KERNELS = _kernels()


class _Chain:
    """One trace's messages. Index i runs over units; state i is V_i; the chain runs from N to 0."""

    def __init__(self, curve: CurveData, weights: Floats) -> None:
        self.curve = curve
        self.size = len(curve.keep)
        self.keep = curve.keep.mean(axis=1)
        self.classes = np.digitize(self.keep, CLASSES)
        self.kernels = np.tensordot(weights, _KERNELS, axes=1)
        self.weights = weights
        self.like = _likelihood(curve.total, curve.n)
        self.mixes = [Mix(p) for p in curve.keep]
        # from_end[i]: V_i given the data of units i..N; from_start[i]: of units before i.
        self.from_end = np.empty((self.size + 1, GRID))
        self.from_start = np.empty((self.size + 1, GRID))
        # The end of a trace has all but happened: its value is near 0 or 1.
        ends = (VALUES + 0.005) ** -0.5 * (1.005 - VALUES) ** -0.5
        self.from_end[self.size] = _normal(ends * self.like[self.size])
        # Where p_i = 0, V_i is U_i and sums over both are products of matrices with vectors.
        self.never = curve.keep.max(axis=1, initial=0.0) == 0
        for i in range(self.size - 1, -1, -1):
            if self.never[i]:
                step = self.from_end[i + 1] @ self.kernel(i)
                self.from_end[i] = _normal(step * self.like[i])
                continue
            joint = self.from_end[i + 1][:, None] * self.kernel(i) * self.like[i]
            self.from_end[i] = _normal(self.mixes[i].push(joint))
        self.from_start[0] = 1.0
        # By unit: likelihood of U_i and of all before it, [V_{i+1}, U_i]; where p_i = 0, [U_i].
        self._seen = []
        for i in range(self.size):
            if self.never[i]:
                self._seen.append(self.like[i] * self.from_start[i])
                self.from_start[i + 1] = _normal(self.kernel(i) @ self._seen[i])
                continue
            self._seen.append(self.like[i] * self.mixes[i].pull(self.from_start[i]))
            self.from_start[i + 1] = _normal((self.kernel(i) * self._seen[i]).sum(axis=1))

    def kernel(self, i: int) -> Floats:
        """Prior of U_i given V_{i+1}, shape [V_{i+1}, U_i]."""
        found: Floats = self.kernels[self.classes[i]]
        return found

    def weight(self, i: int) -> Floats:
        """Everything but the prior of U_i: unnormalised, shape [V_{i+1}, U_i]."""
        found: Floats = self.from_end[i + 1][:, None] * self._seen[i]
        return found

    def responsibilities(self) -> Floats:
        """Expected number of units of each class and component of the prior."""
        total = np.zeros_like(self.weights)
        for i in range(self.size):
            # A unit that is all but certain to be written says nothing about its alternatives.
            c = self.classes[i]
            if self.never[i]:
                fit_of = (_KERNELS @ self._seen[i]) @ self.from_end[i + 1]
            else:
                fit_of = np.tensordot(_KERNELS, self.weight(i), axes=2)
            part = self.weights[c] * fit_of
            total[c] += part / max(part.sum(), _FLOOR)
        return total

    def posterior(self) -> Posterior:
        """Collect the marginals."""
        value = self.from_end * self.from_start
        value /= value.sum(axis=1, keepdims=True)
        scale = 1 - self.curve.keep.min(axis=1, initial=1.0)
        delta = np.empty((self.size, 2 * GRID - 1))
        var = np.empty(self.size)
        for i in range(self.size):
            joint = self.weight(i) * self.kernel(i)
            total = max(joint.sum(), _FLOOR)
            prior = self.from_end[i + 1][:, None] * self.kernel(i) * self.like[i]
            delta[i] = self.mixes[i].differences(prior, self.from_start[i]) / total
            other = joint.sum(axis=0) / total
            var[i] = other @ VALUES**2 - (other @ VALUES) ** 2
        steps = np.arange(1 - GRID, GRID) / (GRID - 1)
        return Posterior(VALUES, value, steps, delta, scale, self.keep, np.maximum(var, 0))


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
    """Equal-tailed interval of each row; the mass of a point is spread over its cell."""
    half = (points[1] - points[0]) / 2
    edges = np.concatenate([[points[0] - half], points + half])
    cdf = np.concatenate([np.zeros((len(mass), 1)), np.cumsum(mass, axis=1)], axis=1)
    tail = (1 - level) / 2
    ends = [np.array([np.interp(q, row / row[-1], edges) for row in cdf]) for q in (tail, 1 - tail)]
    low, high = points[0], points[-1]
    return np.clip(ends[0], low, high), np.clip(ends[1], low, high)


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
