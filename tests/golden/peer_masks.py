"""The masks of the `context-cite` package, which its comparisons with ours are made on."""

from __future__ import annotations

import numpy as np

from tracelab.stats.masks import Design, design


def published(n: int, m: int, keep: float = 0.5) -> Design:
    """Mask i from `RandomState(i)`: the same masks recur in every context of n sources."""
    rows = [
        np.random.RandomState(i).choice([False, True], size=n, p=[1 - keep, keep]) for i in range(m)
    ]
    return design("published", np.array(rows, dtype=np.bool_).reshape(m, n))
