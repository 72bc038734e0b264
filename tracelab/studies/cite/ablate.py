"""Context attribution by ablation: what does the target lose when a source is removed?

`plan` says which masks of the sources to score; `estimate` turns the log-probabilities of the
response under those masks into scores. Three methods:

- `ablate` (default): `effect`, the average effect of keeping the source while the others are kept
  with probability 1/2 each, unbiased and with an interval (`tracelab.stats.effects`); and
  `weight`, the source's weight in the surrogate that predicts best out of fold, shrunken and
  without an interval: the better ranking.
- `context-cite`: `weight`, exactly as published (arXiv:2409.00729).
- `leave-one-out`: `effect` of removing the source from the whole context. Exact, no sampling,
  hence no interval; blind to sources that say the same.

Positive: the source makes the target likelier. Unit: nats, of the whole target's log-odds
log p - log(1 - p); of a contrast, of log p(A) - log p(B). Pure.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tracelab.core.errors import PlanError
from tracelab.core.finding import Score
from tracelab.core.unit import Unit
from tracelab.stats.effects import average_effects
from tracelab.stats.lasso import Floats, Ints, context_cite
from tracelab.stats.masks import Design, bernoulli, concatenate
from tracelab.stats.refine import refine
from tracelab.stats.surrogate import MIN_MASKS, Surrogate, fit, whole_logit

METHOD = "ablate"
CONTEXT_CITE = "context-cite"
LEAVE_ONE_OUT = "leave-one-out"
METHODS = (METHOD, CONTEXT_CITE, LEAVE_ONE_OUT)
ESTIMATOR_VERSION = 3
"""Bumped whenever the same log-probabilities would give other numbers."""

BATCH = 16
_ENOUGH = 64
"""From so many masks on, independent ones serve as well as hierarchical ones (simulation)."""


@dataclass(frozen=True, slots=True)
class TokenRange:
    """One target of a response.

    Attributes:
        name: As in `scores.target`: `sentence:3`, ...
        start: First token.
        end: One past the last.
        rather_than: Token range of the text it is held against, for a contrast.
    """

    name: str
    start: int
    end: int
    rather_than: tuple[int, int] | None = None

    def logprob(self, logprobs: Floats) -> Floats:
        """Σ log p of its tokens [m], nats, from those of all tokens [m, T]; NaN where any is."""
        total = np.asarray(logprobs[:, self.start : self.end].sum(axis=1), dtype=np.float64)
        if self.rather_than is None:
            return total
        a, b = self.rather_than
        return np.asarray(total - logprobs[:, a:b].sum(axis=1), dtype=np.float64)

    def outcome(self, logprobs: Floats) -> Floats:
        """What is explained [m]: whole-target log-odds; of a contrast, log p(A) - log p(B)."""
        logprob = self.logprob(logprobs)
        return logprob if self.rather_than is not None else whole_logit(logprob)


@dataclass(frozen=True, slots=True)
class Attribution:
    """What masks say about one target.

    Attributes:
        scores: Of every source, by metric.
        weights: The ranking [n]; NaN where nothing is known.
        surrogate: What was fitted, for its score out of fold; None when nothing could be.
        n: Masks behind it, failed ones not counted.
        failed: Masks that failed.
    """

    scores: list[Score]
    weights: Floats
    surrogate: Surrogate | None
    n: int
    failed: int


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What may help to find sources; all optional.

    Attributes:
        groups: Document of each source, then paragraph, ...: coarse to fine, each int [n].
        prior: Any number per source that is larger for likelier ones [n]: attention, BM25, ...
            It never enters an effect except through residuals, and is weighed out of fold.
    """

    groups: tuple[Ints, ...] = ()
    prior: Floats | None = field(default=None)


