"""Flows: everybody hears everything once, nobody waits for others, order never matters."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracelab.core.flow import Ask, Flow, Tasks, distinct, drive, together
from tracelab.core.item import AnyItem, Call, Observation


def call(name: str, replicates: int = 1, first: int = 0) -> Call:
    return Call("chat", {"name": name}, first_replicate=first, replicates=replicates)


def answered(items: Sequence[AnyItem]) -> list[Observation]:
    return [Observation.of(i.key, r, r) for i in items for r in i.replicate_range]


def one_by_one(items: Sequence[AnyItem]) -> Iterator[list[Observation]]:
    for o in answered(items):
        yield [o]


def rounds(name: str, sizes: Sequence[int], log: list[tuple[str, int]]) -> Flow[int]:
    """Asks so many replicates round after round; its result is the sum of all answers."""
    total = 0
    for k, size in enumerate(sizes):
        heard: list[int] = []
        item = call(f"{name}{k}", size)
        yield Ask(f"round {k}", [item], lambda b, h=heard: h.extend(o.value for o in b))
        assert sorted(heard) == list(range(size))
        total += sum(heard)
        log.append((name, k))
    return total


def test_a_flow_hears_each_replicate_once_and_returns() -> None:
    log: list[tuple[str, int]] = []
    assert drive(rounds("a", [3, 2], log), one_by_one) == 3 + 1
    assert log == [("a", 0), ("a", 1)]


def test_results_come_in_the_order_given() -> None:
    flows = (rounds(f"n{k}", [k + 1] * (4 - k), []) for k in range(4))
    expected = [sum(range(k + 1)) * (4 - k) for k in range(4)]
    assert drive(together(flows), one_by_one) == expected


def test_nothing_to_ask_goes_on_at_once() -> None:
    def empty() -> Flow[str]:
        yield Ask("nothing", [], lambda batch: pytest.fail("heard something"))
        assert (yield from together([])) == []
        return "done"

    assert drive(empty(), one_by_one) == "done"


def test_who_asks_the_same_is_told_the_same_and_it_is_asked_once() -> None:
    asked: list[AnyItem] = []

    def flow(first: int, count: int) -> Flow[list[int]]:
        heard: list[int] = []
        yield Ask("same", [call("x", count, first)], lambda b: heard.extend(o.value for o in b))
        return sorted(heard)

    def answer(items: Sequence[AnyItem]) -> Iterator[list[Observation]]:
        asked.extend(items)
        yield answered(items)

    both = drive(together([flow(0, 3), flow(1, 4), flow(9, 1)]), answer)
    assert both == [[0, 1, 2], [1, 2, 3, 4], [9]]
    assert [(i.first_replicate, i.replicates) for i in asked] == [(0, 5), (9, 1)]


def test_no_flow_waits_for_another() -> None:
    """One whose answers are there goes on while another still waits for its first."""
    log: list[tuple[str, int]] = []
    tasks = Tasks(together([rounds("slow", [1, 1], log), rounds("fast", [1, 1], log)]))
    slow, fast = (ask.items[0] for ask in tasks.waiting())
    tasks.hear(answered([fast]))
    (second,) = tasks.waiting()
    tasks.hear(answered(list(second.items)))
    assert log == [("fast", 0), ("fast", 1)]
    assert not tasks.done
    tasks.hear(answered([slow]))
    tasks.hear(answered(list(tasks.waiting()[0].items)))
    assert tasks.done and tasks.result == [0, 0]


def test_few_are_begun_at_a_time_where_few_are_wanted() -> None:
    begun: list[int] = []

    def flow(k: int) -> Flow[int]:
        begun.append(k)
        yield Ask("one", [call(str(k))], lambda b: None)
        return k

    tasks = Tasks(together((flow(k) for k in range(5)), most=2))
    waiting = tasks.waiting()
    assert begun == [0, 1]
    tasks.hear(answered(list(waiting[1].items)))
    assert begun == [0, 1, 2]
    while not tasks.done:
        waiting = [waiting[0], *tasks.waiting()] if waiting else tasks.waiting()
        tasks.hear([o for a in waiting for o in answered(list(a.items))])
        waiting = []
    assert tasks.result == [0, 1, 2, 3, 4]


def test_a_failure_inside_a_flow_reaches_the_driver() -> None:
    def broken() -> Flow[int]:
        yield Ask("fine", [call("a")], lambda b: None)
        raise ValueError("no number")

    with pytest.raises(ValueError, match="no number"):
        drive(together([rounds("a", [1], []), broken()]), one_by_one)


def test_a_driver_that_leaves_requests_open_is_told() -> None:
    with pytest.raises(RuntimeError, match="round 0"):
        drive(rounds("a", [2], []), lambda items: iter([[]]))


def test_what_is_abandoned_does_not_stop_the_others() -> None:
    log: list[tuple[str, int]] = []
    tasks = Tasks(together((rounds(n, [1], log) for n in "abc"), most=1))
    (a,) = tasks.waiting()
    tasks.abandon([a.items[0].key])
    (b,) = tasks.waiting()
    tasks.hear(answered(list(b.items)))
    (c,) = tasks.waiting()
    tasks.abandon([c.items[0].key])
    assert log == [("b", 0)] and tasks.stuck and not tasks.done


def test_who_waits_for_what_is_abandoned_never_goes_on() -> None:
    """Whichever of its flows ends last."""
    log: list[tuple[str, int]] = []
    went_on: list[object] = []

    def parent() -> Flow[None]:
        went_on.append((yield from together(rounds(n, [1], log) for n in "ab")))

    tasks = Tasks(together([parent(), rounds("c", [1], log)]))
    c, a, b = tasks.waiting()
    tasks.abandon([a.items[0].key])
    tasks.hear(answered([*b.items, *c.items]))
    assert {name for name, _ in log} == {"b", "c"}
    assert went_on == [] and tasks.stuck and not tasks.done


@given(
    shape=st.lists(st.lists(st.integers(1, 4), max_size=4), min_size=1, max_size=5),
    most=st.one_of(st.none(), st.integers(1, 3)),
    seed=st.integers(0, 2**16),
)
def test_any_order_of_arrival_gives_the_same(
    shape: list[list[int]], most: int | None, seed: int
) -> None:
    draw = random.Random(seed)
    tasks = Tasks(together((rounds(f"f{k}", s, []) for k, s in enumerate(shape)), most))
    open_: list[Observation] = []
    while not tasks.done:
        open_ += answered(list(distinct(tasks.waiting())))
        draw.shuffle(open_)
        count = draw.randint(1, max(1, len(open_)))
        batch, open_ = open_[:count], open_[count:]
        tasks.hear(batch + draw.sample(batch, k=min(1, len(batch))))  # what comes twice is one
    assert tasks.result == [sum(sum(range(n)) for n in s) for s in shape]
