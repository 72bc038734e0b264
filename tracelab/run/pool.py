"""Runs items on engines and gives observations back in whatever order they finish.

`LocalPool` runs one engine in this process (tests, small jobs). `RayPool` runs one actor per
replica. Both are queues: `submit` at any time, also while others are in flight, and `ready` gives
the next finished batch. Both promise the same: every asked replicate is answered exactly once, by
an observation or an error observation; a bounded number of batches is in flight; an engine that
dies is replaced and its batches are asked again; a batch that was in flight at two deaths is taken
apart and its items run one at a time, alone, so that an item that kills its engine fails by itself.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from tracelab.core.errors import EngineDeadError, EngineError, TracelabError, one_line
from tracelab.core.item import Item, Observation
from tracelab.engines import aio
from tracelab.engines.base import Counters, EngineSpec, WhiteBox, failed
from tracelab.engines.registry import build

log = logging.getLogger(__name__)

_ALONE_TRIES = 2


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
        """The next finished observations; none where nothing finished in `timeout` seconds.

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

    def close(self) -> None:
        """Stop the engines. Idempotent."""
        ...


def drain(pool: Pool, items: Iterable[Item]) -> Iterator[list[Observation]]:
    """Answer every replicate of every item; batches in completion order."""
    pool.submit(items)
    while pool.owed:
        if batch := pool.ready(5.0):
            yield batch


@dataclass(slots=True)
class Batch:
    """Items sent to an engine together."""

    items: list[Item]
    deaths: int = 0
    """Engine deaths it was in flight at."""
    alone: bool = False
    """Suspected of killing engines: runs with nothing beside it."""


class _Queue:
    """Items that wait, in order; cut into batches of about `size` rollouts when they are taken.

    An item asking for more than `size` replicates is split by replicate range; that changes no
    sample (see `Item.seed_of`).
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[Item] = deque()
        self.owed = 0

    def add(self, items: Iterable[Item]) -> None:
        for item in items:
            self._items.append(item)
            self.owed += item.replicates

    def take(self) -> Batch | None:
        held: list[Item] = []
        count = 0
        while self._items:
            item = self._items[0]
            part = item
            if item.replicates > self._size:
                part = item.at(item.first_replicate, self._size)
            if held and count + part.replicates > self._size:
                break
            self._items.popleft()
            if part is not item:
                rest = item.replicates - self._size
                self._items.appendleft(item.at(item.first_replicate + self._size, rest))
            held.append(part)
            count += part.replicates
        self.owed -= count
        return Batch(held) if held else None

    def clear(self) -> None:
        self._items.clear()
        self.owed = 0


def split(item: Item, size: int) -> Iterator[Item]:
    """Cut an item's replicate range into parts of at most `size`."""
    for at in range(0, item.replicates, size):
        yield item.at(item.first_replicate + at, min(size, item.replicates - at))


async def run_batch(engine: Any, items: Sequence[Item]) -> list[Observation]:
    """Send one batch to an engine, generations and probes each to its verb."""
    generate = [i for i in items if i.kind == "generate"]
    score = [i for i in items if i.kind == "score"]
    out: list[Observation] = []
    if generate:
        out += await engine.generate(generate)
    if score:
        out += await engine.score(score)
    return out


class LocalPool:
    """One engine in this process, one batch at a time."""

    def __init__(self, spec: EngineSpec, *, batch_rollouts: int = 128) -> None:
        """Build the engine."""
        self._engine = build(spec)
        self._queue = _Queue(batch_rollouts)

    @property
    def white_box(self) -> WhiteBox | None:
        """Its engine, if that can look inside the model."""
        inside = "look" in self._engine.capabilities
        return cast(WhiteBox, self._engine) if inside else None

    @property
    def owed(self) -> int:
        """See `Pool.owed`."""
        return self._queue.owed

    @property
    def restarts(self) -> int:
        """See `Pool.restarts`: it dies with this process."""
        return 0

    def submit(self, items: Iterable[Item]) -> None:
        """See `Pool.submit`."""
        self._queue.add(items)

    def ready(self, timeout: float) -> list[Observation]:
        """See `Pool.ready`; computes the next batch, however long it takes."""
        batch = self._queue.take()
        return [] if batch is None else aio.run(run_batch(self._engine, batch.items))

    def cancel(self) -> None:
        """See `Pool.cancel`."""
        self._queue.clear()

    def counters(self) -> Counters:
        """See `Pool.counters`."""
        return self._engine.counters

    def close(self) -> None:
        """See `Pool.close`."""
        self._engine.close()


class EngineActor:
    """What runs in a Ray worker process: one engine, many batches at once.

    Plain class; `RayPool` makes it an actor. `start` is separate from construction so that a model
    that cannot be loaded is an exception with our type, not a dead actor.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._engine: Any = None
        self._guard: Any = None

    async def start(self) -> int:
        """Build the engine; returns this worker's process id."""
        import os

        from tracelab.run.reaper import guard

        self._guard = guard()
        self._engine = build(self._spec)
        return os.getpid()

    async def run(self, items: list[Item]) -> tuple[list[Observation], Counters]:
        """Answer one batch; also this engine's totals so far."""
        return await run_batch(self._engine, items), self._engine.counters

    async def stop(self) -> None:
        """Close the engine before the process is killed."""
        if self._engine is not None:
            self._engine.close()


