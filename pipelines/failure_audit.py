"""Which step decided that an agent's run failed, whose was it, and what would have helped?

    source ─► control ─► re-executions ─► posterior ─► corrections ─► verdicts ─► warehouse

`python -m pipelines.failure_audit CONFIG`, or `tracelab run CONFIG`. Running it again finishes what
is missing. Without an environment only opinions are possible (`audit.opinions`), and they say so:
evidence `judged`.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from tracelab.run.finish import Summary, run_row
from tracelab.studies.anchors.inputs import sampling_of
from tracelab.studies.audit.episodes import Episodes
from tracelab.studies.audit.inputs import Source, grade_with, play_runs, read_runs, subjects_of
from tracelab.studies.audit.results import Results, load
from tracelab.studies.audit.subject import Audit

from tracelab.core.errors import (
    ConfigError,
    ImportFormatError,
    PlanError,
    TracelabError,
    WarehouseError,
)
from tracelab.engines.base import Tokenizer
from tracelab.engines.http import BlockingPost
from tracelab.environments import make_environment, require_safe
from tracelab.grading.grader import Grader
from tracelab.run.config import parse_config
from tracelab.run.progress import RunProgress
from tracelab.run.session import InterruptedRunError, Run
from tracelab.sources.base import tell_rejects
from tracelab.store.connect import open_writer
from tracelab.store.journal import Journal
from tracelab.store.load import load_run
from tracelab.studies.audit.opinions import known_opinions, opinions
from tracelab.studies.audit.rerun import Chat, ChatTemplate, Rerunner

RERUNS = "reruns.jsonl"


def execute(run: Run, tokenizer: Tokenizer, *, wait_s: float) -> Summary:
    """Do, or finish, the whole audit."""
    config, database = run.config, run.home.database
    if config.audit.environment is None and not config.audit.opinions:
        raise ConfigError(
            "a failure audit needs audit.environment, to execute, or audit.opinions, to guess"
        )
    with contextlib.suppress(WarehouseError), open_writer(database, wait_s=0.2) as con:
        load_run(con, run_row(run.record, "running"))
    try:
        with contextlib.closing(Grader(config.grading, connect=BlockingPost)) as grader:
            results = _audit(run, tokenizer, grader)
    except TracelabError as e:
        status = "interrupted" if isinstance(e, InterruptedRunError) else "failed"
        with contextlib.suppress(WarehouseError), open_writer(database, wait_s=1.0) as con:
            load_run(con, run_row(run.record, status))
        raise
    tell_rejects(results.rejects, run.progress.warn)
    run.journal.write_lines("audit.jsonl", results.lines())
    run.journal.write_lines("rejects.jsonl", (asdict(r) for r in results.rejects))
    run.save_session()
    return load(run.journal, run.finished(), database, results, wait_s)


def _audit(run: Run, tokenizer: Tokenizer, grader: Grader) -> Results:
    config, episodes = run.config, Episodes(run.journal)
    known_opinions(config.audit.opinions)
    source = Source(episodes)
    results = Results(rejects=source.rejects)
    if config.source != "testbed":
        episodes.write(read_runs(config, source.rejects))
        if not len(episodes):
            first = f"; the first: {source.rejects[0]}" if source.rejects else ""
            raise ImportFormatError(f"{config.source}: holds no run of an agent{first}")
    if config.audit.environment is not None:
        _execute(run, tokenizer, grader, source, episodes, results)
    if config.audit.opinions:
        said = opinions(run, tokenizer, episodes)
        results.take(said)
        if said.failed or said.unusable:
            kinds = ", ".join(f"{n} {k}" for k, n in said.unusable.most_common())
            run.progress.warn(
                f"opinions: {said.failed} calls failed, {said.unusable.total()} answers name no "
                f"step{f' ({kinds})' if kinds else ''}; they count for nobody"
            )
    return results


def _execute(
    run: Run, tokenizer: Tokenizer, grader: Grader, source: Source, episodes: Episodes,
    results: Results,
) -> None:  # fmt: skip
    """Re-execute what can be re-executed; fills `results`, and `episodes` for the testbed."""
    config = run.config
    if not hasattr(tokenizer, "chat_text"):
        raise ConfigError(
            f"engine.kind = {config.engine.kind!r} cannot serve pipeline failure_audit; use vllm "
            "or transformers"
        )
    c, name = config.audit, cast(str, config.audit.environment)
    make = make_environment(name, grade_with(grader), timeout_s=c.timeout_s)
    with contextlib.closing(make()) as environment:
        require_safe(environment, c.side_effects, name)
    chat = Chat(cast(ChatTemplate, tokenizer))
    rerunner = Rerunner(
        make, chat, run.spec.model, sampling_of(config), config.seed, run.observe,
        max_turns=c.max_turns, max_live=c.max_live, workers=c.workers,
        context_length=run.spec.context_length,
    )  # fmt: skip
    rerunner.adopt(run.journal.read_lines(RERUNS))
    if config.source == "testbed":
        episodes.write(play_runs(config, rerunner, source.runs))
    subjects = subjects_of(config, source, rerunner)
    if not subjects and not c.opinions:
        why = f"; the first: {source.rejects[0]}" if source.rejects else ""
        raise PlanError(f"there is no failed run that can be re-executed{why}")
    audit = Audit(c, rerunner, "replayed" if name == "replay" else "executed")
    try:
        verdicts = audit.examine(subjects)
    finally:
        # What came of external environments is not in the observations.
        run.journal.write_lines(RERUNS, rerunner.rows())
    done = {s.trace_id: (s, v) for s, v in zip(subjects, verdicts, strict=True)}
    for trace, episode in episodes:
        if trace in done:
            s, v = done[trace]
            results.add(v, audit.scores(s), s, name, episode)


def rebuild(
    record: dict[str, Any], journal: Journal, database: Path, progress: RunProgress
) -> Summary:
    """Load a finished run from its journal alone: no model, no engine, no environment."""
    parse_config(record["config"], "run.json")
    results = Results.of(journal.lines("audit.jsonl"), journal.lines("rejects.jsonl"))
    return load(journal, record, database, results, 30.0)


if __name__ == "__main__":
    from tracelab.cli.app import run_module

    run_module()
