"""`tracelab check --journal`: whether the journals of runs are what was written.

Reads everything, changes nothing: a run that goes on meanwhile is not disturbed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tracelab.core.errors import ConfigError, DamagedError, one_line
from tracelab.run.inputs import FILE, entries
from tracelab.run.record import OWED, read_record, session_row
from tracelab.store.home import Home
from tracelab.store.journal import (
    DAMAGED,
    OBSERVATIONS,
    PARTS,
    RECORD,
    SESSIONS,
    Peek,
    decoded,
    listed,
    whole_part,
)
from tracelab.store.sealed import digest_in, opened


@dataclass(slots=True)
class Examined:
    """What one kind of file of one journal is worth.

    Attributes:
        run: The run.
        what: `record`, `cases`, `parts`, `list of parts` or `sessions`.
        verified: Files that fit their digest.
        unverified: Files that were written before there were digests; they can be read.
        wrong: A sentence for each file that is damaged or gone, and for what the run is owed.
        aside: Files that were set aside as damaged before.
    """

    run: str
    what: str
    verified: int = 0
    unverified: int = 0
    wrong: list[str] = field(default_factory=list)
    aside: int = 0

    def add(self, name: str, verify: Callable[[], bool]) -> None:
        """Count one file; `verify` says whether it has a digest, and raises if it is damaged."""
        try:
            if verify():
                self.verified += 1
            else:
                self.unverified += 1
        except DamagedError as e:
            self.wrong.append(f"{name} is damaged: {one_line(e)}")
        except OSError as e:
            self.wrong.append(f"{name} cannot be read: {e.strerror or one_line(e)}")


def examine(home: Home, runs: Sequence[str]) -> Iterator[Examined]:
    """Look through journals, a kind of file at a time.

    Args:
        home: Where they are.
        runs: Names of runs of the home, or folders and fsspec URLs of journals that are elsewhere;
            none for all of the home.

    Raises:
        ConfigError: There is no such run.
    """
    here = sorted(p.name for p in home.runs.glob("*") if p.is_dir())
    for name in runs or here:
        root, slash, run_id = name.rstrip("/").rpartition("/")
        if not slash and name not in here:
            raise ConfigError(
                f"{home.runs} has no run {name!r}; it has {', '.join(here) or 'none'}"
            )
        journal = Peek(root if slash else str(home.runs), run_id)
        if slash and not (journal.has(RECORD) or journal.has_results()):
            raise ConfigError(f"{name}: there is no journal of a run")
        yield from _examined(journal)


def _examined(journal: Peek) -> Iterator[Examined]:
    run, store = journal.run_id, journal.store
    names = store.list(OBSERVATIONS, ".parquet")
    record = Examined(run, "record", aside=_aside(journal, ""))
    if journal.has(RECORD):
        record.add(RECORD, lambda: _record(journal, record))
    elif names:
        record.wrong.append(f"{RECORD} is gone")
    yield record

    cases = Examined(run, "cases")
    if journal.has(FILE):
        cases.add(FILE, lambda: _cases(journal))
    yield cases

    index = Examined(run, "list of parts")
    known: dict[str, int] = {}

    def read_list() -> bool:
        known.update(listed(journal) or {})
        return True

    if journal.has(PARTS):
        index.add(PARTS, read_list)
    yield index

    parts = Examined(run, "parts", aside=_aside(journal, OBSERVATIONS))
    for name in names:
        parts.add(name + _size(known.get(name)), lambda name=name: _part(journal, name))  # type: ignore[misc]
    for name in sorted(known.keys() - {*names}):
        if not store.exists(name + DAMAGED):
            parts.wrong.append(f"{name}{_size(known[name])} is gone")
    yield parts

    sessions = Examined(run, "sessions", aside=_aside(journal, SESSIONS))
    for name in store.list(SESSIONS, ".json"):
        sessions.add(name, lambda name=name: _session(journal, name))  # type: ignore[misc]
    yield sessions


def _aside(journal: Peek, folder: str) -> int:
    return len(journal.store.list(folder, DAMAGED))


def _size(observations: int | None) -> str:
    return "" if observations is None else f" ({observations:,} observations)"


def _record(journal: Peek, found: Examined) -> bool:
    data = journal.store.read(RECORD) or b""
    verified = opened(data)[1]
    record = read_record(journal)
    if record is not None and (owed := record.get(OWED)) is not None:
        found.wrong.append(f"the run lacks {owed}: the command that made it does it again")
    return verified


def _cases(journal: Peek) -> bool:
    for _ in entries(journal):
        pass
    return journal.verified_lines(FILE).verified


def _part(journal: Peek, name: str) -> bool:
    verified = digest_in(name) is not None
    decoded(whole_part(journal.store, name), verified=verified)
    return verified


def _session(journal: Peek, name: str) -> bool:
    session, verified = opened(journal.store.read(name) or b"")
    session_row(session)
    return verified
