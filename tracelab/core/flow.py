"""How a study asks: a generator that yields requests and is told their answers.

    def measure(case, ctx) -> Flow[Score]:
        seen: list[float] = []
        yield Ask("probes", items, lambda batch: seen.extend(o.logprob for o in batch))
        return conclude(case, seen)              # a pure function of what was observed

`Ask.take` hears every observation of its items exactly once, errors included, in any order, as
they arrive; the generator goes on when all of them were taken. `together` runs flows side by side,
and no flow waits for another: each goes on as soon as its own answers are there. So what a flow
asks next may depend on its own observations and on what was fixed before it began, and never on
the order of arrival: whoever needs an order sorts. A cohort point, where flows do wait for one
another, is simply two `together`s in a row.

Who answers is not known here: engines, a journal, a counter of requests, a table of recorded
rollouts (`drive`). Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from tracelab.core.item import AnyItem, Observation, parts

T = TypeVar("T")

Take: TypeAlias = Callable[[Sequence[Observation]], None]
Answer: TypeAlias = Callable[[Sequence[AnyItem]], Iterable[Sequence[Observation]]]


@dataclass(frozen=True, slots=True)
class Ask:
    """Requests of one stage.

    Attributes:
        stage: What people call it: `rollouts, round 2`.
        items: The requests. Items of one key are one request for all their replicates; a flow
            hears each replicate once.
        take: Hears the observations, in any number of batches.
        expected: Tokens that a replicate of each item is expected to generate, for forecasts; empty
            where nothing is known.
    """

    stage: str
    items: Sequence[AnyItem]
    take: Take
    expected: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Fork:
    """Flows to be run side by side; whoever yields it is sent the list of their results.

    Attributes:
        flows: The flows; each is taken when it is begun.
        most: Begun and not ended at one time; None begins all at once.
    """

    flows: Iterable[Flow[Any]]
    most: int | None = None


Flow: TypeAlias = Generator[Ask | Fork, Any, T]


def together(flows: Iterable[Flow[T]], most: int | None = None) -> Flow[list[T]]:
    """Run flows side by side; their results, in the order given.

    Args:
        flows: The flows; an iterable is gone through as they are begun, so that what waits takes
            no memory.
        most: Begun and not ended at one time; None begins all at once.
    """
    results: list[T] = yield Fork(flows, most)
    return results


@dataclass(frozen=True, slots=True)
class Execution:
    """Payload of a call that is answered by a flow of its own: call it for that flow.

    Attributes:
        flow: Makes the flow; it returns the observation that answers the call.
        requests: Token requests that it is expected to make.
        prompt_tokens: Tokens that these are expected to read.
        prompt_tokens_min: At least.
        prompt_tokens_max: At most, as far as anybody can say.
        output_tokens: Tokens that they are expected to write.
        output_tokens_min: At least.
        assumed: The answer that a forecast may go on with; None where there is none to guess.
    """

    flow: Callable[[], Flow[Observation]]
    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    output_tokens_min: int = 0
    prompt_tokens_min: int = 0
    prompt_tokens_max: int = 0
    assumed: Any = None

    def __call__(self) -> Flow[Observation]:
        """See `flow`."""
        return self.flow()


def drive(flow: Flow[T], answer: Answer) -> T:
    """Run a flow to its end in this thread, asking `answer` for the requests of all who wait.

    The plain driver: for tests, notebooks and replays. What runs engines is `tracelab.run.loop`.

    Args:
        flow: The flow.
        answer: From items (of distinct keys) to their observations, in batches.
    """
    tasks = Tasks(flow)
    while not tasks.done:
        for batch in answer(list(distinct(tasks.waiting()))):
            tasks.hear(batch)
        tasks.require_answered()
    result: T = tasks.result
    return result


def distinct(asks: Iterable[Ask]) -> Iterator[AnyItem]:
    """What some requests ask for together, each replicate of each key once."""
    items: dict[str, AnyItem] = {}
    wanted: dict[str, set[int]] = {}
    for ask in asks:
        for item in ask.items:
            items.setdefault(item.key, item)
            wanted.setdefault(item.key, set()).update(item.replicate_range)
    for key, item in items.items():
        yield from parts(item, wanted[key])


class _Task:
    """One generator, whom to tell its result, and what it still waits for."""

    __slots__ = (
        "ask", "begun", "ended", "flow", "going", "lost", "owed", "parent", "place", "queue",
        "results",
    )  # fmt: skip

    def __init__(
        self,
        flow: Flow[Any],
        parent: _Task | None = None,
        place: int = 0,
        ended: Callable[[Any], None] | None = None,
    ) -> None:
        self.flow, self.parent, self.place, self.ended = flow, parent, place, ended
        self.ask: Ask | None = None
        self.owed: dict[str, set[int]] = {}
        self.queue: Iterator[Flow[Any]] = iter(())
        self.begun = self.going = 0
        self.lost = False  # one of its flows was abandoned: it never goes on
        self.results: dict[int, Any] = {}


class Tasks:
    """The state of a flow that is being driven: which of its parts wait for which observations.

    A driver takes what `waiting` says was newly asked, finds answers wherever it likes, and hands
    them to `hear`; parts whose answers are complete go on by themselves.
    """

    def __init__(self, flow: Flow[Any]) -> None:
        """Start a flow; it runs up to its first requests."""
        self.done = False
        self.result: Any = None
        self._asked: list[Ask] = []
        self._listeners: dict[str, list[_Task]] = {}
        self._ready: deque[tuple[_Task, Any]] = deque([(_Task(flow), None)])
        self._going: set[_Task] = set()
        self._advance()

    def spawn(self, flow: Flow[T], ended: Callable[[T], None]) -> None:
        """Drive another flow beside it, which answers one of its requests, say.

        Args:
            flow: The flow; it runs up to its first requests.
            ended: Told its result.
        """
        self._ready.append((_Task(flow, ended=ended), None))
        self._advance()

    def waiting(self) -> list[Ask]:
        """Requests that were made since the last call."""
        asked, self._asked = self._asked, []
        return asked

    def hear(self, batch: Sequence[Observation]) -> None:
        """Tell observations to all who asked for them; what nobody waits for is passed over."""
        mine: dict[_Task, list[Observation]] = {}
        for o in batch:
            for task in self._listeners.get(o.key, ()):
                owed = task.owed.get(o.key)
                if owed is not None and o.replicate in owed:
                    owed.discard(o.replicate)
                    mine.setdefault(task, []).append(o)
        for task, heard in mine.items():
            assert task.ask is not None
            task.ask.take(heard)
            for key in {o.key for o in heard}:
                if not task.owed[key]:
                    del task.owed[key]
                    self._unlisten(key, task)
            if not task.owed:
                task.ask = None
                self._going.discard(task)
                self._ready.append((task, None))
        self._advance()

    def abandon(self, keys: Iterable[str]) -> None:
        """Stop the parts that wait for some keys; they and who waits for them never go on."""
        for key in keys:
            for task in list(self._listeners.get(key, ())):
                for other in task.owed:
                    self._unlisten(other, task)
                task.owed = {}
                self._going.discard(task)
                self._replace(task)
        self._advance()

    def _replace(self, task: _Task) -> None:
        """Begin the flow that waited for an abandoned one to end."""
        if (parent := task.parent) is not None:
            parent.going -= 1
            parent.lost = True
            started = parent.begun
            for flow in islice(parent.queue, 1):
                self._begin(parent, flow)
            if not parent.going and started == parent.begun:
                self._replace(parent)

    @property
    def stuck(self) -> bool:
        """Whether it is not done, and nobody waits for an answer: the rest was abandoned."""
        return not self.done and not self._going and not self._asked

    def require_answered(self) -> None:
        """Refuse a driver that left requests without an answer.

        Raises:
            RuntimeError: It did; it would wait for ever.
        """
        if not self._asked and self._going:
            task = next(iter(self._going))
            assert task.ask is not None
            raise RuntimeError(f"stage {task.ask.stage!r}: requests were left without an answer")

    def close(self) -> None:
        """Close every generator that has not ended, the innermost first."""
        for task in list(self._going):
            node: _Task | None = task
            while node is not None:
                node.flow.close()
                node = node.parent
        self._going.clear()

    def _unlisten(self, key: str, task: _Task) -> None:
        left = [t for t in self._listeners.get(key, ()) if t is not task]
        if left:
            self._listeners[key] = left
        else:
            self._listeners.pop(key, None)

    def _advance(self) -> None:
        """Let every part that can go on do so, until all that are left wait."""
        while self._ready:
            task, value = self._ready.popleft()
            try:
                asked = task.flow.send(value)
            except StopIteration as end:
                self._ended(task, end.value)
                continue
            if isinstance(asked, Fork):
                self._fork(task, asked)
            else:
                self._wait(task, asked)

    def _fork(self, task: _Task, fork: Fork) -> None:
        task.queue, task.begun, task.going, task.results = iter(fork.flows), 0, 0, {}
        for flow in task.queue if fork.most is None else islice(task.queue, max(fork.most, 1)):
            self._begin(task, flow)
        if not task.going:
            self._ready.append((task, []))

    def _begin(self, parent: _Task, flow: Flow[Any]) -> None:
        self._ready.append((_Task(flow, parent, parent.begun), None))
        parent.begun += 1
        parent.going += 1

    def _wait(self, task: _Task, ask: Ask) -> None:
        for item in ask.items:
            task.owed.setdefault(item.key, set()).update(item.replicate_range)
        if not task.owed:
            self._ready.append((task, None))
            return
        for key in task.owed:
            self._listeners.setdefault(key, []).append(task)
        task.ask = ask
        self._going.add(task)
        self._asked.append(ask)

    def _ended(self, task: _Task, value: Any) -> None:
        parent = task.parent
        if parent is None:
            if task.ended is None:
                self.done, self.result = True, value
            else:
                task.ended(value)
            return
        parent.results[task.place] = value
        parent.going -= 1
        for flow in islice(parent.queue, 1):
            self._begin(parent, flow)
        if parent.going:
            return
        if parent.lost:
            self._replace(parent)
        else:
            results, parent.results = parent.results, {}
            self._ready.append((parent, [results[i] for i in range(parent.begun)]))
