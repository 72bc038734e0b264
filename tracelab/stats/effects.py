"""Unbiased effects of sources, with intervals, from random masks and any surrogate.

**Estimand.** β_j = E[y | j kept] - E[y | j removed], the other sources kept with probability 1/2
each: the average effect of source j, which is also its coefficient in the best linear
approximation of y under these masks. Positive: keeping the source raises y.

**Estimator.** The coins are known, so for weights τ learnt on *other* masks,
β_j = τ_j + E[r | kept] - E[r | removed] with r = y - prediction: whatever the surrogate gets wrong,
the contrast of its residuals repairs. This is the desparsified Lasso (van de Geer et al. 2014)
with the design known and the residuals cross-fitted (Chernozhukov et al. 2018), so there is no
bias at any number of masks, fewer than sources included, and the spread of the two arms gives
the interval: Welch's t; with clustered rows, a cluster-robust one. A bootstrap of the Lasso itself
covers about a third of what it says.

**Sampled outcomes.** Where an outcome is itself a mean of a few samples in [0, 1]
(`SampledOutcomes`), the spread of an arm holds both noises, that of the masks and that of the
samples. What has been asked of all masks then says nothing new of the first and still has the
second, so corrections for masks drawn without replacement are made to the first alone. Arms of few
masks, in all of which the same was sampled, look certain and are not: no arm's variance is below
that of one unseen mask, and one unseen sample, of the other kind (as in Agresti & Caffo 2000).
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from tracelab.stats.lasso import Floats, Ints
from tracelab.stats.surrogate import Surrogate

Bools = NDArray[np.bool_]

_FLAT = 1e-9  # nats: outcomes that differ by less do not differ


@dataclass(frozen=True, slots=True)
class SampledOutcomes:
    """What is known of outcomes that are means of samples in [0, 1].

    Attributes:
        noise: Squared standard error of each outcome, from its own samples [m]; inf where one
            sample tells nothing of it.
        n: Samples behind each [m].
    """

    noise: Floats
    n: Ints


MIN_ARM = 3
"""Fewest masks with, and without, a source before its effect is reported."""


@dataclass(frozen=True, slots=True)
class Effects:
    """Average effects of sources.

    Attributes:
        value: β [n], unit of y; NaN where too few masks tell the source apart.
        lo: Lower ends [n]; NaN where there is no interval.
        hi: Upper ends [n].
        kept: Masks behind it with the source [n].
        removed: Masks behind it without [n].
    """

    value: Floats
    lo: Floats
    hi: Floats
    kept: Ints
    removed: Ints

    @property
    def half_width(self) -> Floats:
        """Half the length of each interval [n]; NaN where there is none."""
        return (self.hi - self.lo) / 2


def average_effects(
    masks: Bools,
    y: Floats,
    surrogate: Surrogate,
    *,
    level: float = 0.95,
    alone: Bools | None = None,
    clusters: Ints | None = None,
    sampled: SampledOutcomes | None = None,
) -> Effects:
    """Effects and intervals; see the module.

    Args:
        masks: bool [m, n], fair coins.
        y: Outcomes [m], finite.
        surrogate: Fitted to these masks; its predictions out of fold are used.
        level: Nominal coverage of each interval.
        alone: bool [m, n], where a source was kept or removed by a coin of its own; other rows say
            nothing about it. Default: everywhere. Where sources share coins, the estimand is the
            effect under those masks.
        clusters: Rows of one number share coins [m].
        sampled: Where outcomes are means of samples: what is known of these.

    Returns:
        One effect a source. When the masks are all 2^n, the effects are exact: lo = value = hi.
        Where the outcome never changed, the effect is 0 and has no interval. Neither holds for
        sampled outcomes: their effects are in [-1, 1], and every one has an interval.
    """
    m, n = masks.shape
    use = np.ones((m, n), dtype=np.bool_) if alone is None else alone
    distinct = len({row.tobytes() for row in masks}) if n <= 16 else 0
    whole = distinct == 2**n and m == distinct and bool(use.all())
    # The part of y that is not the other sources' doing, so far as other masks can tell.
    w = (y - surrogate.oof)[:, None] + surrogate.oof_weights * (masks - 0.5)
    if whole and (sampled is None or bool(np.isfinite(sampled.noise).all())):
        w = np.broadcast_to(y[:, None], (m, n))
    sides = [use & (masks == side) for side in (True, False)]
    (mean1, var1, n1, dev1), (mean0, var0, n0, dev0) = (_arm(w, rows) for rows in sides)
    value = np.where((n1 >= MIN_ARM) & (n0 >= MIN_ARM) | whole, mean1 - mean0, np.nan)
    # Drawn without replacement from a finite set of masks: this share of it is not seen yet.
    unseen = 1 - m / 2**n if distinct == m and n <= 16 else 1.0
    df1, df0 = n1 - 1, n0 - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        if sampled is None:
            var1, var0 = var1 * unseen, var0 * unseen
        else:
            var1, df1 = _twice_noisy(var1, unseen, sides[0], sampled)
            var0, df0 = _twice_noisy(var0, unseen, sides[1], sampled)
        variance = var1 + var0
        df = variance**2 / (var1**2 / df1 + var0**2 / df0)
        if clusters is not None and len(np.unique(clusters)) < m:
            grouped, df = _clustered(dev1 - dev0, use, clusters)
            variance = grouped * unseen if sampled is None else np.maximum(grouped, variance)
        half = stdtrit(np.maximum(np.nan_to_num(df, nan=1.0), 1.0), 0.5 + level / 2)
        half = half * np.sqrt(variance)
    if sampled is not None:
        low, high = np.clip(value - half, -1, 1), np.clip(value + half, -1, 1)
        return Effects(value, low, high, n1, n0)
    half = np.where((variance == 0) | whole, 0.0, half)
    # An outcome that never changed says nothing of how it might have: there is no spread to go by.
    high, low = (np.where(use, y[:, None], side * np.inf) for side in (-1, 1))
    half = np.where(high.max(axis=0) - low.min(axis=0) <= _FLAT, np.nan, half)
    return Effects(value, value - half, value + half, n1, n0)


def _twice_noisy(
    variance: Floats, unseen: float, rows: Bools, sampled: SampledOutcomes
) -> tuple[Floats, Ints]:
    """Squared standard error of an arm's mean [n] whose outcomes are sampled, and its df."""
    count, behind = rows.sum(axis=0), (rows * sampled.n[:, None]).sum(axis=0)
    own = np.where(rows, sampled.noise[:, None], 0.0).sum(axis=0) / count**2
    # All masks were seen: what is left is the noise of their samples, if that is known.
    known = (unseen == 0) & np.isfinite(own)
    own = np.where(known, own, np.minimum(own, variance))
    least = unseen / (count + 2) ** 2 + 1 / (behind + 2) ** 2
    df = np.where(known, behind - count, count - 1)
    return np.maximum((variance - own) * unseen + own, least), df


def _arm(w: Floats, rows: Bools) -> tuple[Floats, Floats, Ints, Floats]:
    """Mean, squared standard error, count, and each row's share of the deviation [m, n]."""
    count = rows.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(rows, w, 0.0).sum(axis=0) / count
        dev = np.where(rows, w - mean, 0.0)
        var = (dev**2).sum(axis=0) / ((count - 1) * count)
        return mean, var, count.astype(np.int64), np.nan_to_num(dev / count)


def _clustered(dev: Floats, use: Bools, clusters: Ints) -> tuple[Floats, Floats]:
    """Cluster-robust variance of the contrast, and its degrees of freedom, each [n]."""
    _, codes = np.unique(clusters, return_inverse=True)
    size = int(codes.max()) + 1
    sums, seen = np.zeros((size, dev.shape[1])), np.zeros((size, dev.shape[1]), dtype=np.bool_)
    np.add.at(sums, codes, dev)
    np.logical_or.at(seen, codes, use)
    groups = seen.sum(axis=0)
    return (sums**2).sum(axis=0) * groups / (groups - 2), groups - 2.0
