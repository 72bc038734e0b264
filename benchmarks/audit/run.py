"""Failures with planted causes, audited: how often is the audit right?

The bundled model plays testbed tasks of the evaluation split. Its failures with one planted fault
have a known decisive step (`agent_labels.read`). Two more kinds have none: tasks that nobody could
solve, and failures of an environment that goes wrong at random; an audit that names a step there is
confidently wrong. `several` and `diffuse` failures (two faults, or turns wasted up to the limit)
are audited and reported apart: no step explains them in the world's sense, yet one step may well be
where the chance of success fell.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, cast

from tracelab.core.finding import Verdict
from tracelab.core.seam import RecordedRun, Row
from tracelab.core.study import StudyContext
from tracelab.run.answering import Acting
from tracelab.run.config import RunConfig, parse_config
from tracelab.run.execute import Work
from tracelab.run.loop import Answering, Loop, Unwatched
from tracelab.run.pool import Pool
from tracelab.run.progress import RunProgress
from tracelab.run.wiring import Wired, local_pool, quiet_transformers, wire
from tracelab.stats.intervals import wilson
from tracelab.store.journal import Peek
from tracelab.studies.audit.options import AuditOptions
from tracelab.studies.audit.play import Played, market_tasks, play
from tracelab.studies.audit.rows import RerunRow
from tracelab.studies.audit.study import Audit
from tracelab.studies.chat import Chat
from tracelab.testbed.agent_labels import FAULTS, read
from tracelab.testbed.agent_runs import as_trace, planted, recorded, task_of

FLAKY = 0.08
"""Chance that the random environment spoils a reply."""
CHUNK = 200
TURN = 64
_MOST_TASKS = 4000


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What the command was asked."""

    seed: int = 0
    planted: int = 200
    flaky_tasks: int = 160
    engine: str = "vllm"
    rollouts: int = 16
    initial: int = 4
    split: str = "evaluation"


@dataclass(slots=True)
class Case:
    """One failure: what was planted, and what the audit says."""

    run: RecordedRun
    kind: str  # planted, impossible, random, several, diffuse, unexplained
    cause: str | None
    action: int | None
    verdict: Verdict | None = None


@dataclass(slots=True)
class Bench:
    """All cases, and what they cost.

    Attributes:
        cases: The failures.
        tasks: Tasks played.
        tokens: Prompt and generated tokens of re-executions.
        generated: Generated tokens of the same.
        seconds: Of everything.
        rollouts: Re-executions from before a step.
        most: Most of them from before one step.
        steps: Steps of the failures that were re-executed.
    """

    cases: list[Case] = field(default_factory=list)
    tasks: int = 0
    tokens: int = 0
    generated: int = 0
    seconds: float = 0.0
    rollouts: int = 0
    most: int = 0
    steps: int = 0


def config_of(options: BenchOptions) -> RunConfig:
    """The config of the engine and the audit."""
    return parse_config(
        {
            "name": "bench-audit", "study": "audit", "source": "testbed",
            "model": "testbed", "seed": options.seed,
            "engine": {"kind": options.engine, "dtype": "float32", "max_model_len": 512},
            "sampling": {"temperature": 1.0, "max_tokens": TURN},
            "audit": {
                "environment": "testbed", "rollouts": options.rollouts,
                "initial": options.initial, "evidence": False,
            },
            "runtime": {"batch_rollouts": 256, "in_flight": 4},
        },
        "benchmarks audit",
    )  # fmt: skip


def run_bench(options: BenchOptions, say: Callable[[str], None] = lambda _: None) -> Bench:
    """Play, audit, and collect; nothing is left behind."""
    config = config_of(options)
    wired = wire(config)
    starts: Counter[tuple[str, int]] = Counter()

    def emit(rows: Sequence[Row]) -> None:
        made = (r for r in rows if isinstance(r, RerunRow))
        starts.update((r.trace_id, r.start_step) for r in made if not r.forced)

    journal = Peek("memory://benchmarks", config.name, empty=True)
    with (
        RunProgress(quiet=True) as progress,
        Work(config, wired, journal, emit, progress) as work,
        closing(_pool(config, wired)) as pool,
        closing(Acting(1)) as acting,
    ):
        ctx = cast(StudyContext[AuditOptions], work.ctx)
        model = cast(Answering, pool)
        loop = Loop(
            journal,
            Unwatched(),
            {"generate": lambda: model, "score": lambda: model, "act": lambda: acting},
            {"rerun": Audit().reruns(ctx)},
        )
        found = _bench(options, ctx, loop, pool, say)
    found.most = max(starts.values(), default=0)
    return found


def _pool(config: RunConfig, wired: Wired) -> Pool:
    if config.engine.kind == "transformers":
        quiet_transformers()
        return local_pool(wired.spec, config.runtime.batch_rollouts)
    return wired.make_pool()


