"""How many tokens does an importance cost, and do intervals cover?

The testbed's evaluation traces have reference values from 2,000 rollouts a boundary. One run of the
published recipe (100 rollouts at every boundary, real engine, through the pipeline) gives a pool of
rollouts; every cheaper way is then replayed from that pool: the study asks as in a run of its own,
and what was observed answers. Replicates of an item are independent and keyed by their number, so a
replay draws exactly what that run would have drawn.

Errors are corrected for the reference's own noise: its squared standard error is subtracted from
the mean squared error, and a covered interval is one that holds the reference within both widths.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, Literal

import numpy as np

from benchmarks.anchors.reference import Reference, consequential, is_filler
from benchmarks.separation import auc
from tracelab.core.finding import Score
from tracelab.core.flow import drive
from tracelab.core.item import AnyItem, Observation
from tracelab.core.seam import Row
from tracelab.core.study import StudyContext
from tracelab.studies.anchors import pooled, resample
from tracelab.studies.anchors.case import Reasoning
from tracelab.studies.anchors.cohort import Cohort
from tracelab.studies.anchors.options import AnchorsOptions
from tracelab.studies.anchors.pooled import fit_prior
from tracelab.studies.anchors.rounds import sample, spent
from tracelab.studies.anchors.tally import count

PUBLISHED = 100
"""Rollouts a boundary in the published recipe."""

ANCHOR = 0.1
"""A sentence whose reference |ΔV| exceeds this is an anchor, for F1."""

SHIFT = 12
"""Repetition k of a replay begins at replicate k * SHIFT of the pool."""

Recorded = Mapping[tuple[str, int], Observation]
"""Observations by the key of what was asked, and the replicate."""


@dataclass(frozen=True)
class Variant:
    """One way to spend rollouts and to read them."""

    name: str
    options: AnchorsOptions


def variants() -> list[Variant]:
    """The published recipe, each of our parts alone, all but each, and all."""
    parts = {"recycling": "recycle", "certificates": "certificates", "pooling": "pooled"}

    def made(name: str, on: set[str], adaptive: bool) -> Variant:
        flags: dict[str, Any] = {key: part in on for part, key in parts.items()}
        way: Literal["adaptive", "uniform"] = "adaptive" if adaptive else "uniform"
        return Variant(name, AnchorsOptions(allocation=way, target_halfwidth=0.001, **flags))

    every = set(parts)
    return [
        made("published", set(), False),
        made("recycling", {"recycling"}, False),
        made("recycling, certificates", {"recycling", "certificates"}, False),
        made("pooling", {"pooling"}, False),
        made("adaptive, pooling", {"pooling"}, True),
        made("all but adaptive", every, False),
        made("all but certificates", every - {"certificates"}, True),
        made("all", every, True),
    ]


@dataclass(slots=True)
class Point:
    """One variant at one budget, over all repetitions."""

    tokens: float
    rmse: float
    coverage: float
    value_coverage: float
    recall_5: float
    f1: float
    insufficient: float


@dataclass(slots=True)
class Curve:
    """One variant over budgets."""

    name: str
    points: list[Point] = field(default_factory=list)


class Pool:
    """All rollouts of the published recipe, and the traces they belong to."""

    def __init__(
        self,
        cases: Sequence[Reasoning],
        references: Sequence[Reference],
        ctx: StudyContext[Any],
        recorded: Recorded,
    ) -> None:
        """Take the traces of a run.

        Args:
            cases: The traces with all their rollouts.
            references: What is known of each.
            ctx: What the run's study was given.
            recorded: What was observed in it.
        """
        self.cases = cases
        self.references = references
        self._ctx = ctx
        self._recorded = recorded

    def tokens(self) -> int:
        """Generated tokens of the whole pool."""
        return spent(self.cases)

    def replay(self, options: AnchorsOptions, repetition: int) -> list[Reasoning]:
        """The traces with the rollouts that a run under some options would have sampled.

        Args:
            options: Of that run.
            repetition: Which part of the pool it begins with.
        """

        def answer(items: Sequence[AnyItem]) -> Iterator[list[Observation]]:
            for item in items:
                yield [self._draw(item.key, k, repetition) for k in item.replicate_range]

        cases = [Reasoning(c.tokens, c.units, c.segmenter, keep=c.keep) for c in self.cases]
        if options.allocation == "uniform":  # the first of every boundary: nothing to be asked
            for case, of in zip(cases, self.cases, strict=True):
                case.rollouts = [
                    r
                    for r in of.rollouts
                    if (r.replicate - SHIFT * repetition) % PUBLISHED < options.rollouts
                ]
            return cases
        ctx = replace(self._ctx, options=options, emit=_nowhere, fact=_nowhere)
        drive(sample(Cohort(cases, ctx)), answer)
        return cases

    def _draw(self, key: str, replicate: int, repetition: int) -> Observation:
        drawn = self._recorded[key, (replicate + SHIFT * repetition) % PUBLISHED]
        return replace(drawn, replicate=replicate)


def _nowhere(given: Sequence[Row] | str) -> None:
    """Replays leave no rows, and tell nobody how far they are."""


def scores_of(cases: Sequence[Reasoning], options: AnchorsOptions) -> list[list[Score]]:
    """The importances and values that options report, by trace."""
    counts = [count(c, options) for c in cases]
    if not options.pooled:
        certify = options.delta if options.certificates else 0.0
        return [
            resample.estimate(c.trace_id, c.units, n, certify_below=certify)
            for c, n in zip(cases, counts, strict=True)
        ]
    prior = fit_prior(counts)
    return [
        pooled.estimate(c.trace_id, c.units, n, prior, delta=ANCHOR)
        for c, n in zip(cases, counts, strict=True)
    ]


@dataclass(slots=True)
class Judged:
    """Reported numbers against the reference; one entry a unit, or a boundary."""

    error2: list[float] = field(default_factory=list)
    noise2: list[float] = field(default_factory=list)
    covered: list[bool] = field(default_factory=list)
    value_covered: list[bool] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)
    found: list[tuple[bool, bool]] = field(default_factory=list)
    missing: int = 0

    def add(self, scores: Sequence[Score], ref: Reference) -> None:
        """Compare one trace."""
        size = np.zeros(len(ref.delta))
        for s in scores:
            if s.metric == "value":
                if s.value is not None:
                    i = s.unit_index
                    self.value_covered.append(covers(s, ref.value[i], ref.value_se[i]))
                continue
            i, estimate = s.unit_index, s.value
            if estimate is None and s.status == "certified":
                assert s.lo is not None and s.hi is not None
                estimate = (s.lo + s.hi) / 2
            if estimate is None:
                self.missing += 1
                estimate = 0.0  # a method that cannot say is charged what it failed to see
            elif s.lo is not None and s.status == "ok":  # bounds hold by construction
                self.covered.append(covers(s, ref.delta[i], ref.delta_se[i]))
            self.error2.append((estimate - ref.delta[i]) ** 2)
            self.noise2.append(ref.delta_se[i] ** 2)
            size[i] = abs(estimate)
            says = s.extra.get("prob_matters")
            anchor = size[i] > ANCHOR if says is None else float(says) > 0.5
            self.found.append((bool(anchor), bool(abs(ref.delta[i]) > ANCHOR)))
        top = set(np.argsort(-np.abs(ref.delta))[:5].tolist())
        self.recall.append(len(top & set(np.argsort(-size)[:5].tolist())) / len(top))

    def point(self, tokens: float) -> Point:
        """Summarise."""
        both = sum(a and b for a, b in self.found)
        either = sum(a for a, _ in self.found) + sum(b for _, b in self.found)
        return Point(
            tokens=tokens,
            rmse=float(max(float(np.mean(self.error2) - np.mean(self.noise2)), 1e-9) ** 0.5),
            coverage=_share(self.covered),
            value_coverage=_share(self.value_covered),
            recall_5=float(np.mean(self.recall)),
            f1=2 * both / either if either else float("nan"),
            insufficient=self.missing / len(self.error2),
        )


def _share(hits: Sequence[bool]) -> float:
    return float(np.mean(hits)) if hits else float("nan")


def covers(score: Score, reference: float, se: float) -> bool:
    """Whether an interval holds a reference that is itself known to within `se`."""
    assert score.lo is not None and score.hi is not None
    middle = (score.lo + score.hi) / 2 if score.value is None else score.value
    reach = middle - score.lo if reference < middle else score.hi - middle
    return bool(abs(reference - middle) <= np.hypot(reach, 1.96 * se) + 1e-9)


def curve(pool: Pool, variant: Variant, repetitions: int, budgets: Sequence[float]) -> Curve:
    """RMSE, coverage and the rest of one variant at each budget (generated tokens)."""
    found = Curve(variant.name)
    for options in _spending(pool, variant.options, budgets):
        judged, tokens = Judged(), 0
        # The whole pool is one draw, wherever it begins.
        whole = options.allocation == "uniform" and options.rollouts == PUBLISHED
        runs = 1 if whole else repetitions
        for k in range(runs):
            cases = pool.replay(options, k)
            tokens += spent(cases)
            for scores, ref in zip(scores_of(cases, options), pool.references, strict=True):
                judged.add(scores, ref)
        found.points.append(judged.point(tokens / runs))
    return found


def _spending(
    pool: Pool, options: AnchorsOptions, budgets: Iterable[float]
) -> Iterator[AnchorsOptions]:
    """The same options with less to spend."""
    if options.allocation == "uniform":
        for n in uniform_steps(pool, budgets):
            yield options.model_copy(update={"rollouts": n})
    else:
        for budget in budgets:
            yield options.model_copy(update={"budget_tokens": ceil(budget)})


def uniform_steps(pool: Pool, budgets: Iterable[float]) -> list[int]:
    """Rollouts a boundary that cost about as much as each budget."""
    per = pool.tokens() / PUBLISHED
    steps = {min(PUBLISHED, max(2, round(b / per))) for b in budgets}
    return sorted(steps | {PUBLISHED})


def tokens_at(found: Curve, rmse: float) -> float | None:
    """Tokens at which a curve reaches an error: log-log interpolation, None if it never does."""
    tokens = np.log([p.tokens for p in found.points])
    error = np.log([p.rmse for p in found.points])
    for i in range(len(tokens)):
        if error[i] <= np.log(rmse):
            if i == 0:
                return float(np.exp(tokens[0]))
            share = (error[i - 1] - np.log(rmse)) / (error[i - 1] - error[i])
            return float(np.exp(tokens[i - 1] + share * (tokens[i] - tokens[i - 1])))
    return None


def separation(pool: Pool) -> dict[str, Any]:
    """The planted truth at 100 rollouts a boundary: what matters against filler."""
    plain = AnchorsOptions(allocation="uniform", recycle=False, certificates=False, pooled=False)
    by_options = {"unpooled": plain, "recycled": AnchorsOptions(pooled=False)}
    found: dict[str, Any] = {}
    for name, options in by_options.items():
        big: list[float] = []
        small: list[float] = []
        zero: list[bool] = []
        for scores, ref in zip(scores_of(pool.cases, options), pool.references, strict=True):
            for s in scores:
                if s.metric != "delta_value" or s.value is None:
                    continue
                role, exact = ref.roles[s.unit_index], ref.delta[s.unit_index]
                if is_filler(role):
                    small.append(abs(s.value))
                    assert s.lo is not None and s.hi is not None
                    zero.append(s.lo <= 0 <= s.hi)
                elif consequential(role, exact):
                    big.append(abs(s.value))
        found[name] = {
            "auc": auc(big, small),
            "consequential": len(big),
            "filler": len(small),
            "filler_covers_0": float(np.mean(zero)),
        }
    return found
