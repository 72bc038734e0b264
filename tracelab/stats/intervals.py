"""Confidence intervals for means of rewards in [0, 1] and for their differences.

Pure. All functions are vectorised over units and return NaN where a count is 0: the caller turns
NaN into a missing value, never into 0.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


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
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def newcombe(
    total_a: ArrayLike, n_a: ArrayLike, total_b: ArrayLike, n_b: ArrayLike, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Newcombe's hybrid score interval of mean(b) - mean(a), for independent arms.

    Newcombe (1998), method 10: the two Wilson intervals combined in quadrature. Not valid when the
    arms share rollouts.

    Args:
        total_a: Sum of rewards in arm a, shape [units].
        n_a: Rewards in arm a.
        total_b: Sum of rewards in arm b.
        n_b: Rewards in arm b.
        level: Nominal coverage.

    Returns:
        Lower and upper ends, each [units]; NaN where either n is 0.
    """
    lo_a, hi_a = wilson(total_a, n_a, level)
    lo_b, hi_b = wilson(total_b, n_b, level)
    with np.errstate(divide="ignore", invalid="ignore"):
        a = np.asarray(total_a, dtype=np.float64) / np.asarray(n_a, dtype=np.float64)
        b = np.asarray(total_b, dtype=np.float64) / np.asarray(n_b, dtype=np.float64)
    lower = (b - a) - np.sqrt((b - lo_b) ** 2 + (hi_a - a) ** 2)
    upper = (b - a) + np.sqrt((hi_b - b) ** 2 + (a - lo_a) ** 2)
    return lower, upper