def _bench(
    options: BenchOptions,
    ctx: StudyContext[AuditOptions],
    loop: Loop,
    pool: Pool,
    say: Callable[[str], None],
) -> Bench:
    began = time.monotonic()
    out = Bench()
    chat, make = Chat(ctx.tokenizer), ctx.environment("testbed", ctx.options.timeout_s)

    def played(tasks: Sequence[dict[str, Any]]) -> list[Played]:
        out.tasks += len(tasks)
        return loop.drive(play(tasks, make, chat, ctx.model, ctx.sampling, ctx.seed))

    every = market_tasks(_MOST_TASKS, seed=options.seed, split=options.split)
    for at in range(0, _MOST_TASKS, CHUNK):
        out.cases += [c for p in played(every[at : at + CHUNK]) if (c := _case(p)) is not None]
        found = sum(c.kind == "planted" for c in out.cases)
        say(f"{out.tasks} tasks played, {found} failures with one planted cause")
        if found >= options.planted:
            break
    flaky = [
        {**t, "index": t["index"] + 1_000_000, "flaky": FLAKY} for t in every[: options.flaky_tasks]
    ]
    out.cases += [c for p in played(flaky) if (c := _random_case(p)) is not None]
    say(f"{len(out.cases)} failures: {dict(Counter(c.kind for c in out.cases))}")
    before = pool.counters().generated_tokens
    _examine(out, ctx, loop)
    out.generated = pool.counters().generated_tokens - before
    out.seconds = time.monotonic() - began
    return out


def _examine(out: Bench, ctx: StudyContext[AuditOptions], loop: Loop) -> None:
    """Audit all cases."""
    study = Audit()
    runs = [run for c in out.cases for run in study.cases(as_trace(c.run), ctx)]
    verdicts = {v.trace_id: v for v in loop.drive(study.run(runs, ctx)).verdicts}
    for c, run in zip(out.cases, runs, strict=True):
        c.verdict = v = verdicts[run.trace_id]
        out.rollouts += v.rollouts
        out.tokens += v.tokens
        out.steps += len(c.run.actions) if v.rollouts else 0


def _run_of(p: Played) -> RecordedRun:
    return recorded(p.name, p.task, p.actions, p.before, p.end, p.score or 0.0)


def _case(p: Played) -> Case | None:
    if p.score == 1.0:
        return None
    cause, action = planted(p.task, p.actions)
    kind = "planted" if action is not None else cause or "unexplained"
    return Case(_run_of(p), kind, cause, action)


def _random_case(p: Played) -> Case | None:
    """A failure that the environment's chance explains: no fault of the agent's came before it."""
    if p.score == 1.0 or not p.flakes:
        return None
    asked = task_of(p.task)
    before = read(asked, p.actions[: p.flakes[0] + 1]).steps
    if asked.hidden or any(s.role in FAULTS or s.role == "garbled" for s in before):
        return None
    return Case(_run_of(p), "random", "random", None)


def summary(bench: Bench, options: BenchOptions) -> dict[str, Any]:
    """The figures, with 95 % Wilson intervals and what they rest on."""
    audit = cast(AuditOptions, config_of(options).options)
    by: dict[str, list[Case]] = {}
    for c in bench.cases:
        by.setdefault(c.kind, []).append(c)
    known = by.get("planted", [])
    none = by.get("impossible", []) + by.get("random", [])
    steps = [(c, c.run.steps[c.action]) for c in known if c.action is not None]

    def share(hits: Sequence[bool]) -> tuple[float | None, list[float] | None]:
        if not hits:
            return None, None
        lo, hi = wilson([sum(hits)], [len(hits)], 0.95)
        return round(sum(hits) / len(hits), 4), [round(float(lo[0]), 4), round(float(hi[0]), 4)]

    figures = {
        "step_top1": [_v(c).decisive_step == s for c, s in steps],
        "agent_top1": [_v(c).agent == c.run.agents[c.action or 0] for c, _ in steps],
        "credible_set_coverage_90": [s in _v(c).credible_set for c, s in steps],
        "false_localized": [_v(c).status == "localized" for c in none],
        "step_top1_argmax_rescue": [_v(c).extra.get("argmax_rescue") == s for c, s in steps],
        "localized_right": [
            _v(c).decisive_step == s for c, s in steps if _v(c).status == "localized"
        ],
        "correctable_is_decisive": [
            _v(c).correctable_step == s for c, s in steps if _v(c).correctable_step is not None
        ],
    }
    out: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    for name, hits in figures.items():
        out[name], intervals[name] = share(hits)
    sizes = [len(_v(c).credible_set) for c, _ in steps if _v(c).credible_set]
    return out | {
        "rollouts_per_step": round(bench.rollouts / max(bench.steps, 1), 3),
        "most_rollouts_a_step": bench.most,
        "credible_set_size": round(sum(sizes) / max(len(sizes), 1), 3),
        "n": {k: len(v) for k, v in sorted(by.items())},
        "statuses": {
            k: dict(Counter(_v(c).status for c in v)) for k, v in sorted(by.items())
        },
        "misses": [
            {"run": c.run.name, "cause": c.cause, "step": s,
             "decisive_step": _v(c).decisive_step, "status": _v(c).status}
            for c, s in steps if _v(c).decisive_step != s
        ],
        "intervals_95": intervals,
        "tasks": bench.tasks,
        "rollouts": bench.rollouts,
        "tokens": bench.tokens,
        "generated_tokens": bench.generated,
        "seconds": round(bench.seconds, 1),
        "seed": options.seed,
        "split": options.split,
        "engine": options.engine,
        "flaky": FLAKY,
        "delta": audit.delta,
        "confidence": audit.confidence,
    }  # fmt: skip


def _v(case: Case) -> Verdict:
    assert case.verdict is not None
    return case.verdict
