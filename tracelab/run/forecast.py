"""What a run would cost, without doing it: exact requests and prompt tokens, a range for the rest.

Writes nothing: no journal, no database, no engine. Prompt tokens are exact where the base traces
exist (a file of traces, or a run that already answered its questions).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from pipelines.thought_anchors import forced, rounds
from tracelab.core.errors import WarehouseError
from tracelab.core.item import Item, Observation
from tracelab.core.seam import Reject
from tracelab.engines.base import overlong
from tracelab.engines.http import BlockingPost
from tracelab.grading.grader import Grader
from tracelab.run.config import RunConfig
from tracelab.run.pool import split
from tracelab.run.record import continued, read_record
from tracelab.run.session import missing
from tracelab.run.wiring import wire
from tracelab.sources.base import tell_rejects
from tracelab.store.home import Home
from tracelab.store.journal import deduplicated, read_observations
from tracelab.studies.anchors import certify
from tracelab.studies.anchors.estimates import annotator
from tracelab.studies.anchors.inputs import (
    adopt_answers,
    base_items,
    certificates,
    gather,
    prepare,
)
from tracelab.studies.anchors.resample import Planned, boundary_tokens
from tracelab.studies.anchors.rounds import BATCH, Rounds
from tracelab.studies.anchors.subject import Nowhere, RolloutSink, Study
from tracelab.view.output import clean, print_table

SHORTEST, LONGEST = 0.5, 2.0
"""A rollout is taken to be between half and twice as long as what the trace wrote from there."""

_SLACK_TOKENS = 16

OVERRUN = 1.1
"""A budget is overrun by a last round whose rollouts are longer than those before: by this much."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage asks of the engine. A request is one prefix with some replicates.

    The stage `later rounds` of an adaptive run is what it may still ask for at most.
    """

    stage: str
    requests: int
    rollouts: int
    prompt_tokens: int
    generated_tokens_min: int
    generated_tokens_max: int


@dataclass(slots=True)
class Forecast:
    """What a run would cost.

    Attributes:
        run_id: The run.
        stages: Exact but for the generated tokens.
        base_traces_missing: Questions whose answers do not exist yet, so that their rollouts
            cannot be counted.
        rollouts_per_boundary: How many each of their boundaries will get.
        tokens_per_second: Rate of earlier runs of this model and engine here, if any.
        rejects: Inputs that cannot be studied.
        limit: Most generated tokens of all stages together, from the budget.
    """

    run_id: str
    rollouts_per_boundary: int
    stages: list[Stage] = field(default_factory=list)
    base_traces_missing: int = 0
    tokens_per_second: float | None = None
    rejects: list[Reject] = field(default_factory=list)
    limit: int | None = None

    @property
    def generated(self) -> tuple[int, int]:
        """Range of the generated tokens of all stages together."""
        low = sum(s.generated_tokens_min for s in self.stages)
        high = sum(s.generated_tokens_max for s in self.stages)
        return low, high if self.limit is None else max(low, min(high, self.limit))

    @property
    def seconds(self) -> tuple[float, float] | None:
        """Range of the time it takes, without the engine's start; None without a rate."""
        if self.tokens_per_second is None:
            return None
        low, high = self.generated
        return low / self.tokens_per_second, high / self.tokens_per_second

    def to_json(self) -> dict[str, Any]:
        """As an object for programs; `None` is unknown."""
        low, high = self.seconds or (None, None)
        return {
            "run_id": self.run_id,
            "stages": [{k: getattr(s, k) for k in Stage.__slots__} for s in self.stages],
            "generated_tokens_min": self.generated[0],
            "generated_tokens_max": self.generated[1],
            "base_traces_missing": self.base_traces_missing,
            "rollouts_per_boundary": self.rollouts_per_boundary,
            "tokens_per_second": self.tokens_per_second,
            "seconds_min": low,
            "seconds_max": high,
            "rejects": [{"file": r.file, "line": r.line, "reason": r.reason} for r in self.rejects],
        }


