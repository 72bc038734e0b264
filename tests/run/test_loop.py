"""The loop: the journal answers first, everybody hears everything once, order never matters."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracelab.core.flow import Ask, Flow, together
from tracelab.core.item import AnyItem, Call, Item, ModelRef, Observation, Sampling
from tracelab.run.loop import Loop, MissingError, StoppedError
from tracelab.store.journal import Journal, Peek

MODEL = ModelRef("m", "r", "float32")


def item(name: int, replicates: int = 1) -> Item:
    return Item(MODEL, (name,), Sampling(max_tokens=1), replicates=replicates)


def chat(name: str) -> Call:
    return Call("chat", {"name": name})


class Watcher:
    """Counts; stops when it is told to."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.owed: list[tuple[str, str, int, int]] = []
        self.waited: list[dict[str, int]] = []
        self.heard: list[Observation] = []
        self._stop_after = stop_after

    def owe(self, stage: str, kind: str, total: int, done: int) -> None:
        self.owed.append((stage, kind, total, done))

    def got(self, kind: str, batch: Sequence[Observation]) -> None:
        self.heard += batch

    def waiting(self, asked: Mapping[str, int]) -> None:
        self.waited.append(dict(asked))

    def stopping(self) -> bool:
        return self._stop_after is not None and len(self.heard) >= self._stop_after


class Answering:
    """Answers each replicate by its own number, in an order that is drawn."""

    def __init__(
        self, seed: int = 0, fail: Callable[[AnyItem, int], bool] = lambda i, r: False
    ) -> None:
        self.asked: list[tuple[str, int]] = []
        self._open: list[tuple[AnyItem, int]] = []
        self._draw = random.Random(seed)
        self._fail = fail

    @property
    def owed(self) -> int:
        return len(self._open)

    def submit(self, items: Sequence[AnyItem]) -> None:
        new = [(i, r) for i in items for r in i.replicate_range]
        self.asked += [(i.key, r) for i, r in new]
        self._open += new

    def ready(self, timeout: float) -> list[Observation]:
        self._draw.shuffle(self._open)
        count = self._draw.randint(1, max(1, len(self._open)))
        taken, self._open = self._open[:count], self._open[count:]
        return [
            Observation(i.key, r, error="lost: it failed", finish_reason="error")
            if self._fail(i, r)
            else Observation.of(i.key, r, r)
            for i, r in taken
        ]

    def cancel(self) -> None:
        self._open = []


def loop(
    tmp_path: Path, answering: Answering | None, watcher: Watcher | None = None, **more: Any
) -> tuple[Loop, Journal]:
    journal = Journal(str(tmp_path), "run", flush_rows=3)
    makers: dict[str, Any] = {}
    if answering is not None:
        makers = dict.fromkeys(("generate", "score", "chat"), lambda: answering)
    return Loop(journal, watcher or Watcher(), makers, **more), journal


def study(traces: int, rounds: int, size: int) -> Flow[list[int]]:
    def one(k: int) -> Flow[int]:
        total = 0
        for r in range(rounds):
            heard: list[Observation] = []
            yield Ask(f"round {r}", [item(10 * k + r, size), chat(f"{k}/{r}")], heard.extend)
            assert len(heard) == size + 1
            total += sum(o.value or 0 for o in heard if o.error is None)
        return total

    return (yield from together(one(k) for k in range(traces)))


def test_a_run_that_is_driven_again_asks_nothing(tmp_path: Path) -> None:
    first, watcher = Answering(), Watcher()
    one, journal = loop(tmp_path, first, watcher)
    with journal:
        result = one.drive(study(3, 2, 4))
    assert len(first.asked) == 3 * 2 * 5 == len(watcher.heard)
    assert sum(total for *_, total, _ in watcher.owed) == 30
    assert {kind for _, kind, *_ in watcher.owed} == {"generate", "chat"}
    assert watcher.waited[0] == {"generate": 12, "chat": 3}
    again = Answering()
    two, journal = loop(tmp_path, again)
    with journal:
        assert two.drive(study(3, 2, 4)) == result
    assert again.asked == []
    rebuilt, journal = loop(tmp_path, None)
    with journal:
        assert rebuilt.drive(study(3, 2, 4)) == result


def test_more_of_the_same_pays_for_the_difference(tmp_path: Path) -> None:
    one, journal = loop(tmp_path, Answering())
    with journal:
        one.drive(study(2, 1, 3))
    more = Answering()
    two, journal = loop(tmp_path, more)
    with journal:
        two.drive(study(2, 1, 5))
    assert sorted(r for _, r in more.asked) == [3, 3, 4, 4]


