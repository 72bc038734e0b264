"""Which spans of the context is each statement of a response made of?

    source ─► contexts ─► responses ─► ablated prompts ─► log-probabilities ─► scores ─► warehouse

`python -m pipelines.context_attribution CONFIG`, or `tracelab run CONFIG`. Running it again
finishes what is missing; a finished run is only loaded again, in seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from duckdb import DuckDBPyConnection

from tracelab.core.errors import (
    ConfigError,
    ImportFormatError,
    LockedError,
    PlanError,
    TracelabError,
    WarehouseError,
)
from tracelab.core.seam import Reject
from tracelab.engines.base import Tokenizer
from tracelab.run.config import RunConfig, parse_config
from tracelab.run.finish import Summary, run_row, session_row
from tracelab.run.progress import RunProgress
from tracelab.run.session import InterruptedRunError, Run
from tracelab.sources.base import tell_rejects
from tracelab.sources.context import ContextRecord, read_contexts
from tracelab.store.cite_rows import ProbeRow, PrunedRow, load_context_rows
from tracelab.store.connect import open_writer, transaction
from tracelab.store.journal import Journal, deduplicated
from tracelab.store.load import (
    RejectRow,
    load_rejects,
    load_run,
    load_scores,
    load_session,
    load_traces,
)
from tracelab.studies.cite import ablate
from tracelab.studies.cite.attribution import Attribution, cut_of
from tracelab.studies.cite.explain import Explained, ask_again, explain, test
from tracelab.studies.cite.looker import Looker
from tracelab.studies.cite.probes import ProbeSink
from tracelab.studies.cite.prune import prune
from tracelab.studies.cite.subject import ChatTokenizer, ContextStudy


@dataclass(slots=True)
class Results:
    """What a run has come to so far."""

    explained: list[Explained] = field(default_factory=list)
    probes: list[ProbeRow] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    pruned: list[PrunedRow] = field(default_factory=list)


def gather(config: RunConfig) -> tuple[list[ContextRecord], list[Reject]]:
    """Read the source.

    Raises:
        ImportFormatError: Nothing can be read from it, or no record of it can be used.
    """
    cut, options = cut_of(config), config.source_options
    if config.source == "testbed":
        from tracelab.sources.context_testbed import contexts

        drawn = contexts(
            options.problems, cut, seed=config.seed, phrasing=options.phrasing,
            hinted=config.context.hints,
        )  # fmt: skip
        return drawn, []
    records: list[ContextRecord] = []
    rejects: list[Reject] = []
    for found in read_contexts(Path(config.source), cut, template=config.context.template):
        if isinstance(found, Reject):
            rejects.append(found)
        elif options.limit is None or len(records) < options.limit:
            records.append(found)
    if not records and rejects:
        raise ImportFormatError(
            f"{config.source}: none of its {len(rejects)} records can be used; the first: "
            f"{rejects[0]}"
        )
    return records, rejects


def execute(run: Run, tokenizer: Tokenizer, *, wait_s: float) -> Summary:
    """Do, or finish, the whole study."""
    config = run.config
    work = attribution(config, run, tokenizer)
    records, work.rejects = gather(config)
    results = Results(rejects=work.rejects)
    database = run.home.database
    with contextlib.suppress(WarehouseError), open_writer(database, wait_s=0.2) as con:
        load_run(con, run_row(run.record, "running"))
    try:
        studies = work.respond(records)
        if not studies:
            raise PlanError(
                f"no context can be studied ({len(work.rejects)} rejected); the first: "
                f"{work.rejects[0]}"
            )
        tell_rejects(work.rejects, run.progress.warn)
        with contextlib.closing(Looker(config, run.journal, run.progress.say)) as work.look:
            for chunk in work.chunks(studies):
                explained = work.measure(chunk)
                results.explained += explained
                if config.context.prune:
                    results.pruned += prune(work, explained, config.context.prune)
                results.probes += work.sink.rows(chunk)
                work.sink.forget(chunk)
    except TracelabError as e:
        status = "interrupted" if isinstance(e, InterruptedRunError) else "failed"
        with contextlib.suppress(WarehouseError), open_writer(database, wait_s=1.0) as con:
            load_run(con, run_row(run.record, status))
        raise
    run.journal.write_lines("traces.jsonl", (e.study.to_json() for e in results.explained))
    run.journal.write_lines("rejects.jsonl", (asdict(r) for r in results.rejects))
    run.journal.write_lines("pruned.jsonl", (asdict(p) for p in results.pruned))
    run.save_session()
    record = run.finished()
    return load(run.journal, record, database, results, work.sink, wait_s)


def attribution(config: RunConfig, run: Run, tokenizer: Tokenizer) -> Attribution:
    """The study of a run.

    Raises:
        ConfigError: The engine has no chat tokenizer, or cannot score.
    """
    if not hasattr(tokenizer, "chat_text"):
        raise ConfigError(
            f"engine.kind = {config.engine.kind!r} cannot serve pipeline context_attribution; "
            "use vllm, transformers or openai"
        )
    return Attribution(
        config, cast(ChatTokenizer, tokenizer), run.spec.model, run.spec.context_length,
        run.observe, ProbeSink(), [],
    )  # fmt: skip


def load(
    journal: Journal,
    record: dict[str, Any],
    database: Path,
    results: Results,
    sink: ProbeSink,
    wait_s: float,
) -> Summary:
    """Load a finished run in one transaction; loading it again changes nothing.

    Raises:
        LockedError: The database was held for `wait_s` seconds; the journal has everything.
    """
    run_id = record["run_id"]
    scores = [s for e in results.explained for s in e.all_scores]
    errors = bool(sink.failed or results.rejects or any(p.reason for p in results.pruned))
    status = "complete_with_errors" if errors else "complete"

    def rows(con: DuckDBPyConnection) -> None:
        load_run(con, run_row(record, status))
        for session in journal.sessions():
            load_session(con, run_id, session_row(session))
        load_traces(con, run_id, [e.study.loaded() for e in results.explained])
        load_context_rows(con, run_id, [r for e in results.explained for r in e.spans()])
        load_context_rows(con, run_id, [r for e in results.explained for r in e.targets])
        load_context_rows(con, run_id, results.probes)
        load_context_rows(con, run_id, [r for e in results.explained for r in e.faithfulness])
        load_context_rows(con, run_id, results.pruned)
        rejects = [RejectRow(r.file, r.line, r.reason, r.excerpt) for r in results.rejects]
        load_rejects(con, run_id, rejects, instead_of=None)
        load_scores(con, run_id, scores, estimator_version=str(ablate.ESTIMATOR_VERSION))

    try:
        with open_writer(database, wait_s=wait_s) as con, transaction(con):
            rows(con)
    except LockedError as e:
        raise LockedError(
            f"{e} All probes are safe in {journal.store.root}; the same command loads them."
        ) from None
    return Summary(
        run_id=run_id,
        traces=len(results.explained),
        rejected=len(results.rejects),
        rollouts=sink.total,
        failed=sink.failed,
        scores=len(scores),
        insufficient=sum(s.value is None for s in scores),
    )


def rebuild(
    record: dict[str, Any], journal: Journal, database: Path, progress: RunProgress
) -> Summary:
    """Load a finished run from its journal alone: no model, no engine."""
    config = parse_config(record["config"], "run.json")
    studies = [ContextStudy.from_json(d) for d in journal.read_lines("traces.jsonl")]
    rejects = [Reject(**d) for d in journal.read_lines("rejects.jsonl")]
    sink = ProbeSink()
    sink.expect(studies)
    for part in deduplicated(journal.observations()):
        sink(part)
    pruned = [PrunedRow(**d) for d in journal.read_lines("pruned.jsonl")]
    results = Results(rejects=rejects, probes=sink.rows(studies), pruned=pruned)
    inside = Looker(config, journal)
    for found in (explain(s, sink, config) for s in studies):
        inside.place(found)
        ask_again(found, sink, config)
        results.explained.append(test(found, sink, config))
    return load(journal, record, database, results, sink, 30.0)


def count(studies: Sequence[ContextStudy], config: RunConfig) -> int:
    """Most probes that studies can ask, apart from those of the top spans."""
    masks = config.context.ablations + config.context.held_out + 2
    return sum(masks * len(s.continuations) for s in studies)


if __name__ == "__main__":
    from tracelab.cli.app import run_module

    run_module()
