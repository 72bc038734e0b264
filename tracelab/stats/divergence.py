"""Distances and divergences of answer distributions, from counts.

Pure. A distance estimated from counts is biased upward: two samples of one distribution never
agree exactly, and the fewer the rollouts and the more the answers, the further apart they look.
`tracelab.stats.contrast` takes that noise out and gives intervals; here are the formulas.
Divergences and entropies are in nats. Axes: [..., categories], or [units] where said.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def tv(p: ArrayLike, q: ArrayLike) -> Floats:
    """Total variation, in [0, 1], of distributions over the last axis: half the L1 distance."""
    gap = np.abs(np.asarray(p, dtype=np.float64) - np.asarray(q, dtype=np.float64))
    return np.asarray(0.5 * gap.sum(-1), dtype=np.float64)


def js(p: ArrayLike, q: ArrayLike) -> Floats:
    """Jensen-Shannon divergence, in [0, ln 2] nats, of distributions over the last axis (Lin 1991).

    Equal weights. Finite whatever is 0, so it needs no smoothing.
    """
    a, b = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    out = 0.5 * (_plogp(a) + _plogp(b)) - _plogp((a + b) / 2)
    return np.asarray(np.maximum(out, 0), dtype=np.float64)


def smoothed(counts: ArrayLike, prior: float = 0.5) -> Floats:
    """Posterior mean of a distribution under a symmetric Dirichlet prior (0.5 is Jeffreys').

    Args:
        counts: Shape [..., categories].
        prior: Pseudo-count of each category. It pulls both distributions towards uniform, hence
            together: `tv` and `js` of smoothed counts are biased down where the raw ones are
            biased up.
    """
    c = np.asarray(counts, dtype=np.float64) + prior
    return np.asarray(c / c.sum(-1, keepdims=True), dtype=np.float64)


def kl(a: ArrayLike, b: ArrayLike, alpha: float = 1e-9) -> float:
    """KL(a || b) of two count vectors with additive smoothing, nats (Thought Anchors' `_kl`).

    Shares are (count + alpha) / (total + alpha x answers seen on either side), the result is cut
    at 0 from below. At the paper's alpha of 1e-9 one answer that only `a` has costs about 20 nats
    times its share, so two samples of one distribution look far apart: `stats.contrast` does not.

    Args:
        a: Counts, shape [categories].
        b: Counts, same shape.
        alpha: Pseudo-count, above 0.

    Returns:
        Nats; NaN when either side has no counts.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    seen = (x + y) > 0
    if not x.sum() or not y.sum():
        return float("nan")
    p, q = smoothed(x[seen], alpha), smoothed(y[seen], alpha)
    return max(float(np.sum(p * np.log(p / q))), 0.0)


def entropy(counts: ArrayLike, *, miller_madow: bool = True) -> float:
    """Entropy of a distribution from counts, nats; NaN without counts.

    The plug-in estimate is biased down by about (categories - 1) / 2n; `miller_madow` adds that
    back, with the categories seen (Miller 1955), and is still low where many were not seen.
    """
    c = np.asarray(counts, dtype=np.float64)
    n = c.sum()
    if not n:
        return float("nan")
    return float(-_plogp(c / n)) + (float((c > 0).sum() - 1) / (2 * float(n)) * miller_madow)


def log_odds_difference(
    total_a: ArrayLike, n_a: ArrayLike, total_b: ArrayLike, n_b: ArrayLike, level: float = 0.95
) -> tuple[Floats, Floats, Floats]:
    """Log-odds of a yes/no outcome in arm b minus in arm a, nats, with an interval.

    Haldane-Anscombe: half a count is added to every cell, and the interval is Gart's (1966), the
    normal one on that scale. Finite at 0 % and 100 %, where it leans towards 0.

    Args:
        total_a: Number (or sum) of yes in arm a, shape [units].
        n_a: Rollouts in arm a.
        total_b: Yes in arm b.
        n_b: Rollouts in arm b.
        level: Nominal coverage.

    Returns:
        Estimate, lower and upper end, each [units]; NaN where either n is 0.
    """
    ta, na, tb, nb = (np.asarray(x, dtype=np.float64) for x in (total_a, n_a, total_b, n_b))
    cells = [ta + 0.5, na - ta + 0.5, tb + 0.5, nb - tb + 0.5]
    value = np.log(cells[2] / cells[3]) - np.log(cells[0] / cells[1])
    z = NormalDist().inv_cdf(0.5 + level / 2)
    half = z * np.sqrt(sum(1 / c for c in cells))
    gap = np.where((na > 0) & (nb > 0), value, np.nan)
    return gap, gap - half, gap + half


def fdr_adjust(p: ArrayLike) -> Floats:
    """Benjamini-Hochberg adjusted p-values: reject those at most q to keep the FDR at q.

    Args:
        p: p-values of any shape; NaN are not tests, stay NaN, and do not count.
    """
    from scipy.stats import false_discovery_control

    raw = np.asarray(p, dtype=np.float64)
    out = np.full(raw.shape, np.nan)
    known = ~np.isnan(raw)
    if known.any():
        out[known] = false_discovery_control(raw[known])
    return out


def _plogp(p: Floats) -> Floats:
    return np.asarray((p * np.log(np.where(p > 0, p, 1.0))).sum(-1), dtype=np.float64)
