"""Do intervals hold what they should? On the bundled model, not in simulation.

Two references that nothing is guessed about. Of small contexts all 2^n masks are scored, which
gives the exact average effect of every note on every statement. And a *placebo* is a coin that is
thrown with the others and changes nothing: its effect is exactly 0, whatever the model does.

A distractor is no such reference: with the right note gone, the model states the price of another
one, so a note that nothing in the answer rests on has an average effect all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracelab.stats.effects import average_effects
from tracelab.stats.surrogate import fit

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LEVELS = (0.9, 0.95)
DRAWS = 4
"""Fresh sets of masks of an enumerated context, each fitted anew."""
PLACEBOS = 3
_ROUNDING = 1e-6


@dataclass(slots=True)
class Cover:
    """What is counted.

    Attributes:
        contexts: Contexts of which all masks were scored.
        exact: Exact effects of all notes, by role; nats.
        held: Whether an interval held the exact effect, by level, masks and role.
        placebo: Whether a placebo's interval held 0, by level and masks.
    """

    contexts: int = 0
    exact: dict[str, list[float]] = field(default_factory=dict)
    held: dict[tuple[float, int, str], list[bool]] = field(default_factory=dict)
    placebo: dict[tuple[float, int], list[bool]] = field(default_factory=dict)

    def add_exact(
        self, masks: Bools, y: Floats, roles: list[str], sizes: tuple[int, ...], seed: list[int]
    ) -> None:
        """Hold fresh estimates of one target to its exact effects.

        Args:
            masks: All 2^n masks [2^n, n].
            y: The outcome of each.
            roles: Planted role of each source.
            sizes: Numbers of masks to estimate from.
            seed: Of the draws.
        """
        exact = np.array([y[kept].mean() - y[~kept].mean() for kept in masks.T])
        for role, value in zip(roles, exact, strict=True):
            self.exact.setdefault(role, []).append(float(value))
        for m in (size for size in sizes if size < len(masks)):
            for draw in range(DRAWS):
                rng = np.random.default_rng([*seed, m, draw])
                rows = rng.choice(len(masks), m, replace=False)
                found = intervals(masks[rows], y[rows], rng)
                for level, (lo, hi) in found.items():
                    for j in np.flatnonzero(np.isfinite(lo)):
                        ok = lo[j] - _ROUNDING <= exact[j] <= hi[j] + _ROUNDING
                        self.held.setdefault((level, m, roles[j]), []).append(bool(ok))

    def add_placebos(self, masks: Bools, y: Floats, seed: list[int]) -> None:
        """Throw some more coins than there are sources, and see whether they do anything."""
        known = np.isfinite(y)
        rng = np.random.default_rng(seed)
        more = np.concatenate([masks, rng.random((len(masks), PLACEBOS)) < 0.5], axis=1)[known]
        for level, (lo, hi) in intervals(more, y[known], rng).items():
            for j in range(masks.shape[1], more.shape[1]):
                if np.isfinite(lo[j]):
                    ok = lo[j] <= _ROUNDING and hi[j] >= -_ROUNDING
                    self.placebo.setdefault((level, len(masks)), []).append(bool(ok))

    def to_json(self) -> dict[str, Any]:
        """As JSON; shares with their n."""
        held: dict[str, list[bool]] = {}
        for (level, m, role), found in sorted(self.held.items()):
            held.setdefault(f"{level:g} at {m}", []).extend(found)
            if role == "distractor":
                held.setdefault(f"{level:g} at {m}, distractors", []).extend(found)
        idle = np.abs(self.exact.get("distractor", []))
        return {
            "contexts": self.contexts,
            "effects": sum(map(len, self.exact.values())),
            "coverage": {k: _share(v) for k, v in held.items()},
            "placebo": {
                f"{level:g} at {m}": _share(v) for (level, m), v in sorted(self.placebo.items())
            },
            "distractor_effect": {
                "effects": len(idle),
                "median_size": float(np.median(idle)) if len(idle) else None,
                "above_0.1_nat": float((idle > 0.1).mean()) if len(idle) else None,
            },
        }


def intervals(
    masks: Bools, y: Floats, rng: np.random.Generator
) -> dict[float, tuple[Floats, Floats]]:
    """Ends of the intervals of the default method's effects, by level."""
    s = fit(masks, y, rng=rng)
    found = {level: average_effects(masks, y, s, level=level) for level in LEVELS}
    return {level: (e.lo, e.hi) for level, e in found.items()}


def _share(found: list[bool]) -> dict[str, Any]:
    return {"share": sum(found) / len(found) if found else None, "intervals": len(found)}
