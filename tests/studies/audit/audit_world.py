"""The planted policy as a model: audits without an engine, on episodes whose causes are known."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.testbed import tokenizer
from tracelab.core.finding import Findings
from tracelab.core.flow import Flow, drive, together
from tracelab.core.item import AnyItem, Call, Item, ModelRef, Observation, Sampling
from tracelab.core.seam import MakeEnvironment, RecordedRun
from tracelab.core.study import StudyContext
from tracelab.core.trace import Rendering
from tracelab.environments.testbed import MarketWorld
from tracelab.studies.audit.case import AgentRun
from tracelab.studies.audit.options import AuditOptions
from tracelab.studies.audit.play import Played, play
from tracelab.studies.audit.rerun import Launch, Rerun, Reruns
from tracelab.studies.audit.study import Audit
from tracelab.studies.chat import Chat
from tracelab.testbed.agent_labels import resumed
from tracelab.testbed.agent_policy import act
from tracelab.testbed.agent_runs import THINK, as_trace, planted, recorded
from tracelab.testbed.agent_world import AgentTask, task

MODEL = ModelRef("policy", "planted", "float64")


class TextTokens:
    """One token a character, and the testbed's chat template."""

    def chat_text(
        self,
        messages: Sequence[Mapping[str, Any]],
        rendering: Rendering,
        *,
        ask: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        return tokenizer.render([dict(m) for m in messages], add_generation_prompt=ask)

    def encode_prompt(self, text: str, rendering: Rendering) -> tuple[int, ...]:
        return self.encode_text(text)

    def encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))


class Policy:
    """Writes the next step of any chat of known tasks, as `agent_policy.act` would.

    Attributes:
        drawn: Every (key, replicate) ever asked, in order.
        rounds: How often it was asked.
    """

    def __init__(self, tasks: Sequence[AgentTask]) -> None:
        self._tasks = {t.messages[0]["content"]: t for t in tasks}
        self.drawn: list[tuple[str, int]] = []
        self.rounds = 0

    def __call__(self, item: Item, replicate: int) -> Observation:
        if item.kind == "score":
            return Observation(item.key, replicate, finish_reason="error", error="none: no scores")
        self.drawn.append((item.key, replicate))
        turns = "".join(map(chr, item.prefix_ids)).split(tokenizer.START)[1:]
        parts = [t.removesuffix(f"{tokenizer.END}\n").partition("\n") for t in turns]
        steps = [c.removeprefix(THINK) for role, _, c in parts[:-1] if role == "assistant"]
        _, progress = resumed(self._tasks[parts[0][2]], steps)
        # What the tools really said, where that is another thing than the task's own notes.
        text = act(progress, random.Random(f"{item.key}/{replicate}"))
        return Observation(item.key, replicate, (1,) * 20, text, prefix_tokens=50)


Model = Callable[[Item, int], Observation]


@dataclass
class Driver:
    """Answers every kind of item that an audit asks for; keeps what lasts, as a journal does.

    Attributes:
        model: Writes.
        chat: Answers judges.
        journal: Observations by key and replicate.
        shuffle: Answers in any order, and in batches of any size.
        asked: Kinds of what the journal did not have.
        pool: Engines that answer instead of `model`.
    """

    model: Model | None = None
    chat: Callable[[Call], Observation] | None = None
    journal: dict[tuple[str, int], Observation] = field(default_factory=dict)
    shuffle: random.Random | None = None
    asked: list[str] = field(default_factory=list)
    pool: Any = None

    def drive(self, flow: Flow[Any]) -> Any:
        return drive(flow, self.answer)

    def answer(self, items: Sequence[AnyItem]) -> Iterator[list[Observation]]:
        singles = [(i, r) for i in items for r in i.replicate_range]
        known = [(i, r) for i, r in singles if (i.key, r) in self.journal]
        yield [self.journal[i.key, r] for i, r in known]
        owed = [(i, r) for i, r in singles if (i.key, r) not in self.journal]
        self.asked += [i.kind for i, _ in owed]
        if self.shuffle is not None:
            self.shuffle.shuffle(owed)
        reruns = [i for i, _ in owed if i.kind == "rerun"]
        if self.pool is not None:
            self.pool.submit([i.at(r, 1) for i, r in owed if isinstance(i, Item)])
            while self.pool.owed:
                yield [self._kept(o) for o in self.pool.ready(1.0)]
        for item, r in owed:
            if isinstance(item, Item):
                if self.pool is not None:
                    continue
                assert self.model is not None
                yield [self._kept(self.model(item, r))]
            elif item.kind == "act":
                item.payload()
                yield [Observation.of(item.key, r, None)]
            elif item.kind == "chat":
                assert self.chat is not None
                yield [self._kept(self.chat(item))]
        while reruns:
            size = len(reruns) if self.shuffle is None else self.shuffle.randint(1, len(reruns))
            some, reruns = reruns[:size], reruns[size:]
            for o in self.drive(together(c.payload() for c in some if isinstance(c, Call))):
                yield [self._kept(o)]

    def _kept(self, o: Observation) -> Observation:
        self.journal[o.key, o.replicate] = o
        return o


