"""The grid of values that the value curve lives on, and how two of them mix to a third. Pure."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

GRID = 101
"""Points of the grid of V: spacing .01, end points included."""
VALUES = np.linspace(0, 1, GRID)


class Mix:
    """V = p V' + (1 - p) U on the grid, p one of some equally likely values.

    Between two points of the grid, mass is split so that means stay.
    """

    def __init__(self, nodes: Floats) -> None:
        values, counts = np.unique(nodes, return_counts=True) if len(nodes) > 1 else (nodes, 1.0)
        shares = np.broadcast_to(counts / len(nodes), values.shape)
        self.parts = [(_one(float(p)), float(c)) for p, c in zip(values, shares, strict=True)]

    def push(self, joint: Floats) -> Floats:
        """Distribution of V from that of (V', U), shape [G, G] to [G]."""
        return sum((c * one.push(joint) for one, c in self.parts), np.zeros(GRID))

    def pull(self, message: Floats) -> Floats:
        """A function of V as one of (V', U), shape [G] to [G, G]."""
        if len(self.parts) == 1:
            return self.parts[0][0].pull(message)
        return sum((c * one.pull(message) for one, c in self.parts), np.zeros((GRID, GRID)))

    def differences(self, prior: Floats, message: Floats) -> Floats:
        """Mass of each (1 - p)(V' - U) / scale on the lattice of steps, shape [2G - 1]."""
        largest = max(1 - one.p for one, _ in self.parts)
        found = np.zeros(2 * GRID - 1)
        for one, c in self.parts:
            mass = np.bincount(
                _STEP, (c * prior * one.pull(message)).ravel(), minlength=2 * GRID - 1
            )
            share = (1 - one.p) / largest if largest > 0 else 1.0
            if share == 1:
                found += mass
                continue
            at = (np.arange(1 - GRID, GRID) * share) + GRID - 1
            below = np.minimum(at.astype(np.int64), 2 * GRID - 3)
            above = at - below
            found += np.bincount(below, mass * (1 - above), 2 * GRID - 1)
            found += np.bincount(below + 1, mass * above, 2 * GRID - 1)
        return found


_POINTS = np.arange(GRID, dtype=np.float64)
_STEP = (np.arange(GRID)[:, None] - np.arange(GRID) + GRID - 1).ravel()


class One:
    """V = p V' + (1 - p) U for one p."""

    def __init__(self, p: float) -> None:
        self.p = p
        if 0 < p < 1:
            at = p * _POINTS[:, None] + (1 - p) * _POINTS
            self.below = at.astype(np.int64)
            np.minimum(self.below, GRID - 2, out=self.below)
            self.above = at - self.below

    def push(self, joint: Floats) -> Floats:
        """See `Mix.push`."""
        if self.p <= 0:
            return np.asarray(joint.sum(axis=0))
        if self.p >= 1:
            return np.asarray(joint.sum(axis=1))
        upper = joint * self.above
        flat = self.below.ravel()
        found: Floats = np.bincount(flat, (joint - upper).ravel(), GRID).astype(np.float64)
        found += np.bincount(flat + 1, upper.ravel(), minlength=GRID)
        return found

    def pull(self, message: Floats) -> Floats:
        """See `Mix.pull`."""
        if self.p <= 0:
            return np.broadcast_to(message, (GRID, GRID))
        if self.p >= 1:
            return np.broadcast_to(message[:, None], (GRID, GRID))
        pulled: Floats = np.diff(message).take(self.below)
        pulled *= self.above
        pulled += message.take(self.below)
        return pulled


@lru_cache(maxsize=512)  # 80 MB; the rounds of a fit ask for the same values again
def _one(p: float) -> One:
    return One(p)
