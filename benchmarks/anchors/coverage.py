"""Do intervals hold in worlds that the estimators were not made for?

A run of some traces of one world (`tests.stats.worlds`) is simulated, read by the estimators that
ship, and compared with what is true of it: at fixed numbers of rollouts a boundary, and after
adaptive allocation has stopped by itself. Monte-Carlo errors are those of a mean over runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from tests.stats.worlds import WORLDS, Counted, Truth, sample
from tracelab.stats.divergence import fdr_adjust
from tracelab.stats.intervals import difference, scaled_difference, two_sample_p
from tracelab.stats.value_curve import Posterior, posterior
from tracelab.studies.anchors import allocate
from tracelab.studies.anchors.grouping import MIN_ROLLOUTS
from tracelab.studies.anchors.pooled import fit_prior
from tracelab.studies.anchors.tally import Tally
from tracelab.view.tables.printed import print_table

Floats = NDArray[np.float64]

ROLLOUTS = (4, 8, 16, 30, 60)
ADAPTIVE = "adaptive"
UNITS = 400
"""Sentences of one run, about."""

MATTERS, LARGE, DELTA, LEVEL = 0.05, 0.2, 0.1, 0.95
_HALFWIDTH, _CAP, _BATCH, _GROWTH, _LOOKS = 0.1, 100, 4, 0.5, 8
_ROUNDING = 1e-9


def tallied(seen: Counted, truth: Truth, exact: bool) -> Tally:
    """What was seen, as the estimators are given it."""
    none = np.zeros_like(seen.n)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(seen.n[:-1] > 0, 1 - seen.left_n[:-1] / seen.n[:-1], np.nan)
    return Tally(
        seen.total, seen.n, none, none, seen.left_total, seen.left_n,
        keep=truth.keep if exact else share, exact=np.full(len(share), exact),
        whole=truth.reward == "binary",
    )  # fmt: skip


def fixed(rng: np.random.Generator, traces: Sequence[Truth], n: int) -> list[Counted]:
    """The same number of rollouts from every boundary."""
    return [sample(rng, t, np.full(len(t.value), n)) for t in traces]


def adaptive(rng: np.random.Generator, traces: Sequence[Truth], exact: bool) -> list[Counted]:
    """Rounds as a run makes them, until every sentence is decided or nothing more is asked."""
    seen = fixed(rng, traces, 4)
    planned = [np.full(len(t.value), 4, dtype=np.int64) for t in traces]
    for _ in range(_LOOKS):
        tallies = [tallied(s, t, exact) for s, t in zip(seen, traces, strict=True)]
        prior = fit_prior(tallies)
        state = []
        for t, k, asked in zip(traces, tallies, planned, strict=True):
            fitted = posterior(k.curve(), prior)
            wide = allocate.undecided(fitted, halfwidth=_HALFWIDTH, level=LEVEL)
            cost = len(t.value) - np.arange(len(t.value), dtype=np.float64)
            state.append(allocate.Progress(k, fitted, asked, cost, wide))
        spent = sum(s.tokens for s in seen)
        more = allocate.next_round(state, tokens=_GROWTH * spent, batch=_BATCH, cap=_CAP)
        if not any(m.any() for m in more):
            break
        seen = [s + sample(rng, t, m) for s, t, m in zip(seen, traces, more, strict=True)]
        planned = [a + m for a, m in zip(planned, more, strict=True)]
    return seen


@dataclass(slots=True)
class Seen:
    """What one run of traces said of its sentences, [units], and of its boundaries."""

    delta: Floats
    value: Floats
    lo: Floats
    hi: Floats
    covered_value: NDArray[np.bool_]
    raw: Floats
    raw_lo: Floats
    raw_hi: Floats
    stars: NDArray[np.bool_]
    matters: Floats
    reported: NDArray[np.bool_]
    joins: bool
    tokens: float


def unpooled(k: Tally) -> tuple[Floats, Floats, Floats, Floats]:
    """Estimate, ends and p of each ΔV, as `resample` reports them; NaN where it does not."""
    arms = (k.left_total[:-1], k.left_n[:-1], k.total[1:], k.n[1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        change = k.total[1:] / k.n[1:] - k.left_total[:-1] / k.left_n[:-1]
    lo, hi = difference(*arms, LEVEL)
    known = np.where(k.exact, 0, k.n[:-1])
    lo, hi = scaled_difference(change, lo, hi, k.left_n[:-1], known, 1 - k.keep, LEVEL)
    return (1 - k.keep) * change, lo, hi, two_sample_p(*arms, whole=k.whole)


def read(traces: Sequence[Truth], seen: Sequence[Counted], exact: bool) -> Seen:
    """Estimate, as a run does."""
    tallies = [tallied(s, t, exact) for s, t in zip(seen, traces, strict=True)]
    prior = fit_prior(tallies)
    fitted: list[Posterior] = [posterior(k.curve(), prior) for k in tallies]
    mean, lo, hi = (np.concatenate(x) for x in zip(*(f.importances(LEVEL) for f in fitted),
                                                   strict=True))  # fmt: skip
    ends = [f.values(LEVEL)[1:] for f in fitted]
    inside = [(a - _ROUNDING <= t.value) & (t.value <= b + _ROUNDING)
              for (a, b), t in zip(ends, traces, strict=True)]  # fmt: skip
    raw, raw_lo, raw_hi, p = (
        np.concatenate(x) for x in zip(*(unpooled(k) for k in tallies), strict=True)
    )
    stars = np.zeros(len(p), dtype=np.bool_)
    some = ~np.isnan(p)
    stars[some] = fdr_adjust(p[some]) < 0.05
    return Seen(
        np.concatenate([t.delta for t in traces]), mean, lo, hi, np.concatenate(inside),
        raw, raw_lo, raw_hi, stars, np.concatenate([f.exceeds(DELTA) for f in fitted]),
        np.concatenate([_reported(k) for k in tallies]), prior.joins,
        sum(s.tokens for s in seen),
    )  # fmt: skip


def _reported(k: Tally) -> NDArray[np.bool_]:
    """Whether a number is given of each ΔV: something was seen of it, and enough."""
    found: NDArray[np.bool_] = (k.left_n[:-1] > 0) & (k.left_n[:-1] + k.n[1:] >= MIN_ROLLOUTS)
    return found


@dataclass(slots=True)
class Row:
    """One world, one way of sampling; a list entry a run."""

    world: str
    exact: bool
    rollouts: int | str
    found: dict[str, list[float]] = field(default_factory=dict)

    def add(self, s: Seen) -> None:
        """Take a run."""
        size = np.abs(s.delta)
        groups = {"": size >= 0, "_anchors": size > MATTERS, "_large": size > LARGE}
        inside = _inside(s.lo, s.delta, s.hi)
        measured = ~np.isnan(s.raw_lo)
        raw_inside = _inside(s.raw_lo, s.delta, s.raw_hi)
        for name, group in groups.items():
            self._put(f"coverage{name}", inside[group & s.reported])
            self._put(f"coverage_unpooled{name}", raw_inside[group & measured])
            self._put(f"squared_error{name}", (s.value - s.delta)[group] ** 2)
        self._put("coverage_value", s.covered_value)
        self._put("width", (s.hi - s.lo)[s.reported])
        self._put("insufficient", ~s.reported)
        self._put("joined", np.array([s.joins]))
        self._put("width_unpooled", (s.raw_hi - s.raw_lo)[measured])
        self._put("false_stars", size[s.stars] < _ROUNDING)
        self._put("false_matters", size[s.matters > 0.9] <= DELTA)
        self._put("tokens", np.array([s.tokens]))

    def _put(self, name: str, values: Floats | NDArray[np.bool_]) -> None:
        mean = float(np.mean(values.astype(np.float64))) if len(values) else float("nan")
        self.found.setdefault(name, []).append(mean)

    def figures(self) -> dict[str, Any]:
        """Means over runs, and their standard errors as `*_se`; null where nothing was of it."""
        out: dict[str, Any] = {
            "world": self.world, "p": "exact" if self.exact else "estimated",
            "rollouts": self.rollouts,
        }  # fmt: skip
        for name, runs in self.found.items():
            some = np.array([r for r in runs if not np.isnan(r)])
            root = name.startswith("squared_error")
            label = name.replace("squared_error", "rmse")
            mean = float(some.mean()) if len(some) else None
            out[label] = None if mean is None else round(mean**0.5 if root else mean, 4)
            if label.startswith("coverage"):
                se = some.std(ddof=1) / len(some) ** 0.5 if len(some) > 1 else None
                out[f"{label}_se"] = None if se is None else round(float(se), 4)
        return out


def _inside(lo: Floats, truth: Floats, hi: Floats) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (lo - _ROUNDING <= truth) & (truth <= hi + _ROUNDING)
    return found


def drawn(rng: np.random.Generator, world: str) -> list[Truth]:
    """The traces of one run."""
    traces: list[Truth] = []
    while sum(len(t.keep) for t in traces) < UNITS:
        traces.append(WORLDS[world](rng))
    return traces


def measure(
    worlds: Sequence[str], rollouts: Sequence[int | str], keeps: Sequence[bool], runs: int,
    seed: int,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Figures of every world, way to know p and number of rollouts, as they come."""
    for world in worlds:
        for exact in keeps:
            for n in rollouts:
                row = Row(world, exact, n)
                for k in range(runs):
                    rng = np.random.default_rng([seed, k, list(WORLDS).index(world)])
                    traces = drawn(rng, world)
                    seen = (
                        adaptive(rng, traces, exact)
                        if isinstance(n, str)
                        else fixed(rng, traces, n)
                    )
                    row.add(read(traces, seen, exact))
                yield row.figures()


_SHOWN = ("coverage", "coverage_anchors", "coverage_large", "coverage_value", "joined",
          "width", "width_unpooled", "rmse", "rmse_anchors", "false_stars",
          "false_matters")  # fmt: skip


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    click.echo(
        f"95 % intervals of pooled ΔV; anchors: |ΔV| > {MATTERS}, large: > {LARGE}. Estimators "
        f"were looked at on {', '.join(found['tuned_on'])} and on other seeds."
    )

    def text(row: dict[str, Any], name: str) -> str:
        v, se = row[name], row.get(f"{name}_se")
        return "" if v is None else f"{v:.3f}" + ("" if se is None else f" ±{se:.3f}")

    print_table(
        ("world", "p", "n", *(n.replace("_", " ") for n in _SHOWN)),
        [
            (r["world"], r["p"], str(r["rollouts"]), *(text(r, n) for n in _SHOWN))
            for r in found["rows"]
        ],
        numeric=tuple(range(3, 3 + len(_SHOWN))),
    )
