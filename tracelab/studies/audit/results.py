"""What an audit has come to: kept as JSON lines in the journal, loaded into the warehouse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection

from tracelab.core.episode import SEGMENTER, Episode
from tracelab.core.errors import LockedError
from tracelab.core.finding import Score, Verdict
from tracelab.core.seam import Reject
from tracelab.core.trace import TokenizedTrace, Trace
from tracelab.core.unit import Unit
from tracelab.environments.case import Case
from tracelab.run.finish import Summary, run_row, session_row
from tracelab.store.audit_rows import (
    EpisodeRow,
    RerunRow,
    StepRow,
    load_audit_rows,
    load_verdicts,
)
from tracelab.store.cite_rows import load_context_rows
from tracelab.store.connect import open_writer, transaction
from tracelab.store.journal import Journal
from tracelab.store.load import (
    LoadedTrace,
    RejectRow,
    load_rejects,
    load_run,
    load_scores,
    load_session,
    load_traces,
)
from tracelab.studies.audit.ablated import AblatedContext
from tracelab.studies.audit.episodes import Brief, Episodes
from tracelab.studies.audit.opinions import Opinions
from tracelab.studies.audit.step import ESTIMATOR_VERSION
from tracelab.studies.audit.subject import Subject

_BATCH = 256


@dataclass(slots=True)
class Results:
    """Verdicts and the numbers behind them, by trace."""

    rejects: list[Reject] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    reruns: list[RerunRow] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    contexts: list[AblatedContext] = field(default_factory=list)
    failed_opinions: int = 0

    def take(self, said: Opinions) -> None:
        """Take opinions."""
        self.verdicts += said.verdicts
        self.scores += said.scores
        self.failed_opinions += said.failed

    def add(
        self,
        verdict: Verdict,
        scores: Iterable[Score],
        subject: Subject,
        environment: str,
        episode: Episode,
    ) -> None:
        """Take the audit of one run."""
        self.verdicts.append(verdict)
        self.scores += scores
        if (case := _case(verdict, subject, environment)) is not None:
            self.cases.append(case)
        if ablated := AblatedContext.made(subject.trace_id, subject.depends, episode):
            self.contexts.append(ablated)
        steps = subject.run.steps
        for i, r in enumerate(subject.reruns):
            self.reruns.append(
                RerunRow(
                    trace_id=subject.trace_id, position=i, start_step=steps[r.start],
                    left_step=steps[r.left] if r.left < len(steps) else None, reward=r.reward,
                    censored=r.censored, forced=r.forced, error=r.error, tokens=r.tokens,
                    actions=list(r.actions),
                )
            )  # fmt: skip

    def lines(self) -> Iterator[dict[str, Any]]:
        """As JSON lines; `of` inverts it."""
        for kind, values in (
            ("verdict", map(asdict, self.verdicts)),
            ("score", map(asdict, self.scores)),
            ("rerun", map(asdict, self.reruns)),
            ("case", [c.to_json() for c in self.cases]),
            ("context", [c.to_json() for c in self.contexts]),
        ):
            for value in values:
                yield {"kind": kind, "value": value}
        yield {"kind": "failed_opinions", "value": self.failed_opinions}

    @classmethod
    def of(
        cls, lines: Iterable[Mapping[str, Any]], rejects: Iterable[Mapping[str, Any]]
    ) -> Results:
        """Read them back."""
        out = cls(rejects=[Reject(**r) for r in rejects])
        for line in lines:
            value = line["value"]
            if line["kind"] == "verdict":
                out.verdicts.append(
                    Verdict(**{**value, "credible_set": tuple(value["credible_set"])})
                )
            elif line["kind"] == "score":
                out.scores.append(Score(**value))
            elif line["kind"] == "rerun":
                out.reruns.append(RerunRow(**value))
            elif line["kind"] == "case":
                out.cases.append(Case.of(value))
            elif line["kind"] == "context":
                out.contexts.append(AblatedContext.of(value))
            else:
                out.failed_opinions = value
        return out


def _case(verdict: Verdict, subject: Subject, environment: str) -> Case | None:
    """A correction that helped, with a re-execution that shows it."""
    x = subject.correction
    if x is None:
        return None
    shown = next(
        (
            r.actions
            for r in subject.reruns
            if r.forced and r.start == x.action and r.action == x.text
            and (r.reward or 0.0) > subject.run.score
        ),
        None,
    )  # fmt: skip
    if shown is None:
        return None
    return Case(environment, subject.run, x.action, shown, verdict.reason)


def load(
    journal: Journal, record: dict[str, Any], database: Path, results: Results, wait_s: float
) -> Summary:
    """Load a finished audit; loading it again changes nothing.

    Runs are loaded some at a time, so that few are in memory; what was concluded of them comes in
    one transaction after them.

    Raises:
        LockedError: The database was held for `wait_s` seconds; the journal has everything.
    """
    run_id, episodes = record["run_id"], Episodes(journal)
    plain = [r for r in results.reruns if not r.forced]
    failed = sum(r.error is not None for r in results.reruns) + results.failed_opinions
    # A run that could not be executed at all has no re-executions to count.
    failed += (dead := sum(_not_executed(v) for v in results.verdicts))
    status = "complete_with_errors" if failed or results.rejects else "complete"
    units = {c.trace_id: c.units for c in results.contexts}
    count = 0
    try:
        with open_writer(database, wait_s=wait_s) as con:
            runs = iter(episodes)
            while batch := list(islice(runs, _BATCH)):
                count += len(batch)
                with transaction(con):
                    load_run(con, run_row(record, "running"))
                    _load_runs(con, run_id, batch, units)
            with transaction(con):
                load_run(con, run_row(record, status))
                for session in journal.sessions():
                    load_session(con, run_id, session_row(session))
                _load_conclusions(con, run_id, results)
    except LockedError as e:
        raise LockedError(
            f"{e} Everything is safe in {journal.store.root}; the same command loads it."
        ) from None
    return Summary(
        run_id=run_id,
        traces=count,
        rejected=len(results.rejects),
        rollouts=len(plain) + dead or len(results.verdicts),
        failed=failed,
        scores=len(results.scores),
        insufficient=sum(s.status == "insufficient" for s in results.scores),
    )


def _load_runs(
    con: DuckDBPyConnection, run_id: str, batch: Sequence[tuple[str, Episode]],
    units: Mapping[str, Sequence[Unit]],
) -> None:  # fmt: skip
    traces = [
        LoadedTrace(
            TokenizedTrace(Trace.of_episode(e), (), (), ()), [*e.step_units(), *units.get(t, ())],
            SEGMENTER,
        )
        for t, e in batch
    ]  # fmt: skip
    load_traces(con, run_id, traces)
    load_audit_rows(con, run_id, [EpisodeRow.of(t, e) for t, e in batch])
    load_audit_rows(con, run_id, [StepRow.of(t, s) for t, e in batch for s in e.steps])


def _load_conclusions(con: DuckDBPyConnection, run_id: str, results: Results) -> None:
    load_audit_rows(con, run_id, results.reruns)
    load_context_rows(con, run_id, [s for c in results.contexts for s in c.spans])
    load_context_rows(con, run_id, [t for c in results.contexts for t in c.targets])
    load_verdicts(con, run_id, results.verdicts)
    rejects = [RejectRow(r.file, r.line, r.reason, r.excerpt) for r in results.rejects]
    load_rejects(con, run_id, rejects, instead_of=None)
    load_scores(con, run_id, results.scores, estimator_version=str(ESTIMATOR_VERSION))


def _not_executed(v: Verdict) -> bool:
    control = v.extra.get("control")
    return isinstance(control, Mapping) and control["replays"] == 0


def write_back(results: Results, episodes: Episodes) -> Iterator[dict[str, Any]]:
    """One JSON object a verdict, for whatever keeps the traces."""
    for v in results.verdicts:
        e = episodes.briefs.get(v.trace_id, Brief("", None, None))
        yield {
            "trace": e.name or None, "task_id": e.task_id, "version": e.version,
            **asdict(replace(v, extra=dict(v.extra))),
        }  # fmt: skip
