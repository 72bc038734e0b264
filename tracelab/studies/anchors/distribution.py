"""How much each sentence shifts the distribution of answers, whatever was written instead.

Total variation and Jensen-Shannon between the answers before and after a sentence. A difference of
mean rewards sees only right against wrong; these see every answer.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log

import numpy as np
from numpy.typing import ArrayLike

from tracelab.core.finding import Metric, Score
from tracelab.core.item import Rollout
from tracelab.core.unit import Unit
from tracelab.stats.intervals import wilson
from tracelab.studies.anchors.grouping import INSIDE_TOKEN, MIN_ROLLOUTS, group
from tracelab.studies.anchors.scoring import Answers, distance_scores, make, with_fdr

METHOD = "resample"
METRICS = (
    Metric("tv", "probability", "the answers differ", 0, 1, MIN_ROLLOUTS),
    Metric("js", "nats", "the answers differ", 0, log(2), MIN_ROLLOUTS),
)


def estimate(
    trace_id: str,
    units: Sequence[Unit],
    rollouts: Iterable[Rollout],
    *,
    rng: np.random.Generator,
    p_keep: ArrayLike | None = None,
    level: float = 0.95,
    min_rollouts: int = MIN_ROLLOUTS,
) -> list[Score]:
    """Shift of the answer distribution across each unit: `tv` and `js`.

    Before unit i the model writes it with probability p and goes on as from boundary i + 1, or
    writes something else: before = p x after + (1 - p) x replaced. So tv(before, after) is
    (1 - p) tv(after, replaced), of two groups that share no rollout although many rollouts are
    samples of both boundaries.

    Args:
        trace_id: The trace.
        units: Its sentences, in order.
        rollouts: Its rollouts, any order.
        rng: For permutations.
        p_keep: P(the model writes exactly unit i), shape [N], from a scoring pass; None, or NaN
            where it is unknown, takes the share of rollouts that kept it.
        level: Nominal coverage.
        min_rollouts: With fewer rollouts that replaced the unit, or from after it, `insufficient`;
            `extra["bound"]`, 1 - p, still holds for tv when p is exact.
    """
    g = group(units, rollouts)
    answers = Answers(g)
    exact = np.full(len(g.units), np.nan)
    if p_keep is not None:
        exact[:] = np.asarray(p_keep, dtype=np.float64)
    least = max(min_rollouts, 1)
    scores: list[Score] = []
    for u in g.units:
        left, after, n_kept = g.left_in(u.index), g.at(u.index + 1), g.kept(u.index).size
        n_before = int(left.size + n_kept)
        p, known = float(exact[u.index]), not np.isnan(exact[u.index])
        lo, hi = (p, p) if known else (float(v) for v in wilson(n_kept, n_before, level))
        p = p if known else (n_kept / n_before if n_before else float("nan"))
        whole = g.splittable(u.index)
        both = whole and min(left.size, after.size) >= least
        score = make(trace_id, u.kind, u.index, METHOD, level)
        extra: dict[str, object] = {
            "n_after": int(after.size),
            "n_replaced": int(left.size),
            "p_keep": None if np.isnan(p) else p,
            "p_keep_exact": known,
        }
        if known:
            extra["bound"] = 1 - p
        if not whole:
            extra["reason"] = INSIDE_TOKEN
        found = answers.compare(after, left, both, level, rng)
        scores += distance_scores(score, found and found.diluted(p, lo, hi), extra)
    return with_fdr(scores)
