"""Which sentences of a chain of thought decided the answer?

    source ─► base traces ─► sentences ─► one scoring pass ─► rounds of rollouts ─► scores, links

`python -m pipelines.thought_anchors CONFIG`, or `tracelab run CONFIG`. Running it again finishes
what is missing; a finished run is only loaded again, in seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection
from tracelab.run.finish import Summary, finish, leave, run_row
from tracelab.studies.anchors.estimates import annotator, estimate
from tracelab.studies.anchors.inputs import (
    answer_questions,
    gather,
    prepare,
    sampling_of,
    score_traces,
)
from tracelab.studies.anchors.inside import asked, look_inside, merged, read
from tracelab.studies.anchors.subject import FORCE, RolloutSink, Study

from tracelab.core.errors import PlanError, TracelabError
from tracelab.core.item import ModelRef
from tracelab.core.rows import ItemRow
from tracelab.engines.base import Tokenizer
from tracelab.engines.http import BlockingPost
from tracelab.grading.grader import Grader
from tracelab.run.config import RunConfig, parse_config
from tracelab.run.loader import Loader
from tracelab.run.progress import RunProgress
from tracelab.run.session import InterruptedRunError, Run
from tracelab.sources.base import tell_rejects
from tracelab.store.home import GRADES
from tracelab.store.journal import Journal, deduplicated
from tracelab.store.load import RejectRow, load_items, load_run, load_traces
from tracelab.studies.anchors import force
from tracelab.studies.anchors.resample import Planned
from tracelab.studies.anchors.rounds import Rounds


def rounds(config: RunConfig, studies: Sequence[Study], model: ModelRef) -> Rounds:
    """The run's rollouts, round by round."""
    return Rounds(
        config.resample, studies, model=model, sampling=sampling_of(config), seed=config.seed
    )


def forced(
    config: RunConfig, studies: Sequence[Study], model: ModelRef, suffix: Sequence[int]
) -> list[Planned]:
    """Forced answers from every boundary of every trace, if the config asks for them."""
    if "force" not in config.resample.methods:
        return []
    return [
        p
        for s in studies
        for p in force.plan(
            s.tokens,
            s.units,
            model=model,
            sampling=sampling_of(config),
            suffix_ids=suffix,
            rollouts=config.resample.rollouts,
            seed=config.seed,
        )
    ]


def execute(run: Run, tokenizer: Tokenizer, *, wait_s: float) -> Summary:
    """Do, or finish, the whole study."""
    config, model = run.config, run.spec.model
    annotate = annotator(config)  # first: a wrong name is to be told before anything is sampled
    inputs = gather(config)
    with contextlib.closing(
        Grader(config.grading, cache_dir=run.home.grades, connect=BlockingPost)
    ) as grader:
        if inputs.questions:
            answer_questions(config, run, inputs, tokenizer, grader)
        studies = prepare(config, inputs, tokenizer, grader, run.spec.context_length)
        if not studies:
            first = inputs.rejects[0]
            raise PlanError(
                f"no trace can be studied ({len(inputs.rejects)} rejected); the first: {first}"
            )
        tell_rejects(inputs.rejects, run.progress.warn)
        score_traces(config, run, studies)
        rejects = [RejectRow(r.file, r.line, r.reason, r.excerpt) for r in inputs.rejects]
        run.journal.write_lines("traces.jsonl", (s.to_json() for s in studies))
        run.journal.write_lines("rejects.jsonl", (asdict(r) for r in rejects))

        suffix = tokenizer.encode_text(config.resample.force_suffix)
        answers = forced(config, studies, model, suffix)
        plan = rounds(config, studies, model)
        places: list[ItemRow] = []

        def replan() -> None:
            """What is planned by now, for whoever reads the journal or the database."""
            places[:] = [*plan.places(), *(_place(p, FORCE) for p in answers)]
            run.journal.write_lines("plan.jsonl", (asdict(p) for p in places))
            sink.expect(places)

        def open_rows(con: DuckDBPyConnection) -> None:
            load_run(con, run_row(run.record, "running"))
            load_traces(con, config.name, [s.loaded() for s in studies])
            load_items(con, config.name, places)

        loader = Loader(run.home.database, config.name, run.progress.warn, open_rows)
        sink = RolloutSink(studies, grader, loader, annotate, config.resample.force_suffix)
        try:
            while planned := plan.next():
                replan()
                if plan.decided is not None:
                    run.progress.study(plan.decided, plan.units, plan.recycled)
                name = "rollouts" if plan.rounds == 1 else f"rollouts, round {plan.rounds}"
                run.observe(name, [p.item for p in planned], sink)
            if answers:
                run.observe("forced answers", [p.item for p in answers], sink)
        except TracelabError as e:
            leave(run.record, loader, interrupted=isinstance(e, InterruptedRunError))
            raise
        found = estimate(config, studies, annotate.name)
        if asked(config):
            found.add(look_inside(config, studies, run.journal, run.progress))
        run.save_session()
        return finish(
            run.journal,
            run.finished(),
            loader,
            sink,
            studies=studies,
            places=places,
            estimates=found,
            rejects=rejects,
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
    with contextlib.closing(
        Grader(config.grading, cache_dir=database.parent / GRADES, connect=BlockingPost)
    ) as grader:
        annotate = annotator(config)
        sink = RolloutSink(studies, grader, loader, annotate, config.resample.force_suffix)
        sink.expect(places)
        for part in deduplicated(journal.observations()):
            sink(part)
        found = estimate(config, studies, annotate.name)
        found.add(merged(read(journal), asked(config)))
        return finish(
            journal,
            record,
            loader,
            sink,
            studies=studies,
            places=places,
            estimates=found,
            rejects=rejects,
            wait_s=30.0,
        )


def _place(p: Planned, intervention: str) -> ItemRow:
    return ItemRow(
        p.trace_id, p.item.key, p.boundary, p.start_token, p.item.replicates, intervention
    )


if __name__ == "__main__":
    from tracelab.cli.app import run_module

    run_module()
