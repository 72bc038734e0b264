"""Runs: every study the same way.

    source ─► respond ─► cases ─► study ══ loop ══ journal, engines ─► findings ─► warehouse

`run_config` does or finishes a run, `forget` sets a run aside. Nothing here knows which studies
there are.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import fsspec
from duckdb import DuckDBPyConnection

from tracelab.core.errors import (
    ConfigError,
    DamagedError,
    LockedError,
    TracelabError,
    WarehouseError,
)
from tracelab.core.finding import Findings
from tracelab.core.flow import Flow, together
from tracelab.core.item import Sampling
from tracelab.core.seam import Comparing, MakeEnvironment, Reject
from tracelab.core.study import STUDIES, StudyContext
from tracelab.core.trace import Trace
from tracelab.engines import similarity
from tracelab.engines.chat.client import Budget
from tracelab.engines.http import BlockingPost
from tracelab.engines.made_by import warning
from tracelab.environments import make_environment
from tracelab.grading.grader import Grader
from tracelab.run.answering import Acting, Chatting, LocalChat, Looking
from tracelab.run.config import RunConfig, parse_config
from tracelab.run.inputs import (
    Inputs,
    Preparing,
    Source,
    Stored,
    gather,
    refuse_empty,
)
from tracelab.run.judges import budget_of, client_of, setup_of
from tracelab.run.labelling import label_again
from tracelab.run.loader import Loader
from tracelab.run.loop import Answering, Loop, Nested, StoppedError, Unwatched
from tracelab.run.progress import RunProgress
from tracelab.run.record import OWED, session_row
from tracelab.run.session import Session, disk_error, prices_of
from tracelab.run.wiring import (
    NO_MODEL,
    Wired,
    local_pool,
    quiet_transformers,
    versions,
    white_box,
    wire,
)
from tracelab.sources.base import report_rejects
from tracelab.sources.testbed import NAME as TESTBED
from tracelab.store.connect import open_writer, transaction
from tracelab.store.costs import settled
from tracelab.store.grades import JournalOutcomes
from tracelab.store.home import Home
from tracelab.store.journal import RECORD, Journal
from tracelab.store.load import (
    drop_run,
    load_links,
    load_rejects,
    load_rows,
    load_run,
    load_scores,
    load_session,
    load_verdicts,
)
from tracelab.store.rows import LoadedTrace, RejectRow, RunRow, SessionRow
from tracelab.studies.repeats import repeats

_LEAVE_WAIT_SECONDS = 1.0

Done: TypeAlias = tuple[Inputs, Findings]


class _Closes(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Closes)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to.

    Attributes:
        run_id: The run.
        traces: Traces studied.
        rejected: Inputs that could not be.
        attempted: Rollouts, probes or re-executions.
        failed: Those that failed.
        ungraded: Those that were had, and whose outcome is unknown.
        truncated: Those that the limit of tokens cut before an answer.
        graded: Those that came to an answer.
        scores: Numbers, links not counted.
        insufficient: Those that could not be measured.
        exports: What the study can write to files besides; see `Findings`.
    """

    run_id: str
    traces: int
    rejected: int
    attempted: int
    failed: int
    ungraded: int
    truncated: int
    graded: int
    scores: int
    insufficient: int
    exports: Sequence[Any] = ()

    @property
    def lost(self) -> int:
        """What failed, was cut, or could not be graded."""
        return self.failed + self.ungraded + self.truncated

    @property
    def error_rate(self) -> float:
        """The larger of the shares of what was lost and of rejected inputs."""
        inputs = self.traces + self.rejected
        return max(
            self.lost / self.attempted if self.attempted else 0.0,
            self.rejected / inputs if inputs else 0.0,
        )

    @property
    def losses(self) -> str:
        """What was lost, by kind, in words."""
        kinds = (
            (self.failed, "failed"), (self.ungraded, "ungraded"), (self.truncated, "truncated"),
        )  # fmt: skip
        return ", ".join(f"{n:,} {kind}" for n, kind in kinds if n) or "0 failed"

    @property
    def nothing(self) -> str:
        """A sentence where something was attempted, and not one answer came of it; else empty."""
        if not self.attempted or self.graded:
            return ""
        rest = self.attempted - self.lost
        more = f", {rest:,} without an answer" if rest else ""
        return (
            f"none of the {self.attempted:,} observations could be graded "
            f"({self.losses}{more}), so nothing was measured; see `tracelab query failures "
            f"-p run={self.run_id}`, `grading` and `sampling.max_tokens`"
        )


