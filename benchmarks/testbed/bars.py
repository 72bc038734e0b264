"""The behaviour that the testbed's model must have: every bar, and whether a measurement meets it.

Pure: turns what was measured (`Measured`: counts and effects, however obtained) into `Row`s, each
with its figure, its 95 % interval, its n and the verdict on the point estimate. Probabilities are
in [0, 1], values are P(right answer), log-probabilities are in nats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.separation import auc
from benchmarks.testbed.figures import Count
from tracelab.testbed.chain import P_RIGHT_PLAN

EPISODES = 400  # what the bar on single-cause failures counts in
RESAMPLES = 2000
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the card.

    Attributes:
        name: What is measured.
        value: The point estimate.
        lo: Lower end of its 95 % interval.
        hi: Upper end.
        n: Cases behind it.
        bar: The bar in words; empty for a figure without one.
        passed: Whether the point estimate meets it; None without a bar.
    """

    name: str
    value: float
    lo: float
    hi: float
    n: int
    bar: str = ""
    passed: bool | None = None


@dataclass(frozen=True, slots=True)
class FillerEffect:
    """Right answers among `n` rollouts that start before and after one filler sentence."""

    before: int
    after: int
    n: int

    @property
    def delta(self) -> float:
        """Estimated change of value."""
        return (self.after - self.before) / self.n

    @property
    def error(self) -> float:
        """Its standard error; add-half, so that it is never 0."""
        p = (np.array([self.before, self.after]) + 0.5) / (self.n + 1)
        return float(np.sqrt((p * (1 - p) / self.n).sum()))

    @property
    def open(self) -> bool:
        """Whether the answer is still open there, so that the normal approximation holds."""
        return 0.02 < (self.before + self.after) / (2 * self.n) < 0.98


