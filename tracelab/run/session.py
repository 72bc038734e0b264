"""One invocation that works on one run: journal, engines, progress, costs, the user's signals.

It watches the loop (`tracelab.run.loop.Watcher`) and starts what answers it: engines only when
something is owed that the journal does not have.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from tracelab.core.errors import DamagedError, TracelabError
from tracelab.core.item import Observation
from tracelab.core.version import __version__
from tracelab.engines.base import WhiteBox
from tracelab.run.config import RunConfig
from tracelab.run.inputs import FILE, entries
from tracelab.run.loop import StoppedError
from tracelab.run.pool import EndpointPool, LocalPool, Pool
from tracelab.run.progress import RunProgress
from tracelab.run.record import OWED, continued, identity, read_record
from tracelab.run.wiring import Wired
from tracelab.store.costs import Prices, money
from tracelab.store.home import FULL, Home
from tracelab.store.journal import RECORD, Journal
from tracelab.store.spent import SOURCES, Total

_SESSION_EVERY_SECONDS = 5.0


@dataclass(slots=True)
class SessionCosts:
    """What one invocation did; a row of `sessions`. Tokens and seconds.

    What is about observations counts those that are in the journal for sure. `closed` says that
    nothing came after it was written.
    """

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
    requests: int = 0
    endpoint_requests: int = 0
    endpoint_prompt_tokens: int = 0
    endpoint_generated_tokens: int = 0
    endpoint_seconds: float = 0.0
    money: float | None = None
    closed: bool = False

    def count(self, total: Total, prices: Prices) -> None:
        """Take what observations have cost."""
        every, ends = total.all, total.endpoints
        self.observations, self.errors = total.observations, total.errors
        self.requests, self.prompt_tokens = every.requests, every.prompt_tokens
        self.generated_tokens = every.generated_tokens
        self.endpoint_requests = ends.requests
        self.endpoint_prompt_tokens = ends.prompt_tokens
        self.endpoint_generated_tokens = ends.generated_tokens
        self.endpoint_seconds = ends.seconds
        self.money = money(total, prices)


class Session:
    """A run being worked on."""

    def __init__(
        self,
        config: RunConfig,
        home: Home,
        wired: Wired,
        progress: RunProgress,
        *,
        versions: dict[str, str] | None = None,
        retry_errors: bool = False,
    ) -> None:
        """Open the run's journal, creating it if this is the first time.

        Args:
            config: What to do.
            home: Where results go.
            wired: The engine; its model's identity is part of the run's.
            progress: Whom to tell.
            versions: Versions of the packages that matter, for the record.
            retry_errors: Ask again for rollouts that failed in an earlier session.

        Raises:
            ConfigError: The run exists and was made with another config or other weights.
            TracelabError: Another process works on it.
        """
        self.config = config
        self.home = home
        self.wired = wired
        self.progress = progress
        self.retry_errors = retry_errors
        self.costs = SessionCosts()
        self._prices = prices_of(config)
        self._pool: Pool | None = None
        self._signals = 0
        self._starting = False
        self._finished = False
        self._began = self._saved = time.monotonic()
        try:
            self.journal = Journal(
                config.runtime.journal or str(home.runs), config.name, warn=progress.warn
            )
            self.journal.watch = self.save
            try:
                self.record = self._open_record(versions or {})
            except BaseException:
                self.journal.close()
                raise
        except OSError as e:
            raise disk_error(e, "the journal cannot be opened") from e

    def _open_record(self, versions: dict[str, str]) -> dict[str, Any]:
        begun = self.journal.has_results()  # else an earlier config binds nobody
        old = self._old_record(begun)
        if begun:
            self._look_through()
        model = self.wired.spec.model
        if old is not None:
            self.config = continued(old, self.config, model, self.progress.warn)
        record = {
            "run_id": self.config.name,
            "config": self.config.model_dump(mode="json"),
            "identity": identity(self.config, model),
            "digest": self.config.digest,
            "tracelab_version": __version__,
            "versions": versions,
            "engine": self.wired.spec.kind,
            "model": model.name,
            "model_used": False,
            "started_at": self.costs.started_at,
            "finished_at": None,
        }
        owed = self.journal.owed()
        if old is not None:
            record = {**old, **record}
            record["started_at"], record["finished_at"] = old["started_at"], old["finished_at"]
            record["model_used"] = old.get("model_used", True)
            owed = owed or old.get(OWED)
        elif begun:
            owed = "its run.json"
        if owed is not None:
            record[OWED], record["finished_at"] = owed, None
        self.journal.write_json(RECORD, record)
        self.journal.lost.clear()  # the record says it
        return record

    def _old_record(self, begun: bool) -> dict[str, Any] | None:
        """The record of a run that has begun."""
        try:
            found = read_record(self.journal)
        except DamagedError as e:
            if begun:
                raise DamagedError(
                    f"{e}. Without it nobody knows which config the run was made with: move it "
                    "away and give the same command again, which uses of the journal what the "
                    "config asks for; or start over with --fresh."
                ) from None
            return None
        return found if begun else None

    def _look_through(self) -> None:
        """Verify what an earlier session wrote; what is damaged is owed again, or made again."""
        self.journal.verify()
        try:
            for _ in entries(self.journal):
                pass
        except DamagedError as e:
            self.journal.set_aside(FILE, str(e))

    def pool(self) -> Pool:
        """The engines, started at the first call."""
        if self._pool is None:
            spec = self.wired.spec
            what = f"starting {spec.kind} for {spec.model.name}"
            self.progress.say(f"{what} ...")
            self.progress.doing(what)
            self.uses_model()
            self._starting = True
            try:
                self._pool = self.wired.make_pool()
            except KeyboardInterrupt:
                if self._signals > 1:
                    raise
                raise StoppedError(
                    "stopped before an engine had started. The same command continues."
                ) from None
            finally:
                self._starting = False
            if isinstance(self._pool, EndpointPool) and (before := self.journal.total()):
                self._pool.charge(before.by["engine"])
            self.progress.engine(self._pool.counters)
        return self._pool

    def uses_model(self) -> None:
        """Note that the run's numbers come from its model; of rules and judges they do not."""
        if not self.record["model_used"]:
            self.record["model_used"] = True
            self.journal.write_json(RECORD, self.record)

    def lent_white_box(self) -> WhiteBox | None:
        """The run's own engine, where it is in this process and can look inside the model."""
        return self._pool.white_box if isinstance(self._pool, LocalPool) else None

    # -- what the loop tells ------------------------------------------------------------------

    def owe(self, stage: str, kind: str, total: int, done: int) -> None:
        """See `Watcher.owe`."""
        if total > done:
            if self.record["finished_at"] is not None:
                self.record["finished_at"] = None
                self.journal.write_json(RECORD, self.record)
            self.progress.stage(stage, total, done, kind)

    def got(self, kind: str, batch: Sequence[Observation]) -> None:
        """See `Watcher.got`."""
        self.progress.advance(batch, kind)
        if time.monotonic() - self._saved > _SESSION_EVERY_SECONDS:
            self._saved = time.monotonic()
            self.save()

    def waiting(self, asked: Mapping[str, int]) -> None:
        """See `Watcher.waiting`."""
        self.progress.waiting(asked)

    def stopping(self) -> bool:
        """See `Watcher.stopping`."""
        return self._signals > 0

    # -- the record ---------------------------------------------------------------------------

    def save(self) -> None:
        """Write what this invocation has cost so far.

        It is written before and after every part of the journal, so of an invocation that is killed
        the last part may be missing, and nothing else (`tracelab.store.costs.settled`).
        """
        c = self.costs
        c.count(self.journal.durable, self._prices)
        if self._pool is not None:
            totals = self._pool.counters()
            c.cached_tokens = min(totals.cached_tokens, c.prompt_tokens)
            c.start_seconds = totals.start_seconds
            c.restarts = self._pool.restarts
        c.seconds = time.monotonic() - self._began
        if c.observations or self.journal.pending:
            self.journal.write_json(f"sessions/{c.session}.json", asdict(c))

    def _close(self) -> None:
        """Write it for the last time."""
        self.journal.flush()
        self.costs.closed = True
        self.save()

    def finish(self) -> dict[str, Any]:
        """The run's record once all is done; the time is that of the last work, not of looking."""
        self.progress.doing("loading the results into the database")
        self._close()
        if (owed := self.journal.owed()) is not None:
            self.progress.warn(f"{owed} went bad while the run went on: run the same command again")
            self.record[OWED], self.record["finished_at"] = owed, None
            self.journal.write_json(RECORD, self.record)
            self.journal.lost.clear()
        elif self.costs.observations or self.record["finished_at"] is None:
            # A clock that was put back must not end a run before it began.
            now = datetime.now(UTC)
            self.record["finished_at"] = max(self.record["started_at"], now.isoformat())
            self.journal.write_json(RECORD, self.record)
        self._finished = True
        return self.record

    # -- stopping -----------------------------------------------------------------------------

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1 or self._starting:
            raise KeyboardInterrupt
        # A handler may run in the middle of a print: another thread says it, in a moment.
        self.progress.warn_soon(
            "stopping: waiting for what is being computed (once more to stop at once) ..."
        )

    def __enter__(self) -> Session:
        self._old_handlers: dict[int, Callable[..., Any] | int | None] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        at_once = kind is not None and issubclass(kind, KeyboardInterrupt)
        try:
            if at_once:
                self.progress.warn(
                    "stopped at once; what was finished is kept. The same command continues."
                )
            # A finished run has loaded its session; another figure would be news the next time.
            if not self._finished:
                with contextlib.suppress(OSError):
                    self._close()
            if self._pool is not None:
                self._pool.close(at_once=at_once)
        finally:
            for number, handler in self._old_handlers.items():
                signal.signal(number, handler)
            with contextlib.suppress(OSError):
                self.journal.close()


def prices_of(config: RunConfig) -> Prices:
    """The prices that a config names."""
    paid = {
        "engine": config.engine.server, "judges": getattr(config.options, "judge", None),
        "grading": config.grading.judge,
    }  # fmt: skip
    return {s: (getattr(paid[s], "input_price", 0.0), getattr(paid[s], "output_price", 0.0))
            for s in SOURCES}  # fmt: skip


def disk_error(e: OSError, what: str) -> TracelabError:
    """What a disk says, as a sentence."""
    if e.errno in FULL:
        return TracelabError(
            f"{what}: the disk is full. What was written before is safe; free some space and "
            "run the same command again."
        )
    return TracelabError(f"{what} ({e.strerror or e})")