def run_config(
    config: RunConfig,
    home: Home,
    *,
    fresh: bool = False,
    retry_errors: bool = False,
    wait_s: float = 30.0,
    quiet: bool = False,
    in_process: bool = False,
) -> Summary:
    """Do, or finish, a run.

    Args:
        config: What to do.
        home: Where results go.
        fresh: Set aside what the run has done before.
        retry_errors: Ask again for what failed.
        wait_s: Seconds to wait for the database if another process holds it.
        quiet: Say nothing but warnings.
        in_process: One transformers engine on one machine runs here rather than in a Ray worker:
            small studies start in a second instead of ten.

    Raises:
        TracelabError: It cannot go on; everything finished is in the journal.
    """
    wired = wire(config)
    if in_process and _alone(config):
        quiet_transformers()
        wired = replace(
            wired, make_pool=lambda: local_pool(wired.spec, config.runtime.batch_rollouts)
        )
    home.require_writable()
    with RunProgress(quiet=quiet) as progress:
        if fresh:
            forget(config, home, wait_s, progress.say)
        with Session(
            config, home, wired, progress, versions=versions(), retry_errors=retry_errors
        ) as session:
            return execute(session, wait_s)


def execute(session: Session, wait_s: float) -> Summary:
    """Do, or finish, a run whose session is open; see `run_config`."""
    config, record = session.config, session.record
    loader = Loader(
        session.home.database, run_row(record, "running"), session.progress.warn,
        replacing=OWED in record,
    )  # fmt: skip
    with Work(config, session.wired, session.journal, loader.add, session.progress) as work:
        try:
            done = work.loop(session).drive(work.whole(loader.traces))
        except OSError as e:
            leave(loader, record, "failed", session.journal)
            raise disk_error(e, "the journal cannot be written") from e
        except TracelabError as e:
            status = "interrupted" if isinstance(e, StoppedError) else "failed"
            leave(loader, record, status, session.journal)
            raise
        if work.repeats is not None:
            record["repeats"] = work.repeats
        if loader.dropped:
            loader = _offered_again(work, session, loader)
        found = finish(session.journal, session.finish(), loader, work.study, *done, wait_s)
        if found.nothing:
            session.progress.warn(found.nothing)
        return found


def _offered_again(work: Work, session: Session, dropped: Loader) -> Loader:
    """Everything once more, from the journal, for a database that was held too long."""
    loader = Loader(
        session.home.database, run_row(session.record, "running"), lambda _: None,
        replacing=dropped.replacing,
    )  # fmt: skip
    work.again(loader.add).loop(Unwatched(), ask=False).drive(work.restored(loader.traces))
    return loader


