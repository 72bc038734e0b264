"""What a run would cost, without doing it: its study driven with a counter in place of engines.

The journal answers first, so what is counted is what is left. What the journal does not know is
counted, and then failed (what a study asks to score or to look at) or left open (what it asks to
be generated), so that everything that can be known beforehand is counted exactly. Writes nothing:
no journal, no database, no engine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tracelab.core.errors import ImportFormatError, PlanError, WarehouseError
from tracelab.core.flow import Ask, Execution, Tasks
from tracelab.core.item import AnyItem, Call, Item, Observation, parts
from tracelab.core.seam import Reject
from tracelab.core.study import Stage
from tracelab.engines.base import overlong
from tracelab.engines.registry import ENGINES
from tracelab.run.config import RunConfig
from tracelab.run.execute import Work
from tracelab.run.feeding import split
from tracelab.run.progress import RunProgress
from tracelab.run.record import continued, read_record
from tracelab.run.wiring import wire
from tracelab.store.connect import open_reader
from tracelab.store.home import Home
from tracelab.store.journal import Peek, deduplicated
from tracelab.studies.respond import BASE

SHORTEST, LONGEST = 0.5, 2.0
"""A rollout is taken to be between half and twice as long as is expected of it."""

ESTIMATED = 0.3, 1.5
"""How many times what is estimated a text may have tokens, where the model's own are not known."""

_SLACK_TOKENS = 16
_UNASKED = "forecast: it was not asked"


@dataclass(slots=True)
class Forecast:
    """What a run would cost.

    Attributes:
        run_id: The run.
        stages: Exact but for the generated tokens.
        base_traces_missing: Questions whose answers do not exist yet, so that what is asked about
            them cannot be counted.
        tokens_per_second: Rate of earlier runs of this model and engine here, if any.
        rejects: Inputs that cannot be studied.
        limit: Most generated tokens of all stages together, from a budget.
        foreseen: Whether the last stage is all that may be asked about those answers.
        prices: Of a million tokens read and written; None where nothing has a price.
        estimated: Whether the model's own tokens are not known, so that counts are estimates.
        max_cost: What the run may cost at most, from here on.
    """

    run_id: str
    stages: list[Stage] = field(default_factory=list)
    base_traces_missing: int = 0
    tokens_per_second: float | None = None
    rejects: list[Reject] = field(default_factory=list)
    limit: int | None = None
    foreseen: bool = False
    prices: tuple[float, float] | None = None
    estimated: bool = False
    max_cost: float | None = None

    @property
    def generated(self) -> tuple[int, int]:
        """Range of the generated tokens of all stages together."""
        low = sum(s.generated_tokens_min for s in self.stages)
        high = sum(s.generated_tokens_max for s in self.stages)
        return low, high if self.limit is None else max(low, min(high, self.limit))

    @property
    def read(self) -> tuple[int, int]:
        """Range of the tokens of all prompts together."""
        low = sum(s.prompt_tokens_min for s in self.stages)
        return low, sum(max(s.prompt_tokens, s.prompt_tokens_max) for s in self.stages)

    @property
    def money(self) -> tuple[float, float] | None:
        """Range of what it costs; None without prices."""
        if self.prices is None:
            return None
        factors = ESTIMATED if self.estimated else (1.0, 1.0)
        low, high = (
            factor * (read * self.prices[0] + wrote * self.prices[1]) / 1e6
            for factor, read, wrote in zip(factors, self.read, self.generated, strict=True)
        )
        return low, high if self.max_cost is None else max(low, min(high, self.max_cost))

    @property
    def seconds(self) -> tuple[float, float] | None:
        """Range of the time it takes, without the engine's start; None without a rate."""
        if self.tokens_per_second is None:
            return None
        low, high = self.generated
        return low / self.tokens_per_second, high / self.tokens_per_second

    @property
    def nothing_left(self) -> bool:
        """Whether a run would only load its results again."""
        return not self.base_traces_missing and not any(s.requests for s in self.stages)

    @property
    def total(self) -> Stage | None:
        """All stages as one, where there are several."""
        if len(self.stages) < 2:
            return None
        return Stage(
            "all",
            sum(s.requests for s in self.stages),
            sum(s.rollouts for s in self.stages),
            sum(s.prompt_tokens for s in self.stages),
            *self.generated,
            *self.read,
        )

    def to_json(self) -> dict[str, Any]:
        """As an object for programs; `None` is unknown."""
        low, high = self.seconds or (None, None)
        return {
            "run_id": self.run_id,
            "stages": [asdict(s) for s in self.stages],
            "generated_tokens_min": self.generated[0],
            "generated_tokens_max": self.generated[1],
            "base_traces_missing": self.base_traces_missing,
            "tokens_per_second": self.tokens_per_second,
            "seconds_min": low,
            "seconds_max": high,
            "money_min": None if self.money is None else self.money[0],
            "money_max": None if self.money is None else self.money[1],
            "rejects": [{"file": r.file, "line": r.line, "reason": r.reason} for r in self.rejects],
        }


