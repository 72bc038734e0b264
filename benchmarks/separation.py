"""How well numbers tell two groups apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

Numbers = Sequence[float] | NDArray[np.float64]


def auc(positive: Numbers, negative: Numbers) -> float | None:
    """P(a positive exceeds a negative), ties half; None where a group is empty.

    A NaN ranks below everything: a method that cannot say does not find.
    """
    if not len(positive) or not len(negative):
        return None
    values = np.nan_to_num(np.concatenate([positive, negative]), nan=-np.inf)
    places = np.unique(values, return_inverse=True)[1]  # roc_auc_score takes no infinity
    marks = np.repeat([1, 0], [len(positive), len(negative)])
    return float(roc_auc_score(marks, places))
