"""Which sentences of a chain of thought decided the answer?

    source ─► base traces ─► sentences ─► rollouts from every boundary ─► scores ─► warehouse

`python -m pipelines.thought_anchors CONFIG`, or `tracelab run CONFIG`. Running it again finishes
what is missing; a finished run is only loaded again, in seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection

from tracelab.config import RunConfig, parse_config
from tracelab.engines.base import Tokenizer
from tracelab.errors import ImportFormatError, PlanError, TracelabError
from tracelab.grading import Grader
from tracelab.methods import resample
from tracelab.methods.resample import Planned
from tracelab.runtime.finish import Summary, finish, leave, run_row
from tracelab.runtime.journal import Journal, deduplicated
from tracelab.runtime.loader import Loader
from tracelab.runtime.progress import RunProgress
from tracelab.runtime.run import InterruptedRunError, Run
from tracelab.runtime.study import RolloutSink, Study, begin
from tracelab.sources import read
from tracelab.sources.base import Reject, tell_rejects
from tracelab.testbed import Problem
from tracelab.trace import Trace
from tracelab.warehouse_load import ItemRow, RejectRow, load_items, load_run, load_traces
from tracelab.work import ModelRef, Observation, Sampling, Score, WorkItem

BASE = "base"
"""Intervention of base traces: a boundary must never count the trace it belongs to as a sample."""


@dataclass(slots=True)
class Inputs:
    """What the source gave: traces to study, testbed problems to answer first, refusals."""

    traces: list[Trace] = field(default_factory=list)
    problems: dict[str, Problem] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)


def sampling_of(config: RunConfig) -> Sampling:
    """Rollouts are sampled exactly as base traces are."""
    s = config.sampling
    return Sampling(s.temperature, s.top_p, s.top_k, s.max_tokens)


def gather(config: RunConfig) -> Inputs:
    """Read the source.

    Raises:
        ImportFormatError: Nothing can be read from it.
    """
    options = config.source_options
    if config.source == "testbed":
        from tracelab.sources.testbed import ask

        drawn = ask(options.problems, seed=config.seed, phrasing=options.phrasing)
        return Inputs(problems=drawn)
    inputs = Inputs()
    for found in read(config.source, options.format):
        if isinstance(found, Reject):
            inputs.rejects.append(found)
        elif options.limit is None or len(inputs.traces) < options.limit:
            if options.rendering != "auto":
                found = replace(found, rendering=options.rendering)
            inputs.traces.append(found)
    if not inputs.traces and inputs.rejects:
        first = inputs.rejects[0]
        raise ImportFormatError(
            f"{config.source}: none of its {len(inputs.rejects)} records can be used; the first: "
            f"{first}"
        )
    return inputs


def base_items(
    config: RunConfig, inputs: Inputs, model: ModelRef, tokenizer: Tokenizer
) -> dict[str, WorkItem]:
    """One generation for each question that has no response yet, by the question's name."""
    from tracelab.sources.testbed import question

    items = {}
    for name, problem in inputs.problems.items():
        q = question(problem)
        items[name] = WorkItem(
            model=model,
            prefix_ids=tokenizer.render(q.turns, q.rendering),
            sampling=sampling_of(config),
            seed=config.seed,
            intervention=BASE,
        )
    return items


def answer_questions(
    config: RunConfig, run: Run, inputs: Inputs, tokenizer: Tokenizer, grader: Grader
) -> None:
    """Sample a base trace for every question; failures become rejects."""
    items = base_items(config, inputs, run.spec.model, tokenizer)
    seen: dict[str, Observation] = {}
    run.observe("base traces", list(items.values()), lambda b: seen.update({o.key: o for o in b}))
    adopt_answers(config, run.spec.model, items, seen, inputs, grader)


def adopt_answers(
    config: RunConfig,
    model: ModelRef,
    items: dict[str, WorkItem],
    seen: dict[str, Observation],
    inputs: Inputs,
    grader: Grader,
) -> None:
    """Turn the answers to questions that have been seen into traces of `inputs`."""
    from tracelab.sources.testbed import question, roles

    for name, item in items.items():
        if item.key not in seen:
            continue
        o, problem = seen[item.key], inputs.problems[name]
        q = question(problem)
        if o.error is not None:
            inputs.rejects.append(Reject(q.source, 0, f"{name}: no base trace: {o.error}", ""))
            continue
        outcome = grader.grade(
            o.text, reference=q.reference, own_answer=None, finish_reason=o.finish_reason
        )
        answer = outcome.answer if outcome.status == "graded" else None
        trace = q.answered(o.text, o.token_ids, model.name, answer)
        success = None if outcome.reward is None else outcome.reward == 1
        known = [list(r) for r in roles(problem, o.text)]
        inputs.traces.append(replace(trace, success=success, extra={**trace.extra, "roles": known}))


