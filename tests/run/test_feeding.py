"""Who is given what: nobody stands still while work waits, and prefixes stay where they began."""

from __future__ import annotations

import pytest

from benchmarks.feed import World, simulate
from tests.conftest import SCRIPT_REF
from tracelab.core.item import Item, Sampling
from tracelab.run.workers.feeding import Waiting


def items(trace: int, boundaries: int, replicates: int = 8) -> list[Item]:
    prompt = tuple(range(1000 * trace, 1000 * trace + 64))
    return [
        Item(SCRIPT_REF, prompt + tuple(range(32 * b)), Sampling(), replicates=replicates)
        for b in range(boundaries)
    ]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("replicas", "spread"), [(2, 1.0), (4, 2.0), (8, 1.5)])
def test_no_replica_stands_still_while_work_is_owed(
    replicas: int, spread: float, seed: int
) -> None:
    """Heavy-tailed lengths, replicas of unknown speed, rounds that wait for their own rollouts."""
    world = World(replicas=replicas, spread=spread, traces=40 * replicas, rounds=2, boundaries=8)
    kept = simulate(world, seed)
    assert sum(kept.given) == world.traces * world.rounds * world.boundaries * world.rollouts
    assert kept.idle <= 0.05
    barrier = simulate(world, seed, barrier=True)
    assert kept.time < barrier.time and kept.idle < barrier.idle


def test_a_round_goes_to_all_and_not_to_the_first() -> None:
    waiting = Waiting(128, 8)
    waiting.add([i for t in range(16) for i in items(t, 8)])
    held = {1: 0, 2: 0, 3: 0, 4: 0}
    while (found := waiting.give(held)) is not None:
        held[found[0]] += found[1].owed
    assert max(held.values()) <= 2 * min(held.values())


def test_what_shares_a_prefix_goes_to_one() -> None:
    waiting, where = Waiting(128, 8), {}
    for _ in range(3):  # three rounds; each is answered before the next
        held = {1: 0, 2: 0}
        waiting.add([i for t in range(6) for i in items(t, 4)])
        while (found := waiting.give(held)) is not None:
            name, batch = found
            held[name] += batch.owed
            for item in batch.rest():
                where.setdefault(item.prefix_ids[0], set()).add(name)
    assert {len(names) for names in where.values()} == {1}
    assert len(set.union(*where.values())) == 2


@pytest.mark.parametrize("in_flight", [1, 2, 8])
def test_what_a_dead_or_full_one_had_begun_goes_to_another(in_flight: int) -> None:
    waiting = Waiting(16, in_flight)
    waiting.add(items(0, 1))
    found = waiting.give({1: 0, 2: 16 * in_flight})
    assert found is not None and found[0] == 1
    for held in ({2: 0, 3: 0}, {1: 16 * in_flight, 2: 0}):  # dead; full
        waiting.add(items(0, 1))
        found = waiting.give(held)
        assert found is not None and found[0] in held.keys() - {1}


def test_one_engine_is_given_whole_batches_up_to_all_it_may_hold() -> None:
    waiting = Waiting(20, 3)
    waiting.add(items(0, 10))
    sizes = []
    while (found := waiting.give({7: sum(sizes)})) is not None:
        sizes.append(found[1].owed)
    assert sizes == [16, 16, 16] and waiting.owed == 32
    waiting.clear()
    assert waiting.give({7: 0}) is None


def test_an_item_larger_than_a_batch_is_shared() -> None:
    waiting = Waiting(32, 4)
    waiting.add(items(0, 1, replicates=100))
    asked: list[int] = []
    while (found := waiting.give({1: 0, 2: 0})) is not None:
        assert found[1].owed <= 32
        asked += [r for i in found[1].rest() for r in i.replicate_range]
    assert sorted(asked) == list(range(100))
