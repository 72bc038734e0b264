"""Failed runs of agents in which everything is known: how V falls, and re-executions of them.

Written apart from the estimators and from the testbed, with numpy alone. A world draws failed runs
of N steps; `rerun` re-executes them. V_N is the chance that the same actions and replies score
again: 0 where the environment is sound, more where the score is a coin.

`truth` is the step with the largest fall where one is to be named, and None where no step is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.stats.worlds import build

Floats = NDArray[np.float64]
Drawn = tuple[int, int, float]
"""A re-execution: where it began, where it left the record (N: never), what it scored."""


@dataclass(frozen=True)
class Failure:
    """One failed run with N steps.

    Attributes:
        value: V_b, [N + 1].
        keep: P(a step, and the reply to it, is repeated), [N].
        other: U_i, [N].
        truth: The step with the largest fall; None where no step is to be named.
        also: Steps that it is no mistake to name besides.
    """

    value: Floats
    keep: Floats
    other: Floats
    truth: int | None
    also: frozenset[int] = frozenset()


def failure(
    rng: np.random.Generator, drops: Mapping[int, float], end: float, size: int, *,
    named: bool = True, also: frozenset[int] = frozenset(), seldom: bool = False,
) -> Failure:  # fmt: skip
    """A run that loses `drops` at its steps (a gain is negative) and ends at V_N = `end`."""
    fall = np.zeros(size)
    for at, by in drops.items():
        fall[at] = by
    wanted = end + np.append(np.cumsum(fall[::-1])[::-1], 0.0)
    # Routine steps are nearly always repeated, those that change something seldom.
    keep = np.where(
        rng.random(size) < (0.0 if seldom else 0.6), rng.beta(8, 2, size), rng.beta(2, 4, size)
    )
    keep = np.where(np.abs(fall) > 0, rng.beta(2, 5, size), keep).clip(0.01, 0.97)
    made = build(np.clip(wanted, 0, 1), keep)
    falls = made.value[:-1] - made.value[1:]
    return Failure(made.value, keep, made.other, int(falls.argmax()) if named else None, also)


def _places(rng: np.random.Generator, size: int, count: int) -> list[int]:
    return [int(x) for x in rng.choice(size, count, replace=False)]


def single(rng: np.random.Generator) -> Failure:
    """One fault; the policy is good or fair at what it failed."""
    size = int(rng.integers(5, 15))
    return failure(rng, {int(rng.integers(size)): rng.uniform(0.45, 0.95)}, 0.0, size)


def noisy_fix(rng: np.random.Generator) -> Failure:
    """One fault that the policy repeats as often as not."""
    size = int(rng.integers(6, 13))
    return failure(rng, {int(rng.integers(size)): rng.uniform(0.3, 0.5)}, 0.0, size)


def luck(rng: np.random.Generator) -> Failure:
    """One fault, and before it a step that had raised the chance by as much."""
    size = int(rng.integers(6, 13))
    up, down = sorted(_places(rng, size, 2))
    gain = rng.uniform(0.2, 0.4)
    return failure(rng, {up: -gain, down: gain + rng.uniform(0.25, 0.5)}, 0.0, size)


def crumbling(rng: np.random.Generator) -> Failure:
    """One fault among steps that each cost a little."""
    size = int(rng.integers(8, 14))
    drops = {i: rng.uniform(0.0, 0.04) for i in range(size)}
    drops[int(rng.integers(size))] = rng.uniform(0.4, 0.5)
    return failure(rng, drops, 0.0, size)


def late_end(rng: np.random.Generator) -> Failure:
    """The last step was the fault."""
    size = int(rng.integers(4, 12))
    return failure(rng, {size - 1: rng.uniform(0.4, 0.9)}, 0.0, size)


def wide(rng: np.random.Generator) -> Failure:
    """One fault in forty steps."""
    return failure(rng, {int(rng.integers(40)): rng.uniform(0.5, 0.9)}, 0.0, 40)


def near(rng: np.random.Generator) -> Failure:
    """Two falls close together, the smaller .5 to .9 of the larger."""
    size = int(rng.integers(6, 13))
    at = int(rng.integers(size - 3))
    larger = rng.uniform(0.3, 0.5)
    smaller = larger * rng.uniform(0.5, 0.9)
    both = [larger, smaller] if rng.random() < 0.5 else [smaller, larger]
    return failure(rng, dict(zip((at, at + int(rng.integers(1, 4))), both, strict=True)), 0.0, size)


def apart(rng: np.random.Generator) -> Failure:
    """Two falls anywhere, the smaller a third to two thirds of the larger."""
    size = int(rng.integers(6, 13))
    one, two = _places(rng, size, 2)
    larger = rng.uniform(0.35, 0.55)
    return failure(rng, {one: larger, two: larger * rng.uniform(0.33, 0.66)}, 0.0, size)


def equal(rng: np.random.Generator) -> Failure:
    """Two equal falls: to name either is no mistake, to call it the one is not asked for."""
    size = int(rng.integers(6, 13))
    one, two = _places(rng, size, 2)
    by = rng.uniform(0.3, 0.47)
    return failure(rng, {one: by, two: by}, 0.0, size, also=frozenset((one, two)))


def three(rng: np.random.Generator) -> Failure:
    """Three falls of different size."""
    size = int(rng.integers(8, 14))
    places = _places(rng, size, 3)
    return failure(rng, dict(zip(places, rng.uniform(0.15, 0.32, 3), strict=True)), 0.0, size)


def several_small(rng: np.random.Generator) -> Failure:
    """Eight to twelve falls of .05 to .1: none is worth naming."""
    count = int(rng.integers(8, 13))
    size = count + int(rng.integers(0, 4))
    drops = dict(zip(_places(rng, size, count), rng.uniform(0.05, 0.1, count), strict=True))
    return failure(rng, drops, 0.0, size, named=False)


def retries(rng: np.random.Generator) -> Failure:
    """Six retries in a row, each of which costs .1."""
    size = int(rng.integers(8, 13))
    at = int(rng.integers(size - 5))
    return failure(rng, {at + k: 0.1 for k in range(6)}, 0.0, size, named=False)


def unsolvable(rng: np.random.Generator) -> Failure:
    """Nothing helps, whatever is done."""
    return failure(rng, {}, 0.0, int(rng.integers(5, 13)), named=False)


def hard(rng: np.random.Generator) -> Failure:
    """It seldom succeeds from anywhere, and declines a little."""
    size = int(rng.integers(5, 13))
    return failure(rng, {int(rng.integers(size)): rng.uniform(0.04, 0.12)}, 0.0, size, named=False)


def coin(rng: np.random.Generator) -> Failure:
    """The score is a coin, whatever is done."""
    size, chance = int(rng.integers(5, 13)), rng.uniform(0.15, 0.5)
    return failure(rng, {}, chance, size, named=False, seldom=True)


def noisy_end(rng: np.random.Generator) -> Failure:
    """The agent does well, and the environment spoils the end now and then."""
    size = int(rng.integers(5, 13))
    return failure(rng, {}, rng.uniform(0.4, 0.7), size, named=False)


FAULTS: Mapping[str, Callable[[np.random.Generator], Failure]] = {
    "single": single,
    "noisy-fix": noisy_fix,
    "luck": luck,
    "crumbling": crumbling,
    "late-end": late_end,
    "wide": wide,
    "near": near,
    "near-beside-single": near,
    "apart": apart,
    "equal": equal,
    "three": three,
    "several-small": several_small,
    "small-beside-single": several_small,
    "retries": retries,
    "unsolvable": unsolvable,
    "hard": hard,
    "coin": coin,
    "noisy-end": noisy_end,
}
"""A failed run of each, from a generator of random numbers."""

TUNED = ("single", "noisy-fix", "near")
"""What the rules of audits were looked at while they were made; all others only judged them."""

BESIDE_SINGLE = ("near-beside-single", "small-beside-single")
"""Worlds whose studies are of single faults for the most part; only the others are counted."""


def rerun(rng: np.random.Generator, of: Failure, start: int, count: int) -> list[Drawn]:
    """Re-execute from before a step."""
    size, found = len(of.keep), []
    for _ in range(count):
        at = start
        while at < size and rng.random() < of.keep[at]:
            at += 1
        chance = of.value[-1] if at == size else of.other[at]
        found.append((start, at, float(rng.random() < chance)))
    return found


def controls(rng: np.random.Generator, of: Failure, count: int) -> list[float]:
    """Scores of the recorded actions and replies, executed again."""
    return [float(x) for x in rng.random(count) < of.value[-1]]
