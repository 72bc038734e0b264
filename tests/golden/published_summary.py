"""What Thought Anchors makes of its numbers: a matrix's summary, and the paper's averages.

Kept so that published figures recompute. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Means = NDArray[np.float64]

_CONVERGED = 4  # accuracies in a row beyond .99 or .01
_TOP = 5


@dataclass(frozen=True, slots=True)
class MatrixSummary:
    """What `summary.json` says of a matrix.

    Attributes:
        avg_importance: Mean over all N x N entries, the structural zeros included.
        max_importance: Largest entry.
        min_importance: Smallest entry; never above 0, because of those zeros.
        outgoing: Mean of row i over j > i, shape [N]; 0 for the last. Short rows have extreme
            means, so late chunks are favoured.
        incoming: Mean of column j over i < j, shape [N]; 0 for the first.
        top_influential: At most 5 indices by `outgoing`, largest first, positive ones only.
        top_dependent: The same by `incoming`.
    """

    avg_importance: float
    max_importance: float
    min_importance: float
    outgoing: Means
    incoming: Means
    top_influential: tuple[int, ...]
    top_dependent: tuple[int, ...]


def summarize(matrix: ArrayLike) -> MatrixSummary:
    """Summarise a matrix as published.

    Args:
        matrix: Shape [N, N], N at least 1, zeros on and below the diagonal.
    """
    m = np.asarray(matrix, dtype=np.float64)
    n = len(m)
    outgoing = np.array([m[i, i + 1 :].mean() if i + 1 < n else 0.0 for i in range(n)])
    incoming = np.array([m[:j, j].mean() if j else 0.0 for j in range(n)])
    return MatrixSummary(
        avg_importance=float(m.mean()),
        max_importance=float(m.max()),
        min_importance=float(m.min()),
        outgoing=outgoing,
        incoming=incoming,
        top_influential=_top(outgoing),
        top_dependent=_top(incoming),
    )


def _top(means: Means) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argsort(means)[::-1][:_TOP] if means[i] > 0)


def converged_from(accuracies: Sequence[float]) -> int | None:
    """First chunk from which four accuracies in a row are > .99, or four are < .01.

    None when there is none. As published, the search stops five chunks before the end.
    """
    for i in range(len(accuracies) - _CONVERGED - 1):
        window = accuracies[i : i + _CONVERGED]
        if min(window) > 0.99 or max(window) < 0.01:
            return i
    return None


@dataclass(frozen=True, slots=True)
class CategoryMean:
    """A bar of the paper's figures: mean and standard error over traces, and how many traces."""

    mean: float
    se: float
    traces: int


def figure_means(
    traces: Sequence[Sequence[Mapping[str, object]]],
    metric: str,
    *,
    category: Callable[[Mapping[str, object]], str],
) -> dict[str, CategoryMean]:
    """Average a metric by category as the paper's figures do.

    Args:
        traces: For each trace its chunks' figures by published name, in order.
        metric: Which figure. Negative values become 0, and everything from `converged_from` on
            is dropped.
        category: A chunk's category; `unknown` is left out.

    Returns:
        By category, the mean of the traces' means and its standard error (n - 1), for categories
        with at least three chunks in at least three traces.
    """
    by_category: dict[str, list[list[float]]] = {}
    for chunks in traces:
        end = converged_from([_number(c, "accuracy") for c in chunks])
        here: dict[str, list[float]] = {}
        for chunk in chunks[:end]:
            here.setdefault(category(chunk), []).append(max(0.0, _number(chunk, metric)))
        for name, values in here.items():
            by_category.setdefault(name, []).append(values)
    out = {}
    for name, groups in by_category.items():
        if name == "unknown" or len(groups) < 3:
            continue
        means = np.array([math.fsum(g) / len(g) for g in groups])
        se = float(means.std(ddof=1)) / math.sqrt(len(means))
        out[name] = CategoryMean(float(means.mean()), se, len(means))
    return out


def _number(chunk: Mapping[str, object], name: str) -> float:
    value = chunk[name]
    if not isinstance(value, int | float):
        raise ValueError(f"`{name}` of a chunk is {type(value).__name__}, not a number")
    return float(value)


def implied_rollouts(
    accuracy: float, fraction: float, overdeterminedness: float, listed: int
) -> int | None:
    """Infer how many answered rollouts three published figures of a chunk were computed on.

    Args:
        accuracy: The chunk's.
        fraction: Its `different_trajectories_fraction`.
        overdeterminedness: Its.
        listed: How many rollouts the published list has, with or without an answer.

    Returns:
        The largest n <= `listed` of which all three are multiples of 1/n; None when there is
        none (they were computed on different rollouts: an ungraded one counts in the last two).
    """
    for n in range(listed, 0, -1):
        if all(abs(x * n - round(x * n)) < 1e-6 for x in (accuracy, fraction, overdeterminedness)):
            return n
    return None