def forecast(
    config: RunConfig, home: Home, *, fresh: bool = False, retry_errors: bool = False
) -> Forecast:
    """Count what a run would ask for.

    Args:
        config: The run's config.
        home: Where its journal would be.
        fresh: As if the run had not begun.
        retry_errors: As if what failed had not been asked.

    Raises:
        ConfigError: The run would be refused.
        ImportFormatError: Nothing could be studied.
    """
    wired = wire(config)
    journal = Peek(config.runtime.journal or str(home.runs), config.name, empty=fresh)
    with RunProgress() as progress:
        old = read_record(journal)
        if old is not None and journal.has_results():
            config = continued(old, config, wired.spec.model, progress.warn)
        found = Forecast(config.name)
        with Work(config, wired, journal, lambda rows: None, progress) as work:
            counter = _Counter(work, journal, config, wired.spec.context_length, retry_errors)
            inputs = counter.drive()
            found.stages = counter.stages()
            found.base_traces_missing = counter.unanswered
            if inputs is not None:
                unasked = [r for r in inputs.rejects if _UNASKED not in r.reason]
                found.rejects = unasked
                outlook = getattr(work.study, "outlook", None)
                if outlook is not None and not found.nothing_left and inputs.cases:
                    found.stages += outlook(inputs.cases, work.ctx, counter.rollouts)
                limit = getattr(work.study, "limit", None)
                if limit is not None and not counter.unanswered:
                    found.limit = limit(inputs.cases, work.ctx)
            foreseen = getattr(work.study, "foreseen", None)
            if counter.unanswered and foreseen is not None:
                o, prompts = config.source_options, counter.base_prompts
                kept = 2 if o.keep == "both" and o.attempts > 1 else 1
                found.foreseen = True
                found.stages.append(foreseen(counter.unanswered * kept, prompts * kept, work.ctx))
    _price(found, config, journal, wired.capabilities)
    found.tokens_per_second = _rate(config.engine.kind, wired.spec.model.name, home)
    return found


def _price(found: Forecast, config: RunConfig, journal: Peek, capabilities: frozenset[str]) -> None:
    """What is known of what tokens cost."""
    server = config.engine.server
    if not ENGINES.named(config.engine.kind).served:
        return
    prices = server.input_price, server.output_price
    found.prices = prices if any(prices) else None
    found.estimated = "chat" in capabilities
    if server.max_cost is not None and (before := journal.total()) is not None:
        spent = before.by["engine"]
        paid = (spent.prompt_tokens * prices[0] + spent.generated_tokens * prices[1]) / 1e6
        found.max_cost = max(0.0, server.max_cost - paid)


@dataclass(slots=True)
class _Sum:
    requests: int = 0
    rollouts: int = 0
    prompt: int = 0
    low: int = 0
    high: int = 0
    prompt_low: int = 0
    prompt_high: int = 0


