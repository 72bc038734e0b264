"""Runs items on engines and gives observations back in whatever order they finish.

`LocalPool` runs one engine in this process (tests, small jobs). `RayPool` runs one actor per
replica. Both are queues: `submit` at any time, also while others are in flight, and `ready` gives
what has finished since, as engines finish it. Both promise the same: every asked replicate is
answered exactly once, by an observation or an error observation; a bounded number of batches is in
flight; an engine that dies is replaced, and of its batches what had not come back is asked again; a
batch that was in flight at two deaths is taken apart and its items run one at a time, alone, so
that an item that kills its engine fails by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from tracelab.core.errors import EngineDeadError, EngineError, TracelabError, one_line
from tracelab.core.item import Item, Observation
from tracelab.engines.aio import OwnLoop
from tracelab.engines.base import Counters, EngineSpec, WhiteBox, failed, observed
from tracelab.engines.registry import build
from tracelab.engines.replies import refused
from tracelab.run.feeding import Batch, Waiting
from tracelab.store.spent import Spent

log = logging.getLogger(__name__)

_ALONE_TRIES = 2
_TAKE_SECONDS = 1.0
"""How long an actor waits for an answer before it says that there is none yet."""
_GATHER_SECONDS = 0.01
"""How long it waits for others that end at about the same time."""
_STOP_SECONDS = 10.0
_METHODS = 4
"""Methods of an actor that run at the same time: `take` waits while others are called."""


class Pool(Protocol):
    """Turns items into observations."""

    @property
    def owed(self) -> int:
        """Replicates that were submitted and not given back yet."""
        ...

    @property
    def restarts(self) -> int:
        """Engines that died and were replaced."""
        ...

    def submit(self, items: Iterable[Item]) -> None:
        """Queue items; neighbours share prefixes, so their order is kept."""
        ...

    def ready(self, timeout: float) -> list[Observation]:
        """What has finished; none where nothing finished in `timeout` seconds.

        Raises:
            EngineError: Engines died too often.
        """
        ...

    def cancel(self) -> None:
        """Forget what no engine has begun; what is in flight is still given back."""
        ...

    def counters(self) -> Counters:
        """Totals over all engines, dead ones' last known figures included."""
        ...

    def close(self, *, at_once: bool = False) -> None:
        """Stop the engines; `at_once` without waiting for them. Idempotent."""
        ...


def drain(pool: Pool, items: Iterable[Item]) -> Iterator[list[Observation]]:
    """Answer every replicate of every item; batches in completion order."""
    pool.submit(items)
    while pool.owed:
        if batch := pool.ready(5.0):
            yield batch


def _left_out(batch: Batch) -> list[Observation]:
    """What an engine ended without a word about."""
    return [refused(i, r, "none came") for i in batch.rest() for r in i.replicate_range]


