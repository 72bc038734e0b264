"""Load runs again from their journals alone: no weights, no engine, no environment.

A run is loaded whole or not at all: its journal is verified first, and where the database has the
run already, the study is driven once without loading, so that what the database has is replaced
only by all of it. What cannot be loaded whole is said, counts as interrupted, and does not stop the
others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from tracelab.core.errors import ConfigError, DamagedError, LockedError, TracelabError, one_line
from tracelab.run.config import parse_config
from tracelab.run.execute import Summary, Work, finish, leave, run_row
from tracelab.run.inputs import entries
from tracelab.run.loader import Loader
from tracelab.run.loop import MissingError, Unwatched
from tracelab.run.progress import RunProgress
from tracelab.run.record import OWED, read_record
from tracelab.run.session import disk_error
from tracelab.run.wiring import wire_recorded
from tracelab.store.connect import open_writer, transaction
from tracelab.store.find import whole_run
from tracelab.store.home import Home
from tracelab.store.journal import OBSERVATIONS, RECORD, Journal
from tracelab.store.load import load_run

log = logging.getLogger(__name__)

_WAIT_SECONDS = 30.0
_AGAIN = "give the command that made it once more: it does again what is lost"

Say = Callable[[str], object]


def rebuild_runs(home: Home, runs: Sequence[str], say: Say) -> list[Summary]:
    """Load runs again.

    Args:
        home: Where the journals are.
        runs: Ids, or beginnings of ids; none means all that are finished.
        say: Told what each came to, and what is damaged.

    Raises:
        QueryError: There is no such run.
        ConfigError: It is not finished.
        TracelabError: A run could not be loaded whole; all others were.
    """
    here = sorted({p.parent.name for n in (RECORD, OBSERVATIONS) for p in home.runs.glob(f"*/{n}")})
    runs = [whole_run(name, here) for name in runs]
    home.require_writable()
    done: list[Summary] = []
    wrong: dict[str, TracelabError] = {}
    for name in runs or here:
        try:
            found = _Rebuild(home, name, say).load(named=bool(runs))
            done += [] if found is None else [found]
            continue
        except LockedError:  # the database's, which all need
            raise
        except TracelabError as e:
            wrong[name] = e
        except OSError as e:
            wrong[name] = disk_error(e, f"run {name!r} cannot be loaded")
        except Exception as e:  # whatever is in one journal, the others are loaded
            log.debug("run %s", name, exc_info=True)
            wrong[name] = TracelabError(
                f"run {name!r} cannot be loaded ({type(e).__name__}: {one_line(e)})"
            )
        if len(runs) != 1:
            say(str(wrong[name]))
    if len(runs) == 1 and wrong:
        raise wrong[runs[0]]
    if wrong:
        raise TracelabError(
            f"{len(wrong)} of {len(runs or here)} runs could not be loaded whole: "
            f"{', '.join(wrong)}"
        )
    return done


class _Rebuild:
    """One run being loaded."""

    def __init__(self, home: Home, name: str, say: Say) -> None:
        self._home, self._name, self._say = home, name, say
        self._began = time.monotonic()

    def load(self, *, named: bool) -> Summary | None:
        """What it came to; None where there is nothing to load and nobody asked for it."""
        name = self._name
        with Journal(str(self._home.runs), name, warn=self._say) as journal:
            record = read_record(journal)
            if record is None:
                raise DamagedError(
                    f"run {name!r} has observations but no {RECORD}: {_AGAIN}, and writes it anew"
                )
            if record["run_id"] != name:
                if named:
                    raise ConfigError(
                        f"{name!r} is a journal of run {record['run_id']!r} that was set aside"
                    )
                return None
            if record.get(OWED) is None and record["finished_at"] is None:
                if named:
                    raise ConfigError(f"run {name!r} is not finished; run it again instead")
                self._say(f"{name}: is not finished; run it again instead")
                return None
            self._whole(record, journal)
            summary = self._drive(record, journal)
            self._say(
                f"{name}: {summary.attempted:,} observations ({summary.losses}), "
                f"{summary.scores:,} scores loaded in "
                f"{time.monotonic() - self._began:.1f} s"
            )
            if journal.lost:
                raise DamagedError(
                    f"run {name!r} was loaded, but not what is said in {', '.join(journal.lost)}"
                )
            return summary

    def _whole(self, record: dict[str, Any], journal: Journal) -> None:
        """Verify all of the journal before anything is loaded."""
        journal.verify(deep=True)
        owed = journal.owed() or record.get(OWED)
        try:
            for _ in entries(journal):
                pass
        except DamagedError as e:
            raise self._incomplete(record, journal, "its cases.jsonl", str(e)) from None
        if owed is not None:
            raise self._incomplete(record, journal, owed, f"it lacks {owed}")

    def _drive(self, record: dict[str, Any], journal: Journal) -> Summary:
        config = parse_config(record["config"], RECORD)
        there = self._there()
        loader = Loader(
            self._home.database, run_row(record, "running"), lambda _: None, replacing=there
        )
        wired = wire_recorded(config, record["identity"]["model_revision"])
        with (
            RunProgress(quiet=True) as progress,
            Work(config, wired, journal, loader.add, progress) as work,
        ):
            try:
                if there:
                    dry = work.again(lambda _: None)
                    dry.loop(Unwatched(), ask=False).drive(dry.restored(lambda _: None))
                done = work.loop(Unwatched(), ask=False).drive(work.restored(loader.traces))
            except MissingError as e:
                if not there:
                    leave(loader, record, "interrupted", journal)
                raise self._incomplete(
                    record, journal, "observations that are not in its journal", str(e)
                ) from None
            return finish(journal, record, loader, work.study, *done, _WAIT_SECONDS)

    def _there(self) -> bool:
        """Whether the database has the run."""
        with open_writer(self._home.database, wait_s=_WAIT_SECONDS) as con:
            row = con.execute(
                "SELECT count(*) FROM runs WHERE run_id = $run", {"run": self._name}
            ).fetchone()
        return row is not None and row[0] > 0

    def _incomplete(
        self, record: dict[str, Any], journal: Journal, owed: str, why: str
    ) -> TracelabError:
        """Write down that the run is not whole: in its record, and in the database."""
        record = {**record, OWED: owed, "finished_at": None}
        journal.write_json(RECORD, record)
        journal.lost.clear()
        with (
            open_writer(self._home.database, wait_s=_WAIT_SECONDS) as con,
            transaction(con),
        ):
            load_run(con, run_row(record, "interrupted"))
        return DamagedError(f"run {self._name!r} is not whole ({why}) and was not loaded; {_AGAIN}")
