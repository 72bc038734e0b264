"""How the benchmark drives tracelab: the code of `tracelab cite`, with an engine that stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from benchmarks.cite.peer import Case
from tracelab.core.item import Item, Observation
from tracelab.run.config import RunConfig, parse_config
from tracelab.run.pool import Pool
from tracelab.run.wiring import Wired, local_pool, wire
from tracelab.sources.context import ContextRecord, record_of
from tracelab.studies.cite.attribution import Attribution, cut_of


class Worker:
    """One engine, and attributions made with it."""

    def __init__(self, engine: str, model: str, **context: object) -> None:
        """Start the engine (vLLM starts with the first question).

        Args:
            engine: `transformers` or `vllm`.
            model: `testbed` or a directory.
            context: Options of `tracelab.run.config.ContextConfig`.
        """
        self.config: RunConfig = parse_config(
            {
                "name": "bench-cite", "pipeline": "context_attribution", "source": "testbed",
                "model": model, "seed": 1,
                "engine": {"kind": engine, "dtype": "float32"},
                "sampling": {"temperature": 1.0, "max_tokens": 200},
                "context": {"held_out": 0, "top_k": [], **context},
            },
            "benchmarks cite",
        )  # fmt: skip
        self._wired: Wired = wire(self.config)
        self._pool: Pool = (
            local_pool(self._wired.spec) if engine == "transformers" else self._wired.make_pool()
        )
        self.path: str = self._wired.spec.path

    @property
    def tokenizer(self) -> ChatTokenizer:
        """The model's."""
        return cast(ChatTokenizer, self._wired.tokenizer)

    @property
    def model(self) -> Any:
        """What items name as their model."""
        return self._wired.spec.model

    def work(self) -> Attribution:
        """A fresh piece of work: nothing is remembered from another."""
        return Attribution(
            self.config, self.tokenizer, self.model, self._wired.spec.context_length,
            self.observe, ProbeSink(), [],
        )  # fmt: skip

    def observe(
        self,
        name: str,
        items: Sequence[Item],
        on: Callable[[list[Observation]], None],
    ) -> None:
        """Ask the engine; see `tracelab.studies.cite.attribution.Observe`."""
        for batch in self._pool.run(list({i.key: i for i in items}.values())):
            on(batch)

    def cite(self, cases: Sequence[Case], target: object) -> list[Explained]:
        """Attribute the responses of some cases, from the records to the scores."""
        work = self.work()
        studies = work.respond([self.record(c, target) for c in cases])
        if work.rejects:
            raise ValueError(work.rejects[0].reason)
        return work.measure(studies)

    def record(self, case: Case, target: object) -> ContextRecord:
        """A case as a record."""
        given = {"context": case.context, "query": case.query, "response": case.response}
        return record_of({**given, "target": target}, cut_of(self.config), template=case.template)

    def close(self) -> None:
        """Stop the engine."""
        self._pool.close()