class Work:
    """What one run needs while a study of it is driven; closes what it opened."""

    def __init__(
        self,
        config: RunConfig,
        wired: Wired,
        journal: Journal,
        emit: Callable[[Sequence[Any]], None],
        progress: RunProgress,
    ) -> None:
        """Prepare; nothing is started or asked yet.

        Args:
            config: The run's.
            wired: Its model.
            journal: Its journal.
            emit: Takes rows for the database.
            progress: Told warnings.

        Raises:
            TracelabError: A grader, or what compares sentences, is not there.
        """
        self.config, self.study = config, STUDIES.named(config.study, "study")()
        self.repeats: bool | None = None
        """Whether the run's endpoint repeats itself for a seed, once that was measured."""
        unfit = getattr(self.study, "unfit", lambda options, capabilities: None)
        if (why := unfit(config.options, wired.capabilities)) is not None:
            raise ConfigError(why)
        self._wired, self._journal, self._progress = wired, journal, progress
        self._opened = contextlib.ExitStack()
        self._grader = self._opened.enter_context(
            Grader(config.grading, cache=JournalOutcomes(journal), connect=BlockingPost)
        )
        self.ctx = StudyContext(
            options=config.options,
            sampling=sampling_of(config),
            seed=config.seed,
            model=wired.spec.model,
            context_length=wired.spec.context_length,
            tokenizer=wired.tokenizer,
            grading=self._grader,
            emit=emit,
            warn=progress.warn,
            fact=progress.fact,
            tokenize=Stored(journal, wired.tokenizer.tokenize),
            comparing=_comparing,
            environment=self._environment,
            rendering=config.source_options.rendering,
            capabilities=wired.capabilities,
        )

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *exc: object) -> None:
        self._opened.close()

    def again(self, emit: Callable[[Sequence[Any]], None]) -> Work:
        """The same work with rows going elsewhere."""
        other = copy(self)
        other.ctx = replace(self.ctx, emit=emit)
        return other

    def whole(
        self,
        load: Callable[[Sequence[LoadedTrace]], None],
        prepared: Callable[[Inputs], None] = lambda _: None,
    ) -> Flow[Done]:
        """The whole run: inputs, then the study of them.

        Args:
            load: Takes traces for the database.
            prepared: Told the inputs before they are studied.
        """
        config = self.config
        preparing = self._preparing(load)
        if config.source == TESTBED and self.study.testbed == "agents":
            source = Source((yield from self._play()))
        else:
            source = gather(config, self.study.testbed)
        options = config.source_options
        inputs = yield from preparing.prepare(source, attempts=options.attempts, keep=options.keep)
        prepared(inputs)
        refuse_empty(inputs, config.source)
        if preparing.others and options.off_policy == "warn":
            n, of = len(preparing.others), len(inputs.cases)
            self._progress.warn(warning(preparing.others, n, of, self.ctx.model.name))
        report_rejects(inputs.rejects, self._progress.warn)
        measures = getattr(self.study, "measures", lambda options: True)
        flows: list[Flow[Any]] = [self.study.run(inputs.cases, self.ctx)]
        if "chat" in self.ctx.capabilities and measures(config.options):
            flows.append(repeats(self.ctx))
        findings, *measured = yield from together(flows)
        self.repeats = measured[0] if measured else None
        report_rejects(findings.rejects, self._progress.warn)
        return inputs, findings

    def restored(self, load: Callable[[Sequence[LoadedTrace]], None]) -> Flow[Done]:
        """The study of what `cases.jsonl` has."""
        inputs = self._preparing(load).restore()
        findings: Findings = yield from self.study.run(inputs.cases, self.ctx)
        return inputs, findings

    def _preparing(self, load: Callable[[Sequence[LoadedTrace]], None]) -> Preparing:
        measures = getattr(self.study, "measures", lambda options: True)
        names = [self.ctx.model.name]
        if (served := self.config.engine.server.model) is not None:
            names.append(served)
        names = [os.path.abspath(n) if n.startswith((".", "~")) else n for n in names]
        known = names if measures(self.config.options) else None
        return Preparing(self.study, self.ctx, self._journal, load, known)

    def loop(self, watcher: Session | Unwatched, *, ask: bool = True) -> Loop:
        """What drives it; without `ask`, the journal must know everything."""
        if not isinstance(watcher, Session) or not ask:
            return Loop(self._journal, watcher, {})
        spec, options = self._wired.spec, self.config.options
        answering: dict[str, Callable[[], Answering]] = {
            "generate": lambda: cast(Answering, watcher.pool()),
            "score": lambda: cast(Answering, watcher.pool()),
            "look": lambda: self._looking(watcher),
            "act": self._acting,
        }
        nested: dict[str, Nested] = {}
        judge = getattr(options, "judge", None)
        if judge is not None and judge.endpoint is not None:
            answering["chat"] = lambda: self._closing(Chatting(client_of(setup_of(judge))))
        else:
            budget = Budget() if judge is None else budget_of(setup_of(judge))
            nested["chat"] = LocalChat(self.ctx.tokenizer, spec.model, spec.context_length, budget)
        if (reruns := getattr(self.study, "reruns", None)) is not None:
            nested["rerun"] = reruns(self.ctx)
        return Loop(
            self._journal, watcher, answering, nested, retry_errors=watcher.retry_errors,
            vocabulary=self.ctx.tokenizer.vocabulary, warn=self._progress.warn,
        )  # fmt: skip

    def _play(self) -> Flow[list[Trace | Reject]]:
        """Agents of the testbed's model at work; their failures are what is studied."""
        n, seed = self.config.source_options.problems, self.config.seed
        played: list[Trace | Reject] = yield from self.study.play(n, seed, self.ctx)
        return played

    def _environment(self, name: str, timeout_s: float) -> MakeEnvironment:
        def grade(text: str, reference: str) -> float | None:
            outcome = self._grader.grade(
                text, reference=reference, own_answer=None, finish_reason="stop", trace=None
            )
            return outcome.reward

        return make_environment(name, grade, timeout_s=timeout_s)

    def _acting(self) -> Acting:
        return self._closing(Acting(getattr(self.config.options, "workers", 1)))

    def _looking(self, session: Session) -> Looking:
        lent = session.lent_white_box()
        if lent is not None:
            return Looking(lent, lambda: None)
        self._progress.say("looking inside the model ...")
        session.uses_model()
        engine = white_box(self.config)
        return self._closing(Looking(engine, engine.close))

    def _closing(self, opened: C) -> C:
        self._opened.callback(opened.close)
        return opened


def _comparing(name: str) -> Comparing:
    return similarity.load(name)


def sampling_of(config: RunConfig) -> Sampling:
    """Rollouts are sampled exactly as base traces are."""
    s = config.sampling
    return Sampling(s.temperature, s.top_p, s.top_k, s.max_tokens)


