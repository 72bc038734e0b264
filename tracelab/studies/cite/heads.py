"""Cheap baselines for contexts: which spans does the model attend to while it writes a statement?

One forward pass over the whole context and response gives φ, the attention of every head from the
target's tokens to every span (Cohen-Wang et al., arXiv:2504.13752, "AT2"). Two scores come of it:

- `attention`: the mean of φ over all heads. A share of attention, in [0, 1].
- `at2`: w · φ with one weight a head, of either sign, learned from ablations of the same run so
  that Σ_s (2 kept_s - 1) w · φ_s is correlated with the outcomes. AT2 descends on Pearson's
  correlation from equal weights; here it is a ridge regression in closed form: outcomes and
  predictors are centred in each target, outcomes have unit variance there, and the penalty is on
  what differs from equal weights, so that with little to learn from it ranks as `attention` does.
  Its strength is the one with the best mean correlation out of fold. Unit: nats (of the outcome)
  that keeping the span adds.

Correlates, not effects: nothing is promised about removal, and there is no interval. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracelab.core.unit import Unit
from tracelab.stats.lasso import Floats, Ints
from tracelab.stats.pooled_ridge import pearson, pooled_ridge
from tracelab.stats.surrogate import MIN_MASKS, Surrogate, spearman
from tracelab.studies.cite.ablate import Attribution, Maker

ATTENTION, AT2 = "attention", "at2"
METHODS = (ATTENTION, AT2)
FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class SpanAttention:
    """Attention from targets to spans.

    Attributes:
        values: float32 [targets, heads, spans], heads of all layers in turn: mean over the target's
            tokens (the rows that predict them) and sum over the span's tokens; NaN for a span or a
            target without tokens.
        error: `kind: sentence` when the engine could not do it; the array is then empty.
    """

    values: NDArray[np.float32] = field(
        default_factory=lambda: np.empty((0, 0, 0), dtype=np.float32)
    )
    error: str | None = None


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


@dataclass(frozen=True, slots=True)
class Finding:
    """What one of the methods says about one target; JSON values, as the journal keeps them.

    Attributes:
        target: The target.
        method: `attention` or `at2`.
        weights: One a span; None where there is none.
        n: Masks behind it; for `attention` the one pass.
        failed: Masks that failed.
        extra: For `scores.extra`.
        oof_lds: Rank correlation out of fold, for `at2`.
    """

    target: str
    method: str
    weights: list[float | None]
    n: int
    failed: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    oof_lds: float | None = None


def folds(clusters: Ints, rng: np.random.Generator) -> Ints:
    """A fold for each mask [m]; those of one cluster share theirs."""
    _, codes = np.unique(clusters, return_inverse=True)
    count = int(codes.max(initial=-1)) + 1
    return np.asarray(rng.permutation(count)[codes] % FOLDS, dtype=np.int64)


def attention(target: str, phi: Floats) -> Finding:
    """The mean over heads of [heads, n]."""
    return Finding(target, ATTENTION, _listed(phi.mean(axis=0)), 1)


def unseen(target: str, method: str, n: int, why: str) -> Finding:
    """Nothing, for a reason."""
    return Finding(target, method, [None] * n, 0, extra={"reason": why})


def learn(names: Sequence[str], examples: Sequence[Example]) -> list[Finding]:
    """Learn one weight a head from all examples together, and score the spans of each.

    Args:
        names: Target of each example.
        examples: Of one model, with equal numbers of heads. Those with fewer than 8 measured masks,
            or whose outcome never changes, teach nothing.

    Returns:
        One finding an example. `extra.oof_r` is Pearson's correlation of its outcomes with
        predictions by weights that were learned without those masks; the penalty was chosen by the
        mean of these, so they are on the high side by what that choice among 7 gains.
    """
    good = [k for k, e in enumerate(examples) if _teaches(e)]
    if not good:
        why = "no target has enough ablations to learn from"
        return [unseen(t, AT2, e.phi.shape[1], why) for t, e in zip(names, examples, strict=True)]
    x = [examples[k].predictors() for k in good]
    y = [_standard(examples[k].y[examples[k].known]) for k in good]
    fold = [examples[k].fold[examples[k].known] for k in good]
    w, held = pooled_ridge(x, y, fold)
    seen = {k: (held[i], y[i]) for i, k in enumerate(good)}
    return [_finding(t, e, w, seen.get(k), len(good)) for k, (t, e) in
            enumerate(zip(names, examples, strict=True))]  # fmt: skip


def attribution(trace_id: str, units: Sequence[Unit], found: Finding, level: float) -> Attribution:
    """A finding as scores, without intervals."""
    weights = np.array([np.nan if v is None else v for v in found.weights], dtype=np.float64)
    extra = dict(found.extra)
    if not np.isfinite(weights).all():
        extra.setdefault("reason", "the span has no token of its own")
    make = Maker(trace_id, units, found.method, found.target, level)
    metric = "attention" if found.method == ATTENTION else "weight"
    none = np.empty(0)
    surrogate = None
    if found.oof_lds is not None:
        surrogate = Surrogate(weights, 0.0, none, none, found.oof_lds, {AT2: 1.0})
    return Attribution(
        make(metric, weights, None, None, found.n, extra), weights, surrogate, found.n, found.failed
    )


def _teaches(e: Example) -> bool:
    y = e.y[e.known]
    return len(y) >= MIN_MASKS and bool(np.ptp(y) > 1e-6) and len(np.unique(e.fold[e.known])) > 1


def _standard(y: Floats) -> Floats:
    return np.asarray((y - y.mean()) / y.std(), dtype=np.float64)


def _finding(
    name: str, e: Example, w: Floats, seen: tuple[Floats, Floats] | None, examples: int
) -> Finding:
    failed = int(len(e.y) - e.known.sum())
    if seen is None:
        return unseen(name, AT2, e.phi.shape[1], "too few masks, or the outcome never changes")
    held, y = seen
    scores = 2 * _scale(e.predictors() @ w, e.y[e.known]) * (w @ e.phi)
    r = pearson(held, y)
    extra = {"oof_r": None if r is None else round(r, 6), "examples": examples}
    return Finding(name, AT2, _listed(scores), len(y), failed, extra, spearman(held, y))


def _scale(predicted: Floats, y: Floats) -> float:
    """Nats of this target's outcome for a unit of the prediction that all targets share.

    Its own least squares, unless that would turn the ranking around: then by equal spread.
    """
    spread = float(predicted @ predicted)
    own = float(predicted @ (y - y.mean())) / spread if spread > 0 else 0.0
    return own if own > 0 else float(y.std())


def _listed(values: Floats) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]
