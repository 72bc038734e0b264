"""What a study concludes. Pure.

A `Score` is one number about one unit of one trace, a `Link` one about a pair of units, a `Verdict`
what an audit says of a run; `Findings` holds all that a study came to. `Score.of` and `Link.of` are
where scores are made: they own the rules of statuses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tracelab.core.seam import Reject, Row
from tracelab.core.unit import UnitKind

ScoreStatus = Literal["ok", "insufficient", "certified", "failed"]
Evidence = Literal["executed", "replayed", "scored", "judged"]
VerdictStatus = Literal["localized", "ambiguous", "unidentifiable", "nonreproducible"]
Who = Literal["agent", "environment", "harness", "task", "unknown"]


@dataclass(frozen=True, slots=True)
class Score:
    """One number about one unit of one trace.

    `value` is None unless `status` is `ok` or `certified` (which may have bounds alone): what could
    not be measured is never 0.

    Attributes:
        trace_id: The trace.
        unit_kind: The unit's kind, or `boundary` for the value curve (index 0..N).
        unit_index: Its index.
        method: `resample`, ...
        metric: `value`, `delta_value`, ...; the sign is documented by the method.
        value: Point estimate.
        lo: Lower end of the interval.
        hi: Upper end.
        level: Its nominal coverage.
        n: Observations behind it: graded rollouts or re-executions, probes that were scored; what
            failed or could not be graded does not count.
        status: See DESIGN 2.
        evidence: `executed`, `replayed`, `scored` or `judged`.
        target: What the score is about where a method has several targets, else empty.
        extra: Whatever else the method reports (JSON values).
    """

    trace_id: str
    unit_kind: UnitKind | Literal["boundary"]
    unit_index: int
    method: str
    metric: str
    value: float | None
    lo: float | None
    hi: float | None
    level: float
    n: int
    status: ScoreStatus
    evidence: str = "executed"
    target: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        trace_id: str,
        unit_kind: UnitKind | Literal["boundary"],
        unit_index: int,
        method: str,
        metric: str,
        value: float | None,
        *,
        level: float,
        n: int,
        interval: tuple[float, float] | None = None,
        certified: bool = False,
        failed: bool = False,
        least: int = 1,
        evidence: Evidence = "executed",
        target: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> Score:
        """Make one, with the status that its numbers deserve.

        A value that is None or not finite is `insufficient` (`failed` if the measurement itself
        failed) and has no numbers; an interval with an end that is not finite is left out. A value
        that rests on fewer than `least` observations is `insufficient` too: a prior is no
        measurement. What is `certified`, bounded without sampling, needs a value or an interval,
        and nothing observed.

        Args:
            trace_id: See `Score`, like all that is not described here.
            unit_kind: See `Score`.
            unit_index: See `Score`.
            method: See `Score`.
            metric: See `Score`.
            value: The estimate; None where there is none.
            level: See `Score`.
            n: See `Score`.
            interval: Its ends.
            certified: Whether the interval holds without sampling.
            failed: Whether the measurement itself failed.
            least: Fewest observations for a value; at least 1, as `Metric.least`.
            evidence: See `Score`.
            target: See `Score`.
            extra: See `Score`.
        """
        status, value, lo, hi = _status(value, interval, n >= max(least, 1), certified, failed)
        return cls(
            trace_id,
            unit_kind,
            unit_index,
            method,
            metric,
            value,
            lo,
            hi,
            level,
            n,
            status,
            evidence,
            target,
            {} if extra is None else extra,
        )


@dataclass(frozen=True, slots=True)
class Link:
    """The influence of one unit on a later one of the same trace.

    `value` is None unless `status` is `ok`: what could not be measured is never 0.

    Attributes:
        trace_id: The trace.
        unit_kind: Kind of both units.
        from_index: The unit that is changed.
        to_index: The later unit that is watched.
        method: `resample`, ...
        metric: `link`, ...; positive when the earlier unit makes the later one more likely.
        value: Point estimate.
        lo: Lower end of the interval.
        hi: Upper end.
        level: Its nominal coverage.
        n: Rollouts or probes behind it.
        status: See DESIGN 2.
        evidence: `executed`, `replayed`, `scored` or `judged`.
        extra: Whatever else the method reports (JSON values).
    """

    trace_id: str
    unit_kind: UnitKind
    from_index: int
    to_index: int
    method: str
    metric: str
    value: float | None
    lo: float | None
    hi: float | None
    level: float
    n: int
    status: ScoreStatus
    evidence: str = "executed"
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        trace_id: str,
        unit_kind: UnitKind,
        from_index: int,
        to_index: int,
        method: str,
        metric: str,
        value: float | None,
        *,
        level: float,
        n: int,
        interval: tuple[float, float] | None = None,
        certified: bool = False,
        failed: bool = False,
        evidence: Evidence = "executed",
        extra: Mapping[str, Any] | None = None,
    ) -> Link:
        """Make one, with the status that its numbers deserve.

        A value that is None or not finite is `insufficient` (`failed` if the measurement itself
        failed) and has no numbers; an interval with an end that is not finite is left out. A value
        that rests on nothing observed (`n` = 0) is `insufficient` too. What is `certified`, bounded
        without sampling, needs a value or an interval, and nothing observed.
        """
        status, value, lo, hi = _status(value, interval, n > 0, certified, failed)
        return cls(
            trace_id,
            unit_kind,
            from_index,
            to_index,
            method,
            metric,
            value,
            lo,
            hi,
            level,
            n,
            status,
            evidence,
            {} if extra is None else extra,
        )


def _status(
    value: float | None,
    interval: tuple[float, float] | None,
    observed: bool,
    certified: bool,
    failed: bool,
) -> tuple[ScoreStatus, float | None, float | None, float | None]:
    """Status, value and interval of a score or a link."""
    if failed:
        return "failed", None, None, None
    known = None if value is None or not math.isfinite(value) else float(value)
    ends = None if interval is None or not all(map(math.isfinite, interval)) else interval
    lo, hi = (None, None) if ends is None else (float(ends[0]), float(ends[1]))
    if certified and (known is not None or ends is not None):
        return "certified", known, lo, hi
    if known is None or not observed:
        return "insufficient", None, None, None
    return "ok", known, lo, hi


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
        recorded: Of a run that is `nonreproducible`: what the record has and did not come again.
        came_instead: What came instead of it, or why nothing could be executed.
        extra: Anything else, JSON values.
    """

    trace_id: str
    method: str
    evidence: str
    status: VerdictStatus
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
    recorded: str | None = None
    came_instead: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metric:
    """What a method reports, declared beside it: docs, checks and the report read this.

    Attributes:
        name: As in `Score.metric`.
        unit: `reward`, `nats`, `probability`, `share`, `count`, ...
        sign: What a positive value says, in one clause; empty where a metric has no sign.
        lo: Least possible value; None for none.
        hi: Greatest possible value; None for none.
        least: Fewest observations behind a value that is `ok`; with fewer it is `insufficient`.
        method: The `Score.method` that this is declared of; empty for every one of the study.
    """

    name: str
    unit: str
    sign: str = ""
    lo: float | None = None
    hi: float | None = None
    least: int = 1
    method: str = ""


