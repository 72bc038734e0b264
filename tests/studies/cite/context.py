"""Context attribution of a few traces by hand: the bundled model in this process, no journal."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from tests.helpers import answers_of
from tracelab.core.finding import Findings, Score
from tracelab.core.flow import drive
from tracelab.core.item import AnyItem, Call, Item, Observation, Sampling
from tracelab.core.seam import MakeEnvironment, Row
from tracelab.core.study import StudyContext
from tracelab.core.trace import Trace
from tracelab.engines import aio
from tracelab.engines.base import EngineSpec
from tracelab.engines.models import find_model
from tracelab.engines.registry import build
from tracelab.engines.similarity import load
from tracelab.engines.tokenizer import HFTokenizer
from tracelab.grading.grader import Grader
from tracelab.sources.context import trace_of
from tracelab.studies.cite.case import ContextCase
from tracelab.studies.cite.options import CiteOptions
from tracelab.studies.cite.rows import FaithfulnessRow, PrunedRow, TargetRow
from tracelab.studies.cite.study import Cite
from tracelab.studies.respond import respond

BATCH = 64
Change = Callable[[AnyItem, Observation], Observation]


@cache
def tokenizer() -> HFTokenizer:
    """The bundled model's."""
    return HFTokenizer(find_model("testbed", "float32").path)


@cache
def engine(context_length: int) -> Any:
    """The bundled model."""
    found = find_model("testbed", "float32")
    return build(
        EngineSpec("transformers", found.path, found.ref, context_length, {"device": "cpu"})
    )


_SEEN: dict[tuple[int, str, int], Observation] = {}
"""What the model said, by its length and item: deterministic, so tests may share it."""


def ask(items: Sequence[AnyItem], context_length: int) -> Iterator[Observation]:
    """What the bundled model says."""
    serving = engine(context_length)
    for kind in ("generate", "score", "look"):
        some = [i for i in items if i.kind == kind]
        fresh = [
            i for i in some
            if any((context_length, i.key, r) not in _SEEN for r in i.replicate_range)
        ]  # fmt: skip
        for at in range(0, len(fresh), BATCH):
            some_fresh = fresh[at : at + BATCH]
            if kind == "look":
                answers = aio.run(serving.look(some_fresh))
            else:
                answers = answers_of(serving, *some_fresh)
            for o in answers:
                _SEEN[context_length, o.key, o.replicate] = o
        for i in some:
            yield from (_SEEN[context_length, i.key, r] for r in i.replicate_range)


@dataclass
class Found:
    """What came of some cases."""

    cases: list[ContextCase]
    findings: Findings
    probes: list[Row]

    def rows(self, kind: type[Any], **where: object) -> list[Any]:
        """Rows of a kind, with some values."""
        return [
            r for r in self.findings.rows
            if isinstance(r, kind) and all(getattr(r, k) == v for k, v in where.items())
        ]  # fmt: skip

    def targets(self, case: int = 0) -> list[TargetRow]:
        return self.rows(TargetRow, trace_id=self.cases[case].trace_id)

    def tests(self, **where: object) -> list[FaithfulnessRow]:
        return self.rows(FaithfulnessRow, **where)

    def pruned(self) -> list[PrunedRow]:
        return self.rows(PrunedRow)

    def scores(self, target: str, method: str, metric: str, case: int = 0) -> list[Score]:
        """One score a source."""
        trace = self.cases[case].trace_id
        return sorted(
            (
                s for s in self.findings.scores
                if (s.trace_id, s.target, s.method, s.metric) == (trace, target, method, metric)
            ),
            key=lambda s: s.unit_index,
        )  # fmt: skip

    def effects(self, target: str, case: int = 0) -> list[Score]:
        return self.scores(target, "ablate", "effect", case)

    def weights(
        self, target: str, method: str = "ablate", metric: str = "weight", case: int = 0
    ) -> np.ndarray:
        found = self.scores(target, method, metric, case)
        return np.array([np.nan if s.value is None else s.value for s in found])


