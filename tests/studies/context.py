"""A study's context by hand: scripted model, plain grading, and the rows and words it gave out."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracelab.core.item import AnyItem, Call, Item, ModelRef, Observation, Sampling
from tracelab.core.options import Section
from tracelab.core.seam import Comparing, Grading, MakeEnvironment, Row, Tokenizer
from tracelab.core.study import StudyContext
from tracelab.core.trace import TokenizedTrace, Trace
from tracelab.engines import aio
from tracelab.engines.base import Engine, EngineSpec, failed
from tracelab.engines.scripted import Script, ScriptedEngine, ScriptTokenizer
from tracelab.engines.similarity import load
from tracelab.grading.grader import Grader

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
        tell=told.append,
    )
    return World(ctx, rows, warnings, told)


def scripted(script: Script | None = None, **options: object) -> ScriptedEngine:
    """An engine that serves a script."""
    more = {**options, **({} if script is None else {"script": script})}
    return ScriptedEngine(EngineSpec("scripted", "scripted", MODEL, CONTEXT_LENGTH, more))


Answer = Callable[[Sequence[AnyItem]], Iterator[Sequence[Observation]]]


@dataclass
class Answering:
    """Answers items with an engine, `calls` with a function, and remembers what was asked.

    With `shuffle`, observations come in an order of its own, in batches of random sizes, and not
    all of what was asked is answered before more is asked: what an engine pool would do.
    """

    engine: Engine
    call: Callable[[Call], Observation] | None = None
    shuffle: random.Random | None = None
    asked: list[AnyItem] = field(default_factory=list)
    _kept: list[Observation] = field(default_factory=list)

    def __call__(self, items: Sequence[AnyItem]) -> Iterator[Sequence[Observation]]:
        self.asked += items
        fresh = [o for item in items for o in self._observe(item)]
        if self.shuffle is None:
            yield fresh
            return
        self._kept += fresh
        self.shuffle.shuffle(self._kept)
        while self._kept:
            size = self.shuffle.randint(1, max(1, len(self._kept)))
            batch, self._kept = self._kept[:size], self._kept[size:]
            yield batch

    def _observe(self, item: AnyItem) -> Iterable[Observation]:
        if isinstance(item, Call):
            assert self.call is not None, f"nothing answers a call of kind {item.kind}"
            return [self.call(item)]
        try:
            serve = self.engine.generate if item.kind == "generate" else self.engine.score
            return aio.run(serve([item]))
        except NotImplementedError:
            return failed(item, "engine", "not here")

    def generated(self) -> list[Item]:
        """Generations asked for."""
        return [i for i in self.asked if isinstance(i, Item) and i.kind == "generate"]
