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
from dataclasses import dataclass, field
from typing import Any

from tracelab.studies.audit.subject import Audit, Subject

from tracelab.core.finding import Verdict
from tracelab.core.item import Item, Observation, Sampling
from tracelab.environments.testbed import MarketWorld
from tracelab.run.config import AuditConfig, RunConfig, parse_config
from tracelab.run.pool import Pool
from tracelab.run.wiring import Wired, wire
from tracelab.stats.intervals import wilson
from tracelab.studies.audit.play import Played, play, testbed_tasks
from tracelab.studies.audit.rerun import Chat, Rerunner
from tracelab.studies.cite.attribution import Observe
from tracelab.testbed.agent_labels import FAULTS, read
from tracelab.testbed.agent_runs import planted
from tracelab.testbed.agent_world import task

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

    played: Played
    kind: str  # planted, impossible, random, several, diffuse, unexplained
    cause: str | None
    action: int | None
    verdict: Verdict | None = None
    subject: Subject | None = None


@dataclass(slots=True)
class Bench:
    """All cases, and what they cost."""

    cases: list[Case] = field(default_factory=list)
    tasks: int = 0
    tokens: int = 0
    generated: int = 0
    seconds: float = 0.0
    play_seconds: float = 0.0
    rollouts: int = 0
    steps: int = 0


def config_of(options: BenchOptions) -> RunConfig:
    """The config of the engine and the audit."""
    return parse_config(
        {
            "name": "bench-audit", "pipeline": "failure_audit", "source": "testbed",
            "model": "testbed", "seed": options.seed,
            "engine": {"kind": options.engine, "dtype": "float32", "max_model_len": 512},
            "sampling": {"temperature": 1.0, "max_tokens": TURN},
            "audit": {
                "environment": "testbed", "rollouts": options.rollouts,
                "initial": options.initial, "evidence": False,
            },
            "runtime": {"batch_rollouts": 256, "in_flight": 4},
        },
        "bench audit",
    )  # fmt: skip


def observer(pool: Pool) -> Observe:
    """Asks a pool, without a journal."""

    def observe(name: str, items: Sequence[Item], on: Callable[[list[Observation]], None]) -> None:
        for batch in pool.run(items):
            on(batch)

    return observe


def run_bench(options: BenchOptions, say: Callable[[str], None] = lambda _: None) -> Bench:
    """Play, audit, and collect."""
    config = config_of(options)
    wired = wire(config)
    pool = wired.make_pool()
    try:
        return _bench(options, config, wired, observer(pool), say)
    finally:
        pool.close()


def _bench(
    options: BenchOptions, config: RunConfig, wired: Wired, observe: Observe,
    say: Callable[[str], None],
) -> Bench:  # fmt: skip
    began = time.monotonic()
    out = Bench()
    chat, sampling = Chat(wired.tokenizer), Sampling(max_tokens=TURN)  # type: ignore[arg-type]
    model = wired.spec.model

    def played(tasks: list[dict[str, Any]]) -> list[Played]:
        out.tasks += len(tasks)
        return play(tasks, chat, model, sampling, options.seed, observe)

    every = testbed_tasks(_MOST_TASKS, seed=options.seed, split=options.split)
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
    out.play_seconds = time.monotonic() - began
    say(f"{len(out.cases)} failures: {dict(Counter(c.kind for c in out.cases))}")
    rerunner = Rerunner(MarketWorld, chat, model, sampling, options.seed, observe)
    audit = Audit(config.audit, rerunner)
    for i, c in enumerate(out.cases):
        c.subject = Subject(str(i), c.played.run)
    verdicts = audit.examine([c.subject for c in out.cases if c.subject is not None])
    for c, v in zip(out.cases, verdicts, strict=True):
        c.verdict = v
        out.rollouts += v.rollouts
        out.steps += len(c.played.run.actions) if v.rollouts else 0
    out.tokens, out.generated = rerunner.tokens, rerunner.generated
    out.seconds = time.monotonic() - began
    return out


def _case(p: Played) -> Case | None:
    if p.run.score == 1.0:
        return None
    cause, action = planted(p.run.task, p.run.actions)
    kind = "planted" if action is not None else cause or "unexplained"
    return Case(p, kind, cause, action)


def _random_case(p: Played) -> Case | None:
    """A failure that the environment's chance explains: no fault of the agent's came before it."""
    if p.run.score == 1.0 or not p.flakes:
        return None
    data = p.run.task
    asked = task(data["split"], data["seed"], data["index"])
    before = read(asked, p.run.actions[: p.flakes[0] + 1]).steps
    if asked.hidden or any(s.role in FAULTS or s.role == "garbled" for s in before):
        return None
    return Case(p, "random", "random", None)


def summary(bench: Bench, options: BenchOptions, audit: AuditConfig) -> dict[str, Any]:
    """The figures, with 95 % Wilson intervals and what they rest on."""
    by: dict[str, list[Case]] = {}
    for c in bench.cases:
        by.setdefault(c.kind, []).append(c)
    known = by.get("planted", [])
    none = by.get("impossible", []) + by.get("random", [])
    steps = [(c, c.played.run.steps[c.action]) for c in known if c.action is not None]

    def share(hits: Sequence[bool]) -> tuple[float | None, list[float] | None]:
        if not hits:
            return None, None
        lo, hi = wilson([sum(hits)], [len(hits)], 0.95)
        return round(sum(hits) / len(hits), 4), [round(float(lo[0]), 4), round(float(hi[0]), 4)]

    figures = {
        "step_top1": [_v(c).decisive_step == s for c, s in steps],
        "agent_top1": [_v(c).agent == c.played.run.agents[c.action or 0] for c, _ in steps],
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
    most = [int(s.planned.max()) for c in bench.cases if (s := c.subject) and len(s.planned)]
    sizes = [len(_v(c).credible_set) for c, _ in steps if _v(c).credible_set]
    return out | {
        "rollouts_per_step": round(bench.rollouts / max(bench.steps, 1), 3),
        "most_rollouts_a_step": max(most, default=0),
        "credible_set_size": round(sum(sizes) / max(len(sizes), 1), 3),
        "n": {k: len(v) for k, v in sorted(by.items())},
        "statuses": {
            k: dict(Counter(_v(c).status for c in v)) for k, v in sorted(by.items())
        },
        "misses": [
            {"run": c.played.run.name, "cause": c.cause, "step": s,
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