def finish(
    journal: Journal,
    record: dict[str, Any],
    loader: Loader,
    study: Any,
    inputs: Inputs,
    findings: Findings,
    wait_s: float,
) -> Summary:
    """Load a finished run; loading it again changes nothing.

    Raises:
        LockedError: The database was held for `wait_s` seconds; the journal has everything.
    """
    run_id, version = record["run_id"], study.estimator_version
    refused = [*inputs.rejects, *findings.rejects]
    rejects = [RejectRow(r.file, r.line, r.reason, r.excerpt) for r in refused]
    lost = findings.failed + findings.ungraded + findings.truncated
    status = "complete_with_errors" if lost or rejects else "complete"
    if record["finished_at"] is None:
        status = "interrupted"
    settled(journal, prices_of(parse_config(record["config"], RECORD)))
    sessions = _sessions(journal)

    def load(con: DuckDBPyConnection) -> None:
        load_run(con, run_row(record, status))
        for session in sessions:
            load_session(con, run_id, session)
        load_rejects(con, run_id, rejects, instead_of=None)
        load_rows(con, run_id, findings.rows)
        load_verdicts(con, run_id, findings.verdicts)
        load_scores(con, run_id, findings.scores, estimator_version=version)
        load_links(con, run_id, findings.links, estimator_version=version)
        label_again(con, record, journal)

    try:
        loader.flush(wait_s)
        loader.write(wait_s, load)
    except LockedError as e:
        raise LockedError(
            f"{e} Everything is safe in {journal.store.root}; the same command loads it."
        ) from None
    if record["finished_at"] is not None and record.pop(OWED, None) is not None:
        journal.write_json(RECORD, record)
    return Summary(
        run_id=run_id,
        traces=len(inputs.cases),
        rejected=len(rejects),
        attempted=findings.attempted,
        failed=findings.failed,
        ungraded=findings.ungraded,
        truncated=findings.truncated,
        graded=findings.graded,
        scores=len(findings.scores),
        insufficient=sum(s.status == "insufficient" for s in findings.scores),
        exports=findings.exports,
    )


def _sessions(journal: Journal) -> list[SessionRow]:
    """What each invocation has cost; a record that is damaged is set aside, and said."""
    found = []
    for name, session in journal.sessions():
        try:
            found.append(session_row(session))
        except DamagedError as e:
            journal.set_aside(name, str(e))
    return found


def leave(loader: Loader, record: dict[str, Any], status: str, journal: Journal) -> None:
    """Load what there is of a run that ends early, if the database is free; the journal has it."""

    def load(con: DuckDBPyConnection) -> None:
        load_run(con, run_row(record, status))
        for session in _sessions(journal):
            load_session(con, record["run_id"], session)

    with contextlib.suppress(WarehouseError, OSError):
        loader.flush(_LEAVE_WAIT_SECONDS)
        loader.write(_LEAVE_WAIT_SECONDS, load)


def run_row(record: dict[str, Any], status: str) -> RunRow:
    """The journal's `run.json` as a row of `runs`."""
    finished = record["finished_at"]
    config = record["config"]
    # A run that asked its model nothing has numbers of no model.
    used = record.get("model_used", True) and record["model"] != NO_MODEL
    return RunRow(
        run_id=record["run_id"],
        name=record["run_id"],
        study=config["study"],
        engine=record["engine"],
        config=config,
        config_digest=record["digest"],
        tracelab_version=record["tracelab_version"],
        seed=config["seed"],
        status=status,
        started_at=datetime.fromisoformat(record["started_at"]),
        finished_at=None if finished is None else datetime.fromisoformat(finished),
        model=record["model"] if used else None,
        model_revision=record["identity"]["model_revision"] if used else None,
        dtype=config["engine"]["dtype"] if used else None,
        versions=record["versions"],
        repeats=record.get("repeats"),
    )


def forget(
    config: RunConfig, home: Home, wait_s: float, say: Callable[[str], object] = lambda _: None
) -> None:
    """Drop a run's rows and set its journal aside.

    Raises:
        TracelabError: Another process works on it, or holds the database; nothing was changed.
    """
    root = (config.runtime.journal or str(home.runs)).rstrip("/")
    fs, path = fsspec.core.url_to_fs(f"{root}/{config.name}")
    there = bool(fs.exists(path))
    if not there and not home.database.exists():
        return
    # The lock of the journal is held while it moves, so that nobody is working on it.
    with Journal(root, config.name) if there else nullcontext():
        if home.database.exists():
            with open_writer(home.database, wait_s=wait_s) as con, transaction(con):
                drop_run(con, config.name)
        if not there:
            return
        aside = f"{path}.old-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:4]}"
        fs.mv(path, aside, recursive=True)
        say(f"the old journal was moved to {aside}")


def _alone(config: RunConfig) -> bool:
    """Whether one engine in this process can serve a run."""
    engine, runtime = config.engine, config.runtime
    return engine.kind == "transformers" and engine.replicas == 1 and runtime.ray_address is None
