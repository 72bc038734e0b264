"""How busy replicas are kept, in virtual time: `tracelab.run.feeding` against other ways.

A world of its own, without engines: replicas have slots and speeds, rollouts have lengths, traces
have rounds of rollouts, of which the next is asked for when the last has come back. Nothing sleeps;
the same seed gives the same figures.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tracelab.core.item import Item, ModelRef, Sampling
from tracelab.run.feeding import Batch, Waiting, _blocks

MODEL = ModelRef(name="simulated", revision="1", dtype="float32")
Give = Callable[[Waiting, dict[int, int]], tuple[int, Batch] | None]


@dataclass(frozen=True)
class World:
    """What is simulated.

    Attributes:
        replicas: Engines.
        slots: Rollouts that each runs at a time.
        spread: Speeds are log-uniform between 1 / spread and spread.
        sigma: Of the log-normal lengths.
        traces: Traces, all of them live.
        rounds: Rounds of each.
        boundaries: Boundaries of each, all asked in every round.
        rollouts: Rollouts a boundary and round.
    """

    replicas: int = 8
    slots: int = 64
    spread: float = 1.5
    sigma: float = 1.0
    traces: int = 64
    rounds: int = 4
    boundaries: int = 16
    rollouts: int = 8


@dataclass
class Kept:
    """What came of it.

    Attributes:
        utilisation: Share of the slots' time that they were used until the last rollout ended.
        idle: Share of it unused while a rollout waited to begin, anywhere.
        hits: Share of prefix tokens that the replica had been given before.
        time: Until the last rollout ended.
        given: Rollouts by replica.
    """

    utilisation: float
    idle: float
    hits: float
    time: float
    given: list[int] = field(default_factory=list)


def first_filled(waiting: Waiting, held: dict[int, int]) -> tuple[int, Batch] | None:
    """Whole batches to the first replica that may hold more."""
    for name, n in held.items():
        if n < 1024 and (batch := waiting.take()) is not None:
            return name, batch
    return None


def fed(waiting: Waiting, held: dict[int, int]) -> tuple[int, Batch] | None:
    """As tracelab does it."""
    return waiting.give(held)


def simulate(world: World, seed: int, give: Give = fed, *, barrier: bool = False) -> Kept:
    """Run a world to its end.

    Args:
        world: It.
        seed: Of speeds and lengths.
        give: Who is given what next.
        barrier: Whether a round of one trace waits for the rounds of all.
    """
    rng = np.random.default_rng(seed)
    speeds = np.exp(rng.uniform(-1, 1, world.replicas) * np.log(world.spread))
    prompts = [tuple(rng.integers(0, 50_000, 64).tolist()) for _ in range(world.traces)]
    texts = [tuple(rng.integers(0, 50_000, 24 * world.boundaries).tolist()) for _ in prompts]
    waiting = Waiting(128, 8)
    queues: list[list[tuple[Batch, int, int]]] = [[] for _ in speeds]
    running, holding = [0] * world.replicas, [0] * world.replicas
    seen: list[set[int]] = [set() for _ in speeds]
    given, hit, asked_tokens = [0] * world.replicas, 0, 0
    owed = {t: 0 for t in range(world.traces)}
    left = {t: world.rounds for t in range(world.traces)}
    events: list[tuple[float, int, int, int]] = []
    now = used = idle = owing = 0.0
    number = 0

    def ask(t: int) -> None:
        left[t] -= 1
        items = [
            Item(MODEL, prompts[t] + texts[t][: 24 * b], Sampling(), intervention=str(left[t]),
                 seed=t, replicates=world.rollouts)
            for b in range(world.boundaries)
        ]  # fmt: skip
        owed[t] += sum(i.replicates for i in items)
        waiting.add(items)

    def feed() -> None:
        nonlocal hit, asked_tokens
        while (found := give(waiting, dict(enumerate(holding)))) is not None:
            r, batch = found
            holding[r] += batch.owed
            given[r] += batch.owed
            for item in batch.rest():
                blocks = list(_blocks(item.prefix_ids))
                hit += sum(b in seen[r] for b in blocks)
                asked_tokens += len(blocks)
                seen[r].update(blocks)
                queues[r] += [(batch, item.seed, k) for k in item.replicate_range]

    def start(r: int) -> None:
        nonlocal used, number
        while queues[r] and running[r] < world.slots:
            _, trace, _ = queues[r].pop(0)
            seconds = float(rng.lognormal(0, world.sigma)) / float(speeds[r])
            running[r] += 1
            used += seconds
            number += 1
            heapq.heappush(events, (now + seconds, number, r, trace))

    for t in range(world.traces):
        ask(t)
    feed()
    for r in range(world.replicas):
        start(r)
    room = world.replicas * world.slots
    while events:
        then, _, r, trace = heapq.heappop(events)
        if waiting.owed or any(queues):
            owing += (then - now) * room
            idle += (then - now) * (room - sum(running))
        now = then
        running[r] -= 1
        holding[r] -= 1
        owed[trace] -= 1
        if not owed[trace] and left[trace]:
            if not barrier:
                ask(trace)
            elif not any(owed.values()):
                for t in owed:
                    ask(t)
        feed()
        for k in range(world.replicas):
            start(k)
    return Kept(used / (room * now), idle / (owing or 1.0), hit / asked_tokens, now, given)