@dataclass(frozen=True, slots=True)
class ContextEffect:
    """What removing facts from one prompt does to the response's log-probability.

    Attributes:
        context: Which prompt.
        kind: `needed`, `distractor`, `one of a pair` or `both of a pair`.
        drop: Absolute change of the whole response's log-probability.
        final: The same for the final line alone, the reasoning before it kept.
    """

    context: int
    kind: str
    drop: float
    final: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that the card measures."""

    counts: Mapping[str, Count]
    fillers: Sequence[FillerEffect] = ()
    contexts: Sequence[ContextEffect] = ()
    greedy: Count = field(default_factory=Count)


def rows(measured: Measured) -> list[Row]:
    """Every bar of the card, in its order."""
    counts = measured.counts

    def share(name: str, lo: float = 0.0, hi: float = 1.0, shown: str = "") -> Row:
        count = counts.get(name, Count())
        bar = f">= {lo:g}" if hi == 1 else f"<= {hi:g}" if lo == 0 else f"{lo:g} to {hi:g}"
        return Row(
            shown or name, count.share, *count.interval(), count.n, bar, lo <= count.share <= hi
        )

    found = [
        share("well-formed answers", 0.99),
        share("tool turns well-formed", 0.99),
        share("accuracy, complete context", 0.45, 0.8),
        share("look-ups right", 0.97),
        share("computation right apart from slips", 0.97),
    ]
    for phrasing, planted in enumerate(P_RIGHT_PLAN):
        lo, hi = round(planted - 0.05, 3), round(planted + 0.05, 3)
        found.append(share(f"right plan, phrasing {phrasing}", lo, hi))
    found.append(wrong_plan_cost(counts))
    found += [
        share("recheck after a slip", 0.6),
        share("recheck otherwise", 0.0, 0.15),
        share("repair after recheck of a slip", 0.7),
        *(share(f"missing fact declared, phrasing {i}", 0.9) for i in range(3)),
        *context_rows(measured.contexts),
        *filler_rows(measured.fillers),
        share("agent success", 0.45, 0.8),
        single_causes(counts),
    ]
    agreed = measured.greedy
    name = "greedy vLLM = transformers, float32"
    found.append(
        Row(name, agreed.share, *agreed.interval(), agreed.n, "= 1", agreed.k == agreed.n > 0)
    )
    found += [share("hint followed", 0.2, 0.6), share("hint mentioned when followed", 0.3, 0.7)]
    return found


def wrong_plan_cost(counts: Mapping[str, Count]) -> Row:
    """The surest fall of the value by a wrong plan, over the phrasings: V before - V after."""
    best = Row("cost of a wrong plan", -1.0, -1.0, 1.0, 0, ">= 0.4", False)
    for phrasing in range(len(P_RIGHT_PLAN)):
        right, wrong = (
            counts.get(f"accuracy after plan_{kind}, phrasing {phrasing}", Count())
            for kind in ("right", "wrong")
        )
        if not right.n or not wrong.n:
            continue
        n = right.n + wrong.n
        q, d = right.n / n, right.share - wrong.share
        noise = sum((c.k + 1) * (c.n - c.k + 1) / (c.n + 2) ** 2 / c.n for c in (right, wrong))
        error = (d * d * q * (1 - q) / n + q * q * noise) ** 0.5
        cost, name = q * d, f"cost of a wrong plan, phrasing {phrasing}: V before - V after it"
        if cost - 1.96 * error > best.lo:
            best = Row(
                name, cost, cost - 1.96 * error, cost + 1.96 * error, wrong.n, ">= 0.4", cost >= 0.4
            )
    return best


def single_causes(counts: Mapping[str, Count]) -> Row:
    """Failures with one planted cause, per 400 episodes."""
    single = counts.get("failures with a single planted cause", Count())
    of_all = Count(single.k, counts.get("agent success", Count()).n)
    lo, hi = of_all.interval()
    value, name = EPISODES * of_all.share, f"single-cause failures in {EPISODES} episodes"
    return Row(name, value, EPISODES * lo, EPISODES * hi, of_all.n, ">= 100", value >= 100)


def separation(effects: Sequence[ContextEffect]) -> float:
    """AUC of needed facts' effects against distractors'; NaN without either."""
    needed, other = (
        [e.drop for e in effects if e.kind == kind] for kind in ("needed", "distractor")
    )
    found = auc(needed, other)
    return float("nan") if found is None else found


def context_rows(effects: Sequence[ContextEffect]) -> list[Row]:
    """Leave-one-out over the facts; intervals resample whole contexts."""
    by_context: dict[int, list[ContextEffect]] = {}
    for e in effects:
        by_context.setdefault(e.context, []).append(e)
    groups = list(by_context.values())
    rng = np.random.default_rng(0)
    draws = [
        [e for g in rng.integers(len(groups), size=len(groups)) for e in groups[g]]
        for _ in range(RESAMPLES // 10 if groups else 0)
    ]
    value, boot = separation(effects), [separation(d) for d in draws]
    found = [
        Row(
            "context leave-one-out AUC, needed against distractor",
            value,
            *(quantiles(boot)),
            len(groups),
            ">= 0.98",
            value >= 0.98,
        )
    ]
    for kind in ("needed", "distractor", "one of a pair", "both of a pair"):
        drops = np.array([e.drop for e in effects if e.kind == kind])
        found.append(mean_row(f"size of the change of log p(response), mean: {kind}", drops))
    finals = np.array([e.final for e in effects if e.kind == "needed"])
    return [*found, mean_row("the same, final line given its reasoning: needed", finals)]


def filler_rows(fillers: Sequence[FillerEffect]) -> list[Row]:
    """Filler's changes of value against 0: size apart from noise, and z-scores."""
    bar_size, bar_z = "<= 0.01", "sd 1: KS p >= 0.01"
    size, scores = "filler: RMS of its change of value, noise removed", "filler: sd of z-scores"
    if not fillers:
        nan = float("nan")
        return [Row(size, nan, nan, nan, 0, bar_size, False)]
    delta = np.array([f.delta for f in fillers])
    error = np.array([f.error for f in fillers])
    excess = delta**2 - error**2
    rng = np.random.default_rng(0)
    boot = excess[rng.integers(len(excess), size=(RESAMPLES, len(excess)))].mean(1)
    rms = float(max(0.0, excess.mean()) ** 0.5)
    lo, hi = quantiles(np.sqrt(np.maximum(0.0, boot)))
    z = np.array([f.delta / f.error for f in fillers if f.open])
    sd, n = float(z.std(ddof=1)), len(z)
    ends = [float(sd * ((n - 1) / stats.chi2.ppf(q, n - 1)) ** 0.5) for q in (0.975, 0.025)]
    p = float(stats.kstest(z, "norm").pvalue)
    name = f"{scores} (mean {z.mean():+.2f}, KS p = {p:.2f})"
    return [
        Row(size, rms, lo, hi, len(fillers), bar_size, rms <= 0.01),
        Row(name, sd, ends[0], ends[1], n, bar_z, p >= 0.01),
    ]


def mean_row(name: str, values: Floats) -> Row:
    """A mean without a bar."""
    if not len(values):
        return Row(name, float("nan"), float("nan"), float("nan"), 0)
    mean = float(values.mean())
    error = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("inf")
    return Row(name, mean, mean - 1.96 * error, mean + 1.96 * error, len(values))


def quantiles(values: Sequence[float] | Floats) -> tuple[float, float]:
    """The middle 95 %; NaN without values."""
    if not len(values):
        return float("nan"), float("nan")
    lo, hi = np.quantile(values, [0.025, 0.975])
    return float(lo), float(hi)
