"""Confidence intervals for means of rewards in [0, 1] and for their differences.

Pure. All functions are vectorised over units and return NaN where a count is 0: the caller turns
NaN into a missing value, never into 0. `wilson` and `jeffreys` are those of statsmodels (tests hold
them equal), but for a truth of exactly 0 or 1 and n = 0; importing that library costs every run
three seconds of pandas.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, gammaln

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ROUNDING = 1e-9  # totals of whole rewards may be off by what adding up loses
_TIE = 1e-9  # log-probabilities of equally likely tables differ by rounding
_SPENT = 1e-17  # what is smaller no longer changes a sum


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
    a, n, b, m = np.broadcast_arrays(
        *(np.asarray(x, dtype=np.float64) for x in (total_a, n_a, total_b, n_b))
    )
    found = np.full(a.shape, np.nan)
    some = (n > 0) & (m > 0)
    a, n, b, m = a[some], n[some], b[some], m[some]
    if whole:
        found[some] = fisher(np.rint(a), n, np.rint(b), m)
        return found
    below = a / n <= b / m
    x, y = (
        np.where(up, np.ceil(t - _ROUNDING), np.floor(t + _ROUNDING))
        for up, t in ((below, a), (~below, b))
    )
    # Totals that pass each other when rounded do not tell the groups apart.
    apart = np.where(below, x / n <= y / m, y / m <= x / n)
    p = np.ones(a.shape)
    p[apart] = fisher(x[apart], n[apart], y[apart], m[apart])
    found[some] = p
    return found


def fisher(x: ArrayLike, n: ArrayLike, y: ArrayLike, m: ArrayLike) -> Floats:
    """Fisher's exact two-sided p-values of x of n against y of m.

    The probability, given the margins, of all tables that are no likelier than the observed one:
    the definition of `scipy.stats.fisher_exact`, for many tables at once.

    Args:
        x: Successes in the first group, whole numbers.
        n: Its size, at least 1.
        y: Successes in the second group.
        m: Its size, at least 1.

    Returns:
        Of the shape that the arguments broadcast to, in [0, 1].
    """
    tables = np.broadcast_arrays(*(np.asarray(v, np.int64) for v in (x, n, y, m)))
    return _fisher(*(v.ravel() for v in tables)).reshape(tables[0].shape)


def _fisher(x: Ints, n: Ints, y: Ints, m: Ints) -> Floats:
    # Mirrored where need be, so that the first group has fewer successes than is likeliest.
    hits = x + y
    many = x > (n + 1) * (hits + 1) // (n + m + 2)
    x, n, y, m = (np.where(many, b, a) for a, b in ((x, y), (n, m), (y, x), (m, n)))
    log_factorial = gammaln(np.arange(1, int((n + m).max(initial=0)) + 2, dtype=np.float64))
    both = log_factorial[n] + log_factorial[m] + log_factorial[hits]
    both += log_factorial[n + m - hits] - log_factorial[n + m]

    def log_chance(k: Ints) -> Floats:
        ways = log_factorial[k] + log_factorial[n - k]
        ways += log_factorial[hits - k] + log_factorial[m - hits + k]
        return np.asarray(both - ways, dtype=np.float64)

    seen = log_chance(x)
    mode = (n + 1) * (hits + 1) // (n + m + 2)
    # The first table beyond the mode that is no likelier: chances fall from `low` to `high`.
    low, high = mode, np.minimum(n, hits) + 1
    while (open_ := low < high).any():
        middle = np.where(open_, (low + high) // 2, mode)
        rare = open_ & (log_chance(middle) <= seen + _TIE)
        low, high = np.where(open_ & ~rare, middle + 1, low), np.where(rare, middle, high)
    there = low <= np.minimum(n, hits)
    other = np.where(there, low, mode)
    p = np.exp(seen) * _tail(x, n, y, m)
    p += np.where(there, np.exp(log_chance(other)) * _tail(hits - other, m, other, n), 0.0)
    # Where the observed table is the likeliest, both sums are everything.
    return np.asarray(np.where(seen + _TIE >= log_chance(mode), 1.0, np.minimum(p, 1.0)))


def _tail(x: Ints, n: Ints, y: Ints, m: Ints) -> Floats:
    """Chance of at most x, over the chance of x, given the margins."""
    total, at = np.ones(x.shape), np.arange(len(x))
    a, b, c, d = (np.asarray(v, np.float64) for v in (x, m - y, n - x + 1, y + 1))
    term = np.ones(x.shape)
    while len(at):
        term = term * (a * b / (c * d))
        total[at] += term
        a, b, c, d = a - 1, b - 1, c + 1, d + 1
        on = term > _SPENT * total[at]
        if not on.all():
            at, term, a, b, c, d = (v[on] for v in (at, term, a, b, c, d))
    return total