def plan(
    n: int,
    budget: int,
    *,
    rng: np.random.Generator,
    knowledge: Knowledge | None = None,
    width: float | None = None,
    level: float = 0.95,
) -> Generator[Design, Floats, None]:
    """Yield masks to score, until intervals are narrow enough or the budget is spent.

    Independent fair coins; for far fewer masks than sources, with groups known, documents first
    and sentences later. All independent masks come at once unless `width` asks to look between
    batches. (Looking costs coverage only through the stopping rule; simulated in the tests.)

    Args:
        n: Sources.
        budget: Most masks.
        rng: The coins.
        knowledge: Groups and prior.
        width: Stop once no effect's interval is longer than this, nats.
        level: Of those intervals.

    Yields:
        Rows to score. Send their outcomes, [rows, targets] (NaN: the mask failed).

    Raises:
        PlanError: There is no source, or no budget.
    """
    known = knowledge or Knowledge()
    if n < 1:
        raise PlanError("the context has no source to ablate")
    if budget < 1:
        raise PlanError("at least one ablation is needed")
    if budget < _ENOUGH and 3 * budget <= n and known.groups:
        yield from refine(known.groups, budget, rng, known.prior)
        return
    everything = bernoulli(n, budget, rng)
    size = len(everything) if width is None else BATCH
    done: list[Floats] = []
    for first in range(0, len(everything), size):
        batch = everything.select(np.arange(first, min(first + size, len(everything))))
        y = yield batch
        done.append(np.asarray(y, dtype=np.float64).reshape(len(batch), -1))
        if width is not None and first + size < len(everything):
            seen = everything.select(np.arange(first + size))
            if _narrow(seen, np.concatenate(done), width, level, rng, known):
                return


def _narrow(
    seen: Design,
    y: Floats,
    width: float,
    level: float,
    rng: np.random.Generator,
    known: Knowledge,
) -> bool:
    for column in y.T:
        ok = np.isfinite(column)
        if ok.sum() < 2 * MIN_MASKS:
            return False
        s = fit(seen.masks[ok], column[ok], rng=rng, prior=known.prior, groups=known.groups)
        half = average_effects(seen.masks[ok], column[ok], s, level=level).half_width
        if not np.all(2 * half <= width):
            return False
    return True


def estimate(
    trace_id: str,
    units: Sequence[Unit],
    design: Design,
    logprobs: Floats,
    targets: Sequence[TokenRange],
    *,
    level: float = 0.95,
    rng: np.random.Generator,
    method: str = METHOD,
    knowledge: Knowledge | None = None,
) -> list[Score]:
    """Scores of all sources for all targets; see `attribute` and the module."""
    return [
        score
        for t in targets
        for score in attribute(
            trace_id, units, design, t.outcome(logprobs), target=t.name, tokens=t.end - t.start,
            level=level, rng=rng, method=method, knowledge=knowledge,
        ).scores
    ]  # fmt: skip


