"""Which rollouts say something about which unit, by exact-prefix recycling.

A rollout that starts at token s and first differs from its trace at token d is an exact sample
from every boundary whose token t has s <= t <= d (DESIGN 4.2). It leaves the trace inside one
unit, or never. So for unit i, the rollouts that *left in* it are independent draws of "i replaced
by something else", those *at* boundary i + 1 are independent draws of "i as it is", and no rollout
is both.

Pure: positions in, index arrays out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracelab.core.item import UNANSWERED, Rollout
from tracelab.core.unit import Unit

Ints = NDArray[np.int64]


MIN_ROLLOUTS = 4
"""Fewest graded rollouts each group needs before a number is reported about it."""

INSIDE_TOKEN = "the sentence lies inside a token of its predecessor"
"""Why a unit without a token of its own has no score: its two boundaries are one place."""


def boundary_tokens(units: Sequence[Unit]) -> list[int]:
    """Token of each boundary 0..N of N units; empty without units."""
    return [*(u.token_start for u in units), units[-1].token_end] if units else []


def left_unit(rollout: Rollout, units: Sequence[Unit]) -> int | None:
    """Index of the unit in which a rollout leaves its trace; None when it never does.

    The unit with token_start <= diverge_token < token_end. A rollout that differs before the first
    unit or after the last one leaves in none.
    """
    cuts = boundary_tokens(units)
    at = bisect_right(cuts, rollout.diverge_token) - 1
    return at if 0 <= at < len(units) else None


@dataclass(frozen=True, slots=True)
class Grouped:
    """The graded rollouts of a trace and where each of them counts.

    Attributes:
        units: The units, in order; N of them.
        rollouts: The graded rollouts, R of them.
        first: First boundary each is a sample from, shape [R].
        last: Last one, shape [R]; below `first` when it is a sample from none.
        left: Unit in which each left the trace, -1 for none, shape [R].
        reward: Shape [R].
        ungraded: Failed and ungraded rollouts, which are in none of the above, by the first
            boundary they would be samples from, shape [N + 1].
    """

    units: tuple[Unit, ...]
    rollouts: tuple[Rollout, ...]
    first: Ints
    last: Ints
    left: Ints
    reward: NDArray[np.float64]
    ungraded: Ints

    def at(self, boundary: int) -> Ints:
        """Rollouts that are samples from a boundary."""
        return np.flatnonzero((self.first <= boundary) & (boundary <= self.last))

    def left_in(self, unit: int) -> Ints:
        """Rollouts that were at a unit's boundary and wrote something else in its place."""
        return np.flatnonzero((self.left == unit) & (self.first <= unit))

    def kept(self, unit: int) -> Ints:
        """Rollouts that were at a unit's boundary and wrote exactly the unit."""
        return np.flatnonzero((self.first <= unit) & (unit < self.last))

    def splittable(self, unit: int) -> bool:
        """Whether the unit has a token of its own, so that it can be replaced at all."""
        return self.units[unit].token_end > self.units[unit].token_start


def group(units: Sequence[Unit], rollouts: Iterable[Rollout]) -> Grouped:
    """Place rollouts among the units of their trace.

    Args:
        units: The trace's units, in order, tiling its tokens.
        rollouts: Its rollouts, any order; those without a reward are counted and left out.
    """
    cuts = np.asarray(boundary_tokens(units) or [0], dtype=np.int64)
    everything = list(rollouts)
    starts = np.asarray([r.start_token for r in everything], dtype=np.int64)
    ends = np.asarray([r.diverge_token for r in everything], dtype=np.int64)
    graded = np.asarray([r.outcome.reward is not None for r in everything], dtype=bool)
    first = np.searchsorted(cuts, starts, side="left")
    last = np.searchsorted(cuts, ends, side="right") - 1
    left = np.where((last >= 0) & (last < len(units)) & (last >= first), last, -1)
    lost = np.bincount(np.minimum(first[~graded], len(units)), minlength=len(units) + 1)
    return Grouped(
        units=tuple(units),
        rollouts=tuple(r for r, ok in zip(everything, graded, strict=True) if ok),
        first=first[graded].astype(np.int64),
        last=last[graded].astype(np.int64),
        left=left[graded].astype(np.int64),
        reward=np.asarray(
            [r.outcome.reward for r in everything if r.outcome.reward is not None],
            dtype=np.float64,
        ),
        ungraded=lost.astype(np.int64),
    )


def answer_codes(rollouts: Sequence[Rollout]) -> tuple[Ints, list[str]]:
    """Answer category of each graded rollout as a number, and the categories' names, sorted.

    A rollout without an answer is in the category `unanswered`.
    """
    answers = [UNANSWERED if r.outcome.answer is None else r.outcome.answer for r in rollouts]
    names = sorted(set(answers))
    code = {name: k for k, name in enumerate(names)}
    return np.asarray([code[a] for a in answers], dtype=np.int64), names
