"""Passages that we wrote, each with a question, an answer and the one sentence that states it."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.cite.peer import Case
from benchmarks.cite.work import Worker
from tracelab.core.flow import Flow, drive
from tracelab.core.item import AnyItem, Observation
from tracelab.core.trace import Trace
from tracelab.engines import aio
from tracelab.engines.base import WhiteBox
from tracelab.sources.context import trace_of

T = TypeVar("T")

TEMPLATE = "{context}\n\n{query} Answer in one sentence."


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage.

    Attributes:
        query: The question.
        response: The answer, in a sentence.
        support: Which sentence states it.
        sentences: All of them.
    """

    query: str
    response: str
    support: int
    sentences: tuple[str, ...]

    @property
    def context(self) -> str:
        """The sentences as one text."""
        return " ".join(self.sentences)

    def trace(self) -> Trace:
        """As `tracelab cite` reads it."""
        return trace_of(
            {
                "context": self.context, "query": self.query, "template": TEMPLATE,
                "response": self.response, "target": "response", "id": self.query,
            }
        )  # fmt: skip

    def case(self) -> Case:
        """As the context-cite package is asked."""
        return Case(self.context, self.query, TEMPLATE, self.response)


def passages() -> list[Passage]:
    """All of `passages.tsv`."""
    with Path(__file__).with_name("passages.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    return [Passage(q, r, int(k), tuple(sentences)) for q, r, k, *sentences in rows[1:]]


class RealWorker(Worker):
    """A worker whose engine can also be looked into."""

    def look(self, flow: Flow[T]) -> T:
        """Run a flow that asks for looks into the model alone."""
        engine: WhiteBox | None = getattr(self._pool, "white_box", None)
        assert engine is not None, "only the transformers engine can be looked into"
        inside = engine

        def answer(items: Iterable[AnyItem]) -> Iterable[list[Observation]]:
            return (aio.run(inside.look([i])) for i in items)  # type: ignore[list-item]

        return drive(flow, answer)


Tell = Callable[[str], None]
