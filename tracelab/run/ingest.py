"""`tracelab ingest`: traces of files into the warehouse, without a model.

Idempotent: ingesting the same files again changes nothing, and a file that was put right loses
its old rejects. There is no journal; the files are the record.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from tracelab.core.episode import SEGMENTER as STEPS
from tracelab.core.errors import ConfigError, ImportFormatError, PlanError
from tracelab.core.hashing import content_hash
from tracelab.core.seam import Reject
from tracelab.core.study import Case
from tracelab.core.trace import TokenizedTrace, Trace
from tracelab.core.version import __version__
from tracelab.run.config import RUN_NAME
from tracelab.run.inputs import loaded
from tracelab.sources import read
from tracelab.sources.account import Account
from tracelab.sources.base import refused, report_rejects
from tracelab.store.connect import open_writer, transaction
from tracelab.store.home import Home
from tracelab.store.load import load_readings, load_rejects, load_run, load_traces
from tracelab.store.rows import RejectRow, RunRow
from tracelab.studies.anchors.case import begin
from tracelab.text.segment import segment

STUDY = "ingest"
_BATCH_CHARS = 2_000_000  # of text that is held before it is written; opening costs a fifth second
_UNIT_CHARS = 100  # what a unit takes in memory besides its text
_NOT_TAKEN = (
    ValueError, TypeError, OverflowError, RecursionError, NotImplementedError,
    duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException,
)  # fmt: skip
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class Ingested:
    """What an ingest did.

    Attributes:
        run_id: The run that the traces belong to.
        traces: Traces that were read, those already there included.
        rejects: Records that could not be used, and why.
        account: What was read and what was left out, by file and kind.
    """

    run_id: str
    traces: int
    rejects: tuple[Reject, ...]
    account: Account = field(repr=False)

    @property
    def read(self) -> dict[str, int]:
        """What was read, by kind: traces, messages, calls, results, ..."""
        return dict(self.account.total("read"))

    @property
    def left_out(self) -> dict[str, int]:
        """What was left out of traces that were kept, by kind."""
        return dict(self.account.total("left_out"))

    @property
    def rejected_share(self) -> float:
        """The share of records that were rejected."""
        return len(self.rejects) / (self.traces + len(self.rejects))


def ingest_paths(
    paths: Sequence[str],
    form: str,
    name: str,
    segmenter: str,
    home: Home,
    say: Callable[[str], object],
    *,
    columns: Mapping[str, str] | None = None,
    wait_s: float = 30.0,
) -> Ingested:
    """Load traces of files.

    Args:
        paths: Files and folders.
        form: Their format, or `auto`.
        name: The run that they belong to.
        segmenter: How reasoning is cut into sentences.
        home: Where the warehouse is.
        say: Told what was read and what was rejected.
        columns: What a data set calls its columns; see `tracelab.sources.files.columns`.
        wait_s: Seconds to wait for the database if another process holds it.

    Raises:
        ConfigError: The run of this name is something else.
        ImportFormatError: A path cannot be read at all, or no record of any can be used.
    """
    if not re.fullmatch(RUN_NAME, name):
        raise ConfigError(f"--name {name!r}: use letters, digits, `.`, `_` and `-`")
    segment("", segmenter)  # an unknown name is an error before anything is read
    records = read(list(paths), form, columns)
    home.require_writable()
    with open_writer(home.database, wait_s=wait_s) as con:
        row = _begun(con, name, segmenter)
        before = _content(con, name)
    cases: list[Case] = []
    rejects: list[Reject] = []
    account = Account()
    held = 0
    for found in records:
        case = found if isinstance(found, Reject) else _case(found, segmenter)
        account.add(case if isinstance(case, Reject) else case.trace)
        if isinstance(case, Reject):
            rejects.append(case)
            continue
        cases.append(case)
        held += sum(len(u.text) + _UNIT_CHARS for u in case.units)
        if held >= _BATCH_CHARS:
            with open_writer(home.database, wait_s=wait_s) as con:
                load_run(con, replace(row, status="running"))
                rejects += _load(con, name, cases, account)
            cases.clear()
            held = 0
    with open_writer(home.database, wait_s=wait_s) as con:
        rejects += _load(con, name, cases, account)
    with open_writer(home.database, wait_s=wait_s) as con, transaction(con):
        rows = _apart(rejects)
        load_rejects(con, name, rows, instead_of=account.files)
        load_readings(con, name, account.rows(), instead_of=account.files)
        after = _content(con, name)
        if after != before or row.finished_at is None:
            row = replace(row, finished_at=datetime.now(UTC))
        # Of all files ever ingested under this name, not only of these.
        load_run(con, replace(row, status="complete_with_errors" if after[1] else "complete"))
    report_rejects(rejects, say)
    total = account.total("read")["traces"]
    for line in account.lines():
        say(f"{name}: {line}")
    if account.better:
        say(f"{name}: {account.better} traces took their outcome from a later record")
    say(
        f"{name}: {total} traces read ({after[0]} in the run), {len(rejects)} records rejected; "
        f"in {home.database}"
    )
    if total == 0:
        first = f"; the first: {rejects[0]}" if rejects else ""
        raise ImportFormatError(f"{', '.join(paths)}: no record can be used{first}")
    return Ingested(name, total, tuple(rejects), account)


def _apart(rejects: Sequence[Reject]) -> list[RejectRow]:
    """A row each, also of those that say the same of one place."""
    times: Counter[tuple[str, int, str]] = Counter()
    rows = []
    for r in rejects:
        times[r.file, r.line, r.reason] += 1
        n = times[r.file, r.line, r.reason]
        reason = r.reason if n == 1 else f"{r.reason} ({n})"
        rows.append(RejectRow(r.file, r.line, reason, r.excerpt))
    return rows


def _load(
    con: DuckDBPyConnection, name: str, cases: Sequence[Case], account: Account
) -> list[Reject]:
    """Load traces; of a batch that the database does not take, those that it takes alone."""
    try:
        with transaction(con):
            load_traces(con, name, [loaded(c) for c in cases])
        return []
    except _NOT_TAKEN as e:
        if len(cases) == 1:
            trace = cases[0].trace
            why = refused(e, trace.source, trace.line, trace.name, "The database refuses it")
            account.refuse(trace, why)
            return [why]
        return [reject for case in cases for reject in _load(con, name, [case], account)]


def _case(trace: Trace, segmenter: str) -> Case | Reject:
    try:
        # No model, so no tokens: units have characters only.
        tokens = TokenizedTrace(trace, (), (), ())
        if (episode := trace.episode) is not None:  # an agent's run is cut into its steps
            return Case(tokens, episode.step_units(), STEPS)
        return begin(tokens, segmenter, max_units=_NO_LIMIT, context_length=_NO_LIMIT)
    except PlanError as e:
        return Reject.of(trace, e)
    except Exception as e:  # whatever is odd about one trace, the others are not
        return refused(e, trace.source, trace.line, trace.name)


def _begun(con: DuckDBPyConnection, name: str, segmenter: str) -> RunRow:
    """The run to add to: the one there is, or a new one."""
    config = {"segmenter": segmenter}
    row = RunRow(
        run_id=name, name=name, study=STUDY, engine="none", config=config,
        config_digest=content_hash(config), tracelab_version=__version__, seed=0,
        status="running", started_at=datetime.now(UTC),
    )  # fmt: skip
    there = con.execute(
        "SELECT study, config, started_at, finished_at FROM runs WHERE run_id = $name",
        {"name": name},
    ).fetchall()
    if not there:
        return row
    old = there[0]
    if old[0] != STUDY:
        raise ConfigError(f"run {name!r} is a study of `tracelab run`; choose another --name")
    was = json.loads(old[1]).get("segmenter")
    if was != segmenter:
        raise ConfigError(
            f"run {name!r} was ingested with another config; changed: segmenter (was {was!r}, is "
            f"{segmenter!r}). Choose another --name."
        )
    return replace(row, started_at=_aware(old[2]), finished_at=_aware(old[3]))


def _aware(time: Any) -> Any:
    """Times of the warehouse are UTC without saying so."""
    return None if time is None else time.replace(tzinfo=UTC)


def _content(con: DuckDBPyConnection, name: str) -> tuple[int, int, int]:
    """Traces, rejects, and what the rejects say: changed exactly when a row was."""
    [row] = con.execute(
        "SELECT (SELECT count(*) FROM traces WHERE run_id = $name), count(*), "
        "coalesce(bit_xor(hash(file, line, reason)), 0) FROM rejects WHERE run_id = $name",
        {"name": name},
    ).fetchall()
    return row[0], row[1], row[2]
