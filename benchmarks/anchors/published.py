"""The same comparison on published accuracies: long traces of a real reasoning model.

The accuracies that Thought Anchors published for its chunks are taken as true values V_b; rollouts
from b are coins with that chance. Nothing is known of where rollouts leave the trace, so there is
no recycling and no certificate here: pooling and allocation alone. A rollout costs the characters
that the trace has left. Those accuracies are estimates from up to 100 rollouts themselves: they
jump by about .04 from boundary to boundary by chance (their changes have a lag-1 correlation of
-.33, where the values of a sampled trace, a martingale, have none). Taken as truth, these jumps are
what a method that pools neighbouring boundaries takes for noise, so its error cannot fall below
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tracelab.core.errors import ImportFormatError
from tracelab.core.seam import Reject
from tracelab.sources import read
from tracelab.stats.intervals import Floats
from tracelab.stats.value_curve import fit, posterior
from tracelab.studies.anchors import allocate
from tracelab.studies.anchors.grouping import Ints
from tracelab.studies.anchors.tally import Tally

PUBLISHED = 100
ANCHOR = 0.1
"""A chunk whose published accuracy jumps by more than this is an anchor, for F1."""

_BATCH = 4
_GROWTH = 0.5


@dataclass(frozen=True, slots=True)
class Known:
    """One trace: V_b of each boundary, and what a rollout from there costs (characters)."""

    value: Floats
    cost: Floats


def load(path: Path) -> list[Known]:
    """The published traces under a folder.

    Raises:
        ImportFormatError: It holds none.
    """
    found = []
    for trace in read(path, "thought-anchors"):
        if isinstance(trace, Reject):
            continue
        chunks = trace.extra["thought_anchors"]["chunks"] or []
        starts = np.cumsum([0, *(len(c.get("chunk", "")) for c in chunks)])
        rows = [
            (float(c["accuracy"]), int(starts[-1] - at))
            for c, at in zip(chunks, starts, strict=False)
            if c.get("accuracy") is not None
        ]
        if len(rows) > 2:
            value, rest = (np.array(x, dtype=np.float64) for x in zip(*rows, strict=True))
            found.append(Known(value, np.maximum(rest, 1.0)))
    if not found:
        raise ImportFormatError(f"{path} holds no published trace with accuracies")
    return found


class Simulation:
    """Coins at every boundary of every trace, thrown as they are asked for."""

    def __init__(self, traces: Sequence[Known], rng: np.random.Generator) -> None:
        self.traces = traces
        self.rng = rng
        self.n: list[Ints] = [np.zeros(len(t.value), dtype=np.int64) for t in traces]
        self.total: list[Floats] = [np.zeros(len(t.value)) for t in traces]
        self.spent = 0.0

    def throw(self, more: Sequence[Ints]) -> None:
        """Add rollouts."""
        for i, new in enumerate(more):
            self.total[i] += self.rng.binomial(new, self.traces[i].value)
            self.n[i] += new
            self.spent += float(new @ self.traces[i].cost)

    def tallies(self) -> list[Tally]:
        """As the estimators see them: every rollout leaves where it starts."""
        return [
            Tally(
                total=k, n=n, unanswered=n * 0, ungraded=n * 0, left_total=k, left_n=n,
                keep=np.zeros(len(n) - 1), exact=np.ones(len(n) - 1, dtype=np.bool_),
            )
            for k, n in zip(self.total, self.n, strict=True)
        ]  # fmt: skip


def replay(
    traces: Sequence[Known], rng: np.random.Generator, share: float = 0.6, initial: int = 4
) -> dict[str, Any]:
    """Pooling and allocation against n = 100 everywhere, unpooled.

    Args:
        traces: From `load`.
        rng: Throws the coins.
        share: Stop at this share of the published recipe's cost.
        initial: Rollouts a boundary in the first round.

    Returns:
        The published error, recall and F1; share of its cost, error, coverage, recall of the five
        largest and F1 of anchors (|change| > ANCHOR) after each round; the ratio at equal error.
    """
    whole = sum(float(t.cost.sum()) for t in traces) * PUBLISHED
    baseline = Simulation(traces, rng)
    baseline.throw([np.full(len(t.value), PUBLISHED) for t in traces])
    truth = [np.diff(t.value) for t in traces]
    published = _found([np.diff(k / PUBLISHED) for k in baseline.total], truth)
    rmse = published["rmse"]

    sim = Simulation(traces, rng)
    sim.throw([np.full(len(t.value), initial) for t in traces])
    points: list[dict[str, float]] = []
    while True:
        tallies = sim.tallies()
        prior = fit([t.curve() for t in tallies[:6]])
        fitted = [posterior(t.curve(), prior) for t in tallies]
        means, hits = [], []
        for post, d in zip(fitted, truth, strict=True):
            mean, lo, hi = post.importances(0.95)
            means.append(mean)
            hits.append((lo - 1e-9 <= d) & (d <= hi + 1e-9))
        cover = float(np.mean(np.concatenate(hits)))
        points.append({"share": sim.spent / whole, "coverage": cover, **_found(means, truth)})
        if sim.spent / whole >= share:
            break
        state = [
            allocate.Progress(t, post, n, known.cost, np.ones(len(n) - 1, dtype=np.bool_))
            for t, post, n, known in zip(tallies, fitted, sim.n, traces, strict=True)
        ]
        sim.throw(
            allocate.next_round(state, tokens=_GROWTH * sim.spent, batch=_BATCH, cap=PUBLISHED)
        )
    reached = _reached(points, rmse)
    return {
        "traces": len(traces),
        "units": int(sum(len(d) for d in truth)),
        "published": published,
        "cost_ratio_at_equal_rmse": None if reached is None else 1 / reached,
        "points": points,
    }


def _found(means: Sequence[Floats], truth: Sequence[Floats]) -> dict[str, float]:
    """Error, recall of each trace's five largest changes, and F1 of anchors."""
    mine, true = np.concatenate(means), np.concatenate(truth)
    both = np.sum((np.abs(mine) > ANCHOR) & (np.abs(true) > ANCHOR))
    either = np.sum(np.abs(mine) > ANCHOR) + np.sum(np.abs(true) > ANCHOR)
    top = [
        len(set(np.argsort(-np.abs(m))[:5]) & set(np.argsort(-np.abs(d))[:5])) / min(5, len(d))
        for m, d in zip(means, truth, strict=True)
    ]
    return {
        "rmse": float(np.sqrt(np.mean((mine - true) ** 2))),
        "recall_5": float(np.mean(top)),
        "f1": float(2 * both / either) if either else float("nan"),
    }


def _reached(points: Sequence[dict[str, float]], rmse: float) -> float | None:
    """Share of the cost at which an error is reached, log-log between rounds."""
    for i, p in enumerate(points):
        if p["rmse"] <= rmse:
            if i == 0:
                return p["share"]
            a = points[i - 1]
            at = np.log(a["rmse"] / rmse) / np.log(a["rmse"] / p["rmse"])
            return float(np.exp(np.log(a["share"]) + at * np.log(p["share"] / a["share"])))
    return None
