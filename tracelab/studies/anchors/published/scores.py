"""The published Thought Anchors figures of tracelab's own rollouts, as scores and links.

Method `thought-anchors`, metrics named as published. The published recipe has no intervals, so
`lo` and `hi` are None. Signs and zeros are theirs (`tracelab.studies.anchors.published.figures`),
with one difference: where it would publish a 0.0 for want of rollouts, the score is
`insufficient`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tracelab.core.finding import Findings, Link, Metric, Score
from tracelab.core.item import Rollout
from tracelab.core.unit import Unit
from tracelab.studies.anchors.case import Reasoning
from tracelab.studies.anchors.cohort import Cohort, Method
from tracelab.studies.anchors.grouping import left_unit
from tracelab.studies.anchors.methods import METHODS
from tracelab.studies.anchors.published.figures import (
    FORCED_METRICS,
    METRICS,
    THRESHOLD,
    GradedRollout,
    chunk_figures,
)
from tracelab.studies.anchors.published.matrix import (
    MATCH_THRESHOLD,
    importance_matrix,
    rollout_matches,
)

METHOD = "thought-anchors"
LINK_METRIC = "importance_score"
_OF_NEXT = tuple(m for m in (*METRICS, *FORCED_METRICS) if "importance" in m)
_OF_SIMILARITY = (
    "counterfactual_importance_accuracy",
    "counterfactual_importance_kl",
    "different_trajectories_fraction",
)


def scores(
    trace_id: str,
    units: Sequence[Unit],
    rollouts: Iterable[Rollout],
    *,
    forced: Iterable[Rollout] | None = None,
    threshold: float = THRESHOLD,
    level: float = 0.95,
) -> list[Score]:
    """Published figures of each sentence of one trace.

    Only rollouts started at a boundary count there: the original does not recycle. A rollout that
    repeats the sentence before it leaves the trace resampled exactly that sentence (similarity 1).

    Args:
        trace_id: The trace.
        units: Its sentences, in order.
        rollouts: Its rollouts. A reward of 1 is correct, one without an answer is left out, an
            ungraded one too.
        forced: The same with the answer forced after the boundary; None when there are none.
        threshold: Cosine below which a resampled sentence is different.
        level: Stored with the scores; there are no intervals.

    Returns:
        For each sentence the seven figures of `METRICS`, and the two of `FORCED_METRICS` where
        `forced` is given. The last sentence has its accuracy and, as published, zeros. `n` counts
        the answered rollouts of the boundaries a figure compares.
    """
    plain = _placed(units, rollouts)
    given = None if forced is None else _placed(units, forced)
    figures = chunk_figures(plain, given, threshold)
    out = []
    for unit, row in zip(units, figures, strict=True):
        for metric, value in row.items():
            source = given if given is not None and metric in FORCED_METRICS else plain
            here, after = source[unit.index], source[unit.index + 1 : unit.index + 2]
            out.append(
                _score(trace_id, unit, metric, value, here, after, threshold=threshold, level=level)
            )
    return out


def links(
    trace_id: str, units: Sequence[Unit], rollouts: Iterable[Rollout], *, level: float = 0.95
) -> list[Link]:
    """The published sentence-to-sentence matrix of one trace, above its diagonal.

    Args:
        trace_id: The trace.
        units: Its sentences, in order.
        rollouts: As for `matrix.rollout_matches`.
        level: Stored with the links; there are no intervals.

    Returns:
        N (N - 1) / 2 links, metric `importance_score`: how much more often the later sentence, or
        one like it, appears with the earlier one kept; in [-1, 1]. `insufficient` where either
        side has no rollouts, which the original publishes as 0.
    """
    matches = rollout_matches(units, rollouts)
    matrix = importance_matrix(matches)
    found = []
    for i in range(len(units) - 1):
        ok = bool(len(matches[i]) and len(matches[i + 1]))
        found += [
            Link.of(
                trace_id, units[i].kind, i, j, METHOD, LINK_METRIC,
                float(matrix[i, j]) if ok else None,
                level=level, n=len(matches[i]) + len(matches[i + 1]),
                extra={"threshold": MATCH_THRESHOLD},
            )
            for j in range(i + 1, len(units))
        ]  # fmt: skip
    return found


def _score(
    trace_id: str,
    unit: Unit,
    metric: str,
    value: float,
    here: Sequence[GradedRollout],
    after: Sequence[Sequence[GradedRollout]],
    *,
    threshold: float,
    level: float,
) -> Score:
    last = not after and metric != "accuracy"
    compared = [here, *after] if metric in _OF_NEXT else [here]
    counts = [sum(bool(r.answer) for r in side) for side in compared]
    reason = published = None
    if last:
        published = "the last sentence is 0 by definition"
    elif not all(counts):
        reason = "no answered rollouts at this sentence or the next"
    elif metric in _OF_SIMILARITY and any(r.similarity is None for r in here if r.answer):
        reason = "similarities were not computed"
    elif metric == "overdeterminedness" and any(not r.resampled for r in here if r.answer):
        reason = "the resampled sentences are not known"
    elif metric.startswith("counterfactual") and not any(
        r.similarity is not None and r.similarity < threshold for r in here if r.answer
    ):
        published = "no rollout is different"
    extra: dict[str, object] = {}
    if metric in _OF_SIMILARITY:
        extra["threshold"] = threshold
    if reason or published:
        extra["reason" if reason else "zero_because"] = reason or published
    return Score.of(
        trace_id, unit.kind, unit.index, METHOD, metric, None if reason else value,
        level=level, n=sum(counts), extra=extra,
    )  # fmt: skip


def _placed(units: Sequence[Unit], rollouts: Iterable[Rollout]) -> list[list[GradedRollout]]:
    """Put each rollout where it was started, as the published figures see it."""
    at: dict[int, list[Unit]] = {}
    for u in units:
        at.setdefault(u.token_start, []).append(u)
    placed: list[list[GradedRollout]] = [[] for _ in units]
    for r in rollouts:
        for unit in at.get(r.start_token, ()):
            placed[unit.index].append(_seen_from(r, unit, units))
    return placed


def _seen_from(r: Rollout, unit: Unit, units: Sequence[Unit]) -> GradedRollout:
    answer = "" if r.outcome.status != "graded" else r.outcome.answer or ""
    left = left_unit(r, units)
    repeats = left is None or left > unit.index
    return GradedRollout(
        answer=answer,
        correct=None if r.outcome.reward is None else r.outcome.reward >= 1.0,
        resampled=unit.text.strip() if repeats else (r.own_sentence or "").strip(),
        similarity=1.0 if repeats else r.similarity,
    )


def _metric(name: str) -> Metric:
    if name.endswith("_kl"):
        return Metric(name, "nats", "the answers differ", lo=0)
    if "importance" not in name:
        return Metric(name, "share", lo=0, hi=1)
    helped = "lowered" if name.startswith("counterfactual") else "raised"
    return Metric(name, "share", f"the sentence {helped} accuracy", -1, 1)


@METHODS.register(METHOD, order=7)
class Published(Method):
    """The published recipe."""

    help = "the published Thought Anchors numbers, signs and quirks"
    metrics = (
        *(_metric(m) for m in (*METRICS, *FORCED_METRICS)),
        Metric(LINK_METRIC, "share", "the earlier sentence makes the later more likely", -1, 1),
    )
    compares = True

    def estimate(self, case: Reasoning, cohort: Cohort, rng: np.random.Generator) -> Findings:
        """Published figures of every sentence, and the published matrix."""
        o = cohort.options
        forced = case.forced if "force" in o.methods else None
        return Findings(
            scores(case.trace_id, case.units, case.rollouts, forced=forced, level=o.level),
            links(case.trace_id, case.units, case.rollouts, level=o.level),
        )