def forecast(
    config: RunConfig, home: Home, *, fresh: bool = False, retry_errors: bool = False
) -> Forecast:
    """Count what `tracelab run` would ask of the engine.

    Args:
        config: The run's config.
        home: Where its journal would be.
        fresh: As if the run had not begun.
        retry_errors: As if rollouts that failed had not been asked.

    Raises:
        ConfigError: The run would be refused.
        ImportFormatError: Nothing could be studied.
    """
    wired = wire(config)
    if config.pipeline == "context_attribution":
        from tracelab.run.forecast_cite import forecast_contexts

        return forecast_contexts(config, wired)
    if config.pipeline == "failure_audit":
        from tracelab.run.forecast_audit import forecast_audit

        return forecast_audit(config, wired)
    annotator(config)  # a model of sentences that cannot be loaded would end the run
    root = config.runtime.journal or str(home.runs)
    seen: dict[str, dict[int, Observation]] = {}
    if not fresh and (old := read_record(root, config.name)) is not None:
        config = continued(old, config, wired.spec.model, _warn)
        parts = read_observations(root, config.name)
        for part in deduplicated(parts, keep_errors=not retry_errors):
            for o in part:
                seen.setdefault(o.key, {})[o.replicate] = o
    inputs = gather(config)
    found = Forecast(config.name, config.resample.rollouts)
    context = wired.spec.context_length
    batch = config.runtime.batch_rollouts

    def owed(items: Iterable[Item]) -> list[Item]:
        """Requests that are left, as the runtime cuts them; one that cannot fit is not sent."""
        distinct = {i.key: i for i in items if not overlong(i, context)}
        return [
            request
            for item in distinct.values()
            for part in missing(item, set(seen.get(item.key, ())))
            for request in split(part, batch)
        ]

    with contextlib.closing(Grader(config.grading, connect=BlockingPost)) as grader:
        if inputs.questions:
            items = base_items(config, inputs, wired.spec.model, wired.tokenizer)
            left = owed(items.values())
            longest = {i.key: _room(i, context) for i in left}
            found.stages.append(_stage("base traces", left, dict.fromkeys(longest, 1), longest))
            found.base_traces_missing = sum(not seen.get(i.key) for i in items.values())
            adopt_answers(config, wired.spec.model, items, seen, inputs, grader)
        studies = prepare(config, inputs, wired.tokenizer, grader, context)
        passes = certificates(config, studies, wired.spec.model)
        for key, (_, served) in passes.items():
            for o in seen.get(key, {}).values():
                _certify(served, o)
        if passes:
            left = owed(item for item, _ in passes.values())
            nothing = {i.key: 0 for i in left}
            found.stages.append(_stage("scoring traces", left, nothing, nothing))
        plan = rounds(config, studies, wired.spec.model)
        planned = _walk(plan, studies, grader, seen, owed)
        suffix = wired.tokenizer.encode_text(config.resample.force_suffix)
        planned += forced(config, studies, wired.spec.model, suffix)
    written = {s.trace.trace_id: len(s.tokens.response_ids) for s in studies}
    rest = {p.item.key: written[p.trace_id] - p.start_token for p in planned}
    left = owed(p.item for p in planned)
    room = {i.key: _room(i, context) for i in left}
    low = {k: max(1, min(int(rest[k] * SHORTEST), room[k])) for k in room}
    high = {k: min(int(rest[k] * LONGEST) + _SLACK_TOKENS, room[k]) for k in room}
    found.stages.append(_stage("rollouts", left, low, high))
    if config.resample.allocation == "adaptive" and left:
        found.stages.append(_later(config, plan, studies, found.stages[-1]))
        if config.resample.budget_tokens is not None:
            found.limit = _limit(config.resample.budget_tokens, plan, studies)
    found.rejects = inputs.rejects
    found.tokens_per_second = _rate(config.engine.kind, wired.spec.model.name, home)
    return found


def _certify(studies: Sequence[Study], o: Observation) -> None:
    for s in studies:
        if o.token_logprobs is not None:
            s.keep = certify.keep_probabilities(s.units, o.token_logprobs)


def _walk(
    plan: Rounds,
    studies: Sequence[Study],
    grader: Grader,
    seen: dict[str, dict[int, Observation]],
    owed: Callable[[Iterable[Item]], list[Item]],
) -> list[Planned]:
    """Go through the rounds that the journal answers; return the first that it does not."""
    sink = RolloutSink(studies, grader, Nowhere())
    while planned := plan.next():
        # A judge is never asked for a forecast: what it said decides no round here.
        if owed(p.item for p in planned) or grader.evidence == "judged":
            return planned
        sink.expect(plan.places())
        for key in {p.item.key for p in planned}:
            sink(list(seen[key].values()))
    return []


