"""Confidence intervals for means of rewards in [0, 1] and for their differences.

Pure. All functions are vectorised over units and return NaN where a count is 0: the caller turns
NaN into a missing value, never into 0.
"""

from __future__ import annotations

from math import ceil, floor
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv
from scipy.stats import fisher_exact

Floats = NDArray[np.float64]

_ROUNDING = 1e-9  # totals of whole rewards may be off by what adding up loses


def wilson(total: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Wilson score interval of a mean reward.

    Exact score inversion for 0/1 rewards (Wilson 1927). For rewards in between it is conservative:
    a variable in [0, 1] with mean p has variance at most p (1 - p), which is what it assumes.

    Args:
        total: Sum of rewards, shape [units].
        n: Number of rewards, shape [units].
        level: Nominal coverage.

    Returns:
        Lower and upper ends, each [units]; NaN where n is 0.
    """
    t, m = np.asarray(total, dtype=np.float64), np.asarray(n, dtype=np.float64)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = t / m
        centre = (p + z * z / (2 * m)) / (1 + z * z / m)
        half = z / (1 + z * z / m) * np.sqrt(np.maximum(p * (1 - p), 0) / m + z * z / (4 * m * m))
    # At the ends the formula gives 0 and 1 up to rounding, and a truth of exactly 1 must be inside.
    lo = np.where(t <= 0, 0, np.clip(centre - half, 0, 1))
    hi = np.where(t >= m, 1, np.clip(centre + half, 0, 1))
    return np.where(m > 0, lo, np.nan), np.where(m > 0, hi, np.nan)


def jeffreys(total: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Jeffreys interval of a mean reward: quantiles of Beta(total + 1/2, n - total + 1/2).

    Brown, Cai and DasGupta (2001), with their ends: 0 when no reward was seen and 1 when no reward
    was lost. Closer to its nominal coverage than Wilson's near 0 and 1, where that one is wide.

    Args:
        total: Sum of rewards, shape [units].
        n: Number of rewards, shape [units].
        level: Nominal coverage.

    Returns:
        Lower and upper ends, each [units]; NaN where n is 0.
    """
    t, m = np.broadcast_arrays(np.asarray(total, np.float64), np.asarray(n, np.float64))
    hit, miss, tail = np.clip(t, 0, m) + 0.5, np.clip(m - t, 0, m) + 0.5, (1 - level) / 2
    lo = np.where(t <= 0, 0, betaincinv(hit, miss, tail))
    hi = np.where(t >= m, 1, betaincinv(hit, miss, 1 - tail))
    return np.where(m > 0, lo, np.nan), np.where(m > 0, hi, np.nan)


def difference(
    total_a: ArrayLike, n_a: ArrayLike, total_b: ArrayLike, n_b: ArrayLike, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Interval of mean(b) - mean(a), for independent arms.

    The arms' Jeffreys intervals combined in quadrature: Newcombe's (1998) method 10 with other
    arms, the method of variance estimates recovery (Zou and Donner 2008). With Wilson's arms, as
    Newcombe has it, it covers .97 where one arm is near 0 or 1, and is 5 % wider. Not valid when
    the arms share rollouts.

    Args:
        total_a: Sum of rewards in arm a, shape [units].
        n_a: Rewards in arm a.
        total_b: Sum of rewards in arm b.
        n_b: Rewards in arm b.
        level: Nominal coverage.

    Returns:
        Lower and upper ends, each [units]; NaN where either n is 0.
    """
    lo_a, hi_a = jeffreys(total_a, n_a, level)
    lo_b, hi_b = jeffreys(total_b, n_b, level)
    with np.errstate(divide="ignore", invalid="ignore"):
        a = np.asarray(total_a, dtype=np.float64) / np.asarray(n_a, dtype=np.float64)
        b = np.asarray(total_b, dtype=np.float64) / np.asarray(n_b, dtype=np.float64)
    lower = (b - a) - np.sqrt((b - lo_b) ** 2 + (hi_a - a) ** 2)
    upper = (b - a) + np.sqrt((hi_b - b) ** 2 + (a - lo_a) ** 2)
    return lower, upper


def scaled_difference(
    change: Floats,
    lo: Floats,
    hi: Floats,
    hits: ArrayLike,
    n: ArrayLike,
    share: Floats,
    level: float = 0.95,
) -> tuple[Floats, Floats]:
    """Interval of share x difference, where the share is known or a proportion of its own.

    With a known share (n = 0) the interval scales. Otherwise the Jeffreys interval of `hits / n` is
    combined with that of the difference by the method of variance estimates recovery for a product
    (Zou and Donner 2008, Statistics in Medicine 27; the two are uncorrelated here because, given
    how many rollouts left, their rewards do not depend on how many).

    Args:
        change: Estimates of the difference, shape [units].
        lo: Lower ends of their intervals.
        hi: Upper ends.
        hits: Numerators of the shares.
        n: Denominators; 0 where the share is known.
        share: The shares, in [0, 1].
        level: Nominal coverage.

    Returns:
        Lower and upper ends, each [units]; NaN where the difference has none.
    """
    s_lo, s_hi = jeffreys(hits, n, level)
    known = np.asarray(n) == 0
    s_lo, s_hi = np.where(known, share, s_lo), np.where(known, share, s_hi)
    # The share's uncertainty moves the product away from 0 or towards it, by sign of d.
    away, back = s_hi - share, share - s_lo
    d = change
    lower = share * d - np.sqrt((share * (d - lo)) ** 2 + (d * np.where(d < 0, away, back)) ** 2)
    upper = share * d + np.sqrt((share * (hi - d)) ** 2 + (d * np.where(d < 0, back, away)) ** 2)
    return np.maximum(lower, -1), np.minimum(upper, 1)


def two_sample_p(
    total_a: ArrayLike, n_a: ArrayLike, total_b: ArrayLike, n_b: ArrayLike, *, whole: bool = True
) -> Floats:
    """Two-sided p-value that two independent groups of rewards have one mean.

    Fisher's exact test for 0/1 rewards: valid at any n, conservative at small n. For rewards in
    between, the same after each total is rounded to a whole number towards the other group's mean:
    of all rewards in [0, 1] with one mean, 0/1 rewards vary most.

    Args:
        total_a: Sum of rewards in group a, shape [units].
        n_a: Rewards in group a.
        total_b: Sum of rewards in group b.
        n_b: Rewards in group b.
        whole: Whether all rewards are 0 or 1.

    Returns:
        Shape [units]; NaN where a group is empty.
    """
    a, n, b, m = (np.asarray(x, dtype=np.float64) for x in (total_a, n_a, total_b, n_b))
    found = np.full(a.shape, np.nan)
    for i in np.flatnonzero((n > 0) & (m > 0)):
        hits = (round(a[i]), round(b[i])) if whole else _towards(a[i], n[i], b[i], m[i])
        if hits is None:
            found[i] = 1.0
            continue
        table = [[hits[0], int(n[i]) - hits[0]], [hits[1], int(m[i]) - hits[1]]]
        found[i] = fisher_exact(table).pvalue
    return found


def _towards(a: float, n: float, b: float, m: float) -> tuple[int, int] | None:
    """Totals rounded towards the other group's mean; None when they pass each other."""
    if a / n > b / m:
        swapped = _towards(b, m, a, n)
        return None if swapped is None else (swapped[1], swapped[0])
    low, high = ceil(a - _ROUNDING), floor(b + _ROUNDING)
    return (low, high) if low / n <= high / m else None
