"""Ridge regression over several tasks with one set of coefficients, pulled towards equal ones.

For predictors that are many and alike (attention heads): with little to learn from, all count the
same; with more, each finds its own weight, of either sign. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracelab.stats.lasso import Floats, Ints

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 1e2, 1e4)
"""Strengths that are tried, in units of the mean square of a predictor over all rows."""


def pooled_ridge(
    x: Sequence[Floats], y: Sequence[Floats], fold: Sequence[Ints]
) -> tuple[Floats, list[Floats]]:
    """Coefficients that all tasks share, at the strength that predicts best out of fold.

    Minimises Σ (y - x w)² + λ Σ (w - mean w)². The strength is chosen by the mean over tasks of
    Pearson's correlation out of fold.

    Args:
        x: Predictors of each task [rows, p], centred.
        y: Outcomes of each task [rows], centred and on one scale.
        fold: Fold of each row of each task.

    Returns:
        Coefficients [p], and the predictions out of fold of each task.
    """
    p = x[0].shape[1]
    rows, outcomes, where = np.concatenate(x), np.concatenate(y), np.concatenate(fold)
    gram, moment = rows.T @ rows, rows.T @ outcomes
    scale = float(np.trace(gram)) / p or 1.0
    differs = np.eye(p) - np.full((p, p), 1 / p)
    tiny = 1e-9 * np.eye(p)

    def solve(a: Floats, b: Floats, penalty: float) -> Floats:
        return np.asarray(np.linalg.solve(a + scale * (penalty * differs + tiny), b))

    predicted = np.empty((len(PENALTIES), len(outcomes)))
    for k in np.unique(where):
        out = where == k
        a, b = gram - rows[out].T @ rows[out], moment - rows[out].T @ outcomes[out]
        for s, penalty in enumerate(PENALTIES):
            predicted[s, out] = rows[out] @ solve(a, b, penalty)
    cuts = np.cumsum([len(v) for v in y])[:-1]
    per = [np.split(row, cuts) for row in predicted]
    quality = [np.mean([pearson(a, b) or 0.0 for a, b in zip(one, y, strict=True)]) for one in per]
    best = int(np.argmax(quality))
    return solve(gram, moment, PENALTIES[best]), per[best]


def pearson(a: Floats, b: Floats) -> float | None:
    """Correlation of two vectors; None when either does not vary."""
    if np.ptp(a) <= 1e-12 or np.ptp(b) <= 1e-12:
        return None
    return float(np.corrcoef(a, b)[0, 1])
