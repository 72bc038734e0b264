"""A linear surrogate of a model over masks of its context, and how far to trust it.

Candidates (`tracelab.stats.lasso`) are fitted with every fold of the masks left out in turn, and
mixed by how well each predicts what it has not seen. The predictions out of fold give two things
for nothing: a score of the surrogate, and the residuals from which `tracelab.stats.effects` makes
unbiased effects with intervals. Pure; log-probabilities and log-odds in nats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracelab.stats.lasso import Floats, Ints, candidates
from tracelab.stats.sparse import SPARSE, sparse

MIN_MASKS = 8
"""Fewest random masks from which anything is fitted."""

_CEILING = -6e-8
"""Above this a log-probability is 1 to float32's precision and its log-odds are noise."""


_TRUST = 20.0
"""Odds on the sparse model before errors are seen, which then also count a quarter as much. Tuned
for precision in simulation: with few masks, the error out of fold says little about the ranking."""


@dataclass(frozen=True, slots=True)
class Surrogate:
    """A fitted linear surrogate y ≈ intercept + masks @ weights.

    Attributes:
        weights: [n], unit of y per source kept; shrunken, often exactly 0. Ranks sources.
        intercept: Of the same model.
        oof: Prediction of each mask by models that have not seen it [m].
        oof_weights: Weights of those models, one row a mask [m, n].
        oof_lds: Spearman correlation of `oof` and y: the linear datamodelling score on the masks
            at hand; None when either does not vary. Each model sees fewer masks than the final
            one does, so it is on the low side.
        shares: Each candidate's share in the mixture; they sum to 1.
    """

    weights: Floats
    intercept: float
    oof: Floats
    oof_weights: Floats
    oof_lds: float | None
    shares: Mapping[str, float]


def whole_logit(logprob: Floats) -> Floats:
    """Log-odds of a whole target, log p - log(1 - p), from its log-probability.

    ContextCite's outcome, computed so that a certain target does not become infinite.

    Args:
        logprob: Σ log p(token), nats; NaN stays NaN.
    """
    low = np.minimum(np.asarray(logprob, dtype=np.float64), _CEILING)
    return np.asarray(low - np.log(-np.expm1(low)), dtype=np.float64)


def spearman(a: Floats, b: Floats) -> float | None:
    """Rank correlation of two vectors; None when either does not vary or fewer than 3 values."""
    if len(a) < 3 or np.ptp(a) <= 1e-12 or np.ptp(b) <= 1e-12:
        return None
    # Equal up to rounding is equal: a surrogate that knows few sources predicts many ties.
    from scipy.stats import spearmanr  # takes a second to import, and few need it

    return float(spearmanr(*(np.round(v / np.ptp(v), 9) for v in (a, b))).statistic)


def fit(
    masks: NDArray[np.generic],
    y: Floats,
    *,
    rng: np.random.Generator,
    prior: Floats | None = None,
    groups: Sequence[Ints] = (),
    clusters: Ints | None = None,
    folds: int | None = None,
) -> Surrogate:
    """Fit the default surrogate.

    The mixture is by exponential weights on squared error out of fold (Leung & Barron 2006), which
    in simulation is never behind picking the best candidate and gates a useless prior.

    Args:
        masks: bool [m, n].
        y: Outcomes [m], finite.
        rng: Assigns folds.
        prior: Any number per source that is larger for likelier ones [n].
        groups: Group of each source, coarse to fine, each [n].
        clusters: Rows of one number share a fold [m].
        folds: At most so many; default 10, and 5 up to 32 masks.

    Raises:
        ValueError: Fewer than two clusters, or y is not finite.
    """
    x, out = np.asarray(masks, dtype=np.float64), np.asarray(y, dtype=np.float64)
    m, n = x.shape
    if not np.isfinite(out).all():
        raise ValueError("outcomes must be finite; leave failed masks out")
    fold = _folds(np.arange(m) if clusters is None else clusters, folds or _default_folds(m), rng)
    tried = candidates(m, n, prior, groups)
    tried += sparse(x, groups, prior, rng) if 2 * m <= n else []
    trust = np.array([_TRUST if c.name == SPARSE else 1.0 for c in tried])
    seen = np.arange(int(fold.max()) + 2)[:, None] != fold  # the last leaves nothing out
    models = [c.fit(x, out, seen) for c in tried]
    held = [_out_of_fold(w, x, out, fold) for w in models]
    errors = np.array([(pred - out) ** 2 for pred, _ in held])
    share = _shares(errors, trust)
    oof, oof_weights = np.zeros(m), np.zeros((m, n))
    for k in range(int(fold.max()) + 1):
        # A fold has no say in how its own predictions are mixed, or intervals come out short.
        here = fold == k
        for s, (pred, w) in zip(_shares(errors[:, ~here], trust), held, strict=True):
            oof[here] += s * pred[here]
            oof_weights[here] += s * w[here]
    weights = np.zeros(n)
    for s, model in zip(share, models, strict=True):
        weights += s * model[-1]
    return Surrogate(
        weights=weights,
        intercept=float(out.mean() - x.mean(axis=0) @ weights),
        oof=oof,
        oof_weights=oof_weights,
        oof_lds=spearman(oof, out),
        shares={c.name: float(s) for c, s in zip(tried, share, strict=True)},
    )


def _default_folds(m: int) -> int:
    # Few masks: folds of one or two make models that are nearly one model, whose errors agree, and
    # the spread of the residuals then understates the error of their mean.
    return 5 if m <= 32 else 10


def _shares(errors: Floats, trust: Floats) -> Floats:
    """Share of each candidate from its squared errors [candidates, m] and its trust."""
    mean = errors.mean(axis=1)
    excess = mean / max(float(mean.min()), 1e-12) - 1
    rate = 4 if trust.max() <= 1 else 16  # see _TRUST
    share = trust * np.exp(-np.minimum(excess * errors.shape[1] / rate, 700))
    return np.asarray(share / share.sum(), dtype=np.float64)


def _folds(clusters: Ints, folds: int, rng: np.random.Generator) -> Ints:
    _, codes = np.unique(clusters, return_inverse=True)
    count = int(codes.max(initial=-1)) + 1
    if count < 2:
        raise ValueError("at least two independent masks are needed")
    return np.asarray((rng.permutation(count) % min(folds, count))[codes], dtype=np.int64)


def _out_of_fold(models: Floats, x: Floats, y: Floats, fold: Ints) -> tuple[Floats, Floats]:
    pred, weights = np.empty(len(y)), models[fold]
    for k in range(int(fold.max()) + 1):
        seen = fold != k
        pred[~seen] = y[seen].mean() + (x[~seen] - x[seen].mean(axis=0)) @ models[k]
    return pred, weights
