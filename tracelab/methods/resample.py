"""Resampling importance: how much did writing this sentence change the expected reward?

`plan` asks for rollouts from every boundary of a trace; `estimate` turns graded rollouts into the
value curve V_0 ... V_N and the importance of each sentence, V_{i+1} - V_i (Thought Anchors,
arXiv:2506.19143, "resampling importance"; positive = the sentence raised the reward).

Pure: knows nothing of engines, files or databases.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tracelab.stats.intervals import newcombe, wilson
from tracelab.trace import TokenizedTrace, Unit
from tracelab.work import ModelRef, Rollout, Sampling, Score, ScoreStatus, WorkItem

METHOD = "resample"
ESTIMATOR_VERSION = 1
"""Bumped whenever the same rollouts would give other numbers."""

MIN_ROLLOUTS = 4
"""Fewest graded rollouts a boundary needs before a number is reported about it."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A work item and the place in a trace that asked for it.

    Attributes:
        trace_id: The trace.
        boundary: The boundary, 0..N; boundary i is the place before unit i.
        start_token: Response tokens kept in the prefix.
        item: The request.
    """

    trace_id: str
    boundary: int
    start_token: int
    item: WorkItem


def boundary_tokens(units: Sequence[Unit]) -> list[int]:
    """Token position of each boundary 0..N, given N units."""
    return [*(u.token_start for u in units), units[-1].token_end] if units else []


def plan(
    tokens: TokenizedTrace,
    units: Sequence[Unit],
    *,
    model: ModelRef,
    sampling: Sampling,
    rollouts: int,
    seed: int,
) -> list[Planned]:
    """Ask for rollouts from every boundary of a trace.

    Args:
        tokens: The trace and its exact tokens.
        units: Its sentences, in order.
        model: The model that will continue it.
        sampling: How; the same parameters the trace was generated with.
        rollouts: Replicates a boundary.
        seed: The run's seed.

    Returns:
        N + 1 items, in the order of the text, so that consecutive requests share the longest
        prefixes an engine's cache can hold. Boundaries that fall on the same token give equal
        keys; the runtime runs them once.
    """
    return [
        Planned(
            trace_id=tokens.trace.trace_id,
            boundary=b,
            start_token=start,
            item=WorkItem(
                model=model,
                prefix_ids=tokens.prompt_ids + tokens.response_ids[:start],
                sampling=sampling,
                seed=seed,
                replicates=rollouts,
            ),
        )
        for b, start in enumerate(boundary_tokens(units))
    ]


def estimate(
    trace_id: str,
    units: Sequence[Unit],
    rollouts: Iterable[Rollout],
    *,
    level: float = 0.95,
    min_rollouts: int = MIN_ROLLOUTS,
) -> list[Score]:
    """Value curve and sentence importances of one trace.

    Every graded rollout counts at the place it was started from; an unanswered one has reward
    0; ungraded and failed ones are excluded and counted in `extra`. Rollouts of different
    boundaries are independent, so `V_b` has a Wilson interval and `V_{i+1} - V_i` Newcombe's.

    Args:
        trace_id: The trace.
        units: Its sentences, in order.
        rollouts: Its graded rollouts, any order.
        level: Nominal coverage of the intervals.
        min_rollouts: With fewer at a boundary its scores are `insufficient`.

    Returns:
        N + 1 scores `value` (unit kind `boundary`, in [0, 1]) and N scores `delta_value` (unit
        kind `sentence`, in [-1, 1]).
    """
    size = len(units) + 1
    at_token: dict[int, list[int]] = {}
    for b, token in enumerate(boundary_tokens(units)):
        at_token.setdefault(token, []).append(b)
    total, n = np.zeros(size), np.zeros(size, dtype=np.int64)
    unanswered, ungraded = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    for r in rollouts:
        # Boundaries on one token are one place, and the rollouts belong to each of them.
        here = at_token[r.start_token]
        if r.outcome.reward is None:
            ungraded[here] += 1
            continue
        total[here] += r.outcome.reward
        n[here] += 1
        unanswered[here] += r.outcome.status == "unanswered"

    enough = n >= max(min_rollouts, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = total / n
    v_lo, v_hi = wilson(total, n, level)
    d_lo, d_hi = newcombe(total[:-1], n[:-1], total[1:], n[1:], level)

    scores = [
        _score(
            trace_id, "boundary", b, "value", bool(enough[b]), value[b], v_lo[b], v_hi[b],
            level, int(n[b]), {"unanswered": int(unanswered[b]), "ungraded": int(ungraded[b])},
        )
        for b in range(size)
    ]  # fmt: skip
    for u in units:
        i = u.index
        splittable = u.token_end > u.token_start
        extra: dict[str, object] = {"n_before": int(n[i]), "n_after": int(n[i + 1])}
        if not splittable:
            # Its two boundaries are one token position, hence one set of rollouts: the
            # difference would be 0 by construction, which is not a measurement.
            extra["reason"] = "the sentence lies inside a token of its predecessor"
        scores.append(
            _score(
                trace_id, u.kind, i, "delta_value",
                bool(enough[i] and enough[i + 1]) and splittable,
                value[i + 1] - value[i], d_lo[i], d_hi[i], level, int(n[i] + n[i + 1]), extra,
            )
        )  # fmt: skip
    return scores


def _score(
    trace_id: str,
    kind: str,
    index: int,
    metric: str,
    ok: bool,
    value: float,
    lo: float,
    hi: float,
    level: float,
    n: int,
    extra: dict[str, object],
) -> Score:
    status: ScoreStatus = "ok" if ok else "insufficient"
    return Score(
        trace_id=trace_id,
        unit_kind=kind,  # type: ignore[arg-type]
        unit_index=index,
        method=METHOD,
        metric=metric,
        value=float(value) if ok else None,
        lo=float(lo) if ok else None,
        hi=float(hi) if ok else None,
        level=level,
        n=n,
        status=status,
        extra=extra,
    )
