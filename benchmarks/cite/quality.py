"""LDS, precision@k and coverage in simulation: the same model of a context, asked the same often.

Contexts of 20, 100 and 500 sources with planted effects (`benchmarks.cite.planted`). Two entries
are tracelab's: its default, which knows what it knows of any context (documents and paragraphs),
and with a prior besides (d' = 1.5, about what a weak relevance score gives).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cite.planted import Planted
from tracelab.stats import held_out
from tracelab.stats.effects import average_effects
from tracelab.stats.masks import Design, bernoulli, concatenate
from tracelab.stats.surrogate import fit
from tracelab.studies.cite.plan import Knowledge, plan

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Solver = Callable[[Bools, Floats, int], Floats]
"""Masks [m, n], outcomes [m] and tokens of the target to weights [n]."""

ABLATIONS = (16, 32, 64, 128)
LEVEL = 0.9
FRESH = 200
TRUTH_MASKS = 1000
SEED = 8100
PEER, DEFAULT, PRIOR = "context-cite", "tracelab", "tracelab, prior"


@dataclass(frozen=True, slots=True)
class Cell:
    """One method at one size: values by simulated context, the same ones for every method.

    Attributes:
        sources: Sources of a context.
        ablations: Masks asked.
        method: Whose.
        lds: Spearman correlation with the outcomes of fresh masks.
        precision: Share of the relevant sources among as many top ones.
        hits: Whether each 90 % interval held the average effect, by context; empty without any.
        open: Share of the sources that had an interval.
    """

    sources: int
    ablations: int
    method: str
    lds: list[float]
    precision: list[float]
    hits: list[list[bool]]
    open: float | None

    def to_json(self, peer: Cell) -> dict[str, Any]:
        """As JSON; `gain_*` is the paired difference to ContextCite."""
        out: dict[str, Any] = {
            "sources": self.sources, "ablations": self.ablations, "method": self.method,
            "contexts": len(self.lds),
        }  # fmt: skip
        for name in ("lds", "precision"):
            mine, theirs = np.array(getattr(self, name)), np.array(getattr(peer, name))
            out |= {name: float(mine.mean()), f"{name}_se": _error(mine)}
            if peer is not self:
                gain = mine - theirs
                out |= {f"{name}_gain": float(gain.mean()), f"{name}_gain_se": _error(gain)}
        if known := [h for h in self.hits if h]:
            each = np.array([np.mean(h) for h in known])
            out |= {
                "coverage_90": float(np.mean([x for h in known for x in h])),
                "coverage_90_se": _error(each),
                "intervals": sum(map(len, known)),
                "sources_with_interval": self.open,
            }
        return out


def measure(
    sizes: dict[int, int],
    solver: Solver,
    tell: Callable[[str], None],
    ablations: Sequence[int] = ABLATIONS,
) -> list[dict[str, Any]]:
    """Simulate.

    Args:
        sizes: How many contexts of how many sources.
        solver: ContextCite's own.
        tell: Gets lines about the progress.
        ablations: Masks asked.
    """
    out = []
    for n, contexts in sizes.items():
        for m in ablations:
            cells = [simulate(n, m, contexts, method, solver) for method in (PEER, DEFAULT, PRIOR)]
            out += [c.to_json(cells[0]) for c in cells]
        tell(f"quality: {contexts} contexts of {n} sources")
    return out


def simulate(n: int, m: int, contexts: int, method: str, solver: Solver) -> Cell:
    """One cell."""
    cell = Cell(n, m, method, [], [], [], None)
    asked, known = 0, 0
    for c in range(contexts):
        w = Planted(n, np.random.default_rng([SEED, n, c]))
        fresh = bernoulli(n, FRESH, np.random.default_rng([SEED, n, c, 1])).masks
        rng = np.random.default_rng([SEED, n, c, m])
        if method == PEER:
            masks = bernoulli(n, m, rng).masks
            weights = solver(masks, w.y(masks), w.tokens)
        else:
            prior = w.prior if method == PRIOR else None
            weights, hits = _ours(w, m, rng, Knowledge(groups=w.groups, prior=prior))
            cell.hits.append(hits)
            asked, known = asked + n, known + len(hits)
        cell.lds.append(held_out.lds(weights, fresh, w.y(fresh)) or 0.0)
        cell.precision.append(held_out.precision_at_k(weights, w.relevant) or 0.0)
    share = known / asked if asked else None
    return Cell(n, m, method, cell.lds, cell.precision, cell.hits, share)


def _ours(
    w: Planted, m: int, rng: np.random.Generator, knowledge: Knowledge
) -> tuple[Floats, list[bool]]:
    """Weights of the default plan and estimate, and whether the intervals held the truth."""
    asked = plan(w.n, m, rng=rng, knowledge=knowledge)
    parts: list[Design] = [next(asked)]
    values = [w.y(parts[0].masks)]
    while True:
        try:
            parts.append(asked.send(values[-1]))
        except StopIteration:
            break
        values.append(w.y(parts[-1].masks))
    d, y = concatenate(parts), np.concatenate(values)
    s = fit(
        d.masks, y, rng=rng, prior=knowledge.prior, groups=knowledge.groups, clusters=d.clusters
    )
    e = average_effects(d.masks, y, s, level=LEVEL, alone=d.alone(), clusters=d.clusters)
    truth = w.truth(np.random.default_rng([SEED, w.n]), TRUTH_MASKS)
    known = np.isfinite(e.value)
    return s.weights, ((e.lo <= truth) & (truth <= e.hi))[known].tolist()


def _error(values: Floats) -> float | None:
    """Standard error of a mean over contexts."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
