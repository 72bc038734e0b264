"""One invocation that works on one run: journal, engines, progress, costs.

`Run.observe` is the whole contract with the engines: give it items, get every observation once,
the journal's first, then the missing ones as engines deliver them. It is what makes a run
resumable: nothing is asked of an engine that the journal already answers.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from tracelab import __version__
from tracelab.core.errors import TracelabError
from tracelab.core.item import Item, Observation
from tracelab.engines.base import EngineSpec
from tracelab.run.config import RunConfig
from tracelab.run.pool import Pool, with_range
from tracelab.run.progress import RunProgress
from tracelab.run.record import continued, identity
from tracelab.store.home import FULL, Home
from tracelab.store.journal import Journal, deduplicated

_SESSION_EVERY_SECONDS = 5.0


class InterruptedRunError(TracelabError):
    """The user asked the run to stop; what was finished is in the journal."""

    exit_code = 130


@dataclass(slots=True)
class SessionCosts:
    """What one invocation did; a row of `sessions`. Tokens and seconds."""

    session: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    seconds: float = 0.0
    start_seconds: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    observations: int = 0
    errors: int = 0
    restarts: int = 0


class Run:
    """A run being worked on."""

    def __init__(
        self,
        config: RunConfig,
        home: Home,
        spec: EngineSpec,
        make_pool: Callable[[], Pool],
        progress: RunProgress,
        *,
        versions: dict[str, str] | None = None,
        retry_errors: bool = False,
    ) -> None:
        """Open the run's journal, creating it if this is the first time.

        Args:
            config: What to do.
            home: Where results go.
            spec: The engine; its model's identity is part of the run's.
            make_pool: Starts the engines; called only if work is owed.
            progress: Whom to tell.
            versions: Versions of the packages that matter, for the record.
            retry_errors: Ask again for rollouts that failed in an earlier session.

        Raises:
            ConfigError: The run exists and was made with another config or other weights.
            TracelabError: Another process works on it.
        """
        self.config = config
        self.home = home
        self.spec = spec
        self.progress = progress
        self.costs = SessionCosts()
        self._make_pool = make_pool
        self._pool: Pool | None = None
        self._retry = retry_errors
        self._stop = threading.Event()
        self._finished = False
        self._began = self._saved = time.monotonic()
        try:
            self.journal = Journal(config.runtime.journal or str(home.runs), config.name)
            try:
                self.record = self._open_record(versions or {})
            except BaseException:
                self.journal.close()
                raise
        except OSError as e:
            raise _disk(e, "the journal cannot be opened") from e

    def _open_record(self, versions: dict[str, str]) -> dict[str, Any]:
        old = self.journal.read_json("run.json")
        if old is not None and not self.journal.has_results():
            old = None  # it never came to anything, so its config binds nobody
        if old is not None:
            self.config = continued(old, self.config, self.spec.model, self.progress.warn)
        record = {
            "run_id": self.config.name,
            "config": self.config.model_dump(mode="json"),
            "identity": identity(self.config, self.spec.model),
            "digest": self.config.digest,
            "tracelab_version": __version__,
            "versions": versions,
            "engine": self.spec.kind,
            "model": self.spec.model.name,
            "started_at": self.costs.started_at,
            "finished_at": None,
        }
        if old is not None:
            record["started_at"], record["finished_at"] = old["started_at"], old["finished_at"]
        self.journal.write_json("run.json", record)
        return record

    # -- engines ----------------------------------------------------------------------------

    def observe(
        self,
        name: str,
        items: Sequence[Item],
        on: Callable[[list[Observation]], None],
    ) -> None:
        """Hand every observation of some items to `on`, exactly once each.

        Args:
            name: What to call this stage.
            items: Items; those with equal keys are one, asking for all that any of them asks.
            on: Receives observations in no particular order, errors included.

        Raises:
            InterruptedRunError: The user interrupted; everything delivered is durable.
            TracelabError: The disk is full, or the engines cannot go on.
        """
        wanted: dict[str, Item] = {}
        for item in items:
            had = wanted.get(item.key, item).replicate_range
            first = min(had.start, item.first_replicate)
            end = max(had.stop, item.replicate_range.stop)
            wanted[item.key] = with_range(item, first, end - first)
        seen: dict[str, set[int]] = {key: set() for key in wanted}
        recorded = self.journal.recorded({k: i.replicate_range for k, i in wanted.items()})
        for batch in deduplicated(recorded, keep_errors=not self._retry):
            for o in batch:
                seen[o.key].add(o.replicate)
            on(batch)
        owed = [part for item in wanted.values() for part in missing(item, seen[item.key])]
        total = sum(i.replicates for i in wanted.values())
        left = sum(i.replicates for i in owed)
        if not owed:
            return
        self.check_stop()
        self._reopen()
        if self._pool is None:
            self.progress.say(f"starting {self.spec.kind} for {self.spec.model.name} ...")
            self._pool = self._make_pool()
        self.progress.stage(name, total, total - left)
        try:
            for batch in self._pool.run(self._until_stopped(owed)):
                self.journal.append(batch)
                self._account(batch)
                on(batch)
            self.journal.flush()
        except OSError as e:
            raise _disk(e, "the journal cannot be written") from e
        finally:
            with contextlib.suppress(OSError):
                self.journal.flush()
                self.save_session()
        self.check_stop()

    def _reopen(self) -> None:
        """A finished run that is given more to do is not finished until that is done."""
        if self.record["finished_at"] is not None:
            self.record["finished_at"] = None
            self.journal.write_json("run.json", self.record)

    def _account(self, batch: list[Observation]) -> None:
        errors = sum(o.error is not None for o in batch)
        self.costs.observations += len(batch)
        self.costs.errors += errors
        if self._pool is not None:
            totals = self._pool.counters()
            self.progress.cache(totals.prompt_tokens, totals.cached_tokens)
        self.progress.advance(batch)
        if time.monotonic() - self._saved > _SESSION_EVERY_SECONDS:
            self._saved = time.monotonic()
            self.save_session()

    def save_session(self) -> None:
        """Write what this invocation has cost so far; a crash loses only the last seconds."""
        c = self.costs
        if self._pool is not None:
            totals = self._pool.counters()
            c.prompt_tokens, c.cached_tokens = totals.prompt_tokens, totals.cached_tokens
            c.generated_tokens = totals.generated_tokens
            c.start_seconds = totals.start_seconds
        c.seconds = time.monotonic() - self._began
        if c.observations:
            self.journal.write_json(f"sessions/{c.session}.json", asdict(c))

    def finished(self) -> dict[str, Any]:
        """The run's record once all is done; the time is that of the last work, not of looking."""
        if self.costs.observations or self.record["finished_at"] is None:
            self.record["finished_at"] = datetime.now(UTC).isoformat()
            self.journal.write_json("run.json", self.record)
        self._finished = True
        return self.record

    # -- stopping ---------------------------------------------------------------------------

    def _until_stopped(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            if self._stop.is_set():
                return
            yield item

    def check_stop(self) -> None:
        """Raise `InterruptedRunError` if the user has asked to stop."""
        if self._stop.is_set():
            raise InterruptedRunError(
                f"stopped; everything finished so far is kept in {self.journal.store.root}. "
                "The same command continues."
            )

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt
        self._stop.set()
        self.progress.warn(
            "stopping: waiting for the rollouts in flight (once more to stop at once) ..."
        )

    def __enter__(self) -> Run:
        self._old_handlers: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            # A finished run has loaded its session; another figure would be news the next time.
            if not self._finished:
                with contextlib.suppress(OSError):
                    self.save_session()
            if self._pool is not None:
                self._pool.close()
        finally:
            for number, handler in self._old_handlers.items():
                signal.signal(number, handler)
            with contextlib.suppress(OSError):
                self.journal.close()


def missing(item: Item, seen: set[int]) -> Iterator[Item]:
    """The parts of an item's replicate range that have no observation yet."""
    first: int | None = None
    for r in [*item.replicate_range, None]:
        absent = r is not None and r not in seen
        if absent and first is None:
            first = r
        elif not absent and first is not None:
            end = item.replicate_range.stop if r is None else r
            yield with_range(item, first, end - first)
            first = None


def _disk(e: OSError, what: str) -> TracelabError:
    if e.errno in FULL:
        return TracelabError(
            f"{what}: the disk is full. What was written before is safe; free some space and "
            "run the same command again."
        )
    return TracelabError(f"{what} ({e.strerror or e})")
