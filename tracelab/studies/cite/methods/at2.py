"""AT2 (Cohen-Wang et al., arXiv:2504.13752): attention with one learned weight a head.

The score of a span is w · φ, φ its attention by every head (see `attention`), with one weight a
head, of either sign, learned from ablations so that Σ_s (2 kept_s - 1) w · φ_s is correlated with
the outcomes. AT2 descends on Pearson's correlation from equal weights; here it is a ridge
regression in closed form: outcomes and predictors are centred in each target, outcomes have unit
variance there, and the penalty is on what differs from equal weights, so that with little to learn
from it ranks as `attention` does. Its strength is the one with the best mean correlation out of
fold. Unit: nats (of the outcome) that keeping the span adds.

Weights are learned from all contexts of a cohort: those that the study works on together, which
depends on the order of the cases and on nothing else. A correlate, not an effect: nothing is
promised about removal, and there is no interval. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracelab.core.flow import Flow
from tracelab.stats.lasso import Floats, Ints
from tracelab.stats.pooled_ridge import pearson, pooled_ridge
from tracelab.stats.surrogate import MIN_MASKS, Surrogate, spearman
from tracelab.studies.cite.ablations import Ablations
from tracelab.studies.cite.attribution import Attribution, SpanScores
from tracelab.studies.cite.methods.ablate import WEIGHT
from tracelab.studies.cite.methods.attention import NO_TOKENS, TargetAttention, look, unseen
from tracelab.studies.cite.methods.kinds import CohortMethod
from tracelab.studies.cite.methods.registry import METHODS

FOLDS = 5


@METHODS.register("at2", order=80)
class At2(CohortMethod[TargetAttention]):
    """Learned attention."""

    name = "at2"
    help = "attention with a weight a head, learned from the run's own ablations"
    metrics = (replace(WEIGHT, least=MIN_MASKS),)

    def look(self, work: Ablations) -> Flow[TargetAttention]:
        """One pass a continuation."""
        return (yield from look(work))

    def learn(
        self, works: Sequence[Ablations], seen: Sequence[TargetAttention]
    ) -> list[dict[str, Attribution]]:
        """Learn from all targets of all contexts, and score the spans of each."""
        out: list[dict[str, Attribution]] = []
        examples: list[Example] = []
        places: list[tuple[int, SpanScores]] = []
        for k, (work, s) in enumerate(zip(works, seen, strict=True)):
            rows = work.rows_for("design")
            design = work.design_of(rows)
            fold = folds(design.clusters, np.random.default_rng(work.seed))
            out.append({})
            for t in work.case.targets:
                make = work.scores(self.name, t.name)
                if (phi := s.phi.get(t.name)) is None:
                    out[k][t.name] = unseen(make, WEIGHT, s.why)
                    continue
                examples.append(Example(phi, design.masks, work.outcome(t, rows), fold))
                places.append((k, make))
        for (k, make), found in zip(places, learn(examples), strict=True):
            out[k][make.target] = attribution(make, found)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One target with its ablations.

    Attributes:
        phi: Attention [heads, n].
        masks: bool [m, n].
        y: Outcomes [m], nats; NaN where a mask failed.
        fold: Fold of each mask [m]; masks that share coins share it, over all targets of a context.
    """

    phi: Floats
    masks: NDArray[np.bool_]
    y: Floats
    fold: Ints

    @property
    def known(self) -> NDArray[np.bool_]:
        """Masks that were measured."""
        return np.isfinite(self.y)

    def predictors(self) -> Floats:
        """Σ_s (2 kept_s - 1) φ_s of each measured mask, centred [known, heads]."""
        z = (2.0 * self.masks[self.known] - 1) @ np.nan_to_num(self.phi).T
        return np.asarray(z - z.mean(axis=0), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What the weights of heads say about one target.

    Attributes:
        weights: One a span [n], nats; NaN where there is none.
        n: Masks behind it.
        failed: Masks that failed.
        extra: For `scores.extra`.
        oof_lds: Rank correlation out of fold.
    """

    weights: Floats
    n: int = 0
    failed: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    oof_lds: float | None = None


def folds(clusters: Ints, rng: np.random.Generator) -> Ints:
    """A fold for each mask [m]; those of one cluster share theirs."""
    _, codes = np.unique(clusters, return_inverse=True)
    count = int(codes.max(initial=-1)) + 1
    return np.asarray(rng.permutation(count)[codes] % FOLDS, dtype=np.int64)


def learn(examples: Sequence[Example]) -> list[Learned]:
    """Learn one weight a head from all examples together, and score the spans of each.

    Args:
        examples: Of one model, with equal numbers of heads. Those with fewer than 8 measured masks,
            or whose outcome never changes, teach nothing.

    Returns:
        One a example. `extra.oof_r` is Pearson's correlation of its outcomes with predictions by
        weights that were learned without those masks; the penalty was chosen by the mean of these,
        so they are on the high side by what that choice among 7 gains.
    """
    good = [k for k, e in enumerate(examples) if _teaches(e)]
    if not good:
        return [_nothing(e, "no target has enough ablations to learn from") for e in examples]
    x = [examples[k].predictors() for k in good]
    y = [_standard(examples[k].y[examples[k].known]) for k in good]
    fold = [examples[k].fold[examples[k].known] for k in good]
    w, held = pooled_ridge(x, y, fold)
    seen = {k: (held[i], y[i]) for i, k in enumerate(good)}
    return [_learned(e, w, seen.get(k), len(good)) for k, e in enumerate(examples)]


def attribution(make: SpanScores, found: Learned) -> Attribution:
    """What was learned as scores, without intervals."""
    extra = dict(found.extra)
    if not np.isfinite(found.weights).all():
        extra.setdefault("reason", NO_TOKENS)
    surrogate = None
    if found.oof_lds is not None:
        none = np.empty(0)
        surrogate = Surrogate(found.weights, 0.0, none, none, found.oof_lds, {make.method: 1.0})
    scores = make.every(WEIGHT.name, found.weights, found.n, extra)
    return Attribution(scores, found.weights, surrogate, found.n, found.failed)


def _teaches(e: Example) -> bool:
    y = e.y[e.known]
    return len(y) >= MIN_MASKS and bool(np.ptp(y) > 1e-6) and len(np.unique(e.fold[e.known])) > 1


def _standard(y: Floats) -> Floats:
    return np.asarray((y - y.mean()) / y.std(), dtype=np.float64)


def _nothing(e: Example, why: str) -> Learned:
    return Learned(np.full(e.phi.shape[1], np.nan), extra={"reason": why})


def _learned(e: Example, w: Floats, seen: tuple[Floats, Floats] | None, examples: int) -> Learned:
    if seen is None:
        return _nothing(e, "too few masks, or the outcome never changes")
    held, y = seen
    scores = 2 * _scale(e.predictors() @ w, e.y[e.known]) * (w @ e.phi)
    r = pearson(held, y)
    extra = {"oof_r": None if r is None else round(r, 6), "examples": examples}
    failed = int(len(e.y) - e.known.sum())
    return Learned(np.asarray(scores, np.float64), len(y), failed, extra, spearman(held, y))


def _scale(predicted: Floats, y: Floats) -> float:
    """Nats of this target's outcome for a unit of the prediction that all targets share.

    Its own least squares, unless that would turn the ranking around: then by equal spread.
    """
    spread = float(predicted @ predicted)
    own = float(predicted @ (y - y.mean())) / spread if spread > 0 else 0.0
    return own if own > 0 else float(y.std())
