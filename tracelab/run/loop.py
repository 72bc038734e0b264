"""The one loop: drives a study, answers it from the journal first, and then from whoever can.

    study ══ asks ══► loop ─► journal? ─► engines | look | chat | environments
      ▲                │ append
      ╚══ observations ╝

Nothing is asked of anybody that the journal already answers, so driving a study again is resuming
it, and driving it with nobody but the journal is rebuilding what it concluded. Every observation is
in the journal before the study hears it. Flows go on as soon as their own answers are there; the
pools' queues are filled while others are still in flight.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from tracelab.core.errors import TracelabError
from tracelab.core.flow import Ask, Flow, Tasks
from tracelab.core.item import BUDGET, AnyItem, Call, Observation, parts
from tracelab.engines.replies import checked, refused
from tracelab.store.journal import Journal, deduplicated

log = logging.getLogger(__name__)

T = TypeVar("T")

_WAIT_SECONDS = 1.0  # how long one look for answers may take before the user is heard again


class Answering(Protocol):
    """Answers items of some kind, in any order, each replicate once."""

    @property
    def owed(self) -> int:
        """Replicates that were submitted and not given back yet."""
        ...

    def submit(self, items: Sequence[AnyItem]) -> None:
        """Queue items."""
        ...

    def ready(self, timeout: float) -> list[Observation]:
        """The next observations; none where nothing finished in `timeout` seconds."""
        ...

    def cancel(self) -> None:
        """Forget what was not begun; what is in flight is still given back."""
        ...


Nested = Callable[[Call], Flow[Observation]]
"""Answers a call by a flow of its own, whose requests are requests like all others."""


class Watcher(Protocol):
    """Told what goes on."""

    def owe(self, stage: str, kind: str, total: int, done: int) -> None:
        """A stage asks for `total` more replicates of a kind, `done` of which were known."""
        ...

    def got(self, kind: str, batch: Sequence[Observation]) -> None:
        """Somebody answered requests of a kind; the journal has it."""
        ...

    def waiting(self, asked: Mapping[str, int]) -> None:
        """Nothing can go on without an answer; `asked` says how many, by kind. Often told."""
        ...

    def stopping(self) -> bool:
        """Whether the user wants it to stop."""
        ...


class Unwatched:
    """Watches nothing, and is never told to stop."""

    def owe(self, stage: str, kind: str, total: int, done: int) -> None:
        """See `Watcher.owe`."""

    def got(self, kind: str, batch: Sequence[Observation]) -> None:
        """See `Watcher.got`."""

    def waiting(self, asked: Mapping[str, int]) -> None:
        """See `Watcher.waiting`."""

    def stopping(self) -> bool:
        """See `Watcher.stopping`."""
        return False


class StoppedError(TracelabError):
    """The user asked to stop; what was answered is in the journal."""

    exit_code = 130


class MissingError(TracelabError):
    """The journal lacks what a rebuild needs."""


class Loop:
    """Drives flows of one run."""

    def __init__(
        self,
        journal: Journal,
        watcher: Watcher,
        answering: Mapping[str, Callable[[], Answering]],
        nested: Mapping[str, Nested] | None = None,
        *,
        retry_errors: bool = False,
        vocabulary: int | None = None,
        warn: Callable[[str], object] = log.warning,
    ) -> None:
        """Prepare.

        Args:
            journal: The run's.
            watcher: Told what goes on.
            answering: By kind of item, who answers it; called at the first item of the kind that
                the journal does not answer. Kinds may share one. Without a kind, its items must
                all be in the journal.
            nested: Kinds that are answered by flows.
            retry_errors: Ask again for what failed in an earlier session.
            vocabulary: Token ids of whoever answers are below it; None where nobody knows.
            warn: Told of answers that nobody asked for.
        """
        self._journal = journal
        self._watcher = watcher
        self._makers = answering
        self._nested = nested or {}
        self._retry = retry_errors
        self._answering: dict[str, Answering] = {}
        self._vocabulary, self._warn, self._strange = vocabulary, warn, 0
        self._asked: dict[str, set[int]] = {}
        self._kinds: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._open: dict[str, AnyItem] = {}  # what was handed on, by key, while it is owed
        self._done: deque[Observation] = deque()

    def drive(self, flow: Flow[T]) -> T:
        """Run a flow to its end.

        Raises:
            StoppedError: The user stopped it; everything heard is in the journal.
            MissingError: The journal lacks something, and there is nobody to ask.
        """
        tasks = Tasks(flow)
        try:
            while not tasks.done:
                if asks := tasks.waiting():
                    self._answer(tasks, asks)
                elif self._done:
                    self._hear(tasks, [self._done.popleft() for _ in range(len(self._done))])
                elif not self._wait(tasks) and not self._give_up(tasks):
                    raise self._stopped()
            return tasks.result  # type: ignore[no-any-return]
        finally:
            tasks.close()
            self._journal.flush()
            if self._strange:
                self._warn(
                    f"{self._strange:,} answers were dropped: they were to nothing that was asked, "
                    "or came twice"
                )
                self._strange = 0

    def _answer(self, tasks: Tasks, asks: Sequence[Ask]) -> None:
        """Find out what is known of new requests, and hand on the rest."""
        items: dict[str, AnyItem] = {}
        wanted: dict[str, set[int]] = {}
        stages: dict[tuple[str, str], set[str]] = {}
        for ask in asks:
            for item in ask.items:
                items.setdefault(item.key, item)
                new = set(item.replicate_range) - self._asked.get(item.key, set())
                wanted.setdefault(item.key, set()).update(new)
                stages.setdefault((ask.stage, item.kind), set()).add(item.key)
        owed = {k: set(r) for k, r in wanted.items()}
        lasting = {k: r for k, r in wanted.items() if r and items[k].kind != "act"}
        for batch in deduplicated(self._journal.recorded(lasting)):
            known = [o for o in batch if not self._again(items[o.key], o)]
            for o in known:
                owed[o.key].discard(o.replicate)
            tasks.hear(known)
        seen: set[str] = set()
        for (stage, kind), keys in stages.items():
            mine = keys - seen
            seen |= keys
            total = sum(len(wanted[k]) for k in mine)
            left = sum(len(owed[k]) for k in mine)
            if total and kind != "act":
                self._watcher.owe(stage, kind, total, total - left)
        if self._watcher.stopping():
            return
        by_kind: dict[str, list[AnyItem]] = {}
        for key, replicates in owed.items():
            if replicates:
                kind = self._kinds[key] = items[key].kind
                self._asked.setdefault(key, set()).update(replicates)
                self._counts[kind] += len(replicates)
                by_kind.setdefault(kind, []).extend(parts(items[key], replicates))
        for kind, missing in by_kind.items():
            self._hand_on(tasks, kind, missing)

    def _again(self, item: AnyItem, o: Observation) -> bool:
        """Whether a recorded observation is no answer: a failure that may not be the next time."""
        if o.error is None:
            return False
        if o.error.startswith(f"{BUDGET}:") and item.kind in (*self._makers, *self._nested):
            return True  # nobody was asked
        # With nobody to ask, the failure is what there is.
        somebody = item.kind in self._makers or item.kind in self._nested
        return self._retry or (somebody and item.kind in ("chat", "grade"))

    def _hand_on(self, tasks: Tasks, kind: str, items: list[AnyItem]) -> None:
        if kind in self._nested:
            for call in items:
                assert isinstance(call, Call)
                for r in call.replicate_range:
                    tasks.spawn(self._nested[kind](call.at(r, 1)), self._done.append)
            return
        if kind not in self._answering:
            if kind not in self._makers:
                count = sum(i.replicates for i in items)
                raise MissingError(
                    f"the journal of run {self._journal.run_id!r} lacks {count:,} observations "
                    f"(the first: a {kind!r} request); run the same study again to complete it"
                )
            self._answering[kind] = self._makers[kind]()
        self._open.update((i.key, i) for i in items)
        self._answering[kind].submit(items)

    def _wait(self, tasks: Tasks) -> bool:
        """Hear from whoever answers next; False when nobody is asked and all wait."""
        if self._watcher.stopping():
            for who in self._busy():
                who.cancel()
        busy = list(self._busy())
        if busy:
            self._watcher.waiting(self._waited(busy))
        timeout = _WAIT_SECONDS if len(busy) == 1 else _WAIT_SECONDS / 50
        for who in busy:
            if batch := who.ready(timeout):
                good = checked(batch, self._open, self._asked, self._vocabulary)
                self._strange += len(batch) - len(good)
                if good:
                    self._hear(tasks, good)
                return True
        self._journal.append([])  # what came a while ago becomes durable although nothing follows
        return bool(busy)

    def _waited(self, busy: Sequence[Answering]) -> Mapping[str, int]:
        """Answers that are waited for, by kind; of kinds that share who answers, the commonest."""
        if not self._watcher.stopping():
            return self._counts
        found = {}
        for who in busy:
            kinds = [kind for kind, a in self._answering.items() if a is who]
            found[max(kinds, key=lambda kind: self._counts[kind])] = who.owed
        return found

    def _give_up(self, tasks: Tasks) -> bool:
        """Fail what nobody owes any more and nobody has answered; False where there is none."""
        if self._watcher.stopping():
            return False
        left = [(item, r) for key, item in self._open.items() for r in self._asked.get(key, ())]
        if left:
            self._hear(tasks, [refused(item, r, "none came") for item, r in left])
        return bool(left)

    def _busy(self) -> Iterator[Answering]:
        distinct = {id(a): a for a in self._answering.values()}
        return (a for a in distinct.values() if a.owed)

    def _hear(self, tasks: Tasks, batch: list[Observation]) -> None:
        by_kind: dict[str, list[Observation]] = {}
        for o in batch:
            by_kind.setdefault(self._kinds[o.key], []).append(o)
        for kind, some in by_kind.items():
            if kind != "act":
                self._journal.append(some)
        for kind, some in by_kind.items():
            self._counts[kind] -= len(some)
            if kind != "act":
                self._watcher.got(kind, some)
        for o in batch:
            asked = self._asked.get(o.key)
            if asked is not None:
                asked.discard(o.replicate)
                if not asked:
                    del self._asked[o.key], self._kinds[o.key]
                    self._open.pop(o.key, None)
        tasks.hear(batch)

    def _stopped(self) -> TracelabError:
        if self._watcher.stopping():
            return StoppedError(
                f"stopped; everything finished so far is kept in {self._journal.store.root}. "
                "The same command continues."
            )
        return TracelabError("requests were left without an answer; this is a fault of tracelab")
