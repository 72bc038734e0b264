"""Which step of a failed run decided it: value by re-execution, and the posterior of the fall.

V_t is the probability of success when the recorded run is re-executed from before action t to the
end. A run that failed ends at V_N = 0; the decisive step is the one at which V falls most, by more
than `delta` (the change point of V: *commitment*). Resampling before it re-rolls the mistake, so
"the step whose resampling rescues most" names steps that did nothing wrong; it is reported for
comparison only (`argmax_rescue`).

As for sentences (`methods.resample`), a re-execution that repeats the recorded actions and gets the
recorded replies is a sample of every boundary it passes. With p_t the probability of that,

    V_t = p_t V_{t+1} + (1 - p_t) U_t,

and each re-execution counts once, in the step in which it leaves the record (`stats.value_curve`).
Which fall is the largest is asked of whole curves drawn together (`stats.joint_curve`): several
steps may have lowered V, and how V moves in a run is not taken from other runs. That it is larger
than another is held to a comparison that no prior of few falls decides (`stats.rivals`).

Pure: knows no engine and no environment. Signs: a fall is positive when the step lowered V.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tracelab.core.finding import Evidence, Score
from tracelab.stats.intervals import Floats, wilson
from tracelab.stats.joint_curve import JointCurve
from tracelab.stats.rivals import outdoes
from tracelab.stats.value_curve import CurveData, Posterior, informed, keep_nodes
from tracelab.studies.audit.options import MIN_RERUNS
from tracelab.studies.audit.rerun import Rerun

METHOD = "re-execute"
POOLED = "re-execute-pooled"
_END = 50.0
"""Weight of the recorded end where no control could tell whether it comes again."""
_ALONE = 1.25
"""How many times as large as any other fall one must be to dominate."""
_ROUNDING = 1e-9
_RIVALS = 0.98
"""Probability with which it must be larger than each other fall by itself."""
_RIVALS_WANTED = 0.99  # and up to which re-executions are added: no stop at the first crossing
_OTHER = 0.5
"""Probability of another fall above `delta` from which on no step decided the failure alone."""

Ints = NDArray[np.int64]
Ends: TypeAlias = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class RerunTally:
    """Re-executions of one run, counted. Arrays over boundaries [N + 1].

    Attributes:
        total: Sum of rewards of those that are samples of V_b.
        n: How many.
        left_total: Sum of rewards of those that left in action i; at N, of those that never did.
        left_n: How many.
        keep: p_i [N]: exact where known, else the share that repeated action i (0 without any).
        exact: Whether p_i is known exactly, [N].
        censored: Re-executions without an outcome because the record had no answer.
        failed: Those without one for any other reason.
        end: The recorded score.
        controls: Sum of the scores of controls that repeated everything, and how many could be
            scored: what is known of V_N, since a score that is a coin failed once by selection.
    """

    total: Floats
    n: Floats
    left_total: Floats
    left_n: Floats
    keep: Floats
    exact: NDArray[np.bool_]
    censored: int
    failed: int
    end: float
    controls: tuple[float, int] = (0.0, 0)

    @property
    def coverage(self) -> float:
        """Share of the re-executions that a replay could follow to the end; 1 without any."""
        known = float(self.left_n.sum())
        return known / (known + self.censored) if known + self.censored else 1.0

    def curve(self) -> CurveData:
        """What the value curve is fitted to; without controls the recorded end counts as known."""
        total, n = self.left_total.copy(), self.left_n.copy()
        won, seen = self.controls if self.controls[1] else (_END * self.end, _END)
        total[-1] += won
        n[-1] += seen
        passed = np.maximum(self.n[:-1] - self.left_n[:-1], 0)
        nodes = keep_nodes(passed, self.n[:-1])
        return CurveData(total, n, np.where(self.exact[:, None], self.keep[:, None], nodes))


def tally(
    size: int,
    reruns: Iterable[Rerun],
    *,
    end: float,
    keep: Sequence[float] | None = None,
    censored_as: float | None = None,
    controls: Sequence[float] = (),
) -> RerunTally:
    """Count re-executions by where they start and where they leave the record.

    Args:
        size: Actions of the run, N.
        reruns: Its re-executions; forced ones are left out.
        end: The recorded score.
        keep: P(the model repeats exactly action i, and the environment its reply), [N], where
            known; NaN where not.
        censored_as: Reward that censored ones are given (for bounds); None leaves them out.
        controls: Scores of the recorded actions and replies, executed again.
    """
    total, n = np.zeros(size + 1), np.zeros(size + 1)
    left_total, left_n = np.zeros(size + 1), np.zeros(size + 1)
    censored = failed = 0
    for r in reruns:
        if r.forced:
            continue
        reward = r.reward
        if r.censored:
            censored += 1
            reward = censored_as
        elif reward is None:
            failed += 1
        if reward is None:
            continue
        total[r.start : r.left + 1] += reward
        n[r.start : r.left + 1] += 1
        left_total[r.left] += reward
        left_n[r.left] += 1
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(n[:-1] > 0, 1 - left_n[:-1] / n[:-1], 0.0)
    known = np.full(size, np.nan) if keep is None else np.asarray(keep, dtype=np.float64)
    p = np.where(np.isnan(known), share, known)
    return RerunTally(
        total, n, left_total, left_n, np.clip(p, 0, 1), ~np.isnan(known), censored, failed, end,
        (float(sum(controls)), len(controls)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Falls:
    """Posterior of where the one largest fall of V above a threshold is.

    Attributes:
        prob: P(it is at action i), [N]; what is missing to 1 is `none`.
        none: P(no action lowers V by more than the threshold).
        mean: Posterior mean of the fall V_i - V_{i+1}, [N]; positive when the action lowered V.
        lo: Lower end of its equal-tailed credible interval, [N].
        hi: Upper end, [N].
        level: Coverage of [lo, hi].
        each: P(the action lowers V by more than the threshold), [N]; several may.
        dominant: P(the most probable one falls by more than the threshold, and clearly more than
            every other).
        outdone: P(the most probable one falls more than another, by the other, if V changes at
            these two only), [N]; 1 at itself. 0 where it does not dominate more likely than not.
    """

    prob: Floats
    none: float
    mean: Floats
    lo: Floats
    hi: Floats
    level: float
    each: Floats = field(default_factory=lambda: np.zeros(0))
    dominant: float = 1.0
    outdone: Floats = field(default_factory=lambda: np.ones(0))

    @property
    def order(self) -> Ints:
        """Actions, the most probable first; ties by position."""
        return np.argsort(-self.prob, kind="stable")

    def credible_set(self, level: float) -> tuple[int, ...]:
        """Fewest actions that hold `level` of the posterior, given that there is a fall."""
        mass = self.prob[self.order]
        if not len(mass) or mass.sum() <= 0:
            return ()
        count = int(np.searchsorted(np.cumsum(mass) / mass.sum(), level - 1e-9)) + 1
        return tuple(sorted(int(i) for i in self.order[:count]))

    def alone(self, confidence: float) -> bool:
        """Whether one fall dominates, and no other is likelier than not to exceed the threshold."""
        top = int(self.order[0])
        return (
            float(self.prob[top]) >= confidence
            and self.dominant >= confidence
            and float(self.outdone.min(initial=1.0)) >= _RIVALS
            and float(np.delete(self.each, top).max(initial=0.0)) <= _OTHER
        )


def largest_falls(curves: Floats, delta: float) -> tuple[Floats, float, Floats, float]:
    """Which fall is the largest, over whole curves.

    Args:
        curves: Draws of V_0 ... V_N, [draws, N + 1].
        delta: Least fall that counts.

    Returns:
        `prob`, `none`, `each` and `dominant` of `Falls`.
    """
    fall = curves[:, :-1] - curves[:, 1:]
    counts = fall > delta + _ROUNDING
    some = counts.any(axis=1)
    prob = np.bincount(fall[some].argmax(axis=1), minlength=fall.shape[1]) / len(fall)
    top = int(np.argmax(prob))
    other = np.delete(fall, top, axis=1).max(axis=1, initial=0.0)
    dominant = counts[:, top] & (fall[:, top] >= _ALONE * other - _ROUNDING)
    return prob, float(1 - some.mean()), counts.mean(axis=0), float(dominant.mean())


def falls(curve: CurveData, fitted: Posterior, kinds: Floats, delta: float, level: float) -> Falls:
    """Where V falls most, by more than `delta`; a step that raised V is not to blame.

    Args:
        curve: What was seen.
        fitted: The value curve, for sizes and their intervals.
        kinds: Shares of the ways in which values move (`joint_curve.learn`).
        delta: Least fall that counts.
        level: Coverage of the intervals of the falls.
    """
    prob, none, each, dominant = largest_falls(JointCurve(curve).draw(kinds), delta)
    mean, lo, hi = fitted.importances(level)
    # Where it does not dominate the rest is not asked.
    top = int(np.argmax(prob)) if len(prob) else 0
    outdone = outdoes(curve, top) if dominant > 0.5 else np.zeros(len(prob))
    return Falls(prob, none, -mean, -hi, -lo, level, each, dominant, outdone)


def measured(counts: RerunTally) -> NDArray[np.bool_]:
    """Whether re-executions say anything of each action, [N].

    They do with `MIN_RERUNS` of them, before it or after it, that could be graded, some before it,
    and some that inform what comes after it, which at the end is the record itself.
    """
    behind = informed(counts.n, counts.left_n, counts.keep)
    after = behind[1:] >= 1
    after[-1:] = True
    here = counts.n[:-1]
    found: NDArray[np.bool_] = (here + counts.n[1:] >= MIN_RERUNS) & (here > 0) & after
    return found


def argmax_rescue(counts: RerunTally) -> int | None:
    """The action whose resampling succeeds most often, the earliest of several; for comparison."""
    if not counts.n[:-1].any():
        return None
    value = np.where(counts.n > 0, counts.total / np.maximum(counts.n, 1), -1.0)[:-1]
    return int(np.argmax(value))


def first_round(size: int, initial: int) -> Ints:
    """Re-executions to begin with: `initial` from before every action, [N]."""
    return np.full(size, initial, dtype=np.int64)


def next_round(found: Falls, planned: Ints, *, batch: int, cap: int, confidence: float) -> Ints:
    """More re-executions where the decisive step is not sure yet, [N]; all zero when it is.

    They start before the actions that may be decisive and after them, since a fall is a difference
    of both; and where it is open whether there is a fall at all, before the one most likely. Once
    one dominates they start between it and those that might yet be larger, twice `cap` at most.

    Args:
        found: What is known.
        planned: Re-executions asked so far from before each action, [N].
        batch: How many more from each place.
        cap: Most from one place.
        confidence: Posterior at which an answer counts as sure.
    """
    more = np.zeros_like(planned)
    if found.none >= confidence or not len(planned):
        return more
    top = int(found.order[0])
    if found.dominant >= confidence and found.prob[top] >= confidence:
        cap *= 2
        rivals = [int(j) for j in np.flatnonzero(found.outdone < _RIVALS_WANTED)]
        where = {b for j in rivals for b in range(min(top, j) + 1, max(top, j) + 1)}
    else:
        likely = [i for i in found.credible_set(0.98) if found.prob[i] >= 0.01]
        where = {b for i in likely for b in (i, i + 1)}
    for b in where:
        if b < len(planned):
            more[b] = max(0, min(batch, cap - int(planned[b])))
    return more


def scores(
    trace_id: str,
    steps: Sequence[int],
    counts: RerunTally,
    fitted: Posterior,
    found: Falls,
    *,
    evidence: Evidence,
) -> list[Score]:
    """Scores of one run: `value` raw and pooled, `delta_value` and `p_decisive` of each action.

    Args:
        trace_id: The run's trace.
        steps: Index of each action among the steps of the episode [N].
        counts: Its re-executions.
        fitted: Its value curve.
        found: Where V falls; its level is that of all intervals.
        evidence: `executed` or `replayed`.

    Returns:
        `value` of unit kind `boundary`, in [0, 1]; `delta_value` = V_{i+1} - V_i, negative when
        the action lowered V; `p_decisive`, the posterior that it is the decisive one. What
        re-executions say nothing of (`measured`) is `insufficient`.
    """
    out = []
    level = found.level
    raw_lo, raw_hi = wilson(counts.total, np.maximum(counts.n, 1), level)
    value, lo, hi = fitted.values(level)
    behind, known = informed(counts.n, counts.left_n, counts.keep), measured(counts)
    for i, step in enumerate(steps):
        n = int(counts.n[i])
        out.append(
            Score.of(
                trace_id, "boundary", step, METHOD, "value",
                float(counts.total[i] / n) if n else None,
                level=level, n=n, least=MIN_RERUNS, evidence=evidence,
                interval=(float(raw_lo[i]), float(raw_hi[i])),
            )
        )  # fmt: skip
        both = n + int(counts.n[i + 1])
        figures: tuple[tuple[Literal["boundary", "step"], str, float, int, Ends], ...] = (
            ("boundary", "value", value[i], int(behind[i]), (lo[i], hi[i])),
            ("step", "delta_value", -found.mean[i], both, (-found.hi[i], -found.lo[i])),
            ("step", "p_decisive", found.prob[i], both, None),
        )
        for kind, metric, center, count, ends in figures:
            out.append(
                Score.of(
                    trace_id, kind, step, POOLED, metric,
                    float(center) if kind == "boundary" or known[i] else None,
                    level=level, n=count, least=MIN_RERUNS, evidence=evidence,
                    interval=None
                    if ends is None
                    else (float(min(ends[0], center)), float(max(ends[1], center))),
                    extra={"keep": round(float(counts.keep[i]), 6)} if kind == "step" else {},
                )
            )  # fmt: skip
    return out