def prepare(
    config: RunConfig,
    inputs: Inputs,
    tokenizer: Tokenizer,
    grader: Grader,
    context_length: int,
) -> list[Study]:
    """Tokenise and cut every trace; what cannot be studied becomes a reject.

    Raises:
        ImportFormatError: The source has traces, and none of them can be studied.
    """
    studies = []
    for trace in inputs.traces:
        try:
            studies.append(
                begin(
                    tokenizer.tokenize(gradable(trace, grader)),
                    config.resample.segmenter,
                    max_units=config.resample.max_units,
                    context_length=context_length,
                )
            )
        except PlanError as e:
            inputs.rejects.append(Reject(trace.source, trace.line, f"{trace.name}: {e}", ""))
    if not studies and not inputs.problems:
        raise ImportFormatError(
            f"{config.source}: no trace of it can be studied ({len(inputs.rejects)} rejected); "
            f"the first: {inputs.rejects[0]}"
        )
    return studies


def gradable(trace: Trace, grader: Grader) -> Trace:
    """Complete a trace with its own answer and with what its rollouts are rewarded for.

    Raises:
        PlanError: No rollout of it could ever be graded.
    """
    answer = trace.answer if trace.answer is not None else grader.extract(trace.response)
    kind = grader.reward_kind(trace.reference, answer)
    if kind is None:
        raise PlanError(
            "has no reference, and no final answer that grading can find, so no rollout of it "
            "could be graded"
        )
    return replace(trace, answer=answer, extra={**trace.extra, "reward_kind": kind})


def plan(config: RunConfig, studies: Sequence[Study], model: ModelRef) -> list[Planned]:
    """Rollouts from every boundary of every trace."""
    return [
        p
        for s in studies
        for p in resample.plan(
            s.tokens,
            s.units,
            model=model,
            sampling=sampling_of(config),
            rollouts=config.resample.rollouts,
            seed=config.seed,
        )
    ]


def estimate(config: RunConfig, studies: Sequence[Study]) -> list[Score]:
    """All scores of all traces."""
    return [
        score
        for s in studies
        for score in resample.estimate(
            s.trace.trace_id, s.units, s.rollouts, level=config.resample.level
        )
    ]


def execute(run: Run, tokenizer: Tokenizer, *, wait_s: float) -> Summary:
    """Do, or finish, the whole study."""
    config = run.config
    inputs = gather(config)
    with contextlib.closing(Grader(config.grading)) as grader:
        if inputs.problems:
            answer_questions(config, run, inputs, tokenizer, grader)
        studies = prepare(config, inputs, tokenizer, grader, run.spec.context_length)
        if not studies:
            first = inputs.rejects[0]
            raise PlanError(
                f"no trace can be studied ({len(inputs.rejects)} rejected); the first: {first}"
            )
        tell_rejects(inputs.rejects, run.progress.warn)
        planned = plan(config, studies, run.spec.model)
        places = [
            ItemRow(p.trace_id, p.item.key, p.boundary, p.start_token, p.item.replicates)
            for p in planned
        ]
        rejects = [RejectRow(r.file, r.line, r.reason, r.excerpt) for r in inputs.rejects]
        run.journal.write_lines("traces.jsonl", (s.to_json() for s in studies))
        run.journal.write_lines("plan.jsonl", (asdict(p) for p in places))
        run.journal.write_lines("rejects.jsonl", (asdict(r) for r in rejects))

        def open_rows(con: DuckDBPyConnection) -> None:
            load_run(con, run_row(run.record, "running"))
            load_traces(con, config.name, [s.loaded() for s in studies])
            load_items(con, config.name, places)

        loader = Loader(run.home.database, config.name, run.progress.warn, open_rows)
        sink = RolloutSink(studies, places, grader, loader)
        try:
            run.observe("rollouts", [p.item for p in planned], sink)
        except TracelabError as e:
            leave(run.record, loader, interrupted=isinstance(e, InterruptedRunError))
            raise
        run.save_session()
        return finish(
            run.journal,
            run.finished(),
            loader,
            sink,
            studies=studies,
            places=places,
            scores=estimate(config, studies),
            rejects=rejects,
            estimator_version=str(resample.ESTIMATOR_VERSION),
            wait_s=wait_s,
        )


def rebuild(
    record: dict[str, Any], journal: Journal, database: Path, progress: RunProgress
) -> Summary:
    """Load a finished run from its journal alone: no model, no engine."""
    config = parse_config(record["config"], "run.json")
    studies = [Study.from_json(d) for d in journal.read_lines("traces.jsonl")]
    places = [ItemRow(**d) for d in journal.read_lines("plan.jsonl")]
    rejects = [RejectRow(**d) for d in journal.read_lines("rejects.jsonl")]
    loader = Loader(database, config.name, progress.warn)
    with contextlib.closing(Grader(config.grading)) as grader:
        sink = RolloutSink(studies, places, grader, loader)
        for part in deduplicated(journal.observations()):
            sink(part)
        return finish(
            journal,
            record,
            loader,
            sink,
            studies=studies,
            places=places,
            scores=estimate(config, studies),
            rejects=rejects,
            estimator_version=str(resample.ESTIMATOR_VERSION),
            wait_s=30.0,
        )


if __name__ == "__main__":
    from tracelab.cli import run_module

    run_module()
