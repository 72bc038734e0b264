"""Did one unit lower V more than another, if these two did and nothing is assumed of how far? Pure.

Of two falls the smaller can be missed where little was seen between them, and any prior of few
falls then gives the larger all that both lowered. So a fall is held against every other unit in
turn, in a curve of three levels: before both, between, after both, each anywhere in [0, 1]. Other
units change nothing, so what was seen of them is of the level they lie in. With p_i, U_i and levels
c as in `stats.value_curve`, U_i = (c - p_i c') / (1 - p_i) where c falls to c', and is c elsewhere.
"""

from __future__ import annotations

import numpy as np

from tracelab.stats.value_curve import CurveData
from tracelab.stats.value_grid import Floats

_POINTS = 31
_LEVELS = np.linspace(0, 1, _POINTS)
_STRATA = 4  # of an estimated p_i
_EDGE = 0.005
_TINY = 1e-300
# [before, between, after]: how much more the first fall is than the second, in spacings.
_AT = np.arange(_POINTS)
_MORE = _AT[:, None, None] - 2 * _AT[:, None] + _AT


def outdoes(curve: CurveData, unit: int) -> Floats:
    """P(V falls more at the unit than at another, if V changes at these two only), by the other.

    Args:
        curve: What was seen of the trace.
        unit: Which.

    Returns:
        [N]; 1 at the unit itself. Falls of the same size count half.
    """
    size = len(curve.keep)
    level = _log(curve.total[:, None], curve.n[:, None], _LEVELS)  # [N + 1, levels]
    before = np.vstack([np.zeros(_POINTS), np.cumsum(level, axis=0)])
    mine = _changing(curve, unit)
    out = np.ones(size)
    for j in range(size):
        if j == unit:
            continue
        a, b = min(unit, j), max(unit, j)
        other = _changing(curve, j)
        first, second = (mine, other) if unit < j else (other, mine)
        log = (first + before[a][:, None])[:, :, None] + (
            second + (before[b] - before[a + 1])[:, None] + before[-1] - before[b + 1]
        )
        mass = np.exp(log - log.max())
        total = max(float(mass.sum()), _TINY)
        more = float(mass[_MORE > 0].sum() + 0.5 * mass[_MORE == 0].sum()) / total
        out[j] = more if unit < j else 1 - more
    return out


def _log(won: Floats, n: Floats, chance: Floats) -> Floats:
    inside = np.clip(chance, _EDGE, 1 - _EDGE)
    found: Floats = won * np.log(inside) + (n - won) * np.log1p(-inside)
    return found


def _changing(curve: CurveData, i: int) -> Floats:
    """Log-likelihood of what left in unit i, by V before and after it, [levels, levels]."""
    keep = np.unique([part.mean() for part in np.array_split(curve.keep[i], _STRATA) if len(part)])
    found = np.zeros((_POINTS, _POINTS))
    for p in np.minimum(keep, 1 - 1e-6):
        other = (_LEVELS[:, None] - p * _LEVELS) / (1 - p)
        like = np.exp(_log(curve.total[i], curve.n[i], other))
        # A chance outside of [0, 1] is none; by less than a spacing it is the grid's doing.
        slack = 0.5 / _POINTS / (1 - p)
        found += np.where((other >= -slack) & (other <= 1 + slack), like, 0.0)
    logged: Floats = np.log(np.maximum(found / len(keep), _TINY))
    return logged