class LocalPool:
    """One engine in this process, one batch at a time."""

    def __init__(self, spec: EngineSpec, *, batch_rollouts: int = 128) -> None:
        """Build the engine."""
        self._engine = build(spec)
        self._queue = Waiting(batch_rollouts)
        self._loop = OwnLoop()
        self._batch: Batch | None = None
        self._answers: AsyncGenerator[list[Observation], None] | None = None
        self._next: asyncio.Future[list[Observation] | None] | None = None
        self._cancelled = False

    @property
    def white_box(self) -> WhiteBox | None:
        """Its engine, if that can look inside the model."""
        inside = "look" in self._engine.capabilities
        return cast(WhiteBox, self._engine) if inside else None

    @property
    def owed(self) -> int:
        """See `Pool.owed`."""
        return self._queue.owed + (0 if self._batch is None else self._batch.owed)

    @property
    def restarts(self) -> int:
        """See `Pool.restarts`: it dies with this process."""
        return 0

    def submit(self, items: Iterable[Item]) -> None:
        """See `Pool.submit`."""
        self._cancelled = False
        self._queue.add(items)

    def ready(self, timeout: float) -> list[Observation]:
        """See `Pool.ready`; an engine that computes in this thread takes the time it takes."""
        if self._batch is None:
            if (batch := self._queue.take()) is None:
                return []
            self._batch, self._answers = batch, observed(self._engine, batch.rest())
        found = self._loop.run(self._wait(timeout))
        given = found or []
        self._batch.settle(given)
        if found is None or not self._batch.owed:
            given = [*given, *([] if self._cancelled else _left_out(self._batch))]
            self._loop.run(self._end())
        return given

    async def _end(self) -> None:
        """Let the engine clear up after a batch."""
        answers, self._answers, self._batch = self._answers, None, None
        if answers is not None:
            await answers.aclose()

    async def _wait(self, timeout: float) -> list[Observation] | None:
        """What the engine finished last; None at the end of the batch."""
        assert self._answers is not None
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._answers, None))
        ended, _ = await asyncio.wait([self._next], timeout=timeout)
        if not ended:
            return []
        ended_now, self._next = self._next, None
        return ended_now.result()

    def cancel(self) -> None:
        """See `Pool.cancel`."""
        self._cancelled = True
        self._queue.clear()
        self._engine.halt()

    def counters(self) -> Counters:
        """See `Pool.counters`."""
        return self._engine.counters

    def close(self, *, at_once: bool = False) -> None:
        """See `Pool.close`."""
        self._queue.clear()
        if self._next is not None and self._next.done() and not self._next.cancelled():
            self._next.exception()  # an interrupt, which was raised where it was heard
        self._loop.close()
        self._batch = self._answers = self._next = None
        self._engine.close()


