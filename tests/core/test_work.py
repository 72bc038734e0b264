"""Keys, seeds and divergence: what resuming and recycling rest on."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracelab.core.item import Item, ModelRef, Sampling, diverge_token, parts
from tracelab.run.feeding import Waiting, split

REF = ModelRef("m", "r1", "float32")
ids = st.lists(st.integers(0, 5), max_size=12)


def item(**changes) -> Item:
    fields = {"model": REF, "prefix_ids": (1, 2, 3), "sampling": Sampling(), "replicates": 4}
    return Item(**{**fields, **changes})


@pytest.mark.parametrize(
    "change",
    [
        {"prefix_ids": (1, 2, 4)},
        {"prefix_ids": (1, 2)},
        {"sampling": Sampling(temperature=0.5)},
        {"sampling": Sampling(max_tokens=7)},
        {"sampling": Sampling(stop=("x",))},
        {"sampling": None, "target_ids": (4,)},
        {"seed": 1},
        {"intervention": "base"},
        {"model": ModelRef("m", "r2", "float32")},
        {"model": ModelRef("m", "r1", "bfloat16")},
    ],
)
def test_whatever_changes_a_sample_changes_the_key(change) -> None:
    assert item(**change).key != item().key


@pytest.mark.parametrize(
    "change",
    [
        {"replicates": 9},
        {"first_replicate": 3},
        {"sampling": Sampling(logprobs=True)},
        {"model": ModelRef("another name", "r1", "float32")},
    ],
)
def test_what_changes_no_sample_keeps_the_key(change) -> None:
    assert item(**change).key == item().key


def test_key_is_stable_across_releases() -> None:
    """A changed key would silently redo every journal in the world: bump on purpose only."""
    assert item().key == "7a6eec3af9e19feebe14a441"


def test_seeds_never_collide_within_or_between_items() -> None:
    seeds = [i.seed_of(r) for i in (item(prefix_ids=(k,)) for k in range(200)) for r in range(100)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= s < 2**63 for s in seeds)


@given(ids, ids, st.integers(0, 5))
def test_diverge_token_is_the_first_difference(a: list[int], b: list[int], start: int) -> None:
    response = [9] * start + b
    d = diverge_token(start, a, response)
    assert a[: d - start] == response[start:d]
    assert d - start == len(a) or d == len(response) or a[d - start] != response[d]


@given(st.integers(1, 300), st.integers(1, 50), st.integers(0, 40))
def test_splitting_asks_for_each_replicate_once(n: int, size: int, first: int) -> None:
    cut = list(split(item(replicates=n, first_replicate=first), size))
    asked = [r for p in cut for r in p.replicate_range]
    assert asked == list(range(first, first + n))
    assert all(p.replicates <= size for p in cut)


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 40))
def test_batches_keep_order_and_lose_nothing(sizes: list[int], size: int) -> None:
    queue = Waiting(size)
    items = [item(prefix_ids=(k,), replicates=n) for k, n in enumerate(sizes)]
    queue.add(items)
    assert queue.owed == sum(sizes)
    taken = list(iter(queue.take, None))
    asked = [(i.prefix_ids, r) for b in taken for i in b.rest() for r in i.replicate_range]
    assert asked == [(i.prefix_ids, r) for i in items for r in i.replicate_range]
    assert all(sum(i.replicates for i in b.rest()) <= size for b in taken)
    assert queue.owed == 0


@given(st.integers(1, 40), st.sets(st.integers(0, 60)))
def test_missing_is_exactly_what_was_not_seen(n: int, seen: set[int]) -> None:
    wanted = {r for r in range(n) if r not in seen}
    asked = [r for p in parts(item(replicates=n), wanted) for r in p.replicate_range]
    assert asked == sorted(wanted)


def test_an_item_is_a_generation_or_a_probe() -> None:
    with pytest.raises(ValueError, match="either"):
        item(target_ids=(1,))
    with pytest.raises(ValueError, match="replicate"):
        item(replicates=0)


def test_another_range_changes_nothing_else() -> None:
    a = item(intervention="x", seed=3)
    b = a.at(7, 2)
    same = {f.name for f in dataclasses.fields(Item)} - {"first_replicate", "replicates"}
    assert all(getattr(a, f) == getattr(b, f) for f in same)
