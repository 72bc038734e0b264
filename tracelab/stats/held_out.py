"""How well scores of sources predict what they have not seen: a run's tests of itself.

Weights are [n], larger = the source makes the target likelier. Log-probabilities in nats. What
cannot be measured is None. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tracelab.stats.lasso import Floats, Ints
from tracelab.stats.surrogate import spearman

Bools = NDArray[np.bool_]


def ranking(weights: Floats) -> Ints:
    """Sources from most to least supporting; ties in the order of the text, unmeasured last."""
    return np.argsort(-np.nan_to_num(weights, nan=-np.inf), kind="stable").astype(np.int64)


def lds(weights: Floats, masks: Bools, y: Floats) -> float | None:
    """Linear datamodelling score: Spearman(y, Σ_j weights_j kept_j) over held-out masks.

    Park et al., arXiv:2303.14186; ContextCite, section 4.

    Args:
        weights: [n]; an unmeasured source (NaN) predicts nothing.
        masks: bool [m, n], none of them used to find the weights.
        y: Outcomes [m]; failed masks (NaN) are left out.
    """
    known = np.isfinite(y)
    return spearman(masks[known] @ np.nan_to_num(weights), y[known])


def top_k_masks(weights: Floats, ks: Sequence[int]) -> Bools:
    """The whole context without its k top sources, one row a k: bool [len(ks), n].

    A k beyond the number of sources removes all.
    """
    place = ranking(weights).argsort()
    return np.array([place >= k for k in ks], dtype=np.bool_).reshape(len(ks), len(weights))


def curve_masks(weights: Floats, points: int | None = None) -> tuple[Bools, Bools]:
    """Masks of the deletion and the insertion curve (Petsiuk et al., arXiv:1806.07421).

    Args:
        weights: [n].
        points: Steps of each curve; default every source, at most n.

    Returns:
        Deletion: whole context first, top sources leave first. Insertion: empty context first,
        top sources come first. Each bool [steps + 1, n].
    """
    n = len(weights)
    steps = n if points is None else max(1, min(points, n))
    cuts = np.unique(np.round(np.linspace(0, n, steps + 1)).astype(np.int64))
    place = ranking(weights).argsort()
    deletion = place[None, :] >= cuts[:, None]
    return deletion, ~deletion


def curve_area(values: Floats) -> float | None:
    """Mean height of a curve over equally spaced steps, as a share of the way from end to end.

    0 is the value with nothing kept, 1 with everything kept: high is good for insertion, low for
    deletion.

    Args:
        values: A curve in either direction, [steps + 1].

    Returns:
        The share, or None when a point is missing or the two ends do not differ.
    """
    v = np.asarray(values, dtype=np.float64)
    if len(v) < 2 or not np.isfinite(v).all():
        return None
    low, high = min(v[0], v[-1]), max(v[0], v[-1])
    if high - low <= 1e-9:
        return None
    return float(((v[1:] + v[:-1]).mean() / 2 - low) / (high - low))


def precision_at_k(weights: Floats, relevant: Sequence[int] | Ints) -> float | None:
    """Share of the relevant sources among as many top ones; None when there is none."""
    wanted = np.unique(np.asarray(relevant, dtype=np.int64))
    if not len(wanted):
        return None
    return float(np.isin(ranking(weights)[: len(wanted)], wanted).mean())