@dataclass(slots=True)
class Findings:
    """All that a study came to.

    Attributes:
        scores: Numbers about units.
        links: Numbers about pairs of units.
        verdicts: Conclusions of audits.
        rows: Rows of the study's own tables.
        rejects: Cases that were loaded, and could not be studied.
        exports: What can be written to files besides, as objects of the study.
        attempted: What was tried, for the share of failures: rollouts, probes, re-executions.
        failed: How much of that failed.
        ungraded: How much more was had, and could not be graded: its outcome is unknown.
        truncated: How much more was cut at the limit of tokens before it came to an answer.
        unanswered: How much more came to an end without an answer. No error; but where nothing
            else came, nothing was graded.
    """

    scores: list[Score] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    exports: list[Any] = field(default_factory=list)
    attempted: int = 0
    failed: int = 0
    ungraded: int = 0
    truncated: int = 0
    unanswered: int = 0

    @property
    def graded(self) -> int:
        """Of what was attempted, what came to an answer."""
        lost = self.failed + self.ungraded + self.truncated + self.unanswered
        return max(self.attempted - lost, 0)

    def add(self, other: Findings) -> None:
        """Take what another part of the study found."""
        self.scores += other.scores
        self.links += other.links
        self.verdicts += other.verdicts
        self.rows += other.rows
        self.rejects += other.rejects
        self.exports += other.exports
        self.attempted += other.attempted
        self.failed += other.failed
        self.ungraded += other.ungraded
        self.truncated += other.truncated
        self.unanswered += other.unanswered