def _later(config: RunConfig, plan: Rounds, studies: Sequence[Study], now: Stage) -> Stage:
    """What an adaptive run may ask for after the round at hand: nothing, up to all limits."""
    r, left, tokens = config.resample, 0, 0
    for s, asked in zip(studies, plan.asked, strict=True):
        for at, n in zip(boundary_tokens(s.units), asked.tolist(), strict=True):
            more = max(0, r.rollouts - n)
            left += more
            tokens += more * (int((len(s.tokens.response_ids) - at) * LONGEST) + _SLACK_TOKENS)
    if r.budget_tokens is not None:
        tokens = min(tokens, _limit(r.budget_tokens, plan, studies))
    return Stage("later rounds", 0, left, 0, 0, tokens)


def _limit(budget: int, plan: Rounds, studies: Sequence[Study]) -> int:
    """Most that is left of a budget: it ends with a whole batch, of the longest trace at worst."""
    longest = max((len(s.tokens.response_ids) for s in studies), default=0)
    return max(0, int(OVERRUN * budget) + int(BATCH * LONGEST * longest) - plan.spent())


def _warn(text: str) -> None:
    click.echo(clean(text), err=True)


def _room(item: Item, context: int) -> int:
    """Most tokens one rollout of an item can have."""
    assert item.sampling is not None, "a run of this kind only samples"
    return min(item.sampling.max_tokens, context - len(item.prefix_ids))


def _stage(name: str, requests: Sequence[Item], low: dict[str, int], high: dict[str, int]) -> Stage:
    return Stage(
        stage=name,
        requests=len(requests),
        rollouts=sum(r.replicates for r in requests),
        prompt_tokens=sum(len(r.prefix_ids) * r.replicates for r in requests),
        generated_tokens_min=sum(low[r.key] * r.replicates for r in requests),
        generated_tokens_max=sum(high[r.key] * r.replicates for r in requests),
    )


def show(found: Forecast, *, as_json: bool = False) -> None:
    """Print a forecast: numbers to stdout, what there is to say about them to stderr."""
    if as_json:
        click.echo(json.dumps(found.to_json()))
        return
    print_table(
        ("stage", "requests", "rollouts", "prompt tokens", "generated tokens"),
        [
            (
                s.stage,
                f"{s.requests:,}",
                f"{s.rollouts:,}",
                f"{s.prompt_tokens:,}",
                f"{s.generated_tokens_min:,} to {s.generated_tokens_max:,}",
            )
            for s in (*found.stages, *_together(found))
        ],
        numeric=(1, 2, 3, 4),
    )
    for line in _remarks(found):
        _warn(line)


def _together(found: Forecast) -> list[Stage]:
    """All stages as one, where there are several."""
    if len(found.stages) < 2:
        return []
    counts = (sum(getattr(s, k) for s in found.stages) for k in Stage.__slots__[1:4])
    return [Stage("all", *counts, *found.generated)]


def _remarks(found: Forecast) -> list[str]:
    lines: list[str] = []
    tell_rejects(found.rejects, lines.append)
    if found.base_traces_missing:
        lines.append(
            f"{found.base_traces_missing} base traces do not exist yet; their rollouts "
            f"({found.rollouts_per_boundary} at each sentence boundary) are not counted above."
        )
    if not any(s.requests for s in found.stages):
        lines.append("nothing is left to do: a run would only load its results again")
    elif (seconds := found.seconds) is None:
        lines.append("time: unknown until this model has run here once")
    else:
        lines.append(
            f"time: {seconds[0]:,.0f} to {seconds[1]:,.0f} s at "
            f"{found.tokens_per_second:,.0f} tokens/s, the rate of earlier runs here; starting "
            "the engine comes on top"
        )
    return [*lines, "nothing was written"]


def _rate(engine: str, model: str, home: Home) -> float | None:
    """Generated tokens a second of earlier runs of this model and engine, engine start excluded."""
    from tracelab.store.connect import open_reader

    if not home.database.exists():
        return None
    with contextlib.suppress(WarehouseError), open_reader(home.database, wait_s=1.0) as con:
        row = con.execute(
            "SELECT sum(generated_tokens) / nullif(sum(seconds - start_seconds), 0) "
            "FROM sessions JOIN runs USING (run_id) WHERE engine = $engine AND model = $model",
            {"engine": engine, "model": model},
        ).fetchone()
        return float(row[0]) if row is not None and row[0] else None
    return None
