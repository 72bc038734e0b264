"""How the benchmark drives tracelab: the code of `tracelab cite`, with an engine that stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar, cast

from benchmarks.cite.peer import Case
from tracelab.core.errors import PlanError
from tracelab.core.finding import Findings
from tracelab.core.flow import Flow
from tracelab.core.study import StudyContext
from tracelab.core.trace import Trace
from tracelab.run.config import RunConfig, parse_config
from tracelab.run.execute import Work
from tracelab.run.loop import Answering, Loop, Unwatched
from tracelab.run.pool import Pool
from tracelab.run.progress import RunProgress
from tracelab.run.wiring import Wired, local_pool, wire
from tracelab.sources.context import trace_of
from tracelab.store.journal import Peek
from tracelab.studies.cite.case import ContextCase
from tracelab.studies.cite.study import Cite
from tracelab.studies.respond import respond

T = TypeVar("T")

NAME = "bench-cite"


class Worker:
    """One engine, and attributions made with it."""

    def __init__(
        self, engine: str, model: str, *, max_tokens: int = 200, **options: object
    ) -> None:
        """Start the engine (vLLM starts with the first question).

        Args:
            engine: `transformers` or `vllm`.
            model: `testbed` or a directory.
            max_tokens: Most that an answer has.
            options: Of `tracelab.studies.cite.options.CiteOptions`.
        """
        config: RunConfig = parse_config(
            {
                "name": NAME, "study": "cite", "source": "testbed",
                "model": model, "seed": 1,
                "engine": {"kind": engine, "dtype": "float32"},
                "sampling": {"temperature": 1.0, "max_tokens": max_tokens},
                "cite": {"held_out": 0, "top_k": [], **options},
            },
            "benchmarks cite",
        )  # fmt: skip
        wired: Wired = wire(config)
        self._opened = ExitStack()
        progress = self._opened.enter_context(RunProgress(quiet=True))
        self._work = self._opened.enter_context(
            Work(config, wired, _journal(), lambda rows: None, progress)
        )
        self._pool: Pool = (
            local_pool(wired.spec, config.runtime.batch_rollouts)
            if engine == "transformers"
            else wired.make_pool()
        )
        self._opened.callback(self._pool.close)
        self.path: str = wired.spec.path

    @property
    def ctx(self) -> StudyContext[Any]:
        """What the study is given."""
        return self._work.ctx

    def drive(self, flow: Flow[T]) -> T:
        """Run a flow with the engine; nothing is remembered from another."""
        answering: dict[str, Callable[[], Answering]] = dict.fromkeys(
            ("generate", "score"), lambda: cast(Answering, self._pool)
        )
        return Loop(_journal(), Unwatched(), answering).drive(flow)

    def cases(self, traces: Iterable[Trace]) -> tuple[list[ContextCase], list[str]]:
        """What is studied of some traces, and why the others cannot be.

        What has no response yet is answered first.
        """
        study, ctx = Cite(), self.ctx
        prompted = [t if t.answered else study.prompted(t, ctx) for t in traces]
        answered, rejects = self.drive(respond(prompted, ctx))
        found: list[ContextCase] = []
        reasons = [r.reason for r in rejects]
        for trace in answered:
            try:
                found += study.cases(trace, ctx)
            except PlanError as e:
                reasons.append(f"{trace.name}: {e}")
        return found, reasons

    def cite(self, cases: Sequence[Case], target: Any) -> Findings:
        """Attribute the responses of some cases, from their texts to the scores.

        Raises:
            ValueError: One of them cannot be studied.
        """
        found, reasons = self.cases(trace(c, target) for c in cases)
        if reasons:
            raise ValueError(reasons[0])
        return self.drive(Cite().run(found, self.ctx))

    def close(self) -> None:
        """Stop the engine."""
        self._opened.close()


def trace(case: Case, target: Any) -> Trace:
    """A case as a trace; see `tracelab.studies.cite.targets.parse_targets` for the target."""
    given = {"context": case.context, "query": case.query, "template": case.template}
    return trace_of({**given, "response": case.response, "target": target})


def _journal() -> Peek:
    """A journal that remembers nothing."""
    return Peek("memory://bench", NAME, empty=True)