def world(n: int, seed: int) -> list[dict[str, Any]]:
    """Tasks whose questions all differ, so that a chat says which task it belongs to."""
    seen: set[str] = set()
    found = []
    for i in range(20 * n):
        asked = task("train", seed, i)
        if (text := asked.messages[0]["content"]) not in seen:
            seen.add(text)
            found.append({"split": "train", "seed": seed, "index": i})
        if len(found) == n:
            break
    return found


@dataclass
class Told:
    """What a study told: rows for the database, and warnings."""

    rows: list[Any] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def context(
    options: AuditOptions, make: MakeEnvironment = MarketWorld, tokenizer: Any = None, **more: Any
) -> tuple[StudyContext[AuditOptions], Told]:
    """What an audit is given."""
    told = Told()
    unused: Any = None
    given: dict[str, Any] = {
        "options": options, "sampling": Sampling(max_tokens=64), "seed": 0, "model": MODEL,
        "context_length": 1 << 20, "tokenizer": tokenizer or TextTokens(), "grading": unused,
        "emit": told.rows.extend, "warn": told.warnings.append, "fact": lambda _: None,
        "tokenize": unused, "comparing": unused, "environment": lambda name, deadline: make,
    }  # fmt: skip
    return StudyContext(**{**given, **more}), told


def policy_of(tasks: Sequence[Mapping[str, Any]]) -> Policy:
    return Policy([task(t["split"], t["seed"], t["index"]) for t in tasks])


def played(tasks: Sequence[Mapping[str, Any]], seed: int = 5) -> list[RecordedRun]:
    """Runs that the planted policy made of tasks."""
    flow = play(tasks, MarketWorld, Chat(TextTokens()), MODEL, Sampling(max_tokens=64), seed)  # type: ignore[arg-type]
    found: list[Played] = Driver(policy_of(tasks)).drive(flow)
    return [recorded(p.name, p.task, p.actions, p.before, p.end, p.score or 0.0) for p in found]


def failures(tasks: Sequence[Mapping[str, Any]], n: int) -> list[RecordedRun]:
    """The first of them that failed."""
    return [run for run in played(tasks) if run.score < 1.0][:n]


def decisive(run: RecordedRun) -> int | None:
    """The step that the world knows to be decisive."""
    _, action = planted(run.task, run.actions)
    return None if action is None else run.steps[action]


def audited(
    runs: Sequence[RecordedRun],
    driver: Driver,
    options: AuditOptions | None = None,
    make: MakeEnvironment = MarketWorld,
    **more: Any,
) -> tuple[Findings, Told]:
    """A whole audit."""
    ctx, told = context(options or AuditOptions(environment="testbed"), make, **more)
    cases = [AgentRun.of(as_trace(run)) for run in runs]
    return driver.drive(Audit().run(cases, ctx)), told


def rerun(
    launches: Sequence[Launch], driver: Driver, make: MakeEnvironment = MarketWorld
) -> list[Rerun]:
    """Re-executions."""
    ctx, _ = context(AuditOptions(environment="testbed"), make)
    reruns = Reruns(ctx, Chat(ctx.tokenizer), "testbed", make)
    calls = [reruns.rerun(x) for x in launches]
    found = {o.key: o for batch in driver.answer(calls) for o in batch}
    return [Rerun.of(x, found[c.key]) for x, c in zip(launches, calls, strict=True)]