class _Counter:
    """Drives a run with nobody to answer but its journal, and counts the rest."""

    def __init__(
        self, work: Work, journal: Peek, config: RunConfig, context: int, retry: bool
    ) -> None:
        self._work, self._journal, self._retry = work, journal, retry
        self._context, self._batch = context, config.runtime.batch_rollouts
        self._sums: dict[str, _Sum] = {}
        self._counted: set[tuple[str, int]] = set()
        self.unanswered = self.rollouts = self.base_prompts = 0
        self._inputs: Any = None

    def stages(self) -> list[Stage]:
        return [
            Stage(
                name, s.requests, s.rollouts, s.prompt, s.low, s.high, s.prompt_low, s.prompt_high
            )
            for name, s in self._sums.items()
        ]

    def drive(self) -> Any:
        """Count; the inputs of the study, or None where they depend on what is not answered."""
        tasks = Tasks(self._work.whole(lambda traces: None, self._prepared))
        try:
            while not tasks.done and not tasks.stuck:
                for ask in tasks.waiting():
                    self._answer(tasks, ask)
        except (ImportFormatError, PlanError):
            if not self.unanswered:  # else there will be something to study once it is written
                raise
        finally:
            tasks.close()
        return self._inputs

    def _prepared(self, inputs: Any) -> None:
        self._inputs = inputs

    def _answer(self, tasks: Tasks, ask: Ask) -> None:
        wanted: dict[str, set[int]] = {}
        items: dict[str, AnyItem] = {}
        expected: dict[str, int] = {}
        for i, item in enumerate(ask.items):
            items[item.key] = item
            wanted.setdefault(item.key, set()).update(item.replicate_range)
            if ask.expected:
                expected[item.key] = ask.expected[i]
        for batch in deduplicated(
            self._journal.recorded(dict(wanted)), keep_errors=not self._retry
        ):
            for o in batch:
                wanted[o.key].discard(o.replicate)
                self.rollouts += items[o.key].kind == "generate"
            tasks.hear(batch)
        open_: list[str] = []
        for key, replicates in wanted.items():
            if not replicates:
                continue
            item = items[key]
            base = isinstance(item, Item) and item.intervention == BASE
            self._count(ask.stage, item, replicates, expected.get(key))
            self.unanswered += base
            self.base_prompts += len(item.prefix_ids) if isinstance(item, Item) and base else 0
            does = item.payload if isinstance(item, Call) else None
            if isinstance(does, Execution) and does.assumed is not None:
                tasks.hear([Observation.of(key, r, does.assumed) for r in sorted(replicates)])
            elif isinstance(does, Execution) or (item.kind == "generate" and not base):
                open_.append(key)
            else:
                tasks.hear(_failures(item, replicates))
        tasks.abandon(open_)

    def _count(self, stage: str, item: AnyItem, replicates: set[int], expected: int | None) -> None:
        fresh = {r for r in replicates if (item.key, r) not in self._counted}
        self._counted |= {(item.key, r) for r in fresh}
        total = self._sums.setdefault(stage, _Sum())
        for part in parts(item, fresh):
            if isinstance(part, Call):
                n, does = part.replicates, part.payload
                if part.kind == "chat":
                    total.requests += n
                    total.prompt += n * _chat_tokens(part)
                    total.prompt_low += n * _chat_tokens(part)
                    total.prompt_high += n * _chat_tokens(part)
                    total.low += n
                    total.high += n * int(part.content["max_tokens"])
                elif not isinstance(does, Execution):
                    total.requests += n
                elif does.requests:
                    total.requests += n * does.requests
                    total.rollouts += n
                    total.prompt += n * does.prompt_tokens
                    total.prompt_low += n * does.prompt_tokens_min
                    total.prompt_high += n * does.prompt_tokens_max
                    total.low += n * does.output_tokens_min
                    total.high += int(n * does.output_tokens * LONGEST)
                continue
            if overlong(part, self._context):
                continue  # it cannot fit and is not sent
            n = part.replicates
            total.requests += sum(1 for _ in split(part, self._batch))
            size = len(part.prefix_ids) + len(part.target_ids or ())
            total.prompt += size * n
            total.prompt_low += size * n
            total.prompt_high += size * n
            if part.sampling is None:
                continue
            total.rollouts += n
            self.rollouts += n
            room = min(part.sampling.max_tokens, self._context - len(part.prefix_ids))
            if expected is None:
                total.low, total.high = total.low + n, total.high + room * n
            else:
                low = max(1, min(int(expected * SHORTEST), room))
                total.low += low * n
                total.high += min(int(expected * LONGEST) + _SLACK_TOKENS, room) * n


def _chat_tokens(call: Call) -> int:
    """About as many tokens as a chat's messages have: one for 3 bytes of UTF-8."""
    said = (text for _, text in call.content["messages"])
    return sum(len(text.encode("utf-8", "replace")) // 3 + 1 for text in said)


def _failures(item: AnyItem, replicates: set[int]) -> Sequence[Observation]:
    return [
        Observation(item.key, r, finish_reason="error", error=_UNASKED) for r in sorted(replicates)
    ]


def _rate(engine: str, model: str, home: Home) -> float | None:
    """Generated tokens a second of earlier runs of this model and engine, engine start excluded."""
    if not home.database.exists():
        return None
    given: Mapping[str, str] = {"engine": engine, "model": model}
    with contextlib.suppress(WarehouseError), open_reader(home.database, wait_s=1.0) as con:
        row = con.execute(
            "SELECT sum(generated_tokens) / nullif(sum(seconds - start_seconds), 0) "
            "FROM sessions JOIN runs USING (run_id) WHERE engine = $engine AND model = $model",
            given,
        ).fetchone()
        return float(row[0]) if row is not None and row[0] else None
    return None
