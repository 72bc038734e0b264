"""A study's context by hand: scripted model, plain grading, and the rows and words it gave out."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from tests.helpers import answers_of
from tracelab.core.flow import Flow, Tasks, distinct
from tracelab.core.item import AnyItem, Call, Item, ModelRef, Observation, Sampling
from tracelab.core.options import Section
from tracelab.core.seam import Comparing, Grading, MakeEnvironment, Row, Tokenizer
from tracelab.core.study import StudyContext
from tracelab.core.trace import TokenizedTrace, Trace
from tracelab.engines.base import Engine, EngineSpec
from tracelab.engines.scripted import Script, ScriptedEngine, ScriptTokenizer
from tracelab.engines.similarity import load
from tracelab.grading.grader import Grader

T = TypeVar("T")

MODEL = ModelRef("scripted", "planted-1", "float64")
CONTEXT_LENGTH = 4096


@dataclass
class World:
    """A context, and what was given out through it."""

    ctx: StudyContext[Any]
    rows: list[Row] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


def world(
    options: Section,
    *,
    script: Script | None = None,
    sampling: Sampling | None = None,
    seed: int = 1,
    tokenizer: Tokenizer | None = None,
    grading: Grading | None = None,
    model: ModelRef = MODEL,
    context_length: int = CONTEXT_LENGTH,
) -> World:
    """A world for one study; whatever is not given is scripted."""
    speaks: Any = tokenizer or ScriptTokenizer(script or Script.planted())
    rows: list[Row] = []
    warnings: list[str] = []
    told: list[str] = []

    def tokenize(trace: Trace) -> TokenizedTrace:
        found: TokenizedTrace = speaks.tokenize(trace)
        return found

    def comparing(name: str) -> Comparing:
        return load("lexical" if name == "auto" else name)

    def environment(name: str, timeout_s: float) -> MakeEnvironment:
        raise AssertionError(f"nothing asked for environment {name!r} here")

    ctx: StudyContext[Any] = StudyContext(
        options=options,
        sampling=sampling or Sampling(),
        seed=seed,
        model=model,
        context_length=context_length,
        tokenizer=speaks,
        grading=grading or Grader(),
        emit=rows.extend,
        warn=warnings.append,
        tokenize=tokenize,
        comparing=comparing,
        environment=environment,
        fact=told.append,
    )
    return World(ctx, rows, warnings, told)


def scripted(script: Script | None = None, **options: object) -> ScriptedEngine:
    """An engine that serves a script."""
    more = {**options, **({} if script is None else {"script": script})}
    return ScriptedEngine(EngineSpec("scripted", "scripted", MODEL, CONTEXT_LENGTH, more))


@dataclass
class Answering:
    """Answers items with an engine, calls with a function, and remembers what was asked."""

    engine: Engine
    call: Callable[[Call], Observation] | None = None
    asked: list[AnyItem] = field(default_factory=list)

    def __call__(self, items: Sequence[AnyItem]) -> Iterator[Sequence[Observation]]:
        """Answer, one batch an item."""
        self.asked += items
        for item in items:
            yield self._observe(item)

    def _observe(self, item: AnyItem) -> list[Observation]:
        if isinstance(item, Call):
            assert self.call is not None, f"nothing answers a call of kind {item.kind}"
            return [self.call(item)]
        return answers_of(self.engine, cast(Item, item))

    def generated(self) -> list[Item]:
        """Generations asked for."""
        return [i for i in self.asked if isinstance(i, Item) and i.kind == "generate"]


def drive_shuffled(flow: Flow[T], answering: Answering, rng: random.Random) -> T:
    """Drive a flow with answers that come in any order, in batches of any size.

    Unlike `drive`, what is asked late may be answered before what was asked early, as in a pool.
    """
    tasks = Tasks(flow)
    coming: list[Observation] = []
    while not tasks.done:
        for item in distinct(tasks.waiting()):
            for batch in answering([item]):
                coming += batch
        rng.shuffle(coming)
        assert coming, "the flow waits for what nobody was asked"
        size = rng.randint(1, len(coming))
        batch, coming = coming[:size], coming[size:]
        tasks.hear(batch)
    result: T = tasks.result
    return result
