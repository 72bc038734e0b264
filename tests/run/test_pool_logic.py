"""The Ray pool's book-keeping, with threads in place of Ray: who is asked what again, and when."""

from __future__ import annotations

import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

import pytest

from tracelab.core.errors import EngineDeadError, EngineError
from tracelab.core.item import Item, Observation, Sampling
from tracelab.core.trace import Turn
from tracelab.engines.base import EngineSpec
from tracelab.engines.scripted import ScriptTokenizer
from tracelab.run.pool import LocalPool, RayPool, drain

LETTER = 65
"""The letter A, spelled in bytes by the scripted tokenizer."""


class RayError(Exception):
    pass


class Threads(types.ModuleType):
    """As much of Ray as the pool uses: an actor is an object whose methods run in threads."""

    exceptions = types.SimpleNamespace(RayError=RayError)

    def remote(self, kind: type) -> Any:
        def made(*args: Any) -> Handle:
            return Handle(kind(*args))

        making = types.SimpleNamespace(remote=made)
        return types.SimpleNamespace(options=lambda **_: making)

    def wait(
        self, refs: Sequence[Any], num_returns: int = 1, timeout: float | None = None
    ) -> tuple[list[Any], list[Any]]:
        when = futures.FIRST_COMPLETED if num_returns == 1 else futures.ALL_COMPLETED
        done = futures.wait(refs, timeout, when).done
        return [r for r in refs if r in done][:num_returns], [r for r in refs if r not in done]

    def get(self, refs: Any) -> Any:
        return [r.result() for r in refs] if isinstance(refs, list) else refs.result()

    def kill(self, handle: Handle) -> None:
        handle.die()

    def shutdown(self) -> None:
        pass


class Handle:
    """What is called; once dead, every call fails."""

    def __init__(self, actor: Any) -> None:
        self._actor, self._threads = actor, futures.ThreadPoolExecutor(4)
        self._asked: list[futures.Future[Any]] = []
        self._dead = False

    def __getattr__(self, name: str) -> Any:
        def remote(*args: Any) -> futures.Future[Any]:
            ref: futures.Future[Any] = futures.Future()
            self._asked.append(ref)
            if self._dead:
                self.die()
            self._threads.submit(self._call, ref, name, args)
            return ref

        return types.SimpleNamespace(remote=remote)

    def _call(self, ref: futures.Future[Any], name: str, args: tuple[Any, ...]) -> None:
        try:
            value = getattr(self._actor, name)(*args)
            if not ref.done():
                ref.set_result(value)
        except Exception as e:
            if not ref.done():
                ref.set_exception(RayError(str(e)))

    def die(self) -> None:
        self._dead = True
        for ref in self._asked:
            if not ref.done():
                ref.set_exception(RayError("the actor died"))


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(code: int) -> None:
        raise EngineDeadError("poisoned")

    monkeypatch.setitem(sys.modules, "ray", Threads("ray"))
    monkeypatch.setattr("tracelab.run.workers.cluster.connect", lambda address: None)
    monkeypatch.setattr("tracelab.run.workers.reaper.guard", lambda: None)
    monkeypatch.setattr("tracelab.engines.scripted.os._exit", die)


Make = Callable[..., RayPool]


@pytest.fixture
def pool(script_spec: Callable[..., EngineSpec]) -> Iterator[Make]:
    made: list[RayPool] = []

    def make(faults: dict[str, Any], **options: Any) -> RayPool:
        made.append(RayPool(script_spec(**faults), **options))
        return made[-1]

    yield make
    for p in made:
        p.close(at_once=True)


@pytest.fixture
def ask(script_tokenizer: ScriptTokenizer, script_spec: Any) -> Callable[..., list[Item]]:
    def items(texts: Sequence[str], n: int = 5) -> list[Item]:
        ref, how = script_spec().model, Sampling()
        prompts = [script_tokenizer.render([Turn("user", t)], "chat") for t in texts]
        return [Item(ref, p, how, replicates=n) for p in prompts]

    return items


def answered(observations: Sequence[Observation]) -> Counter[tuple[str, int]]:
    return Counter((o.key, o.replicate) for o in observations)


def test_it_gives_what_a_pool_in_this_process_gives(pool: Make, ask: Any, script_spec: Any) -> None:
    work = ask([f"q{i}" for i in range(9)], n=20)
    local = {(o.key, o.replicate): o.text for b in drain(LocalPool(script_spec()), work) for o in b}
    made = pool({}, replicas=2, batch_rollouts=7, in_flight=3)
    found = [o for b in drain(made, work) for o in b]
    assert set(answered(found).values()) == {1}
    assert {(o.key, o.replicate): o.text for o in found} == local
    assert made.counters().generated_tokens == sum(len(o.token_ids) for o in found)


def test_a_poisonous_item_fails_alone_and_what_came_back_is_not_asked_again(
    pool: Make, ask: Any
) -> None:
    work = ask(["q0", "q1", "A", "q3", "q4"])
    made = pool({"poison": LETTER}, batch_rollouts=100, in_flight=2, max_deaths=20)
    found = [o for b in drain(made, work) for o in b]
    assert set(answered(found).values()) == {1} and len(found) == 25
    assert {o.key for o in found if o.error} == {work[2].key}
    assert all(o.error.startswith("engine_died:") for o in found if o.error)
    assert made.restarts == 4, "twice with others, which had come back before, and twice alone"


def test_what_is_finished_is_given_while_its_batch_goes_on(
    pool: Make, ask: Any, script_spec: Any
) -> None:
    work = ask(["q0", "q1", "A", "q3"], n=3)
    made = pool({"sleepy": LETTER}, batch_rollouts=100, in_flight=1)
    made.submit(work)
    found: list[Observation] = []
    while len(found) < 9:
        found += made.ready(60)
    assert made.owed == 3
    made._spec = script_spec()  # the successor does not sleep
    made._replicas[0].handle.die()
    while made.owed:
        found += made.ready(60)
    assert set(answered(found).values()) == {1} and len(found) == 12
    assert made.restarts == 1


def test_engines_that_keep_dying_end_the_run(pool: Make, ask: Any) -> None:
    made = pool({"poison": LETTER}, batch_rollouts=2, max_deaths=1)
    with pytest.raises(EngineError, match="engines died 2 times"):
        list(drain(made, ask(["A", "AA", "AAA"], n=2)))


@pytest.mark.parametrize("die", [False, True])
def test_what_is_cancelled_is_forgotten_and_what_is_begun_is_given(
    pool: Make, ask: Any, die: bool
) -> None:
    made = pool({"seconds": 0.02}, batch_rollouts=50, in_flight=2)
    made.submit(ask([f"q{i}" for i in range(2000)], n=1))
    found: list[Observation] = []
    while not found:
        found += made.ready(60)
    made.cancel()
    if die:  # the signal that stops a run may also end its engines
        made._replicas[0].handle.die()
    while made.owed:
        found += made.ready(60)
        made.cancel()
    assert set(answered(found).values()) == {1}
    assert len(found) < 100 and made.restarts == die