@given(seed=st.integers(0, 2**16), stop=st.integers(0, 40))
def test_any_order_and_any_interruption_give_the_same(
    tmp_path_factory: pytest.TempPathFactory, seed: int, stop: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    expected = [sum(range(3)) * 2] * 4
    one, journal = loop(folder, Answering(seed), Watcher(stop))
    with journal:
        try:
            assert one.drive(study(4, 2, 3)) == expected
        except StoppedError as e:
            assert "The same command continues" in str(e)
    rest = Answering(seed + 1)
    two, journal = loop(folder, rest)
    with journal:
        assert two.drive(study(4, 2, 3)) == expected
    there = Journal(str(folder), "run")
    with there:
        seen = [(o.key, o.replicate) for part in there.observations() for o in part]
    assert len(seen) == len(set(seen)) == 4 * 2 * 4


def test_a_failure_is_kept_and_a_chat_that_failed_is_asked_again(tmp_path: Path) -> None:
    one, journal = loop(tmp_path, Answering(fail=lambda i, r: r == 0))
    with journal:
        one.drive(study(1, 1, 2))
    again = Answering()
    two, journal = loop(tmp_path, again)
    with journal:
        two.drive(study(1, 1, 2))
    assert again.asked == [(chat("0/0").key, 0)]
    retried = Answering()
    three, journal = loop(tmp_path, retried, retry_errors=True)
    with journal:
        three.drive(study(1, 1, 2))
    assert retried.asked == [(item(0).key, 0)]


def test_what_nobody_can_answer_is_said(tmp_path: Path) -> None:
    nobody, journal = loop(tmp_path, None)
    with journal, pytest.raises(MissingError, match="lacks 2 observations"):
        nobody.drive(study(1, 1, 2))


def test_two_who_ask_the_same_at_different_times_are_asked_once(tmp_path: Path) -> None:
    answering = Answering()

    def early() -> Flow[int]:
        heard: list[Observation] = []
        yield Ask("one", [item(7, 2)], heard.extend)
        return len(heard)

    def late() -> Flow[int]:
        yield Ask("first", [chat("other")], lambda b: None)
        heard: list[Observation] = []
        yield Ask("two", [item(7, 3)], heard.extend)
        return len(heard)

    driven, journal = loop(tmp_path, answering)
    with journal:
        assert driven.drive(together([early(), late()])) == [2, 3]
    assert sorted(r for k, r in answering.asked if k == item(7).key) == [0, 1, 2]


def test_a_call_can_be_answered_by_a_flow_and_is_journalled_whole(tmp_path: Path) -> None:
    answering = Answering()
    acts: list[str] = []

    class Acting(Answering):
        def ready(self, timeout: float) -> list[Observation]:
            for call, _ in self._open:
                call.payload()  # type: ignore[union-attr]
            return super().ready(timeout)

    def rerun(call: Call) -> Flow[Observation]:
        heard: list[Observation] = []
        yield Ask("turn", [item(call.content["start"], 2)], heard.extend)
        act = Call("act", {"of": call.key}, payload=lambda: acts.append(call.key))
        yield Ask("act", [act], lambda b: None)
        return Observation.of(call.key, call.first_replicate, sum(o.value for o in heard))

    def audit() -> Flow[list[int]]:
        heard: list[Observation] = []
        calls = [Call("rerun", {"start": s}) for s in (3, 4)]
        yield Ask("re-executions", calls, heard.extend)
        return [o.value for o in heard]

    journal = Journal(str(tmp_path), "run")
    makers = {"generate": lambda: answering, "act": lambda: Acting()}
    with journal:
        assert Loop(journal, Watcher(), makers, {"rerun": rerun}).drive(audit()) == [1, 1]
    assert len(acts) == 2 and len(answering.asked) == 4
    with Journal(str(tmp_path), "run") as journal:
        kept = [o for part in journal.observations() for o in part]
        assert len(kept) == 4 + 2  # every sample and both re-executions; steps are not kept
        assert Loop(journal, Watcher(), {}).drive(audit()) == [1, 1]


def test_what_came_is_durable_although_nothing_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few answers, then one that takes very long: the few are on the disk meanwhile."""
    now = 0.0
    monkeypatch.setattr("tracelab.store.journal.time.monotonic", lambda: now)

    class Slow(Answering):
        def ready(self, timeout: float) -> list[Observation]:
            nonlocal now
            now += 1.0
            if now == 1.0:
                self._open, found = self._open[:1], self._open[1:]
                return [Observation.of(i.key, r, r) for i, r in found]
            if now < 60.0:
                return []
            kept.append(sum(map(len, Peek(str(tmp_path), "run").observations())))
            return super().ready(timeout)

    kept: list[int] = []
    driven, journal = loop(tmp_path, Slow())
    journal._flush_rows = 1024
    with journal:
        driven.drive(study(1, 1, 4))
    assert kept == [4]