@dataclass(slots=True)
class _Replica:
    handle: Any
    flying: dict[Any, Batch] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)


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
            in_flight: Batches an actor may hold.
            batch_rollouts: Rollouts a batch.
            max_deaths: Engine deaths after which `run` gives up.

        Raises:
            ModelLoadError: The engine cannot load the model.
            EngineError: Ray or the engine cannot be started.
        """
        import ray

        from tracelab.run.cluster import connect

        self._ray: Any = ray
        self._spec = spec
        self._in_flight = in_flight
        self._queue = _Queue(batch_rollouts)
        self._again: deque[Batch] = deque()
        self._failed: list[Observation] = []
        self._max_deaths = max_deaths
        self._deaths = 0
        self._buried = Counters()
        self._resources = {"num_gpus": gpus, "num_cpus": cpus}
        self._owned = connect(address)
        self._replicas: list[_Replica] = []
        try:
            self._replicas = [self._spawn() for _ in range(replicas)]
            self._start(self._replicas)
        except BaseException:
            self.close()
            raise

    @property
    def owed(self) -> int:
        """See `Pool.owed`."""
        flying = [b for r in self._replicas for b in r.flying.values()]
        sent = sum(i.replicates for b in (*self._again, *flying) for i in b.items)
        return self._queue.owed + sent + len(self._failed)

    @property
    def restarts(self) -> int:
        """See `Pool.restarts`."""
        return self._deaths

    def submit(self, items: Iterable[Item]) -> None:
        """See `Pool.submit`."""
        self._queue.add(items)
        self._feed()

    def cancel(self) -> None:
        """See `Pool.cancel`."""
        self._queue.clear()
        self._again.clear()

    def ready(self, timeout: float) -> list[Observation]:
        """See `Pool.ready`.

        Raises:
            EngineError: Engines died more than `max_deaths` times.
        """
        if self._failed:
            failures, self._failed = self._failed, []
            return failures
        self._feed()
        flying = {ref: r for r in self._replicas for ref in r.flying}
        if not flying:
            return []
        done, _ = self._ray.wait(list(flying), num_returns=1, timeout=timeout)
        if not done:
            return []
        replica = flying[done[0]]
        try:
            observations, replica.counters = self._ray.get(done[0])
        except (self._ray.exceptions.RayError, EngineDeadError) as e:
            self._bury(replica, e)
            return []
        del replica.flying[done[0]]
        self._feed()
        return cast(list[Observation], observations)

    def counters(self) -> Counters:
        """See `Pool.counters`."""
        total = Counters()
        for c in [self._buried, *(r.counters for r in self._replicas)]:
            _add(total, c)
        return total

    def close(self) -> None:
        """See `Pool.close`."""
        for replica in self._replicas:
            try:
                self._ray.get(replica.handle.stop.remote(), timeout=10)
            except Exception:  # already dead, or hung: killed next in either case
                log.debug("engine did not stop by itself", exc_info=True)
            self._ray.kill(replica.handle)
        self._replicas = []
        if self._owned is not None:
            self._ray.shutdown()
            self._owned.close()
            self._owned = None

    def _feed(self) -> None:
        """Hand out batches to whoever has fewest, at most `in_flight` each; suspects run alone."""
        while True:
            free = [r for r in self._replicas if self._has_room(r)]
            batch = (self._again.popleft() if self._again else self._queue.take()) if free else None
            if batch is None:
                return
            replica = min(free, key=lambda r: len(r.flying))
            if batch.alone and replica.flying:
                self._again.appendleft(batch)
                return
            replica.flying[replica.handle.run.remote(batch.items)] = batch

    def _has_room(self, replica: _Replica) -> bool:
        alone = any(b.alone for b in replica.flying.values())
        return not alone and len(replica.flying) < self._in_flight

    def _bury(self, replica: _Replica, cause: BaseException) -> None:
        """Replace a dead replica; queue its batches again, suspects last and one item at a time."""
        self._deaths += 1
        lost = list(replica.flying.values())
        replica.flying.clear()
        log.warning("an engine died (%s); %d batches are asked again", one_line(cause), len(lost))
        for batch in lost:
            batch.deaths += 1
            if batch.alone and batch.deaths >= _ALONE_TRIES:
                item = batch.items[0]
                self._failed += failed(
                    item, "engine_died", "the engine died each time it ran this item"
                )
            elif batch.alone:
                self._again.append(batch)
            elif batch.deaths >= 2:
                self._again.extend(
                    Batch([one], alone=True) for item in batch.items for one in split(item, 1 << 30)
                )
            else:
                self._again.appendleft(batch)
        if self._deaths > self._max_deaths:
            raise EngineError(
                f"engines died {self._deaths} times, more than runtime.max_engine_deaths; "
                f"the last time: {one_line(cause)}. What was finished is in the journal."
            )
        _add(self._buried, replica.counters)
        self._ray.kill(replica.handle)
        fresh = self._spawn()
        replica.handle, replica.counters = fresh.handle, Counters()
        self._start([replica])

    def _spawn(self) -> _Replica:
        actor = self._ray.remote(EngineActor).options(
            max_concurrency=self._in_flight + 2, max_restarts=0, **self._resources
        )
        return _Replica(actor.remote(self._spec))

    def _start(self, replicas: list[_Replica]) -> None:
        try:
            self._ray.get([r.handle.start.remote() for r in replicas])
        except self._ray.exceptions.RayError as e:
            # What an actor raised comes wrapped in something that prints as a traceback.
            if isinstance(cause := getattr(e, "cause", None), TracelabError):
                raise cause from None
            raise EngineError(f"an engine could not be started: {one_line(e)}") from e


def _add(total: Counters, c: Counters) -> None:
    total.prompt_tokens += c.prompt_tokens
    total.cached_tokens += c.cached_tokens
    total.generated_tokens += c.generated_tokens
    total.start_seconds = max(total.start_seconds, c.start_seconds)
