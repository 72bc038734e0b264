"""Resampling importance: how much did writing this sentence change the expected reward?

`plan` asks for rollouts from the boundaries of a trace; `tally` counts graded rollouts by where
they leave the trace; `estimate` turns counts into the value curve V_0 ... V_N and the importance of
each sentence, V_{i+1} - V_i (Thought Anchors, arXiv:2506.19143, "resampling importance";
positive = the sentence raised the reward).

**Exact-prefix recycling.** A rollout that starts at token s and first differs from the trace at
token d is an exact sample from every boundary whose token t has s <= t <= d. V_b is the mean of
all of them. Neighbouring boundaries then share rollouts, so the importance is computed from what
they do not share: with p_i the probability of writing exactly unit i, and U_i the mean reward of
the rollouts that left the trace in unit i,

    V_{i+1} - V_i = (1 - p_i)(V_{i+1} - U_i),

whose two arms are disjoint, hence independent, sets of rollouts.

Pure: knows nothing of engines, files or databases.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tracelab.core.finding import Score, ScoreStatus
from tracelab.core.item import Item, ModelRef, Rollout, Sampling
from tracelab.core.trace import TokenizedTrace
from tracelab.core.unit import Unit
from tracelab.stats.intervals import (
    Floats,
    difference,
    jeffreys,
    scaled_difference,
    two_sample_p,
    wilson,
)
from tracelab.stats.value_curve import CurveData, keep_nodes

METHOD = "resample"
ESTIMATOR_VERSION = 3
"""Bumped whenever the same rollouts would give other numbers."""

MIN_ROLLOUTS = 4
"""Fewest graded rollouts an arm needs before a number is reported about it."""

Ints = NDArray[np.int64]


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
    item: Item


def boundary_tokens(units: Sequence[Unit]) -> list[int]:
    """Token position of each boundary 0..N, given N units."""
    return [*(u.token_start for u in units), units[-1].token_end] if units else []


def longest_response(tokens: TokenizedTrace, sampling: Sampling) -> int:
    """Most tokens a whole response may have, prefix kept from the trace included.

    Rollouts from all boundaries are cut at the same length of the whole response, as the trace
    was: only then is a rollout from an early boundary a sample from a later one. A trace that is
    longer than `sampling.max_tokens` was made with another limit, and gets that much more.
    """
    own = len(tokens.response_ids)
    return sampling.max_tokens + (own if own >= sampling.max_tokens else 0)


def plan(
    tokens: TokenizedTrace,
    units: Sequence[Unit],
    *,
    model: ModelRef,
    sampling: Sampling,
    rollouts: int | Sequence[int],
    seed: int,
) -> list[Planned]:
    """Ask for rollouts from the boundaries of a trace.

    Args:
        tokens: The trace and its exact tokens.
        units: Its sentences, in order.
        model: The model that will continue it.
        sampling: How; the same parameters the trace was generated with.
        rollouts: Replicates a boundary, or one number for each of the N + 1 boundaries.
        seed: The run's seed.

    Returns:
        An item for every boundary with at least one replicate, in the order of the text, so that
        consecutive requests share the longest prefixes an engine's cache can hold. Boundaries
        that fall on the same token give equal keys; the runtime runs them once.
    """
    starts = boundary_tokens(units)
    wanted = [rollouts] * len(starts) if isinstance(rollouts, int) else list(rollouts)
    longest = longest_response(tokens, sampling)
    return [
        Planned(
            trace_id=tokens.trace.trace_id,
            boundary=b,
            start_token=start,
            item=Item(
                model=model,
                prefix_ids=tokens.prompt_ids + tokens.response_ids[:start],
                sampling=replace(sampling, max_tokens=max(1, longest - start)),
                seed=seed,
                replicates=n,
            ),
        )
        for b, (start, n) in enumerate(zip(starts, wanted, strict=True))
        if n > 0
    ]


@dataclass(frozen=True, slots=True)
class Tally:
    """Graded rollouts of one trace, counted. Arrays over boundaries [N + 1] or units [N].

    Attributes:
        total: Sum of rewards of the rollouts that are samples from a boundary.
        n: How many.
        unanswered: How many of them did not answer (reward 0).
        ungraded: How many more failed or could not be graded: excluded.
        left_total: Sum of rewards of those that left in unit i; at N: of those that never left.
        left_n: How many.
        keep: p_i, [N]: exact where known, else the share of rollouts at i that wrote unit i; NaN
            where there is neither.
        exact: Whether p_i is exact, [N].
        whole: Whether all rewards are 0 or 1.
    """

    total: Floats
    n: Ints
    unanswered: Ints
    ungraded: Ints
    left_total: Floats
    left_n: Ints
    keep: Floats
    exact: NDArray[np.bool_]
    whole: bool = True

    def curve(self) -> CurveData:
        """What the pooled value curve is fitted to."""
        n = self.n[:-1]
        nodes = keep_nodes(n - self.left_n[:-1], n)
        nodes[self.exact] = self.keep[self.exact, None]
        return CurveData(self.left_total, self.left_n.astype(np.float64), nodes)


def tally(
    units: Sequence[Unit],
    rollouts: Iterable[Rollout],
    keep: Sequence[float] | None = None,
    *,
    recycle: bool = True,
) -> Tally:
    """Count rollouts by where they start and where they leave the trace.

    Args:
        units: The trace's sentences, in order, N of them.
        rollouts: Its graded rollouts, any order.
        keep: P(the model writes exactly unit i), [N], where known (`certify.keep_probabilities`).
        recycle: Count a rollout at every boundary it is a sample from; otherwise only where it
            was started (for ablations: wasteful, and never more accurate).
    """
    tokens = np.asarray(boundary_tokens(units), dtype=np.int64)
    size = len(tokens)
    rows = [
        (
            r.start_token,
            r.diverge_token,
            np.nan if r.outcome.reward is None else r.outcome.reward,
            r.outcome.status == "unanswered",
        )
        for r in rollouts
    ]
    table = np.asarray(rows, dtype=np.float64).reshape(len(rows), 4)
    first = np.searchsorted(tokens, table[:, 0], side="left")
    # The last boundary on the token where it leaves: units without tokens of their own cannot be
    # left, and a rollout that never leaves arrives at N.
    last = np.searchsorted(tokens, table[:, 1], side="right") - 1
    if not recycle:
        last = np.searchsorted(tokens, table[:, 0], side="right") - 1
    graded = ~np.isnan(table[:, 2])
    reward = np.where(graded, table[:, 2], 0.0)

    def spread(weight: Floats) -> Floats:
        """Sum of weights over the rollouts with first <= b <= last, for each b."""
        change = np.bincount(first, weight, size + 1) - np.bincount(last + 1, weight, size + 1)
        summed: Floats = np.round(np.cumsum(change)[:size], 9).astype(np.float64)
        return summed

    n = spread(graded.astype(np.float64))
    left_n = np.bincount(last, graded, size)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimated = np.where(n[:-1] > 0, 1 - left_n[:-1] / n[:-1], np.nan)
    inside = np.diff(tokens) > 0
    exact = ~inside
    p = np.where(inside, estimated, 1.0)
    if keep is not None:
        known = ~np.isnan(np.asarray(keep, dtype=np.float64))
        p, exact = np.where(known & inside, keep, p), exact | known
    if not recycle:
        p, exact = np.where(inside, 0.0, 1.0), np.ones(size - 1, dtype=np.bool_)
    return Tally(
        total=spread(reward),
        n=n.astype(np.int64),
        unanswered=spread(table[:, 3] * graded).astype(np.int64),
        ungraded=spread((~graded).astype(np.float64)).astype(np.int64),
        left_total=np.bincount(last, reward, size).astype(np.float64),
        left_n=left_n.astype(np.int64),
        keep=p,
        exact=exact,
        whole=bool(np.isin(reward, (0.0, 1.0)).all()),
    )


def estimate(
    trace_id: str,
    units: Sequence[Unit],
    counts: Tally,
    *,
    level: float = 0.95,
    min_rollouts: int = MIN_ROLLOUTS,
    certify_below: float = 0.0,
) -> list[Score]:
    """Value curve and sentence importances of one trace, each by itself.

    An unanswered rollout has reward 0; ungraded and failed ones are excluded and counted in
    `extra`. V_b has a Wilson interval; V_{i+1} - V_i that of (1 - p_i)(V_{i+1} - U_i), with
    `stats.intervals.difference` for that of the independent arms.

    Args:
        trace_id: The trace.
        units: Its sentences, in order.
        counts: From `tally`.
        level: Nominal coverage of the intervals.
        min_rollouts: With fewer at a boundary, its scores and its sentences' are `insufficient`;
            so are sentences with an exact p_i and no rollout that wrote something else.
        certify_below: A sentence with 1 - p_i below this and no number is `certified`: no value,
            but bounds that hold whatever its alternatives are worth. 0 certifies none.

    Returns:
        N + 1 scores `value` (unit kind `boundary`, in [0, 1]) and N scores `delta_value` (unit
        kind `sentence`, in [-1, 1]).
    """
    c = counts
    with np.errstate(divide="ignore", invalid="ignore"):
        value, other = c.total / c.n, c.left_total / c.left_n
    v_lo, v_hi = wilson(c.total, c.n, level)
    enough = c.n >= max(min_rollouts, 1)
    scores = [
        _score(
            trace_id, "boundary", b, "value", "ok" if enough[b] else "insufficient", value[b],
            v_lo[b], v_hi[b], level, int(c.n[b]),
            {"unanswered": int(c.unanswered[b]), "ungraded": int(c.ungraded[b])},
        )
        for b in range(len(c.n))
    ]  # fmt: skip

    arms = (c.left_total[:-1], c.left_n[:-1], c.total[1:], c.n[1:])
    d_lo, d_hi = difference(*arms, level)
    share = 1 - c.keep
    never = (c.left_n[:-1] == 0) & enough[:-1] & ~c.exact
    lo, hi = scaled_difference(
        value[1:] - other[:-1], d_lo, d_hi, c.left_n[:-1], np.where(c.exact, 0, c.n[:-1]), share,
        level,
    )  # fmt: skip
    p = two_sample_p(*arms, whole=c.whole)
    # Always written so far: its share is 0 of n, and its alternatives may be worth anything.
    most = jeffreys(np.zeros(len(share)), c.n[:-1], level)[1]
    lo, hi = np.where(never, most * (v_lo[1:] - 1), lo), np.where(never, most * v_hi[1:], hi)
    change = share * (value[1:] - other[:-1])
    measured = enough[:-1] & enough[1:] & (c.left_n[:-1] > 0)
    for u in units:
        i = u.index
        extra: dict[str, object] = {"n_replaced": int(c.left_n[i]), "n_after": int(c.n[i + 1])}
        status: ScoreStatus = "ok" if measured[i] else "insufficient"
        ends = lo[i], hi[i]
        if u.token_end == u.token_start:
            # Its two boundaries are one token position, hence one set of rollouts: the
            # difference would be 0 by construction, which is not a measurement.
            extra["reason"] = "the sentence lies inside a token of its predecessor"
            status = "insufficient"
        else:
            extra["keep"] = None if np.isnan(c.keep[i]) else round(float(c.keep[i]), 6)
            if status == "ok":
                extra["p"] = float(p[i])
            elif c.exact[i] and share[i] < certify_below:
                status = "certified"
                after = (v_lo[i + 1], v_hi[i + 1]) if c.n[i + 1] else (0.0, 1.0)
                ends = share[i] * (after[0] - 1), share[i] * after[1]
            elif never[i]:
                extra["reason"] = "no rollout wrote anything else"
                if enough[i + 1] and most[i] < certify_below:
                    status = "certified"
        scores.append(
            _score(
                trace_id, u.kind, i, "delta_value", status, change[i],
                *ends, level, int(c.left_n[i] + c.n[i + 1]), extra,
            )
        )  # fmt: skip
    return scores


def _score(
    trace_id: str,
    kind: str,
    index: int,
    metric: str,
    status: ScoreStatus,
    value: float,
    lo: float,
    hi: float,
    level: float,
    n: int,
    extra: dict[str, object],
) -> Score:
    bounded = status in ("ok", "certified")
    return Score(
        trace_id=trace_id,
        unit_kind=kind,  # type: ignore[arg-type]
        unit_index=index,
        method=METHOD,
        metric=metric,
        value=float(value) if status == "ok" else None,
        lo=float(lo) if bounded else None,
        hi=float(hi) if bounded else None,
        level=level,
        n=n,
        status=status,
        extra=extra,
    )