@dataclass
class World:
    """A study's context, and what answers it."""

    options: CiteOptions
    speaks: Any = field(default_factory=tokenizer)
    context_length: int = 512
    looks_at: int | None = None
    """Context length of the engine that looks inside; None for the same."""
    change: Change = lambda item, o: o
    asked: list[AnyItem] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    rendering: str = "auto"
    real: bool = True
    """Whether the bundled model is asked; if not, `change` makes every observation."""

    @property
    def ctx(self) -> StudyContext[CiteOptions]:
        def environment(name: str, timeout_s: float) -> MakeEnvironment:
            raise AssertionError("nothing is executed here")

        return StudyContext(
            options=self.options,
            sampling=Sampling(max_tokens=160),
            seed=1,
            model=find_model("testbed", "float32").ref,
            context_length=self.context_length,
            tokenizer=self.speaks,
            grading=Grader(),
            emit=self.rows.extend,
            warn=self.warnings.append,
            fact=self.warnings.append,
            tokenize=self.speaks.tokenize,
            comparing=load,
            environment=environment,
            rendering=self.rendering,
        )

    def answer(
        self, shuffle: random.Random | None = None
    ) -> Callable[[Sequence[AnyItem]], Iterable[Sequence[Observation]]]:
        """Answers at once and in order; or in an order and in batches of its own."""

        def one(item: AnyItem) -> list[Observation]:
            if not self.real:
                return [self.change(item, Observation(item.key, r)) for r in item.replicate_range]
            looks = isinstance(item, Call) and self.looks_at is not None
            length = self.looks_at if looks else self.context_length
            return [self.change(item, o) for o in ask([item], length or self.context_length)]

        def answer(items: Sequence[AnyItem]) -> Iterator[Sequence[Observation]]:
            self.asked += items
            plain = [i for i in items if isinstance(i, Item)]
            if self.real:
                list(ask(plain, self.context_length))  # together, which is faster
            heard = [o for i in items for o in one(i)]
            if shuffle is None:
                yield heard
                return
            shuffle.shuffle(heard)
            while heard:
                size = shuffle.randint(1, len(heard))
                yield heard[:size]
                heard = heard[size:]

        return answer

    def prepare(self, *traces: Trace) -> list[ContextCase]:
        """Cases of traces; what has no response is answered first."""
        study, ctx = Cite(), self.ctx
        asked = [study.prompted(t, ctx) if t.episode is None else t for t in traces]
        answered, rejects = drive(respond(asked, ctx), self.answer())
        assert not rejects, rejects
        return [c for t in answered for c in study.cases(t, ctx)]

    def run(self, *traces: Trace, shuffle: random.Random | None = None) -> Found:
        """Study traces."""
        cases = self.prepare(*traces)
        self.rows.clear()
        findings = drive(Cite().run(cases, self.ctx), self.answer(shuffle))
        return Found(cases, findings, list(self.rows))


def world(speaks: Any = None, *, context_length: int = 512, **options: Any) -> World:
    """A world of few ablations."""
    chosen = CiteOptions(**{"ablations": 32, "held_out": 8, "top_k": [1], **options})
    return World(chosen, speaks or tokenizer(), context_length)


def notes(target: object = None, **more: object) -> Trace:
    """A question of the market with a response that states three of its facts."""
    return trace_of(
        {
            "context": " Kale costs 4. Item Fig takes 7. Shop Oak adds 2. Plum costs 5."
            " Ivy adds 1.",
            "query": "How much is it for Kale and Fig at Oak?",
            "template": "Here are the notes.{context} {query}",
            "response": "Let me find the bill for Kale and Fig at Oak. I will add the two prices. "
            "Kale costs 4. Fig takes 7. So 4 plus 7 is 11. Oak adds 2. I will use this change. "
            "Now 11 plus 2 is 13. So the bill is 13.\n</think>\n\nThe bill is \\boxed{13}.",
            "target": target,
            **more,
        }
    )