class EndpointPool:
    """An engine that asks elsewhere: every item goes to it at once, and it says when it is sent.

    It runs in a thread of its own, so that nobody's computing here makes a reply late.
    """

    def __init__(self, spec: EngineSpec) -> None:
        """Build the engine, which bounds what is in flight itself."""
        self._engine: Any = build(spec)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="tracelab-endpoint", daemon=True
        )
        self._thread.start()
        self._dead: TracelabError | None = None
        self._ended: queue.SimpleQueue[tuple[Batch, list[Observation], bool]] = queue.SimpleQueue()
        self.owed = 0

    @property
    def restarts(self) -> int:
        """See `Pool.restarts`: nothing of ours can die."""
        return 0

    def charge(self, spent: Spent) -> None:
        """Count what earlier sessions of the run spent against the caps."""
        budget = self._engine.budget
        budget.requests += spent.requests
        budget.prompt_tokens += spent.prompt_tokens
        budget.output_tokens += spent.generated_tokens

    def submit(self, items: Iterable[Item]) -> None:
        """See `Pool.submit`."""
        for item in items:
            batch = Batch([item])
            self.owed += batch.owed
            asyncio.run_coroutine_threadsafe(self._ask(batch), self._loop)

    async def _ask(self, batch: Batch) -> None:
        try:
            async for found in observed(self._engine, batch.rest()):
                self._ended.put((batch, found, False))
        except TracelabError as e:  # it can serve nothing
            self._dead = self._dead or e
        except Exception as e:  # a fault of ours must not leave the loop waiting
            why = f"{type(e).__name__}: {one_line(e, 200)}"
            self._ended.put(
                (batch, [o for i in batch.rest() for o in failed(i, "engine", why)], False)
            )
        self._ended.put((batch, [], True))

    def ready(self, timeout: float) -> list[Observation]:
        """See `Pool.ready`."""
        given: list[Observation] = []
        with contextlib.suppress(queue.Empty):
            news = self._ended.get(timeout=timeout)
            while True:
                given += self._heard(*news)
                news = self._ended.get_nowait()
        if self._dead is not None and not given:
            raise self._dead
        return given

    def _heard(self, batch: Batch, found: list[Observation], over: bool) -> list[Observation]:
        before = batch.owed
        batch.settle(found)
        self.owed -= before - batch.owed
        if over:  # of what it was halted before, nothing more comes
            self.owed -= batch.owed
        return found

    def cancel(self) -> None:
        """See `Pool.cancel`."""
        self._loop.call_soon_threadsafe(self._engine.halt)

    def counters(self) -> Counters:
        """See `Pool.counters`."""
        return copy(cast(Counters, self._engine.counters))

    def close(self, *, at_once: bool = False) -> None:
        """See `Pool.close`."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        here = asyncio.current_task()
        left = asyncio.all_tasks() - {here}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._engine.aclose()


@dataclass(slots=True)
class Taken:
    """What an actor has to say.

    Attributes:
        answers: Observations that it has not given before, by the number of their batch.
        ended: Batches of which it will give nothing more.
        counters: Its engine's totals so far.
        error: Why it can serve nothing any more.
    """

    answers: list[tuple[int, list[Observation]]]
    ended: list[int]
    counters: Counters
    error: str | None = None


class EngineActor:
    """What runs in a Ray worker process: one engine, many batches at once.

    Plain class; `RayPool` makes it an actor whose methods are called by several threads. The engine
    has a thread and an event loop of its own, so that an engine that computes does not keep what
    it has finished from being fetched. `start` is separate from construction so that a model that
    cannot be loaded is an exception with our type, not a dead actor.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._engine: Any = None
        self._guard: Any = None
        self._loop: Any = None
        self._starting = threading.Lock()
        self._news = threading.Condition()
        self._answers: list[tuple[int, list[Observation]]] = []
        self._ended: list[int] = []
        self._error: str | None = None

    def start(self) -> int:
        """Build the engine, once; returns this worker's process id."""
        import os

        from tracelab.run.reaper import guard

        with self._starting:
            if self._engine is None:
                self._guard = guard()
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="engine", daemon=True).start()
                asyncio.run_coroutine_threadsafe(self._build(), self._loop).result()
        return os.getpid()

    async def _build(self) -> None:
        self._engine = build(self._spec)

    def submit(self, number: int, items: list[Item]) -> None:
        """Begin a batch."""
        asyncio.run_coroutine_threadsafe(self._run(number, items), self._loop)

    async def _run(self, number: int, items: list[Item]) -> None:
        error = None
        try:
            async for found in observed(self._engine, items):
                with self._news:
                    self._answers.append((number, found))
                    self._news.notify()
                await asyncio.sleep(0)  # an engine that computes would let nobody else in
        except BaseException as e:
            error = f"{type(e).__name__}: {one_line(e, 500)}"
        with self._news:
            self._ended.append(number)
            self._error = self._error or error
            self._news.notify()

    def take(self, seconds: float) -> Taken:
        """Wait so long for something to say, and say it."""
        with self._news:
            if self._news.wait_for(self._has_news, seconds) and self._error is None:
                self._news.wait(_GATHER_SECONDS)
            answers, self._answers = self._answers, []
            ended, self._ended = self._ended, []
            return Taken(answers, ended, copy(self._engine.counters), self._error)

    def _has_news(self) -> bool:
        return bool(self._answers or self._ended or self._error)

    def halt(self) -> None:
        """Begin nothing more."""
        self._loop.call_soon_threadsafe(self._engine.halt)

    def stop(self) -> None:
        """Close the engine before the process is killed."""
        if self._engine is not None:
            self._engine.close()


@dataclass(slots=True)
class _Replica:
    handle: Any
    life: int
    """Another one for its successor."""
    flying: dict[int, Batch] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    starting: Any = None
    """The `start` that is under way."""
    asking: Any = None
    """The `take` that is under way."""
    dead: BaseException | None = None
    """Why it is to be replaced."""

    @property
    def held(self) -> int:
        return sum(b.owed for b in self.flying.values())

    @property
    def able(self) -> bool:
        alone = any(b.alone for b in self.flying.values())
        return self.dead is None and self.starting is None and not alone


