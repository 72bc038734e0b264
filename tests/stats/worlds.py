"""Worlds in which everything is known: how values move along a trace, and rollouts of it.

Written apart from the estimators and from the testbed, with numpy alone, so that neither can be
right by construction. A world draws traces of N sentences; `sample` starts rollouts from their
boundaries. Rewards are in [0, 1]; `value` is V_0 ... V_N, `other` the expected reward of what
leaves the trace in a sentence, and V_i = p_i V_{i+1} + (1 - p_i) U_i holds exactly.

Estimators were tuned on `TUNED`; figures are reported for all, from seeds that nothing was
tuned on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_LOW, _HIGH = 0.03, 0.97
_GRADED_TESTS = 3
_BETA_CONCENTRATION = 2.0


@dataclass(frozen=True)
class Truth:
    """One trace with N sentences.

    Attributes:
        value: V_b, [N + 1].
        keep: p_i, [N].
        other: U_i, [N].
        reward: `binary`, `beta` (anywhere in [0, 1]) or `graded` (the share of three tests).
    """

    value: Floats
    keep: Floats
    other: Floats
    reward: str = "binary"

    @property
    def delta(self) -> Floats:
        """V_{i+1} - V_i, [N]."""
        return np.diff(self.value)


@dataclass(frozen=True)
class Counted:
    """Rollouts of one trace, counted by where they start and where they leave it.

    Attributes:
        total: Sum of rewards of those that are samples from each boundary, [N + 1].
        n: How many.
        left_total: Sum of rewards of those that left in unit i; at N, of those that never did.
        left_n: How many.
        tokens: Sentences generated, the ones of the trace written again included.
    """

    total: Floats
    n: Ints
    left_total: Floats
    left_n: Ints
    tokens: float

    def __add__(self, more: Counted) -> Counted:
        """Both together."""
        return Counted(
            self.total + more.total, self.n + more.n, self.left_total + more.left_total,
            self.left_n + more.left_n, self.tokens + more.tokens,
        )  # fmt: skip


def build(wanted: Floats, keep: Floats, reward: str = "binary") -> Truth:
    """A trace whose values are as wanted, so far as alternatives in [0, 1] can make them."""
    size = len(keep)
    value, other = wanted.copy(), np.empty(size)
    for i in range(size - 1, -1, -1):
        p = keep[i]
        other[i] = np.clip((wanted[i] - p * value[i + 1]) / (1 - p), 0.0, 1.0)
        value[i] = p * value[i + 1] + (1 - p) * other[i]
    return Truth(value, keep, other, reward)


def low(rng: np.random.Generator, size: int) -> Floats:
    """The model seldom repeats a sentence."""
    return rng.beta(1.5, 7, size).clip(0, 0.95)


def mid(rng: np.random.Generator, size: int) -> Floats:
    """It does about half the time."""
    return rng.beta(5, 5, size).clip(0, 0.95)


def varied(rng: np.random.Generator, size: int) -> Floats:
    """Anything, many sentences all but certain."""
    p = np.where(rng.random(size) < 0.4, rng.beta(9, 1, size), rng.beta(1, 4, size))
    return p.clip(0, 0.98)


Keep = Callable[[np.random.Generator, int], Floats]


def walk(start: float, steps: Floats) -> Floats:
    """Values after each step, reflected into [.03, .97]."""
    out = np.empty(len(steps) + 1)
    out[0] = start
    for i, step in enumerate(steps):
        v = out[i] + step
        if not _LOW <= v <= _HIGH:
            v = out[i] - step
        out[i + 1] = np.clip(v, _LOW, _HIGH)
    return out


def _signed(rng: np.random.Generator, least: float, most: float, size: int) -> Floats:
    return np.asarray(rng.uniform(least, most, size) * rng.choice([-1.0, 1.0], size))


def moderate(
    rng: np.random.Generator, keep: Keep = low, size: int = 25, reward: str = "binary",
    least: float = 0.05, most: float = 0.25,
) -> Truth:  # fmt: skip
    """Every sentence moves V, by .05 to .25."""
    steps = _signed(rng, least, most, size)
    return build(walk(rng.uniform(0.2, 0.8), steps), keep(rng, size), reward)


def small(rng: np.random.Generator) -> Truth:
    """Every sentence moves V a little."""
    return moderate(rng, least=0.02, most=0.05)


def jump(rng: np.random.Generator, keep: Keep = low, size: int = 25) -> Truth:
    """Flat but for one jump of .3 to .7."""
    change = rng.uniform(0.3, 0.7)
    start = rng.uniform(0.03, 0.97 - change)
    at = int(rng.integers(1, size - 1))
    value = np.where(np.arange(size + 1) > at, start + change, start)
    return build(value if rng.random() < 0.5 else 1 - value, keep(rng, size))


def drift(
    rng: np.random.Generator, keep: Keep = mid, size: int = 30, reward: str = "binary",
    anchors: int = 3, least: float = 0.05, most: float = 0.15,
) -> Truth:  # fmt: skip
    """Many tiny steps, and a few larger ones."""
    steps = rng.normal(0, 0.015, size)
    steps[rng.choice(size, anchors, replace=False)] = _signed(rng, least, most, anchors)
    return build(walk(rng.uniform(0.2, 0.8), steps), keep(rng, size), reward)


def long(rng: np.random.Generator, keep: Keep = low) -> Truth:
    """150 sentences that drift, with about four anchors of .1 to .4."""
    return drift(rng, keep, 150, anchors=int(rng.integers(3, 6)), least=0.1, most=0.4)


def null(rng: np.random.Generator) -> Truth:
    """Nothing matters."""
    return build(np.full(26, rng.uniform(0.1, 0.9)), low(rng, 25))


def extreme(rng: np.random.Generator) -> Truth:
    """V near 0 or 1, and small steps there."""
    value = np.clip(0.02 + np.abs(np.cumsum(rng.normal(0, 0.01, 26))), 0, 0.12)
    return build(value if rng.random() < 0.5 else 1 - value, low(rng, 25))


def bumps(rng: np.random.Generator) -> Truth:
    """Flat, but for sentences that the next one takes back: +.2 to .4, then the same again down."""
    value = np.full(27, rng.uniform(0.25, 0.6))
    for at in rng.choice(12, 3, replace=False):
        value[2 * at + 1] += rng.uniform(0.2, 0.38)
    return build(value, low(rng, 26))


def late(rng: np.random.Generator) -> Truth:
    """Nothing until the last third, where every sentence matters."""
    steps = np.concatenate([np.zeros(18), _signed(rng, 0.08, 0.3, 9)])
    return build(walk(rng.uniform(0.3, 0.7), steps), low(rng, 27))


def heavy(rng: np.random.Generator) -> Truth:
    """Changes of all sizes (Student's t with 2 degrees of freedom)."""
    steps: Floats = 0.03 * rng.standard_t(2, 25)
    return build(walk(rng.uniform(0.2, 0.8), np.clip(steps, -0.8, 0.8)), varied(rng, 25))


def mixture(rng: np.random.Generator) -> Truth:
    """A run in which some traces jump, some drift, and in some every sentence matters."""
    kind = [jump, drift, moderate][int(rng.integers(3))]
    return kind(rng)


WORLDS: Mapping[str, Callable[[np.random.Generator], Truth]] = {
    "moderate": moderate,
    "moderate-mid": lambda rng: moderate(rng, mid),
    "moderate-graded": lambda rng: moderate(rng, reward="graded"),
    "small": small,
    "jump": jump,
    "jump-mid": lambda rng: jump(rng, mid),
    "drift": drift,
    "drift-low": lambda rng: drift(rng, low),
    "drift-beta": lambda rng: drift(rng, reward="beta"),
    "long": long,
    "long-mid": lambda rng: long(rng, mid),
    "null": null,
    "extreme": extreme,
    "bumps": bumps,
    "late": late,
    "heavy": heavy,
    "mixture": mixture,
}
"""A trace of each, from a generator of random numbers."""

TUNED = ("moderate", "jump", "drift", "long", "bumps", "late", "heavy")
"""What estimators were looked at while they were made; all others only judged them."""


def _rewards(rng: np.random.Generator, mean: Floats, n: Ints, reward: str) -> Floats:
    """Sums of n rewards of each mean; of the shape of both."""
    if reward == "binary":
        return rng.binomial(n, mean).astype(np.float64)
    if reward == "graded":
        return rng.binomial(_GRADED_TESTS * n, mean) / _GRADED_TESTS
    out = np.zeros(n.shape)
    m = np.clip(mean, 1e-4, 1 - 1e-4) * _BETA_CONCENTRATION
    for index in np.argwhere(n > 0):
        at = tuple(index)
        out[at] = rng.beta(m[at], _BETA_CONCENTRATION - m[at], int(n[at])).sum()
    return out


def sample(rng: np.random.Generator, truth: Truth, starts: Ints) -> Counted:
    """Rollouts from every boundary.

    Args:
        rng: Throws the coins.
        truth: The trace.
        starts: How many begin at each boundary, [N + 1].
    """
    size = len(truth.keep)
    alive = np.zeros(size + 1, dtype=np.int64)  # by where it began
    left = np.zeros((size + 1, size + 1), dtype=np.int64)  # [began, left]
    for d in range(size + 1):
        alive[d] = starts[d]
        leave = truth.keep[d] if d < size else 0.0
        left[: d + 1, d] = rng.binomial(alive[: d + 1], 1 - leave)
        alive[: d + 1] -= left[: d + 1, d]
    mean = np.broadcast_to(np.append(truth.other, truth.value[-1]), left.shape)
    won = _rewards(rng, mean, left, truth.reward)

    def samples(of: NDArray[np.generic]) -> NDArray[np.generic]:
        """Those that began at b or before, and left at b or after."""
        begun = np.cumsum(of, axis=0)
        return np.array([begun[b, b:].sum() for b in range(size + 1)])

    lengths = size + 1 - np.arange(size + 1)
    return Counted(
        samples(won).astype(np.float64), samples(left).astype(np.int64),
        won.sum(axis=0), left.sum(axis=0), float(starts @ lengths),
    )  # fmt: skip
