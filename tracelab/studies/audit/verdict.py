"""From a run's re-executions to a verdict: which step, whose, how sure, and what would have helped.

Pure. Statuses: `nonreproducible` when the recorded actions, executed again, do not give the
recorded failure; `unidentifiable` when no action lowers the probability of success by more than
`delta` (the task could not be solved by this policy, whatever was done); `localized` when one
action dominates (`Falls.alone`): it holds `confidence` of the joint posterior, clearly above every
other fall, and no other is likelier than not to exceed `delta` too; and every control got the
recorded score. Else `ambiguous`: the credible set says which.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracelab.core.finding import Verdict, VerdictStatus, Who
from tracelab.studies.audit.rerun import Replay, Rerun
from tracelab.studies.audit.step import Falls, RerunTally, argmax_rescue, measured

_LOW = 0.2
"""A chance of success up to which a task counts as one that this policy cannot solve."""
_SHOWN = 70
"""Characters of a reply that a reason quotes; the verdict has more."""


@dataclass(frozen=True, slots=True)
class Control:
    """The recorded actions executed again, unchanged.

    Attributes:
        replays: How often.
        reproduced: How often every reply and the score were the recorded ones.
        failed: How often it could not be done.
        same_score: How often at least the score was.
        differs: The action whose reply differed first, most often; None if none did.
        ended: Why the last of them was over, as the environment says.
        error: Why the first that could not be done could not; empty if all could.
        recorded: What the record has where one of those that differ does.
        came: What came instead of that.
        scores: What those scored that repeated everything.
    """

    replays: int
    reproduced: int
    same_score: int
    differs: int | None = None
    failed: int = 0
    ended: str = ""
    error: str = ""
    recorded: str = ""
    came: str = ""
    scores: tuple[float, ...] = ()

    @classmethod
    def of(cls, replays: Sequence[Replay]) -> Control:
        """Count replays."""
        done = [r for r in replays if not r.error]
        broken = [r.error for r in replays if r.error]
        differs = [r.differs for r in done if r.differs is not None]
        most = max(set(differs), key=lambda t: (differs.count(t), -t)) if differs else None
        other = [r for r in done if r.differs == most and not (r.same_score and most is None)]
        return cls(
            replays=len(done),
            reproduced=sum(r.same_score and r.differs is None for r in done),
            same_score=sum(r.same_score for r in done),
            differs=most,
            failed=len(broken),
            ended=done[-1].ended if done else "",
            error=broken[0] if broken else "",
            recorded=other[0].recorded if other else "",
            came=other[0].came if other else "",
            scores=tuple(r.score for r in done if r.differs is None and r.score is not None),
        )

    @property
    def reproducible(self) -> bool:
        """Whether at least half of the replays that could be done gave the recorded run."""
        return self.replays > 0 and 2 * self.reproduced >= self.replays

    def reply_rate(self, size: int) -> float:
        """P(one reply is the recorded one), if all `size` are alike."""
        if self.replays == 0 or self.reproduced == self.replays:
            return 1.0
        return float(((self.reproduced + 0.5) / (self.replays + 1)) ** (1 / max(size, 1)))


@dataclass(frozen=True, slots=True)
class Correction:
    """An action supplied instead of the recorded one, and what came of it.

    Attributes:
        action: Its index.
        text: What was supplied.
        source: `rollout` (the model wrote it itself) or `environment`.
        wins: Sum of the scores of its re-executions.
        n: How many.
    """

    action: int
    text: str
    source: str
    wins: float = 0.0
    n: int = 0

    def restores(self, theta: float, after: float, delta: float) -> bool:
        """Whether success is likely with it, and likelier than after the recorded action."""
        if self.n == 0:
            return False
        rate = (self.wins + 0.5) / (self.n + 1)
        return rate >= theta and rate - after >= delta


@dataclass(frozen=True, slots=True)
class Place:
    """What a verdict needs of a run: step, agent and tool of each action; how it ended."""

    steps: Sequence[int]
    agents: Sequence[str | None]
    tools: Sequence[str | None]
    ended: str = ""


def conclude(
    trace_id: str,
    where: Place,
    control: Control,
    counts: RerunTally | None = None,
    found: Falls | None = None,
    *,
    method: str,
    evidence: str,
    confidence: float,
    level: float = 0.9,
    bounds_agree: bool = True,
    correction: Correction | None = None,
    evidence_messages: Sequence[Mapping[str, Any]] = (),
    rollouts: int = 0,
    tokens: int = 0,
) -> Verdict:
    """Conclude an audit.

    Args:
        trace_id: The run's trace.
        where: Its actions.
        control: The no-intervention control.
        counts: Its re-executions; None when the control ended the audit.
        found: Where V falls.
        method: What is concluding.
        evidence: Level of evidence.
        confidence: Posterior above which a step is `localized`.
        level: Of the credible set.
        bounds_agree: Whether the answer would be the same, whatever censored re-executions
            would have scored.
        correction: The earliest one that restores success.
        evidence_messages: The messages that the most suspicious action depended on.
        rollouts: Re-executions made.
        tokens: Tokens spent.
    """
    extra: dict[str, Any] = {
        "control": {
            "replays": control.replays, "reproduced": control.reproduced,
            "same_score": control.same_score, "failed": control.failed,
        },
    }  # fmt: skip
    if not control.reproducible:
        return _not_reproduced(trace_id, where, control, method, evidence, tokens, extra)
    assert counts is not None and found is not None
    order, sets = found.order, found.credible_set(level)
    top = int(order[0])
    p = float(found.prob[top])
    rescue = argmax_rescue(counts)
    extra |= {
        "none": round(found.none, 6),
        "dominant": round(found.dominant, 4),
        "fall": [round(float(x[top]), 4) for x in (found.mean, found.lo, found.hi)],
        "falls": [_fall(found, where, i) for i in np.flatnonzero(found.each > 0.5)],
        "argmax_rescue": None if rescue is None else where.steps[rescue],
        "coverage": round(counts.coverage, 4),
        "failed_reruns": counts.failed,
        "evidence": [dict(m) for m in evidence_messages],
    }
    late = "limit" in (where.ended, control.ended)
    if counts.left_n.sum() == 0 or found.none > 0.5:
        who, reason = _no_step(counts, found, late)
        return Verdict(
            trace_id, method, evidence, "unidentifiable", who=who, reason=reason, tokens=tokens,
            rollouts=rollouts, extra=extra,
        )  # fmt: skip
    seen = bool(measured(counts)[top])
    agreed = control.same_score == control.replays
    sure = found.alone(confidence) and bounds_agree and seen and agreed
    status: VerdictStatus = "localized" if sure else "ambiguous"
    reason = _reason(where, found, top, counts.end, status, bounds_agree, seen)
    if correction is not None:
        reason += f"; corrected, {correction.wins:g} of {correction.n} succeed"
        extra["correction"] = {
            "source": correction.source, "wins": correction.wins, "n": correction.n,
        }  # fmt: skip
    if evidence_messages:
        cause = evidence_messages[0]
        said = " ".join(str(cause["text"]).split())[:80]
        reason += f'; because of a {cause["role"]} message: "{said}"'
    return Verdict(
        trace_id=trace_id,
        method=method,
        evidence=evidence,
        status=status,
        decisive_step=where.steps[top],
        agent=where.agents[top],
        tool=where.tools[top],
        who="harness" if late and status == "ambiguous" else "agent",
        posterior=min(p, 1.0),
        credible_set=tuple(where.steps[i] for i in sets),
        runner_up=where.steps[int(order[1])] if len(order) > 1 else None,
        correctable_step=None if correction is None else where.steps[correction.action],
        counterfactual=None if correction is None else correction.text,
        reason=reason,
        tokens=tokens,
        rollouts=rollouts,
        extra=extra,
    )


def _fall(found: Falls, where: Place, i: int) -> dict[str, Any]:
    figures = {"fall": found.mean, "lo": found.lo, "hi": found.hi, "p": found.each}
    return {"step": where.steps[i], **{k: round(float(x[i]), 4) for k, x in figures.items()}}


def _value(found: Falls, end: float, boundary: int) -> str:
    """Posterior mean of V before an action: what is lost from there on, and the end."""
    return f"{min(max(end + float(found.mean[boundary:].sum()), 0.0), 1.0):.2f}"


def _no_step(counts: RerunTally, found: Falls, late: bool) -> tuple[Who, str]:
    """Whose a failure is that no step decided, and why."""
    if counts.left_n.sum() == 0:
        return "unknown", "no re-execution could be graded"
    start = counts.total[0] / counts.n[0] if counts.n[0] else 0.0
    if start <= _LOW:
        return "task", "no step changes the chance of success: re-executed from anywhere it fails"
    said = "no single step decided it: the chance of success declines from "
    said += f"{_value(found, counts.end, 0)} to {counts.end:.2f} over many"
    return "harness" if late else "unknown", said + (", up to the limit of turns" if late else "")


def _reason(
    where: Place, found: Falls, top: int, end: float, status: VerdictStatus, bounds_agree: bool,
    seen: bool,
) -> str:  # fmt: skip
    falls = f"falls from {_value(found, end, top)} to {_value(found, end, top + 1)}"
    others = [where.steps[i] for i in np.flatnonzero(found.each > 0.5) if i != top]
    also = f", and also at step {', '.join(map(str, others))}" if others else ""
    if status == "localized":
        return f"the chance of success {falls} at this step"
    if not seen:
        return "too few re-executions around the most suspicious step could be graded"
    if not bounds_agree:
        return "what the replay could not answer might name another step"
    if others:
        return f"several steps lowered the chance of success: most at this one it {falls}{also}"
    return f"several steps may have decided it; most likely at this one it {falls}"


def _not_reproduced(
    trace_id: str, where: Place, control: Control, method: str, evidence: str, tokens: int,
    extra: dict[str, Any],
) -> Verdict:  # fmt: skip
    if control.replays == 0:
        reason = f"the recorded run could not be executed again: {control.error}"
    elif control.differs is None:
        reason = "the same actions got the same replies and another score"
    else:
        step = extra["differs_at"] = where.steps[control.differs]
        reason = f"the same actions got other replies, first at step {step}"
    if control.recorded or control.came:
        reason += f": recorded {_short(control.recorded)}; now {_short(control.came)}"
    tool = None if control.differs is None else where.tools[control.differs]
    return Verdict(
        trace_id, method, evidence, "nonreproducible", tool=tool,
        who="environment" if control.replays else "unknown", reason=reason, tokens=tokens,
        recorded=control.recorded or None, came_instead=control.came or control.error or None,
        extra=extra,
    )  # fmt: skip


def _short(said: str) -> str:
    words = " ".join(said.split())
    return json.dumps(words if len(words) <= _SHOWN else words[: _SHOWN - 3] + "...",
                      ensure_ascii=False)  # fmt: skip


def candidates(
    reruns: Sequence[Rerun], counts: RerunTally, found: Falls, value: np.ndarray, delta: float
) -> list[Correction]:
    """Actions of the model's own that did better than the recorded one, the earliest first.

    Args:
        reruns: Re-executions of the run.
        counts: The same, counted.
        found: Where V falls.
        value: Posterior mean of V_b [N + 1].
        delta: Least gain over what follows the recorded action.
    """
    wins: dict[int, Counter[str]] = defaultdict(Counter)
    n: dict[int, Counter[str]] = defaultdict(Counter)
    for r in reruns:
        if not r.forced and r.reward is not None and r.left < len(value) - 1:
            wins[r.left][r.action] += int(r.reward > 0.5)
            n[r.left][r.action] += 1
    out = []
    for t in sorted(wins):
        text, won = max(wins[t].items(), key=lambda x: (x[1], x[0]))
        if won >= 1 and won / n[t][text] - value[t + 1] >= delta and found.prob[t] >= 0.01:
            out.append(Correction(t, text, "rollout"))
    return out
