"""Data of a value curve from plain lists, for tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tracelab.stats.value_curve import CurveData


def as_data(total: ArrayLike, n: ArrayLike, keep: ArrayLike | None = None) -> CurveData:
    """`keep`: exact p_i [N], or nodes [N, Q]; without, no unit is ever kept."""
    t, m = np.asarray(total, dtype=np.float64), np.asarray(n, dtype=np.float64)
    p = np.zeros(len(m) - 1) if keep is None else np.asarray(keep, dtype=np.float64)
    return CurveData(t, m, p if p.ndim == 2 else p[:, None])