class RayPool:
    """One Ray actor per replica."""

    def __init__(
        self,
        spec: EngineSpec,
        *,
        replicas: int = 1,
        gpus: float = 0,
        cpus: float = 1,
        address: str | None = None,
        in_flight: int = 8,
        batch_rollouts: int = 128,
        max_deaths: int = 8,
    ) -> None:
        """Start or join Ray and start every engine.

        Args:
            spec: The engine.
            replicas: Actors.
            gpus: GPUs an actor.
            cpus: CPUs an actor reserves in Ray's books.
            address: None starts Ray here for this pool; otherwise the cluster to join.
            in_flight: Whole batches an actor may hold.
            batch_rollouts: Rollouts a batch, at most.
            max_deaths: Engine deaths after which `run` gives up.

        Raises:
            ModelLoadError: The engine cannot load the model.
            EngineError: Ray or the engine cannot be started.
        """
        import ray

        from tracelab.run.cluster import connect

        self._ray: Any = ray
        self._spec = spec
        self._queue = Waiting(batch_rollouts, in_flight)
        self._most = batch_rollouts * in_flight
        self._again: deque[Batch] = deque()
        self._failed: list[Observation] = []
        self._max_deaths = max_deaths
        self._deaths = 0
        self._buried = Counters()
        self._resources = {"num_gpus": gpus, "num_cpus": cpus}
        self._number = 0
        self._lives = 0
        self._cancelled = False
        self._owned = connect(address)
        self._replicas: list[_Replica] = []
        try:
            self._replicas = [self._spawn() for _ in range(replicas)]
            self._started([r.handle.start.remote() for r in self._replicas])
        except BaseException as e:
            self.close(at_once=isinstance(e, KeyboardInterrupt))
            raise

    @property
    def owed(self) -> int:
        """See `Pool.owed`."""
        flying = [b for r in self._replicas for b in r.flying.values()]
        sent = sum(b.owed for b in (*self._again, *flying))
        return self._queue.owed + sent + len(self._failed)

    @property
    def restarts(self) -> int:
        """See `Pool.restarts`."""
        return self._deaths

    def submit(self, items: Iterable[Item]) -> None:
        """See `Pool.submit`."""
        self._cancelled = False
        self._queue.add(items)
        self._feed()

    def cancel(self) -> None:
        """See `Pool.cancel`."""
        self._queue.clear()
        self._again.clear()
        if not self._cancelled:
            self._cancelled = True
            for replica in self._replicas:
                if replica.flying:
                    replica.handle.halt.remote()

    def ready(self, timeout: float) -> list[Observation]:
        """See `Pool.ready`.

        Raises:
            EngineError: Engines died more than `max_deaths` times.
        """
        until = time.monotonic() + timeout
        while True:
            if self._failed:
                failures, self._failed = self._failed, []
                return failures
            for replica in self._replicas:
                if replica.dead is not None:
                    self._bury(replica)
            self._feed()
            asked: dict[Any, _Replica] = {}
            for replica in self._replicas:
                if replica.starting is not None:
                    asked[replica.starting] = replica
                elif replica.flying:
                    replica.asking = replica.asking or replica.handle.take.remote(_TAKE_SECONDS)
                    asked[replica.asking] = replica
            left = until - time.monotonic()
            if not asked or left <= 0:
                return []
            done, _ = self._ray.wait(list(asked), num_returns=1, timeout=left)
            if done and len(asked) > 1:  # whoever else is ready by now
                done, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=0)
            found = [o for ref in done for o in self._heard(asked[ref])]
            self._feed()
            # Whoever asks may want to stop before one that died is replaced.
            if found or any(r.dead is not None for r in self._replicas):
                return found

    def _heard(self, replica: _Replica) -> list[Observation]:
        """What a replica says; one that is dead is buried later, so that nothing said is lost."""
        if replica.starting is not None:
            ref, replica.starting = replica.starting, None
            self._started([ref])
            return []
        ref, replica.asking = replica.asking, None
        try:
            said: Taken = self._ray.get(ref)
        except self._ray.exceptions.RayError as e:
            replica.dead = e
            return []
        replica.counters = said.counters
        found: list[Observation] = []
        for number, answers in said.answers:
            replica.flying[number].settle(answers)
            found += answers
        if said.error is not None:
            replica.dead = EngineDeadError(said.error)
            return found
        for number in said.ended:
            batch = replica.flying.pop(number)
            found += [] if self._cancelled else _left_out(batch)
        return found

    def counters(self) -> Counters:
        """See `Pool.counters`."""
        total = Counters()
        for c in [self._buried, *(r.counters for r in self._replicas)]:
            _add(total, c)
        return total

    def close(self, *, at_once: bool = False) -> None:
        """See `Pool.close`."""
        if not at_once:
            # Those that are dead, or hang, are killed next like all others.
            with contextlib.suppress(Exception):
                stops = [replica.handle.stop.remote() for replica in self._replicas]
                if stops:
                    self._ray.wait(stops, num_returns=len(stops), timeout=_STOP_SECONDS)
        for replica in self._replicas:
            with contextlib.suppress(Exception):  # Ray itself may have been ended
                self._ray.kill(replica.handle)
        self._replicas = []
        if self._owned is not None:
            owned, self._owned = self._owned, None
            try:
                self._ray.shutdown()
            finally:
                owned.close()

    def _feed(self) -> None:
        """Hand out what waits (`tracelab.run.feeding`), lost batches first; suspects run alone."""
        while True:
            able = {r.life: r for r in self._replicas if r.able}
            held = {life: r.held for life, r in able.items()}
            if not held:
                return
            if self._again:
                batch, life = self._again[0], min(held, key=held.__getitem__)
                if held[life] and (batch.alone or held[life] + batch.owed > self._most):
                    return
                self._again.popleft()
            elif (given := self._queue.give(held)) is not None:
                life, batch = given
            else:
                return
            self._number += 1
            able[life].flying[self._number] = batch
            able[life].handle.submit.remote(self._number, batch.rest())

    def _bury(self, replica: _Replica) -> None:
        """Replace a dead replica; ask again what had not come back, suspects last and one by one.

        Its successor joins when it has started; until then the others do its work.
        """
        cause, replica.dead = replica.dead, None
        assert cause is not None
        self._deaths += 1
        lost = [b for b in replica.flying.values() if b.owed]
        replica.flying.clear()
        if self._cancelled:  # they were to stop: what they had begun is asked again another time
            return
        log.warning("an engine died (%s); %d batches are asked again", one_line(cause), len(lost))
        for batch in lost:
            deaths, rest = batch.deaths + 1, batch.rest()
            if batch.alone and deaths >= _ALONE_TRIES:
                self._failed += [
                    o for item in rest
                    for o in failed(
                        item, "engine_died", "the engine died each time it ran this item"
                    )
                ]  # fmt: skip
            elif batch.alone:
                self._again.append(Batch(rest, deaths=deaths, alone=True))
            elif deaths >= 2:
                self._again.extend(Batch([item], alone=True) for item in rest)
            else:
                self._again.appendleft(Batch(rest, deaths=deaths))
        if self._deaths > self._max_deaths:
            raise EngineError(
                f"engines died {self._deaths} times, more than runtime.max_engine_deaths; "
                f"the last time: {one_line(cause)}. What was finished is in the journal."
            )
        _add(self._buried, replica.counters)
        self._ray.kill(replica.handle)
        fresh = self._spawn()
        replica.handle, replica.life, replica.counters = fresh.handle, fresh.life, Counters()
        replica.starting = replica.handle.start.remote()

    def _spawn(self) -> _Replica:
        actor = self._ray.remote(EngineActor).options(
            max_concurrency=_METHODS, max_restarts=0, **self._resources
        )
        self._lives += 1
        return _Replica(actor.remote(self._spec), self._lives)

    def _started(self, starts: Sequence[Any]) -> None:
        """Wait until engines have started."""
        try:
            self._ray.get(starts)
        except self._ray.exceptions.RayError as e:
            # What an actor raised comes wrapped in something that prints as a traceback.
            if isinstance(cause := getattr(e, "cause", None), TracelabError):
                raise cause from None
            raise EngineError(f"an engine could not be started: {one_line(e)}") from e


def _add(total: Counters, c: Counters) -> None:
    total.prompt_tokens += c.prompt_tokens
    total.cached_tokens += c.cached_tokens
    total.generated_tokens += c.generated_tokens
    total.written_tokens += c.written_tokens
    total.start_seconds = max(total.start_seconds, c.start_seconds)