def attribute(
    trace_id: str,
    units: Sequence[Unit],
    design: Design,
    y: Floats,
    *,
    target: str,
    tokens: int,
    level: float = 0.95,
    rng: np.random.Generator,
    method: str = METHOD,
    knowledge: Knowledge | None = None,
) -> Attribution:
    """Scores of all sources for one target.

    Args:
        trace_id: The trace.
        units: The sources, one a column of the masks.
        design: The masks. Rows for other purposes than the method's are ignored.
        y: Outcome of each [m], nats; not finite where the mask failed: left out and counted.
        target: Its name.
        tokens: Its tokens, which scale ContextCite's penalty.
        level: Nominal coverage of the intervals.
        rng: Assigns folds.
        method: `ablate`, `context-cite` or `leave-one-out`.
        knowledge: Groups and prior, for `ablate`.

    Returns:
        With fewer than 8 masks, or for a source that too few masks tell apart, scores are
        `insufficient`; `leave-one-out` needs the whole context and the one mask.

    Raises:
        ValueError: The method is none of these.
    """
    make = Maker(trace_id, units, method, target, level)
    if method == LEAVE_ONE_OUT:
        return _leave_one_out(make, design, y)
    if method not in (METHOD, CONTEXT_CITE):
        raise ValueError(f"unknown method {method!r}")
    rows = np.array([p == "design" for p in design.purposes], dtype=np.bool_)
    ok = rows & np.isfinite(y)
    n, failed = int(ok.sum()), int(rows.sum() - ok.sum())
    used, out = design.select(ok), y[ok]
    size = len(units)
    if n < min(MIN_MASKS, 2**size) or len(np.unique(used.clusters)) < 2:
        metrics = ("weight",) if method == CONTEXT_CITE else ("effect", "weight")
        none = {"reason": f"only {n} masks could be scored", "failed": failed}
        scores = [s for metric in metrics for s in make(metric, None, None, None, n, none)]
        return Attribution(scores, np.full(size, np.nan), None, n, failed)
    more: dict[str, Any] = {"failed": failed} if failed else {}
    if method == CONTEXT_CITE:
        weights, bias = context_cite(used.masks, out, tokens)
        published = make("weight", weights, None, None, n, {**more, "intercept": bias})
        return Attribution(published, weights, None, n, failed)
    known = knowledge or Knowledge()
    s = fit(
        used.masks, out, rng=rng, prior=known.prior, groups=known.groups, clusters=used.clusters
    )
    e = average_effects(used.masks, out, s, level=level, alone=used.alone(), clusters=used.clusters)
    counts = e.kept + e.removed
    scores = make("effect", e.value, e.lo, e.hi, counts, more) + make(
        "weight", s.weights, None, None, n, {**more, "oof_lds": s.oof_lds}
    )
    return Attribution(scores, s.weights, s, n, failed)


def _leave_one_out(make: Maker, design: Design, y: Floats) -> Attribution:
    kept = design.masks.sum(axis=1)
    full = [i for i, k in enumerate(kept) if k == design.n and np.isfinite(y[i])]
    size = len(make.units)
    effect = np.full(size, np.nan)
    failed = 0
    for i in np.flatnonzero(kept == design.n - 1):
        if full and np.isfinite(y[i]):
            effect[int(np.argmin(design.masks[i]))] = y[full[0]] - y[i]
        failed += not np.isfinite(y[i])
    measured = np.isfinite(effect).astype(np.int64)
    more = {"reason": "exact: nothing is sampled, so there is no interval"}
    scores = make("effect", effect, None, None, 2 * measured, more)
    return Attribution(scores, effect, None, int(measured.sum()), failed)


@dataclass(frozen=True, slots=True)
class Maker:
    """Builds the scores of one metric for all sources, of evidence `scored`."""

    trace_id: str
    units: Sequence[Unit]
    method: str
    target: str
    level: float

    def __call__(
        self,
        metric: str,
        value: Floats | None,
        lo: Floats | None,
        hi: Floats | None,
        n: int | Ints,
        extra: Mapping[str, Any],
    ) -> list[Score]:
        """Scores from values and ends [n]; NaN and None are `insufficient`, or no interval."""
        size = len(self.units)
        v = np.full(size, np.nan) if value is None else value
        ends = [np.full(size, np.nan) if e is None else e for e in (lo, hi)]
        count = np.broadcast_to(np.asarray(n), (size,))
        out = []
        for i, unit in enumerate(self.units):
            ok = bool(np.isfinite(v[i]))
            sure = ok and bool(np.isfinite(ends[0][i]) and np.isfinite(ends[1][i]))
            why = extra if ok or "reason" in extra else {**extra, "reason": _CLOSED}
            out.append(
                Score(
                    trace_id=self.trace_id,
                    unit_kind=unit.kind,
                    unit_index=unit.index,
                    method=self.method,
                    metric=metric,
                    value=float(v[i]) if ok else None,
                    lo=float(ends[0][i]) if sure else None,
                    hi=float(ends[1][i]) if sure else None,
                    level=self.level,
                    n=int(count[i]),
                    status="ok" if ok else "insufficient",
                    evidence="scored",
                    target=self.target,
                    extra=why,
                )
            )
        return out


_CLOSED = "too few masks tell this source from its neighbours"


def joined(parts: Sequence[Design]) -> Design:
    """All masks that a plan yielded, as one design."""
    return concatenate(parts)
