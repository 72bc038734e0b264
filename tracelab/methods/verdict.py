"""From a run's re-executions to a verdict: which step, whose, how sure, and what would have helped.

Pure. Statuses: `nonreproducible` when the recorded actions, executed again, do not give the
recorded failure; `unidentifiable` when no action lowers the probability of success by more than
`delta` (the task could not be solved by this policy, whatever was done); `localized` when one
action holds `confidence` of the posterior; else `ambiguous`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tracelab.methods.step import Falls, Rerun, Tally, argmax_rescue

Status = Literal["localized", "ambiguous", "unidentifiable", "nonreproducible"]
Who = Literal["agent", "environment", "harness", "task", "unknown"]


@dataclass(frozen=True, slots=True)
class Control:
    """The recorded actions executed again, unchanged.

    Attributes:
        replays: How often.
        reproduced: How often every reply and the score were the recorded ones.
        failed: How often it could not be done.
        same_score: How often at least the score was.
        differs: The action whose reply differed first, most often; None if none did.
    """

    replays: int
    reproduced: int
    same_score: int
    differs: int | None = None
    failed: int = 0

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
class Verdict:
    """What an audit concludes about one run. Steps are indices of the episode.

    Attributes:
        trace_id: The run's trace.
        method: What concluded it.
        evidence: `executed`, `replayed` or `judged`.
        status: See the module.
        decisive_step: The step at which V falls most; None when none is named.
        agent: Who took it.
        tool: The tool it called, if any.
        who: Whom the failure belongs to.
        posterior: Probability of the decisive step.
        credible_set: Steps that hold the level of the posterior.
        runner_up: The second most probable step.
        correctable_step: Earliest step whose correction restores success.
        counterfactual: That correction.
        reason: One sentence.
        tokens: Tokens spent, prompt and generated.
        rollouts: Re-executions.
        extra: Anything else, JSON values.
    """

    trace_id: str
    method: str
    evidence: str
    status: Status
    decisive_step: int | None = None
    agent: str | None = None
    tool: str | None = None
    who: Who = "unknown"
    posterior: float | None = None
    credible_set: tuple[int, ...] = ()
    runner_up: int | None = None
    correctable_step: int | None = None
    counterfactual: str | None = None
    reason: str = ""
    tokens: int = 0
    rollouts: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)


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
    counts: Tally | None = None,
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
        "fall": [round(float(x[top]), 4) for x in (found.mean, found.lo, found.hi)],
        "argmax_rescue": None if rescue is None else where.steps[rescue],
        "coverage": round(counts.coverage, 4),
        "failed_reruns": counts.failed,
        "evidence": [dict(m) for m in evidence_messages],
    }
    graded = float(counts.left_n.sum())
    status: Status
    if graded == 0:
        status, reason = "unidentifiable", "no re-execution could be graded"
    elif found.none > 0.5:
        status = "unidentifiable"
        reason = "no step changes the chance of success: re-executed from anywhere it " + (
            "fails" if counts.total[0] <= 0.5 * counts.n[0] else "ends alike"
        )
    elif p >= confidence and bounds_agree:
        status, reason = "localized", "the chance of success falls at this step"
    else:
        status = "ambiguous"
        reason = (
            "several steps may have decided it"
            if bounds_agree
            else ("what the replay could not answer might name another step")
        )
    if status == "unidentifiable":
        return Verdict(
            trace_id, method, evidence, status, who="task" if graded else "unknown",
            reason=reason, tokens=tokens, rollouts=rollouts, extra=extra,
        )  # fmt: skip
    late = where.ended == "limit" and status == "ambiguous"
    if correction is not None:
        extra["correction"] = {
            "source": correction.source, "wins": correction.wins, "n": correction.n,
        }  # fmt: skip
    return Verdict(
        trace_id=trace_id,
        method=method,
        evidence=evidence,
        status=status,
        decisive_step=where.steps[top],
        agent=where.agents[top],
        tool=where.tools[top],
        who="harness" if late else "agent",
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


def _not_reproduced(
    trace_id: str, where: Place, control: Control, method: str, evidence: str, tokens: int,
    extra: dict[str, Any],
) -> Verdict:  # fmt: skip
    if control.replays == 0:
        reason = "the recorded run could not be executed again"
    elif control.differs is None:
        reason = "the same actions got the same replies and another score"
    else:
        reason = "the same actions got other replies"
        extra["differs_at"] = where.steps[control.differs]
    tool = None if control.differs is None else where.tools[control.differs]
    return Verdict(
        trace_id, method, evidence, "nonreproducible", tool=tool,
        who="environment" if control.replays else "unknown", reason=reason, tokens=tokens,
        extra=extra,
    )  # fmt: skip


def candidates(
    reruns: Sequence[Rerun], counts: Tally, found: Falls, value: np.ndarray, delta: float
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
